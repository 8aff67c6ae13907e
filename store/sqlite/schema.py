"""
The tables, and which releases can read them.

Rule 1: `SCHEMA` counts up with every change of a table; `MIN_READER` is the oldest schema whose code can
    still read (and write) what this one writes, so that the release before goes on working during a deploy.
Rule 2: an index exists because a statement of this folder needs it; it says which.
Not here: the codes for words (`codes`), the statements, how an older database gets these tables (`migration`).

Schema 1: runs, attempts, transitions, lanes, counters, owners. Schema 2: `queues`, what lists of long stores need
(`timely`, `waiting`, `untimely`), and `at_most_once`. Code of schema 1 knows no pause, would start again what may begin only
once, and needs an index that is gone to list a window of time: so MIN_READER is 2. No release had schema 1.
Schema 3: `trace_context`, `definitions`, and for retention `pruned` and `ended_untimely`. Code of schema 2 may go on: it names
the columns that it reads and writes, so its runs have no trace context, as ever; it has no use for the new tables; SQLite keeps
the new index right for it; and it keeps nothing in mind of a single run, so one that was pruned is to it one that never was.
Schema 4: `schedules`, `fires` and their indexes. Code of schema 2 and 3 knows of no schedules, and looks after none.
Schema 5: other words for what the indexes of waiting runs hold. Older code finds those indexes by their names, and may use them
(`_WAITS`).
"""

from __future__ import annotations

from typing import Any, Final

import apsw

APPLICATION_ID: Final = 0x63_73_68_31
"""`csh1`, in the header of the file: it is ours."""
SCHEMA: Final = 5
MIN_READER: Final = 2

PAYLOAD_INLINE: Final = 1024
"""Bytes: a longer payload has a row of its own, so that a change of the run's status does not rewrite it."""

_WAITS: Final = "(status < 2 or status = 3 or status in (0, 1, 3))"
"""
Whether a run waits. Of a list of three SQLite makes a table in memory, for each row and each index that asks: to compare first
saves a fifth of what it costs to insert or to claim a run. The list stays for the statements here, and for those of schema 2
to 4: SQLite lets one use an index only where it says, word for word, one of the things that the index says.
"""
WAITING: Final = f"""
-- claims
create index ready on runs(lane, priority, clock, due_us, id, status) where deaths < 3 and {_WAITS};
create index suspects on runs(lane, priority, clock, due_us, id, status) where deaths >= 3 and {_WAITS};
-- what the calendar asks for
create index upcoming on runs(clock, due_us, lane) where clock <> 0 and {_WAITS};
-- lists; those that were queued and never waited for a time have none: it would cost each run two changes of an index
create index waiting on runs(lane, status, id) where (status <> 0 or clock <> 0) and {_WAITS};
"""

QUEUES: Final = """
-- what was said of queues at run time; one row of each that anything was said of
create table queues(queue text primary key not null, paused int not null, concurrency int, batch_size int,
    global_limit int, visibility_us int, updated_us int not null) without rowid, strict;
"""

PRUNED: Final = """
-- how many ended runs were forgotten
create table pruned(lane int not null, status int not null, n int not null,
    primary key (lane, status)) without rowid, strict;
"""

DEFINITIONS: Final = """
-- what the last runtime that ran a Jobs instance said of it
create table definitions(jobs text primary key not null, body blob not null, published_us int not null) strict;
"""

UNTIMELY_ENDED: Final = """
-- retention, where ids do not tell when their runs were created
create index ended_untimely on runs(lane, status, ended_us) where status >= 4 and timely is null;
"""

SCHEDULES: Final = """
create table schedules(jobs text not null, key text not null, body blob not null, next_us int, due_us int, paused int not null,
    orphaned int not null, waiting_us int, last_us int, fired int not null, skipped int not null, version int not null,
    created_us int not null, updated_us int not null, primary key (jobs, key)) without rowid, strict;
-- what was done about the last times of each, each once: seq is 0 but for what was requested by hand
create table fires(jobs text not null, key text not null, nominal_us int not null, seq int not null, at_us int not null,
    did int not null, run_id text, times int not null, primary key (jobs, key, nominal_us, seq)) without rowid, strict;
-- lists of the runs of a schedule; whether one of them has not ended
create index by_schedule on runs(schedule_key, id) where schedule_key is not null;
create index scheduled_active on runs(schedule_key, lane) where schedule_key is not null and status < 4;
"""

