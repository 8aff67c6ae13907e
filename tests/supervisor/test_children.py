"""Children at run time: started, stopped, restarted, removed and replaced on request; and what is refused, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

from callsheet.actors.actor import Actor
from callsheet.actors.errors import ActorDown, AskedItself, AskTimeout, WrongMessage
from callsheet.actors.exits import Shutdown
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.actors.undelivered import Why
from callsheet.supervisor.errors import ChildIsUp, ChildStartFailed, DuplicateChild, NeededByAll, NotMyChild
from callsheet.supervisor.requests import StartChild, StopChild
from callsheet.supervisor.spec import Backoff, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem

from .troupe import Plain, Troupe, settle, states, story, tell

BOOM = ValueError("boom")


def spec(*children: ChildSpec, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, **fields)


def at(system: ActorSystem, path: str) -> Ref[Any]:
    ref = system.whereis(path)
    assert ref is not None
    return ref


class Slow(Plain):
    """Needs a second to start and one to stop."""

    async def on_start(self) -> None:
        await trio.sleep(1)
        super().on_start()

    async def on_stop(self) -> None:
        await trio.sleep(1)
        super().on_stop()


class Broken(Plain):
    """Starts once."""

    def on_start(self) -> None:
        if self.cell.generation > 1:
            raise OSError("once only")
        super().on_start()


# ---------------------------------------------------------------- start


async def test_a_child_more_starts_after_the_others_and_is_one_of_them(autojump_clock: trio.abc.Clock) -> None:
    """The Ref is that of a child that is up; from then on it is restarted and stopped like any other, as the last."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"), troupe.child("b"), strategy=Strategy.ONE_FOR_ALL)) as system:
        ref = await system.start_child(troupe.child("c", Slow))
        assert ["+a", "+b", "+c"] == troupe.since()
        assert ("/c", "running") == (ref.path, states(system)["/c"])
        tell(system, "/a", BOOM)
        await trio.sleep(5)
        assert ["-a", "-c", "-b", "+a", "+b", "+c"] == troupe.since()

    assert ["-c", "-b", "-a"] == troupe.since()


async def test_a_child_can_be_started_under_any_supervisor(autojump_clock: trio.abc.Clock) -> None:
    """By the host or by an actor: a supervisor is an actor like any other, and its messages are public."""
    troupe = Troupe()

    class Director(Actor[Any]):
        async def receive(self, message: Any) -> None:
            await at_stage(self, "/inner").ask(StartChild(troupe.child("y")), timeout=5)
            troupe.log.append("answered")

    def at_stage(actor: Actor[Any], path: str) -> Ref[Any]:
        ref = actor.stage.whereis(path)
        assert ref is not None
        return ref

    children = [subtree("inner", spec(troupe.child("x"))), ChildSpec("director", Director)]
    async with ActorSystem(spec(*children)) as system:
        tell(system, "/director", "begin")
        await settle()
        await system.start_child(troupe.child("z"), under=at(system, "/inner"))

        assert ["+x", "+y", "answered", "+z"] == troupe.since()
        assert {"/inner/x", "/inner/y", "/inner/z"} == {path for path in states(system) if path.startswith("/inner/")}


@pytest.mark.parametrize("down", [None, "stopped", "parked", "waiting"])
async def test_a_second_child_of_a_name_is_refused(autojump_clock: trio.abc.Clock, down: str | None) -> None:
    """Also while the first is down: the sentence says in which state it is, and what would do."""
    troupe = Troupe()

    per_state: dict[str, dict[str, Any]] = {
        "parked": {"parks": True, "intensity": Intensity(0)},
        "waiting": {"backoff": Backoff(60, 60)},
    }
    fields = per_state.get(str(down), {})
    async with ActorSystem(spec(troupe.child("a", **fields))) as system:
        if down == "stopped":
            await system.stop_child("a")
        elif down is not None:
            tell(system, "/a", BOOM)
            await settle()
        troupe.since()

        with pytest.raises(DuplicateChild) as caught:
            await system.start_child(troupe.child("a"))

        state = down or "running"
        assert f"/a is there already ({state}): restart, remove or replace it, or use another name" == str(caught.value)
        assert [] == troupe.since()


