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
from enum import StrEnum
from typing import Any, Final, TypeAlias, assert_never

import trio
from attrs import define, field, frozen

from ..actors.actor import BATCH, Actor
from ..actors.cell import Cell
from ..actors.events import (
    BecameZombie,
    ChildParked,
    CouldNotStart,
    Delayed,
    Ended,
    GaveUp,
    Report,
    Started,
    StopOverran,
    Then,
)
from ..actors.exits import Crashed, Exit, Shutdown, StartFailed, error_of, is_abnormal
from ..actors.ref import Ref
from ..actors.reply import Reply
from ..actors.scheduler import Scheduler
from ..actors.states import CellState
from ..actors.timers import Timer
from . import decide as deciding
from .decide import Decision, GiveUp, Leave, Park, RestartThese, ShutDown, admit, decide, wants_restart
from .errors import ChildIsUp, ChildStartFailed, DuplicateChild, IntensityExceeded, NotMyChild
from .requests import RemoveChild, ReplaceChild, RestartChild, StartChild, StopChild
from .spec import ChildSpec, Restart, Strategy, SupervisorSpec

KILL_BUDGET_S: Final = 5.0
"""How long a cancelled child may take to end before it counts as a zombie."""


@frozen
class ChildExited:
    """An incarnation of a child ended, cleanup included."""

    cell: Cell[Any]
    generation: int
    exit: Exit


@frozen
class RestartsDue:
    """A restart's delay is over, perhaps."""


SupervisorMessage: TypeAlias = (
    ChildExited | RestartsDue | StartChild | StopChild | RestartChild | RemoveChild | ReplaceChild
)


class ChildState(StrEnum):
    """What a supervisor wants of a child."""

    UP = "up"
    WAITING = "waiting"
    """For its delay to pass; then it is started."""
    PARKED = "parked"
    """It spent its intensity, and nobody else shall mind."""
    STOPPED = "stopped"
    """Somebody asked for that."""


@define(eq=False)
class Child:
    """What a supervisor knows of one child."""

    spec: ChildSpec
    cell: Cell[Any]
    state: ChildState = ChildState.UP
    restarts_s: tuple[float, ...] = ()
    """When it was restarted, as far as its own intensity needs to know."""
    step: int = 0
    """Delayed restarts in a row."""
    due_s: float = math.inf
    """While it waits: when it is started."""
    in_hand: bool = field(default=False, init=False)
    """We are stopping it, and see for ourselves how it ends."""

    @property
    def is_up(self) -> bool:
        """Whether an incarnation lives, or should: its end means something."""
        return self.state is ChildState.UP


