"""
What a full mailbox does, who is let in when, and what comes first.

Not here: the mailbox by itself (`test_mailbox`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

from callsheet.actors.cell import Cell
from callsheet.actors.errors import ActorDown, MailboxFull, MessageDropped
from callsheet.actors.mailbox import Mail, Overflow
from callsheet.actors.undelivered import Why

from .roles import BOTH_KINDS, Kind, Role, Tasked
from .world import Ask, World, open_world, settle


async def busy(world: World, kind: Kind, log: list[Any], mail: Mail) -> tuple[Cell[Any], trio.Event]:
    """An actor that handles nothing more until the event is set."""
    free = trio.Event()

    async def wait(_role: Role) -> None:
        await free.wait()

    cell = await world.start("a", partial(kind, log), mail)
    cell.ref.tell(wait)
    await settle()
    del log[:]
    return cell, free


async def handled(free: trio.Event, log: list[Any]) -> list[Any]:
    """What was handled once the actor had time."""
    free.set()
    await settle()
    return log


@frozen
class Reading:
    """The latest temperature of a place."""

    place: str
    degrees: int


def by_place(message: Any) -> str | None:
    return message.place if isinstance(message, Reading) else None


# ---------------------------------------------------------------- full


@BOTH_KINDS
async def test_reject_takes_nothing_and_says_so(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """`tell` and `ask` raise MailboxFull at once; nothing is lost, so nothing is counted; the request may be asked again."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail(capacity=2))
        request = Ask(what="yes")
        cell.ref.tell(1)
        cell.ref.tell(2)

        with pytest.raises(MailboxFull):
            cell.ref.tell(3)
        with pytest.raises(MailboxFull):
            await cell.ref.ask(request, timeout=1)

        assert [1, 2] == await handled(free, log)
        assert 0 == world.stage.undelivered.total
        assert "yes" == await cell.ref.ask(request, timeout=1)


@BOTH_KINDS
async def test_drop_newest_keeps_what_waits(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """The message that comes too much is counted as `full`; a request fails at once."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail(capacity=2, overflow=Overflow.DROP_NEWEST))
        for n in range(5):
            cell.ref.tell(n)

        with pytest.raises(MessageDropped, match=r"actor /a dropped the request unhandled \(full\)"):
            await cell.ref.ask(Ask(), timeout=float("inf"))

        assert [0, 1] == await handled(free, log)
        assert {Why.FULL: 3} == dict(world.stage.undelivered.by_why())


@BOTH_KINDS
async def test_drop_oldest_keeps_what_came_last(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """The message that waited longest is counted as `dropped_oldest`; a request among them fails at once."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail(capacity=2, overflow=Overflow.DROP_OLDEST))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ask() -> None:
                with pytest.raises(MessageDropped, match=r"\(dropped_oldest\)"):
                    await cell.ref.ask(Ask(), timeout=float("inf"))

            await settle()
            for n in range(5):
                cell.ref.tell(n)

        assert [3, 4] == await handled(free, log)
        assert {Why.DROPPED_OLDEST: 3} == dict(world.stage.undelivered.by_why())


@BOTH_KINDS
@pytest.mark.parametrize("capacity", [None, 3])
async def test_coalescing_keeps_the_latest_of_a_key_in_the_first_ones_place(
    autojump_clock: trio.abc.Clock, kind: Kind, capacity: int | None
) -> None:
    """A newer message replaces the waiting one with its key; messages without a key stay apart."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail(capacity=capacity, coalesce=by_place))

        for message in (Reading("attic", 1), "no key", Reading("cellar", 2), Reading("attic", 3), Reading("attic", 4)):
            cell.ref.tell(message)

        assert [Reading("attic", 4), "no key", Reading("cellar", 2)] == await handled(free, log)
        assert {Why.COALESCED: 2} == dict(world.stage.undelivered.by_why())
        assert {} == dict(world.stage.undelivered.by_path())


@pytest.mark.parametrize(
    ("overflow", "expected", "why"),
    [
        (Overflow.DROP_NEWEST, [Reading("a", 5), Reading("b", 2)], Why.FULL),
        (Overflow.DROP_OLDEST, [Reading("b", 2), Reading("c", 3)], Why.DROPPED_OLDEST),
    ],
)
async def test_coalescing_within_a_capacity_overflows_by_its_policy(
    autojump_clock: trio.abc.Clock, overflow: Overflow, expected: list[Reading], why: Why
) -> None:
    """A key that waits already always has room; a new one is subject to the policy."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, Tasked, log, Mail(capacity=2, overflow=overflow, coalesce=by_place))

        for message in (Reading("a", 1), Reading("b", 2), Reading("a", 5), Reading("c", 3)):
            cell.ref.tell(message)

        assert expected == await handled(free, log)
        assert {Why.COALESCED: 1, why: 1} == dict(world.stage.undelivered.by_why())


async def test_a_request_that_is_replaced_fails_at_once(autojump_clock: trio.abc.Clock) -> None:
    """Whoever asked hears that a newer message with the same key took its place."""

    @frozen(eq=False, kw_only=True)
    class Question(Ask):
        key: str = "k"

    async with open_world() as world:
        mail = Mail(coalesce=lambda message: getattr(message, "key", None))
        cell, free = await busy(world, Tasked, [], mail)
        answers: list[Any] = []

        async def ask(what: str) -> None:
            try:
                answers.append(await cell.ref.ask(Question(what=what), timeout=60))
            except MessageDropped as error:
                answers.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "first")
            await settle()
            nursery.start_soon(ask, "second")
            await settle()
            free.set()

        assert ["actor /a dropped the request unhandled (coalesced)", "second"] == answers


