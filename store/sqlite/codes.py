"""
How words are stored as small integers, and rows become records.

Rule: a code is never given a second meaning: files live longer than releases. Append only.
Not here: the tables (`schema`), payloads (`..codec`).
"""

from __future__ import annotations

from typing import Any, Final

from ..described import error_from_bytes
from ..records import (
    Attempt,
    Clock,
    Did,
    Fired,
    Lane,
    Move,
    OutcomeKind,
    QueueOverride,
    Run,
    Schedule,
    Status,
    Transition,
)

STATUSES: Final = (
    Status.QUEUED,
    Status.SCHEDULED,
    Status.RUNNING,
    Status.RETRYING,
    Status.SUCCEEDED,
    Status.DEAD_LETTERED,
    Status.CANCELED,
)
"""
By code. The SQL of this folder says `status in (0, 1, 3)` for waiting, 2 for running and >= 4 for final.
"""

MOVES: Final = (
    Move.ENQUEUE,
    Move.SCHEDULE,
    Move.START,
    Move.SUCCEED,
    Move.RETRY,
    Move.EXHAUST,
    Move.DISCARD,
    Move.POISON,
    Move.CANCEL,
    Move.SNOOZE,
    Move.HAND_BACK,
    Move.RESCUE,
)
"""By code. The SQL says 0 and 1 for the births, 2 for start."""

OUTCOMES: Final = (
    OutcomeKind.SUCCEEDED,
    OutcomeKind.FAILED,
    OutcomeKind.TIMED_OUT,
    OutcomeKind.DISCARDED,
    OutcomeKind.SNOOZED,
    OutcomeKind.UNREADABLE,
    OutcomeKind.INTERRUPTED,
    OutcomeKind.CANCELED,
    OutcomeKind.CRASHED,
    OutcomeKind.LEASE_LOST,
)
"""By code."""

DIDS: Final = (Did.REQUESTED, Did.TRIGGERED, Did.OVERLAPPED, Did.WAITED, Did.MISSED)
"""By code."""

DID_CODE: Final = {did: code for code, did in enumerate(DIDS)}
STATUS_CODE: Final = {status: code for code, status in enumerate(STATUSES)}
MOVE_CODE: Final = {move: code for code, move in enumerate(MOVES)}
OUTCOME_CODE: Final = {outcome: code for code, outcome in enumerate(OUTCOMES)}
CLOCKS: Final = (Clock.AT_ONCE, Clock.STEADY, Clock.WALL)

RUNNING: Final = STATUS_CODE[Status.RUNNING]

RUN_COLUMNS: Final = (
    "rid, id, lane, status, due_us, clock, priority, attempt, spent, deaths, max_attempts, timeout_us, "
    "created_us, updated_us, ended_us, cause, idempotency_key, payload_hash, trace_id, replay_of, reason, "
    "schedule_key, nominal_us, at_most_once, owner, claim_id, fence, started_us, lease_until_us, stuck_since_us, "
    "result, result_error, progress, trace_context"
)
"""What `run_of` takes, in this order; of the table runs."""


def run_of(row: tuple[Any, ...], lanes: dict[int, Lane], boots: dict[int, str], payload: bytes | None) -> Run:
    """The run that a row of `RUN_COLUMNS` tells of."""
    _, run_id, lane, status, due_us, clock, *fields = row
    fields[17] = bool(fields[17])
    fields[18] = None if fields[18] is None else boots[fields[18]]
    fields.insert(24, payload)
    return Run(run_id, lanes[lane], STATUSES[status], due_us, CLOCKS[clock], *fields)


ATTEMPT_COLUMNS: Final = "n, started_us, ended_us, outcome, error, claim_id, fence, owner, late_outcome"


def attempt_of(run_id: str, row: tuple[Any, ...], boots: dict[int, str]) -> Attempt:
    """The attempt that a row of `ATTEMPT_COLUMNS` tells of."""
    n, started_us, ended_us, outcome, error, claim_id, fence, owner, late_outcome = row
    told = None if error is None else error_from_bytes(error)
    return Attempt(
        run_id, n, started_us, ended_us, OUTCOMES[outcome], told, claim_id, fence, boots[owner], late_outcome
    )


OVERRIDE_COLUMNS: Final = "queue, paused, concurrency, batch_size, global_limit, visibility_us, updated_us"


def override_of(row: tuple[Any, ...]) -> QueueOverride:
    """What a row of `OVERRIDE_COLUMNS` says of a queue."""
    queue, paused, *rest = row
    return QueueOverride(queue, bool(paused), *rest)


SCHEDULE_COLUMNS: Final = (
    "jobs, key, body, next_us, due_us, paused, orphaned, waiting_us, last_us, fired, skipped, version, "
    "created_us, updated_us"
)


def schedule_of(row: tuple[Any, ...]) -> Schedule:
    """The schedule that a row of `SCHEDULE_COLUMNS` tells of."""
    jobs, key, body, next_us, due_us, paused, orphaned, *rest = row
    return Schedule(jobs, key, body, next_us, due_us, bool(paused), bool(orphaned), *rest)


FIRED_COLUMNS: Final = "nominal_us, at_us, did, run_id, times"


def fired_of(row: tuple[Any, ...]) -> Fired:
    """What a row of `FIRED_COLUMNS` tells of."""
    nominal_us, at_us, did, run_id, times = row
    return Fired(nominal_us, at_us, DIDS[did], run_id, times)


TRANSITION_COLUMNS: Final = "seq, was, now, move, at_us, attempt, cause"


def transition_of(run_id: str, row: tuple[Any, ...]) -> Transition:
    """The transition that a row of `TRANSITION_COLUMNS` tells of."""
    seq, was, now, move, at_us, attempt, cause = row
    before = None if was is None else STATUSES[was]
    return Transition(run_id, seq, before, STATUSES[now], MOVES[move], at_us, attempt, cause)
