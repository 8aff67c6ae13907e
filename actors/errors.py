"""What one actor can be told when it reaches for another."""

from __future__ import annotations

from typing import Final

from attrs import define

from ..store.errors import CallsheetError
from .exits import Exit

MAX_NAMED: Final = 12
"""Accepted types that a WrongMessage names."""


class ActorError(CallsheetError):
    """Base of what the actor layer raises."""


@define(slots=False)
class ActorDown(ActorError):
    """The actor ended, or crashed over this very message, before it answered."""

    path: str
    exit: Exit

    def __str__(self) -> str:
        return f"actor {self.path or '/'} did not answer: {self.exit}"


@define(slots=False)
class AskTimeout(ActorError):
    """No answer within the time given; the answer, if it comes, is dropped."""

    path: str
    timeout_s: float

    def __str__(self) -> str:
        return f"actor {self.path or '/'} did not answer within {self.timeout_s:g} s"


@define(slots=False)
class AskedItself(ActorError):
    """An actor asked itself: it would wait for an answer that only it could give."""

    path: str

    def __str__(self) -> str:
        return f"actor {self.path} asked itself: it would wait for ever; tell it instead, or call the method"


@define(slots=False)
class AskedTwice(ActorError):
    """This request was asked before: it has one reply, for one wait."""

    path: str
    request: object

    def __str__(self) -> str:
        name = type(self.request).__name__
        return f"this {name} was asked before; it has one reply only: make a new {name} for {self.path}"


@define(slots=False)
class MessageDropped(ActorError):
    """The request was taken out of the mailbox without being handled. `why`: full, dropped_oldest, coalesced, restart."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"actor {self.path} dropped the request unhandled ({self.why})"


@define(slots=False)
class StartTimeout(ActorError):
    """An actor's `on_start` did not return within its budget; it was cancelled."""

    path: str
    budget_s: float

    def __str__(self) -> str:
        return (
            f"actor {self.path} did not report ready within {self.budget_s:g} s: its on_start has not returned; "
            "give it a larger start_budget_s, or begin the slow part after the start"
        )


@define(slots=False)
class MailboxFull(ActorError):
    """The mailbox has reached its capacity; the message was not taken."""

    path: str
    capacity: int

    def __str__(self) -> str:
        return f"the mailbox of {self.path} is full ({self.capacity:,} messages): the message was not taken, try again later"


@define(slots=False)
class NameTaken(ActorError):
    """An actor with this path lives already (or its zombie does)."""

    path: str

    def __str__(self) -> str:
        return f"an actor named {self.path} is alive already"


@define(slots=False)
class WrongMessage(ActorError, TypeError):
    """A supervisor was asked, or in checked mode any actor sent, what it does not take. Nothing was done."""

    path: str
    kind: type
    accepted: tuple[type, ...]

    def __str__(self) -> str:
        names = [_name(each) for each in self.accepted[:MAX_NAMED]]
        if len(self.accepted) > MAX_NAMED:
            names.append(f"{len(self.accepted) - MAX_NAMED} more")
        takes = _either(names) if names else "no messages at all"
        return f"{self.path or '/'} was sent a {_name(self.kind)}: it takes {takes}"


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
