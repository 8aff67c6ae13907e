"""The rows of the supervision contract, which are OTP's except where a test says so, each with living children."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.errors import StartTimeout
from callsheet.actors.exits import Crashed, Killed, Normal, Shutdown
from callsheet.supervisor.errors import ChildStartFailed, IntensityExceeded
from callsheet.supervisor.requests import StopChild
from callsheet.supervisor.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Plain, Tasked, Troupe, settle, states, story, tell

BOOM = ValueError("boom")


def spec(*children: ChildSpec, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, **fields)


# ---------------------------------------------------------------- rows 7-11: who comes back


@pytest.mark.parametrize(
    ("restart", "end", "again"),
    [
        (Restart.PERMANENT, Normal(), True),
        (Restart.PERMANENT, Shutdown("enough"), True),
        (Restart.PERMANENT, BOOM, True),
        (Restart.TRANSIENT, Normal(), False),
        (Restart.TRANSIENT, Shutdown("enough"), False),
        (Restart.TRANSIENT, BOOM, True),
        (Restart.TEMPORARY, Normal(), False),
        (Restart.TEMPORARY, Shutdown("enough"), False),
        (Restart.TEMPORARY, BOOM, False),
    ],
)
@pytest.mark.parametrize("kind", [Plain, Tasked])
async def test_the_nine_cases(
    autojump_clock: trio.abc.Clock, kind: type[Plain], restart: Restart, end: object, again: bool
) -> None:
    """How a child ends and what it is decide whether it comes back; whoever does not is gone, and its name is free."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", kind, restart=restart), troupe.child("b"))) as system:
        troupe.since()
        tell(system, "/a", end)
        await settle()

        assert (["-a", "+a"] if again else ["-a"]) == troupe.since()
        assert again == ("/a" in states(system))
        tell(system, "/b", "still here")
        await settle()
        assert ["b:still here"] == troupe.since()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-c", "-t", "-a", "+a", "+b", "+c"]),
        (Strategy.REST_FOR_ONE, ["-b", "-c", "-t", "+b", "+c"]),
    ],
)
async def test_a_temporary_bystander_is_stopped_and_not_started_again(
    autojump_clock: trio.abc.Clock, strategy: Strategy, expected: list[str]
) -> None:
    """A temporary child that a strategy takes down is gone for good: it is not even a stopped child."""
    troupe = Troupe()
    children = [
        troupe.child("a"),
        troupe.child("b"),
        troupe.child("t", restart=Restart.TEMPORARY),
        troupe.child("c"),
    ]

    async with ActorSystem(spec(*children, strategy=strategy)) as system:
        troupe.since()
        tell(system, "/b", BOOM)
        await settle()

        assert expected == troupe.since()
        assert ("-t" not in expected) == ("/t" in states(system))


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_two_that_crash_in_the_same_step_are_mended_once(
    autojump_clock: trio.abc.Clock, strategy: Strategy
) -> None:
    """The end of a child that was restarted since, with its group, is old news: it spends nothing and stops nobody."""
    troupe = Troupe()
    alone = strategy is Strategy.ONE_FOR_ONE
    children = [troupe.child(name, Plain) for name in "abc"]

    async with ActorSystem(spec(*children, strategy=strategy, intensity=Intensity(2 if alone else 1, 60))) as system:
        troupe.since()
        tell(system, "/a", BOOM)
        tell(system, "/b", BOOM)
        await settle()

        assert (["-a", "-b", "+a", "+b"] if alone else ["-a", "-b", "-c", "+a", "+b", "+c"]) == troupe.since()
        assert {"running"} == set(states(system).values())


