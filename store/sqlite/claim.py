"""
Claim: the first due runs of some lanes, found by one index range each.

Rule: the cost is that of the rows taken plus a seek for each range in which something waits; what is of
    other lanes, in the future or ended is never stepped over.
Not here: which lanes to ask for.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

from ..contract import Claim, ClaimedRuns
from ..policy import DEATHS_BEFORE_SUSPECT
from ..records import Claimed, Now
from .codes import RUNNING
from .connection import rows, value
from .ledger import Ledger, listed

_NEVER: Final = (1 << 63) - 1
_COLUMNS: Final = (
    "priority, due_us, id, rid, status, lane, attempt, spent, deaths, max_attempts, timeout_us, fence, "
    "created_us, payload, trace_id, nominal_us"
)
Row: TypeAlias = tuple[Any, ...]

_ORDER: Final = itemgetter(0, 1, 2)
_DEATHS: Final = 8


def _due(index: str, deaths: str) -> str:
    return f"""
        select {_COLUMNS} from runs indexed by {index}
        where lane = ?1 and priority = ?2 and clock = ?3 and due_us <= ?4 and status in (0, 1, 3) and deaths {deaths} 3
        order by due_us, id limit ?5
        """  # noqa: S608 - index and comparison are ours


_READY: Final = _due("ready", "<")
_SUSPECTS: Final = _due("suspects", ">=")
_ANY_SUSPECT: Final = "select 1 from runs indexed by suspects where status in (0, 1, 3) and deaths >= 3 limit 1"


def _next_range(index: str, deaths: str) -> str:
    return f"""
        select priority, clock from runs indexed by {index}
        where lane = ?1 and (priority, clock) > (?2, ?3) and status in (0, 1, 3) and deaths {deaths} 3
        order by priority, clock limit 1
        """  # noqa: S608


_NEXT_RANGES: Final = (_next_range("ready", "<"), _next_range("suspects", ">="))


def claim(ledger: Ledger, command: Claim, now: Now) -> ClaimedRuns:
    """Make the first due runs running."""
    taken = _first(ledger, command, now) if command.limit > 0 else []
    if not taken:
        return ClaimedRuns(())
    _start(ledger, command, taken, now)
    payloads = _long_payloads(ledger, taken)
    claim_id, at_us, lane_of = command.claim_id, now.steady_us, ledger.lane_of
    return ClaimedRuns(
        tuple(
            [
                Claimed(
                    run_id, lane_of[lane], attempt + 1, spent, deaths, max_attempts, timeout_us, priority,
                    claim_id, fence + 1, at_us, created_us, payloads[rid] if payload is None else payload,
                    trace_id, nominal_us,
                )
                for priority, _, run_id, rid, _, lane, attempt, spent, deaths, max_attempts, timeout_us,
                fence, created_us, payload, trace_id, nominal_us in taken
            ]
        )
    )  # fmt: skip


def _first(ledger: Ledger, command: Claim, now: Now) -> list[Row]:
    """The first rows of all ranges together, best priority first: a worse one is not opened before it is needed."""
    suspects = command.limit if command.suspects is None else min(command.suspects, command.limit)
    if suspects > 0 and value(ledger.db, _ANY_SUSPECT) is None:
        suspects = 0
    taken: list[Row] = []
    for _, ranges in groupby(sorted(_ranges(ledger, command)), itemgetter(0)):
        alike = list(ranges)
        free = command.limit - len(taken)
        streams = _streams(ledger, _READY, alike, now, free)
        if suspects > 0:
            streams.append(iter(_merged(_streams(ledger, _SUSPECTS, alike, now, suspects), suspects)))
        found = _merged(streams, free)
        taken += found
        if len(taken) == command.limit:
            break
        if suspects > 0:
            suspects -= sum(row[_DEATHS] >= DEATHS_BEFORE_SUSPECT for row in found)
    return taken


def _merged(streams: list[Iterator[Row]], limit: int) -> list[Row]:
    if len(streams) == 1:
        return list(streams[0])  # the statement has the limit
    return list(islice(heapq.merge(*streams, key=_ORDER), limit))


def _ranges(ledger: Ledger, command: Claim) -> Iterator[tuple[int, int, int]]:
    """(priority, lane, clock) of each place where rows may wait."""
    for lane in {ledger.lanes.get(lane) for lane in command.lanes}:
        if lane is not None:
            if not ledger.waiting(lane):
                ledger.ranges[lane] = set()
            elif lane not in ledger.ranges:
                ledger.ranges[lane] = _find_ranges(ledger, lane)
            yield from ((priority, lane, clock) for priority, clock in ledger.ranges[lane])


def _find_ranges(ledger: Ledger, lane: int) -> set[tuple[int, int]]:
    """With one seek each, however many rows they have."""
    found: set[tuple[int, int]] = set()
    for statement in _NEXT_RANGES:
        after: tuple[int, int] | None = (-1 << 63, 0)
        while after is not None:
            after = next(iter(rows(ledger.db, statement, (lane, *after))), None)
            if after is not None:
                found.add(after)
    return found


def _streams(
    ledger: Ledger, statement: str, ranges: list[tuple[int, int, int]], now: Now, limit: int
) -> list[Iterator[Row]]:
    """The due rows of each range, in order of due and id."""
    until = (_NEVER, now.steady_us, now.wall_us)
    return [
        ledger.db.execute(statement, (lane, priority, clock, until[clock], limit)) for priority, lane, clock in ranges
    ]


def _start(ledger: Ledger, command: Claim, taken: list[Row], now: Now) -> None:
    rids = listed(map(itemgetter(3), taken))
    ledger.db.execute(
        "insert into transitions(run, seq, was, now, move, at_us, attempt) "
        "select rid, 2 * attempt + 2, status, 2, 2, ?2, attempt + 1 "
        "from runs where rid in (select value from json_each(?1))",
        (rids, now.steady_us),
    )
    ledger.db.execute(
        "update runs set status = 2, attempt = attempt + 1, fence = fence + 1, owner = ?2, claim_id = ?3, "
        "started_us = ?4, updated_us = ?4, lease_until_us = ?5, cause = null "
        "where rid in (select value from json_each(?1))",
        (rids, ledger.boot(command.owner), command.claim_id, now.steady_us, now.steady_us + command.lease_us),
    )
    for (was, lane), n in Counter(map(itemgetter(4, 5), taken)).items():
        ledger.moved(lane, was, RUNNING, n)


def _long_payloads(ledger: Ledger, taken: list[Row]) -> dict[int, bytes]:
    long = [row[3] for row in taken if row[13] is None]
    if not long:
        return {}
    found = "select run, body from payloads where run in (select value from json_each(?))"
    return dict(rows(ledger.db, found, (listed(long),)))
