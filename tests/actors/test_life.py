"""An actor from its first message to its last, over crashes and restarts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.actor import Actor
from callsheet.actors.errors import ActorDown, NameTaken
from callsheet.actors.events import Delayed
from callsheet.actors.exits import Crashed, Killed, Normal, Shutdown, StartFailed
from callsheet.actors.undelivered import Why
from callsheet.supervisor.spec import Backoff, ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.system import ActorSystem

from .roles import BOTH_KINDS, Kind, Role
from .world import Ask, Hanging, Recorder, open_world, settle


async def test_queued_messages_survive_a_restart_and_the_one_in_hand_is_dropped(
    autojump_clock: trio.abc.Clock,
) -> None:
    """What waited is handled by the next incarnation in order; the message that crashed the old one is not."""
    async with open_world() as world:
        log: list[object] = []
        cell = await world.start("a", lambda: Recorder(log))

        for message in (1, 2, ValueError("boom"), 3, 4):
            cell.ref.tell(message)
        await settle()
        assert 2 == cell.ref.waiting
        await cell.start()
        await settle()

        assert ["start 1", 1, 2, "stop 1", "start 2", 3, 4] == log
        assert {Why.CRASHED_OVER: 1} == dict(world.stage.undelivered.by_why())


async def test_a_ref_stays_good_over_a_restart(autojump_clock: trio.abc.Clock) -> None:
    """A Ref taken before a crash reaches the next incarnation."""
    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))
        ref = cell.ref
        ref.tell(ValueError("boom"))
        await settle()
        await cell.start()

        answer = await ref.ask(Ask(what="still here"), timeout=1)

        assert "still here" == answer
        assert 2 == cell.generation


async def test_the_old_incarnation_has_cleaned_up_before_the_next_one_starts(autojump_clock: trio.abc.Clock) -> None:
    """`on_stop` of a crashed incarnation ends before `on_start` of the next begins, however long it takes."""
    log: list[str] = []

    class Slow(Actor[Any]):
        async def on_start(self) -> None:
            log.append("start")

        async def on_stop(self) -> None:
            await trio.sleep(10)
            log.append("stop")

        def receive(self, message: Any) -> None:
            raise message

    async with open_world() as world:
        cell = await world.start("slow", Slow)
        cell.ref.tell(ValueError())
        await settle()
        assert [] == world.exits

        await cell.wait_gone()
        await cell.start()

    assert ["start", "stop", "start"] == log[:3]


async def test_what_is_left_at_the_final_stop_is_counted(autojump_clock: trio.abc.Clock) -> None:
    """Messages that nobody will handle any more are counted under the path they were sent to, once each."""
    async with open_world() as world:
        cell = await world.start("a", Hanging)
        cell.ref.tell("in hand")
        await settle()
        for n in range(3):
            cell.ref.tell(n)

        cell.kill()
        await cell.wait_gone()
        cell.end()
        cell.ref.tell("late")

        assert {Why.CRASHED_OVER: 1, Why.ENDED: 4} == dict(world.stage.undelivered.by_why())


async def test_a_stop_lets_the_message_in_hand_end_and_leaves_the_rest(autojump_clock: trio.abc.Clock) -> None:
    """A graceful stop ends after the message in hand; `on_stop` runs once; the exit says shutdown."""
    done: list[object] = []

    class Steady(Actor[Any]):
        async def receive(self, message: Any) -> None:
            await trio.sleep(5)
            done.append(message)

        async def on_stop(self) -> None:
            done.append("stop")

    async with open_world() as world:
        cell = await world.start("a", Steady)
        for n in range(3):
            cell.ref.tell(n)
        await settle()

        exit_ = await world.stop(cell)

        assert [0, "stop"] == done
        assert Shutdown() == exit_
        assert {"/a": 2} == dict(world.stage.undelivered.by_path())


async def test_an_actor_that_returns_by_itself_ends_normally(autojump_clock: trio.abc.Clock) -> None:
    """Returning from `run` is a normal end, not a crash and not a shutdown."""

    class Brief(Actor[Any]):
        async def run(self) -> None:
            await trio.sleep(1)

    async with open_world() as world:
        cell = await world.start("a", Brief)

        await cell.wait_gone()

        assert [("a", Normal())] == world.exits


async def test_a_crash_is_an_exit_and_never_reaches_the_nursery(autojump_clock: trio.abc.Clock) -> None:
    """Whatever an actor raises, BaseException and groups included, becomes an exit with the exception in it."""
    for error in (
        ValueError("v"),
        KeyboardInterrupt(),
        SystemExit(3),
        GeneratorExit(),
        BaseExceptionGroup("g", [KeyboardInterrupt(), ValueError()]),
    ):
        async with open_world() as world:
            cell = await world.start("a", lambda: Recorder([]))

            cell.ref.tell(error)
            await cell.wait_gone()

            [(_, exit_)] = world.exits
            assert isinstance(exit_, Crashed)
            assert error is exit_.error


async def test_a_stray_cancelled_is_a_crash_of_that_actor_alone(autojump_clock: trio.abc.Clock) -> None:
    """An actor that lets a Cancelled out of the scope it belongs to crashes; its neighbours go on."""

    class Leaky(Actor[Any]):
        async def receive(self, message: Any) -> None:
            kept: BaseException = ValueError("never cancelled")
            with trio.move_on_after(1):
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as error:
                    kept = error
            raise kept

    async with open_world() as world:
        log: list[object] = []
        neighbour = await world.start("neighbour", lambda: Recorder(log))
        leaky = await world.start("leaky", Leaky)

        leaky.ref.tell("now")
        await leaky.wait_gone()
        neighbour.ref.tell("well?")
        await settle()

        [(name, exit_)] = world.exits
        assert "leaky" == name
        assert isinstance(exit_, Crashed)
        assert ["start 1", "well?"] == log


async def test_a_failed_start_says_why_and_runs_no_on_stop(autojump_clock: trio.abc.Clock) -> None:
    """`start` answers with the exit of an `on_start` that raised, after it is gone; `on_stop` is not called."""

    class Faulty(Recorder):
        async def on_start(self) -> None:
            raise OSError("port in use")

    async with open_world() as world:
        log: list[object] = []
        cell = world.cell("a", lambda: Faulty(log))

        exit_ = await cell.start()

        assert isinstance(exit_, StartFailed)
        assert "could not start: OSError: port in use" == str(exit_)
        assert [] == log


async def test_a_killed_actor_is_cancelled_where_it_stands_and_still_cleans_up(
    autojump_clock: trio.abc.Clock,
) -> None:
    """`kill` cancels the message in hand; `on_stop` is entered; the exit says killed, whatever was raised."""

    class Defiant(Recorder):
        async def run(self) -> None:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise ValueError("no!") from None

    async with open_world() as world:
        log: list[object] = []
        cell = await world.start("a", lambda: Defiant(log))

        cell.kill()
        await cell.wait_gone()

        assert ["start 1", "stop 1"] == log
        [(_, exit_)] = world.exits
        assert isinstance(exit_, Killed)


async def test_a_failing_on_stop_is_a_crash(autojump_clock: trio.abc.Clock) -> None:
    """An `on_stop` that raises makes the end abnormal, also when the actor was told to stop."""

    class Untidy(Actor[Any]):
        async def on_stop(self) -> None:
            raise ValueError("dirt")

    async with open_world() as world:
        cell = await world.start("a", Untidy)

        exit_ = await world.stop(cell)

        assert isinstance(exit_, Crashed)


@pytest.mark.parametrize("moment", ["plain", "plain, waiting to clean up", "with a task"])
async def test_a_crash_is_not_forgotten_over_a_failing_on_stop(autojump_clock: trio.abc.Clock, moment: str) -> None:
    """The exit is the last error, with what the actor crashed over as its context: a log shows both."""

    class Untidy(Actor[Any]):
        def receive(self, message: Any) -> Any:
            raise message

        def on_stop(self) -> Any:
            if "waiting" in moment:
                return self.fail()
            raise OSError("dirt")

        async def fail(self) -> None:
            raise OSError("dirt")

    class Tasked(Untidy):
        async def receive(self, message: Any) -> None:
            raise message

    async with open_world() as world:
        boom = ValueError("boom")
        cell = await world.start("a", Tasked if moment == "with a task" else Untidy)

        cell.ref.tell(boom)
        await cell.wait_gone()

        [(_, exit_)] = world.exits
        assert isinstance(exit_, Crashed)
        assert "crashed: OSError: dirt" == str(exit_)
        assert boom is exit_.error.__context__


async def test_two_living_actors_cannot_share_a_name(autojump_clock: trio.abc.Clock) -> None:
    """A path names one logical actor; it is free again when that one has ended for good."""
    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))
        with pytest.raises(NameTaken, match="an actor named /a is alive already"):
            world.cell("a", lambda: Recorder([]))

        await world.stop(cell)

        await world.start("a", lambda: Recorder([]))


async def test_an_actor_that_tells_itself_lets_others_run(autojump_clock: trio.abc.Clock) -> None:
    """An actor that always has a next message does not keep the rest of the program waiting."""

    class Eager(Actor[Any]):
        handled = 0

        def receive(self, message: Any) -> None:
            self.handled += 1
            if self.handled < 100_000:
                self.ref.tell(message)

    async with open_world() as world:
        eager = await world.start("eager", Eager)
        actor = eager.actor
        assert isinstance(actor, Eager)
        eager.ref.tell("go")

        for _ in range(3):
            await trio.lowlevel.checkpoint()

        assert actor.handled < 1_000


async def test_a_message_whose_reply_is_no_reply_slot_is_only_counted(autojump_clock: trio.abc.Clock) -> None:
    """A user's message may well have a field called reply: losing it is no reason to crash whoever ends the actor."""

    class Mail:
        reply = "to whom it may concern"

    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))
        await world.stop(cell)

        cell.ref.tell(Mail())

        assert {"/a": 1} == dict(world.stage.undelivered.by_path())


