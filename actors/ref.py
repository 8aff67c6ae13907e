"""
The address of an actor: all that one actor holds of another.

Rule: a Ref names the logical actor, so it stays good across restarts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

from .errors import AskTimeout, MailboxFull
from .reply import Request

if TYPE_CHECKING:
    from .cell import Cell

M = TypeVar("M")
R = TypeVar("R")


@frozen(eq=False)
class Ref(Generic[M]):
    """Where to send messages of type M."""

    _cell: Cell[M]

    @property
    def path(self) -> str:
        """The actor's name, from the root: `/tasks/app.background/deliver-webhook`."""
        return self._cell.path

    @property
    def waiting(self) -> int:
        """How many messages wait in its mailbox."""
        return len(self._cell.mailbox)

    def tell(self, message: M) -> None:
        """
        Put `message` into the mailbox and go on; it is handled later, after what was put there before.

        Raises MailboxFull when a bounded mailbox is full. To an actor that ended for good, the message is counted as
        undelivered (a Request fails at once).
        """
        cell = self._cell
        if cell.state == "ended":
            cell.refuse(message)
        elif not cell.mailbox.put(message):
            assert cell.capacity is not None, "an unbounded mailbox takes everything"
            raise MailboxFull(cell.path, cell.capacity)

    def tell_control(self, message: M) -> None:
        """As `tell`, ahead of the user lane and outside its capacity: for the runtime's own news."""
        if self._cell.state == "ended":
            self._cell.refuse(message)
        else:
            self._cell.mailbox.put_control(message)

    async def ask(self, request: Request[R], *, timeout: float) -> R:
        """
        Send `request` and wait for its answer, at most `timeout` seconds.

        Raises AskTimeout; ActorDown when the actor crashes over it or ends; MailboxFull; or what the actor failed it with.
        """
        cell = self._cell
        self.tell(request)  # type: ignore[arg-type]  # a Request[R] that the actor takes is one of its messages
        timers = cell.stage.timers
        expired = AskTimeout(cell.path, timeout)
        timer = timers.at(cell.stage.seams.clock.mono_s() + timeout, lambda: request.reply.fail(expired))
        try:
            return await request.reply.wait()
        finally:
            timer.cancel()
