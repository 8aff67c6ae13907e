"""
The end of an attempt: Settle and Cancel, and the late news of it.

Rule: one statement is the guard (`_held`); what follows names rows by number, within the same transaction.
Not here: what a verdict should be (`..policy`), which status follows from it (`..lifecycle`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Final

from ..arithmetic import deaths_after, due_of, status_after
from ..contract import Cancel, CancelAnswer, NoteLate, Settle, Settled, Settlement
from ..described import error_to_bytes
from ..records import HISTORY_FIRST, HISTORY_LAST, Move, Now, OutcomeKind, Status, Verdict
from .codes import MOVE_CODE, OUTCOME_CODE, RUNNING, STATUS_CODE, STATUSES
from .ledger import Ledger, listed

_HELD: Final = """
    select rid, lane, id from runs where id in (select value from json_each(?1))
    and status = 2 and attempt = ?2 and claim_id = ?3 and fence = ?4
    """
_ATTEMPTS: Final = """
    insert into attempts(run, n, started_us, ended_us, outcome, claim_id, fence, owner, error)
    select rid, attempt, started_us, ?2, ?3, claim_id, fence, owner, ?4
    from runs where rid in (select value from json_each(?1))
    """
_TRANSITIONS: Final = """
    insert into transitions(run, seq, was, now, move, at_us, attempt, cause)
    select rid, 2 * attempt + 1, 2, ?2, ?3, ?4, attempt, ?5
    from runs where rid in (select value from json_each(?1))
    """
_FINISH: Final = """
    update runs set status = ?2, spent = spent + ?3, deaths = deaths * ?4 + ?5, updated_us = ?6, ended_us =
    ?6, cause = ?7, result = ?8, result_error = ?9,
    owner = null, claim_id = null, started_us = null, lease_until_us = null, stuck_since_us = null
    where rid in (select value from json_each(?1))
    """
_WAIT_AGAIN: Final = """
    update runs set status = ?2, spent = spent + ?3, deaths = deaths * ?4 + ?5, updated_us = ?6,
    cause = ?7, result = ?8, result_error = ?9, due_us = ?10, clock = ?11,
    owner = null, claim_id = null, started_us = null, lease_until_us = null, stuck_since_us = null
    where rid in (select value from json_each(?1))
    """


def settle(ledger: Ledger, commands: Sequence[Settle], now: Now) -> list[Settled]:
    """
    Answer Settles that follow one another, together.

    Settlements of one claim and attempt with the very same verdict object (as `judge` gives to every plain
    success) are written as one set. A run that is named twice has them one by one, so that the first one
    counts.
    """
    every = list(chain.from_iterable(command.settlements for command in commands))
    statuses: list[Status | None] = [None] * len(every)
    named_once = len({one.run_id for one in every}) == len(every)
    for group in _alike(every) if named_once else [[i] for i in range(len(every))]:
        first = every[group[0]]
        status = status_after(first.run_id, first.verdict)
        rids, lanes, held = _held(ledger, first, [every[i].run_id for i in group])
        if rids:
            end(ledger, rids, lanes, attempt=first.attempt, verdict=first.verdict, now=now)
        for i in group:
            if len(rids) == len(group) or every[i].run_id in held:
                statuses[i] = status
    rest = iter(statuses)
    return [Settled(tuple([next(rest) for _ in command.settlements])) for command in commands]


def _alike(every: Sequence[Settlement]) -> list[list[int]]:
    groups: dict[tuple[int, bytes, int, int], list[int]] = {}
    for i, one in enumerate(every):
        groups.setdefault((id(one.verdict), one.claim_id, one.attempt, one.fence), []).append(i)
    return list(groups.values())


def _held(ledger: Ledger, one: Settlement, ids: list[str]) -> tuple[list[int], Counter[int], frozenset[str]]:
    """Which of these runs are still held as `one` says: their numbers, lanes and ids."""
    rows = ledger.db.execute(_HELD, (listed(ids), one.attempt, one.claim_id, one.fence)).fetchall()
    held = frozenset() if len(rows) == len(ids) else frozenset(map(itemgetter(2), rows))
    return list(map(itemgetter(0), rows)), Counter(map(itemgetter(1), rows)), held


def end(
    ledger: Ledger, rids: Sequence[int], lanes: Counter[int], *, attempt: int, verdict: Verdict, now: Now
) -> tuple[Status, int | None, int]:
    """
    End the current attempt, which has this ordinal, of running rows: its row, its transition, the run's next
    status.

    Returns the status, and when (None for never) and by which clock they are due again.
    """
    db, these, at_us = ledger.db, listed(rids), now.steady_us
    status = status_after("", verdict)
    code = STATUS_CODE[status]
    error = None if verdict.error is None else error_to_bytes(verdict.error)
    db.execute(_ATTEMPTS, (these, at_us, OUTCOME_CODE[verdict.outcome], error))
    db.execute(_TRANSITIONS, (these, code, MOVE_CODE[verdict.move], at_us, verdict.cause))
    kept, added = deaths_after(1, verdict.outcome) > 0, deaths_after(0, verdict.outcome)
    values = (these, code, int(verdict.spends), int(kept), added, at_us, verdict.cause)
    results = (verdict.result, verdict.result_error)
    due_us, clock = (None, 0) if status.is_final else due_of(verdict, now)
    if status.is_final:
        db.execute(_FINISH, (*values, *results))
    else:
        db.execute(_WAIT_AGAIN, (*values, *results, due_us, clock))
    if attempt > HISTORY_FIRST + HISTORY_LAST:
        _forget(ledger, these, attempt - HISTORY_LAST)
    for lane, n in lanes.items():
        ledger.moved(lane, RUNNING, code, n)
    return status, due_us, clock


def _forget(ledger: Ledger, these: str, attempt: int) -> None:
    """Drop an attempt, and its transitions, that histories no longer keep."""
    runs = "run in (select value from json_each(?1))"
    ledger.db.execute(f"delete from attempts where {runs} and n = ?2", (these, attempt))  # noqa: S608
    seqs = f"delete from transitions where {runs} and seq in (2 * ?2, 2 * ?2 + 1)"  # noqa: S608
    ledger.db.execute(seqs, (these, attempt))


def cancel(ledger: Ledger, command: Cancel, now: Now) -> CancelAnswer:
    """End a run that is not final."""
    row = ledger.db.execute(
        "select rid, lane, status, attempt, claim_id from runs where id = ?", (command.run_id,)
    ).fetchone()
    if row is None:
        return CancelAnswer(command.run_id, None, canceled=False)
    rid, lane, code, attempt, claim_id = row
    was = STATUSES[code]
    if was.is_final:
        return CancelAnswer(command.run_id, was, canceled=False)
    if was is Status.RUNNING:
        verdict = Verdict(Move.CANCEL, OutcomeKind.CANCELED, cause=command.cause)
        end(ledger, [rid], Counter([lane]), attempt=attempt, verdict=verdict, now=now)
        return CancelAnswer(command.run_id, was, True, ledger.lane_of[lane], attempt, claim_id)
    canceled = STATUS_CODE[Status.CANCELED]
    ledger.db.execute(
        "update runs set status = ?2, cause = ?3, updated_us = ?4, ended_us = ?4 where rid = ?1",
        (rid, canceled, command.cause, now.steady_us),
    )
    ledger.db.execute(
        "insert into transitions(run, seq, was, now, move, at_us, attempt, cause) values (?, ?, ?, ?, ?, ?, ?, ?)",
        (rid, 2 * attempt + 2, code, canceled, MOVE_CODE[Move.CANCEL], now.steady_us, attempt, command.cause),
    )
    ledger.moved(lane, code, canceled, 1)
    return CancelAnswer(command.run_id, was, canceled=True)


def note_late(ledger: Ledger, command: NoteLate) -> None:
    """Keep what became of an attempt that others had ended."""
    ledger.db.execute(
        "update attempts set late_outcome = ?4 where run = (select rid from runs where id = ?1) "
        "and n = ?2 and claim_id = ?3 and late_outcome is null",
        (command.run_id, command.attempt, command.claim_id, command.late_outcome),
    )
