"""
The only writer of this process: makes every step durable before anybody relies on it.

Rule 1: one message, one answer, and the answer comes after the commit that holds it.
Rule 2: whatever waits when the last commit ends goes into the next one (group commit); nothing is held back to gather
    more. A batch that fails is rolled back and halved, so that a bad message fails alone.
Rule 3: what ends or cancels a run is never refused for want of room and never given up while the store may heal.
Rule 4: it may be killed anywhere: what it has in hand is in `JournalState`, which is given to every incarnation.
Not here: what to write (whoever sends it), what goes into a batch (`batch`), how it is stored (`callsheet.store`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal, TypeAlias

import trio
from attrs import define, field, frozen

from ..store.contract import Answer, ClaimedRuns, Command, Publish, Register, Rescue, Rescued, Store, Unregister
from ..store.errors import CallsheetError, OutcomeUnknown
from ..store.records import Now, Owner, Published
from .actor import Actor
from .batch import KEPT, MAX_BATCH, Hand, Write, concerns_one, hand_back_for_nobody
from .doubt import write_in_doubt
from .ref import Ref
from .reply import Answerable, Forward, Reply
from .timers import Timer
from .writer import Writer

_log = logging.getLogger("callsheet.journal")

MAX_WAITING: Final = 10_000
"""Messages that may wait; beyond it new work is refused (`Overloaded`), completions and cancels are not."""
RETRY_S: Final = 0.25
"""Wait before a commit that the store refused for now (busy, full, failing) is tried again."""
LOOK_S: Final = 0.25
"""Between two looks at whether others wrote to the same store: bounds how late their work is seen."""
SEEN_EVERY_S: Final = 15.0
"""How often a runtime says that it is still there, where others can see it."""
CLOSE_S: Final = 5.0
"""How long after the system's grace a store that refuses is still tried; what is not written then, recovery does."""
RESCUE_PAGE: Final = 1_000
"""Runs taken back in one command, so that the first of them start while the rest are still being recovered."""
ALL: Final = 1_000_000_000
"""Our own runs are taken back with one command: no more than there are slots, and none that is claimed meanwhile."""


class Overloaded(CallsheetError):
    """Too many messages wait for the journal already. Nothing was stored; try again later."""

    def __str__(self) -> str:
        return f"{MAX_WAITING:,} messages wait for the journal: nothing was stored, try again later"


class AskerGone(CallsheetError):
    """Nobody is left to start what a claim brings: it was not made, or handed back at once."""

    def __str__(self) -> str:
        return "whoever asked for these runs is gone: they wait for somebody else"


Committed: TypeAlias = Callable[[Sequence[Command], Sequence[Answer]], object]
"""Called with what a commit held, after it is durable and answered."""


@define(eq=False)
class JournalState:
    """What outlives an incarnation of the journal: the store, its thread, the batch in hand."""

    store: Store
    writer: Writer
    owner: Owner
    works: bool = True
    """Whether this process runs what is in the store: it registers, and takes back what dead ones left running."""
    has_neighbours: bool = False
    """Whether others may write to the store, so that it is worth looking."""
    published: tuple[Published, ...] = ()
    """What is said in the store of what this process runs."""
    introduced: trio.Event = field(factory=trio.Event)
    """Set once that was said, or could not be."""
    on_committed: list[Committed] = field(factory=list)
    on_neighbours: list[Callable[[], object]] = field(factory=list)
    """Called when others have written, as soon as that is seen."""
    on_neighbours_seldom: list[Callable[[], object]] = field(factory=list)
    """Called when others have written, at most once in `LOOK_S`: for what costs a read for each that waits."""
    on_stage: Callable[[], frozenset[str]] = frozenset
    """The ids of the runs that have a live actor."""
    commits: int = 0
    committed_us: int = 0
    """When the last commit was made, on the steady clock: the time of all that it wrote."""
    incarnations: int = 0
    hand: Hand = field(factory=Hand)
    trouble: Exception | None = None
    """What the store refused the last commit with (`StoreBusy`, `StoreFull`, ...), until it takes one again."""
    look: Timer | None = None
    """When the next look at what others wrote is due."""
    seen_s: float = -math.inf
    """When we last said that we are there."""
    told_s: float = -math.inf
    """When those were last told that are told seldom."""
    untold: bool = False
    """Whether there is something to tell them."""

    def give_up(self, error: Exception) -> None:
        """No incarnation will follow: whoever still waits for an answer is told."""
        self.land()
        left = self.hand.drop(len(self.hand))
        _fail(left, error)

    def land(self) -> None:
        """An incarnation died while a commit was under way: nobody knows with which outcome."""
        if self.hand.flight is not None:
            n, tried_us = self.hand.flight
            self.hand.flight = None
            error = OutcomeUnknown(self.store.name, "the journal died over it")
            _fail(self.hand.doubt(n, error, tried_us), error)


