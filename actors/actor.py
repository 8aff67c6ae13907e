"""
An actor: state behind a mailbox, that dies with its incarnation.

Rule: what an actor is told arrives as a message and is handled to its end before the next one.
Not here: who starts it and what follows when it ends (`callsheet.supervisor`), how it gets its time (`cell`, `dispatcher`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import trio

from .alarms import Alarms, Tick
from .watch import Monitor

if TYPE_CHECKING:
    from .cell import Cell
    from .ref import Ref
    from .stage import Stage

M = TypeVar("M")

BATCH: Final = 64
"""Messages handled before others get their turn."""
SLICE_S: Final = 0.001
"""And how long it may take: after that, what is left of a batch waits for the next turn."""
LOOK_EVERY: Final = 8
"""Messages between two looks at the clock: a look costs as much as a message."""


class Actor(Generic[M]):
    """
    Base of all actors. Override `receive`, and where needed `on_start` and `on_stop`: plain functions or coroutine
    functions. An actor whose functions are all plain needs no task of its own: a million of them cost their state only.

    A crash (anything raised from these) ends the incarnation; its supervisor decides what follows. Messages that were
    not handled yet stay in the mailbox for the next incarnation; the one in hand is dropped.
    """

    cell: Cell[M]
    """Set before `on_start`."""
    is_plain: ClassVar[bool] = True
    """Whether it lives by `receive` alone, so that it needs a task only once something must be awaited."""
    takes_all: ClassVar[bool] = False
    """Whether it takes everything that waits at once."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.takes_all = cls.receive_all is not Actor.receive_all
        cls.is_plain = cls.run is Actor.run and not cls.takes_all

    # -- to override

    def on_start(self) -> Awaitable[None] | None:
        """Called before the first message; the supervisor starts our next sibling when it is done."""

    def on_stop(self) -> Awaitable[None] | None:
        """Called once at the end of every incarnation whose `on_start` returned, also after a crash."""

    def told_to_stop(self) -> None:
        """Called once when we are asked to stop, from outside our task: for whoever waits for something else than mail."""

    def receive(self, message: M) -> Awaitable[None] | None:
        """Handle one message."""
        raise NotImplementedError(f"{type(self).__name__} got {message!r} and has no receive")

    async def receive_all(self, messages: Sequence[M]) -> None:
        """Handle these, in order. The default gives them to `receive` one by one, as long as nothing more urgent waits."""
        cell, receive, done = self.cell, self.receive, 0
        mailbox, now_s = cell.mailbox, cell.stage.seams.clock.mono_s
        until_s = now_s() + SLICE_S if len(messages) >= LOOK_EVERY else 0.0
        try:
            for message in messages:
                done += 1
                waiting = receive(message) if type(message) is not Tick else cell.ring(message)
                if waiting is not None:
                    await waiting
                if mailbox.urgent or (not done % LOOK_EVERY and now_s() > until_s):
                    break
        except BaseException as error:
            mailbox.put_back(list(messages[done:]))
            cell.crashed_over(messages[done - 1], error)
            raise
        if done < len(messages):
            mailbox.put_back(list(messages[done:]))

    async def run(self) -> None:
        """The incarnation's life between `on_start` and `on_stop`: until it is told to stop, or returns by itself."""
        cell, mailbox = self.cell, self.cell.mailbox
        if not len(mailbox):
            cell.is_drained()
        while not cell.stopping:
            if not mailbox.has_mail:
                await mailbox.wait()
            messages = cell.opened(mailbox.take_now()) if self.takes_all else mailbox.take(BATCH)
            if messages:
                await self.receive_all(messages)
            if mailbox.has_mail:  # whoever always has a next message must not keep everybody else waiting
                await trio.lowlevel.checkpoint()
            else:
                cell.is_drained()

    # -- to use

    @property
    def ref(self) -> Ref[M]:
        """Our own address."""
        return self.cell.ref

    @property
    def stage(self) -> Stage:
        """Where we live: names, timers, seams."""
        return self.cell.stage

    @property
    def alarms(self) -> Alarms[M]:
        """Messages to ourselves, later: `after`, `every`, `cancel`. They end with the incarnation."""
        return self.cell.alarms

    def monitor(self, ref: Ref[Any], *, incarnation: bool = False) -> Monitor:
        """
        Be told what becomes of another actor: `Restarted` as often as it is, `Down` once, as messages to `receive`.

        incarnation: be told `Down` when its present incarnation ends, and no more. Of an actor that has ended, `Down` comes
        at once. Several monitors of one actor are independent. They end with our incarnation: make them in `on_start`.
        """
        return self.cell.monitor(ref, incarnation=incarnation)

    def healthy(self) -> None:
        """We are well: the next delayed restart begins with the shortest delay again."""
        self.cell.healthy = True

    def leave(self) -> None:
        """End normally, after the message in hand."""
        self.cell.leave()
