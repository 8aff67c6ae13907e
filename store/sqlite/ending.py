# ruff: noqa: S608 - statements are put together from constants of this file; every value is bound
"""
How attempts end: their rows, their transitions, and the next status of their runs.

Rule: the rows were found by a guard in the same transaction (`Held`); from there on they are named by number.
Not here: the guard, who asks for an end (`settle`, `owners`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..arithmetic import deaths_after, due_of, status_after
from ..described import error_to_bytes
from ..records import HISTORY_FIRST, HISTORY_LAST, Now, Status, Verdict
from .codes import MOVE_CODE, OUTCOME_CODE, RUNNING, STATUS_CODE
from .ledger import Ledger, listed

_LET_GO: Final = "owner = null, claim_id = null, started_us = null, lease_until_us = null, stuck_since_us = null"
_THESE: Final = "where rid in (select value from json_each(?1))"


Held: TypeAlias = tuple[int, int, int]
"""A running row that was found: its number, its lane, its priority."""
_RID: Final = itemgetter(0)
_LANE_AND_PRIORITY: Final = itemgetter(1, 2)


@frozen
class _Statements:
    """For a set of rows: their attempts, their transitions, runs that have ended, runs that wait again."""

    attempts: str
    transitions: str
    final: str
    wait: str


_ALIKE: Final = _Statements(
    f"""
    insert into attempts(run, n, started_us, ended_us, outcome, claim_id, fence, owner, error)
    select rid, attempt, started_us, ?2, ?3, claim_id, fence, owner, ?4 from runs {_THESE}
    """,
    f"""
    insert into transitions(run, seq, was, now, move, at_us, attempt, cause)
    select rid, 2 * attempt + 1, 2, ?2, ?3, ?4, attempt, ?5 from runs {_THESE}
    """,
    f"""
    update runs set status = ?2, spent = spent + ?3, deaths = deaths * ?4 + ?5, updated_us = ?6, ended_us = ?6,
    cause = ?7, result = ?8, result_error = ?9, {_LET_GO} {_THESE}
    """,
    f"""
    update runs set status = ?2, spent = spent + ?3, deaths = deaths * ?4 + ?5, updated_us = ?6,
    cause = ?7, result = ?8, result_error = ?9, due_us = coalesce(?10, due_us), clock = ?11, {_LET_GO} {_THESE}
    """,
)  # fmt: skip
"""?1 is a list of row numbers; all else is bound once for all of them."""

_EACH: Final = _Statements(
    """
    insert into attempts(run, n, started_us, ended_us, outcome, claim_id, fence, owner, error)
    select rid, attempt, started_us, ?2, ?3, claim_id, fence, owner, cast(one.value ->> 1 as blob)
    from json_each(?1) as one cross join runs where rid = one.value ->> 0
    """,
    """
    insert into transitions(run, seq, was, now, move, at_us, attempt, cause)
    select rid, 2 * attempt + 1, 2, ?2, ?3, ?4, attempt, one.value ->> 2
    from json_each(?1) as one cross join runs where rid = one.value ->> 0
    """,
    f"""
    update runs set status = ?2, spent = spent + ?3, deaths = deaths * ?4 + ?5, updated_us = ?6, ended_us = ?6,
    cause = one.value ->> 2, result = unhex(one.value ->> 3), result_error = one.value ->> 4, {_LET_GO}
    from json_each(?1) as one where rid = one.value ->> 0
    """,
    f"""
    update runs set status = ?2, spent = spent + ?3, deaths = deaths * ?4 + ?5, updated_us = ?6,
    cause = one.value ->> 2, result = unhex(one.value ->> 3), result_error = one.value ->> 4,
    due_us = coalesce(one.value ->> 5, due_us), clock = ?7, {_LET_GO}
    from json_each(?1) as one where rid = one.value ->> 0
    """,
)
"""?1 is a list of lists: row number, error, cause, result in hex, why there is no result, due time (null: as it is)."""


def end(
    ledger: Ledger, held: Sequence[Held], verdict: Verdict, attempt: int, now: Now
) -> tuple[Status, int | None, int | None]:
    """
    End the attempt with this ordinal of these rows, all with one verdict.

    Returns their next status, their due and their clock, each None where it stays what it was.
    """
    db, these = ledger.db, listed(map(_RID, held))
    status, due_us, clock = _next(verdict, now)
    error = None if verdict.error is None else error_to_bytes(verdict.error)
    db.execute(_ALIKE.attempts, (these, now.steady_us, OUTCOME_CODE[verdict.outcome], error))
    moved = (STATUS_CODE[status], MOVE_CODE[verdict.move], now.steady_us)
    db.execute(_ALIKE.transitions, (these, *moved, verdict.cause))
    values = (these, *_sums(status, verdict, now), verdict.cause, verdict.result, verdict.result_error)
    if clock is None:
        db.execute(_ALIKE.final, values)
    else:
        db.execute(_ALIKE.wait, (*values, due_us, clock))
    _keep_in_mind(ledger, held, status, clock)
    _forget(ledger, these, attempt)
    return status, due_us, clock


def end_each(ledger: Ledger, ends: Sequence[tuple[Held, Verdict]], attempt: int, now: Now) -> None:
    """The same, each row with its own verdict; they have move, outcome and clock in common."""
    db, verdict = ledger.db, ends[0][1]
    status, _, clock = _next(verdict, now)
    these = listed([_parts(held[0], each, now) for held, each in ends])
    db.execute(_EACH.attempts, (these, now.steady_us, OUTCOME_CODE[verdict.outcome]))
    db.execute(_EACH.transitions, (these, STATUS_CODE[status], MOVE_CODE[verdict.move], now.steady_us))
    values = (these, *_sums(status, verdict, now))
    if clock is None:
        db.execute(_EACH.final, values)
    else:
        db.execute(_EACH.wait, (*values, clock))
    _keep_in_mind(ledger, [held for held, _ in ends], status, clock)
    _forget(ledger, listed([held[0] for held, _ in ends]), attempt)


def _next(verdict: Verdict, now: Now) -> tuple[Status, int | None, int | None]:
    status = status_after("", verdict)
    return (status, None, None) if status.is_final else (status, *due_of(verdict, now))


def _sums(status: Status, verdict: Verdict, now: Now) -> tuple[int, ...]:
    """The next status, and how `spent` and `deaths` change."""
    kept, added = deaths_after(1, verdict.outcome) > 0, deaths_after(0, verdict.outcome)
    return STATUS_CODE[status], int(verdict.spends), int(kept), added, now.steady_us


def _parts(rid: int, verdict: Verdict, now: Now) -> tuple[Any, ...]:
    return (
        rid,
        None if verdict.error is None else error_to_bytes(verdict.error).decode(),
        verdict.cause,
        None if verdict.result is None else verdict.result.hex(),
        verdict.result_error,
        due_of(verdict, now)[0],
    )


def _keep_in_mind(ledger: Ledger, held: Sequence[Held], status: Status, clock: int | None) -> None:
    """What follows for the counters, and for the places where rows wait."""
    for (lane, priority), n in Counter(map(_LANE_AND_PRIORITY, held)).items():
        ledger.moved(lane, RUNNING, STATUS_CODE[status], n)
        if clock is not None:
            ledger.waits(lane, priority, clock)


def _forget(ledger: Ledger, these: str, attempt: int) -> None:
    """Drop an attempt, and its transitions, that histories no longer keep."""
    if attempt > HISTORY_FIRST + HISTORY_LAST:
        runs, n = "run in (select value from json_each(?1))", attempt - HISTORY_LAST
        ledger.db.execute(f"delete from attempts where {runs} and n = ?2", (these, n))
        ledger.db.execute(f"delete from transitions where {runs} and seq in (2 * ?2, 2 * ?2 + 1)", (these, n))