@frozen
class LookAround:
    """Others may have written."""

    may_be_lost: ClassVar[bool] = True
    """At the end: whoever opens the store next looks by itself."""


JournalMessage: TypeAlias = Write | LookAround


class Journal(Actor[JournalMessage]):
    """Writes what it is told, in groups. See the rules of this file."""

    def __init__(self, state: JournalState) -> None:
        self._state = state
        self._must_look = False

    @property
    def trouble(self) -> Exception | None:
        """What the store refused the last commit with, until it takes one again."""
        return self._state.trouble

    async def on_start(self) -> None:
        """Register this runtime, and take back what dead processes left running: in pages, while new work goes on."""
        state = self._state
        state.incarnations += 1
        state.land()
        news = [Write(Register(state.owner), Reply())] if state.works else []
        if state.published:
            news.append(Write(Publish(state.published), Forward(self._introduced, self._introduced)))
        else:
            state.introduced.set()
        state.seen_s = self.stage.seams.clock.mono_s()
        if state.incarnations > 1:  # whoever waited for a claim of the incarnation before us may be gone
            state.hand.must_rescue = True
        if state.store.exclusive and state.works:
            news.append(self._rescue("others"))
        self._look_later()
        # first what is in hand and what waits: a run whose end waits to be settled is not one that nobody runs
        self.cell.mailbox.put_back([*self.cell.mailbox.take_now(), *news])

    def _introduced(self, _answer: object) -> None:
        self._state.introduced.set()

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

    async def receive_all(self, messages: Sequence[JournalMessage]) -> None:
        """Commit all of it, in groups of bounded size; look around when it is time."""
        hand, most = self._state.hand, MAX_BATCH
        self._take(messages)
        while hand:
            await trio.lowlevel.checkpoint_if_cancelled()  # whoever kills us does not wait until nothing waits
            if hand.must_rescue and not hand.is_in_doubt:
                hand.must_rescue = False
                hand.take([self._rescue("own")])
            group = hand.group(most, urgent_only=self._state.trouble is not None)
            if unwanted := hand.unwanted(group):
                _fail(unwanted, AskerGone())
                continue
            try:
                answers = await self._commit(group)
            except Exception as error:  # noqa: BLE001 -- whoever asked is told
                if not (len(group) > 1 and concerns_one(error)):
                    if not await self._go_on_after(group, error):
                        return
                else:
                    most = len(group) // 2  # look for it in halves
            else:
                most = min(MAX_BATCH, most * 2)
                self._committed(group, answers)
            self._take_more()
            if self._must_look:  # there may be no quiet moment for long
                await self._look_around()
        if self._must_look:
            await self._look_around()

    def _take(self, messages: Sequence[JournalMessage]) -> None:
        """Hold them until they are answered. What is no Write crashes us once, and is not among what we hold."""
        self._state.hand.take([each for each in messages if isinstance(each, Write)])
        for each in messages:
            if isinstance(each, LookAround):
                self._must_look = True
            elif not isinstance(each, Write):
                raise TypeError(f"the journal takes a Write, not {type(each).__name__}")

    def _take_more(self) -> None:
        """What came meanwhile: new work only while there is room, and not once we are told to stop."""
        mailbox = self.cell.mailbox
        messages = mailbox.take_now()
        if messages and (self.cell.stopping or len(self._state.hand.work) >= MAX_BATCH):
            mailbox.put_back([each for each in messages if not _goes_ahead(each)])
            messages = [each for each in messages if _goes_ahead(each)]
        if messages:
            self._take(messages)

    async def on_stop(self) -> None:
        """When we are told to stop: write everything that waits by now, then sign off."""
        if self._state.look is not None:
            self._state.look.cancel()
        if self.cell.stopping:
            waiting = [each for each in self.cell.mailbox.take_now() if isinstance(each, Write)]
            if self._state.works:
                waiting.append(Write(Unregister(self._state.owner.boot_id), Reply()))
            await self.receive_all(waiting)

    # -- others that write

    def _look_later(self) -> None:
        state = self._state
        if state.look is not None:
            state.look.cancel()  # of an incarnation before us
        if state.has_neighbours:
            when_s = self.stage.seams.clock.mono_s() + LOOK_S
            state.look = self.stage.timers.at(when_s, lambda: self.ref.tell_control(LookAround()), owner=self.cell.path)

    async def _look_around(self) -> None:
        """Whoever waits for what others do is told; in a quiet moment the store may tidy up."""
        state, self._must_look = self._state, False
        if self.cell.stopping:
            return
        try:
            changed = await state.writer.call(partial(_look, state.store, quiet=not state.hand))
        except Exception as error:  # noqa: BLE001 -- the next look may do better; a store that refuses is shown elsewhere
            _log.debug("could not look at the store: %s", error)
            changed = False
        now_s = self.stage.seams.clock.mono_s()
        if changed:
            state.untold = True
            for listener in state.on_neighbours:
                _contain(listener)
        if state.untold and now_s - state.told_s >= LOOK_S:
            state.told_s, state.untold = now_s, False
            for listener in state.on_neighbours_seldom:
                _contain(listener)
        if self.cell.stopping:
            return
        self._look_later()
        if state.works and now_s - state.seen_s >= SEEN_EVERY_S:
            state.seen_s = now_s
            self.ref.tell_control(Write(Register(state.owner), Reply()))

    # -- one group

    async def _commit(self, group: list[Write]) -> list[Answer]:
        state, now = self._state, self.stage.seams.now()
        state.hand.flight = len(group), now.steady_us
        return await state.writer.call(partial(_write, state, group, now))

    def _committed(self, group: list[Write], answers: list[Answer]) -> None:
        """No checkpoint between the commit and the last answer: a kill finds all of it told, or nothing of it done."""
        state = self._state
        state.commits += 1
        state.hand.drop(len(group))
        assert state.hand.flight is not None
        state.committed_us, state.hand.flight = state.hand.flight[1], None
        self._trouble(None)
        for write, answer in zip(group, answers, strict=True):
            if type(answer) is ClaimedRuns and not write.is_wanted:
                if answer.runs:
                    state.hand.take([hand_back_for_nobody(answer.runs)])
                _contain(write.reply.fail, AskerGone())
            else:
                _contain(write.reply.answer, answer)
        commands = [write.command for write in group]
        for listener in state.on_committed:
            _contain(listener, commands, answers)

    async def _go_on_after(self, group: list[Write], error: Exception) -> bool:
        """Tell whoever must know; what is kept is tried again until the store takes it. False: by the next incarnation."""
        hand = self._state.hand
        flight, hand.flight = hand.flight, None
        assert flight is not None
        if concerns_one(error):
            _log.error("the store could not do %s", type(group[0].command).__name__, exc_info=error)
            for write in hand.drop(len(group)):
                _contain(write.reply.fail if write.doubt is None else write.fail, error)
            return True
        self._trouble(error)
        stop_by_s = self.stage.stop_by_s
        if stop_by_s is not None and self.stage.seams.clock.mono_s() > stop_by_s + CLOSE_S:
            _log.error("%d steps could not be written before the end: %s", len(hand), error)
            _fail(hand.drop(len(hand)), error)
            return True
        if isinstance(error, OutcomeUnknown):  # nothing of the rest was tried: it waits until we know
            _fail(hand.doubt(len(group), error, flight[1]), error)
        else:
            _fail(hand.refused(), error)
        if hand.urgent:
            if self.cell.stopping and stop_by_s is None:  # only we are restarted: that must not wait for the store
                return False
            await self.stage.waits.sleep(RETRY_S, owner=self.cell.path)
        return True

    def _trouble(self, error: Exception | None) -> None:
        """Show and say when the store begins to refuse, and when it takes writes again."""
        before, self._state.trouble = self._state.trouble, error
        if type(before) is not type(error):
            if error is None:
                _log.info("the store takes writes again")
            else:
                _log.error("the store refuses writes, steps wait: %s", error)