async def test_the_crash_of_an_actor_tells_whoever_asked_for_the_message_in_hand(
    autojump_clock: trio.abc.Clock,
) -> None:
    """The asker of the message that crashed the actor hears at once, with the cause; others keep waiting."""
    async with open_world() as world:
        cell = await world.start("a", lambda: Recorder([]))
        boom = ValueError("boom")
        answers: list[str] = []

        async def later() -> None:
            answers.append(await cell.ref.ask(Ask(what="later"), timeout=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(later)
            with pytest.raises(ActorDown, match="actor /a did not answer: crashed: ValueError: boom") as caught:
                await cell.ref.ask(Ask(what=boom), timeout=60)
            await settle()
            assert [] == answers
            await cell.start()

        assert boom is caught.value.__cause__
        assert ["later"] == answers


# ---------------------------------------------------------------- leaving, healthy, drained


@BOTH_KINDS
async def test_an_actor_that_leaves_ends_normally_after_the_message_in_hand(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """What it does after `leave` in the same handler still happens; the next message is not handled."""
    async with open_world() as world:
        log: list[Any] = []

        def leave(role: Role) -> None:
            role.leave()
            role.leave()
            role.log.append("last words")

        cell = await world.start("a", partial(kind, log))
        cell.ref.tell(leave)
        cell.ref.tell("next")
        await cell.wait_gone()

        assert [("a", Normal())] == world.exits
        assert ["start 1", "last words", "stop 1"] == log
        assert 1 == cell.ref.waiting


@BOTH_KINDS
async def test_an_actor_may_leave_while_it_starts(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """It has started, handles nothing, and ends normally."""

    class Brief(kind):  # type: ignore[misc,valid-type]  # a test is given its base
        def on_start(self) -> Any:
            self.leave()
            return super().on_start()

    async with open_world() as world:
        log: list[Any] = []
        cell = world.cell("a", partial(Brief, log))
        cell.ref.tell("before")

        assert None is await cell.start()
        await cell.wait_gone()

        assert [("a", Normal())] == world.exits
        assert ["start 1", "stop 1"] == log


@BOTH_KINDS
async def test_stopping_twice_is_stopping_once(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Whoever stops an actor that stops already, or has ended, changes nothing."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))

        cell.request_stop()
        cell.request_stop()
        await cell.wait_gone()
        cell.request_stop()
        cell.kill()
        cell.end()
        cell.end()
        cell.kill()

        assert ["start 1", "stop 1"] == log
        assert [("a", Shutdown())] == world.exits


@BOTH_KINDS
async def test_healthy_begins_the_delays_anew(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """After `healthy` the next restart waits as shortly as the first; without, twice as long each time."""
    log: list[Any] = []
    child = ChildSpec("a", partial(kind, log), backoff=Backoff(1, 60, reset_after_s=1_000), intensity=Intensity(100, 1))
    async with ActorSystem(SupervisorSpec((child,))) as system:
        delays: list[float] = []
        system.reports.listen(lambda each: delays.append(each.delay_s) if isinstance(each, Delayed) else None)
        ref = system.whereis("/a")
        assert ref is not None

        for message in (*3 * [ValueError("boom")], Role.healthy, *2 * [ValueError("boom")]):
            ref.tell(message)
        await trio.sleep(60)

        assert [1, 2, 4, 1, 2] == delays


@BOTH_KINDS
async def test_a_child_with_drain_is_drained_when_it_is_stopped_for_good(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """What waits is handled within the stop budget; the rest is undelivered."""
    log: list[Any] = []

    async def slow(role: Role) -> None:
        await trio.sleep(2)
        role.log.append("slow")

    async with ActorSystem(
        SupervisorSpec((ChildSpec("a", partial(kind, log), drain=True, stop_budget_s=5),))
    ) as system:
        ref = system.whereis("/a")
        assert ref is not None
        for message in (1, slow, 2, slow, slow, 3):
            ref.tell(message)

    assert ["start 1", 1, "slow", 2, "slow", "stop 1"] == log
    assert {Why.CRASHED_OVER: 1, Why.ENDED: 1} == dict(system.undelivered.by_why())


async def test_an_actor_with_a_life_of_its_own_sees_to_its_drain_itself(autojump_clock: trio.abc.Clock) -> None:
    """Whoever overrides `run` is asked to stop, drain or not: it is not waited for until its budget is spent."""

    class Own(Actor[Any]):
        async def run(self) -> None:
            while not self.cell.stopping:
                await self.cell.mailbox.wait()
                self.cell.mailbox.take_now()

    async with ActorSystem(SupervisorSpec((ChildSpec("a", Own, drain=True, stop_budget_s=60),))) as system:
        began_s = trio.current_time()
        await system.stop_child("a")

        assert began_s == trio.current_time()


@BOTH_KINDS
async def test_a_plain_function_may_follow_a_coroutine_function(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """A crash after an actor got a task, and its restart: the next incarnation is without one until it needs it."""

    async def wait(_role: Role) -> None:
        await trio.sleep(1)

    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))
        for message in (wait, ValueError("boom"), "next"):
            cell.ref.tell(message)
        await cell.wait_gone()

        await cell.start()
        await settle()

        assert (kind is Role) == (cell.task is None)
        assert ["start 1", "stop 1", "start 2", "next"] == log