async def test_a_child_that_cannot_start_is_not_kept(autojump_clock: trio.abc.Clock) -> None:
    """Its siblings stay as they are, no intensity is spent, and the name is free at once."""
    troupe = Troupe()

    class Failing(Plain):
        def on_start(self) -> None:
            raise OSError("no device")

    async with ActorSystem(spec(troupe.child("a"), strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(0))) as system:
        with pytest.raises(ChildStartFailed, match="/b could not start: OSError: no device") as caught:
            await system.start_child(troupe.child("b", Failing))
        await system.start_child(troupe.child("b"))

        assert isinstance(caught.value.__cause__, OSError)
        assert ["+a", "+b"] == troupe.since()


async def test_a_start_that_a_stop_overtakes_is_not_answered_as_done(autojump_clock: trio.abc.Clock) -> None:
    """Whoever asked for a child hears that there will be none; the half-started one is stopped with the others."""
    troupe = Troupe()
    answers: list[Any] = []

    async def ask(system: ActorSystem) -> None:
        try:
            answers.append(await system.start_child(troupe.child("c", Slow, stop_budget_s=3)))
        except ActorDown as error:
            answers.append(str(error))

    async with trio.open_nursery() as nursery, ActorSystem(spec(troupe.child("a"))) as system:
        nursery.start_soon(ask, system)
        await settle()

    assert ["actor / did not answer: shutdown (shutdown)"] == answers
    assert ["+a", "+c", "-c", "-a"] == troupe.since()


async def test_a_replacement_that_a_stop_overtakes_is_not_started(autojump_clock: trio.abc.Clock) -> None:
    """A system that is left while the former child stops does not wait for a new one that it would stop again."""
    troupe = Troupe()
    answers: list[str] = []

    class Endless(Plain):
        async def on_start(self) -> None:
            await trio.sleep_forever()

    async def ask(system: ActorSystem) -> None:
        try:
            await system.replace_child(troupe.child("b", Endless))
        except ActorDown as error:
            answers.append(str(error))

    async with trio.open_nursery() as nursery:
        async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Slow))) as system:
            began_s = trio.current_time()
            nursery.start_soon(ask, system)
            await settle()

        assert 1 == trio.current_time() - began_s

    assert ["actor / did not answer: shutdown (shutdown)"] == answers
    assert ["+a", "+b", "-b", "-a"] == troupe.since()


# ---------------------------------------------------------------- stop


async def test_a_stopped_child_stays_down_and_is_kept(autojump_clock: trio.abc.Clock) -> None:
    """Answered when it is gone; neither its own end nor a restart of its group brings it back; what it is told waits."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("b", Slow), troupe.child("c")]

    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        troupe.since()
        await system.stop_child(at(system, "/b"))
        assert ["-b"] == troupe.since()
        tell(system, "/b", "waits")
        tell(system, "/a", BOOM)
        await trio.sleep(10)
        assert ["-a", "-c", "+a", "+c"] == troupe.since()
        assert "down" == states(system)["/b"]

        await system.restart_child("b")
        await settle()
        assert ["+b", "b:waits"] == troupe.since()


async def test_stopping_what_is_down_does_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Twice is once: no second report, and a parked child stays parked."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("b", parks=True, intensity=Intensity(0))]

    async with ActorSystem(spec(*children)) as system:
        tell(system, "/b", BOOM)
        await settle()
        await system.stop_child("a")
        before = story(system)
        await system.stop_child("a")
        await system.stop_child("b")

        assert before == story(system)
        with pytest.raises(DuplicateChild, match=r"/b is there already \(parked\)"):
            await system.start_child(troupe.child("b"))


async def test_a_temporary_child_that_is_stopped_is_gone(autojump_clock: trio.abc.Clock) -> None:
    """Its name is free; nobody can restart it."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", restart=Restart.TEMPORARY))) as system:
        ref = at(system, "/a")
        await system.stop_child("a")

        assert Shutdown() == await ref.stopped()
        assert {"": "running"} == states(system)
        with pytest.raises(NotMyChild, match=r"supervisor / has no child a \(1 others\): ask the one that started it"):
            await system.restart_child("a")


