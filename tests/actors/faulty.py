"""
A store that fails on purpose: it wraps any other, and does with each write what the next entry of its plan says.

An entry is called in the middle of a write and may raise, or kill somebody; with the plan used up, all goes well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from callsheet.store.contract import Answer, Command, Reader, Store
from callsheet.store.records import Now, Owner


class Dead(BaseException):
    """What no part of the program expects: the incarnation that meets it dies."""


@define(eq=False)
class Fault:
    """`before`: called before anything is written; `after`: called when it is durable, and not answered."""

    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


def raising(error: BaseException) -> Callable[[], object]:
    """A call that raises a new error like this one."""

    def call() -> None:
        raise type(error)(*error.args)

    return call


@define(eq=False)
class FaultyStore:
    """See the head of this file."""

    inner: Store
    plan: list[Fault] = field(factory=list)
    is_poison: Callable[[Command], bool] = lambda _command: False
    poison: Exception = field(factory=lambda: ValueError("a command that cannot be stored"))
    refuses: Exception | None = None
    """While it is set, nothing is written."""
    batches: list[list[Command]] = field(factory=list)
    """Everything that was tried."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        self.batches.append(list(commands))
        if self.refuses is not None:
            raise self.refuses
        if any(self.is_poison(command) for command in commands):
            raise self.poison
        fault = self.plan.pop(0) if self.plan else Fault()
        fault.before()
        answers = self.inner.write(commands, now)
        fault.after()
        return answers

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def exclusive(self) -> bool:
        return self.inner.exclusive

    def open(self, owner: Owner) -> None:
        self.inner.open(owner)

    def changed(self) -> bool:
        return self.inner.changed()

    def idle(self) -> None:
        self.inner.idle()

    def reader(self) -> Reader:
        return self.inner.reader()

    def close(self) -> None:
        self.inner.close()