async def test_all_are_gone_before_the_first_starts_again(autojump_clock: trio.abc.Clock) -> None:
    """Nobody of the new group meets anybody of the old one, however long the old ones need to stop."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            self.log.append(f"-{self.name} at {trio.current_time():g}")

        def on_start(self) -> None:
            self.log.append(f"+{self.name} at {trio.current_time():g}")

    children = [troupe.child(name, Slow) for name in "abc"]
    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        troupe.since()
        tell(system, "/b", BOOM)
        await trio.sleep(60)

        assert ["-b at 2", "-c at 4", "-a at 6", "+a at 6", "+b at 6", "+c at 6"] == troupe.since()


# ---------------------------------------------------------------- rows 2, 12: starts that fail


@pytest.mark.parametrize("at", ["boot", "run time"])
async def test_a_child_that_cannot_start_is_dead_before_anybody_hears_of_it(
    autojump_clock: trio.abc.Clock, at: str
) -> None:
    """Its cleanup has ended and its name is free when the start is known to have failed; those before it stop after that."""
    troupe = Troupe()
    held: list[str] = []

    class Holding(Plain):
        async def on_start(self) -> None:
            assert not held, "the socket is free when it is tried again"
            held.append("socket")
            try:
                await trio.sleep(1)
                raise OSError("no")
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)
                held.clear()
                self.log.append("released")

    child = troupe.child("c", Holding)
    if at == "boot":
        with pytest.raises(OSError, match="no"):
            async with ActorSystem(spec(troupe.child("a"), troupe.child("b"), child)) as system:
                pytest.fail("it never opens")
        assert ["+a", "+b", "released", "-b", "-a"] == troupe.since()
    else:
        async with ActorSystem(spec(troupe.child("a"), troupe.child("b"))) as system:
            for _ in range(2):
                with pytest.raises(ChildStartFailed, match="/c could not start: OSError: no"):
                    await system.start_child(child)
                assert {"": "running", "/a": "running", "/b": "running"} == states(system)
            assert ["+a", "+b", "released", "released"] == troupe.since()


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_another_child_that_fails_its_restart_is_tried_until_it_succeeds(
    autojump_clock: trio.abc.Clock, strategy: Strategy
) -> None:
    """Each failure takes the group down again and spends one unit; in the end all are there, in order."""
    troupe = Troupe()
    failures = [OSError("not yet"), OSError("not yet")]

    class Shy(Plain):
        def on_start(self) -> None:
            super().on_start()
            if self.cell.generation > 1 and failures:
                raise failures.pop()

    children = [troupe.child("a"), troupe.child("b"), troupe.child("shy", Shy), troupe.child("z")]
    async with ActorSystem(spec(*children, strategy=strategy, intensity=Intensity(3, 60))) as system:
        troupe.since()
        tell(system, "/b", BOOM)
        await settle()

        every = strategy is Strategy.ONE_FOR_ALL
        first = ["-b", "-z", "-shy", "-a", "+a", "+b", "+shy"] if every else ["-b", "-z", "-shy", "+b", "+shy"]
        retry = ["-b", "-a", "+a", "+b", "+shy"] if every else ["+shy"]
        assert [*first, *retry, *retry, "+z"] == troupe.since()
        assert {"running"} == set(states(system).values())


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_child_that_never_starts_again_makes_its_supervisor_give_up(
    autojump_clock: trio.abc.Clock, strategy: Strategy
) -> None:
    """One crash and `restarts` failed starts; the cause is what the last start raised; the others stop in reverse."""
    troupe = Troupe()
    errors = [OSError(f"no {n}") for n in range(3)]

    class Broken(Plain):
        def on_start(self) -> None:
            if self.cell.generation > 1:
                raise errors[self.cell.generation - 2]
            super().on_start()

    children = [troupe.child("a"), troupe.child("b", Broken), troupe.child("c")]
    with pytest.raises(SystemGaveUp) as caught:
        async with ActorSystem(spec(*children, strategy=strategy, intensity=Intensity(3, 60))) as system:
            tell(system, "/b", BOOM)
            await trio.sleep_forever()

    log = troupe.since()
    assert [log.count(f"+{name}") for name in "abc"] == [log.count(f"-{name}") for name in "abc"]
    gave_up = caught.value.__cause__
    assert isinstance(gave_up, IntensityExceeded)
    assert ("/b", 3, 60) == (gave_up.child, gave_up.restarts, gave_up.period_s)
    assert errors[-1] is gave_up.__cause__
    assert 0 == sum(n for path, n in system.undelivered.by_path().items() if path == "")


async def test_a_supervisor_serves_others_while_a_start_fails_for_ever(autojump_clock: trio.abc.Clock) -> None:
    """A child whose start fails slowly never spends the intensity; its siblings are mended, and it can be stopped."""
    troupe = Troupe()

    class Broken(Plain):
        async def on_start(self) -> None:
            if self.cell.generation > 1:
                await trio.sleep(2)
                raise OSError("no")

    children = [troupe.child("a"), troupe.child("b", Broken, intensity=Intensity(3, 5)), troupe.child("c")]
    async with ActorSystem(spec(*children)) as system:
        tell(system, "/b", BOOM)
        await trio.sleep(60)
        troupe.since()
        tell(system, "/a", BOOM)
        await trio.sleep(3)
        assert ["-a", "+a"] == troupe.since()

        await system.stop_child("b", timeout=10)
        generation = system.stage.registry["/b"].generation
        await trio.sleep(60)
        assert (generation, "down") == (system.stage.registry["/b"].generation, states(system)["/b"])


async def test_a_thousand_failed_starts_in_a_row_are_no_recursion(autojump_clock: trio.abc.Clock) -> None:
    """However large its budget, a child that fails at once neither exhausts the stack nor keeps the host waiting."""
    troupe = Troupe()

    class Broken(Plain):
        def on_start(self) -> None:
            if 1 < self.cell.generation <= 1_000:
                raise OSError("no")

    async with ActorSystem(spec(troupe.child("a", Broken), intensity=Intensity(2_000, 60))) as system:
        child = system.stage.registry["/a"]
        tell(system, "/a", BOOM)
        turns = 0
        while child.generation <= 1_000:
            await trio.lowlevel.checkpoint()
            turns += 1

        assert (1_001, "running") == (child.generation, states(system)["/a"])
        assert 500 < turns


async def test_a_start_that_never_reports_ready_is_a_failed_start(autojump_clock: trio.abc.Clock) -> None:
    """After its budget it is cancelled, and the sentence says what to do about it; nothing of it is left."""
    troupe = Troupe()

    class Endless(Plain):
        async def on_start(self) -> None:
            await trio.sleep_forever()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        with pytest.raises(ChildStartFailed) as caught:
            await system.start_child(troupe.child("b", Endless, start_budget_s=7))

        assert 7 == trio.current_time()
        assert isinstance(caught.value.__cause__, StartTimeout)
        assert (
            "actor /b did not report ready within 7 s: its on_start has not returned; "
            "give it a larger start_budget_s, or begin the slow part after the start"
        ) == str(caught.value.__cause__)
        assert {"": "running", "/a": "running"} == states(system)


@pytest.mark.parametrize("cleanup_s", [0, 3])
async def test_a_supervisor_that_does_not_get_up_in_time_takes_its_children_along(
    autojump_clock: trio.abc.Clock, cleanup_s: int
) -> None:
    """With a finite budget to start in, a subtree is down as a whole when that is over: no name and no task is left."""
    troupe = Troupe()

    class Endless(Plain):
        async def on_start(self) -> None:
            await trio.sleep_forever()

    class Cleaning(Plain):
        async def on_stop(self) -> None:
            with trio.move_on_after(cleanup_s, shield=True):
                await trio.sleep_forever()
            super().on_stop()

    inner = spec(troupe.child("x", Cleaning), troupe.child("y", Endless))
    async with ActorSystem(spec(troupe.child("a"))) as system:
        with pytest.raises(ChildStartFailed, match="/inner could not start: StartTimeout"):
            await system.start_child(subtree("inner", inner, start_budget_s=10))

        assert 10 + cleanup_s == trio.current_time()
        assert {"": "running", "/a": "running"} == states(system)
        assert ["+a", "+x", "-x"] == troupe.since()


@pytest.mark.parametrize("during", ["the boot", "a restart of others"])
async def test_an_end_while_others_start_is_not_lost(autojump_clock: trio.abc.Clock, during: str) -> None:
    """A child that crashes while a sibling is on its way up is mended as soon as that one is up."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_start(self) -> None:
            await trio.sleep(10)
            super().on_start()

    class Brief(Tasked):
        async def run(self) -> None:
            if self.cell.generation == (1 if during == "the boot" else 2):
                await trio.sleep(5)
                raise BOOM
            await super().run()

    children = [troupe.child("a"), troupe.child("brief", Brief), troupe.child("slow", Slow)]
    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        if during == "a restart of others":
            tell(system, "/a", BOOM)
        await trio.sleep(60)

        once = ["+a", "+brief", "-brief", "+slow", "-slow", "-a", "+a", "+brief", "+slow"]
        before = [] if during == "the boot" else ["+a", "+brief", "+slow", "-a", "-slow", "-brief"]
        assert [*before, *once] == troupe.since()
        assert {"running"} == set(states(system).values())


