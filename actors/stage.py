"""
Where actors live: one flat nursery, the names, the timers, the seams.

Rule: the tree of supervisors is data; the tasks all hang in one nursery, so that a host that is cancelled does not
stop every actor at once and in no order.
Not here: opening and closing it (`callsheet.supervisor.system`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, ParamSpec, TypeVar

import trio
from attrs import define, field

from .cell import Cell
from .dispatcher import Dispatcher
from .errors import NameTaken
from .events import Reports
from .ref import Ref
from .seams import Seams
from .timers import Timers
from .undelivered import Undelivered
from .waits import Waits

P = ParamSpec("P")
R = TypeVar("R")


@define(eq=False)
class Stage:
    """One per system; nothing is global."""

    nursery: trio.Nursery
    seams: Seams
    checked: bool = False
    """Whether messages are compared with what their actor declares."""
    timers: Timers = field(factory=Timers)
    waits: Waits = field(init=False)
    """How its tasks wait for a time."""
    registry: dict[str, Cell[Any]] = field(factory=dict)
    reports: Reports = field(factory=Reports)
    dispatcher: Dispatcher = field(init=False)
    _context: Context = field(factory=copy_context, init=False)
    _is_entered: bool = field(default=False, init=False)
    undelivered: Undelivered = field(init=False)
    on_fatal: Callable[[BaseException], object] = lambda _error: None
    """Called with a SystemExit or KeyboardInterrupt that an actor ended with."""
    stop_by_s: float | None = None
    """Once the system stops: when work in hand must have ended, on `Clock.mono_s`."""
    on_hurry: list[Callable[[], object]] = field(factory=list)
    """Called when `stop_by_s` was set or moved."""

    def __attrs_post_init__(self) -> None:
        self.waits = Waits(self.timers, self.seams.clock)
        self.dispatcher = Dispatcher(self.seams.clock.mono_s)
        self.undelivered = Undelivered(self.seams.clock.mono_s)

    def hurry(self) -> None:
        """Tell whoever waits for work in hand that `stop_by_s` is new."""
        for call in self.on_hurry:
            call()

    def spawn(self, main: Callable[..., Coroutine[Any, Any, None]], name: str, *arguments: object) -> None:
        """Start a task in the flat nursery. `main` must not raise."""
        if self._is_entered:
            self.nursery.start_soon(main, *arguments, name=name)
        else:
            self.run_in_context(self.nursery.start_soon, main, *arguments, name=name)

    def dispatch(self, cell: Cell[Any]) -> None:
        """Give an actor without a task its turn."""
        if not self.dispatcher.is_running:
            self.spawn(self.dispatcher.run, "dispatcher")
            self.dispatcher.is_running = True
        self.dispatcher.add(cell)

    @trio.lowlevel.enable_ki_protection  # whoever calls may be the main task
    def run_in_context(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it with the context variables that the system was opened with, not those of whoever is running."""
        if self._is_entered:  # a context is entered once at a time; this is a call from inside such a call
            return call(*args, **kwargs)
        self._is_entered = True
        try:
            return self._context.run(call, *args, **kwargs)
        finally:
            self._is_entered = False

    def add(self, cell: Cell[Any]) -> None:
        """Register a new logical actor. Raises NameTaken."""
        if self.registry.setdefault(cell.path, cell) is not cell:
            raise NameTaken(cell.path)

    def whereis(self, path: str) -> Ref[Any] | None:
        """The address of the actor with this path, if there is one."""
        cell = self.registry.get(path)
        return cell.ref if cell is not None else None