# ---------------------------------------------------------------- waiting for room


@BOTH_KINDS
async def test_who_waits_longest_for_room_is_let_in_first(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """`send` keeps the order in which it was called, also before a `tell` that comes when there is room again."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail(capacity=1))
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(cell.ref.send, n)
                await settle()
            assert 1 == cell.ref.waiting

            free.set()

        await settle()
        assert [0, 1, 2, 3, 4] == log


async def test_a_sender_that_is_cancelled_leaves_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Its message is not sent; those behind it move up."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, Tasked, log, Mail(capacity=1))
        cell.ref.tell("waits")
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                scope.cancel()
                await cell.ref.send("cancelled")
            nursery.start_soon(cell.ref.send, "stays")
            await settle()
            with trio.move_on_after(1) as waiting:
                await cell.ref.send("gives up")
            nursery.start_soon(cell.ref.send, "comes later")
            await settle()
            free.set()

        await settle()
        assert scope.cancelled_caught
        assert waiting.cancelled_caught
        assert ["waits", "stays", "comes later"] == log
        assert 0 == world.stage.undelivered.total


@BOTH_KINDS
async def test_a_sender_that_waits_at_the_final_stop_is_told(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """It gets ActorDown: its message was not taken, so it is not counted; later sends fail at once."""
    async with open_world() as world:
        cell, _ = await busy(world, kind, [], Mail(capacity=1))
        cell.ref.tell("waits")
        failures: list[str] = []

        async def send(message: str) -> None:
            try:
                await cell.ref.send(message)
            except ActorDown as error:
                failures.append(f"{message}: {error}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "first")
            await settle()
            nursery.start_soon(send, "second")
            await settle()

            cell.kill()
            await cell.wait_gone()
            assert [] == failures
            cell.end()

        await send("late")
        down = "actor /a did not answer: killed (stop budget spent)"
        assert [f"{each}: {down}" for each in ("first", "second", "late")] == sorted(failures[:2]) + failures[2:]
        assert {Why.CRASHED_OVER: 1, Why.ENDED: 1} == dict(world.stage.undelivered.by_why())


@BOTH_KINDS
async def test_a_sender_that_waits_does_not_notice_a_restart(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """It is let in when the next incarnation makes room, in its turn."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log), Mail(capacity=1))
        cell.ref.tell(ValueError("boom"))
        await settle()
        cell.ref.tell("waits")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cell.ref.send, "sent")
            await settle()
            assert 1 == cell.ref.waiting

            await cell.start()

        await settle()
        assert ["start 1", "stop 1", "start 2", "waits", "sent"] == log


async def test_a_message_that_waited_for_room_can_be_replaced_by_a_newer_one(autojump_clock: trio.abc.Clock) -> None:
    """Once it is let in, it coalesces like any other; a key that waits already is replaced without waiting."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, Tasked, log, Mail(capacity=1, coalesce=by_place))
        first = trio.Event()

        async def hold(_role: Role) -> None:
            await first.wait()

        cell.ref.tell(hold)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cell.ref.send, Reading("attic", 1))
            await settle()
            free.set()
            await settle()
            await cell.ref.send(Reading("attic", 2))
            cell.ref.tell(Reading("attic", 3))
            first.set()

        await settle()
        assert [Reading("attic", 3)] == log
        assert {Why.COALESCED: 2} == dict(world.stage.undelivered.by_why())


async def test_a_key_that_waits_already_is_replaced_while_others_wait_for_room(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Replacing needs no room, so nobody is kept waiting for it, and nobody is overtaken."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, Tasked, log, Mail(capacity=1, coalesce=by_place))
        cell.ref.tell(Reading("attic", 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cell.ref.send, Reading("cellar", 2))
            await settle()

            with trio.fail_after(0.1):
                await cell.ref.send(Reading("attic", 3))
            free.set()

        await settle()
        assert [Reading("attic", 3), Reading("cellar", 2)] == log


async def test_sending_to_an_actor_with_room_is_a_checkpoint_and_a_tell(autojump_clock: trio.abc.Clock) -> None:
    """`send` never waits without need, and never starves others."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, log))

        with trio.testing.assert_checkpoints():
            await cell.ref.send(1)
        await settle()

        assert ["start 1", 1] == log