def _write(state: JournalState, group: Sequence[Write], now: Now) -> list[Answer]:
    """In the writer's thread."""
    if any(write.doubt is not None for write in group):
        return write_in_doubt(state.store, state.owner, group, now)
    return state.store.write([write.command for write in group], now)


def _look(store: Store, *, quiet: bool) -> bool:
    """In the writer's thread."""
    if quiet:
        store.idle()
    return store.changed()


def _goes_ahead(message: object) -> bool:
    """Whether room is made for it, always: it ends or cancels something, or takes none."""
    return isinstance(message, LookAround) or (isinstance(message, Write) and type(message.command) in KEPT)


def _fail(writes: Sequence[Write], error: Exception) -> None:
    for write in writes:
        _contain(write.fail, error)


def _contain(call: Callable[..., object], *arguments: object) -> None:
    """Whoever is told of a commit cannot harm the journal."""
    try:
        call(*arguments)
    except BaseException:  # noqa: BLE001 -- a plain call: nothing here is a cancellation of ours; logged
        _log.exception("%r failed over what the journal told it", call)


async def write(journal: Ref[Write], command: Command) -> Answer:
    """
    Have the journal do `command`, and wait until it is durable.

    Cancelling the wait leaves the outcome unknown: the command may still be done. Raises Overloaded when too much waits
    already (nothing was stored then), and what the store raised.
    """
    if journal.waiting > MAX_WAITING and type(command) not in KEPT:
        raise Overloaded
    reply: Reply[Answer] = Reply()
    send(journal, command, reply)
    return await reply.wait()


def send(journal: Ref[Write], command: Command, reply: Answerable[Any]) -> None:
    """Have the journal do `command` and tell `reply`. What ends or cancels a run goes ahead of new work."""
    tell = journal.tell_control if type(command) in KEPT else journal.tell
    tell(Write(command, reply))
