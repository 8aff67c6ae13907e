"""
The slot that a request carries: answered once, failed once, or closed by whoever stopped waiting.

Rule: an answer never goes through the asker's mailbox, so it can neither be lost in a queue nor wait behind one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import trio
from attrs import define, field, frozen

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)

_NOTHING: Final[Any] = object()


class Answerable(Protocol[R_contra]):
    """Where an answer goes: a Reply somebody waits for, or a Forward into a mailbox."""

    def answer(self, value: R_contra) -> None:
        """Give the answer. A second one is dropped."""

    def fail(self, error: BaseException) -> None:
        """Say that there will be none, and why."""


@define(eq=False)
class Reply(Generic[R]):
    """One answer for one waiting task."""

    _value: R = field(default=_NOTHING, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _waiter: trio.lowlevel.Task | None = field(default=None, init=False)
    is_open: bool = field(default=True, init=False)
    """Whether an answer would still reach somebody."""
    on_late: Callable[[R], object] | None = field(default=None, init=False)
    """Called with an answer that comes when whoever asked has stopped waiting."""

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for it."""
        return self._waiter is not None

    def answer(self, value: R) -> None:
        """See `Answerable.answer`."""
        if self.is_open:
            self._value = value
            self._settle()
        elif self.on_late is not None:
            on_late, self.on_late = self.on_late, None
            on_late(value)

    def fail(self, error: BaseException) -> None:
        """See `Answerable.fail`."""
        if self.is_open:
            self._error = error
            self._settle()

    def _settle(self) -> None:
        self.is_open = False
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)

    async def wait(self) -> R:
        """The answer, or what it failed with. Cancelling the wait closes the slot. Always a checkpoint."""
        if self.is_open:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        else:
            await trio.lowlevel.checkpoint()
        return self.value

    @property
    def value(self) -> R:
        """Once it is not open any more: the answer. Raises what it was failed with."""
        if self._error is not None:
            raise self._error
        return self._value

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._waiter, self.is_open = None, False
        return trio.lowlevel.Abort.SUCCEEDED


@frozen(eq=False)
class Forward(Generic[R]):
    """Hands the answer (or the failure) on as a call, synchronously: usually a `tell` to the asker."""

    on_answer: Callable[[R], object]
    on_fail: Callable[[BaseException], object]

    def answer(self, value: R) -> None:
        """See `Answerable.answer`."""
        self.on_answer(value)

    def fail(self, error: BaseException) -> None:
        """See `Answerable.fail`."""
        self.on_fail(error)


@frozen(eq=False, kw_only=True)
class Request(Generic[R_co]):
    """Base of messages that want an answer of type R: the receiver calls `message.reply.answer(value)`, once, any time."""

    reply: Reply[R_co] = field(factory=Reply, repr=False)


def reply_of(message: object) -> Answerable[object] | None:
    """Where an answer to `message` would go, if it wants one: its `reply`, unless that is something of the user's own."""
    try:
        reply = getattr(message, "reply", None)
    except Exception:  # noqa: BLE001 -- a stranger's property, and nothing of ours
        return None
    return reply if isinstance(reply, Reply | Forward) else None
