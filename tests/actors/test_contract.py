"""
What a restart keeps and what it ends, and the same for the final stop: one test for each row of the contract.

Not here: monitors (`test_watch`), senders that wait (`test_policies`), who decides on a restart (`tests/supervisor`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.errors import ActorDown, AskTimeout, MessageDropped, NameTaken
from callsheet.actors.exits import Crashed, Exit, Killed, Normal, Shutdown
from callsheet.actors.mailbox import Mail
from callsheet.actors.ref import Ref
from callsheet.actors.undelivered import Why
from callsheet.supervisor.errors import IntensityExceeded
from callsheet.supervisor.spec import ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .roles import BOTH_KINDS, Keep, Kind, Role, Tasked
from .world import Ask, open_world, settle


async def outcome(ref: Ref[Any], request: Any, into: list[Any], timeout: float = 60) -> None:
    """What became of an ask: its answer, or what it raised."""
    try:
        into.append(await ref.ask(request, timeout=timeout))
    except (ActorDown, AskTimeout, MessageDropped) as error:
        into.append(error)


# ---------------------------------------------------------------- queued tells


@BOTH_KINDS
async def test_queued_tells_are_handled_by_the_next_incarnation_in_order(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """All that waited, and all that was sent while nobody was there, is handled once, in the order it was sent."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))
        for message in ("before", ValueError("boom"), *range(100)):
            cell.ref.tell(message)
        await settle()
        cell.ref.tell("while down")

        await cell.start()
        await settle()

        assert ["start 1", "before", "stop 1", "start 2", *range(100), "while down"] == log