# ---------------------------------------------------------------- rows 4-6: stopping


@pytest.mark.parametrize("kind", [Plain, Tasked])
async def test_a_budget_of_zero_kills_at_once(autojump_clock: trio.abc.Clock, kind: type[Plain]) -> None:
    """Brutal kill: nobody is asked; cleanup that waits is cancelled at its first wait, other cleanup still runs."""
    troupe = Troupe()

    class Busy(kind):  # type: ignore[misc, valid-type]  # a class chosen by the test
        async def on_stop(self) -> None:
            self.log.append("cleaning up")
            await trio.sleep(100)
            self.log.append("never")

    async with ActorSystem(spec(troupe.child("a", Busy, stop_budget_s=0), troupe.child("b"))) as system:
        troupe.since()
        ref = system.whereis("/a")
        assert ref is not None
        await system.stop_child("a")

        assert 0 == trio.current_time()
        assert isinstance(await _exit_of(system, "/a"), Killed)
        assert ["cleaning up"] == troupe.since()
        assert [] == [each for each in story(system) if "overran" in each]


async def test_an_infinite_budget_waits_as_long_as_it_takes(autojump_clock: trio.abc.Clock) -> None:
    """Infinity is the budget of those whose children have budgets of their own."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(80_000)
            super().on_stop()

    async with ActorSystem(spec(troupe.child("a", Slow, stop_budget_s=math.inf))) as system:
        await system.stop_child("a")

        assert 80_000 == trio.current_time()
        assert Shutdown() == await _exit_of(system, "/a")
        assert ["+a", "-a"] == troupe.since()


async def test_a_child_that_overruns_is_cancelled_and_the_rest_keep_their_budgets(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Budgets are counted one after the other: a late sibling takes nothing from anybody else's."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            self.log.append(f"-{self.name} at {trio.current_time():g}")

    children = [troupe.child(name, Slow, stop_budget_s=1 if name == "b" else 3) for name in "abc"]
    async with ActorSystem(spec(*children)) as system:
        troupe.since()

    assert ["-c at 2", "-a at 5"] == troupe.since()
    assert ["/b overran 1 s: None"] == [each for each in story(system) if "overran" in each]


async def test_a_bad_end_during_a_stop_is_reported_and_stops_nothing(autojump_clock: trio.abc.Clock) -> None:
    """A child that crashes while it is stopped has stopped; the report says how."""
    troupe = Troupe()

    class Failing(Plain):
        def on_stop(self) -> None:
            raise OSError("could not flush")

    async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Failing), troupe.child("c"))) as system:
        troupe.since()

    assert ["-c", "-a"] == troupe.since()
    assert ["/b overran 5 s: crashed: OSError: could not flush"] == [
        each for each in story(system) if "overran" in each
    ]


async def test_a_stop_during_a_restart_starts_nobody(autojump_clock: trio.abc.Clock) -> None:
    """A group that is being taken down when the system is left is not brought up again to be stopped."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            super().on_stop()

    children = [troupe.child("a"), troupe.child("b", Slow), troupe.child("c")]
    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        tell(system, "/a", BOOM)
        await trio.sleep(1)

    assert ["+a", "+b", "+c", "-a", "-c", "-b"] == troupe.since()
    assert 2 == trio.current_time()


