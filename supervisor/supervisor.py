"""
The actor that starts, watches, restarts and stops others.

Rule: what to do is decided in `decide`; this file does it: starting left to right, each child after the one before it
has started; stopping right to left, each within its budget.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from attrs import define, frozen

from ..actors.actor import Actor
from ..actors.cell import Cell, CellState
from ..actors.exits import Exit, error_of
from .decide import GiveUp, Leave, Park, RestartThese, admit, decide, wants_restart
from .errors import ChildStartFailed, IntensityExceeded
from .spec import ChildSpec, Restart, SupervisorSpec

_log = logging.getLogger("callsheet.supervisor")

KILL_BUDGET_S = 5.0
"""How long a cancelled child may take to end before it counts as a zombie."""


@frozen
class ChildExited:
    """An incarnation of a child ended, cleanup included."""

    cell: Cell[Any]
    generation: int
    exit: Exit


@define(eq=False)
class Child:
    """What a supervisor knows of one child."""

    spec: ChildSpec
    cell: Cell[Any]
    restarts_s: tuple[float, ...] = ()
    """When it was restarted, as far as its own intensity needs to know."""
    restarts: int = 0
    parked: Exit | None = None
    """The exit that spent its intensity, while it is parked."""


class Supervisor(Actor[ChildExited]):
    """Keeps the children of a `SupervisorSpec` alive. Ends abnormally when their intensity is spent."""

    def __init__(self, spec: SupervisorSpec) -> None:
        self.spec = spec
        self.children: dict[str, Child] = {}
        """In start order; a child that is gone for good is not among them."""
        self._restarts_s: tuple[float, ...] = ()
        self._starting = trio.CancelScope()
        """Around the start of a child."""

    # -- Parent

    def child_exited(self, cell: Cell[Any], exit_: Exit) -> None:
        """See `Parent.child_exited`."""
        if self.cell.actor is self:
            self.cell.mailbox.put_control(ChildExited(cell, cell.generation, exit_))
        else:
            cell.end()  # a zombie that outlived us: its name is free

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

    async def _add(self, spec: ChildSpec) -> None:
        cell: Cell[Any] = Cell(
            stage=self.stage,
            path=f"{self.cell.path}/{spec.name}",
            name=spec.name,
            factory=spec.make,
            parent=self,
            kind=spec.kind,
            capacity=spec.capacity,
        )
        self.stage.add(cell)
        child = self.children[spec.name] = Child(spec, cell)
        exit_ = await self._start(child)
        if exit_ is not None:
            raise ChildStartFailed(cell.path, exit_) from error_of(exit_)

    def told_to_stop(self) -> None:
        """A child that is on its way up is not waited for: it is stopped with the others, within its budget."""
        self._starting.cancel()

    async def on_stop(self) -> None:
        """Stop every child, right to left."""
        await self._stop_all()
        mailbox = self.cell.mailbox
        mailbox.put_back([each for each in mailbox.take_now() if not isinstance(each, ChildExited)])

    async def receive(self, message: ChildExited) -> None:
        """One child ended."""
        child = self.children.get(message.cell.name)
        if child is None or child.cell is not message.cell or message.generation != child.cell.generation:
            return  # of a former self of ours, or we have started it again since
        if child.cell.state is CellState.DOWN:
            await self._handle(child, message.exit)

    # -- what follows

    async def _handle(self, child: Child, exit_: Exit) -> None:
        admitted = self._admit(child) if wants_restart(child.spec.restart, exit_) else True
        decision = decide(
            child.spec,
            exit_,
            strategy=self.spec.strategy,
            order=tuple(name for name, each in self.children.items() if each.parked is None),
            admitted=admitted,
            parks=self.spec.parks or child.spec.parks,
        )
        match decision:
            case Leave():
                self._forget(child)
            case Park():
                child.parked, child.cell.parked = exit_, True
                _log.error("%s is parked: %s", child.cell.path, exit_, exc_info=error_of(exit_))
            case GiveUp():
                limit = child.spec.intensity or self.spec.intensity
                raise IntensityExceeded(
                    self.cell.path, child.cell.path, exit_, limit.restarts, limit.period_s
                ) from error_of(exit_)
            case RestartThese(names):
                _log.warning("%s is restarted: %s", child.cell.path, exit_, exc_info=error_of(exit_))
                await self._restart(names)

    def _admit(self, child: Child) -> bool:
        now_s = self.stage.seams.clock.mono_s()
        child.restarts += 1
        if child.spec.intensity is not None or child.spec.parks or self.spec.parks:
            own = child.spec.intensity or self.spec.intensity
            child.restarts_s, admitted = admit(child.restarts_s, now_s, own)
        else:
            self._restarts_s, admitted = admit(self._restarts_s, now_s, self.spec.intensity)
        return admitted

    async def _restart(self, names: tuple[str, ...]) -> None:
        children = [self.children[name] for name in names]
        for child in reversed(children):
            await self._stop(child)
        for child in children:
            if self.cell.stopping:
                return
            if child.cell.state is not CellState.DOWN:
                continue  # a zombie: its name is not used again while it lives
            if child.spec.restart is Restart.TEMPORARY:  # as in OTP: not even with others
                self._forget(child)
                continue
            exit_ = await self._start(child)
            if exit_ is not None:  # burns one unit of intensity, as in OTP
                await self._handle(child, exit_)
                return

    async def _start(self, child: Child) -> Exit | None:
        with trio.CancelScope() as self._starting:
            return await child.cell.start()
        return None

    def _forget(self, child: Child) -> None:
        self.children.pop(child.spec.name, None)
        child.cell.end()

    async def _stop_all(self) -> None:
        left = list(self.children.values())
        try:
            while left:
                await self._stop(left[-1])
                _end(left.pop())
        except trio.Cancelled:  # we are killed: so are they, all at once
            with trio.CancelScope(shield=True):
                for child in reversed(left):
                    child.cell.kill()
                while left:
                    await _wait_killed(left[-1])
                    _end(left.pop())
            raise

    async def _stop(self, child: Child) -> None:
        cell = child.cell
        cell.request_stop()
        with trio.move_on_after(child.spec.stop_budget_s):
            await cell.wait_gone()
            return
        _log.warning("%s did not stop within %g s: cancelled", cell.path, child.spec.stop_budget_s)
        cell.kill()
        await _wait_killed(child)


async def _wait_killed(child: Child) -> None:
    with trio.move_on_after(KILL_BUDGET_S):
        await child.cell.wait_gone()
        return
    child.cell.state = CellState.ZOMBIE
    _log.error("%s ignores cancellation: left behind as a zombie", child.cell.path)


def _end(child: Child) -> None:
    if child.cell.state is not CellState.ZOMBIE:
        child.cell.end()
