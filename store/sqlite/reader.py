"""
Reading a SQLite store, on a connection of its own that cannot write.

Rule: an answer of more than one statement is read inside one read transaction, and that is short.
Not here: which index a list takes (`listing`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw
from attrs import define, field

from ..arithmetic import counts_of, current_attempt
from ..contract import EVERY
from ..errors import StoreClosed
from ..records import (
    HISTORY_FIRST,
    HISTORY_LAST,
    REPLAYS_TOLD,
    Clock,
    Count,
    Due,
    Fired,
    History,
    Lane,
    Published,
    QueueOverride,
    Run,
    RunFilter,
    Schedule,
    Snapshot,
)
from . import forks
from .codes import (
    ATTEMPT_COLUMNS,
    FIRED_COLUMNS,
    OVERRIDE_COLUMNS,
    RUN_COLUMNS,
    SCHEDULE_COLUMNS,
    STATUSES,
    TRANSITION_COLUMNS,
    attempt_of,
    fired_of,
    override_of,
    run_of,
    schedule_of,
    transition_of,
)
from .connection import reader, rows, translated, value
from .listing import newest
from .owners import owner_of
from .patience import Patience

_ONE: Final = f"""
    select {RUN_COLUMNS}, coalesce(payload, (select body from payloads where run = rid)) from runs where id =
    ?
    """  # noqa: S608
_ATTEMPTS: Final = f"""
    select {ATTEMPT_COLUMNS} from attempts where run = ?1 and (n <= {HISTORY_FIRST} or n > ?2 -
    {HISTORY_LAST}) order by n
    """  # noqa: S608
_TRANSITIONS: Final = f"select {TRANSITION_COLUMNS} from transitions where run = ? order by seq"  # noqa: S608
_COUNTS: Final = "select jobs, queue, task, schema, status, n from counters join lanes on lanes.id = counters.lane"
_PRUNED: Final = "select jobs, queue, task, schema, status, n from pruned join lanes on lanes.id = pruned.lane"
_PUBLISHED: Final = "select jobs, body, published_us from definitions order by jobs"
_LANES: Final = "select id, jobs, queue, task, schema from lanes where id > ?"
_OWNERS: Final = """
    select boot_id, pid, host, started_us, version, tasks, queues, seen_us
    from owners join boots on boots.id = owners.boot
    where not closed or exists (select 1 from runs indexed by running where status = 2 and owner = boot)
    order by started_us, boot_id
    """
_REPLAYS: Final = f"""
    select id from runs indexed by by_origin where replay_of = ? and replay_of is not null order by id limit {REPLAYS_TOLD}
    """  # noqa: S608
_OVERRIDES: Final = f"select {OVERRIDE_COLUMNS} from queues order by queue"  # noqa: S608
_SCHEDULES: Final = f"select {SCHEDULE_COLUMNS} from schedules where jobs = ? order by key"  # noqa: S608
_SCHEDULE: Final = f"select {SCHEDULE_COLUMNS} from schedules where jobs = ? and key = ?"  # noqa: S608
_ALL_SCHEDULES: Final = f"select {SCHEDULE_COLUMNS} from schedules order by jobs, key"  # noqa: S608
_FIRES: Final = f"""
    select {FIRED_COLUMNS} from fires where jobs = ? and key = ? order by nominal_us desc, seq desc limit ?
    """  # noqa: S608
_UPCOMING: Final = """
    select due_us, lane from runs indexed by upcoming
    where clock = ?1 and due_us > ?2 and due_us <= ?3 and status in (0, 1, 3) and clock <> 0
    order by due_us, lane limit ?4
    """
_NEXT_LANE: Final = """
    select lane from runs indexed by upcoming
    where clock = ?1 and due_us = ?2 and lane > ?3 and status in (0, 1, 3) and clock <> 0
    order by lane limit 1
    """


@define(eq=False)
class Known:
    """Lanes and boots by number; they never change, only new ones appear."""

    db: apsw.Connection
    lanes: dict[int, Lane] = field(factory=dict)
    boots: dict[int, str] = field(factory=dict)
    _version: int = -1

    def fresh(self) -> None:
        """Learn what was written since the last time. To be called inside the read transaction."""
        version = value(self.db, "pragma data_version")
        if version != self._version:
            self._version = version
            lanes = rows(self.db, _LANES, (max(self.lanes, default=0),))
            self.lanes.update({number: Lane(*lane) for number, *lane in lanes})
            boots = rows(self.db, "select id, boot_id from boots where id > ?", (max(self.boots, default=0),))
            self.boots.update(dict(boots))


class SqliteReader:
    """Reads what is committed."""

    def __init__(self, path: str, busy_s: float) -> None:
        self.name = path
        self._busy_s = busy_s
        self._pid = os.getpid()
        self._db: apsw.Connection | None = None
        self.turn = threading.Lock()
        forks.check(path)
        forks.watch(self)
        with self.turn, translated(path, busy_s):
            self._connect()

    def _connect(self) -> apsw.Connection:
        self._db = reader(self.name, Patience(self._busy_s))
        self._known = Known(self._db)
        return self._db

    def get(self, run_id: str) -> History | None:
        """The run with its payload, attempts, transitions and replays; None when it is not stored."""
        with self._reading() as db:
            row = db.execute(_ONE, (run_id,)).fetchone()
            if row is None:
                return None
            run = self._run(row[:-1], row[-1])
            rid = row[0]
            attempts = [
                attempt_of(run_id, each, self._known.boots) for each in db.execute(_ATTEMPTS, (rid, run.attempt))
            ]
            current = current_attempt(run)
            if current is not None:
                attempts.append(current)
            transitions = tuple([transition_of(run_id, each) for each in db.execute(_TRANSITIONS, (rid,))])
            replays = tuple([replay for (replay,) in db.execute(_REPLAYS, (run_id,))])
            return History(run, tuple(attempts), transitions, replays)

    def list(self, where: RunFilter, *, limit: int, before: str | None = None) -> tuple[Run, ...]:
        """Up to `limit` runs that match, newest first, without payloads."""
        with self._reading() as db:
            return self._list(db, where, limit, before)

    def upcoming(self, clock: Clock, after_us: int, until_us: int, limit: int) -> tuple[Due, ...]:
        """What falls due on `clock` in the window, earliest first."""
        if clock is Clock.AT_ONCE or limit < 1:
            return ()
        with self._reading() as db:
            due = rows(db, _UPCOMING, (int(clock), after_us, until_us, limit))
            if len(due) == limit:  # what else is due with the last of them
                due_us, lane = due[-1]
                while (lane := value(db, _NEXT_LANE, (int(clock), due_us, lane))) is not None:
                    due.append((due_us, lane))
            found = sorted({(due_us, self._known.lanes[lane].queue) for due_us, lane in due})
            return tuple([Due(queue, clock, due_us) for due_us, queue in found])

    def counts(self) -> tuple[Count, ...]:
        """The counters, without rows of zero."""
        with self._reading() as db:
            return _counts(db)

    def queues(self) -> tuple[QueueOverride, ...]:
        """The overrides, by queue."""
        with self._reading() as db:
            return _overrides(db)

    def published(self) -> tuple[Published, ...]:
        """What was published, by jobs."""
        with self._reading() as db:
            return tuple([Published(*row) for row in db.execute(_PUBLISHED)])

    def schedules(self, jobs: str | None = None) -> tuple[Schedule, ...]:
        """Those of one Jobs instance, or all."""
        with self._reading() as db:
            rows = db.execute(_ALL_SCHEDULES) if jobs is None else db.execute(_SCHEDULES, (jobs,))
            return tuple([schedule_of(row) for row in rows])

    def schedule(self, jobs: str, key: str) -> Schedule | None:
        """One of them."""
        with self._reading() as db:
            row = db.execute(_SCHEDULE, (jobs, key)).fetchone()
            return None if row is None else schedule_of(row)

    def fires(self, jobs: str, key: str, limit: int) -> tuple[Fired, ...]:
        """What was done about the last times of a schedule."""
        with self._reading() as db:
            return tuple([fired_of(row) for row in db.execute(_FIRES, (jobs, key, limit))])

    def snapshot(self, *, limit: int, where: RunFilter = EVERY) -> Snapshot:
        """Counters, newest runs, runtimes, overrides, what was pruned, schedules."""
        with self._reading() as db:
            owners = tuple([owner_of(row) for row in db.execute(_OWNERS)])
            said = () if where.jobs is None else db.execute(_SCHEDULES, (where.jobs,))
            schedules = tuple([schedule_of(row) for row in said])
            runs = self._list(db, where, limit, None)
            return Snapshot(_counts(db), runs, owners, _overrides(db), _pruned(db), schedules)

    def close(self) -> None:
        """Read no more; twice does nothing."""
        with self.turn:
            if self._pid == os.getpid():
                self.rest()
            self._pid = 0

    def rest(self) -> None:
        """Close the connection, before a fork; the next call opens another."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _list(self, db: apsw.Connection, where: RunFilter, limit: int, before: str | None) -> tuple[Run, ...]:
        return tuple([self._run(row, None) for row in newest(db, self._known.lanes, where, limit, before)])

    def _run(self, row: tuple[Any, ...], payload: bytes | None) -> Run:
        return run_of(row, self._known.lanes, self._known.boots, payload)

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        with self.turn, translated(self.name, self._busy_s):
            if self._pid != os.getpid():
                raise StoreClosed(self.name)
            db = self._db or self._connect()
            db.execute("begin")
            try:
                self._known.fresh()
                yield db
            finally:
                db.execute("rollback")


def _overrides(db: apsw.Connection) -> tuple[QueueOverride, ...]:
    return tuple([override_of(row) for row in db.execute(_OVERRIDES)])


def _counts(db: apsw.Connection) -> tuple[Count, ...]:
    return counts_of((Lane(*lane), STATUSES[status], n) for *lane, status, n in db.execute(_COUNTS))


def _pruned(db: apsw.Connection) -> tuple[Count, ...]:
    return counts_of((Lane(*lane), STATUSES[status], n) for *lane, status, n in db.execute(_PRUNED))
