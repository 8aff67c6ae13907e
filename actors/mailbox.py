"""
A mailbox for one reader: take everything that waits at once.

Rule 1: putting is synchronous, hence atomic in trio, and costs no task switch; the reader is woken once per
    emptiness, not once per message.
Rule 2: the control lane (exits of children, replies the runtime itself asked for) has no capacity and is read first.
Not here: what a message means, and a memory channel: 18 times slower to drain, and 2.8 times larger.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import trio
from attrs import define, field

M = TypeVar("M")


@define(eq=False)
class Mailbox(Generic[M]):
    """First in, first out. `capacity` counts the user lane only; None is unbounded (say why where you make it)."""

    capacity: int | None = None
    _items: list[M] | None = field(default=None, init=False)
    _control: list[M] | None = field(default=None, init=False)
    _reader: trio.lowlevel.Task | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self._items or ()) + len(self._control or ())

    def put(self, message: M) -> bool:
        """Append `message`; False when the mailbox is full, and then it was not taken."""
        if self._items is None:
            self._items = [message]
        elif self.capacity is not None and len(self._items) >= self.capacity:
            return False
        else:
            self._items.append(message)
        if self._reader is not None:
            self.wake()
        return True

    def put_control(self, message: M) -> None:
        """Append `message` to the control lane."""
        if self._control is None:
            self._control = [message]
        else:
            self._control.append(message)
        if self._reader is not None:
            self.wake()

    def put_back(self, messages: list[M]) -> None:
        """Return messages that were taken and not handled to the front, in order."""
        if messages:
            self._items = messages + (self._items or [])

    def wake(self) -> None:
        """Let the reader look, whether or not something waits."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            trio.lowlevel.reschedule(reader)

    def take_now(self) -> list[M]:
        """Everything that waits, control first; empty when nothing does."""
        control, items = self._control, self._items
        self._control = self._items = None
        if control is None:
            return items or []
        return control + items if items else control

    async def wait(self) -> None:
        """Return when something waits, or after `wake`. One reader at a time; a checkpoint only when it must wait."""
        if self._items or self._control:
            return
        assert self._reader is None, "a mailbox has one reader"
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED
