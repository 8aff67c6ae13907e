"""
Gives their time to actors that need no task of their own.

Rule: an actor is here only while it has something to do; each gets a batch in turn, and other tasks get theirs after a
slice. An actor that must wait for something is given a task (`Cell`), and then it is not here any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import define, field

if TYPE_CHECKING:
    from .cell import Cell

SLICE_S: Final = 0.001
"""How long actors are run before other tasks get their turn."""
SLICE_PUMPS: Final = 256
"""And how many batches at most: a clock may stand still."""
LOOK_EVERY: Final = 4
"""Batches between two looks at the clock: a look costs as much as a message."""


@define(eq=False)
class Dispatcher:
    """One per stage."""

    _now_s: Callable[[], float]
    _ready: deque[Cell[Any]] = field(factory=deque, init=False)
    _task: trio.lowlevel.Task | None = field(default=None, init=False)
    """While it waits."""
    is_running: bool = field(default=False, init=False)

    def add(self, cell: Cell[Any]) -> None:
        """Give `cell` its turn, soon. Call it once until then."""
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)  # first: in a foreign thread it raises, and nothing has changed
            self._task = None
        self._ready.append(cell)

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task, whatever runs when it comes
    async def run(self) -> None:
        """For ever."""
        ready = self._ready
        while True:
            if not ready:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._leave)
            until_s, pumps = self._now_s() + SLICE_S, 0
            while ready and pumps < SLICE_PUMPS:
                pumps += 1
                ready.popleft().pump()
                if not pumps % LOOK_EVERY and self._now_s() > until_s:
                    break
            if ready:
                await trio.lowlevel.checkpoint()

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