# ---------------------------------------------------------------- f.7 rows 4, 15


async def test_a_child_that_asks_its_stopping_parent_holds_nobody_up(autojump_clock: trio.abc.Clock) -> None:
    """A parent that stops its children answers no questions: whoever asks one is cancelled when its budget is spent."""
    troupe = Troupe()
    ended: list[BaseException] = []

    class Asking(Plain):
        async def on_stop(self) -> None:
            parent = self.stage.whereis("")
            assert parent is not None
            try:
                await parent.ask(StopChild("b"), timeout=math.inf)
            except BaseException as error:
                ended.append(error)
                raise

    async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Asking, stop_budget_s=3))):
        troupe.since()

    assert 3 == trio.current_time()
    assert [trio.Cancelled] == [type(error) for error in ended]
    assert ["-a"] == troupe.since()


@pytest.mark.parametrize("how", ["the host is cancelled", "the body fails", "an actor exits"])
async def test_every_way_out_stops_a_deep_tree_in_reverse(autojump_clock: trio.abc.Clock, how: str) -> None:
    """However the block ends: right to left, innermost first, each within its budget, and no task is left."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(1)
            super().on_stop()

    low = spec(troupe.child("x", Slow), troupe.child("y", Slow))
    tree = spec(troupe.child("a", Slow), subtree("low", low), troupe.child("z", Slow))
    before = trio.lowlevel.current_statistics().tasks_living
    expected: Callable[[], Any] = {
        "the host is cancelled": lambda: trio.move_on_after(5),
        "the body fails": lambda: pytest.raises(LookupError),
        "an actor exits": lambda: pytest.raises(SystemExit),
    }[how]

    with expected():
        async with ActorSystem(tree) as system:
            troupe.since()
            if how == "the body fails":
                raise LookupError("mine")
            if how == "an actor exits":
                tell(system, "/low/x", SystemExit(3))
            await trio.sleep_forever()

    assert (["-x", "-z", "-y", "-a"] if how == "an actor exits" else ["-z", "-y", "-x", "-a"]) == troupe.since()
    assert before == trio.lowlevel.current_statistics().tasks_living
    assert {} == system.stage.registry


async def _exit_of(system: ActorSystem, path: str) -> Any:
    exit_ = system.stage.registry[path].exit
    assert not isinstance(exit_, Crashed)
    return exit_