@BOTH_KINDS
async def test_a_small_mailbox_may_be_full_before_its_actor_has_started(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """Filled while `on_start` takes its time: nothing hangs, and what waited is handled in order."""

    class Slow(kind):  # type: ignore[misc,valid-type]  # a test is given its base
        async def on_start(self) -> None:
            await trio.sleep(10)

    async with open_world() as world, trio.open_nursery() as nursery:
        log: list[Any] = []
        cell = world.cell("a", partial(Slow, log), Mail(capacity=1))
        nursery.start_soon(cell.start)
        await settle()
        cell.ref.tell(1)
        with pytest.raises(MailboxFull):
            cell.ref.tell(2)
        nursery.start_soon(cell.ref.send, 3)
        await settle()
        assert [] == log

        await trio.sleep(11)

        assert [1, 3] == log


# ---------------------------------------------------------------- what comes first


@BOTH_KINDS
async def test_the_control_lane_is_outside_the_capacity_and_read_first(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """What the runtime has to say is taken by a full mailbox, and overtakes what waits there; in its own order."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail(capacity=1))
        cell.ref.tell("user")

        cell.ref.tell_control("control 1")
        cell.ref.tell_control("control 2")

        assert ["control 1", "control 2", "user"] == await handled(free, log)


@BOTH_KINDS
async def test_a_control_message_interrupts_a_batch(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """It is handled after the message in hand, also when a batch of others was taken before it came."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))

        cell.ref.tell(1)
        cell.ref.tell(lambda role: role.ref.tell_control("control"))
        cell.ref.tell(2)
        await settle()

        assert ["start 1", 1, "control", 2] == log


@BOTH_KINDS
async def test_ticks_reach_a_full_mailbox(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """An alarm is never lost to an overflow."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log), Mail(capacity=1))

        async def be_late(role: Role) -> None:
            role.alarms.after(1, "tick")
            await trio.sleep(5)

        cell.ref.tell(be_late)
        await trio.sleep(2)
        cell.ref.tell("user")
        await trio.sleep(10)

        assert ["start 1", "tick", "user"] == log


# ---------------------------------------------------------------- drain


@BOTH_KINDS
@pytest.mark.parametrize("queued", [0, 1, 10, 1000])
async def test_a_drained_actor_handles_what_waits_and_takes_nothing_more(
    autojump_clock: trio.abc.Clock, kind: Kind, queued: int
) -> None:
    """Admission closes and the queue is handled to its end, also what was in hand; what comes later is `stopping`."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, kind, log, Mail())
        for n in range(queued):
            cell.ref.tell(n)

        cell.request_stop(drain=True)
        cell.ref.tell("too late")
        with pytest.raises(ActorDown, match="shutdown"):
            await cell.ref.ask(Ask(), timeout=float("inf"))
        free.set()
        await cell.wait_gone()
        cell.end()

        assert [*range(queued), "stop 1"] == log
        assert {Why.STOPPING: 1} == dict(world.stage.undelivered.by_why())


@BOTH_KINDS
async def test_draining_an_actor_with_a_batch_in_hand_handles_that_too(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """What was taken from the mailbox and not handled yet has been accepted: it is not lost to the drain."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))
        cell.ref.tell(lambda role: role.cell.request_stop(drain=True))
        for n in range(5):
            cell.ref.tell(n)

        await cell.wait_gone()
        cell.end()

        assert ["start 1", 0, 1, 2, 3, 4, "stop 1"] == log
        assert 0 == world.stage.undelivered.total


@BOTH_KINDS
async def test_an_idle_actor_is_drained_at_once(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Nothing waits and nothing is in hand: it ends, without time passing."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))
        await settle()

        cell.request_stop(drain=True)
        await cell.wait_gone()

        assert ["start 1", "stop 1"] == log


async def test_an_actor_drained_during_its_start_ends_when_it_is_up(autojump_clock: trio.abc.Clock) -> None:
    """With nothing to handle it does not wait for a message that can never come."""

    class Slow(Tasked):
        async def on_start(self) -> None:
            await trio.sleep(10)

    async with open_world() as world, trio.open_nursery() as nursery:
        log: list[Any] = []
        cell = world.cell("a", partial(Slow, log))
        nursery.start_soon(cell.start)
        await settle()

        cell.request_stop(drain=True)
        await cell.wait_gone()

        assert ["stop 1"] == log


async def test_who_waits_for_room_while_the_actor_is_drained_is_let_in(autojump_clock: trio.abc.Clock) -> None:
    """They were there before admission closed: their messages are handled too."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, Tasked, log, Mail(capacity=1))
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(cell.ref.send, n)
                await settle()

            cell.request_stop(drain=True)
            free.set()
            await cell.wait_gone()

        assert [0, 1, 2, "stop 1"] == log


async def test_a_crash_ends_a_drain(autojump_clock: trio.abc.Clock) -> None:
    """What is left then is undelivered like at any other end."""
    async with open_world() as world:
        log: list[Any] = []
        cell, free = await busy(world, Tasked, log, Mail())
        for message in (1, ValueError("boom"), 2):
            cell.ref.tell(message)

        cell.request_stop(drain=True)
        free.set()
        await cell.wait_gone()
        cell.end()

        assert [1, "stop 1"] == log
        assert {Why.CRASHED_OVER: 1, Why.ENDED: 1} == dict(world.stage.undelivered.by_why())
