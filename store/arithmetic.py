"""
The arithmetic that all stores share: what a command does to the times and numbers of a run.

Rule: pure. A store may say the same in SQL; the suite compares it with this.
Not here: which status follows (`lifecycle`), what a failure leads to (`policy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from attrs import evolve

from .contract import CancelAnswer, Claim, Conflict, HeldBy, Rescue, ScheduleSet, SetQueue, SetSchedule
from .lifecycle import step
from .policy import DEFAULT_RETRY, Tried, judge
from .records import (
    HISTORY_FIRST,
    HISTORY_LAST,
    NO_LIMIT,
    Attempt,
    Claimed,
    Clock,
    Count,
    Lane,
    Move,
    NewRun,
    Now,
    Outcome,
    OutcomeKind,
    QueueOverride,
    Run,
    Schedule,
    Status,
    Verdict,
    instant,
)

_KEEP_THEIR_PLACE: Final = frozenset({Move.RESCUE, Move.HAND_BACK})
AHEAD_US: Final = 86_400_000_000
"""A clock that is set back by a day, or less, is waited for without a word."""
_LIMITS: Final = ("concurrency", "batch_size", "global_limit", "visibility_us")


class Lost(Tried, Protocol):
    """What `rescue_verdict` needs to know of a run that nobody runs any more."""

    @property
    def at_most_once(self) -> bool:
        """As stored with the run."""


def run_of(new: NewRun) -> Run:
    """The row that a new run begins as."""
    return Run(
        id=new.id,
        lane=new.lane,
        status=new.status,
        due_us=new.due_us,
        clock=new.clock,
        priority=new.priority,
        attempt=0,
        spent=0,
        deaths=0,
        max_attempts=new.max_attempts,
        timeout_us=new.timeout_us,
        created_us=new.created_us,
        updated_us=new.created_us,
        ended_us=None,
        cause=None,
        idempotency_key=new.idempotency_key,
        payload_hash=new.payload_hash,
        trace_id=new.trace_id,
        replay_of=new.replay_of,
        reason=new.reason,
        schedule_key=new.schedule_key,
        nominal_us=new.nominal_us,
        at_most_once=new.at_most_once,
        owner=None,
        claim_id=None,
        fence=0,
        started_us=None,
        lease_until_us=None,
        stuck_since_us=None,
        payload=new.payload,
        result=None,
        result_error=None,
        progress=None,
        trace_context=new.trace_context,
    )


def claimed_of(run: Run) -> Claimed:
    """What a Claim answers of a run that it made running."""
    assert run.claim_id is not None
    assert run.started_us is not None
    assert run.payload is not None
    return Claimed(
        run_id=run.id,
        lane=run.lane,
        attempt=run.attempt,
        spent=run.spent,
        deaths=run.deaths,
        max_attempts=run.max_attempts,
        timeout_us=run.timeout_us,
        priority=run.priority,
        claim_id=run.claim_id,
        fence=run.fence,
        started_us=run.started_us,
        created_us=run.created_us,
        payload=run.payload,
        trace_id=run.trace_id,
        nominal_us=run.nominal_us,
        due_us=run.due_us,
        trace_context=run.trace_context,
    )


def canceled_of(run: Run) -> CancelAnswer:
    """What a Cancel answers of a run that it ended; `run` is how it was before."""
    return CancelAnswer(run.id, run.status, True, run.lane, run.attempt, run.claim_id, run.trace_id, run.started_us)


def current_attempt(run: Run) -> Attempt | None:
    """The attempt that a running run is in; it has no row of its own yet."""
    if run.status is not Status.RUNNING:
        return None
    assert run.started_us is not None
    assert run.claim_id is not None
    assert run.owner is not None
    return Attempt(run.id, run.attempt, run.started_us, None, None, None, run.claim_id, run.fence, run.owner)


def counts_of(counted: Iterable[tuple[Lane, Status, int]]) -> tuple[Count, ...]:
    """What is told of numbers of runs: in order, without those of zero."""
    counts = [Count(lane, status, n) for lane, status, n in counted if n]
    return tuple(sorted(counts, key=lambda c: (c.lane.jobs, c.lane.queue, c.lane.task, c.lane.schema, c.status)))


def in_history(n: int, last: int) -> bool:
    """Whether attempt `n` of a run whose last attempt is `last` is among those that its history keeps."""
    return n <= HISTORY_FIRST or n > last - HISTORY_LAST


def is_due(due_us: int, clock: Clock, now: Now) -> bool:
    """Whether a waiting run may start: its own clock has reached its time."""
    if clock is Clock.AT_ONCE:
        return True
    return due_us <= (now.steady_us if clock is Clock.STEADY else now.wall_us)


def due_of(verdict: Verdict, now: Now) -> tuple[int | None, Clock]:
    """When (None: the due it has stays), and by which clock, a run that waits again is due."""
    if verdict.due_us is not None:
        return verdict.due_us, verdict.clock
    return None if verdict.move in _KEEP_THEIR_PLACE else now.steady_us, Clock.AT_ONCE


def room_for(command: Claim, override: QueueOverride | None, running: int) -> tuple[int, HeldBy | None]:
    """
    How many runs a claim may be given, and what makes that fewer than it asks for; `running`: rows of its queue.
    """
    if command.queue is None:
        return command.limit, None
    if override is not None and override.paused:
        return 0, "paused"
    most = command.global_limit if override is None or override.global_limit is None else override.global_limit
    if most is None or most == NO_LIMIT or most - running >= command.limit:
        return command.limit, None
    return max(most - running, 0), "global_limit"


def override_after(was: QueueOverride | None, command: SetQueue, now: Now) -> QueueOverride:
    """What holds of a queue after a SetQueue."""
    kept = QueueOverride(command.queue) if was is None else was
    if command.reset:
        kept = QueueOverride(command.queue, kept.paused)
    said: dict[str, Any] = {name: getattr(command, name) for name in ("paused", *_LIMITS)}
    return evolve(kept, updated_us=now.steady_us, **{name: each for name, each in said.items() if each is not None})


def is_believed(was: Schedule | None, command: SetSchedule) -> bool:
    """Whether what is stored is what a SetSchedule takes it for; one that was deleted and said anew is another one."""
    if was is None or command.was is None:
        return was is None and command.was is None
    return was.version == command.was and command.schedule.created_us in (0, was.created_us)


def schedule_after(was: Schedule | None, said: Schedule, now: Now) -> Schedule:
    """What is stored of a schedule after a SetSchedule: what was said, and what the store keeps."""
    created_us = now.steady_us if was is None else was.created_us
    version = 1 if was is None else was.version + 1
    return evolve(said, version=version, created_us=created_us, updated_us=now.steady_us)


def is_ahead(schedule: Schedule, now_us: int) -> bool:
    """Whether it has done what the wall clock says is far from here: it was set forward by mistake then, or back since."""
    return schedule.last_us is not None and schedule.last_us > now_us + AHEAD_US


def ahead(schedule: Schedule) -> str:
    """What that means, for people."""
    return f"it has been at {instant(schedule.last_us or 0)}, when the wall clock was there, and goes on from then"


def changes_nothing(was: Schedule | None, doing: SetSchedule) -> bool:
    """Whether a SetSchedule says what is stored already: then it is left alone, and nobody need look at it anew."""
    if was is None or doing.runs or doing.fired:
        return False
    kept = evolve(doing.schedule, version=was.version, created_us=was.created_us, updated_us=was.updated_us)
    return kept == was


def runs_of(command: SetSchedule, answer: ScheduleSet) -> tuple[NewRun, ...]:
    """The runs that a SetSchedule requested."""
    if not answer.done or command.delete:
        return ()
    return command.if_active.runs if answer.active and command.if_active is not None else command.runs


def deaths_after(deaths: int, outcome: OutcomeKind) -> int:
    """Deaths in a row after one more attempt ended."""
    if outcome is OutcomeKind.CRASHED:
        return deaths + 1
    return deaths if outcome in (OutcomeKind.LEASE_LOST, OutcomeKind.INTERRUPTED) else 0


def lost_as(command: Rescue, seen_us: int | None, now_us: int) -> OutcomeKind:
    """
    How the attempt of a run that nobody runs any more ended, when its owner was last seen then (None: never).
    """
    if command.scope == "own":
        return OutcomeKind.INTERRUPTED
    seen = seen_us is not None and seen_us + 2 * command.lease_us > now_us
    return OutcomeKind.LEASE_LOST if command.scope == "expired" and seen else OutcomeKind.CRASHED


def rescue_verdict(run: Lost, outcome: OutcomeKind, now_us: int) -> Verdict:
    """What becomes of a run that is taken back."""
    if run.at_most_once and outcome is not OutcomeKind.INTERRUPTED:
        return Verdict(Move.DISCARD, outcome, cause="on_crash")
    return judge(run, Outcome(outcome), DEFAULT_RETRY, now_us)


def status_after(run_id: str, verdict: Verdict) -> Status:
    """The status that a running run takes. Raises IllegalMove when running has no such move."""
    return step(run_id, Status.RUNNING, verdict.move)


def conflict_of(new: NewRun, was: Run, *, strict: bool) -> Conflict | None:
    """What speaks against taking `was`, which has the id or the key of `new`, for the same request."""
    if was.lane.jobs != new.lane.jobs:
        return Conflict(None, was)
    if strict and None is not new.payload_hash != was.payload_hash is not None:
        return Conflict(new.idempotency_key, was)
    return None