class Supervisor(Actor[SupervisorMessage]):
    """Keeps the children of a `SupervisorSpec` alive. Ends abnormally when their intensity is spent."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self.spec = spec
        self.children: dict[str, Child] = {}
        """In start order; a child that is gone for good is not among them."""
        self._restarts_s: tuple[float, ...] = ()
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
                    await self._add(spec)
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
                await self._oblige(message)
            case _:
                assert_never(message)

    # -- what follows from an end

    async def _handle(self, child: Child, exit_: Exit) -> Decision:
        """An incarnation of `child` ended by itself, or did not get up."""
        cell = child.cell
        decision = self._decide(child, exit_)
        delay_s = self._delay_s(child, exit_) if isinstance(decision, RestartThese) else 0.0
        if isinstance(exit_, StartFailed):
            self._report(CouldNotStart(cell.path, cell.generation, exit_.error))
        self._report(Ended(cell.path, cell.generation, exit_, _then(decision, delay_s)))
        match decision:
            case Leave():
                self._forget(child)
            case ShutDown():
                self._forget(child)
                self.cell.leave(Shutdown("auto_shutdown"))
            case Park():
                child.state = ChildState.PARKED
                cell.park()
                self._report(ChildParked(cell.path, exit_))
            case GiveUp():
                self._give_up(child, exit_)
            case RestartThese(names) if delay_s > 0:
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
            significant_left=sum(each.spec.significant for each in self.children.values() if each is not child),
        )

    def _admit(self, child: Child) -> bool:
        now_s = self._now_s()
        if child.spec.intensity is not None or child.spec.parks or self.spec.parks:
            own = child.spec.intensity or self.spec.intensity
            child.restarts_s, admitted = admit(child.restarts_s, now_s, own)
        else:
            self._restarts_s, admitted = admit(self._restarts_s, now_s, self.spec.intensity)
        return admitted

    def _delay_s(self, child: Child, exit_: Exit) -> float:
        backoff = child.spec.backoff
        if backoff is None:
            return 0.0
        lived_s = 0.0 if isinstance(exit_, StartFailed) else self._now_s() - child.cell.started_s
        if deciding.is_calm(backoff, lived_s, healthy=child.cell.healthy):
            child.step = 0
        child.step += 1
        return deciding.wait_s(backoff, child.step - 1, self.stage.seams.draw())

    def _give_up(self, child: Child, exit_: Exit) -> None:
        limit = child.spec.intensity or self.spec.intensity
        error = IntensityExceeded(self.cell.path, child.cell.path, exit_, limit.restarts, limit.period_s)
        error.__cause__ = error_of(exit_)
        self._report(GaveUp(self.cell.path, error))
        self.cell.leave(Crashed(error))

    # -- restarting

    async def _restart(self, names: Sequence[str]) -> None:
        children = [self.children[name] for name in names]
        await self._take_down(children)
        for child in children:
            if self.cell.stopping:
                return
            if child.cell.state is not CellState.DOWN:  # a zombie: its name is not used again while it lives
                child.state, child.due_s = ChildState.UP, math.inf
                continue
            if child.spec.restart is Restart.TEMPORARY:  # as in OTP: not even with others
                self._forget(child)
                continue
            exit_ = await self._start(child)
            # burns one unit of intensity, as in OTP; who is restarted with it is decided anew
            if exit_ is not None and isinstance(await self._handle(child, exit_), RestartThese):
                return

    async def _take_down(self, children: Sequence[Child]) -> None:
        for child in reversed(children):
            if child.cell.state is not CellState.DOWN:
                await self._stop(child)

    async def _restart_later(self, child: Child, names: Sequence[str], delay_s: float) -> None:
        """Those that go down together come back together: when the longest of their delays is over."""
        due_s = self._now_s() + delay_s
        if self.spec.strategy is not Strategy.ONE_FOR_ONE and not child.spec.apart:
            waiting = [each for each in self.children.values() if each.state is ChildState.WAITING]
            due_s = max(due_s, *(each.due_s for each in waiting if not each.spec.apart), due_s)
        self._report(Delayed(child.cell.path, due_s - self._now_s(), child.cell.generation + 1))
        children = [self.children[name] for name in names]
        for each in children:
            each.state, each.due_s = ChildState.WAITING, due_s
        await self._take_down(children)
        self._set_timer()

    async def _restart_due(self) -> None:
        """Start everything whose delay is over, in start order."""
        now_s = self._now_s()
        due = [
            name for name, child in self.children.items() if child.state is ChildState.WAITING and child.due_s <= now_s
        ]
        if due and not self.cell.stopping:
            await self._restart(due)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = min((each.due_s for each in self.children.values() if each.state is ChildState.WAITING), default=None)
        if due_s is not None and not self.cell.stopping:
            self._timer = self.stage.timers.at(due_s, lambda: self.cell.mailbox.put_control(RestartsDue()))

    def _scheduler_due_s(self) -> float:
        waiting = [each for each in self.children.values() if each.state is ChildState.WAITING]
        if any(each.spec.make is Scheduler for each in waiting):
            return min(each.due_s for each in waiting)
        return math.inf

    # -- starting and stopping one

    async def _add(self, spec: ChildSpec) -> Child:
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
        exit_ = await self._start(child)
        if exit_ is not None:
            self._report(
                CouldNotStart(cell.path, cell.generation, error_of(exit_) or ChildStartFailed(cell.path, exit_))
            )
            raise ChildStartFailed(cell.path, exit_) from error_of(exit_)
        return child

    async def _start(self, child: Child) -> Exit | None:
        child.state, child.due_s = ChildState.UP, math.inf
        with trio.CancelScope() as self._starting:
            exit_ = await child.cell.start(child.spec.start_budget_s)
            if child.cell.is_alive and exit_ is not None:
                self._left_behind(child)
            elif exit_ is None:
                self._report(Started(child.cell.path, child.cell.generation))
            return exit_
        return None

    async def _stop(self, child: Child, *, for_good: bool = False) -> None:
        cell, spec = child.cell, child.spec
        if not cell.is_alive:
            return
        child.in_hand = True
        try:
            if spec.stop_budget_s > 0:
                cell.request_stop(drain=for_good and spec.drain)
                with trio.move_on_after(spec.stop_budget_s):
                    await cell.wait_gone()
                    if cell.exit is not None and is_abnormal(cell.exit):
                        self._report(StopOverran(cell.path, spec.stop_budget_s, cell.exit))
                    return
                self._report(StopOverran(cell.path, spec.stop_budget_s))
            cell.kill()
            await self._wait_killed(child)
        finally:
            child.in_hand = False

    async def _wait_killed(self, child: Child) -> None:
        with trio.move_on_after(KILL_BUDGET_S):
            await child.cell.wait_gone()
            return
        self._left_behind(child)

    def _left_behind(self, child: Child) -> None:
        child.cell.state = CellState.ZOMBIE
        self._report(BecameZombie(child.cell.path, child.cell.generation))

    async def _stop_all(self) -> None:
        left = list(self.children.values())
        try:
            while left:
                await self._stop(left[-1], for_good=True)
                self._forget(left.pop())
        except trio.Cancelled:  # we are killed: so are they, all at once
            with trio.CancelScope(shield=True):
                for child in reversed(left):
                    child.in_hand = True
                    child.cell.kill()
                while left:
                    await self._wait_killed(left[-1])
                    self._forget(left.pop())
            raise

    def _forget(self, child: Child) -> None:
        """It is no child of ours any more. A zombie keeps its name until it ends."""
        self.children.pop(child.spec.name, None)
        if child.cell.state is not CellState.ZOMBIE:
            child.cell.end()

    # -- what somebody asks for

    async def _oblige(self, request: StartChild | StopChild | RestartChild | RemoveChild | ReplaceChild) -> None:
        reply: Reply[Any] = request.reply
        try:
            reply.answer(await self._do(request))
        except Exception as error:  # noqa: BLE001 -- whoever asked is told
            reply.fail(error)

    async def _do(self, request: StartChild | StopChild | RestartChild | RemoveChild | ReplaceChild) -> Ref[Any] | None:
        match request:
            case StartChild(spec=spec):
                known = self.children.get(spec.name)
                if known is not None:
                    raise DuplicateChild(known.cell.path, _state(known))
                return await self._start_more(spec)
            case StopChild(child=which):
                await self._stop_child(self._mine(which))
            case RestartChild(child=which):
                return await self._restart_child(self._mine(which))
            case RemoveChild(child=which):
                child = self._mine(which)
                if child.is_up:
                    raise ChildIsUp(child.cell.path, _state(child))
                self._forget(child)
                self._set_timer()
            case ReplaceChild(spec=spec):
                return await self._replace(spec)
            case _:
                assert_never(request)
        return None

    def _mine(self, which: str | Ref[Any]) -> Child:
        name = which if isinstance(which, str) else which._cell.name  # noqa: SLF001 -- a Ref and its cell are one thing
        child = self.children.get(name)
        if child is None or (isinstance(which, Ref) and child.cell.ref is not which):
            told = which if isinstance(which, str) else which.path
            raise NotMyChild(self.cell.path, told, len(self.children))
        return child

    async def _start_more(self, spec: ChildSpec) -> Ref[Any]:
        try:
            return (await self._add(spec)).cell.ref
        except ChildStartFailed:
            self._forget(self.children[spec.name])
            raise

    async def _stop_child(self, child: Child) -> None:
        child.state = ChildState.STOPPED
        await self._stop(child, for_good=True)
        self._report(Ended(child.cell.path, child.cell.generation, child.cell.exit or Shutdown(), Then.STOPPED))
        if child.spec.restart is Restart.TEMPORARY:
            self._forget(child)
        self._set_timer()

    async def _restart_child(self, child: Child) -> Ref[Any]:
        if child.is_up or child.cell.state is not CellState.DOWN:
            raise ChildIsUp(child.cell.path, _state(child))
        child.restarts_s, child.step = (), 0
        exit_ = await self._start(child)
        if exit_ is not None:
            child.state = ChildState.STOPPED
            raise ChildStartFailed(child.cell.path, exit_) from error_of(exit_)
        self._set_timer()
        return child.cell.ref

    async def _replace(self, spec: ChildSpec) -> Ref[Any]:
        order = list(self.children)
        former = self.children.get(spec.name)
        if former is not None:
            former.state = ChildState.STOPPED
            await self._stop(former, for_good=True)
            self._forget(former)
        try:
            return await self._start_more(spec)
        finally:
            if former is not None and spec.name in self.children:
                self.children = {name: self.children[name] for name in order}
            self._set_timer()

    def _now_s(self) -> float:
        return self.stage.seams.clock.mono_s()

    def _report(self, report: Report) -> None:
        self.stage.reports.publish(report)


def _state(child: Child) -> str:
    return str(child.cell.state) if child.is_up else str(child.state)


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
