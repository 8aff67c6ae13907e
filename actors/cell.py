"""
A logical actor: what stays the same while its incarnations come and go.

Rule 1: a child's exception never reaches the nursery; it becomes an Exit, and the parent is told after all cleanup.
Rule 2: the parent is a protocol (`Parent`); this file knows no supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import trio
from attrs import define, field

from .actor import Actor
from .cancellation import is_cancellation
from .errors import ActorDown
from .exits import Crashed, Exit, Killed, Normal, Shutdown, StartFailed
from .mailbox import Mailbox
from .ref import Ref
from .reply import reply_of

if TYPE_CHECKING:
    from .stage import Stage

M = TypeVar("M")


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


@define(eq=False)
class Cell(Generic[M]):
    """One logical actor: path, mailbox, and at most one living incarnation."""

    stage: Stage
    path: str
    """`/tasks/app/background/deliver-webhook`: unique while it lives."""
    name: str
    """What its siblings are told apart by; it may contain "/"."""
    factory: Callable[[], Actor[M]]
    parent: Parent
    kind: str = "actor"
    """For whoever looks at the tree: supervisor, task, queue, ..."""
    capacity: int | None = None
    mailbox: Mailbox[M] = field(init=False)
    ref: Ref[M] = field(init=False)
    state: CellState = field(default=CellState.DOWN, init=False)
    generation: int = field(default=0, init=False)
    """Counts incarnations."""
    actor: Actor[M] | None = field(default=None, init=False)
    stopping: bool = field(default=False, init=False)
    exit: Exit | None = field(default=None, init=False)
    """Of the last incarnation that ended."""
    parked: bool = field(default=False, init=False)
    """Its supervisor gave up on it; what is sent to it waits."""
    _scope: trio.CancelScope = field(init=False)
    _killed: bool = field(default=False, init=False)
    _settled: trio.Event = field(init=False)
    """Set when the incarnation has started, or failed to."""
    _gone: trio.Event = field(init=False)
    """Set when the incarnation has ended, cleanup included."""

    def __attrs_post_init__(self) -> None:
        self.mailbox = Mailbox(self.capacity)
        self.ref = Ref(self)

    # -- what a supervisor does with it

    async def start(self) -> Exit | None:
        """Begin an incarnation and wait until its `on_start` returned: None, or the exit of one that did not get there."""
        assert self.state is CellState.DOWN, f"{self.path} is {self.state}"
        self.generation += 1
        self.state, self.stopping, self._killed, self.exit = CellState.STARTING, False, False, None
        self._scope, self._settled, self._gone = trio.CancelScope(), trio.Event(), trio.Event()
        self.stage.spawn(self._live, self.path)
        await self._settled.wait()
        return self.exit

    def request_stop(self) -> None:
        """Ask it to stop: it handles the message in hand, runs `on_stop`, and ends. Twice does nothing."""
        if self.state in (CellState.STARTING, CellState.RUNNING):
            self.state, self.stopping = CellState.STOPPING, True
            self.mailbox.wake()
            if self.actor is not None:
                self.actor.told_to_stop()

    def kill(self) -> None:
        """Cancel it where it stands."""
        if self.state is not CellState.DOWN:
            self._killed = True
            self._scope.cancel()

    async def wait_gone(self) -> None:
        """Return when the incarnation has ended; at once when there is none."""
        if self.state is not CellState.DOWN:
            await self._gone.wait()

    def end(self) -> None:
        """No incarnation will follow: the name is free, every waiting request fails."""
        self.state = CellState.ENDED
        self.stage.registry.pop(self.path, None)
        for message in self.mailbox.take_now():
            self.refuse(message)

    def refuse(self, message: object, error: BaseException | None = None) -> None:
        """This message is handled by nobody, or died with us by `error`: tell its asker; without one, count it."""
        reply = reply_of(message)
        if reply is None:
            if error is None:
                self.stage.count_undelivered(self.path, message)
            return
        failure = ActorDown(self.path, Crashed(error) if error is not None else self.exit or Shutdown())
        failure.__cause__ = error
        reply.fail(failure)

    # -- the incarnation's task

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task, whatever runs when it comes
    async def _live(self) -> None:
        exit_: Exit = Killed()
        try:
            with self._scope:
                exit_ = await self._incarnation()
        finally:  # also when a scope around us was cancelled: the bookkeeping is synchronous
            if self._killed:
                exit_ = Killed()
            self.actor, self.exit, self.state = None, exit_, CellState.DOWN
            self._gone.set()
            self._settled.set()
            self.parent.child_exited(self, exit_)

    async def _incarnation(self) -> Exit:
        try:
            actor = self.factory()
            actor.cell = self
            self.actor = actor
            await actor.on_start()
        except BaseException as error:
            if is_cancellation(error):
                raise
            return StartFailed(error)  # its supervisor judges it
        if not self.stopping:
            self.state = CellState.RUNNING
        self._settled.set()
        exit_: Exit = Normal()
        try:
            await actor.run()
            if self.stopping:
                exit_ = Shutdown()
        except BaseException as error:
            if is_cancellation(error):
                await self._clean_up(actor)
                raise
            exit_ = Crashed(error)  # its supervisor judges it
        return await self._clean_up(actor) or exit_

    async def _clean_up(self, actor: Actor[M]) -> Exit | None:
        try:
            await actor.on_stop()
        except BaseException as error:
            if is_cancellation(error):
                raise
            return Crashed(error)  # its supervisor judges it
        return None
