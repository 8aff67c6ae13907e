# ruff: noqa: S608 - statements are put together from constants of this file; every value is bound
"""
Which rows a claim takes: the first due ones of some lanes, merged over one index range for each place where rows wait.

Rule: the cost is that of the rows taken plus a seek for each range; what is of other lanes, in the future or ended is
    never stepped over.
Not here: what becomes of the rows (`claim`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..policy import DEATHS_BEFORE_SUSPECT
from ..records import Lane, Now
from .connection import rows, value
from .ledger import Ledger, listed

Row: TypeAlias = tuple[Any, ...]
Range: TypeAlias = tuple[int, int, int]
"""Priority, lane, clock: within one, rows stand in the index in order of due and id."""

COLUMNS: Final = (
    "runs.priority, runs.due_us, runs.id, runs.rid, runs.status, runs.lane, runs.attempt, runs.spent, runs.deaths, "
    "runs.max_attempts, runs.timeout_us, runs.fence, runs.created_us, runs.payload, runs.trace_id, runs.nominal_us, "
    "runs.trace_context"
)
_ORDER: Final = itemgetter(0, 1, 2)
_DEATHS: Final = 8
_NEVER: Final = (1 << 63) - 1


@frozen
class _Index:
    """The statements over one of the two indexes of waiting rows."""

    next_range: str
    """The (priority, clock) of a lane that follows another."""
    of_one: str
    """The first rows of one range."""
    of_many: str
    """The first rows of several, taken one by one from the range that has the next: a queue that SQLite keeps."""


def _index(name: str, deaths: str) -> _Index:
    waiting = f"status in (0, 1, 3) and deaths {deaths} {DEATHS_BEFORE_SUSPECT}"
    return _Index(
        next_range=f"""
            select priority, clock from runs indexed by {name}
            where lane = ?1 and (priority, clock) > (?2, ?3) and {waiting}
            order by priority, clock limit 1
            """,
        of_one=f"""
            select {COLUMNS} from runs indexed by {name}
            where lane = ?1 and priority = ?2 and clock = ?3 and due_us <= ?4 and {waiting}
            order by due_us, id limit ?5
            """,
        of_many=f"""
            with recursive
            place(lane, priority, clock, until) as (
                select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(?1)),
            merged(due_us, id, rid, lane, priority, clock, until) as (
                select head.due_us, head.id, head.rid, place.lane, place.priority, place.clock, place.until
                from place cross join runs as head on head.rid = (
                    select rid from runs indexed by {name}
                    where lane = place.lane and priority = place.priority and clock = place.clock
                    and due_us <= place.until and {waiting}
                    order by due_us, id limit 1)
                union all
                select next.due_us, next.id, next.rid, last.lane, last.priority, last.clock, last.until
                from merged as last cross join runs as next on next.rid = (
                    select rid from runs indexed by {name}
                    where lane = last.lane and priority = last.priority and clock = last.clock
                    and due_us <= last.until and (due_us, id) > (last.due_us, last.id) and {waiting}
                    order by due_us, id limit 1)
                order by 1, 2 limit ?2)
            select {COLUMNS} from merged cross join runs on runs.rid = merged.rid
            """,
    )


_READY: Final = _index("ready", "<")
_SUSPECTS: Final = _index("suspects", ">=")
_ANY_SUSPECT: Final = f"""
    select 1 from runs indexed by suspects where status in (0, 1, 3) and deaths >= {DEATHS_BEFORE_SUSPECT} limit 1
    """


def first(ledger: Ledger, lanes: Iterable[Lane], limit: int, suspects: int, now: Now) -> list[Row]:
    """
    Up to `limit` rows of COLUMNS that are due, among them at most `suspects` that are suspects, in the order of a claim.

    Priority by priority: the ranges of a worse one are not looked at before they are needed.
    """
    if suspects > 0 and value(ledger.db, _ANY_SUSPECT) is None:
        suspects = 0
    taken: list[Row] = []
    for _, alike in groupby(sorted(_ranges(ledger, lanes)), itemgetter(0)):
        ranges, free = list(alike), limit - len(taken)
        found = _due(ledger, _READY, ranges, free, now)
        if suspects > 0:
            found += _due(ledger, _SUSPECTS, ranges, min(suspects, free), now)
            found = sorted(found, key=_ORDER)[:free]
            suspects -= sum(row[_DEATHS] >= DEATHS_BEFORE_SUSPECT for row in found)
        taken += found
        if len(taken) == limit:
            break
    return taken


def _due(ledger: Ledger, index: _Index, ranges: list[Range], limit: int, now: Now) -> list[Row]:
    until = (_NEVER, now.steady_us, now.wall_us)
    if len(ranges) == 1:
        ((priority, lane, clock),) = ranges
        return rows(ledger.db, index.of_one, (lane, priority, clock, until[clock], limit))
    places = listed([(lane, priority, clock, until[clock]) for priority, lane, clock in ranges])
    return sorted(rows(ledger.db, index.of_many, (places, limit)), key=_ORDER)


def _ranges(ledger: Ledger, lanes: Iterable[Lane]) -> Iterator[Range]:
    """Each range of these lanes in which rows may wait."""
    for lane in {ledger.lanes.get(lane) for lane in lanes}:
        if lane is not None:
            if not ledger.waiting(lane):
                ledger.ranges[lane] = set()
            elif lane not in ledger.ranges:
                ledger.ranges[lane] = _find(ledger, lane)
            yield from ((priority, lane, clock) for priority, clock in ledger.ranges[lane])


def _find(ledger: Ledger, lane: int) -> set[tuple[int, int]]:
    """With one seek for each, however many rows they have."""
    found: set[tuple[int, int]] = set()
    for index in (_READY, _SUSPECTS):
        after: tuple[int, int] | None = (-1 << 63, 0)
        while after is not None:
            after = next(iter(rows(ledger.db, index.next_range, (lane, *after))), None)
            if after is not None:
                found.add(after)
    return found
