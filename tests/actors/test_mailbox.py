"""What a mailbox promises whoever sends and whoever reads."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from callsheet.actors.errors import MailboxFull
from callsheet.actors.mailbox import Mail, Mailbox

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
