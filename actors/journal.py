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
from attrs import define, field, frozen

from ..store.contract import (
    Answer,
    Cancel,
    Command,
    Insert,
    NoteLate,
    Register,
    Renew,
    Rescue,
    Rescued,
    Settle,
    Store,
    Unregister,
)
from ..store.errors import CallsheetError, StoreBusy, StoreFull
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
"""Wait before a commit that the store refused for now (busy, full) is tried again."""
RESCUE_PAGE: Final = 1_000
"""Runs taken back in one command, so that the first of them start while the rest are still being recovered."""

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


class Journal(Actor[Write]):
    """Writes what it is told, in groups. See the rules of this file."""

    def __init__(self, state: JournalState) -> None:
        self._state = state

    async def on_start(self) -> None:
        """Register this runtime, and take back what dead processes left running: in pages, while new work goes on."""
        state = self._state
        left, state.in_hand = state.in_hand, []
        self.cell.mailbox.put_back(left)
        self.ref.tell_control(Write(Register(state.owner), Reply()))
        if self.cell.generation > 1:  # whoever waited for a claim of the incarnation before us may be gone
            self._rescue_page("own")
        if state.store.exclusive:
            self._rescue_page("others")

    def _rescue_page(self, scope: Literal["own", "others"]) -> None:
        state = self._state
        keep = state.on_stage() if scope == "own" else frozenset()
        command = Rescue(owner=state.owner.boot_id, scope=scope, limit=RESCUE_PAGE, keep=keep)
        self.ref.tell_control(Write(command, Forward(partial(self._rescued, scope), self._not_rescued)))

    def _rescued(self, scope: Literal["own", "others"], answer: Rescued) -> None:
        if answer.runs:
            _log.info("took back %d runs that nobody runs any more", len(answer.runs))
        if answer.more:
            self._rescue_page(scope)

    def _not_rescued(self, error: BaseException) -> None:
        _log.error("could not take back the runs that nobody runs any more", exc_info=error)

    async def receive_all(self, messages: Sequence[Write]) -> None:
        """Commit all of it, in groups of bounded size."""
        state = self._state
        state.in_hand = list(messages)
        most = MAX_BATCH
        while state.in_hand:
            group = _first_group(state.in_hand, most)
            wait_s = 0.0
            try:
                answers = await self._store_write(group)
            except (StoreBusy, StoreFull) as error:
                state.in_hand[: len(group)] = _refuse_new_work(group, error)
                wait_s = RETRY_S if state.in_hand else 0.0
            except Exception as error:  # noqa: BLE001 -- whoever asked is told
                if len(group) > 1:  # somebody in it is bad: look for it in halves
                    most = len(group) // 2
                    continue
                del state.in_hand[:1]
                _fail(group[0], error)
            else:
                most = min(MAX_BATCH, most * 2)
                del state.in_hand[: len(group)]
                self._committed(group, answers)
            if wait_s:
                await trio.sleep(wait_s)
            # what came meanwhile joins the next group
            state.in_hand += self.cell.mailbox.take_now()

    async def on_stop(self) -> None:
        """When we are told to stop: write everything that still waits, then sign off."""
        if self.cell.stopping:
            bye = Write(Unregister(self._state.owner.boot_id), Reply())
            await self.receive_all([*self._state.in_hand, *self.cell.mailbox.take_now(), bye])

    # -- one group

    async def _store_write(self, group: list[Write]) -> list[Answer]:
        commands = [write.command for write in group]
        now = self.stage.seams.now()
        return await self._state.writer.call(lambda: self._state.store.write(commands, now))

    def _committed(self, group: list[Write], answers: list[Answer]) -> None:
        self._state.commits += 1
        for write, answer in zip(group, answers, strict=True):
            _contain(write.reply.answer, answer)
        for listener in self._state.on_committed:
            _contain(listener, [write.command for write in group], answers)


def _refuse_new_work(group: list[Write], error: Exception) -> list[Write]:
    """The store is busy or full: new work is told at once; what is returned is tried again until the store takes it."""
    kept = [write for write in group if isinstance(write.command, Kept)]
    for write in group:
        if not isinstance(write.command, Kept):
            _contain(write.reply.fail, error)
    if kept:
        _log.warning("the store refuses for now, %d steps wait: %s", len(kept), error)
    return kept


def _fail(write: Write, error: Exception) -> None:
    if not isinstance(error, CallsheetError):
        _log.error("the store could not do %s", type(write.command).__name__, exc_info=error)
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
