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
from attrs import define, frozen

from ..actors.actor import Actor
from ..actors.cell import Cell
from ..actors.run import STUCK_AFTER_S, RunActor, StopReason
from ..actors.stage import Stage
from ..store.policy import RetryPolicy
from ..store.records import Claimed, Outcome
from . import paths
from .settling import RunEnded, Settling
from .slots import Slots

_log = logging.getLogger("callsheet.task")

CANCEL_BUDGET_S: Final = 5.0
"""How long a cancelled handler may take to end before a stopping runtime goes on without it."""


@frozen
class StageRuns:
    """Start these: they were claimed for us, and hold slots."""

    runs: tuple[Claimed, ...]
    slots: Slots


TaskMessage: TypeAlias = StageRuns | RunEnded


@frozen
class TaskPlan:
    """What a task supervisor is made of."""

    jobs: str
    task: str
    policy: RetryPolicy
    perform: Callable[[RunActor], Awaitable[object]]
    """Decodes the payload and calls the handler."""
    stuck_after_s: float = STUCK_AFTER_S
    on_up: Callable[[], object] = lambda: None
    """Called when an incarnation is ready: what waits for it may be claimed."""


@define(eq=False)
class Place:
    """
    What stands between a run and its supervisor: its slot is freed, and its end is written, whichever incarnation hears of
    it, and when none does.
    """

    cell: Cell[TaskMessage]
    slots: Slots
    settling: Settling

    def run_ended(self, actor: RunActor, outcome: Outcome) -> None:
        """See `RunParent.run_ended`."""
        self.slots.leave(actor.claimed.run_id)
        ended = RunEnded(actor, outcome)
        if self.cell.actor is None:
            self.settling.settle([ended])
        else:
            self.cell.ref.tell_control(ended)

    def run_stuck(self, actor: RunActor) -> None:
        """See `RunParent.run_stuck`."""
        self.settling.note_stuck(actor)


class TaskSupervisor(Actor[TaskMessage]):
    """Puts claimed runs on stage and settles how they end."""

    def __init__(self, plan: TaskPlan) -> None:
        self._plan = plan
        self.on_stage: dict[str, RunActor] = {}
        self.is_closing = False
        """Whether it stages nothing any more, while the handlers it has come to their ends."""
        self._ended: list[RunEnded] = []

    async def on_start(self) -> None:
        """Find the journal; have the queues look at what waits for us."""
        self._settling = Settling(self.stage, self.stage.registry[paths.JOURNAL].ref)
        self._plan.on_up()

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
                self.stage.run_in_context(self._start, runs, slots)  # entered once, not for each of them
            case _:
                assert_never(message)

    def _start(self, runs: tuple[Claimed, ...], slots: Slots) -> None:
        plan, place = self._plan, Place(self.cell, slots, self._settling)
        for n, run in enumerate(runs):
            if slots.canceled and run.run_id in slots.canceled:
                slots.leave(run.run_id)
                continue
            actor = RunActor(run, plan.perform, plan.policy, self.stage, place, plan.stuck_after_s)
            try:
                actor.start()
            except BaseException:  # we crash; nobody else knows those that are left
                self._settling.hand_back(runs[n:], slots)
                raise
            self.on_stage[run.run_id] = slots.on_stage[run.run_id] = actor

    def _settle(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            for each in ended:
                self.on_stage.pop(each.actor.claimed.run_id, None)
            self._settling.settle(ended)

    # -- stopping

    async def on_stop(self) -> None:
        """
        Let work in hand end until the system's grace is over, then cancel it and hand it back.

        After a crash of our own there is no grace. What ignores its cancellation is left behind, its row still running.
        """
        self.is_closing = True
        wake = self.cell.mailbox.wake
        self.stage.on_hurry.append(wake)
        try:
            await self._drain(lambda: -math.inf if self.stage.stop_by_s is None else self.stage.stop_by_s)
        finally:  # also when we are killed: then nobody waits for them here, and `Place` hears of their ends
            self.stage.on_hurry.remove(wake)
            for actor in list(self.on_stage.values()):
                actor.stop(StopReason.INTERRUPTED)
        give_up_s = self.stage.seams.clock.mono_s() + CANCEL_BUDGET_S
        try:
            await self._drain(lambda: give_up_s)
        finally:
            self._receive_stopping()
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
                case StageRuns(runs, slots):
                    self._settling.hand_back(runs, slots)
                case RunEnded():
                    self._ended.append(message)
        self._settle()


def hand_back_undelivered(stage: Stage, message: object, _why: object = None) -> None:
    """
    What becomes of a message that no incarnation of a task supervisor will handle: it is parked, or has ended.

    Runs that were to be staged and have no actor wait again at once; ends are settled. Anything else is none of ours.
    """
    journal = stage.whereis(paths.JOURNAL)
    if journal is None:
        _log.error("%s came after the end of the journal: the next open takes its runs back", type(message).__name__)
        return
    settling = Settling(stage, journal)
    match message:
        case StageRuns(runs, slots):
            waiting = [run for run in runs if slots.on_stage.get(run.run_id, slots) is None]
            settling.hand_back(waiting, slots)
        case RunEnded():
            settling.settle([message])
        case _:
            pass
