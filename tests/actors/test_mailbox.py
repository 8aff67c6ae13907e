"""What a mailbox promises whoever sends and whoever reads."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import pytest
import trio
import trio.testing
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from callsheet.actors.errors import MailboxFull
from callsheet.actors.exits import Normal
from callsheet.actors.mailbox import Mail, Mailbox, Overflow
from callsheet.actors.undelivered import Why
from callsheet.actors.watch import Down, Monitor

from .world import Ask, Hanging, Recorder, open_world, settle


def test_messages_come_in_the_order_they_were_sent() -> None:
    """A mailbox is first in, first out, and gives everything that waits at once."""
    mailbox: Mailbox[int] = Mailbox()

    for n in range(5):
        assert mailbox.put(n)

    assert 5 == len(mailbox)
    assert [0, 1, 2, 3, 4] == mailbox.take_now()
    assert [] == mailbox.take_now()
    assert 0 == len(mailbox)


def test_control_messages_are_read_first() -> None:
    """What the runtime itself has to say overtakes what users sent, in its own order."""
    mailbox: Mailbox[str] = Mailbox()

    mailbox.put("a")
    mailbox.put_control("x")
    mailbox.put("b")
    mailbox.put_control("y")

    assert ["x", "y", "a", "b"] == mailbox.take_now()


def test_messages_that_are_put_back_come_first_again() -> None:
    """What was taken and not handled keeps its place before what came later."""
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.put(2)
    taken = mailbox.take_now()
    mailbox.put(3)

    mailbox.put_back(taken)

    assert [1, 2, 3] == mailbox.take_now()


def test_a_full_mailbox_refuses_one_more_but_no_control_message() -> None:
    """Capacity bounds what users send; a refused message is not taken; news of the runtime always is."""
    mailbox: Mailbox[int] = Mailbox(Mail(capacity=2))
    mailbox.put(1)
    mailbox.put(2)

    taken = mailbox.put(3)
    mailbox.put_control(4)

    assert False is taken
    assert [4, 1, 2] == mailbox.take_now()
    assert mailbox.put(5)


async def test_a_reader_waits_without_a_message_and_wakes_once_for_many(autojump_clock: trio.abc.Clock) -> None:
    """One wake-up brings everything that was put before the reader ran."""
    mailbox: Mailbox[int] = Mailbox()
    batches: list[list[int]] = []

    async def read() -> None:
        await mailbox.wait()
        batches.append(mailbox.take_now())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await settle()
        assert [] == batches
        for n in range(3):
            mailbox.put(n)

    assert [[0, 1, 2]] == batches


async def test_a_reader_that_was_cancelled_takes_nothing_with_it(autojump_clock: trio.abc.Clock) -> None:
    """After a cancelled wait nothing is lost, and the next wait works."""
    mailbox: Mailbox[int] = Mailbox()
    with trio.move_on_after(1) as scope:
        await mailbox.wait()
    assert scope.cancelled_caught

    mailbox.put(1)
    await mailbox.wait()

    assert [1] == mailbox.take_now()


async def test_a_wake_lets_the_reader_look_although_nothing_waits(autojump_clock: trio.abc.Clock) -> None:
    """A wake-up without a message ends the wait."""
    mailbox: Mailbox[int] = Mailbox()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.wait)
        await settle()
        mailbox.wake()

    assert [] == mailbox.take_now()


async def test_telling_a_full_actor_says_so_and_changes_nothing(autojump_clock: trio.abc.Clock) -> None:
    """`tell` to a full mailbox raises MailboxFull, a sentence with the numbers; what waits stays."""
    async with open_world() as world:
        busy = await world.start("busy", Hanging, Mail(capacity=2))
        busy.ref.tell("in hand")
        await settle()
        busy.ref.tell(1)
        busy.ref.tell(2)

        with pytest.raises(MailboxFull, match=r"the mailbox of /busy is full \(2 messages\)") as caught:
            busy.ref.tell(3)

        assert ("/busy", 2) == (caught.value.path, caught.value.capacity)
        assert 2 == busy.ref.waiting
        with pytest.raises(MailboxFull):
            await busy.ref.ask(Ask(), timeout=1)


async def test_a_busy_actor_handles_what_waited_in_order(autojump_clock: trio.abc.Clock) -> None:
    """Between one sender and one receiver the order is kept, whatever came in between."""
    async with open_world() as world:
        log: list[object] = []
        actor = await world.start("a", lambda: Recorder(log))

        for n in range(1000):
            actor.ref.tell(n)
        await settle()

        assert ["start 1", *range(1000)] == log


# ---------------------------------------------------------------- limits of a policy


def test_a_policy_that_contradicts_itself_is_refused() -> None:
    """Every rule that does not hold is named, with the number that breaks it."""
    with pytest.raises(ValueError, match=r"capacity must be 1 or more, not 0; redeliver must be 0 … 100, not 101"):
        Mail(capacity=0, redeliver=101)
    with pytest.raises(ValueError, match="overflow=drop_oldest needs a capacity"):
        Mail(overflow=Overflow.DROP_OLDEST)


def test_a_long_queue_is_taken_in_slices_and_let_go_of() -> None:
    """However long the queue: each `take` gives the next ones in order, and what was taken is not held."""
    mailbox: Mailbox[int] = Mailbox()
    for n in range(10_000):
        mailbox.put(n)
    taken: list[int] = []
    held: list[int] = []

    while len(mailbox):
        taken += mailbox.take(64)
        held.append(len(mailbox._batch or ()) - len(mailbox))

    assert list(range(10_000)) == taken
    assert max(held) <= 5_000 + 64


async def test_a_mailbox_has_one_reader(autojump_clock: trio.abc.Clock) -> None:
    """A second task that waits for the same mail is a bug of ours, and said to be one."""
    mailbox: Mailbox[int] = Mailbox()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.wait)
        await settle()

        with pytest.raises(AssertionError, match="one reader"):
            await mailbox.wait()

        mailbox.wake()


def test_what_is_discarded_is_not_put_back() -> None:
    """A reader that has what is unwanted in its hands loses it too, and gets the rest in order."""
    mailbox: Mailbox[int] = Mailbox()
    for n in range(6):
        mailbox.put(n)
    in_hand = mailbox.take(4)

    mailbox.discard(lambda each: each in {2, 5})
    mailbox.put_back(in_hand[1:])

    assert [1, 3, 4] == mailbox.take_now()


# ---------------------------------------------------------------- against a plain list


class Shape(NamedTuple):
    """A mailbox, by its policy."""

    capacity: int | None
    overflow: Overflow
    coalesces: bool


SHAPES: Final = [
    Shape(None, Overflow.REJECT, False),
    Shape(None, Overflow.REJECT, True),
    *(Shape(3, overflow, coalesces) for overflow in Overflow for coalesces in (False, True)),
]


@frozen(eq=False)
class Item:
    """A message: no two are the same, keys repeat."""

    number: int
    key: str | None = None


class Model(RuleBasedStateMachine):
    """A mailbox beside two plain lists; after each step, what waits is what the lists hold."""

    shape: Shape

    @initialize(shape=st.sampled_from(SHAPES))
    def begin(self, shape: Shape) -> None:
        self.shape = shape
        self.dropped: list[tuple[object, Why]] = []
        self.expected_dropped: list[tuple[object, Why]] = []
        self.mailbox: Mailbox[Any] = Mailbox(
            Mail(
                capacity=shape.capacity,
                overflow=shape.overflow,
                coalesce=(lambda item: item.key) if shape.coalesces else None,
            ),
            lambda message, why: self.dropped.append((message, why)),
        )
        self.control: list[object] = []
        self.user: list[object] = []
        self.replaceable: set[object] = set()
        """Of those in `user`, what was never in hand."""
        self.in_hand: list[object] = []
        self.in_control = False
        """What was taken last is the control lane: its reader reads on, and what it puts back goes there."""
        self.number = 0

    def _new(self, key: str | None = None) -> Item:
        self.number += 1
        return Item(self.number, key)

    @rule(keys=st.lists(st.sampled_from([None, "x", "y", "z", "w"]), min_size=1, max_size=5))
    def put(self, keys: list[str | None]) -> None:
        for key in keys:
            item = self._new(key)

            taken = self.mailbox.put(item)

            assert self._put(item) == taken

    def _put(self, item: Item) -> bool:
        if self.shape.coalesces and item.key is not None:
            for n, each in enumerate(self.user):
                if isinstance(each, Item) and each.key == item.key and each in self.replaceable:
                    self.user[n] = item
                    self.replaceable.add(item)
                    self.expected_dropped.append((each, Why.COALESCED))
                    return True
        if self.shape.capacity is not None and len(self._items()) >= self.shape.capacity:
            match self.shape.overflow:
                case Overflow.REJECT:
                    return False
                case Overflow.DROP_NEWEST:
                    self.expected_dropped.append((item, Why.FULL))
                    return True
                case Overflow.DROP_OLDEST:
                    oldest = self._items()[0]
                    self.user.remove(oldest)
                    self.expected_dropped.append((oldest, Why.DROPPED_OLDEST))
        self.user.append(item)
        self.replaceable.add(item)
        return True

    def _items(self) -> list[object]:
        return [each for each in self.user if isinstance(each, Item)]

    @rule()
    def put_control(self) -> None:
        item = self._new()
        self.mailbox.put_control(item)
        self.control.append(item)
        assert self.mailbox.urgent or self.in_control

    @rule()
    def put_news(self) -> None:
        news = Down(cast("Monitor", self), Normal())
        self.mailbox.put_news(news)
        self.user.append(news)

    @rule(limit=st.integers(1, 3))
    def take(self, limit: int) -> None:
        taken = self.mailbox.take(limit)

        self.in_control = bool(self.control)
        lane = self.control or self.user
        assert lane[: len(taken)] == taken
        assert bool(lane) == bool(taken)
        assert len(taken) == len(lane) if self.control else len(taken) <= limit
        assert not self.mailbox.urgent
        del lane[: len(taken)]
        self.in_hand = list(taken)

    @rule()
    def take_now(self) -> None:
        expected = self.control + self.user

        assert expected == self.mailbox.take_now()

        self.control, self.user, self.in_hand, self.in_control = [], [], expected, False

    @rule(handled=st.integers(0, 5))
    def put_back(self, handled: int) -> None:
        rest = self.in_hand[handled:]

        self.mailbox.put_back(list(rest))

        lane = self.control if self.in_control else self.user
        lane[:0] = rest
        self.replaceable.difference_update(rest)
        self.in_hand = []

    @rule(parity=st.integers(0, 1))
    def discard(self, parity: int) -> None:
        def unwanted(each: object) -> bool:
            return isinstance(each, Item) and each.number % 2 == parity

        self.mailbox.discard(unwanted)

        for waiting in (self.control, self.user, self.in_hand):
            waiting[:] = [each for each in waiting if not unwanted(each)]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "mailbox"):
            return
        assert self.control + self.user == list(self.mailbox)
        assert len(self.control) + len(self.user) == len(self.mailbox)
        assert self.expected_dropped == self.dropped


class TestModel(Model.TestCase):  # type: ignore[name-defined,misc]  # hypothesis makes it
    """Whatever is put, taken, put back and discarded in whatever order: the mailbox holds what a plain list would."""

    settings = settings(max_examples=100, stateful_step_count=40)


@pytest.mark.slow
class TestModelOften(Model.TestCase):  # type: ignore[name-defined,misc]  # hypothesis makes it
    """The same for very many."""

    settings = settings(max_examples=3_000, stateful_step_count=40)
