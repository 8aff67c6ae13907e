"""A database that an older release made: brought up to date when it is opened, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest
from attrs import evolve

from callsheet.store.contract import (
    Claim,
    ClaimedRuns,
    Prune,
    Pruned,
    Publish,
    ScheduleSet,
    SetQueue,
    SetSchedule,
    Settle,
    Settlement,
)
from callsheet.store.errors import OlderSchema, StoreBusy, StoreClosed, StoreUnavailable
from callsheet.store.records import (
    Count,
    Did,
    Fired,
    Lane,
    Move,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    Published,
    QueueOverride,
    RunFilter,
    Schedule,
    Status,
    Verdict,
)
from callsheet.store.sqlite import SqliteStore, migration, schema

OWNER = Owner("boot-b", 7, "host", 1_700_000_000_000_000)
NOW = Now(9, 9)
MAIL = Lane("app/main", "app/main-jobs", "mail", "1")
KEPT = Schedule("app/main", "k", b"{}", 8, 8, version=1, created_us=9, updated_us=9)

SCHEMA_1 = """
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
    nominal_us int) strict;

create unique index run_by_id on runs(id);
-- one run for each key; the scope is the number of the first lane of its Jobs
create unique index run_by_key on runs(scope, idempotency_key) where idempotency_key is not null;
-- claims
create index ready on runs(lane, priority, clock, due_us, id) where status in (0, 1, 3) and deaths < 3;
create index suspects on runs(lane, priority, clock, due_us, id) where status in (0, 1, 3) and deaths >= 3;
-- rescues
create index running on runs(owner, id) where status = 2;
-- what the calendar asks for
create index upcoming on runs(clock, due_us, lane) where status in (0, 1, 3) and clock <> 0;
-- lists
create index by_lane on runs(lane, id);
create index ended on runs(lane, status, id) where status >= 4;
create index by_created on runs(created_us);
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

insert into meta values ('schema', 1), ('min_reader', 1);

-- a run that waits again, after a rescue, by the steady clock; one that runs; one that waits
insert into lanes values (1, 'app/main', 'app/main-jobs', 'mail', '1');
insert into boots values (1, 'boot-a');
insert into counters values (1, 0, 1), (1, 2, 1), (1, 3, 1);
insert into runs(rid, id, lane, status, due_us, clock, priority, max_attempts, created_us, updated_us, payload,
    attempt, fence, deaths, cause, owner, claim_id, started_us, lease_until_us) values
    (1, '01J', 1, 3, 4, 1, 5, 5, 1, 4, x'7b7d', 1, 1, 1, 'crashed', null, null, null, null),
    (2, '02J', 1, 2, 2, 0, 5, 5, 2, 5, x'7b7d', 1, 1, 0, null, 1, x'63', 5, 6),
    (3, '03J', 1, 0, 3, 0, 5, 5, 3, 3, x'7b7d', 0, 0, 0, null, null, null, null, null);
insert into attempts values (1, 1, 3, 4, 8, x'62', 1, 1, null, null);
insert into transitions values
    (1, 1, null, 0, 0, 1, 0, null), (1, 2, 0, 2, 2, 3, 1, null), (1, 3, 2, 3, 11, 4, 1, 'crashed'),
    (2, 1, null, 0, 0, 2, 0, null), (2, 2, 0, 2, 2, 5, 1, null),
    (3, 1, null, 0, 0, 3, 0, null);
"""
"""The tables as the first release made them, and a few rows. Never changed: such files exist."""

SCHEMA_2 = f"""
{SCHEMA_1}
-- what was said of queues at run time; one row of each that anything was said of
create table queues(queue text primary key not null, paused int not null, concurrency int, batch_size int,
    global_limit int, visibility_us int, updated_us int not null) without rowid, strict;

    alter table runs add column timely int;
    alter table runs add column at_most_once int not null default 0;
    create index waiting on runs(lane, status, id) where status in (0, 1, 3) and (status <> 0 or clock <> 0);
    create index untimely on runs(created_us) where timely is null;
    drop index by_created;
    drop index ready;
    drop index suspects;
    create index ready on runs(lane, priority, clock, due_us, id, status) where status in (0, 1, 3) and deaths < 3;
    create index suspects on runs(lane, priority, clock, due_us, id, status) where status in (0, 1, 3) and deaths >= 3;

update meta set value = 2;
"""
"""The tables of schema 2: to the letter those that it made in an empty database. Never changed, either."""
SCHEMA_3 = f"""
{SCHEMA_2}
alter table runs add column trace_context text;
-- how many ended runs were forgotten
create table pruned(lane int not null, status int not null, n int not null,
    primary key (lane, status)) without rowid, strict;

-- what the last runtime that ran a Jobs instance said of it
create table definitions(jobs text primary key not null, body blob not null, published_us int not null) strict;

-- retention, where ids do not tell when their runs were created
create index ended_untimely on runs(lane, status, ended_us) where status >= 4 and timely is null;

