"""
A queue: owns the slots, claims what is due for the free ones, and hands it to the task supervisors.

Rule: it asks for at most what is free, one claim at a time; a wake-up carries nothing, so the loop asks what is true.
Not here: order and due times (the store's claim), retry and timeout (`task`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias, assert_never

from attrs import field, frozen

from ..actors.actor import Actor
from ..actors.batch import Write
from ..actors.cell import Cell
from ..actors.journal import send
from ..actors.ref import Ref
from ..actors.reply import Forward
from ..actors.states import CellState
from ..store.contract import Claim, ClaimedRuns
from ..store.records import Claimed, Lane
from . import paths
from .settling import Settling
from .slots import Slots
from .task import StageRuns, TaskMessage, TaskSupervisor

_log = logging.getLogger("callsheet.queue")

RETRY_S: Final = 0.25
"""Wait before a claim that failed is tried again."""

_WORKING: Final = (CellState.STARTING, CellState.RUNNING)


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
    lanes: tuple[Lane, ...]
    """What this runtime can run of it."""
    names_now: Mapping[str, str] = field(factory=dict)
    """From a name that a task had before, and that stored runs have, to that of its supervisor."""


@frozen(eq=False)
class ClaimReply(Forward[ClaimedRuns]):
    """Hands the answer to a claim to whichever incarnation of the queue lives then."""

    cell: Cell[QueueMessage]

    @property
    def is_open(self) -> bool:
        """Whether one lives: else the claim is not made, or what it brought is handed back by the journal."""
        return self.cell.state in _WORKING


class QueueActor(Actor[QueueMessage]):
    """Keeps the slots of one queue full."""

    def __init__(self, plan: QueuePlan, owner: str) -> None:
        self._plan = plan
        self._owner = owner
        self._slots = plan.slots
        self._hungry = True
        """Whether there may be something to claim."""
        self._failing_with: type[BaseException] | None = None
        """Said already; the next claim tries again, four times a second."""

    async def on_start(self) -> None:
        """Look at once; a claim that an earlier incarnation sent still comes to our mailbox."""
        self._journal: Ref[Write] = self.stage.registry[paths.JOURNAL].ref
        self._settling = Settling(self.stage, self._journal)
        self._slots.on_wake = self._wake_self
        self._slots.woken = True
        self._wake_self()

    def _wake_self(self) -> None:
        if self.cell.is_alive:  # else whoever comes after us looks first thing
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
                self._failing_with = None
                self._hand_over(runs)
            case ClaimFailed(error):
                if type(error) is not self._failing_with:
                    self._failing_with = type(error)
                    _log.warning("queue %s cannot claim: %s", self._plan.slots.queue, error)
                clock = self.stage.seams.clock
                self.stage.timers.at(clock.mono_s() + RETRY_S, self._slots.wake, owner=self.cell.path)
            case _:
                assert_never(message)

    def _claim(self) -> None:
        slots = self._slots
        if slots.reserved:
            return
        limits = slots.limits
        wanted = min(limits.batch_size, slots.free)
        lanes = self._claimable() if self._hungry and wanted > 0 and not (self.cell.stopping or slots.paused) else ()
        if not lanes:
            slots.room.pass_on(slots)
            return
        asked = slots.room.ask(slots, wanted)
        if not asked:
            return
        self._hungry = False
        slots.reserved += asked
        suspects = slots.quarantine.ask(slots.wake)
        claim_id = self.stage.seams.ids.claim_id()
        command = Claim(
            self._owner, claim_id, lanes, asked, limits.lease_us, suspects, slots.queue, limits.global_limit
        )
        reply = ClaimReply(partial(self._got, asked, suspects), partial(self._failed, asked, suspects), self.cell)
        send(self._journal, command, reply)

    def _got(self, asked: int, suspects: int, answer: ClaimedRuns) -> None:
        """Called by the journal: count what we got at once."""
        self._slots.reserved -= asked
        self._slots.quarantine.answer(suspects, answer.runs)
        for run in answer.runs:
            self._slots.on_stage[run.run_id] = None
        if len(answer.runs) < asked:
            self._slots.room.pass_on(self._slots)
        if answer.override is not None:
            self._slots.adopt(answer.override)
        self.ref.tell_control(Got(asked, answer.runs))

    def _failed(self, asked: int, suspects: int, error: BaseException) -> None:
        self._slots.reserved -= asked
        self._slots.quarantine.answer(suspects, ())
        self._slots.room.pass_on(self._slots)
        if self.cell.state in _WORKING:
            self.ref.tell_control(ClaimFailed(error))

    def _claimable(self) -> tuple[Lane, ...]:
        return tuple(lane for lane in self._plan.lanes if self._supervisor(lane.jobs, self._task_of(lane)) is not None)

    def _task_of(self, lane: Lane) -> str:
        return self._plan.names_now.get(lane.task, lane.task)

    def _supervisor(self, jobs: str, task: str) -> Ref[TaskMessage] | None:
        """Of a task; None while it starts nothing: parked, or on its way to a restart."""
        cell = self.stage.registry.get(paths.task(jobs, task))
        if cell is None or cell.state not in _WORKING:
            return None
        # one that crashed counts as working until its handlers have ended: it would hand back what we claim, at once
        return None if isinstance(cell.actor, TaskSupervisor) and cell.actor.is_closing else cell.ref

    def _hand_over(self, runs: tuple[Claimed, ...]) -> None:
        by_task: dict[tuple[str, str], list[Claimed]] = {}
        for run in runs:
            by_task.setdefault((run.lane.jobs, self._task_of(run.lane)), []).append(run)
        for (jobs, task), theirs in by_task.items():
            supervisor = self._supervisor(jobs, task)
            if supervisor is None:  # it was there when we claimed
                self._settling.hand_back(theirs, self._slots)
                continue
            supervisor.tell(StageRuns(tuple(theirs), self._slots))

    async def on_stop(self) -> None:
        """Hand back what came too late to be started; what a claim still under way brings, the journal hands back."""
        self._slots.room.pass_on(self._slots)
        for message in self.cell.mailbox.take_now():
            if isinstance(message, Got):
                self._settling.hand_back(message.runs, self._slots)
