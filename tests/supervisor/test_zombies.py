"""Actors that ignore their stop and their cancellation: shown, left behind, and waited for by the very end only."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.errors import NameTaken
from callsheet.supervisor.child import KILL_BUDGET_S
from callsheet.supervisor.errors import ChildIsUp, ChildStartFailed
from callsheet.supervisor.spec import Backoff, ChildSpec, Strategy, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem

from .troupe import Plain, Troupe, settle, states, story, tell

BOOM = ValueError("boom")


def spec(*children: ChildSpec, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, **fields)


class Stubborn(Plain):
    """Ignores its stop and its cancellation for a thousand seconds, or until it is released; once."""

    release: trio.Event

    async def on_stop(self) -> None:
        if self.cell.generation == 1:
            with trio.move_on_after(1_000, shield=True):
                await self.release.wait()
        super().on_stop()


@pytest.fixture
def release() -> trio.Event:
    """Lets every Stubborn of the test end."""
    Stubborn.release = trio.Event()
    return Stubborn.release


# ---------------------------------------------------------------- f.7 row 16: zombies


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_siblings_go_on_without_a_zombie_and_its_end_brings_it_back(
    autojump_clock: trio.abc.Clock, release: trio.Event, strategy: Strategy
) -> None:
    """The group is restarted without it and its name is not used; when it ends, it is restarted as after any other end."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("b", Stubborn, stop_budget_s=1), troupe.child("c")]

    async with ActorSystem(spec(*children, strategy=strategy)) as system:
        troupe.since()
        tell(system, "/a", BOOM)
        await trio.sleep(1 + KILL_BUDGET_S + 1)
        assert ["-a", "-c", "+a", "+c"] == troupe.since()
        assert {"": "running", "/a": "running", "/b": "zombie", "/c": "running"} == states(system)
        assert "/b zombie (1)" in story(system)

        tell(system, "/c", BOOM)
        await trio.sleep(10)
        assert "zombie" == states(system)["/b"]
        troupe.since()
        release.set()
        await settle()
        every = strategy is Strategy.ONE_FOR_ALL
        assert ["-b", *(["-c", "-a", "+a", "+b", "+c"] if every else ["-c", "+b", "+c"])] == troupe.since()


async def test_a_group_that_waited_starts_without_its_zombie(
    autojump_clock: trio.abc.Clock, release: trio.Event
) -> None:
    """When the delay is over the others start; the zombie follows when it has ended, and nobody is woken for it before."""
    troupe = Troupe()
    children = [troupe.child("a", backoff=Backoff(20, 20)), troupe.child("b", Stubborn, stop_budget_s=1)]

    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE)) as system:
        troupe.since()
        tell(system, "/a", BOOM)
        await trio.sleep(30)
        assert ["-a", "+a"] == troupe.since()
        assert ("zombie", 0) == (states(system)["/b"], len(system.stage.timers))
        release.set()
        await settle()

        assert ["-b", "+b"] == troupe.since()
        assert {"running"} == set(states(system).values())


async def test_the_name_of_a_zombie_is_free_when_it_ends(autojump_clock: trio.abc.Clock, release: trio.Event) -> None:
    """A stopped child that became a zombie stays down when it ends; removed, its name is refused until then."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Stubborn, stop_budget_s=1))) as system:
        await system.stop_child("b")
        assert 1 + KILL_BUDGET_S == trio.current_time()
        assert "zombie" == states(system)["/b"]
        assert ["/b overran 1 s: None", "/b zombie (1)"] == story(system)[2:]
        with pytest.raises(
            ChildIsUp, match="/b is a zombie: it has been told to stop, and can be restarted when it has"
        ):
            await system.restart_child("b")
        await system.remove_child("b")
        with pytest.raises(NameTaken, match="an actor named /b is alive already"):
            await system.start_child(troupe.child("b"))
        release.set()
        await settle()
        assert {"": "running", "/a": "running"} == states(system)
        await system.start_child(troupe.child("b"))

        assert ["+a", "+b", "-b", "+b"] == troupe.since()


async def test_only_the_very_end_waits_for_a_zombie(autojump_clock: trio.abc.Clock, release: trio.Event) -> None:
    """Everybody else has stopped in time; the block is left when the zombie ends, and not before."""
    troupe = Troupe()

    async def let_go() -> None:
        await trio.sleep(100)
        troupe.log.append("released")
        release.set()

    async with trio.open_nursery() as nursery:
        async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Stubborn, stop_budget_s=1))):
            troupe.since()
            nursery.start_soon(let_go)

        assert ["-a", "released", "-b"] == troupe.since()
        assert 100 == trio.current_time()


async def test_a_start_that_ignores_its_cancellation_is_a_zombie_too(autojump_clock: trio.abc.Clock) -> None:
    """It is left behind after twice its budget; it cleans up what it started at last, and handles nothing."""
    troupe = Troupe()
    release = trio.Event()

    class Deaf(Plain):
        async def on_start(self) -> None:
            with trio.move_on_after(1_000, shield=True):
                await release.wait()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        with pytest.raises(ChildStartFailed, match="/b could not start: StartTimeout"):
            await system.start_child(troupe.child("b", Deaf, start_budget_s=2))
        assert 4 == trio.current_time()
        tell(system, "/b", "hello")
        assert "zombie" == states(system)["/b"]
        assert ["/b zombie (1)", "/b could not start (1)"] == [each[:22] for each in story(system)[-2:]]
        release.set()
        await settle()

        assert {"": "running", "/a": "running"} == states(system)
        assert ["+a", "-b"] == troupe.since()


async def test_a_zombie_that_cleans_up_slowly_is_a_zombie_still(autojump_clock: trio.abc.Clock) -> None:
    """What was left behind is not waited for a second time because it moves at last."""
    troupe = Troupe()
    release = trio.Event()

    class Deaf(Plain):
        async def run(self) -> None:
            with trio.move_on_after(1_000, shield=True):
                await release.wait()

        async def on_stop(self) -> None:
            with trio.move_on_after(50, shield=True):
                await trio.sleep_forever()

    async with ActorSystem(spec(troupe.child("a", Deaf, stop_budget_s=1))) as system:
        await system.stop_child("a")
        release.set()
        await settle()
        assert "zombie" == states(system)["/a"]
        await trio.sleep(60)

        assert "down" == states(system)["/a"]


async def test_a_killed_supervisor_leaves_its_zombies_shown(
    autojump_clock: trio.abc.Clock, release: trio.Event
) -> None:
    """A supervisor with a finite budget is cancelled over a child that ignores everything: both are accounted for."""
    troupe = Troupe()
    inner = spec(troupe.child("x", Stubborn, stop_budget_s=100), troupe.child("y"))

    async with ActorSystem(spec(troupe.child("a"), subtree("inner", inner, stop_budget_s=2))) as system:
        troupe.since()
        await system.stop_child("inner")
        await trio.sleep(10)

        assert ["-y"] == troupe.since()
        assert {"": "running", "/a": "running", "/inner": "down", "/inner/x": "zombie"} == states(system)
        release.set()
        await settle()
        assert {"": "running", "/a": "running", "/inner": "down"} == states(system)
