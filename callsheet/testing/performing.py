"""
One call of a handler as an attempt makes it, with nothing of its run in the store.

Rule: it goes the way of every attempt (`RunActor`, `ending`, the judge of `Settling`), so what it answers is what would
have happened.
"""

from __future__ import annotations

import copy
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from ..actors.cancellation import is_cancellation
from ..actors.run import RunActor, StopReason
from ..cast import plan_of
from ..enqueue import EnqueueOptions, new_run
from ..runtime import Runtime
from ..store import codec
from ..store.arithmetic import claimed_of, run_of, status_after
from ..store.policy import SECOND_US
from ..store.records import Error, NewRun, Outcome, OutcomeKind, Run, Status, Verdict
from ..supervisor import paths
from ..supervisor.settling import RunEnded, Settling
from ..task import Task


@frozen
class Performed:
    """What came of one call, and what would become of its run."""

    outcome: OutcomeKind
    """How the attempt ended."""
    status: Status
    """What the run would be now."""
    verdict: Verdict
    """All that would be written."""
    result: object
    """What the handler returned, as JSON values; None when there is nothing."""
    error: Error | None
    """What it raised, as it would be kept."""
    raised: BaseException | None
    """What it raised, itself. None for a cancellation."""
    delay_s: float | None
    """Seconds until the next attempt; None when there is none."""
    took_s: float
    """In virtual time."""


@define(eq=False)
class _Audience:
    """Hears how the attempt ends."""

    outcome: Outcome | None = field(default=None, init=False)
    ended: trio.Event = field(factory=trio.Event, init=False)

    def run_ended(self, _actor: RunActor, outcome: Outcome) -> None:
        """See `RunParent.run_ended`."""
        self.outcome = outcome
        self.ended.set()

    def run_stuck(self, actor: RunActor) -> None:
        """See `RunParent.run_stuck`."""


async def performed(
    runtime: Runtime,
    task: Task[Any, Any],
    payload: object,
    options: EnqueueOptions,
    *,
    attempt: int,
    spent: int | None,
    app: Any,
) -> Performed:
    """Call the handler, and wait until it has ended. Cancelling stops it."""
    if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1:
        raise ValueError(f"attempts are counted from 1, and {attempt!r} is none of them")
    stand_in = copy.copy(runtime)
    stand_in.app, stand_in.understudy = app, None
    raised: list[BaseException] = []
    seams, stage = runtime.seams, runtime.system.stage
    row = _row(new_run(task, payload, options, seams), attempt, spent, seams.ids.claim_id())
    plan = plan_of(stand_in, task)

    async def call(actor: RunActor) -> object:
        try:
            return await plan.perform(actor)
        except BaseException as error:
            if not is_cancellation(error):
                raised.append(error)
            raise

    audience, began_s = _Audience(), seams.clock.mono_s()
    actor = RunActor(claimed_of(row), call, task.policy, stage, audience, task.stuck_after_s)
    actor.start()
    try:
        await audience.ended.wait()
    finally:
        if audience.outcome is None:
            actor.stop(StopReason.INTERRUPTED)
    assert audience.outcome is not None, "told before the event is set"
    now_us = seams.clock.steady_us()
    settling = Settling(stage, stage.registry[paths.JOURNAL].ref)
    verdict = settling._judge(RunEnded(actor, audience.outcome), now_us)  # noqa: SLF001 -- the very decision
    return Performed(
        outcome=verdict.outcome,
        status=status_after(row.id, verdict),
        verdict=verdict,
        result=None if verdict.result is None else codec.decode(verdict.result, None),
        error=verdict.error,
        raised=raised[0] if raised else None,
        delay_s=None if verdict.due_us is None else (verdict.due_us - now_us) / SECOND_US,
        took_s=seams.clock.mono_s() - began_s,
    )


def _row(new: NewRun, attempt: int, spent: int | None, claim_id: bytes) -> Run:
    """The run as it stands once this attempt was claimed; without `spent`, every attempt before spent a try."""
    before = min(attempt, new.max_attempts) - 1 if spent is None else spent
    return evolve(
        run_of(new), attempt=attempt, spent=before, claim_id=claim_id, fence=attempt, started_us=new.created_us
    )
