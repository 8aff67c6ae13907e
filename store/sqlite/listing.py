"""
Lists: which index answers which filter.

Rule: a list is merged from streams that are each in order of id, newest first, and read only as far as they
    are needed; the counters say which lanes have nothing to give.
Not here: what a filter means (`..records.RunFilter`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

import apsw
from attrs import define, evolve

from ..records import FINAL, Lane, RunFilter, Status
from .codes import RUN_COLUMNS, STATUS_CODE
from .connection import rows, value
from .ledger import listed
from .timely import ANY_UNTIMELY, TOLD_BEFORE, id_range, stamp

Row: TypeAlias = tuple[Any, ...]
Terms: TypeAlias = list[tuple[str, Any]]
"""Conditions, each with the one value that it binds."""

PROBE: Final = 4
"""How many times as long as the list: so many of a lane's newest rows are looked at for queued ones."""
SHORT_WINDOW: Final = 2000
"""Rows whose ids do not tell when they were created: a window of time with fewer of them is read whole and sorted."""
_BY_ID: Final = itemgetter(1)
_WAITING: Final = "status in (0, 1, 3) and (status <> 0 or clock <> 0)"
_CLAIMS: Final = {
    "ready": "status in (0, 1, 3) and deaths < 3",
    "suspects": "status in (0, 1, 3) and deaths >= 3",
}
_OWNERS: Final = """
    with recursive found(owner) as (
        select min(owner) from runs indexed by running where status = 2
        union all
        select (select min(owner) from runs indexed by running where status = 2 and owner > found.owner)
        from found where found.owner is not null)
    select owner from found where owner is not null
    """
"""With one seek for each, however much they run."""
_PRIORITIES: Final = """
    with recursive found(priority) as (
        select min(priority) from runs indexed by {index} where lane = ?1 and {partial}
        union all
        select (select min(priority) from runs indexed by {index} where lane = ?1 and priority > found.priority and {partial})
        from found where found.priority is not null)
    select priority from found where priority is not null
    """


def newest(
    db: apsw.Connection, lanes: dict[int, Lane], where: RunFilter, limit: int, before: str | None
) -> Iterator[Row]:
    """Up to `limit` rows of `RUN_COLUMNS` that match, newest first."""
    if limit < 1:
        return iter(())
    asked = _List(db, lanes, where, limit, before)
    return islice(heapq.merge(*asked.streams(), key=_BY_ID, reverse=True), limit)