async def test_a_stop_for_good_drains_what_the_spec_says(autojump_clock: trio.abc.Clock) -> None:
    """With `drain` what waits is handled first; a restart of its group does not drain, since nothing is lost by it."""
    troupe = Troupe()

    class Worker(Plain):
        async def receive(self, message: Any) -> None:  # type: ignore[override]  # plain or not is for each class to say
            if isinstance(message, BaseException):
                raise message
            await trio.sleep(1)
            super().receive(message)

    children = [troupe.child("a"), troupe.child("b", Worker, drain=True, stop_budget_s=60)]
    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        troupe.since()
        for n in range(3):
            tell(system, "/b", n)
        await trio.sleep(0.5)
        tell(system, "/a", BOOM)
        await trio.sleep(1)
        assert ["-a", "b:0", "-b", "+a", "+b"] == troupe.since()

        await system.stop_child("b")
        assert ["b:1", "b:2", "-b"] == troupe.since()
        assert {} == dict(system.undelivered.by_why())


@pytest.mark.parametrize("budget_s", [60, 1.5])
async def test_leaving_drains_too_within_the_budget(autojump_clock: trio.abc.Clock, budget_s: float) -> None:
    """The end of a system is a stop for good: what waits is handled first, as far as the budget goes; the rest is counted."""
    troupe = Troupe()

    class Worker(Plain):
        async def receive(self, message: Any) -> None:  # type: ignore[override]  # plain or not is for each class to say
            await trio.sleep(1)
            super().receive(message)

    async with ActorSystem(spec(troupe.child("a", Worker, drain=True, stop_budget_s=budget_s))) as system:
        for n in range(3):
            tell(system, "/a", n)
        await settle()

    done = 3 if budget_s == 60 else 1
    assert ["+a", *(f"a:{n}" for n in range(done)), "-a"] == troupe.since()
    assert 3 - done == sum(system.undelivered.by_why().values())


async def test_a_child_that_asks_for_its_own_stop_is_stopped(autojump_clock: trio.abc.Clock) -> None:
    """It waits for an answer that comes when it is gone: its stop budget ends that, and everybody else goes on."""
    troupe = Troupe()

    class Suicidal(Plain):
        async def receive(self, message: Any) -> None:  # type: ignore[override]  # plain or not is for each class to say
            parent = self.stage.whereis("")
            assert parent is not None
            await parent.ask(StopChild("a"), timeout=math.inf)

    async with ActorSystem(spec(troupe.child("a", Suicidal, stop_budget_s=3), troupe.child("b"))) as system:
        tell(system, "/a", "stop yourself")
        await trio.sleep(10)

        assert {"": "running", "/a": "down", "/b": "running"} == states(system)
        assert ["+a", "+b", "-a"] == troupe.since()


# ---------------------------------------------------------------- restart, remove, replace


async def test_only_what_is_down_is_restarted_or_removed(autojump_clock: trio.abc.Clock) -> None:
    """A child that is up is stopped first: the sentence says so, and nothing happens to it."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        for ask in (system.restart_child, system.remove_child):
            with pytest.raises(ChildIsUp) as caught:
                await ask("a")
            assert "/a is running: stop it first" == str(caught.value)

        assert ["+a"] == troupe.since()


async def test_a_restart_that_fails_leaves_the_child_stopped(autojump_clock: trio.abc.Clock) -> None:
    """Whoever asked hears why, nobody else is touched, and it can be tried again."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", Broken), intensity=Intensity(0))) as system:
        await system.stop_child("a")
        for _ in range(2):
            with pytest.raises(ChildStartFailed, match="/a could not start: OSError: once only"):
                await system.restart_child("a")

        assert {"": "running", "/a": "down"} == states(system)