CREATE: Final = f"""
create table meta(name text primary key not null, value int not null) without rowid, strict;

create table lanes(id integer primary key, jobs text not null, queue text not null, task text not null,
    schema text not null, unique (jobs, queue, task, schema)) strict;

-- one row for each time that a runtime opened: runs and attempts name it by number
create table boots(id integer primary key, boot_id text not null unique) strict;

create table owners(boot integer primary key, pid int not null, host text not null, started_us int not null,
    version text not null, tasks text not null, queues text not null, seen_us int not null,
    closed int not null) strict;

create table counters(lane int not null, status int not null, n int not null,
    primary key (lane, status)) without rowid, strict;

create table runs(
    rid integer primary key,
    id text not null,
    lane int not null,
    status int not null,
    due_us int not null,
    clock int not null,
    priority int not null,
    attempt int not null default 0,
    spent int not null default 0,
    deaths int not null default 0,
    fence int not null default 0,
    max_attempts int not null,
    timeout_us int,
    created_us int not null,
    updated_us int not null,
    ended_us int,
    cause text,
    owner int,
    claim_id blob,
    started_us int,
    lease_until_us int,
    stuck_since_us int,
    payload blob,
    result blob,
    result_error text,
    progress blob,
    scope int,
    idempotency_key text,
    payload_hash blob,
    trace_id text,
    replay_of text,
    reason text,
    schedule_key text,
    nominal_us int, timely int, at_most_once int not null default 0, trace_context text) strict;

create unique index run_by_id on runs(id);
-- one run for each key; the scope is the number of the first lane of its Jobs
create unique index run_by_key on runs(scope, idempotency_key) where idempotency_key is not null;
-- rescues
create index running on runs(owner, id) where status = 2;
-- lists
create index by_lane on runs(lane, id);
create index ended on runs(lane, status, id) where status >= 4;
-- lists of a window of time: the other rows are found by their ids
create index untimely on runs(created_us) where timely is null;
create index by_trace on runs(trace_id, id) where trace_id is not null;
create index by_origin on runs(replay_of, id) where replay_of is not null;

create table payloads(run integer primary key, body blob not null) strict;

-- an attempt has a row when it has ended; the current one is in its run's row
create table attempts(run int not null, n int not null, started_us int not null, ended_us int not null,
    outcome int not null, claim_id blob not null, fence int not null, owner int not null, error blob,
    late_outcome text, primary key (run, n)) without rowid, strict;

-- seq follows from the attempt: 1 is the birth, 2n the start of attempt n, 2n + 1 its end, 2n + 2 a later cancel
create table transitions(run int not null, seq int not null, was int, now int not null, move int not
null,
    at_us int not null, attempt int not null, cause text, primary key (run, seq)) without rowid, strict;
{WAITING}{QUEUES}{PRUNED}{DEFINITIONS}{UNTIMELY_ENDED}{SCHEDULES}"""


def create(connection: apsw.Connection) -> None:
    """Make the tables in an empty database, all or none."""
    connection.execute("begin immediate")
    connection.execute(f"pragma application_id = {APPLICATION_ID}")
    connection.execute(CREATE)
    connection.executemany(
        "insert into meta(name, value) values (?, ?)", [("schema", SCHEMA), ("min_reader", MIN_READER)]
    )
    connection.execute("commit")


def versions(connection: apsw.Connection) -> tuple[int, int]:
    """The schema of a database of ours, and the oldest one whose code can read it."""
    found: list[Any] = connection.execute("select name, value from meta").fetchall()
    values: dict[str, int] = dict(found)
    return values["schema"], values["min_reader"]
