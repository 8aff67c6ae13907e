"""
The supervisor of one task: applies its retry, backoff and timeout; its children are the runs on stage.

Rule 1: an attempt that fails is ordinary work: it spends a try of its run, never restart intensity.
Rule 2: outcomes that gather while it is busy settle together, with one message to the journal.
Not here: what a failure leads to (`store.policy.judge`), who may run (`queue`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, assert_never

import trio
from attrs import define, evolve, frozen

from ..actors.actor import Actor
from ..actors.calendar import Expect
from ..actors.cell import Cell
from ..actors.journal import Write, send
from ..actors.ref import Ref
from ..actors.reply import Forward, Reply
from ..actors.run import RunActor, StopReason
from ..store.contract import NoteLate, Settle, Settlement
from ..store.policy import RetryPolicy, judge
from ..store.records import Claimed, Due, Move, Outcome, OutcomeKind, Verdict
from . import paths
from .slots import Slots

_log = logging.getLogger("callsheet.task")

CANCEL_BUDGET_S: Final = 5.0
"""How long a cancelled handler may take to end before a stopping runtime goes on without it."""
MAX_EXPECTED_CLAIMS: Final = 10_000
"""Canceled claims remembered until their runs arrive; each waits for one commit only."""


@frozen
class StageRuns:
    """Start these: they were claimed for us, and hold slots."""

    runs: tuple[Claimed, ...]
    slots: Slots


@frozen(eq=False)
class RunEnded:
    """The handler of a run on stage has ended."""

    actor: RunActor
    outcome: Outcome


@frozen
class StopRun:
    """This claim was canceled, durably: stop its handler, or do not start it."""

    run_id: str
    claim_id: bytes


TaskMessage: TypeAlias = StageRuns | RunEnded | StopRun


@frozen
class TaskPlan:
    """What a task supervisor is made of."""

    jobs: str
    task: str
    policy: RetryPolicy
    perform: Callable[[RunActor], Awaitable[object]]
    """Decodes the payload and calls the handler."""


@define(eq=False)
class Place:
    """What stands between a run and its supervisor, so that its slot is freed whichever incarnation hears of its end."""

    cell: Cell[TaskMessage]
    slots: Slots

    def run_ended(self, actor: RunActor, outcome: Outcome) -> None:
        """See `RunParent.run_ended`."""
        self.slots.leave(actor.claimed.run_id)
        self.cell.ref.tell_control(RunEnded(actor, outcome))


class TaskSupervisor(Actor[TaskMessage]):
    """Puts claimed runs on stage and settles how they end."""

    def __init__(self, plan: TaskPlan) -> None:
        self._plan = plan
        self.on_stage: dict[str, RunActor] = {}
        self._canceled_early: dict[tuple[str, bytes], None] = {}
        self._ended: list[RunEnded] = []

    async def on_start(self) -> None:
        """Find the journal."""
        self._journal: Ref[Write] = self.stage.registry[paths.JOURNAL].ref

    # -- Actor

    async def receive_all(self, messages: Sequence[TaskMessage]) -> None:
        """See the messages; all ends among them are settled together, also when one of the messages crashes us."""
        try:
            await super().receive_all(messages)
        finally:
            self._settle()

    def receive(self, message: TaskMessage) -> None:
        """See the messages."""
        match message:
            case RunEnded():
                self._ended.append(message)
            case StageRuns(runs, slots):
                self._start(runs, slots)
            case StopRun(run_id, claim_id):
                self._stop_run(run_id, claim_id)
            case _:
                assert_never(message)

    def _start(self, runs: tuple[Claimed, ...], slots: Slots) -> None:
        plan, place = self._plan, Place(self.cell, slots)
        for run in runs:
            if (run.run_id, run.claim_id) in self._canceled_early:
                del self._canceled_early[run.run_id, run.claim_id]
                slots.leave(run.run_id)
                continue
            actor = RunActor(run, plan.perform, plan.policy, self.stage, place)
            self.on_stage[run.run_id] = slots.on_stage[run.run_id] = actor
            actor.start()

    def _stop_run(self, run_id: str, claim_id: bytes) -> None:
        actor = self.on_stage.get(run_id)
        if actor is not None and actor.claimed.claim_id == claim_id:
            actor.stop(StopReason.CANCELED)
        elif actor is None:
            self._canceled_early[run_id, claim_id] = None
            if len(self._canceled_early) > MAX_EXPECTED_CLAIMS:
                self._canceled_early.pop(next(iter(self._canceled_early)))  # the oldest never came

    # -- ends

    def _settle(self) -> None:
        ended, self._ended = self._ended, []
        if not ended:
            return
        seams = self.stage.seams
        now_us = seams.clock.steady_us()
        settlements: list[Settlement] = []
        dues: list[Due] = []
        for each in ended:
            run = each.actor.claimed
            self.on_stage.pop(run.run_id, None)
            if each.outcome.kind is OutcomeKind.CANCELED:
                self._note_late(each.actor)
                continue
            policy = self._plan.policy
            draw = seams.draw() if policy.jitter else 0.0
            verdict = judge(run, each.outcome, policy, now_us, draw)
            settlements.append(Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict))
            if verdict.due_us is not None:
                dues.append(Due(run.lane.queue, verdict.clock, verdict.due_us))
        if settlements:
            self._send(tuple(settlements), tuple(dues))

    def _note_late(self, actor: RunActor) -> None:
        """The store ended this attempt when the run was canceled; keep what the handler did after that."""
        if actor.late is not None:
            run = actor.claimed
            send(self._journal, NoteLate(run.run_id, run.attempt, run.claim_id, actor.late), Reply())

    def _send(self, settlements: tuple[Settlement, ...], dues: tuple[Due, ...] = ()) -> None:
        """Settle these; once that is durable, the calendar hears when they are due again."""
        reply: Forward[object] = Forward(
            lambda _: self._expect(dues), lambda error: self._not_settled(settlements, dues, error)
        )
        send(self._journal, Settle(settlements), reply)

    def _expect(self, dues: tuple[Due, ...]) -> None:
        calendar = self.stage.whereis(paths.CALENDAR)
        if dues and calendar is not None:
            calendar.tell_control(Expect(dues))

    def _not_settled(self, settlements: tuple[Settlement, ...], dues: tuple[Due, ...], error: BaseException) -> None:
        """One of them cannot be written: find it by sending them one by one; it then settles without its texts."""
        if len(settlements) > 1:
            for each in settlements:
                self._send((each,), dues)
            return
        only = settlements[0]
        _log.error("run %s could not be settled: %s", only.run_id, error, exc_info=error)
        bare = _bare(only.verdict, error)
        if bare != only.verdict:
            self._send((evolve(only, verdict=bare),), dues)

    # -- stopping

    async def on_stop(self) -> None:
        """
        Let work in hand end until the system's grace is over, then cancel it and hand it back.

        After a crash of our own there is no grace. What ignores its cancellation is left behind, its row still running.
        """
        wake = self.cell.mailbox.wake
        self.stage.on_hurry.append(wake)
        try:
            await self._drain(lambda: self.stage.stop_by_s or -math.inf)
            for actor in list(self.on_stage.values()):
                actor.stop(StopReason.INTERRUPTED)
            give_up_s = self.stage.seams.clock.mono_s() + CANCEL_BUDGET_S
            await self._drain(lambda: give_up_s)
        finally:
            self.stage.on_hurry.remove(wake)
        for run_id in self.on_stage:
            _log.error("run %s ignores its cancellation: it stays running in the store", run_id)

    async def _drain(self, until_s: Callable[[], float]) -> None:
        while True:
            self._receive_stopping()
            if not self.on_stage or self.stage.seams.clock.mono_s() >= until_s():
                return
            with trio.CancelScope(deadline=until_s()):
                await self.cell.mailbox.wait()

    def _receive_stopping(self) -> None:
        """As `receive_all`, except that nothing is started any more."""
        for message in self.cell.mailbox.take_now():
            match message:
                case StageRuns():
                    self._hand_back(message)
                case RunEnded() | StopRun():
                    self.receive(message)
        self._settle()

    def _hand_back(self, message: StageRuns) -> None:
        verdict = Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED, cause="interrupted before it started")
        for run in message.runs:
            message.slots.leave(run.run_id)
        self._send(tuple(Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict) for run in message.runs))


def _bare(verdict: Verdict, error: BaseException) -> Verdict:
    """The same verdict without anything that a store could refuse."""
    return evolve(verdict, error=None, result=None, result_error=None, cause=f"not kept: {type(error).__name__}")
