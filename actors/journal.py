"""
The only writer of this process: makes every step durable before anybody relies on it.

Rule 1: one message, one answer, and the answer comes after the commit that holds it.
Rule 2: whatever waits when the last commit ends goes into the next one (group commit); nothing is held back to gather
    more. A batch that fails is rolled back and halved, so that a bad message fails alone.
Rule 3: what ends or cancels a run is never refused for want of room and never given up while the store may heal.
Not here: what to write (whoever sends it), how it is stored (`callsheet.store`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import trio
from attrs import define, evolve, field, frozen

from ..store.contract import (
    Answer,
    Cancel,
    Command,
    Insert,
    Inserted,
    NoteLate,
    Register,
    Renew,
    Rescue,
    Rescued,
    Settle,
    Store,
    Unregister,
)
from ..store.errors import CallsheetError, IllegalMove, MalformedCommand, OutcomeUnknown, StoreError
from ..store.records import Owner
from .actor import Actor
from .ref import Ref
from .reply import Answerable, Forward, Reply
from .writer import Writer

_log = logging.getLogger("callsheet.journal")

MAX_BATCH: Final = 2_000
"""Messages in one commit: bounds how long the last of them waits."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Payload bytes in one commit; one larger message goes alone."""
MAX_WAITING: Final = 10_000
"""Messages that may wait; beyond it new work is refused (`Overloaded`), completions and cancels are not."""
RETRY_S: Final = 0.25
"""Wait before a commit that the store refused for now (busy, full, failing) is tried again."""
CLOSE_S: Final = 5.0
"""How long after the system's grace a store that refuses is still tried; what is not written then, recovery does."""
RESCUE_PAGE: Final = 1_000
"""Runs taken back in one command, so that the first of them start while the rest are still being recovered."""
ALL: Final = 1_000_000_000
"""Our own runs are taken back with one command: no more than there are slots, and none that is claimed meanwhile."""

Kept: TypeAlias = Settle | Cancel | NoteLate | Rescue | Renew | Register | Unregister
"""Commands that wait for a store to heal instead of failing: nobody else would do them."""


class Overloaded(CallsheetError):
    """Too many messages wait for the journal already. Nothing was stored; try again later."""

    def __str__(self) -> str:
        return f"{MAX_WAITING:,} messages wait for the journal: nothing was stored, try again later"


@frozen(eq=False)
class Write:
    """Do this, durably, and tell me."""

    command: Command
    reply: Answerable[Any]
    again: bool = False
    """Whether it may have been done before: the commit that held it failed, and nobody knows with which outcome."""


Committed: TypeAlias = Callable[[Sequence[Command], Sequence[Answer]], object]
"""Called with what a commit held, after it is durable and answered."""


@define(eq=False)
class JournalState:
    """What outlives an incarnation of the journal: the store, its thread, the batch in hand."""

    store: Store
    writer: Writer
    owner: Owner
    on_committed: list[Committed] = field(factory=list)
    on_stage: Callable[[], frozenset[str]] = frozenset
    """The ids of the runs that have a live actor."""
    commits: int = 0
    in_hand: list[Write] = field(factory=list)
    """Taken from the mailbox and not answered yet; a new incarnation begins with it."""

    def give_up(self, error: Exception) -> None:
        """No incarnation will follow: whoever still waits for an answer is told."""
        left, self.in_hand = self.in_hand, []
        _fail(left, error)


