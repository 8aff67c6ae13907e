"""
The address of an actor: all that one actor holds of another.

Rule: a Ref names the logical actor, so it stays good across restarts.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio
from attrs import define

from .errors import AskedItself, AskedTwice, AskTimeout, MailboxFull, WrongMessage
from .exits import Exit
from .kinds import NUMBER
from .reply import Reply, Request
from .undelivered import Why

if TYPE_CHECKING:
    from .cell import Cell

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")


@define(eq=False, repr=False)  # not frozen: that costs a quarter of a microsecond each, and there are as many as actors
class Ref(Generic[M_contra]):
    """Where to send messages of type M. One that takes `A | B` goes where one that takes `A` is wanted."""

    _cell: Cell[M_contra]

    def __repr__(self) -> str:
        return f"Ref({self.path!r})"

    @property
    def path(self) -> str:
        """The actor's name, from the root: `/tasks/app.background/deliver-webhook`."""
        return self._cell.path

    @property
    def waiting(self) -> int:
        """How many messages wait in its mailbox."""
        return len(self._cell.mailbox)

    @property
    def is_alive(self) -> bool:
        """Whether an incarnation of it lives now, or is about to: False between two, while parked, and after the end."""
        return self._cell.is_alive

    def tell(self, message: M_contra) -> None:
        """
        Put `message` into the mailbox and go on; it is handled later, after what was put there before.

        Raises MailboxFull when a bounded mailbox rejects it, WrongMessage in checked mode. To an actor that has ended, or
        that is drained before it ends, the message is counted as undelivered (a Request fails at once).
        """
        cell = self._cell
        if cell.closed:
            cell.refuse(message, _why_closed(cell))
            return
        if cell.accepts is not None:
            check(cell.path, cell.accepts, message)
        if not cell.mailbox.put(message):
            raise MailboxFull(cell.path, cell.mail.capacity or 0)

    def tell_control(self, message: M_contra) -> None:
        """As `tell`, ahead of the user lane and outside its capacity: for the runtime's own news."""
        if self._cell.closed:
            self._cell.refuse(message, _why_closed(self._cell))
        else:
            self._cell.mailbox.put_control(message)

    async def send(self, message: M_contra) -> None:
        """
        As `tell`, but wait while a bounded mailbox is full, as long as it takes; whoever waits longest is let in first.

        A restart of the actor goes unnoticed. Cancelling leaves the message unsent. Raises ActorDown when the actor ends
        (or has ended), WrongMessage in checked mode.
        """
        cell = self._cell
        if cell.closed:
            raise cell.down()
        check(cell.path, cell.accepts, message)
        await cell.mailbox.send(message)

    async def ask(self, request: Request[R], *, timeout: float) -> R:
        """
        Send `request` and wait for its answer, at most `timeout` seconds (0 … ; `math.inf` waits for ever).

        Raises AskTimeout; ActorDown when the actor crashes over it or ends; MailboxFull; AskedItself; or what the actor
        failed it with. A request is asked once: AskedTwice.
        """
        if not isinstance(timeout, NUMBER) or not timeout >= 0:
            raise ValueError(f"timeout must be 0 or more seconds, not {timeout!r}")
        try:
            cell, reply = self._cell, request.reply
        except AttributeError:
            raise TypeError(
                f"{self.path} was asked a {type(request).__name__}, which is no Request: tell it instead"
            ) from None
        if cell.task is not None and cell.task is trio.lowlevel.current_task():
            raise AskedItself(cell.path)
        if cell.is_idle:
            await trio.lowlevel.checkpoint()
        if reply.is_awaited or not reply.is_open:
            raise AskedTwice(cell.path, request)
        asks = cell.asks
        asks[reply] = None  # before it is handled: an actor may keep it, and end in the same moment
        try:
            if cell.is_idle:  # it has no task and nothing to do: its turn is now, which saves two passes of the loop
                check(cell.path, cell.accepts, request)
                cell.handle_now(request)
                if not reply.is_open:
                    return reply.value
            elif cell.shelved:
                raise cell.down()  # nobody knows when it comes back
            else:
                self.tell(request)  # type: ignore[arg-type]  # a Request[R] that the actor takes is one of its messages
            return await self._wait(reply, timeout)
        finally:
            asks.pop(reply, None)

    async def _wait(self, reply: Reply[R], timeout: float) -> R:
        cell = self._cell
        timer = None
        if timeout != math.inf:
            stage = cell.stage
            timer = stage.timers.at(stage.seams.clock.mono_s() + timeout, partial(_expire, reply, cell.path, timeout))
        try:
            return await reply.wait()
        except (AskTimeout, trio.Cancelled):
            reply.on_late = partial(cell.stage.undelivered.count, cell.path, why=Why.LATE_REPLY)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def stopped(self) -> Exit:
        """
        Wait until the actor has ended for good, its name released; return how. At once when it has; for any number of tasks.

        A restart is no end. Whoever watches from inside an actor uses `Actor.monitor` instead.
        """
        return await self._cell.wait_ended()


def _expire(reply: Reply[R], path: str, timeout: float) -> None:
    reply.fail(AskTimeout(path, timeout))


def _why_closed(cell: Cell[Any]) -> Why:
    if cell.state == "ended":
        return Why.ENDED
    return Why.PARKED if cell.parked else Why.STOPPING


def check(path: str, accepts: tuple[type, ...] | None, message: object) -> None:
    """Raise WrongMessage unless the actor at `path` takes `message`; None takes everything."""
    if accepts is not None and not isinstance(message, accepts):
        raise WrongMessage(path, type(message), accepts)
