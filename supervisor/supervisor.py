"""
The actor that starts, watches, restarts and stops others.

Rule 1: what to do is decided in `decide`; this file does it: starting left to right, each child after the one before it
    has started; stopping right to left, each within its budget.
Rule 2: a delayed restart is a state of its child and an empty wake-up: whoever wakes asks what is due now. So nothing that
    happened meanwhile (a stop, a replacement, another crash) can be undone by a timer that was set before it.
Not here: children that come and go by the thousand (`pool`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, assert_never

import trio
from attrs import frozen

from ..actors.actor import BATCH, Actor
from ..actors.cell import Cell
from ..actors.events import (
    ChildParked,
    CouldNotStart,
    Delayed,
    Ended,
    GaveUp,
    Report,
    Then,
)
from ..actors.exits import Crashed, Exit, Shutdown, StartFailed, error_of
from ..actors.refusal import Internal, refuse_wrong
from ..actors.scheduler import Scheduler
from ..actors.states import CellState
from ..actors.timers import Timer
from .child import Child, ChildState
from .decide import Decision, GiveUp, Leave, Park, RestartThese, ShutDown, decide, wants_restart
from .errors import ChildStartFailed, IntensityExceeded
from .obliging import oblige
from .record import Record
from .requests import RemoveChild, ReplaceChild, RestartChild, StartChild, StopChild
from .spec import ChildSpec, Restart, SupervisorSpec


@frozen
class ChildExited(Internal):
    """An incarnation of a child ended, cleanup included."""

    cell: Cell[Any]
    generation: int
    exit: Exit


@frozen
class RestartsDue(Internal):
    """A restart's delay is over, perhaps."""


SupervisorMessage: TypeAlias = (
    ChildExited | RestartsDue | StartChild | StopChild | RestartChild | RemoveChild | ReplaceChild
)


AT_ONCE: Final = -math.inf
"""When a child is due that waits for its turn only: no timer is set for it, which would overtake what waits."""


