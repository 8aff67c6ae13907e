"""What one actor can be told when it reaches for another."""

from __future__ import annotations

from attrs import define

from ..store.errors import CallsheetError
from .exits import Exit


class ActorError(CallsheetError):
    """Base of what the actor layer raises."""


@define(slots=False)
class ActorDown(ActorError):
    """The actor ended, or crashed over this very message, before it answered."""

    path: str
    exit: Exit

    def __str__(self) -> str:
        return f"actor {self.path} did not answer: {self.exit}"


@define(slots=False)
class AskTimeout(ActorError):
    """No answer within the time given; the answer, if it comes, is dropped."""

    path: str
    timeout_s: float

    def __str__(self) -> str:
        return f"actor {self.path} did not answer within {self.timeout_s:g} s"


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
