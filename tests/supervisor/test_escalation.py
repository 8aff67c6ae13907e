"""When it is too much: intensity, giving up, significant children, and those that stand apart or are parked."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from callsheet.supervisor.errors import IntensityExceeded
from callsheet.supervisor.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Plain, Troupe, buggy, settle, states, story, tell

BOOM = ValueError("boom")


def spec(*children: ChildSpec, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, **fields)


# ---------------------------------------------------------------- rows 13-15: intensity and escalation


@pytest.mark.parametrize(("third_at", "survives"), [(10.0, False), (10.001, True)])
async def test_the_edge_of_the_window_is_inside(
    autojump_clock: trio.abc.Clock, third_at: float, survives: bool
) -> None:
    """Two restarts in ten seconds are two; a third exactly ten seconds after the first is one too many, later it is not."""
    troupe = Troupe()
    gave_up = False

    try:
        async with ActorSystem(spec(troupe.child("a"), intensity=Intensity(2, 10))) as system:
            for at_s in (0.0, 5.0, third_at):
                await trio.sleep_until(at_s)
                tell(system, "/a", BOOM)
                await settle()
    except SystemGaveUp:
        gave_up = True

    assert survives is not gave_up
    assert (4 if survives else 3) == troupe.since().count("+a")


@pytest.mark.parametrize("own", [True, False])
async def test_exactly_as_many_restarts_as_allowed(autojump_clock: trio.abc.Clock, own: bool) -> None:
    """The budget of a child is its own, or a share of one: with three restarts, the fourth end is the last."""
    troupe = Troupe()
    three = Intensity(3, 60)
    children = [troupe.child(name, intensity=three if own else None) for name in "ab"]

    async with ActorSystem(
        spec(subtree("inner", spec(*children, intensity=three), restart=Restart.TEMPORARY))
    ) as system:
        ends = 0
        while "/inner" in states(system):
            for path in ("/inner/a", "/inner/b"):
                if path in states(system):
                    tell(system, path, BOOM)
                    ends += 1
                    await settle()

        assert (7 if own else 4) == ends


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_giving_up_stops_all_children_and_is_judged_one_level_up(
    autojump_clock: trio.abc.Clock, strategy: Strategy
) -> None:
    """Whatever the strategy: the children stop in reverse; giving up is abnormal, so even a transient one comes back."""
    troupe = Troupe()
    inner = spec(*[troupe.child(name) for name in "xyz"], strategy=strategy, intensity=Intensity(0))

    async with ActorSystem(spec(subtree("inner", inner, restart=Restart.TRANSIENT), troupe.child("a"))) as system:
        troupe.since()
        tell(system, "/inner/y", BOOM)
        await settle()

        assert ["-y", "-z", "-x", "+x", "+y", "+z"] == troupe.since()
        assert {"running"} == set(states(system).values())


async def test_causes_are_kept_whole_over_three_levels(autojump_clock: trio.abc.Clock) -> None:
    """Whoever reads the last error can read down to the line that failed."""
    troupe = Troupe()
    zero = Intensity(0)
    low = spec(troupe.child("leaf"), intensity=zero)
    middle = spec(subtree("low", low, restart=Restart.TRANSIENT), intensity=zero)
    boom = ValueError("the line that failed")

    with pytest.raises(SystemGaveUp) as caught:
        async with ActorSystem(spec(subtree("middle", middle, restart=Restart.TRANSIENT), intensity=zero)) as system:
            tell(system, "/middle/low/leaf", boom)
            await trio.sleep_forever()

    chain: list[BaseException] = []
    error = caught.value.__cause__
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert ["/middle", "/middle/low", "/middle/low/leaf"] == [
        each.child for each in chain if isinstance(each, IntensityExceeded)
    ]
    assert boom is chain[-1]
    assert ["+leaf", "-leaf"] == troupe.since()


async def test_each_strategy_is_applied_at_its_own_level(autojump_clock: trio.abc.Clock) -> None:
    """A subtree that gives up takes along those that its parent's strategy names, and nobody inside its own."""
    troupe = Troupe()
    inner = spec(troupe.child("x"), troupe.child("y"), intensity=Intensity(0))
    children = [troupe.child("a"), subtree("inner", inner), troupe.child("b")]

    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE)) as system:
        troupe.since()
        tell(system, "/inner/x", BOOM)
        await settle()

        assert ["-x", "-y", "-b", "+x", "+y", "+b"] == troupe.since()


