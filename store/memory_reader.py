"""
Reading what a store in memory keeps.

Rule: it takes the lock that a write holds, so it sees only what is committed.
Not here: the dicts (`memory_tables`), writing (`memory`).
"""

from __future__ import annotations

from attrs import evolve

from .arithmetic import counts_of, current_attempt, in_history
from .contract import EVERY
from .errors import StoreClosed
from .memory_tables import Tables
from .records import (
    REPLAYS_TOLD,
    WAITING,
    Clock,
    Count,
    Due,
    Fired,
    History,
    Published,
    QueueOverride,
    Run,
    RunFilter,
    Schedule,
    Snapshot,
    Status,
)


class MemoryReader:
    """Reads the tables of a MemoryStore."""

    def __init__(self, tables: Tables, name: str) -> None:
        self._tables: Tables | None = tables
        self._name = name

    def get(self, run_id: str) -> History | None:
        """The run with its payload, attempts, transitions and replays; None when it is not stored."""
        tables = self._open()
        with tables.lock:
            run = tables.runs.get(run_id)
            if run is None:
                return None
            current = current_attempt(run)
            attempts = tuple(a for a in tables.attempts.get(run_id, ()) if in_history(a.n, run.attempt))
            attempts = attempts if current is None else (*attempts, current)
            replays = tuple(sorted(tables.replays.get(run_id, ()))[:REPLAYS_TOLD])
            return History(run, attempts, tables.transitions[run_id], replays)

    def list(self, where: RunFilter, *, limit: int, before: str | None = None) -> tuple[Run, ...]:
        """Up to `limit` runs that match, newest first, without payloads."""
        tables = self._open()
        with tables.lock:
            ids = sorted((i for i in tables.runs if before is None or i < before), reverse=True)
            matching = (run for i in ids if matches(run := tables.runs[i], where))
            return tuple(evolve(run, payload=None) for run, _ in zip(matching, range(limit), strict=False))

    def upcoming(self, clock: Clock, after_us: int, until_us: int, limit: int) -> tuple[Due, ...]:
        """What falls due on `clock` in the window, earliest first."""
        tables = self._open()
        if clock is Clock.AT_ONCE:
            return ()
        with tables.lock:
            rows = sorted(
                (run.due_us, run.lane.queue)
                for status in WAITING
                for run in tables.of_status(status)
                if run.clock is clock and after_us < run.due_us <= until_us
            )
        last_us = rows[:limit][-1][0] if rows and limit > 0 else after_us
        return tuple(Due(queue, clock, due_us) for due_us, queue in dict.fromkeys(rows) if due_us <= last_us)

    def counts(self) -> tuple[Count, ...]:
        """The counters, without rows of zero."""
        tables = self._open()
        with tables.lock:
            return counts_of((lane, status, len(ids)) for (lane, status), ids in tables.ids.items())

    def queues(self) -> tuple[QueueOverride, ...]:
        """The overrides, by queue."""
        tables = self._open()
        with tables.lock:
            return tuple([tables.queues[queue] for queue in sorted(tables.queues)])

    def published(self) -> tuple[Published, ...]:
        """What was published, by jobs."""
        tables = self._open()
        with tables.lock:
            return tuple([tables.definitions[jobs] for jobs in sorted(tables.definitions)])

    def schedules(self, jobs: str | None = None) -> tuple[Schedule, ...]:
        """Those of one Jobs instance, or all."""
        tables = self._open()
        with tables.lock:
            return tuple([tables.schedules[place] for place in sorted(tables.schedules) if jobs in (None, place[0])])

    def schedule(self, jobs: str, key: str) -> Schedule | None:
        """One of them."""
        tables = self._open()
        with tables.lock:
            return tables.schedules.get((jobs, key))

    def fires(self, jobs: str, key: str, limit: int) -> tuple[Fired, ...]:
        """What was done about the last times of a schedule, newest first."""
        tables = self._open()
        with tables.lock:
            return tables.fires.get((jobs, key), ())[::-1][:limit]

    def snapshot(self, *, limit: int, where: RunFilter = EVERY) -> Snapshot:
        """Counters, newest runs, runtimes, overrides, what was pruned, schedules."""
        tables = self._open()
        with tables.lock:
            busy = {run.owner for run in tables.of_status(Status.RUNNING)}
            owners = [
                evolve(each.owner, seen_us=each.seen_us)
                for each in tables.owners.values()
                if not each.closed or each.owner.boot_id in busy
            ]
            owners.sort(key=lambda owner: (owner.started_us, owner.boot_id))
            pruned = counts_of((*place, n) for place, n in tables.pruned.items())
            schedules = () if where.jobs is None else self.schedules(where.jobs)
            return Snapshot(
                self.counts(), self.list(where, limit=limit), tuple(owners), self.queues(), pruned, schedules
            )

    def close(self) -> None:
        """Read no more; twice does nothing."""
        self._tables = None

    def _open(self) -> Tables:
        if self._tables is None:
            raise StoreClosed(self._name)
        return self._tables


def matches(run: Run, where: RunFilter) -> bool:
    """Whether a run is one of those that the filter asks for."""
    asked = (
        (where.jobs, run.lane.jobs),
        (where.queue, run.lane.queue),
        (where.status, run.status),
        (where.idempotency_key, run.idempotency_key),
        (where.trace_id, run.trace_id),
        (where.replay_of, run.replay_of),
        (where.schedule_key, run.schedule_key),
    )
    return (
        all(wanted is None or wanted == has for wanted, has in asked)
        and where.is_of(run.lane.task)
        and (where.created_from_us is None or run.created_us >= where.created_from_us)
        and (where.created_before_us is None or run.created_us < where.created_before_us)
    )
