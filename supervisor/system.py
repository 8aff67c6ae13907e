"""
A system of actors inside a host's own nursery: opened and closed like any other block.

Rule 1: the tasks of the actors hang in one nursery inside a shielded scope, so that a host that is cancelled still
    stops them in reverse order, each within its budget. The shield is bounded: it falls when the budgets are spent.
Rule 2: the host's body stands outside the shield; it is cancelled by the host as ever, and by us when the root gives up.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field

from ..actors.cell import Cell
from ..actors.exits import Exit, Shutdown, StartFailed, error_of
from ..actors.seams import Seams
from ..actors.stage import Stage
from .errors import SupervisionError
from .spec import SupervisorSpec
from .supervisor import Supervisor

_log = logging.getLogger("callsheet.system")


@define(slots=False)
class SystemGaveUp(SupervisionError):
    """The root supervisor gave up, so the host's body was cancelled. The chain of causes follows."""

    exit: Exit

    def __str__(self) -> str:
        return f"the actor system gave up: {self.exit}"


@define(eq=False)
class ActorSystem:
    """One tree of actors. Made by `open_system`."""

    seams: Seams
    grace_s: float
    """How long work in hand may go on once the system stops."""
    stage: Stage = field(init=False)
    root: Cell[Any] = field(init=False)
    _body: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _stop: trio.Event = field(factory=trio.Event, init=False)
    _started: trio.Event = field(factory=trio.Event, init=False)
    _ended: Exit | None = field(default=None, init=False)

    def request_stop(self, *, grace_s: float | None = None) -> None:
        """Begin to stop, with `grace_s` (default: the system's) for work in hand. Again: the earlier end counts."""
        by_s = self.seams.clock.mono_s() + (self.grace_s if grace_s is None else grace_s)
        self.stage.stop_by_s = min(by_s, self.stage.stop_by_s if self.stage.stop_by_s is not None else math.inf)
        self.stage.hurry()
        self._stop.set()

    def cancel_body(self) -> None:
        """Cancel the block that opened the system: what leaving it does, follows."""
        self._body.cancel()

    # -- Parent of the root

    def child_exited(self, _cell: Cell[Any], exit_: Exit) -> None:
        """See `Parent.child_exited`."""
        self._ended = exit_
        if not self._stop.is_set():
            self._body.cancel()
            self._stop.set()

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task
    async def _serve(
        self,
        spec: SupervisorSpec,
        prepare: Callable[[ActorSystem], object],
        task_status: trio.TaskStatus[None],
    ) -> None:
        with trio.CancelScope(shield=True) as shield:
            async with trio.open_nursery() as nursery:
                self.stage = Stage(nursery, self.seams)
                self.root = Cell(
                    stage=self.stage,
                    path="",
                    name="root",
                    factory=lambda: Supervisor(spec),
                    parent=self,
                    kind="supervisor",
                )
                self.stage.add(self.root)
                prepare(self)
                task_status.started()
                nursery.start_soon(self._obey_stop)
                await self.root.start()
                self._started.set()
                await self._stop.wait()
                await self.root.wait_gone()
                self.root.end()
                # Whoever still lives ignored its stop budget and its cancellation. We can only wait for it; the
                # host's own cancellation shall reach it too, now that there is no order left to keep.
                shield.shield = False
                nursery.cancel_scope.cancel()

    async def _obey_stop(self) -> None:
        await self._stop.wait()
        self.root.request_stop()


@asynccontextmanager
async def open_system(
    spec: SupervisorSpec,
    *,
    seams: Seams | None = None,
    grace_s: float = 8.0,
    prepare: Callable[[ActorSystem], object] = lambda _system: None,
) -> AsyncIterator[ActorSystem]:
    """
    Run the tree of `spec` while the block runs.

    grace_s: seconds that work in hand may take once the block is left, before it is cancelled. prepare: called with the
    system before its first actor starts.

    Leaving the block (normally, by an exception, or cancelled) stops the tree in reverse order. What the body raised
    comes out as it was, never wrapped in a group. Raises what the first child that could not start raised; SystemGaveUp
    when the root gave up (the body is cancelled then).
    """
    system = ActorSystem(seams or Seams.real(), grace_s)
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as outer:
            await outer.start(system._serve, spec, prepare)  # noqa: SLF001 -- one thing in two halves
            try:
                await system._started.wait()  # noqa: SLF001
                if isinstance(system._ended, StartFailed):  # noqa: SLF001
                    _raise_start_failure(system._ended)  # noqa: SLF001
                with system._body:  # noqa: SLF001
                    yield system
            except BaseException as error:  # noqa: BLE001 -- raised below: the nursery would wrap it, and copy groups
                raised = error
            finally:
                system.request_stop()
    except BaseException as error:  # noqa: BLE001 -- all but a cancellation is raised, and that follows below
        own = error if isinstance(raised, trio.Cancelled | None) else _without_cancelled(error)
        if own is not None:
            raise _single(own) from raised
    if raised is not None:
        _raise_as_it_was(raised)
    ended = system._ended  # noqa: SLF001
    if ended is not None and not isinstance(ended, Shutdown):
        raise SystemGaveUp(ended) from error_of(ended)


def _raise_start_failure(exit_: StartFailed) -> None:
    """The first cause is what the user can act on: a port in use, a file held."""
    error: BaseException = exit_.error
    while isinstance(error, SupervisionError) and error.__cause__ is not None:
        error = error.__cause__
    raise error


def _raise_as_it_was(error: BaseException) -> None:
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


def _without_cancelled(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def _single(error: BaseException) -> BaseException:
    """The one exception in groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
