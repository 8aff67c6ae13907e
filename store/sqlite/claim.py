"""
Claim: rows that wait become running, their attempts durable before anybody runs them.

Rule 1: all of a claim in one statement each: transitions, runs, long payloads.
Rule 2: no attempt begins before its run was made, though whoever made it looked at the clock after whoever claims it did, and
    only then waited for the other's transaction.
Not here: which rows (`waiting`), which lanes to ask for.
"""

from __future__ import annotations

from collections import Counter
from operator import itemgetter

from ..arithmetic import room_for
from ..contract import Claim, ClaimedRuns
from ..records import Claimed, Now
from .codes import RUNNING
from .connection import rows
from .ledger import Ledger, listed
from .waiting import Row, first


def claim(ledger: Ledger, command: Claim, now: Now) -> ClaimedRuns:
    """Make the first due runs running."""
    queue = command.queue
    override = None if queue is None else ledger.overrides.get(queue)
    room, held = room_for(command, override, 0 if queue is None else ledger.running(queue))
    suspects = room if command.suspects is None else command.suspects
    taken = first(ledger, command.lanes, room, suspects, now) if room > 0 else []
    if len(taken) < room:
        held = None
    if not taken:
        return ClaimedRuns((), override, held)
    _start(ledger, command, taken, now)
    payloads = _long_payloads(ledger, taken)
    claim_id, at_us, lane_of = command.claim_id, now.steady_us, ledger.lane_of
    return ClaimedRuns(
        tuple(
            [
                Claimed(
                    run_id, lane_of[lane], attempt + 1, spent, deaths, max_attempts, timeout_us, priority,
                    claim_id, fence + 1, max(at_us, created_us), created_us, payloads[rid] if payload is None else payload,
                    trace_id, nominal_us, due_us, trace_context,
                )
                for priority, due_us, run_id, rid, _, lane, attempt, spent, deaths, max_attempts, timeout_us,
                fence, created_us, payload, trace_id, nominal_us, trace_context in taken
            ]
        ),
        override,
        held,
    )  # fmt: skip


def _start(ledger: Ledger, command: Claim, taken: list[Row], now: Now) -> None:
    rids = listed(map(itemgetter(3), taken))
    ledger.db.execute(
        "insert into transitions(run, seq, was, now, move, at_us, attempt) "
        "select rid, 2 * attempt + 2, status, 2, 2, max(?2, created_us), attempt + 1 "
        "from runs where rid in (select value from json_each(?1))",
        (rids, now.steady_us),
    )
    ledger.db.execute(
        "update runs set status = 2, attempt = attempt + 1, fence = fence + 1, owner = ?2, claim_id = ?3, "
        "started_us = max(?4, created_us), updated_us = max(?4, created_us), lease_until_us = ?5, cause = null "
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
