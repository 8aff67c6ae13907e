"""
Where a logical actor is in its life, and what it knows of whoever started it.

Rule: the parent is a protocol: nothing in the actor layer knows a supervisor.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from .exits import Exit

if TYPE_CHECKING:
    from .cell import Cell


class CellState(StrEnum):
    """Where a logical actor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    DOWN = "down"
    """Between two incarnations, or parked."""
    ZOMBIE = "zombie"
    """It ignored cancellation, and its supervisor went on without it."""
    ENDED = "ended"


class Parent(Protocol):
    """What a cell knows of whoever started it."""

    def child_exited(self, cell: Cell[Any], exit_: Exit) -> None:
        """An incarnation ended, cleanup included. Synchronous; must not raise."""
