"""
Migration: a database that an older release made gets the tables of this one when it is opened.

Rule 1: all steps, and the new number, in one transaction: whoever dies in it leaves the old database.
Rule 2: only under the owner lock, so that nobody runs jobs on tables that change. One that opens without it takes it
    for this moment; where somebody else has it, the database is refused.
Rule 3: a step is never changed once it was released: files live longer than releases. Append only.
Not here: the tables of today (`schema`).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

import apsw

from ..errors import OlderSchema, StoreHeld
from ..records import Owner
from .connection import value
from .lock import OwnerLock
from .schema import DEFINITIONS, MIN_READER, PRUNED, QUEUES, SCHEDULES, SCHEMA, UNTIMELY_ENDED, WAITING

_RUNS: Final = """
    alter table runs add column timely int;
    alter table runs add column at_most_once int not null default 0;
    create index waiting on runs(lane, status, id) where status in (0, 1, 3) and (status <> 0 or clock <> 0);
    create index untimely on runs(created_us) where timely is null;
    drop index by_created;
    drop index ready;
    drop index suspects;
    create index ready on runs(lane, priority, clock, due_us, id, status) where status in (0, 1, 3) and deaths < 3;
    create index suspects on runs(lane, priority, clock, due_us, id, status) where status in (0, 1, 3) and deaths >= 3;
    """
"""
No old row is timely: what is known of one is read as before. None is at_most_once either: the releases before had no such
runs.
"""
_TRACES: Final = "alter table runs add column trace_context text;"
"""No old run has one."""
_OTHER_WORDS: Final = "drop index ready; drop index suspects; drop index upcoming; drop index waiting;"
STEPS: Final[dict[int, str]] = {
    2: QUEUES + _RUNS,
    3: _TRACES + PRUNED + DEFINITIONS + UNTIMELY_ENDED,
    4: SCHEDULES,
    5: _OTHER_WORDS + WAITING,
}
"""By the schema that a step leads to, from the one before."""
_SCHEMA: Final = "select value from meta where name = 'schema'"


def migrate(path: str, db: apsw.Connection, *, owner: Owner, locked: bool) -> None:
    """
    Bring an older database to `SCHEMA`; any other is left alone. `locked`: whether the caller holds the owner lock.

    Raises OlderSchema when somebody else holds it.
    """
    found = value(db, _SCHEMA)
    if found >= SCHEMA:
        return
    with ExitStack() as undo:
        if not locked:
            try:
                undo.callback(OwnerLock.take(path, owner).release)
            except StoreHeld as error:
                raise OlderSchema(path, found, SCHEMA, error.pid) from error
        db.execute("begin immediate")
        for schema in range(value(db, _SCHEMA) + 1, SCHEMA + 1):
            db.execute(STEPS[schema])
        set_meta = "update meta set value = ? where name = ?"
        db.executemany(set_meta, [(SCHEMA, "schema"), (MIN_READER, "min_reader")])
        db.execute("commit")
