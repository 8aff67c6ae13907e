"""Requests and their answers."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing
from attrs import frozen

from callsheet.actors.actor import Actor
from callsheet.actors.errors import ActorDown, AskedItself, AskedTwice, AskTimeout, WrongMessage
from callsheet.actors.reply import Forward, Reply, Request
from callsheet.supervisor.spec import ChildSpec, SupervisorSpec
from callsheet.supervisor.system import ActorSystem

from .roles import BOTH_KINDS, Keep, Kind, Role, Tasked
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


# ---------------------------------------------------------------- how long


@BOTH_KINDS
@pytest.mark.parametrize("timeout_s", [0, 0.001, 2.5, 86_400])
async def test_an_ask_never_times_out_early(autojump_clock: trio.abc.Clock, kind: Kind, timeout_s: float) -> None:
    """AskTimeout comes at its time, rounded up to the wheel's millisecond, however short or long."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        began_s = trio.current_time()

        with pytest.raises(AskTimeout) as caught:
            await cell.ref.ask(Keep(), timeout=timeout_s)

        assert ("/a", timeout_s) == (caught.value.path, caught.value.timeout_s)
        assert math.isclose(timeout_s, trio.current_time() - began_s, abs_tol=0.001 + 1e-9)
        assert trio.current_time() - began_s >= timeout_s
        assert 0 == len(world.stage.timers)


async def test_an_idle_actor_answers_also_without_time(autojump_clock: trio.abc.Clock) -> None:
    """timeout=0: an actor that has nothing else to do and needs no task answers at once."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        await settle()

        assert "yes" == await cell.ref.ask(Ask(), timeout=0)


async def test_an_ask_may_wait_for_ever(autojump_clock: trio.abc.Clock) -> None:
    """timeout=inf sets no timer; a year later the answer still arrives."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        request = Keep()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await settle()
                assert 0 == len(world.stage.timers)
                await trio.sleep(365 * 86_400)
                request.reply.answer("at last")

            assert "at last" == await cell.ref.ask(request, timeout=math.inf)


async def test_a_stall_of_the_event_loop_ends_each_ask_once(autojump_clock: trio.abc.Clock) -> None:
    """Several deadlines that have passed at once: each asker hears AskTimeout, and an answer after that is late."""
    clock = cast("trio.testing.MockClock", autojump_clock)
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        requests = [Keep() for _ in range(3)]
        failures: list[float] = []

        async def ask(request: Keep, timeout_s: float) -> None:
            try:
                await cell.ref.ask(request, timeout=timeout_s)
            except AskTimeout as error:
                failures.append(error.timeout_s)

        async with trio.open_nursery() as nursery:
            for n, request in enumerate(requests):
                nursery.start_soon(ask, request, 0.5 + n / 2)
            await settle()
            clock.jump(2)
        for request in requests:
            request.reply.answer("late")

        assert [0.5, 1.0, 1.5] == sorted(failures)
        assert {"/a": {"late_reply": 3}} == world.stage.undelivered.counts()
        assert 0 == len(world.stage.timers)


@pytest.mark.parametrize("timeout_s", [-1, -math.inf, math.nan])
async def test_a_timeout_that_is_none_is_refused(autojump_clock: trio.abc.Clock, timeout_s: float) -> None:
    """Negative, or no number: ValueError, and nothing was sent."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, log))

        with pytest.raises(ValueError, match="timeout must be 0 or more seconds, not"):
            await cell.ref.ask(Ask(), timeout=timeout_s)
        await settle()

        assert 0 == cell.ref.waiting


@BOTH_KINDS
async def test_an_ask_is_always_a_checkpoint(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Also when the answer is there at once, or never comes."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        await settle()

        with trio.testing.assert_checkpoints():
            await cell.ref.ask(Ask(), timeout=1)
        await world.stop(cell)
        with trio.testing.assert_checkpoints(), pytest.raises(ActorDown):
            await cell.ref.ask(Ask(), timeout=1)


# ---------------------------------------------------------------- whom, and how often


@pytest.mark.parametrize("kind", [Role, Tasked], ids=["plain", "with a task"])
async def test_an_actor_that_asks_itself_is_told_so(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """It would wait for an answer that only it could give: AskedItself, at once."""
    async with open_world() as world:
        caught: list[BaseException] = []

        async def ask_yourself(role: Role) -> None:
            try:
                await role.ref.ask(Ask(), timeout=60)
            except AskedItself as error:
                caught.append(error)

        cell = await world.start("a", partial(kind, []))
        began_s = trio.current_time()
        cell.ref.tell(ask_yourself)
        await settle()

        assert ["actor /a asked itself: it would wait for ever; tell it instead, or call the method"] == [
            str(each) for each in caught
        ]
        assert began_s == trio.current_time()
        assert 0 == cell.ref.waiting


@BOTH_KINDS
async def test_a_request_is_asked_once(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """A second ask of an answered request raises AskedTwice, whoever is asked; nothing is sent."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        other = await world.start("b", partial(kind, []))
        request = Ask()
        await cell.ref.ask(request, timeout=1)

        with pytest.raises(AskedTwice, match="this Ask was asked before; it has one reply only: make a new Ask for /b"):
            await other.ref.ask(request, timeout=1)

        assert 0 == other.ref.waiting