@BOTH_KINDS
async def test_queued_tells_are_dropped_at_a_restart_where_the_mail_says_so(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """keep=False: what waits when the next incarnation begins is counted as `restart`; a request fails, and says why."""
    async with open_world() as world:
        log: list[Any] = []
        answers: list[Any] = []
        cell = await world.start("a", partial(kind, log), Mail(keep=False))
        async with trio.open_nursery() as nursery:
            for message in (ValueError("boom"), 1, 2):
                cell.ref.tell(message)
            nursery.start_soon(outcome, cell.ref, Ask(), answers)
            await settle()

            await cell.start()
            cell.ref.tell("new")
            await settle()

        assert ["start 1", "stop 1", "start 2", "new"] == log
        assert {Why.CRASHED_OVER: 1, Why.RESTART: 2} == dict(world.stage.undelivered.by_why())
        assert ["actor /a dropped the request unhandled (restart)"] == [str(each) for each in answers]


async def test_mail_from_before_the_first_start_is_handled_also_where_no_restart_keeps_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A first start is no restart."""
    async with open_world() as world:
        log: list[Any] = []
        cell = world.cell("a", partial(Role, log), Mail(keep=False))
        cell.ref.tell("early")

        await cell.start()
        await settle()

        assert ["start 1", "early"] == log


async def test_mail_that_no_restart_keeps_ends_as_any_other_at_the_final_stop(
    autojump_clock: trio.abc.Clock,
) -> None:
    """keep=False is about restarts: what waits at the final stop is counted as `ended`, and requests fail with the exit."""
    async with open_world() as world:
        answers: list[Any] = []
        cell = await world.start("a", partial(Role, []), Mail(keep=False))
        async with trio.open_nursery() as nursery:
            cell.ref.tell(ValueError("boom"))
            cell.ref.tell(1)
            nursery.start_soon(outcome, cell.ref, Ask(), answers)
            await settle()

            cell.end()

        assert {Why.CRASHED_OVER: 1, Why.ENDED: 1} == dict(world.stage.undelivered.by_why())
        assert ["actor /a did not answer: crashed: ValueError: boom"] == [str(each) for each in answers]


@BOTH_KINDS
async def test_queued_tells_are_undelivered_at_the_final_stop(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Each goes to `on_undelivered` and is counted, once, in order; so is what comes later."""
    async with open_world() as world:
        lost: list[tuple[Any, Why]] = []
        mail = Mail(on_undelivered=lambda message, why: lost.append((message, why)))
        cell = await world.start("a", partial(kind, []), mail)
        for message in (ValueError("boom"), 1, 2):
            cell.ref.tell(message)
        await settle()

        cell.end()
        cell.ref.tell(3)

        assert [Why.CRASHED_OVER] == [why for message, why in lost if isinstance(message, ValueError)]
        assert [(1, Why.ENDED), (2, Why.ENDED), (3, Why.ENDED)] == lost[1:]
        assert {Why.CRASHED_OVER: 1, Why.ENDED: 3} == dict(world.stage.undelivered.by_why())


async def test_an_on_undelivered_that_fails_is_logged_and_harms_nobody(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a stranger's code: the rest is told of all the same."""
    seen: list[Any] = []

    def on_undelivered(message: Any, _why: Why) -> None:
        seen.append(message)
        raise LookupError("no such place")

    async with open_world() as world:
        cell = await world.start("a", partial(Role, []), Mail(on_undelivered=on_undelivered))
        await world.stop(cell)

        cell.ref.tell(1)
        cell.ref.tell(2)

    assert [1, 2] == seen
    assert 2 == caplog.text.count("on_undelivered of /a failed")


# ---------------------------------------------------------------- the message in hand


@BOTH_KINDS
async def test_the_message_in_hand_is_dropped_and_counted(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Whoever crashes over a message does not get it again, unless the mail says so."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, log))
        cell.ref.tell(ValueError("boom"))
        await settle()

        await cell.start()
        await settle()

        assert ["start 1", "stop 1", "start 2"] == log
        assert {"/a": 1} == dict(world.stage.undelivered.by_path())


@BOTH_KINDS
async def test_a_message_is_redelivered_as_often_as_the_mail_says(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """redeliver=2: three tries, each before what waited behind it; then it is undelivered, and the rest goes on."""
    async with open_world() as world:
        log: list[Any] = []
        tries: list[int] = []

        def poison(role: Role) -> None:
            tries.append(role.cell.generation)
            raise ValueError("boom")

        cell = await world.start("a", partial(kind, log), Mail(redeliver=2))
        for message in (1, poison, 2):
            cell.ref.tell(message)

        for _ in range(3):
            await settle()
            assert 1 if len(tries) < 3 else 2 == cell.ref.waiting + 1
            await cell.start()
        await settle()

        assert [1, 2, 3] == tries
        assert ["start 1", 1, "stop 1", "start 2", "stop 2", "start 3", "stop 3", "start 4", 2] == log
        assert {Why.CRASHED_OVER: 1} == dict(world.stage.undelivered.by_why())


@BOTH_KINDS
async def test_tries_are_counted_for_a_message_and_not_for_its_object(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """The same object told again later is a message of its own; a start that fails in between gives no further try."""
    tries: list[int] = []

    def poison(role: Role) -> None:
        tries.append(role.cell.generation)
        raise ValueError("boom")

    class Moody(kind):  # type: ignore[misc,valid-type]  # a test is given its base
        def on_start(self) -> Any:
            if self.cell.generation == 2:
                raise OSError("not yet")
            return super().on_start()

    async with open_world() as world:
        cell = await world.start("a", partial(Moody, []), Mail(redeliver=1))

        async def tell_and_restart() -> None:
            cell.ref.tell(poison)
            while cell.ref.waiting or not cell.is_alive:
                await settle()
                if not cell.is_alive:
                    await cell.start()
                await settle()

        await tell_and_restart()
        await tell_and_restart()

        assert [1, 3, 4, 5] == tries
        assert {Why.CRASHED_OVER: 2} == dict(world.stage.undelivered.by_why())


@BOTH_KINDS
async def test_a_message_that_was_handled_at_last_begins_anew(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Redelivered and handled; the same object, told to a later incarnation, has all of its tries again."""
    tries: list[int] = []

    def fickle(role: Role) -> None:
        tries.append(role.cell.generation)
        if role.cell.generation in {1, 3}:
            raise ValueError("boom")

    async with open_world() as world:
        cell = await world.start("a", partial(kind, []), Mail(redeliver=1))
        cell.ref.tell(fickle)
        await settle()
        await cell.start()
        await settle()
        cell.request_stop()
        await cell.wait_gone()
        await cell.start()

        cell.ref.tell(fickle)
        await settle()
        await cell.start()
        await settle()

        assert [1, 2, 3, 4] == tries
        assert 0 == world.stage.undelivered.total


@BOTH_KINDS
async def test_a_request_that_is_redelivered_can_still_be_answered(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Its asker waits over the crash, and gets the answer of the next incarnation."""

    class Once(kind):  # type: ignore[misc,valid-type]  # a test is given its base
        def receive(self, message: Any) -> Any:
            if self.cell.generation == 1:
                raise ValueError("boom")
            return super().receive(message)

    async with open_world() as world:
        answers: list[Any] = []
        cell = await world.start("a", partial(Once, []), Mail(redeliver=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, cell.ref, Ask(what="at last"), answers)
            await settle()
            assert [] == answers

            await cell.start()

        assert ["at last"] == answers


async def test_a_handler_that_is_cancelled_has_crashed_over_its_message(autojump_clock: trio.abc.Clock) -> None:
    """A kill drops the message in hand like a crash does, keeps what waits, and tells the asker: killed."""
    async with open_world() as world:
        log: list[Any] = []
        answers: list[Any] = []
        cell = await world.start("a", partial(Tasked, log))

        async def hang(_role: Role) -> None:
            await trio.sleep_forever()

        cell.ref.tell(hang)
        cell.ref.tell("next")
        async with trio.open_nursery() as nursery:
            request = Keep()
            nursery.start_soon(outcome, cell.ref, request, answers)
            await settle()
            cell.kill()
            await cell.wait_gone()
            await cell.start()
            await settle()
            cell.kill()
            await cell.wait_gone()

        assert ["start 1", "stop 1", "start 2", "next", "stop 2"] == log
        assert ["actor /a did not answer: killed (stop budget spent)"] == [str(each) for each in answers]
        assert {Why.CRASHED_OVER: 1} == dict(world.stage.undelivered.by_why())


# ---------------------------------------------------------------- asks, of it and by it


@BOTH_KINDS
async def test_queued_asks_are_answered_by_the_next_incarnation(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Asks that waited behind the crash, and asks made while nobody was there, are answered after the restart."""
    async with open_world() as world:
        answers: list[Any] = []
        cell = await world.start("a", partial(kind, []))
        async with trio.open_nursery() as nursery:
            cell.ref.tell(ValueError("boom"))
            nursery.start_soon(outcome, cell.ref, Ask(what="queued"), answers)
            await settle()
            nursery.start_soon(outcome, cell.ref, Ask(what="made while down"), answers)
            await settle()

            await cell.start()

        assert {"queued", "made while down"} == set(answers)


@BOTH_KINDS
async def test_queued_asks_fail_at_the_final_stop(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """At once, with the exit of the last incarnation: not at their timeouts."""
    async with open_world() as world:
        answers: list[Any] = []
        cell = await world.start("a", partial(kind, []))
        async with trio.open_nursery() as nursery:
            cell.ref.tell(ValueError("boom"))
            nursery.start_soon(outcome, cell.ref, Ask(), answers, float("inf"))
            await settle()

            cell.end()

        assert ["actor /a did not answer: crashed: ValueError: boom"] == [str(each) for each in answers]


@BOTH_KINDS
async def test_an_ask_in_hand_fails_with_the_crash(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """The asker hears at once what the actor crashed over, as the cause."""
    async with open_world() as world:
        boom = ValueError("boom")
        cell = await world.start("a", partial(kind, []))

        with pytest.raises(ActorDown, match="crashed: ValueError: boom") as caught:
            await cell.ref.ask(Ask(what=boom), timeout=float("inf"))

        assert boom is caught.value.__cause__


@BOTH_KINDS
@pytest.mark.parametrize("end", ["crash", "stop", "leave", "kill"])
async def test_a_request_kept_for_later_fails_with_its_incarnation(
    autojump_clock: trio.abc.Clock, kind: Kind, end: str
) -> None:
    """Whoever could have answered is gone: the asker hears at once, also when a restart follows."""
    async with open_world() as world:
        answers: list[Any] = []
        cell = await world.start("a", partial(kind, []))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, cell.ref, Keep(), answers, float("inf"))
            await settle()
            assert [] == answers

            match end:
                case "crash":
                    cell.ref.tell(ValueError("boom"))
                case "stop":
                    cell.request_stop()
                case "leave":
                    cell.ref.tell(Role.leave)
                case "kill":
                    cell.kill()

        expected: dict[str, type[Exit]] = {"crash": Crashed, "stop": Shutdown, "leave": Normal, "kill": Killed}
        assert [expected[end]] == [type(each.exit) for each in answers]


@BOTH_KINDS
async def test_a_request_kept_by_an_actor_that_ends_in_the_same_moment_fails(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """Also when the actor was idle, and ends over the very request that it keeps."""

    class Brief(kind):  # type: ignore[misc,valid-type]  # a test is given its base
        def receive(self, message: Any) -> Any:
            self.leave()
            return super().receive(message)

    async with open_world() as world:
        cell = await world.start("a", partial(Brief, []))
        await settle()

        with pytest.raises(ActorDown, match="actor /a did not answer: normal"):
            await cell.ref.ask(Keep(), timeout=float("inf"))


async def test_answers_to_an_old_incarnation_reach_nobody(autojump_clock: trio.abc.Clock) -> None:
    """An ask that the actor itself was waiting for ends with it: a later answer wakes nobody, and is counted as late."""
    async with open_world() as world:
        log: list[Any] = []
        other = await world.start("other", partial(Role, []))
        request = Keep()

        async def wait_for_answer(role: Role) -> None:
            role.log.append(await other.ref.ask(request, timeout=60))

        cell = await world.start("a", partial(Tasked, log))
        cell.ref.tell(wait_for_answer)
        await settle()
        cell.kill()
        await cell.wait_gone()
        await cell.start()

        assert not request.reply.is_open
        request.reply.answer("too late")
        await settle()

        assert ["start 1", "stop 1", "start 2"] == log
        assert {Why.CRASHED_OVER: 1, Why.LATE_REPLY: 1} == dict(world.stage.undelivered.by_why())


# ---------------------------------------------------------------- alarms


@BOTH_KINDS
@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_alarms_end_with_their_incarnation(autojump_clock: trio.abc.Clock, kind: Kind, end: str) -> None:
    """What an incarnation wanted to tell itself later is not told to the next one; nothing of it is left in the wheel."""
    async with open_world() as world:
        log: list[Any] = []

        def set_alarms(role: Role) -> None:
            role.alarms.after(5, "once")
            role.alarms.every(1, "again", key="again")

        cell = await world.start("a", partial(kind, log))
        cell.ref.tell(set_alarms)
        await trio.sleep(2.5)
        assert ["start 1", "again", "again"] == log

        if end == "crash":
            cell.ref.tell(ValueError("boom"))
        else:
            cell.request_stop()
        await settle()
        assert 0 == len(world.stage.timers)
        await cell.start()
        await trio.sleep(60)

        assert ["stop 1", "start 2"] == log[3:]


@BOTH_KINDS
async def test_a_tick_that_waits_is_not_handled_by_the_next_incarnation(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """An alarm that rang while the actor was busy, and then crashed, is not heard of again, and not counted as a loss."""
    async with open_world() as world:
        log: list[Any] = []

        async def be_late(role: Role) -> None:
            role.alarms.after(1, "tick")
            await trio.sleep(2)
            assert 1 == role.ref.waiting
            raise ValueError("boom")

        cell = await world.start("a", partial(kind, log))
        cell.ref.tell(be_late)
        await trio.sleep(3)

        await cell.start()
        await settle()

        assert ["start 1", "stop 1", "start 2"] == log
        assert {Why.CRASHED_OVER: 1} == dict(world.stage.undelivered.by_why())


async def test_an_actor_that_takes_all_never_sees_a_tick_of_an_old_incarnation(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Also when its next incarnation has no alarms: what it takes are messages."""
    got: list[Any] = []

    class Greedy(Role):
        async def receive_all(self, messages: Any) -> None:
            for each in messages:
                if callable(each):
                    await each(self)
                else:
                    got.append(each)

    async def be_late(role: Role) -> None:
        role.alarms.after(1, "tick")
        await trio.sleep(2)
        raise ValueError("boom")

    async with open_world() as world:
        cell = await world.start("a", partial(Greedy, []))
        cell.ref.tell(be_late)
        await trio.sleep(3)

        await cell.start()
        cell.ref.tell("message")
        await settle()

    assert ["message"] == got


async def test_a_tick_queued_before_its_alarm_was_cancelled_is_not_handled(autojump_clock: trio.abc.Clock) -> None:
    """Cancelling takes effect at once, whatever waits already."""
    async with open_world() as world:
        log: list[Any] = []

        async def change_its_mind(role: Role) -> None:
            role.alarms.after(1, "tick", key="k")
            await trio.sleep(2)
            role.alarms.cancel("k")

        cell = await world.start("a", partial(Tasked, log))
        cell.ref.tell(change_its_mind)
        cell.ref.tell("after")
        await trio.sleep(5)

        assert ["start 1", "after"] == log


# ---------------------------------------------------------------- its name, its Ref, its cleanup


@BOTH_KINDS
async def test_the_name_stays_taken_over_a_restart_and_is_free_when_stopped_returns(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """Between two incarnations nobody can take it; whoever waited for the end can."""
    async with open_world() as world:
        cell = await world.start("a", partial(kind, []))
        cell.ref.tell(ValueError("boom"))
        await settle()
        assert cell.ref is world.stage.whereis("/a")
        with pytest.raises(NameTaken):
            world.cell("a", partial(kind, []))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cell.ref.stopped)
            await settle()
            cell.end()

        assert None is world.stage.whereis("/a")
        world.cell("a", partial(kind, []))


@BOTH_KINDS
async def test_a_ref_from_before_a_restart_means_the_next_incarnation(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """tell, ask, stop and monitor reach whoever lives now."""
    async with open_world() as world:
        log: list[Any] = []
        news: list[Any] = []
        watcher = await world.start("watcher", partial(Role, news))
        cell = await world.start("a", partial(kind, log))
        ref = cell.ref
        ref.tell(ValueError("boom"))
        await settle()
        await cell.start()

        ref.tell("told")
        assert "asked" == await ref.ask(Ask(what="asked"), timeout=1)
        watcher.ref.tell(lambda role: role.monitor(ref) and None)
        await settle()
        await world.stop(cell)
        await settle()

        assert ["start 1", "stop 1", "start 2", "told", "stop 2"] == log
        assert [Shutdown()] == [each.exit for each in news[1:]]
        assert ref is cell.ref


@BOTH_KINDS
async def test_cleanup_is_over_before_the_next_incarnation_begins(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """An `on_stop` that takes its time delays the next `on_start`; nobody sees two incarnations at once."""
    log: list[str] = []

    class Slow(kind):  # type: ignore[misc,valid-type]  # a test is given its base
        async def on_stop(self) -> None:
            await trio.sleep(10)
            super().on_stop() if kind is Role else await super().on_stop()

    spec = SupervisorSpec((ChildSpec("a", partial(Slow, log)),))
    async with ActorSystem(spec) as system:
        ref = system.whereis("/a")
        assert ref is not None

        ref.tell(ValueError("boom"))
        await trio.sleep(9)
        assert ["start 1"] == log
        await trio.sleep(2)

        assert ["start 1", "stop 1", "start 2"] == log


# ---------------------------------------------------------------- the budget is spent


@BOTH_KINDS
async def test_a_spent_budget_ends_what_waits_as_the_final_stop_does(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """With messages queued when the supervisor gives up: each reaches `on_undelivered` once, and asks fail at once."""
    log: list[Any] = []
    lost: list[tuple[Any, Why]] = []
    answers: list[Any] = []
    mail = Mail(on_undelivered=lambda message, why: lost.append((message, why)))
    spec = SupervisorSpec((ChildSpec("a", partial(kind, log), mail=mail),), intensity=Intensity(1, 5))

    async with trio.open_nursery() as nursery:
        with pytest.raises(SystemGaveUp) as caught:
            async with ActorSystem(spec) as system:
                ref = system.whereis("/a")
                assert ref is not None
                for message in (ValueError("one"), 1, ValueError("two"), 2, 3):
                    ref.tell(message)
                nursery.start_soon(outcome, ref, Ask(), answers, float("inf"))
                await trio.sleep_forever()

    assert isinstance(caught.value.__cause__, IntensityExceeded)
    assert ["start 1", "stop 1", "start 2", 1, "stop 2"] == log
    assert [(2, Why.ENDED), (3, Why.ENDED)] == [each for each in lost if isinstance(each[0], int)]
    assert ["actor /a did not answer: crashed: ValueError: two"] == [str(each) for each in answers]


@BOTH_KINDS
async def test_what_waits_for_a_parked_actor_waits_and_whoever_asks_it_hears_at_once(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """Nobody knows when it comes back: tells keep their order until it does, asks fail, and are not handled later."""
    log: list[Any] = []
    answers: list[Any] = []
    spec = SupervisorSpec((ChildSpec("a", partial(kind, log), parks=True, intensity=Intensity(0)),))

    async with ActorSystem(spec) as system, trio.open_nursery() as nursery:
        ref = system.whereis("/a")
        assert ref is not None
        for message in (ValueError("boom"), 1):
            ref.tell(message)
        nursery.start_soon(outcome, ref, Ask(), answers, float("inf"))
        await settle()
        ref.tell(2)
        nursery.start_soon(outcome, ref, Keep(), answers, float("inf"))
        await settle()
        assert 2 * ["actor /a did not answer: crashed: ValueError: boom"] == [str(each) for each in answers]
        assert 2 == ref.waiting

        await system.restart_child("a")
        await settle()

        assert ["start 1", "stop 1", "start 2", 1, 2] == log


async def test_a_parked_actor_with_a_place_for_its_mail_hands_it_over(autojump_clock: trio.abc.Clock) -> None:
    """With `on_undelivered`, what waits and what comes is handed over as `parked` until it is restarted."""
    log: list[Any] = []
    lost: list[tuple[Any, Why]] = []
    mail = Mail(on_undelivered=lambda message, why: lost.append((message, why)))
    spec = SupervisorSpec((ChildSpec("a", partial(Role, log), parks=True, intensity=Intensity(0), mail=mail),))

    async with ActorSystem(spec) as system:
        ref = system.whereis("/a")
        assert ref is not None
        for message in (ValueError("boom"), 1):
            ref.tell(message)
        await settle()
        ref.tell(2)
        with pytest.raises(ActorDown, match="crashed: ValueError: boom"):
            await ref.ask(Ask(), timeout=float("inf"))
        await system.restart_child("a")
        ref.tell(3)
        await settle()

        assert [(1, Why.PARKED), (2, Why.PARKED)] == [each for each in lost if isinstance(each[0], int)]
        assert ["start 1", "stop 1", "start 2", 3] == log
