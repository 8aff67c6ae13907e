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
from .spec import ChildSpec, SupervisorSpec

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

    # -- Parent

    def child_exited(self, cell: Cell[Any], exit_: Exit) -> None:
        """See `Parent.child_exited`."""
        self.cell.mailbox.put_control(ChildExited(cell, cell.generation, exit_))

    # -- Actor

    async def on_start(self) -> None:
        """Start every child; when one cannot, stop those before it in reverse and raise ChildStartFailed."""
        for spec in self.spec.children:
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
            self.children[spec.name] = Child(spec, cell)
            exit_ = await cell.start()
            if exit_ is not None:
                await self._stop_all()
                raise ChildStartFailed(cell.path, exit_) from error_of(exit_)

    async def on_stop(self) -> None:
        """Stop every child, right to left."""
        await self._stop_all()

    async def receive(self, message: ChildExited) -> None:
        """One child ended."""
        child = self.children.get(message.cell.name)
        if child is None or child.cell.generation != message.generation or child.cell.state is not CellState.DOWN:
            return  # we stopped it ourselves, or have started it again since
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
            parks=self.spec.parks,
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
        if child.spec.intensity is not None or self.spec.parks:
            own = child.spec.intensity or self.spec.intensity
            child.restarts_s, admitted = admit(child.restarts_s, now_s, own)
        else:
            self._restarts_s, admitted = admit(self._restarts_s, now_s, self.spec.intensity)
        return admitted

    async def _restart(self, names: tuple[str, ...]) -> None:
        for name in reversed(names):
            await self._stop(self.children[name])
        for name in names:
            child = self.children[name]
            if child.cell.state is not CellState.DOWN:
                continue  # a zombie: its name is not used again while it lives
            exit_ = await child.cell.start()
            if exit_ is not None:  # burns one unit of intensity, as in OTP
                await self._handle(child, exit_)
                return

    def _forget(self, child: Child) -> None:
        self.children.pop(child.spec.name, None)
        child.cell.end()

    async def _stop_all(self) -> None:
        for child in reversed(list(self.children.values())):
            await self._stop(child)
            if child.cell.state is not CellState.ZOMBIE:
                child.cell.end()

    async def _stop(self, child: Child) -> None:
        cell = child.cell
        cell.request_stop()
        with trio.move_on_after(child.spec.stop_budget_s):
            await cell.wait_gone()
            return
        _log.warning("%s did not stop within %g s: cancelled", cell.path, child.spec.stop_budget_s)
        cell.kill()
        with trio.move_on_after(KILL_BUDGET_S):
            await cell.wait_gone()
            return
        cell.state = CellState.ZOMBIE
        _log.error("%s ignores cancellation: left behind as a zombie", cell.path)
