"""
What the journal has in hand: which of it goes into the next commit, and what a commit that failed leaves to do.

Rule 1: pure; no store and no clock. It outlives the incarnation of the journal that took it from the mailbox.
Rule 2: what ends or cancels a run goes first, and is kept until it is written; new work is told why not, at once.
Not here: writing (`journal`), finding out what became of a commit in doubt (`doubt`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from attrs import define, evolve, field, frozen

from ..store.contract import (
    Cancel,
    Claim,
    Command,
    Insert,
    NoteLate,
    Publish,
    Register,
    Renew,
    Rescue,
    Settle,
    Settlement,
    Unregister,
)
from ..store.errors import IllegalMove, MalformedCommand, OutcomeUnknown, StoreError
from ..store.records import Claimed, Move, OutcomeKind, Verdict
from .reply import Answerable, Reply

E = TypeVar("E", bound=BaseException)

MAX_BATCH: Final = 2_000
"""Messages in one commit: bounds how long the last of them waits."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Payload bytes in one commit; one larger message goes alone."""

Kept: TypeAlias = Settle | Cancel | NoteLate | Rescue | Renew | Register | Unregister | Publish
"""Commands that wait for a store to heal instead of failing: nobody else would do them."""
KEPT: Final = frozenset(Kept.__args__)

HAND_BACK: Final = Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED, cause="interrupted before it started")


@frozen
class Doubt:
    """The commit that held a write failed, and nobody knows with which outcome."""

    error: OutcomeUnknown
    tried_us: tuple[int, ...]
    """When that was tried, on the steady clock: the time of all that it would have written."""


@frozen(eq=False)
class Write:
    """Do this, durably, and tell me."""

    command: Command
    reply: Answerable[Any]
    doubt: Doubt | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether its asker would still hear the answer, as far as that can be seen."""
        return bool(getattr(self.reply, "is_open", True))

    def fail(self, error: Exception) -> None:
        """Tell the asker; one who cannot know whether it was done before is told that."""
        self.reply.fail(own_copy(error if self.doubt is None else self.doubt.error))


@define(eq=False)
class Hand:
    """Taken from the mailbox, and not answered yet."""

    urgent: list[Write] = field(factory=list)
    """What is kept, and what is in doubt."""
    work: list[Write] = field(factory=list)
    must_rescue: bool = False
    """Whether runs of ours that nobody runs any more are to be taken back, as soon as nothing is in doubt."""
    flight: tuple[int, int] | None = None
    """How many of the first are in a commit that has begun, and at which steady time."""

    def __len__(self) -> int:
        return len(self.urgent) + len(self.work)

    @property
    def is_in_doubt(self) -> bool:
        """Whether something here may have been done already."""
        return any(write.doubt is not None for write in self.urgent)

    def take(self, writes: Iterable[Write]) -> None:
        """Hold these, behind what is held already."""
        urgent, work = self.urgent, self.work
        for write in writes:
            (urgent if type(write.command) in KEPT else work).append(write)

    def group(self, most: int, *, urgent_only: bool) -> list[Write]:
        """What goes into the next commit: at most `most` of the first; no new work while the store refuses the rest."""
        group = self.urgent[:most]
        if urgent_only and group:
            return group
        size = 0
        for write in self.work[: most - len(group)]:
            if type(write.command) is Insert:
                size += sum([len(run.payload) for run in write.command.runs])
            if group and size > MAX_BATCH_BYTES:
                break
            group.append(write)
        return group

    def drop(self, n: int) -> list[Write]:
        """Let go of the first `n`."""
        urgent = min(n, len(self.urgent))
        dropped = [*self.urgent[:urgent], *self.work[: n - urgent]]
        del self.urgent[:urgent]
        del self.work[: n - urgent]
        return dropped

    def doubt(self, n: int, error: OutcomeUnknown, tried_us: int) -> list[Write]:
        """
        Nobody knows whether the first `n` were done: keep what can be repeated or looked up; return what cannot.

        An insert says by its ids whether it was done before; once is enough, the next time its caller may decide.
        """
        kept: list[Write] = []
        told: list[Write] = []
        for write in self.drop(n):
            if type(write.command) is Rescue and write.command.scope == "own":
                self.must_rescue = True  # a claim in doubt has brought runs that this one does not know to keep
                continue
            before = () if write.doubt is None else write.doubt.tried_us
            again = evolve(write, doubt=Doubt(error, (*before, tried_us)))
            (told if before and type(write.command) is Insert else kept).append(again)
        self.urgent[:0] = kept
        return told

    def refused(self) -> list[Write]:
        """The store takes nothing for now: let go of everything that does not wait for it."""
        told = [write for write in self.urgent if type(write.command) is Insert] + self.work
        self.urgent = [write for write in self.urgent if type(write.command) is not Insert]
        self.work = []
        return told

    def unwanted(self, group: Sequence[Write]) -> list[Write]:
        """Let go of the claims among `group` whose asker is gone; not of one in doubt, which may have been done."""
        gone = [each for each in group if type(each.command) is Claim and each.doubt is None and not each.is_wanted]
        if gone:
            self.work = [each for each in self.work if each not in gone]
        return gone


def hand_back(runs: Sequence[Claimed]) -> Settle:
    """End the attempts of runs that were claimed and not started."""
    return Settle(tuple([settlement(run, HAND_BACK) for run in runs]))


def settlement(run: Claimed, verdict: Verdict, progress: bytes | None = None) -> Settlement:
    """The guarded end of the attempt that `run` was claimed for, with what it told of itself last."""
    return Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict, progress, run)


def hand_back_for_nobody(runs: Sequence[Claimed]) -> Write:
    """The same, for an asker that went while its claim was committed."""
    return Write(hand_back(runs), Reply())


def concerns_one(error: Exception) -> bool:
    """Whether one command of the batch is to blame; else it is the store, and nothing would go through now."""
    if isinstance(error, StoreError):
        return isinstance(error, IllegalMove | MalformedCommand)
    return not isinstance(error, MemoryError | OSError)


def own_copy(error: E) -> E:
    """An exception for one asker: one object that is raised in several tasks gathers the tracebacks of them all."""
    try:
        mine = copy.copy(error)
    except Exception:  # noqa: BLE001 -- a store's own class, made in its own way: better shared than lost
        return error
    mine.__cause__, mine.__traceback__ = error.__cause__, error.__traceback__
    return mine
