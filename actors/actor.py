"""
An actor: a trio task with a mailbox, and state that dies with its incarnation.

Rule: what an actor is told arrives as a message and is handled to its end before the next one.
Not here: who starts it and what follows when it ends (`callsheet.supervisor`), how its task runs (`cell`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from .cell import Cell
    from .ref import Ref
    from .stage import Stage

M = TypeVar("M")


class Actor(Generic[M]):
    """
    Base of all actors. Override `receive` (or `receive_all`, to take a whole batch), `on_start` and `on_stop`.

    A crash (anything raised from these) ends the incarnation; its supervisor decides what follows. Messages that were
    not handled yet stay in the mailbox for the next incarnation; the one in hand is dropped.
    """

    cell: Cell[M]
    """Set before `on_start`."""

    @property
    def ref(self) -> Ref[M]:
        """Our own address."""
        return self.cell.ref

    @property
    def stage(self) -> Stage:
        """Where we live: names, timers, seams."""
        return self.cell.stage

    async def on_start(self) -> None:
        """Called before the first message; the supervisor starts our next sibling when it has returned."""

    async def on_stop(self) -> None:
        """Called once at the end of every incarnation whose `on_start` returned, also after a crash."""

    def told_to_stop(self) -> None:
        """Called once when we are asked to stop, from outside our task: for whoever waits for something else than mail."""

    def receive(self, message: M) -> Awaitable[None] | None:
        """Handle one message: a plain function or a coroutine function."""
        raise NotImplementedError(f"{type(self).__name__} got {message!r} and has no receive")

    async def receive_all(self, messages: Sequence[M]) -> None:
        """Handle everything that waited, in order. The default gives it to `receive` one by one."""
        for done, message in enumerate(messages):
            if self.cell.stopping:
                self.cell.mailbox.put_back(list(messages[done:]))
                return
            try:
                waiting = self.receive(message)
                if waiting is not None:
                    await waiting
            except BaseException as error:
                self.cell.mailbox.put_back(list(messages[done + 1 :]))
                self.cell.refuse(message, error)
                raise

    async def run(self) -> None:
        """The incarnation's life between `on_start` and `on_stop`: until it is told to stop, or returns by itself."""
        mailbox = self.cell.mailbox
        while not self.cell.stopping:
            await mailbox.wait()
            messages = mailbox.take_now()
            if messages:
                await self.receive_all(messages)
            if len(mailbox):  # whoever always has a next message must not keep everybody else waiting
                await trio.lowlevel.checkpoint()
