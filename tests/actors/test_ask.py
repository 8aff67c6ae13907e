"""Requests and their answers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from callsheet.actors.errors import ActorDown, AskTimeout
from callsheet.actors.reply import Reply

from .world import Ask, Hanging, Recorder, Silent, open_world, settle


async def test_a_request_is_answered(autojump_clock: trio.abc.Clock) -> None:
    """`ask` returns what the actor answered, and leaves no timer behind."""
    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))

        answer = await cell.ref.ask(Ask(what="42"), timeout=5)

        assert "42" == answer
        assert 0 == len(world.stage.timers)


async def test_a_request_can_be_failed(autojump_clock: trio.abc.Clock) -> None:
    """`ask` raises what the actor failed the request with; the actor goes on."""
    async with open_world() as world:
        cell = await world.start("a", Silent)
        request = Ask()

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await settle()
                request.reply.fail(LookupError("no such thing"))

            with pytest.raises(LookupError, match="no such thing"):
                await cell.ref.ask(request, timeout=5)

        assert [] == world.exits


async def test_a_request_times_out_at_its_time(autojump_clock: trio.abc.Clock) -> None:
    """Without an answer `ask` raises AskTimeout after exactly its timeout."""
    async with open_world() as world:
        cell = await world.start("a", Silent)
        began_s = trio.current_time()

        with pytest.raises(AskTimeout, match=r"actor /a did not answer within 2.5 s"):
            await cell.ref.ask(Ask(), timeout=2.5)

        assert 2.5 == trio.current_time() - began_s


async def test_an_answer_that_comes_too_late_is_dropped(autojump_clock: trio.abc.Clock) -> None:
    """After a timeout the slot is closed: a late answer, or a second one, changes nothing."""
    async with open_world() as world:
        cell = await world.start("a", Silent)
        request = Ask()
        with pytest.raises(AskTimeout):
            await cell.ref.ask(request, timeout=1)

        request.reply.answer("late")
        request.reply.fail(ValueError("later"))

        with pytest.raises(AskTimeout):
            await request.reply.wait()


async def test_the_first_answer_stays() -> None:
    """A reply is answered once; a second answer and a failure after it are dropped."""
    reply: Reply[int] = Reply()

    reply.answer(1)
    reply.answer(2)
    reply.fail(ValueError())

    assert 1 == await reply.wait()
    assert not reply.is_open


async def test_whoever_stops_waiting_closes_the_slot(autojump_clock: trio.abc.Clock) -> None:
    """A cancelled `ask` leaves no timer, and the actor can see that nobody waits."""
    async with open_world() as world:
        cell = await world.start("a", Silent)
        request = Ask()

        with trio.move_on_after(1):
            await cell.ref.ask(request, timeout=60)

        assert not request.reply.is_open
        assert 0 == len(world.stage.timers)


async def test_asking_an_actor_that_has_ended_fails_at_once(autojump_clock: trio.abc.Clock) -> None:
    """`ask` to an actor that ended for good raises ActorDown without waiting."""
    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))
        await world.stop(cell)
        began_s = trio.current_time()

        with pytest.raises(ActorDown, match="actor /a did not answer: shutdown"):
            await cell.ref.ask(Ask(), timeout=60)

        assert began_s == trio.current_time()


async def test_a_final_stop_fails_the_requests_that_wait(autojump_clock: trio.abc.Clock) -> None:
    """Requests still in the mailbox when the actor ends for good fail then, not at their timeout."""
    async with open_world() as world:
        cell = await world.start("a", Hanging)
        cell.ref.tell("in hand")
        began_s = trio.current_time()

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def end() -> None:
                await settle()
                cell.kill()
                await cell.wait_gone()
                cell.end()

            with pytest.raises(ActorDown, match="killed"):
                await cell.ref.ask(Ask(), timeout=60)

        assert began_s == trio.current_time()


async def test_a_deadline_keeps_running_while_the_actor_is_down(autojump_clock: trio.abc.Clock) -> None:
    """A request that waits over a crash times out at its own time."""
    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))
        cell.ref.tell(ValueError())
        await settle()
        began_s = trio.current_time()

        with pytest.raises(AskTimeout):
            await cell.ref.ask(Ask(), timeout=3)

        assert 3 == trio.current_time() - began_s