class Journal(Actor[Write]):
    """Writes what it is told, in groups. See the rules of this file."""

    def __init__(self, state: JournalState) -> None:
        self._state = state
        self._refused_with: type[Exception] | None = None

    async def on_start(self) -> None:
        """Register this runtime, and take back what dead processes left running: in pages, while new work goes on."""
        state = self._state
        news = [Write(Register(state.owner), Reply())]
        if self.cell.generation > 1:  # whoever waited for a claim of the incarnation before us may be gone
            news.append(self._rescue("own"))
        if state.store.exclusive:
            news.append(self._rescue("others"))
        # first what was kept: a run whose end waits to be settled is not one that nobody runs
        left, state.in_hand = state.in_hand, []
        self.cell.mailbox.put_back([*left, *self.cell.mailbox.take_now(), *news])

    def _rescue(self, scope: Literal["own", "others"]) -> Write:
        state = self._state
        keep, limit = (state.on_stage(), ALL) if scope == "own" else (frozenset[str](), RESCUE_PAGE)
        command = Rescue(owner=state.owner.boot_id, scope=scope, limit=limit, keep=keep)
        return Write(command, Forward(partial(self._rescued, scope), self._not_rescued))

    def _rescued(self, scope: Literal["own", "others"], answer: Rescued) -> None:
        if answer.runs:
            _log.info("took back %d runs that nobody runs any more", len(answer.runs))
        if answer.more:
            self.ref.tell_control(self._rescue(scope))

    def _not_rescued(self, error: BaseException) -> None:
        _log.error("could not take back the runs that nobody runs any more", exc_info=error)

    async def receive_all(self, messages: Sequence[Write]) -> None:
        """Commit all of it, in groups of bounded size."""
        state = self._state
        most = MAX_BATCH
        self._take(messages)
        while state.in_hand:
            group = _first_group(state.in_hand, most)
            try:
                answers = await self._store_write(group)
            except Exception as error:  # noqa: BLE001 -- whoever asked is told
                if len(group) > 1 and _concerns_one(error):  # look for it in halves
                    most = len(group) // 2
                    continue
                state.in_hand[: len(group)] = kept = self._after_failure(group, error)
                if kept:
                    await trio.sleep(RETRY_S)
            else:
                most = min(MAX_BATCH, most * 2)
                del state.in_hand[: len(group)]
                self._committed(group, answers)
            if len(state.in_hand) < MAX_BATCH:  # what came meanwhile joins the next group
                self._take(self.cell.mailbox.take_now())

    def _take(self, messages: Sequence[Write]) -> None:
        """Hold them until they are answered. What is no Write crashes us once, and is not among what we hold."""
        self._state.in_hand += [each for each in messages if isinstance(each, Write)]
        for each in messages:
            if not isinstance(each, Write):
                raise TypeError(f"the journal takes a Write, not {type(each).__name__}")

    async def on_stop(self) -> None:
        """When we are told to stop: write everything that still waits, then sign off."""
        if self.cell.stopping:
            waiting = [each for each in self.cell.mailbox.take_now() if isinstance(each, Write)]
            await self.receive_all([*waiting, Write(Unregister(self._state.owner.boot_id), Reply())])

    # -- one group

    async def _store_write(self, group: list[Write]) -> list[Answer]:
        commands = [write.command for write in group]
        now = self.stage.seams.now()
        return await self._state.writer.call(lambda: self._state.store.write(commands, now))

    def _committed(self, group: list[Write], answers: list[Answer]) -> None:
        self._state.commits += 1
        self._trouble(None)
        for n, write in enumerate(group):
            if write.again:
                answers[n] = _as_first(write.command, answers[n])
            _contain(write.reply.answer, answers[n])
        for listener in self._state.on_committed:
            _contain(listener, [write.command for write in group], answers)

    def _after_failure(self, group: list[Write], error: Exception) -> list[Write]:
        """Tell whoever must know; what is returned is tried again until the store takes it."""
        if _concerns_one(error):
            _log.error("the store could not do %s", type(group[0].command).__name__, exc_info=error)
            _fail(group, error)
            return []
        self._trouble(error)
        stop_by_s = self.stage.stop_by_s
        if stop_by_s is not None and self.stage.seams.clock.mono_s() > stop_by_s + CLOSE_S:
            _log.error("%d steps could not be written before the end: %s", len(group), error)
            _fail(group, error)
            return []
        in_doubt = isinstance(error, OutcomeUnknown)
        kept: list[Write] = []
        for write in group:
            if isinstance(write.command, Kept) or (in_doubt and _may_repeat(write)):
                kept.append(evolve(write, again=write.again or in_doubt))
            else:
                _fail([write], error)
        if in_doubt:
            kept.append(self._rescue("own"))  # a claim among them may have started runs that nobody heard of
        return kept

    def _trouble(self, error: Exception | None) -> None:
        """Say when the store begins to refuse, and when it takes writes again."""
        kind = None if error is None else type(error)
        if kind is not self._refused_with:
            self._refused_with = kind
            if error is None:
                _log.info("the store takes writes again")
            else:
                _log.error("the store refuses writes, steps wait: %s", error)


def _concerns_one(error: Exception) -> bool:
    """Whether one command of the batch is to blame; else it is the store, and nothing would go through now."""
    return not isinstance(error, StoreError) or isinstance(error, IllegalMove | MalformedCommand)


def _may_repeat(write: Write) -> bool:
    """An insert says by its ids whether it was done before; once is enough, the next time its caller may decide."""
    return isinstance(write.command, Insert) and not write.again


def _as_first(command: Command, answer: Answer) -> Answer:
    """What the first try of a repeated command would have answered: a run found under its own id was stored by it."""
    if not isinstance(command, Insert) or not isinstance(answer, Inserted):
        return answer
    pairs = zip(command.runs, answer.existing, strict=True)
    return Inserted(tuple(None if found is not None and found.id == run.id else found for run, found in pairs))


def _fail(group: Sequence[Write], error: Exception) -> None:
    for write in group:
        _contain(write.reply.fail, error)


def _contain(call: Callable[..., object], *arguments: object) -> None:
    """Whoever is told of a commit cannot harm the journal."""
    try:
        call(*arguments)
    except Exception:  # noqa: BLE001 -- logged; the loop goes on
        _log.exception("%r failed over what the journal told it", call)


def _first_group(waiting: Sequence[Write], most: int) -> list[Write]:
    group: list[Write] = []
    size = 0
    for write in waiting[:most]:
        if isinstance(write.command, Insert):
            size += sum(len(run.payload) for run in write.command.runs)
        if group and size > MAX_BATCH_BYTES:
            break
        group.append(write)
    return group


async def write(journal: Ref[Write], command: Command) -> Answer:
    """
    Have the journal do `command`, and wait until it is durable.

    Cancelling the wait leaves the outcome unknown: the command may still be done. Raises Overloaded when too much waits
    already (nothing was stored then), and what the store raised.
    """
    if journal.waiting > MAX_WAITING and not isinstance(command, Kept):
        raise Overloaded
    reply: Reply[Answer] = Reply()
    send(journal, command, reply)
    return await reply.wait()


def send(journal: Ref[Write], command: Command, reply: Answerable[Any]) -> None:
    """Have the journal do `command` and tell `reply`. What ends or cancels a run goes ahead of new work."""
    tell = journal.tell_control if isinstance(command, Kept) else journal.tell
    tell(Write(command, reply))