@define(eq=False)
class _List:
    """One question."""

    db: apsw.Connection
    lanes: dict[int, Lane]
    where: RunFilter
    limit: int
    before: str | None
    """Only ids below it."""
    first: str | None = None
    """Only ids from it on."""
    also: str = "true"
    """One more condition."""

    def streams(self) -> list[Iterator[Row]]:
        """Sources that together have all rows that match."""
        some = self._lanes_asked_for()
        if self.where.idempotency_key is not None:
            return self._by_key(some)
        if self.where.created_from_us is self.where.created_before_us is None:
            return self.of_all(some)
        return [*self._timely(some), *self._untimely(some)]

    def of_all(self, some: list[int] | None) -> list[Iterator[Row]]:
        """The same, by whatever narrows it most beside time."""
        where = self.where
        if where.trace_id is not None:
            return [self._stream("by_trace", "trace_id is not null", *self._within(some))]
        if where.schedule_key is not None:
            return [self._stream("by_schedule", "schedule_key is not null", *self._within(some))]
        if where.replay_of is not None:
            return [self._stream("by_origin", "replay_of is not null", *self._within(some))]
        if where.status is Status.RUNNING:
            return [
                self._stream("running", "status = 2", ("owner = ?", one), *self._within(some)) for one in self._owners()
            ]
        if where.status is not None:
            return [stream for lane in self._having(where.status, some) for stream in self._of(lane, where.status)]
        if some is None:
            return [self._stream("run_by_id", "true")]
        return [self._stream("by_lane", "true", ("lane = ?", lane)) for lane in some]

    def _timely(self, some: list[int] | None) -> list[Iterator[Row]]:
        """Those rows of a window whose ids tell that they are in it."""
        told_before_us = value(self.db, TOLD_BEFORE)
        if told_before_us is None:
            return []
        asked_us = self.where.created_before_us
        first, end = id_range(
            self.where.created_from_us, told_before_us if asked_us is None else min(asked_us, told_before_us)
        )
        below = [each for each in (end, self.before) if each is not None]
        return evolve(self, also="timely is not null", first=first, before=min(below, default=None)).of_all(some)

    def _untimely(self, some: list[int] | None) -> list[Iterator[Row]]:
        """The rest of a window: read whole and sorted, unless it is long."""
        window = [(term, each) for term, each in self._terms() if term.startswith("created_us")]
        sql = f"""
            select count(*) from (
                select 1 from runs indexed by untimely
                where timely is null and {" and ".join(term for term, _ in window)} limit ?)
            """  # noqa: S608 - fixed terms
        if value(self.db, sql, [*(each for _, each in window), SHORT_WINDOW]) < SHORT_WINDOW:
            return [self._stream("untimely", "timely is null", *self._within(some))]
        return evolve(self, also="timely is null").of_all(some)

    def _lanes_asked_for(self) -> list[int] | None:
        """Their numbers; None for all there are."""
        where = self.where
        some = [
            number
            for number, lane in self.lanes.items()
            if where.jobs in (None, lane.jobs) and where.is_of(lane.task) and where.queue in (None, lane.queue)
        ]
        return None if len(some) == len(self.lanes) else some  # one Jobs instance alone on its store asks for all

    def _by_key(self, some: list[int] | None) -> list[Iterator[Row]]:
        scopes: dict[str, int] = {}
        for number, lane in sorted(self.lanes.items()):
            scopes.setdefault(lane.jobs, number)
        wanted = scopes.values() if self.where.jobs is None else filter(None, [scopes.get(self.where.jobs)])
        key = ("idempotency_key = ?", self.where.idempotency_key)
        return [
            self._stream("run_by_key", "idempotency_key is not null", ("scope = ?", scope), key, *self._within(some))
            for scope in wanted
        ]

    def _within(self, some: list[int] | None) -> Terms:
        return [] if some is None else [("lane in (select value from json_each(?))", listed(some))]

    def _having(self, status: Status, some: list[int] | None) -> list[int]:
        found = rows(self.db, "select lane from counters where status = ? and n > 0", (STATUS_CODE[status],))
        return [lane for (lane,) in found if some is None or lane in some]

    def _of(self, lane: int, status: Status) -> list[Iterator[Row]]:
        one = ("lane = ?", lane)
        if status in FINAL:
            return [self._stream("ended", "status >= 4", one)]
        if status is not Status.QUEUED:
            return [self._stream("waiting", _WAITING, one)]
        if self._common(lane):
            return [self._stream("by_lane", "true", one)]
        return [self._stream("waiting", _WAITING, one), *self._at_once(lane)]

    def _common(self, lane: int) -> bool:
        """Whether the newest rows of the lane alone fill the list with queued ones."""
        ids = [(term, each) for term, each in self._terms() if term.startswith("id ")]
        sql = f"""
            select count(*), total(status = 0) from (
                select status from runs indexed by by_lane where {" and ".join(["lane = ?", *(term for term, _ in ids)])}
                order by id desc limit ?)
            """  # noqa: S608 - fixed terms
        probe = PROBE * self.limit
        seen, alike = rows(self.db, sql, [lane, *(each for _, each in ids), probe])[0]
        return bool(seen < probe or alike >= self.limit)

    def _at_once(self, lane: int) -> Iterator[Iterator[Row]]:
        """Queued rows of a lane below many others, through the indexes for claims: one of their own would slow every run."""
        narrow = self._by_due if value(self.db, ANY_UNTIMELY) is None else self._sorted
        for index, partial in _CLAIMS.items():
            for (priority,) in rows(self.db, _PRIORITIES.format(index=index, partial=partial), (lane,)):
                place = [("lane = ?", lane), ("priority = ?", priority), *self._terms()]
                conditions = " and ".join([partial, "clock = 0", self.also, *(term for term, _ in place)])
                rids = narrow(f"from runs indexed by {index} where {conditions}", [each for _, each in place])
                sql = f"""
                    select {RUN_COLUMNS} from runs where rid in (select value from json_each(?)) order by id desc
                    """  # noqa: S608 - fixed columns
                yield self.db.execute(sql, (listed(rids),))

    def _by_due(self, of_one: str, values: list[Any]) -> list[int]:
        """
        The newest of one range, latest due first: whatever comes later was created no later than it is due, so that its id,
        which tells when, is below all ids of the millisecond after.
        """
        best: list[tuple[str, int]] = []
        for due_us, run_id, rid in self.db.execute(
            f"select due_us, id, rid {of_one} order by due_us desc, id desc", values
        ):
            if len(best) < self.limit:
                heapq.heappush(best, (run_id, rid))
                continue
            end = stamp(due_us + 1000)
            if end is not None and best[0][0] >= end:
                break
            heapq.heappushpop(best, (run_id, rid))
        return [rid for _, rid in best]

    def _sorted(self, of_one: str, values: list[Any]) -> list[int]:
        """The same where ids tell nothing: all of the range is read, though of the index alone (50 ms for 200,000 rows)."""
        return [rid for (rid,) in rows(self.db, f"select rid {of_one} order by id desc limit ?", [*values, self.limit])]

    def _owners(self) -> list[int]:
        """Whoever runs anything, by number."""
        return [owner for (owner,) in rows(self.db, _OWNERS)]

    def _stream(self, index: str, partial: str, *terms: tuple[str, Any]) -> Iterator[Row]:
        every = [*terms, *self._terms()]
        conditions = " and ".join([partial, self.also, *(term for term, _ in every)])
        sql = f"""
            select {RUN_COLUMNS} from runs indexed by {index} where {conditions} order by id desc limit ?
            """  # noqa: S608 - fixed terms, bound values
        return self.db.execute(sql, [*(value for _, value in every), self.limit])

    def _terms(self) -> Terms:
        """What every stream has to look at, whatever index it goes through."""
        where = self.where
        terms = [
            ("id < ?", self.before),
            ("id >= ?", self.first),
            ("created_us >= ?", where.created_from_us),
            ("created_us < ?", where.created_before_us),
            ("status = ?", None if where.status is None else STATUS_CODE[where.status]),
            ("trace_id = ?", where.trace_id),
            ("replay_of = ?", where.replay_of),
            ("schedule_key = ?", where.schedule_key),
        ]
        return [(term, value) for term, value in terms if value is not None]
