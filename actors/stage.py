"""
Where actors live: one flat nursery, the names, the timers, the seams.

Rule: the tree of supervisors is data; the tasks all hang in one nursery, so that a host that is cancelled does not
stop every actor at once and in no order.
Not here: opening and closing it (`callsheet.supervisor.system`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import define, field

from .cell import Cell
from .errors import NameTaken
from .ref import Ref
from .seams import Seams
from .timers import Timers


@define(eq=False)
class Stage:
    """One per system; nothing is global."""

    nursery: trio.Nursery
    seams: Seams
    timers: Timers = field(factory=Timers)
    registry: dict[str, Cell[Any]] = field(factory=dict)
    undelivered: Counter[str] = field(factory=Counter)
    """How many messages came too late, by the path they were sent to."""
    stop_by_s: float | None = None
    """Once the system stops: when work in hand must have ended, on `Clock.mono_s`."""
    on_hurry: list[Callable[[], object]] = field(factory=list)
    """Called when `stop_by_s` was set or moved."""

    def hurry(self) -> None:
        """Tell whoever waits for work in hand that `stop_by_s` is new."""
        for call in self.on_hurry:
            call()

    def spawn(self, main: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task in the flat nursery. `main` must not raise."""
        self.nursery.start_soon(main, name=name)

    def add(self, cell: Cell[Any]) -> None:
        """Register a new logical actor. Raises NameTaken."""
        if cell.path in self.registry:
            raise NameTaken(cell.path)
        self.registry[cell.path] = cell

    def whereis(self, path: str) -> Ref[Any] | None:
        """The address of the actor with this path, if there is one."""
        cell = self.registry.get(path)
        return cell.ref if cell is not None else None

    def count_undelivered(self, path: str, _message: object) -> None:
        """A message that nobody will handle."""
        self.undelivered[path] += 1