async def test_a_bug_in_a_supervisor_keeps_its_cause(autojump_clock: trio.abc.Clock) -> None:
    """Code of the runtime that fails stops its children and is judged as any other crash."""
    troupe = Troupe()

    async with ActorSystem(spec(buggy("inner", spec(troupe.child("x"), troupe.child("y"))))) as system:
        troupe.since()
        tell(system, "/inner", "bug")
        await settle()

        assert ["-y", "-x", "+x", "+y"] == troupe.since()
        former = system.stage.registry["/inner"]
        assert 2 == former.generation
        assert any("/inner ended (1) crashed: AssertionError: a bug" in each for each in story(system))


# ---------------------------------------------------------------- row 16: significant children


@pytest.mark.parametrize(
    ("auto", "ends", "ended"),
    [
        (AutoShutdown.ANY_SIGNIFICANT, ["a"], True),
        (AutoShutdown.ANY_SIGNIFICANT, ["plain"], False),
        (AutoShutdown.ALL_SIGNIFICANT, ["a"], False),
        (AutoShutdown.ALL_SIGNIFICANT, ["a", "plain"], False),
        (AutoShutdown.ALL_SIGNIFICANT, ["a", "b"], True),
    ],
)
async def test_significant_children_end_their_supervisor(
    autojump_clock: trio.abc.Clock, auto: AutoShutdown, ends: list[str], ended: bool
) -> None:
    """When one of them, or the last, has ended by itself, the others stop in reverse and the supervisor ends normally."""
    troupe = Troupe()
    one: dict[str, Any] = {"restart": Restart.TRANSIENT, "significant": True}
    children = [
        troupe.child("a", **one),
        troupe.child("b", restart=Restart.TEMPORARY, significant=True),
        troupe.child("plain", restart=Restart.TEMPORARY),
        troupe.child("z"),
    ]
    inner = spec(*children, auto_shutdown=auto)

    async with ActorSystem(spec(subtree("inner", inner, restart=Restart.TRANSIENT))) as system:
        troupe.since()
        for name in ends:
            tell(system, f"/inner/{name}", "leave")
            await settle()

        assert ended == ("/inner" not in states(system))
        down = [f"-{name}" for name in ends]
        rest = [f"-{name}" for name in ("z", "plain", "b", "a") if name not in ends] if ended else []
        assert [*down, *rest] == troupe.since()
        if ended:
            assert "/inner ended (1) shutdown (auto_shutdown) → left" == story(system)[-1]


async def test_a_significant_child_that_is_restarted_ends_nobody(autojump_clock: trio.abc.Clock) -> None:
    """Only an end that is one counts: a transient child that crashes comes back."""
    troupe = Troupe()
    child = troupe.child("a", restart=Restart.TRANSIENT, significant=True)

    async with ActorSystem(spec(child, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)) as system:
        tell(system, "/a", BOOM)
        await settle()

        assert ["+a", "-a", "+a"] == troupe.since()


