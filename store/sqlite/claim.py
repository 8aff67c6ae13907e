"""
Claim: the first due runs of some lanes, found by one index range each.

Rule: the cost is that of the rows taken plus a few seeks for each lane in which something waits; what is of
    other lanes, in the future or ended is never stepped over.
Not here: which lanes to ask for.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from ..contract import Claim, ClaimedRuns
from ..records import Claimed, Now
from .codes import RUNNING
from .connection import rows
from .ledger import Ledger, listed

_NEVER: Final = (1 << 63) - 1
_COLUMNS: Final = (
    "priority, due_us, id, rid, status, lane, attempt, spent, deaths, max_attempts, timeout_us, fence, "
    "created_us, payload, trace_id, nominal_us"
)
_ORDER: Final = itemgetter(0, 1, 2)


def _statements(index: str, deaths: str) -> tuple[str, str]:
    where = f"status in (0, 1, 3) and deaths {deaths} 3"
    ranges = f"""
        with recursive present(priority) as (
            select min(priority) from runs indexed by {index} where lane = ?1 and {where}
            union all
            select (select min(priority) from runs indexed by {index}
                    where lane = ?1 and priority > present.priority and {where})
            from present where present.priority is not null)
        select priority, column1, column2 from present, (values (0, {_NEVER}), (1, ?2), (2, ?3))
        where priority is not null and exists (
            select 1 from runs indexed by {index}
            where lane = ?1 and priority = present.priority and clock = column1 and due_us <= column2 and
            {where})
        """  # noqa: S608 - index and comparison are ours
    due = f"""
        select {_COLUMNS} from runs indexed by {index}
        where lane = ?1 and priority = ?2 and clock = ?3 and due_us <= ?4 and {where}
        order by due_us, id limit ?5
        """  # noqa: S608
    return ranges, due


_READY: Final = _statements("ready", "<")
_SUSPECTS: Final = _statements("suspects", ">=")


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


def _first(ledger: Ledger, command: Claim, now: Now) -> list[tuple[Any, ...]]:
    known = (ledger.lanes.get(lane) for lane in dict.fromkeys(command.lanes))
    lanes = [lane for lane in known if lane is not None and ledger.waiting(lane)]
    suspects = command.limit if command.suspects is None else min(command.suspects, command.limit)
    streams = _streams(ledger, lanes, now, command.limit, _READY)
    if suspects > 0 and (dead := _streams(ledger, lanes, now, suspects, _SUSPECTS)):
        streams.append(islice(heapq.merge(*dead, key=_ORDER), suspects))
    if len(streams) == 1:
        return list(streams[0])
    return list(islice(heapq.merge(*streams, key=_ORDER), command.limit))


def _streams(
    ledger: Ledger, lanes: list[int], now: Now, limit: int, statements: tuple[str, str]
) -> list[Iterator[tuple[Any, ...]]]:
    """
    One stream of rows for each (lane, priority, clock) that has something due, each in order of due and id.
    """
    ranges, due = statements
    return [
        ledger.db.execute(due, (lane, *found, limit))
        for lane in lanes
        for found in ledger.db.execute(ranges, (lane, now.steady_us, now.wall_us)).fetchall()
    ]


def _start(ledger: Ledger, command: Claim, taken: list[tuple[Any, ...]], now: Now) -> None:
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


def _long_payloads(ledger: Ledger, taken: list[tuple[Any, ...]]) -> dict[int, bytes]:
    long = [row[3] for row in taken if row[13] is None]
    if not long:
        return {}
    found = "select run, body from payloads where run in (select value from json_each(?))"
    return dict(rows(ledger.db, found, (listed(long),)))
