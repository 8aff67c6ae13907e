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
from attrs import define

from ..records import FINAL, Lane, RunFilter, Status
from .codes import RUN_COLUMNS, STATUS_CODE
from .connection import rows, value
from .ledger import listed

Row: TypeAlias = tuple[Any, ...]
Terms: TypeAlias = list[tuple[str, Any]]
"""Conditions, each with the one value that it binds."""

PROBE: Final = 4
"""How many times as long as the list: so many of a lane's newest rows are looked at for rows that wait there."""
SHORT_WINDOW: Final = 2000
"""Rows: a window of time with fewer is read whole and sorted."""
_BY_ID: Final = itemgetter(1)
_WAITING: Final = "status in (0, 1, 3)"


def newest(
    db: apsw.Connection, lanes: dict[int, Lane], where: RunFilter, limit: int, before: str | None
) -> Iterator[Row]:
    """Up to `limit` rows of `RUN_COLUMNS` that match, newest first."""
    asked = _List(db, lanes, where, limit, _terms(where, before))
    return islice(heapq.merge(*asked.streams(), key=_BY_ID, reverse=True), max(limit, 0))


def _terms(where: RunFilter, before: str | None) -> Terms:
    """What every stream has to look at, whatever index it goes through."""
    terms = [
        ("id < ?", before),
        ("created_us >= ?", where.created_from_us),
        ("created_us < ?", where.created_before_us),
        ("status = ?", None if where.status is None else STATUS_CODE[where.status]),
        ("trace_id = ?", where.trace_id),
        ("replay_of = ?", where.replay_of),
    ]
    return [(term, value) for term, value in terms if value is not None]


@define(eq=False)
class _List:
    """One question."""

    db: apsw.Connection
    lanes: dict[int, Lane]
    where: RunFilter
    limit: int
    terms: Terms

    def streams(self) -> list[Iterator[Row]]:
        """Sources that together have all rows that match."""
        where, some = self.where, self._lanes_asked_for()
        if where.idempotency_key is not None:
            return self._by_key(some)
        if self._is_short_window():
            return [self._stream("by_created", "true", *self._within(some))]
        if where.trace_id is not None:
            return [self._stream("by_trace", "trace_id is not null", *self._within(some))]
        if where.replay_of is not None:
            return [self._stream("by_origin", "replay_of is not null", *self._within(some))]
        if where.status is Status.RUNNING:
            return [self._stream("running", "status = 2", *self._within(some))]
        if where.status is not None:
            return [stream for lane in self._having(where.status, some) for stream in self._of(lane, where.status)]
        if some is None:
            return [self._stream("run_by_id", "true")]
        return [self._stream("by_lane", "true", ("lane = ?", lane)) for lane in some]

    def _is_short_window(self) -> bool:
        window = [(term, each) for term, each in self.terms if term.startswith("created_us")]
        if not window:
            return False
        sql = f"""
            select count(*) from (
                select 1 from runs indexed by by_created where {" and ".join(term for term, _ in window)} limit ?)
            """  # noqa: S608 - fixed terms
        return bool(value(self.db, sql, [*(each for _, each in window), SHORT_WINDOW]) < SHORT_WINDOW)

    def _lanes_asked_for(self) -> list[int] | None:
        where = self.where
        if where.jobs is where.task is where.queue is None:
            return None
        return [
            number
            for number, lane in self.lanes.items()
            if where.jobs in (None, lane.jobs) and where.task in (None, lane.task) and where.queue in (None, lane.queue)
        ]

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
        if self._common(lane):
            return [self._stream("by_lane", "true", one)]
        return [
            self._stream("ready", f"{_WAITING} and deaths < 3", one),
            self._stream("suspects", f"{_WAITING} and deaths >= 3", one),
        ]

    def _common(self, lane: int) -> bool:
        """Whether the newest rows of the lane alone fill the list with this status."""
        below = [value for term, value in self.terms if term == "id < ?"]
        sql = f"""
            select count(*), total(status = ?) from (
                select status from runs indexed by by_lane where lane = ? {"and id < ?" if below else ""}
                order by id desc limit ?)
            """  # noqa: S608 - fixed terms
        assert self.where.status is not None
        probe = PROBE * self.limit
        seen, alike = rows(self.db, sql, [STATUS_CODE[self.where.status], lane, *below, probe])[0]
        return bool(seen < probe or alike >= self.limit)

    def _stream(self, index: str, partial: str, *terms: tuple[str, Any]) -> Iterator[Row]:
        every = [*terms, *self.terms]
        conditions = " and ".join([partial, *(term for term, _ in every)])
        sql = f"""
            select {RUN_COLUMNS} from runs indexed by {index} where {conditions} order by id desc limit ?
            """  # noqa: S608 - fixed terms, bound values
        return self.db.execute(sql, [*(value for _, value in every), self.limit])