update meta set value = 3 where name = 'schema';
"""
"""The tables of schema 3: never changed, either."""
SCHEMA_4 = f"""
{SCHEMA_3}
create table schedules(jobs text not null, key text not null, body blob not null, next_us int, due_us int, paused int not null,
    orphaned int not null, waiting_us int, last_us int, fired int not null, skipped int not null, version int not null,
    created_us int not null, updated_us int not null, primary key (jobs, key)) without rowid, strict;
-- what was done about the last times of each, each once: seq is 0 but for what was requested by hand
create table fires(jobs text not null, key text not null, nominal_us int not null, seq int not null, at_us int not null,
    did int not null, run_id text, times int not null, primary key (jobs, key, nominal_us, seq)) without rowid, strict;
-- lists of the runs of a schedule; whether one of them has not ended
create index by_schedule on runs(schedule_key, id) where schedule_key is not null;
create index scheduled_active on runs(schedule_key, lane) where schedule_key is not null and status < 4;

update meta set value = 4 where name = 'schema';
"""
"""The tables of schema 4: never changed, either."""
OLDER = {1: SCHEMA_1, 2: SCHEMA_2, 3: SCHEMA_3, 4: SCHEMA_4}


@pytest.fixture(params=OLDER)
def began(request: pytest.FixtureRequest) -> int:
    """The schema that a database has."""
    return int(request.param)


@pytest.fixture
def old(tmp_path: Path, began: int) -> Path:
    """A database of that schema."""
    return made(tmp_path / "jobs.db", began)


def made(path: Path, began: int) -> Path:
    db = apsw.Connection(str(path))
    db.execute("pragma journal_mode = wal").fetchall()
    db.execute(f"pragma application_id = {schema.APPLICATION_ID}")
    db.execute("begin")
    db.execute(OLDER[began])
    db.execute("commit")
    db.close()
    return path


def tables(path: Path) -> dict[str, str]:
    """Every table and index, and how it was made."""
    db = apsw.Connection(str(path))
    found = db.execute("select name, sql from sqlite_schema where sql is not null").fetchall()
    db.close()
    return dict(found)


def versions(path: Path) -> tuple[int, int]:
    db = apsw.Connection(str(path))
    found = schema.versions(db)
    db.close()
    return found


def opened(path: Path, **options: Any) -> SqliteStore:
    store = SqliteStore(path, **options)
    store.open(OWNER)
    return store


def works(store: SqliteStore) -> None:
    """All that was stored is there and goes on, and what is new works."""
    reader = store.reader()
    histories = {run_id: reader.get(run_id) for run_id in ("01J", "02J", "03J")}
    assert {run_id: each and each.run.status.value for run_id, each in histories.items()} == {
        "01J": "retrying",
        "02J": "running",
        "03J": "queued",
    }
    assert {False} == {each and each.run.at_most_once for each in histories.values()}
    assert {None} == {each and each.run.trace_context for each in histories.values()}
    assert {each.n for each in reader.counts()} == {1}
    assert (reader.queues(), reader.published(), reader.snapshot(limit=1).pruned) == ((), (), ())
    assert (reader.schedules(), reader.fires("app/main", "k", 9)) == ((), ())
    said, limited = store.write(
        [
            SetQueue(MAIL.queue, global_limit=2),
            Claim("boot-b", b"d", (MAIL,), 5, 9, queue=MAIL.queue),
        ],
        NOW,
    )
    assert said == QueueOverride(MAIL.queue, global_limit=2, updated_us=9)
    assert isinstance(limited, ClaimedRuns)
    assert [run.run_id for run in limited.runs] == ["03J"]
    assert limited.held == "global_limit"
    succeed = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)
    settled, rest = store.write(
        [Settle((Settlement("02J", 1, b"c", 1, succeed),)), Claim("boot-b", b"e", (MAIL,), 5, 9, queue=MAIL.queue)],
        NOW,
    )
    assert settled.statuses == (Status.SUCCEEDED,)  # type: ignore[union-attr]
    assert [(run.run_id, run.attempt) for run in rest.runs] == [("01J", 2)]  # type: ignore[union-attr]
    assert reader.queues() == (said,)
    none, pruned = store.write(
        [Publish((Published("app/main", b"{}"),)), Prune("app/main", Status.SUCCEEDED, 99, 9)], NOW
    )
    assert (none, pruned) == (None, Pruned(1, None))
    assert reader.published() == (Published("app/main", b"{}", 9),)
    assert reader.snapshot(limit=9).pruned == (Count(MAIL, Status.SUCCEEDED, 1),)
    assert reader.get("02J") is None
    fired = Fired(7, 9, Did.REQUESTED, "04J")
    run = NewRun("04J", MAIL, b"{}", 9, schedule_key="k", nominal_us=7)
    scheduled, again = store.write(
        [
            SetSchedule(None, Schedule("app/main", "k", b"{}", 8, 8), (run,), (fired,)),
            SetSchedule(1, Schedule("app/main", "k", b"{}", 9, 9), if_active=SetSchedule(1, KEPT)),
        ],
        NOW,
    )
    assert (scheduled, again) == (ScheduleSet(True, KEPT), ScheduleSet(True, KEPT, active=True))
    assert (reader.schedules(), reader.fires("app/main", "k", 9)) == ((KEPT,), (fired,))
    assert [each.id for each in reader.list(RunFilter(schedule_key="k"), limit=9)] == ["04J"]
    reader.close()


def test_the_tables_of_a_migrated_database_are_those_of_a_new_one(old: Path, tmp_path: Path) -> None:
    """To the letter, so that no later step has to tell them apart."""
    opened(old).close()
    opened(tmp_path / "new.db").close()

    assert tables(old) == tables(tmp_path / "new.db")
    assert versions(old) == versions(tmp_path / "new.db") == (schema.SCHEMA, schema.MIN_READER)


@pytest.mark.parametrize("exclusive", [True, False])
def test_p8_an_older_database_goes_on(old: Path, exclusive: bool) -> None:
    """Runs, attempts and counters are as they were, whoever opens it first."""
    store = opened(old, exclusive=exclusive)

    works(store)

    store.close()
    opened(old).close()
    assert [path.name for path in old.parent.iterdir()] == ["jobs.db"]


def test_an_older_database_in_its_log(old: Path) -> None:
    """The older release was killed: what it wrote last is there after the migration."""
    killed = apsw.Connection(str(old))
    killed.execute("pragma wal_autocheckpoint = 0").fetchall()
    killed.execute("update runs set priority = 9 where id = '01J'")

    store = opened(old)
    reader = store.reader()

    history = reader.get("01J")
    assert history is not None
    assert history.run.priority == 9
    assert versions(old) == (schema.SCHEMA, schema.MIN_READER)
    reader.close()
    store.close()
    killed.close()


def test_a_migration_that_is_still_in_the_log_is_not_done_again(old: Path) -> None:
    """Whoever migrated it was killed before the log was copied."""
    killed = opened(old)
    killed.write([SetQueue("q", paused=True)], NOW)

    second = opened(old, exclusive=False)
    reader = second.reader()

    assert reader.queues() == (QueueOverride("q", paused=True, updated_us=9),)
    reader.close()
    second.close()
    killed.close()


def test_who_opens_without_the_lock_does_not_migrate_under_a_runtime(old: Path, began: int) -> None:
    """It is refused with the way out, and nothing has changed; the runtime's own opening migrates."""
    before = tables(old)
    runtime = SqliteStore(old)
    lock = migration.OwnerLock.take(str(old), evolve(OWNER, pid=4711))
    client = SqliteStore(old, exclusive=False)

    with pytest.raises(OlderSchema) as refusal:
        client.open(OWNER)

    assert str(refusal.value) == (
        f"{old} has schema {began}, this release needs 5, and process 4711 of an older release runs the jobs of it: "
        "upgrade and restart that one first"
    )
    assert (tables(old), versions(old)) == (before, (began, min(began, 2)))
    with pytest.raises(StoreClosed):
        client.write([], NOW)
    lock.release()
    runtime.open(OWNER)
    client.open(OWNER)
    works(client)
    client.close()
    runtime.close()