async def test_a_removed_child_is_gone_with_what_waited_for_it(autojump_clock: trio.abc.Clock) -> None:
    """Its name is free, its messages are undelivered, and whoever holds its Ref is told."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        ref = at(system, "/a")
        await system.stop_child("a")
        ref.tell("lost")
        await system.remove_child(ref)

        assert {"": "running"} == states(system)
        assert {Why.ENDED: 1} == dict(system.undelivered.by_why())
        with pytest.raises(ActorDown, match="/a did not answer"):
            await ref.ask(_Hello(), timeout=1)
        await system.start_child(troupe.child("a"))
        with pytest.raises(NotMyChild):
            await system.stop_child(ref)
        assert ["+a", "-a", "+a"] == troupe.since()


@pytest.mark.parametrize("down", [True, False])
async def test_a_replacement_takes_the_place_of_the_former(autojump_clock: trio.abc.Clock, down: bool) -> None:
    """The old one has stopped before the new one starts, and the new one has its place among its siblings."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("b", Slow), troupe.child("c")]

    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE)) as system:
        former = at(system, "/b")
        if down:
            await system.stop_child("b")
        troupe.since()
        ref = await system.replace_child(ChildSpec("b", lambda: Plain("new", troupe.log)))
        assert (["+new"] if down else ["-b", "+new"]) == troupe.since()
        assert former is not ref
        assert Shutdown() == await former.stopped()
        tell(system, "/b", BOOM)
        await settle()
        assert ["-new", "-c", "+new", "+c"] == troupe.since()

    assert ["-c", "-new", "-a"] == troupe.since()


async def test_replacing_nobody_starts_a_child(autojump_clock: trio.abc.Clock) -> None:
    """Whoever wants a child to be there in this form need not know whether there was one."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        await system.replace_child(troupe.child("b"))

        assert ["+a", "+b"] == troupe.since()


async def test_a_replacement_that_cannot_start_leaves_nobody(autojump_clock: trio.abc.Clock) -> None:
    """The former one is gone, its name is free, and its siblings never notice."""
    troupe = Troupe()

    class Failing(Plain):
        def on_start(self) -> None:
            raise OSError("no")

    children = [troupe.child("a"), troupe.child("b"), troupe.child("c")]
    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(0))) as system:
        troupe.since()
        with pytest.raises(ChildStartFailed, match="/b could not start: OSError: no"):
            await system.replace_child(troupe.child("b", Failing))

        assert ["-b"] == troupe.since()
        assert {"": "running", "/a": "running", "/c": "running"} == states(system)
        await system.start_child(troupe.child("b"))


# ---------------------------------------------------------------- wrong use


class _Hello(Request[str]):
    pass


@pytest.mark.parametrize("what", ["stop_child", "restart_child", "remove_child"])
async def test_a_strangers_child_is_left_alone(autojump_clock: trio.abc.Clock, what: str) -> None:
    """By a name that it does not have, or by the Ref of somebody else's child of the same name."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("x"), subtree("inner", spec(troupe.child("x"))))) as system:
        stranger = at(system, "/inner/x")
        ask: Callable[[object], Coroutine[Any, Any, object]] = getattr(system, what)
        with pytest.raises(NotMyChild) as by_ref:
            await ask(stranger)
        with pytest.raises(NotMyChild) as by_name:
            await ask("nobody")

        assert "supervisor / has no child /inner/x (3 others): ask the one that started it" == str(by_ref.value)
        assert "supervisor / has no child nobody (3 others): ask the one that started it" == str(by_name.value)
        assert ["+x", "+x"] == troupe.since()