@pytest.mark.parametrize("how", ["stopped", "taken down with others"])
async def test_what_a_supervisor_ends_itself_is_not_significant(autojump_clock: trio.abc.Clock, how: str) -> None:
    """A child that is stopped because somebody or the strategy said so has not ended by itself."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("main", restart=Restart.TEMPORARY, significant=True)]
    fields = {"strategy": Strategy.ONE_FOR_ALL, "auto_shutdown": AutoShutdown.ANY_SIGNIFICANT}

    async with ActorSystem(spec(*children, **fields)) as system:
        if how == "stopped":
            await system.stop_child("main")
        else:
            tell(system, "/a", BOOM)
        await settle()

        assert {"": "running", "/a": "running"} == states(system)


async def test_a_significant_child_that_was_stopped_is_not_waited_for(autojump_clock: trio.abc.Clock) -> None:
    """All that are left have ended: one that somebody stopped is not left."""
    troupe = Troupe()
    one: dict[str, Any] = {"restart": Restart.TRANSIENT, "significant": True}
    inner = spec(troupe.child("a", **one), troupe.child("b", **one), auto_shutdown=AutoShutdown.ALL_SIGNIFICANT)

    async with ActorSystem(spec(subtree("inner", inner, restart=Restart.TRANSIENT))) as system:
        await system.stop_child("a", under=system.whereis("/inner"))
        await settle()
        assert "/inner" in states(system)
        tell(system, "/inner/b", "leave")
        await settle()

        assert {"": "running"} == states(system)


async def test_a_root_with_a_main_task_ends_with_it(autojump_clock: trio.abc.Clock) -> None:
    """The end of the significant child ends the block, and is no error."""
    troupe = Troupe()
    main = troupe.child("main", restart=Restart.TRANSIENT, significant=True)

    async with ActorSystem(spec(troupe.child("a"), main, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)) as system:
        tell(system, "/main", "leave")
        await trio.sleep_forever()

    assert ["+a", "+main", "-main", "-a"] == troupe.since()


# ---------------------------------------------------------------- apart, and parked


async def test_a_child_apart_is_in_no_group(autojump_clock: trio.abc.Clock) -> None:
    """It stays when the others go, and goes alone; its own place in the order of starting and stopping is kept."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("apart", apart=True), troupe.child("b")]

    async with ActorSystem(spec(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        assert ["+a", "+apart", "+b"] == troupe.since()
        tell(system, "/a", BOOM)
        await settle()
        assert ["-a", "-b", "+a", "+b"] == troupe.since()
        tell(system, "/apart", BOOM)
        await settle()
        assert ["-apart", "+apart"] == troupe.since()

    assert ["-b", "-apart", "-a"] == troupe.since()


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_parked_child_is_down_alone_until_somebody_restarts_it(
    autojump_clock: trio.abc.Clock, strategy: Strategy
) -> None:
    """Parked in any strategy: the group runs on, a restart of the group leaves it down, and it comes back whole."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("b", parks=True, intensity=Intensity(0)), troupe.child("c")]

    async with ActorSystem(spec(*children, strategy=strategy)) as system:
        troupe.since()
        tell(system, "/b", BOOM)
        await settle()
        assert ["-b"] == troupe.since()
        assert (True, "down") == (system.stage.registry["/b"].parked, states(system)["/b"])

        tell(system, "/b", "waits")
        tell(system, "/a", BOOM)
        await settle()
        alone = strategy is Strategy.ONE_FOR_ONE
        assert (["-a", "+a"] if alone else ["-a", "-c", "+a", "+c"]) == troupe.since()

        await system.restart_child("b")
        await settle()
        assert ["+b", "b:waits"] == troupe.since()
        assert not system.stage.registry["/b"].parked


async def test_a_group_member_that_parks_at_its_restart_leaves_the_others_up(autojump_clock: trio.abc.Clock) -> None:
    """A child that cannot start again is parked when its budget is spent, and those after it start all the same."""
    troupe = Troupe()

    class Broken(Plain):
        def on_start(self) -> None:
            super().on_start()
            if 1 < self.cell.generation < 5:
                raise OSError("no")

    children = [
        troupe.child("a"),
        troupe.child("b", Broken, parks=True, intensity=Intensity(2, 60)),
        troupe.child("c"),
    ]
    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE)) as system:
        troupe.since()
        tell(system, "/a", BOOM)
        await settle()

        assert ["-a", "-c", "-b", "+a", "+b", "+b", "+b", "+c"] == troupe.since()
        assert {"": "running", "/a": "running", "/b": "down", "/c": "running"} == states(system)
        await system.restart_child("b")
        assert {"running"} == set(states(system).values())


async def test_a_child_that_parks_spends_nothing_of_its_siblings(autojump_clock: trio.abc.Clock) -> None:
    """Without an intensity of its own it has as much as all others share, for itself."""
    troupe = Troupe()

    async with ActorSystem(
        spec(troupe.child("a"), troupe.child("b", parks=True), intensity=Intensity(1, 60))
    ) as system:
        tell(system, "/b", BOOM)
        await settle()
        tell(system, "/a", BOOM)
        await settle()

        assert {"running"} == set(states(system).values())
        assert ["+a", "+b", "-b", "+b", "-a", "+a"] == troupe.since()


async def test_unparking_gives_the_whole_budget_again(autojump_clock: trio.abc.Clock) -> None:
    """A child that came back may crash as often as at the beginning before it is parked again."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", parks=True, intensity=Intensity(1, 600)))) as system:
        for _ in range(2):
            for _ in range(2):
                assert "running" == states(system)["/a"]
                tell(system, "/a", BOOM)
                await settle()
            assert "down" == states(system)["/a"]
            await system.restart_child("a")

        assert ["+a", "-a"] * 4 + ["+a"] == troupe.since()