@BOTH_KINDS
async def test_a_request_that_is_waited_for_cannot_be_asked_again(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Two tasks with one request: one of them hears AskedTwice at once, the other gets the answer."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        request = Keep()
        got: list[Any] = []

        async def ask() -> None:
            try:
                got.append(await cell.ref.ask(request, timeout=60))
            except AskedTwice:
                got.append(AskedTwice)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            await settle()
            assert [AskedTwice] == got
            request.reply.answer("yes")

        assert [AskedTwice, "yes"] == got


# ---------------------------------------------------------------- nobody there


async def test_whoever_asks_a_zombie_hears_at_once(autojump_clock: trio.abc.Clock) -> None:
    """Who asked it before, queued or not, hears when it is given up; who asks later, at once: killed, and it ignores that."""

    class Defiant(Role):
        async def receive(self, message: Any) -> None:  # type: ignore[override]  # as `Actor.receive` allows
            if isinstance(message, Keep):
                return
            with trio.CancelScope(shield=True):
                await trio.sleep(1_000)

    spec = SupervisorSpec((ChildSpec("a", partial(Defiant, []), stop_budget_s=1),))
    async with ActorSystem(spec) as system:
        ref = system.whereis("/a")
        assert ref is not None
        failures: list[str] = []

        async def ask() -> None:
            try:
                await ref.ask(Keep(), timeout=math.inf)
            except ActorDown as error:
                failures.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            ref.tell("work")
            await settle()
            nursery.start_soon(ask)
            await settle()
            await system.stop_child("a")
            await ask()

        assert 3 * ["actor /a did not answer: killed (it ignores that)"] == failures


@BOTH_KINDS
async def test_whoever_asks_a_stopped_child_hears_at_once(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Somebody had it stopped, and may have it started again: asks fail and are not handled then; tells wait for that."""
    log: list[Any] = []

    async def slow(_role: Role) -> None:
        await trio.sleep(1)

    async with ActorSystem(SupervisorSpec((ChildSpec("a", partial(kind, log)),))) as system:
        ref = system.whereis("/a")
        assert ref is not None
        failures: list[str] = []

        async def ask() -> None:
            try:
                await ref.ask(Keep(), timeout=math.inf)
            except ActorDown as error:
                failures.append(str(error))

        async with trio.open_nursery() as nursery:
            ref.tell(slow)
            ref.tell("queued")
            nursery.start_soon(ask)
            await settle()
            await system.stop_child("a")
            await ask()
        ref.tell("later")
        await system.restart_child("a")
        await settle()

        assert 2 * ["actor /a did not answer: shutdown (shutdown)"] == failures
        assert ["start 1", "stop 1", "start 2", "queued", "later"] == log


@BOTH_KINDS
async def test_asking_while_nobody_is_there_waits_for_the_next_incarnation(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """Between two incarnations a request waits like any message, and its time runs."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        cell.ref.tell(ValueError("boom"))
        await settle()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def restart() -> None:
                await trio.sleep(2)
                await cell.start()

            with pytest.raises(AskTimeout):
                await cell.ref.ask(Ask(), timeout=1)
            assert "yes" == await cell.ref.ask(Ask(), timeout=2)


# ---------------------------------------------------------------- late, forwarded, checked


@BOTH_KINDS
@pytest.mark.parametrize("given_up", ["timeout", "cancel"])
async def test_an_answer_that_comes_too_late_is_counted_once(
    autojump_clock: trio.abc.Clock, kind: Kind, given_up: str
) -> None:
    """Nobody waits any more: it goes to the undelivered as `late_reply`, under the path of whoever was asked."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        request = Keep()
        with trio.move_on_after(2):
            with suppress(AskTimeout):
                await cell.ref.ask(request, timeout=1 if given_up == "timeout" else 60)

        request.reply.answer("late")
        request.reply.answer("later")

        assert {"/a": {"late_reply": 1}} == world.stage.undelivered.counts()
        assert ["'late'"] == [each.text for each in world.stage.undelivered.samples()]


async def test_a_second_answer_is_not_late(autojump_clock: trio.abc.Clock) -> None:
    """It is dropped: its asker has an answer."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        request = Ask()
        await cell.ref.ask(request, timeout=1)

        request.reply.answer("again")

        assert 0 == world.stage.undelivered.total


async def test_an_answer_can_go_to_a_mailbox_instead_of_a_waiting_task(autojump_clock: trio.abc.Clock) -> None:
    """A request whose reply is a Forward is told, not asked; the answer, or the failure, is one call."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        asker = await world.start("b", partial(Role, log))
        del log[:]

        def ask(what: str | BaseException) -> None:
            answers: Any = Forward(asker.ref.tell, lambda error: asker.ref.tell(str(error)))
            cell.ref.tell(Ask(what=what, reply=answers))

        ask("yes")
        ask(ValueError("boom"))
        await settle()

        assert ["yes", "actor /a did not answer: crashed: ValueError: boom"] == log


async def test_in_checked_mode_a_wrong_message_is_refused_before_it_is_taken(
    autojump_clock: trio.abc.Clock,
) -> None:
    """`tell`, `ask` and `send` raise WrongMessage; the actor's own ticks and news are none of that."""
    log: list[Any] = []

    @frozen(eq=False, kw_only=True)
    class Other(Request[str]):
        pass

    class Picky(Actor[Ask | int]):
        def on_start(self) -> None:
            self.alarms.after(1, 7)

        def receive(self, message: Ask | int) -> None:
            if isinstance(message, Ask):
                message.reply.answer("yes")
            else:
                log.append(message)

    async with ActorSystem(SupervisorSpec((ChildSpec("a", Picky),)), checked=True) as system:
        ref: Any = system.whereis("/a")

        with pytest.raises(WrongMessage, match="/a was sent a str: it takes"):
            ref.tell("text")
        with pytest.raises(WrongMessage):
            await ref.ask(Other(), timeout=1)
        with pytest.raises(WrongMessage):
            await ref.send("text")
        ref.tell(1)

        assert "yes" == await ref.ask(Ask(), timeout=1)
        await trio.sleep(2)
        assert [1, 7] == log
        assert 0 == system.undelivered.total
