"""
What is remembered of restarts: of one child, or of all that share a budget.

Rule: what follows is decided in `decide`; this keeps what the next decision needs to know.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from ..actors.cell import Cell
from ..actors.exits import Exit, StartFailed
from .decide import admit, is_calm, wait_s
from .spec import Backoff, Intensity


@define(eq=False)
class Record:
    """Of a child's restarts, or of those of several."""

    restarts_s: tuple[float, ...] = ()
    """When they were, within the window."""
    step: int = 0
    """Delayed ones in a row."""

    def admits(self, now_s: float, intensity: Intensity) -> bool:
        """Count one more; whether it is within `intensity`."""
        self.restarts_s, admitted = admit(self.restarts_s, now_s, intensity)
        return admitted

    def delay_s(self, backoff: Backoff | None, cell: Cell[Any], exit_: Exit) -> float:
        """How long the restart of `cell` after `exit_` waits."""
        if backoff is None:
            return 0.0
        seams = cell.stage.seams
        lived_s = 0.0 if isinstance(exit_, StartFailed) else seams.clock.mono_s() - cell.started_s
        if is_calm(backoff, lived_s, healthy=cell.healthy):
            self.step = 0
        self.step += 1
        return wait_s(backoff, self.step - 1, seams.draw())
