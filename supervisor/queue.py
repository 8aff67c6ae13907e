"""
A queue: owns the slots, claims what is due for the free ones, and hands it to the task supervisors.

Rule: it asks for at most what is free, one claim at a time; a wake-up carries nothing, so the loop asks what is true.
Not here: order and due times (the store's claim), retry and timeout (`task`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, TypeAlias, assert_never

from attrs import frozen

from ..actors.actor import Actor
from ..actors.cell import CellState
from ..actors.journal import Write, send
from ..actors.ref import Ref
from ..actors.reply import Forward, Reply
from ..store.contract import Claim, ClaimedRuns, Settle, Settlement
from ..store.records import Claimed, Lane, Move, OutcomeKind, Verdict
from . import paths
from .slots import Slots
from .task import StageRuns, TaskMessage

_log = logging.getLogger("callsheet.queue")

RETRY_S: Final = 0.25
"""Wait before a claim that failed is tried again."""

_WORKING: Final = (CellState.STARTING, CellState.RUNNING)

HAND_BACK: Final = Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED, cause="interrupted before it started")


@frozen
class Wake:
    """Something may be due, or a slot may be free. Many wakes at once are one wake."""


@frozen
class Got:
    """The answer to our claim."""

    asked: int
    runs: tuple[Claimed, ...]


@frozen
class ClaimFailed:
    """Our claim failed."""

    error: BaseException


QueueMessage: TypeAlias = Wake | Got | ClaimFailed


@frozen
class QueuePlan:
    """What a queue actor is made of."""

    slots: Slots
    batch_size: int
    """Runs per claim, at most."""
    lease_us: int
    lanes: tuple[Lane, ...]
    """What this runtime can run of it."""


class QueueActor(Actor[QueueMessage]):
    """Keeps the slots of one queue full."""

    def __init__(self, plan: QueuePlan, owner: str) -> None:
        self._plan = plan
        self._owner = owner
        self._slots = plan.slots
        self._hungry = True
        """Whether there may be something to claim."""

    async def on_start(self) -> None:
        """Look at once; a claim that an earlier incarnation sent still comes to our mailbox."""
        self._journal: Ref[Write] = self.stage.registry[paths.JOURNAL].ref
        self._slots.on_wake = self._wake_self
        self._slots.woken = True
        self._wake_self()

    def _wake_self(self) -> None:
        self.ref.tell_control(Wake())

    async def receive_all(self, messages: Sequence[QueueMessage]) -> None:
        """See the messages; then claim, if there is reason to."""
        await super().receive_all(messages)
        self._claim()

    def receive(self, message: QueueMessage) -> None:
        """See the messages."""
        match message:
            case Wake():
                self._slots.woken = False
                self._hungry = True
            case Got(asked, runs):
                # a full claim leaves more, perhaps; a short one has emptied the queue, unless a wake came since
                self._hungry = self._hungry or len(runs) == asked
                self._hand_over(runs)
            case ClaimFailed(error):
                _log.warning("queue %s could not claim: %s", self._plan.slots.queue, error)
                clock = self.stage.seams.clock
                self.stage.timers.at(clock.mono_s() + RETRY_S, self._slots.wake)
            case _:
                assert_never(message)

    def _claim(self) -> None:
        slots, plan = self._slots, self._plan
        asked = min(plan.batch_size, slots.free)
        if not self._hungry or slots.reserved or asked <= 0 or self.cell.stopping:
            return
        lanes = tuple(lane for lane in plan.lanes if self._supervisor(lane.jobs, lane.task) is not None)
        self._hungry = False
        if not lanes:
            return
        slots.reserved += asked
        command = Claim(self._owner, self.stage.seams.ids.claim_id(), lanes, asked, plan.lease_us)
        send(self._journal, command, Forward(lambda got: self._got(asked, got), lambda e: self._failed(asked, e)))

    def _got(self, asked: int, answer: ClaimedRuns) -> None:
        """Called by the journal: count what we got at once; start it, or hand it back when nobody here would."""
        self._slots.reserved -= asked
        for run in answer.runs:
            self._slots.on_stage[run.run_id] = None
        if self.cell.state in _WORKING:
            self.ref.tell_control(Got(asked, answer.runs))
        else:
            self._hand_back(answer.runs)

    def _failed(self, asked: int, error: BaseException) -> None:
        self._slots.reserved -= asked
        if self.cell.state in _WORKING:
            self.ref.tell_control(ClaimFailed(error))

    def _supervisor(self, jobs: str, task: str) -> Ref[TaskMessage] | None:
        """Of a task; None while it is down: parked, or on its way to a restart."""
        cell = self.stage.registry.get(paths.task(jobs, task))
        return None if cell is None or cell.state not in _WORKING else cell.ref

    def _hand_over(self, runs: tuple[Claimed, ...]) -> None:
        by_task: dict[tuple[str, str], list[Claimed]] = {}
        for run in runs:
            by_task.setdefault((run.lane.jobs, run.lane.task), []).append(run)
        for (jobs, task), theirs in by_task.items():
            supervisor = self._supervisor(jobs, task)
            if supervisor is None:  # it was there when we claimed
                self._hand_back(tuple(theirs))
                continue
            supervisor.tell(StageRuns(tuple(theirs), self._slots))

    async def on_stop(self) -> None:
        """Hand back what came too late to be started; a claim still under way is handed back when it is answered."""
        for message in self.cell.mailbox.take_now():
            if isinstance(message, Got):
                self._hand_back(message.runs)

    def _hand_back(self, runs: tuple[Claimed, ...]) -> None:
        if runs:
            send(self._journal, Settle(tuple(settlement(run, HAND_BACK) for run in runs)), Reply())
        for run in runs:
            self._slots.leave(run.run_id)


def settlement(run: Claimed, verdict: Verdict) -> Settlement:
    """The guarded end of the attempt that `run` was claimed for."""
    return Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict)