def test_who_opens_without_the_lock_keeps_none(old: Path) -> None:
    """It had it for the migration only."""
    client = opened(old, exclusive=False)

    runtime = opened(old)

    assert client.write([], NOW) == runtime.write([], NOW) == []
    client.close()
    runtime.close()


@pytest.mark.parametrize("exclusive", [True, False])
def test_p1_a_migration_that_fails_leaves_the_old_database(
    old: Path, began: int, monkeypatch: pytest.MonkeyPatch, exclusive: bool
) -> None:
    """Not half of it is there, and nobody holds the lock; the next try does it."""
    before = tables(old)
    with monkeypatch.context() as patch:
        patch.setitem(migration.STEPS, 5, migration.STEPS[5] + "insert into nowhere values (1);")
        store = SqliteStore(old, exclusive=exclusive)
        with pytest.raises(StoreUnavailable, match="no such table: nowhere: nothing was stored"):
            store.open(OWNER)

    assert (tables(old), versions(old)) == (before, (began, min(began, 2)))
    store.open(OWNER)
    works(store)
    store.close()


def test_an_older_database_that_somebody_writes(old: Path, began: int) -> None:
    """Waited for, and then told; nothing has changed."""
    other = apsw.Connection(str(old))
    other.execute("begin immediate")

    with pytest.raises(StoreBusy):
        SqliteStore(old, busy_s=0).open(OWNER)

    other.execute("rollback")
    other.close()
    assert versions(old) == (began, min(began, 2))
    opened(old, busy_s=0).close()


def test_every_schema_has_a_step_to_the_next() -> None:
    """From the first to that of today."""
    assert list(migration.STEPS) == list(range(2, schema.SCHEMA + 1))


def test_a_step_is_never_changed(tmp_path: Path) -> None:
    """The first one still leads to the schema 2 that files have."""
    first, second = made(tmp_path / "one.db", 1), made(tmp_path / "two.db", 2)
    db = apsw.Connection(str(first))

    db.execute(migration.STEPS[2])

    db.close()
    assert tables(first) == tables(second)