async def test_an_actor_that_asks_itself_is_told_so(autojump_clock: trio.abc.Clock) -> None:
    """A question that only the asker could answer fails at once, in a sentence that says what would do."""
    told: list[str] = []

    class Lonely(Actor[Any]):
        async def receive(self, message: Any) -> None:
            try:
                await self.ref.ask(_Hello(), timeout=math.inf)
            except AskedItself as error:
                told.append(str(error))

    async with ActorSystem(spec(ChildSpec("a", Lonely))) as system:
        tell(system, "/a", "begin")
        await settle()

    assert ["actor /a asked itself: it would wait for ever; tell it instead, or call the method"] == told


async def test_a_supervisor_that_is_busy_answers_late_or_not_at_all(autojump_clock: trio.abc.Clock) -> None:
    """A timeout ends the wait, not the work: the child that was asked for starts all the same."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        with pytest.raises(AskTimeout, match=r"actor / did not answer within 0.5 s"):
            await system.start_child(troupe.child("b", Slow), timeout=0.5)
        await trio.sleep(1)

        assert ["+a", "+b"] == troupe.since()


@frozen
class Add:
    """A message."""


@frozen
class Reset:
    """Another."""


class Counter(Actor[Add | Reset]):
    """Says what it takes."""

    def receive(self, message: Add | Reset) -> None:
        """Whatever it is."""


async def test_a_message_outside_the_union_is_refused_in_checked_mode(autojump_clock: trio.abc.Clock) -> None:
    """Whoever sends it is told at the line that sends it; the actor and what else it is told are not touched."""
    async with ActorSystem(spec(ChildSpec("counter", Counter)), checked=True) as system:
        counter = at(system, "/counter")
        with pytest.raises(WrongMessage) as caught:
            counter.tell("add")
        counter.tell(Add())
        counter.tell(Reset())
        await settle()

        start = str(caught.value).partition(": it takes ")[0]
        assert "/counter was sent a str" == start
        assert {"Add", "Reset"} <= set(str(caught.value).replace(".", " ").split())
        assert ("running", 1) == (states(system)["/counter"], system.stage.registry["/counter"].generation)


async def test_a_supervisor_refuses_nonsense_in_checked_mode(autojump_clock: trio.abc.Clock) -> None:
    """The runtime's own actors say what they take, too: the wrong message reaches nobody, and crashes nobody."""
    troupe = Troupe()

    async with ActorSystem(spec(subtree("inner", spec(troupe.child("x")))), checked=True) as system:
        with pytest.raises(WrongMessage, match="/inner was sent a str"):
            at(system, "/inner").tell("nonsense")
        with pytest.raises(WrongMessage, match="/scheduler was sent a str: it takes no messages at all"):
            at(system, "/scheduler").tell("nonsense")
        await system.start_child(troupe.child("y"), under=at(system, "/inner"))

        assert ["+x", "+y"] == troupe.since()


async def test_a_child_that_ended_by_itself_is_nobodys_child(autojump_clock: trio.abc.Clock) -> None:
    """A transient child that ended normally is gone; a request about it says so, and its name can be used again."""
    troupe = Troupe()
    child = troupe.child("a", restart=Restart.TRANSIENT)

    async with ActorSystem(spec(child)) as system:
        tell(system, "/a", "leave")
        await settle()
        with pytest.raises(NotMyChild):
            await system.restart_child("a")
        await system.start_child(child)

        assert ["+a", "-a", "+a"] == troupe.since()


@pytest.mark.parametrize("wish", ["stop", "replace", "remove"])
async def test_the_scheduler_cannot_be_stopped_by_itself(autojump_clock: trio.abc.Clock, wish: str) -> None:
    """Whoever waits in time would wait for ever: it is refused with a sentence, and nothing is changed."""
    async with ActorSystem() as system:
        with pytest.raises(NeededByAll, match="/scheduler cannot be stopped by itself"):
            if wish == "stop":
                await system.stop_child("scheduler")
            elif wish == "remove":
                await system.remove_child("scheduler")
            else:
                await system.replace_child(ChildSpec("scheduler", Actor))

        cell = system.stage.registry["/scheduler"]
        assert ("running", 1) == (cell.state, cell.generation)