class Supervisor(Actor[SupervisorMessage]):
    """Keeps the children of a `SupervisorSpec` alive. Ends abnormally when their intensity is spent."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self.spec = spec
        self.children: dict[str, Child] = {}
        """In start order; a child that is gone for good is not among them."""
        self._record = Record()
        """Of the children without a budget of their own."""
        self._starting = trio.CancelScope()
        """Around the start of a child."""
        self._timer: Timer | None = None
        """For the next delayed restart."""

    # -- Parent

    def child_exited(self, cell: Cell[Any], exit_: Exit) -> None:
        """See `Parent.child_exited`."""
        child = self.children.get(cell.name)
        if self.cell.actor is not self or child is None or child.cell is not cell:
            cell.end()  # a zombie that outlived us, or our interest in it: its name is free
        elif not child.in_hand and not isinstance(exit_, StartFailed):  # whoever starts or stops it sees that
            self.cell.mailbox.put_control(ChildExited(cell, cell.generation, exit_))

    # -- Actor

    async def on_start(self) -> None:
        """Start every child; when one cannot, stop those before it in reverse and raise ChildStartFailed."""
        try:
            for spec in self.spec.children:
                if not self.cell.stopping:
                    await self.add(spec)
        except BaseException:  # also when we are cancelled: nobody else knows our children
            await self._stop_all()
            raise

    async def run(self) -> None:
        """See `Actor.run`. While the scheduler itself waits to be restarted, nobody pumps the wheel: we look by ourselves."""
        mailbox = self.cell.mailbox
        while not self.cell.stopping:
            due_s = self._scheduler_due_s()
            if due_s == math.inf:
                await mailbox.wait()
            else:
                with trio.CancelScope(deadline=due_s):
                    await mailbox.wait()
                await self._restart_due()
            await self.receive_all(mailbox.take(BATCH))
            if len(mailbox):  # a child that fails its start again and again must not keep everybody else waiting
                await trio.lowlevel.checkpoint()

    def told_to_stop(self) -> None:
        """A child that is on its way up is not waited for: it is stopped with the others, within its budget."""
        self._starting.cancel()

    async def on_stop(self) -> None:
        """Stop every child, right to left."""
        if self._timer is not None:
            self._timer.cancel()
        await self._stop_all()
        mailbox = self.cell.mailbox
        mailbox.put_back([each for each in mailbox.take_now() if not isinstance(each, ChildExited | RestartsDue)])

    async def receive(self, message: SupervisorMessage) -> None:
        """A child ended, a delay is over, or somebody asks for something."""
        match message:
            case ChildExited(cell, generation, exit_):
                child = self.children.get(cell.name)
                # else of a former self of ours, or we have stopped or restarted it since
                if child is not None and child.cell is cell and child.is_up and generation == cell.generation:
                    await self._handle(child, exit_)
            case RestartsDue():
                await self._restart_due()
            case StartChild() | StopChild() | RestartChild() | RemoveChild() | ReplaceChild():
                await oblige(self, message)
            case _:
                refuse_wrong(self.cell, message, (StartChild, StopChild, RestartChild, RemoveChild, ReplaceChild))

    # -- what follows from an end

    async def _handle(self, child: Child, exit_: Exit, *, again: bool = False) -> Decision:
        """An incarnation of `child` ended by itself; or, `again`, it did not get up when it was restarted."""
        cell = child.cell
        decision = self._decide(child, exit_)
        delay_s = self._delay_s(child, exit_, decision.names) if isinstance(decision, RestartThese) else 0.0
        if isinstance(exit_, StartFailed):
            self.report(CouldNotStart(cell.path, cell.generation, exit_.error))
        self.report(Ended(cell.path, cell.generation, exit_, _then(decision, delay_s)))
        match decision:
            case Leave():
                self.forget(child)
            case ShutDown():
                self.forget(child)
                self.cell.leave(Shutdown("auto_shutdown"))
            case Park():
                child.state = ChildState.PARKED
                cell.park()
                self.report(ChildParked(cell.path, exit_))
            case GiveUp():
                self._give_up(child, exit_)
            case RestartThese(names) if delay_s > 0 or again:
                await self._restart_later(child, names, delay_s)
            case RestartThese(names):
                await self._restart(names)
        return decision

    def _decide(self, child: Child, exit_: Exit) -> Decision:
        return decide(
            child.spec,
            exit_,
            strategy=self.spec.strategy,
            order=tuple(
                name
                for name, each in self.children.items()
                if each.state in (ChildState.UP, ChildState.WAITING) and not each.spec.apart
            ),
            admitted=self._admit(child) if wants_restart(child.spec.restart, exit_) else True,
            parks=self.spec.parks or child.spec.parks,
            auto_shutdown=self.spec.auto_shutdown,
            significant_left=sum(
                each.spec.significant and each.state in (ChildState.UP, ChildState.WAITING)
                for each in self.children.values()
                if each is not child
            ),
        )

    def _admit(self, child: Child) -> bool:
        own = child.spec.intensity is not None or child.spec.parks or self.spec.parks
        record = child.record if own else self._record
        return record.admits(self._now_s(), child.spec.intensity or self.spec.intensity)

    def _delay_s(self, child: Child, exit_: Exit, names: Sequence[str]) -> float:
        """Its own, or what is left of theirs: those that go down together come back together."""
        now_s = self._now_s()
        waiting = [each for each in map(self.children.__getitem__, names) if each.state is ChildState.WAITING]
        own_s = child.record.delay_s(child.spec.backoff, child.cell, exit_)
        return max([own_s, *(each.due_s - now_s for each in waiting)])

    def _give_up(self, child: Child, exit_: Exit) -> None:
        limit = child.spec.intensity or self.spec.intensity
        error = IntensityExceeded(self.cell.path, child.cell.path, exit_, limit.restarts, limit.period_s)
        self.report(GaveUp(self.cell.path, error))
        self.cell.leave(Crashed(error))

    # -- restarting

    async def _restart(self, names: Sequence[str]) -> None:
        children = [self.children[name] for name in names]
        await self._take_down(children)
        held: set[str] = set()
        for child in children:
            if self.cell.stopping:
                return
            if child.spec.name in held:
                continue
            if child.cell.state is not CellState.DOWN:  # a zombie: its name is not used again while it lives
                child.state, child.due_s = ChildState.UP, math.inf
                continue
            if child.spec.restart is Restart.TEMPORARY:  # as in OTP: not even with others
                self.forget(child)
                continue
            exit_ = await self.start(child)
            if exit_ is not None:  # burns one unit of intensity, as in OTP; who is restarted with it is decided anew
                decision = await self._handle(child, exit_, again=True)
                held.update(decision.names if isinstance(decision, RestartThese) else ())

    async def _take_down(self, children: Sequence[Child]) -> None:
        for child in reversed(children):
            if child.cell.state is not CellState.DOWN:
                await child.stop()

    async def _restart_later(self, child: Child, names: Sequence[str], delay_s: float) -> None:
        """After `delay_s`, or else after what waits in our mailbox: whoever wants to end a row of failures is heard."""
        now_s = self._now_s()
        if delay_s > 0:
            self.report(Delayed(child.cell.path, delay_s, child.cell.generation + 1))
        else:
            self.cell.mailbox.put_news(RestartsDue())
        children = [self.children[name] for name in names]
        for each in children:
            each.state, each.due_s = ChildState.WAITING, now_s + delay_s if delay_s > 0 else AT_ONCE
        await self._take_down(children)
        self.set_timer()

    async def _restart_due(self) -> None:
        """Start everything whose delay is over, in start order."""
        now_s = self._now_s()
        due = [
            name for name, child in self.children.items() if child.state is ChildState.WAITING and child.due_s <= now_s
        ]
        if due and not self.cell.stopping:
            await self._restart(due)
        self.set_timer()

    def set_timer(self) -> None:
        """For the next delayed restart; again after anything that changes which one that is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [each.due_s for each in self.children.values() if each.state is ChildState.WAITING]
        due_s = min((each for each in waiting if each != AT_ONCE), default=None)
        if due_s is not None and not self.cell.stopping:
            due = RestartsDue()
            self._timer = self.stage.timers.at(due_s, lambda: self.cell.mailbox.put_control(due), owner=self.cell.path)

    def _scheduler_due_s(self) -> float:
        waiting = [each for each in self.children.values() if each.state is ChildState.WAITING]
        if any(each.spec.make is Scheduler for each in waiting):
            return min(each.due_s for each in waiting)
        return math.inf

    # -- starting and stopping one

    async def add(self, spec: ChildSpec) -> Child:
        """Start one child more. Raises NameTaken; ChildStartFailed, and then it is a child still, and down."""
        cell: Cell[Any] = Cell(
            stage=self.stage,
            path=f"{self.cell.path}/{spec.name}",
            name=spec.name,
            factory=spec.make,
            parent=self,
            kind=spec.kind,
            mail=spec.mail,
        )
        self.stage.add(cell)
        child = self.children[spec.name] = Child(spec, cell)
        exit_ = await self.start(child)
        if exit_ is not None:
            raise self.start_failed(child, exit_)
        return child

    def start_failed(self, child: Child, exit_: Exit) -> ChildStartFailed:
        """What whoever wanted `child` started is told; everybody else hears of it too."""
        error = ChildStartFailed(child.cell.path, exit_)
        self.report(CouldNotStart(child.cell.path, child.cell.generation, error_of(exit_) or error))
        return error

    async def start(self, child: Child) -> Exit | None:
        """Bring `child` up, unless we are told to stop meanwhile; the exit of one that did not get there."""
        with trio.CancelScope() as self._starting:
            return await child.start()
        return None

    async def _stop_all(self) -> None:
        left = list(self.children.values())
        try:
            while left:
                await left[-1].stop(for_good=True)
                self.forget(left.pop())
        except trio.Cancelled:  # we are killed: so are they, all at once
            with trio.CancelScope(shield=True):
                for child in reversed(left):
                    child.kill()
                while left:
                    await left[-1].wait_killed()
                    self.forget(left.pop())
            raise

    def forget(self, child: Child) -> None:
        """It is no child of ours any more."""
        self.children.pop(child.spec.name, None)
        child.end()

    def _now_s(self) -> float:
        return self.stage.seams.clock.mono_s()

    def report(self, report: Report) -> None:
        """To whoever listens."""
        self.stage.reports.publish(report)


def _then(decision: Decision, delay_s: float) -> Then:
    match decision:
        case RestartThese():
            return Then.RESTARTED_LATER if delay_s > 0 else Then.RESTARTED
        case Park():
            return Then.PARKED
        case GiveUp():
            return Then.GAVE_UP
        case Leave() | ShutDown():
            return Then.LEFT
        case _:
            assert_never(decision)
