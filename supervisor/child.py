"""
One child, as its supervisor knows it: started and stopped within its budgets.

Rule: what follows from its end is not decided here (`decide`), only how it is brought up and down.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Final

import trio
from attrs import define, field

from ..actors.cell import Cell
from ..actors.events import BecameZombie, Report, Started, StopOverran
from ..actors.exits import Exit, is_abnormal
from ..actors.states import CellState
from .record import Record
from .spec import ChildSpec

KILL_BUDGET_S: Final = 5.0
"""How long a cancelled child may take to end before it counts as a zombie."""


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
    record: Record = field(factory=Record)
    due_s: float = math.inf
    """While it waits: when it is started."""
    in_hand: bool = field(default=False, init=False)
    """We are stopping it, and see for ourselves how it ends."""

    @property
    def is_up(self) -> bool:
        """Whether an incarnation lives, or should: its end means something."""
        return self.state is ChildState.UP

    @property
    def shown(self) -> str:
        """Its state, for a sentence."""
        return str(self.cell.state if self.is_up or self.cell.state is CellState.ZOMBIE else self.state)

    async def start(self) -> Exit | None:
        """Start an incarnation, within its budget; the exit of one that did not get up."""
        self.state, self.due_s = ChildState.UP, math.inf
        exit_ = await self.cell.start(self.spec.start_budget_s)
        if exit_ is None:
            self._report(Started(self.cell.path, self.cell.generation))
        elif self.cell.is_alive:
            self._leave_behind()
        return exit_

    async def stop(self, *, for_good: bool = False) -> None:
        """Stop the incarnation, if there is one: ask it, cancel it when its budget is spent, leave it behind after that."""
        cell, budget_s = self.cell, self.spec.stop_budget_s
        if not cell.is_alive:
            return
        self.in_hand = True
        try:
            if budget_s > 0:
                cell.request_stop(drain=for_good and self.spec.drain)
                with trio.move_on_after(budget_s):
                    await cell.wait_gone()
                    if cell.exit is not None and is_abnormal(cell.exit):
                        self._report(StopOverran(cell.path, budget_s, cell.exit))
                    return
                self._report(StopOverran(cell.path, budget_s))
            cell.kill()
            await self.wait_killed()
        finally:
            self.in_hand = False

    def kill(self) -> None:
        """Cancel it where it stands; whoever does that waits for its end."""
        self.in_hand = True
        self.cell.kill()

    async def wait_killed(self) -> None:
        """Return when it is gone, or left behind."""
        with trio.move_on_after(KILL_BUDGET_S):
            await self.cell.wait_gone()
        if self.cell.is_alive:  # else it ended in the very moment that its time was over
            self._leave_behind()

    def _leave_behind(self) -> None:
        self.cell.leave_behind()
        self._report(BecameZombie(self.cell.path, self.cell.generation))

    def end(self) -> None:
        """No incarnation will follow. A zombie keeps its name until it ends."""
        if self.cell.state is not CellState.ZOMBIE:
            self.cell.end()

    def _report(self, report: Report) -> None:
        self.cell.stage.reports.publish(report)
