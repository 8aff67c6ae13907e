"""Supervisors with real children: who is restarted, in which order, and what happens when that does not help."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.actor import Actor
from callsheet.actors.errors import ActorDown
from callsheet.actors.reply import Request
from callsheet.actors.seams import Seams
from callsheet.supervisor.errors import ChildStartFailed, IntensityExceeded
from callsheet.supervisor.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.supervisor import Supervisor
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Player, Troupe, buggy, settle, states, tell


def spec(*children: ChildSpec, strategy: Strategy = Strategy.ONE_FOR_ONE, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, strategy, **fields)


# ---------------------------------------------------------------- who is restarted


async def test_children_start_left_to_right_and_stop_right_to_left(autojump_clock: trio.abc.Clock) -> None:
    """Each child starts after the one before it has started; leaving stops them in reverse, one at a time."""

    class Slow(Player):
        async def on_start(self) -> None:
            await trio.sleep(1)
            await super().on_start()

        async def on_stop(self) -> None:
            await trio.sleep(1)
            await super().on_stop()

    troupe = Troupe()
    async with ActorSystem(spec(troupe.child("a", Slow), troupe.child("b"), troupe.child("c", Slow))):
        assert ["+a", "+b", "+c"] == troupe.since()

    assert ["-c", "-b", "-a"] == troupe.since()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["-b", "+b"]),
        (Strategy.ONE_FOR_ALL, ["-b", "-d", "-c", "-a", "+a", "+b", "+c", "+d"]),
        (Strategy.REST_FOR_ONE, ["-b", "-d", "-c", "+b", "+c", "+d"]),
    ],
)
async def test_the_strategy_decides_who_goes_down_with_a_crash(
    autojump_clock: trio.abc.Clock, strategy: Strategy, expected: list[str]
) -> None:
    """The others are stopped in reverse, and all are gone before the first of them starts again."""
    troupe = Troupe()
    async with ActorSystem(spec(*[troupe.child(name) for name in "abcd"], strategy=strategy)) as system:
        troupe.since()

        tell(system, "/b", ValueError("boom"))
        await settle()

        assert expected == troupe.since()
        assert {"running"} == set(states(system).values())


async def test_messages_wait_over_a_restart(autojump_clock: trio.abc.Clock) -> None:
    """What was told to a child while it was down reaches its next incarnation, in order."""
    troupe = Troupe()

    class Default(Actor[Any]):
        def __init__(self, name: str, log: list[str]) -> None:
            self.log = log

        def receive(self, message: Any) -> None:
            if isinstance(message, BaseException):
                raise message
            self.log.append(message)

    async with ActorSystem(spec(troupe.child("a", Default))) as system:
        for message in ("1", ValueError("boom"), "2", ValueError("boom"), "3"):
            tell(system, "/a", message)
        await settle()

        assert ["1", "2", "3"] == troupe.since()
        assert {"/a": 2} == dict(system.undelivered.by_path())


# ---------------------------------------------------------------- giving up


async def test_too_many_ends_make_the_system_give_up(autojump_clock: trio.abc.Clock) -> None:
    """One end more than the intensity allows: children stop in reverse, the body is cancelled, the causes are chained."""
    troupe = Troupe()
    body: list[str] = []
    errors = [ValueError(f"boom {n}") for n in range(4)]

    with pytest.raises(SystemGaveUp, match="the actor system gave up") as caught:
        async with ActorSystem(spec(troupe.child("a"), troupe.child("b"), intensity=Intensity(3, 5.0))) as system:
            try:
                for error in errors:
                    tell(system, "/a", error)
                    await settle()
                await trio.sleep_forever()
            finally:
                body.append("cancelled")

    assert ["cancelled"] == body
    assert ["-a", "+a"] * 3 + ["-a", "-b"] == troupe.since()[2:]
    gave_up = caught.value.__cause__
    assert isinstance(gave_up, IntensityExceeded)
    assert "supervisor / gave up: /a ended more than 3 times in 5 s; last: crashed: ValueError: boom 3" == str(gave_up)
    assert errors[-1] is gave_up.__cause__


async def test_ends_that_are_far_apart_never_add_up(autojump_clock: trio.abc.Clock) -> None:
    """Only what happened within the period counts."""
    troupe = Troupe()
    async with ActorSystem(spec(troupe.child("a"), intensity=Intensity(1, 5.0))) as system:
        for _ in range(10):
            tell(system, "/a", ValueError("now and then"))
            await trio.sleep(5.1)

        assert 11 == system.stage.registry["/a"].generation


async def test_an_intensity_of_its_own_spends_no_share_of_the_others(autojump_clock: trio.abc.Clock) -> None:
    """A child with its own budget may crash more often than the supervisor would allow, and does not use that up."""
    troupe = Troupe()
    children = [troupe.child("a", intensity=Intensity(5, 60)), troupe.child("b")]
    async with ActorSystem(spec(*children, intensity=Intensity(1, 60))) as system:
        for _ in range(5):
            tell(system, "/a", ValueError("own budget"))
            await settle()
        tell(system, "/b", ValueError("the shared one"))
        await settle()

        assert {"running"} == set(states(system).values())


async def test_a_supervisor_that_gives_up_is_judged_by_its_parent(autojump_clock: trio.abc.Clock) -> None:
    """Giving up is an abnormal end: the parent restarts the supervisor with all its children, then gives up itself."""
    troupe = Troupe()
    inner = SupervisorSpec((troupe.child("x"), troupe.child("y")), intensity=Intensity(0, 5))
    boom = ValueError("boom")

    with pytest.raises(SystemGaveUp) as caught:
        async with ActorSystem(
            spec(
                ChildSpec("inner", lambda: Supervisor(inner), Restart.TRANSIENT),
                troupe.child("z"),
                intensity=Intensity(1, 60),
            )
        ) as system:
            tell(system, "/inner/x", ValueError("first"))
            await settle()
            assert ["+x", "+y", "+z", "-x", "-y", "+x", "+y"] == troupe.since()
            tell(system, "/inner/x", boom)
            await trio.sleep_forever()

    chain = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert [SystemGaveUp, IntensityExceeded, IntensityExceeded, ValueError] == [type(each) for each in chain]
    assert boom is chain[-1]


async def test_a_child_that_gives_up_is_parked_where_that_is_asked_for(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Under `parks` a child that spends its own budget is left down and shown; the others and the system go on."""
    troupe = Troupe()
    async with ActorSystem(
        spec(troupe.child("a"), troupe.child("b"), intensity=Intensity(1, 60), parks=True)
    ) as system:
        for _ in range(2):
            tell(system, "/a", ValueError("boom"))
            await settle()

        assert {"": "running", "/a": "down", "/b": "running"} == states(system)
        assert system.stage.registry["/a"].parked
        assert "/a is parked" in caplog.text
        tell(system, "/b", ValueError("it has a budget of its own"))
        await settle()
        tell(system, "/b", "hello")
        await settle()
        assert "b:hello" == troupe.since()[-1]


async def test_one_child_may_be_parked_where_the_others_may_not(autojump_clock: trio.abc.Clock) -> None:
    """A child that says so itself goes down alone: with others it is restarted, by itself it never takes them along."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("extra", parks=True)]
    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE, intensity=Intensity(1, 60))) as system:
        tell(system, "/a", ValueError("boom"))
        await settle()
        assert {"running"} == set(states(system).values())
        for _ in range(2):
            tell(system, "/extra", ValueError("boom"))
            await settle()

        assert {"": "running", "/a": "running", "/extra": "down"} == states(system)


# ---------------------------------------------------------------- starting


async def test_a_failed_start_stops_those_before_it_and_is_the_users_own_exception(
    autojump_clock: trio.abc.Clock,
) -> None:
    """When child 3 cannot start, 2 and 1 are stopped in reverse, and opening raises what child 3 raised."""
    troupe = Troupe()
    error = OSError("port 8080 is in use")
    entered: list[str] = []

    class Blocked(Player):
        async def on_start(self) -> None:
            raise error

    with pytest.raises(OSError, match="port 8080") as caught:
        async with ActorSystem(
            spec(troupe.child("a"), troupe.child("b"), troupe.child("c", Blocked), troupe.child("d"))
        ):
            entered.append("the block")

    assert error is caught.value
    assert None is error.__cause__
    assert None is error.__context__
    assert [] == entered
    assert ["+a", "+b", "-b", "-a"] == troupe.since()


async def test_a_failed_start_deep_in_the_tree_comes_out_as_it_is(autojump_clock: trio.abc.Clock) -> None:
    """The supervisors between do not hide what happened."""
    troupe = Troupe()
    error = OSError("no such device")

    class Blocked(Player):
        async def on_start(self) -> None:
            raise error

    inner = spec(troupe.child("x"), troupe.child("y", Blocked))
    with pytest.raises(OSError, match="no such device") as caught:
        async with ActorSystem(spec(troupe.child("a"), ChildSpec("inner", lambda: Supervisor(inner)))):
            pass

    assert error is caught.value
    assert ["+a", "+x", "-x", "-a"] == troupe.since()


async def test_a_child_whose_name_a_zombie_holds_does_not_take_its_siblings_down_unsupervised(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A supervisor that cannot register a child stops the ones before it, as for any other failed start."""
    troupe = Troupe()
    release = trio.Event()

    class Stubborn(Player):
        async def run(self) -> None:
            with trio.CancelScope(shield=True):
                await release.wait()

    inner = spec(troupe.child("x"), troupe.child("zombie", Stubborn, stop_budget_s=1), intensity=Intensity(0, 5))
    with pytest.raises(SystemGaveUp):
        async with ActorSystem(
            spec(ChildSpec("inner", lambda: Supervisor(inner)), intensity=Intensity(1, 60))
        ) as system:
            tell(system, "/inner/x", ValueError("boom"))
            try:
                await trio.sleep_forever()
            finally:
                release.set()

    log = troupe.since()
    assert log.count("+x") == log.count("-x")


# ---------------------------------------------------------------- stopping


async def test_a_child_that_overruns_its_budget_is_cancelled(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """After its budget a child is cancelled and its cleanup runs; the rest stops as ever."""
    troupe = Troupe()

    class Busy(Player):
        async def run(self) -> None:
            await trio.sleep_forever()

    began_s = 0.0
    async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Busy, stop_budget_s=3), troupe.child("c"))):
        troupe.since()
        began_s = trio.current_time()

    assert ["-c", "-b", "-a"] == troupe.since()
    assert 3 == trio.current_time() - began_s
    assert "/b did not stop within 3 s" in caplog.text


async def test_a_killed_supervisor_takes_its_children_with_it(autojump_clock: trio.abc.Clock) -> None:
    """A supervisor whose own budget is finite and spent leaves no child behind that nobody watches."""
    troupe = Troupe()

    class Busy(Player):
        async def run(self) -> None:
            await trio.sleep_forever()

    inner = spec(troupe.child("x", Busy, stop_budget_s=100), troupe.child("y"))
    began_s = 0.0
    async with ActorSystem(
        spec(troupe.child("a"), ChildSpec("inner", lambda: Supervisor(inner), stop_budget_s=2))
    ) as system:
        troupe.since()
        began_s = trio.current_time()

    assert ["-y", "-x", "-a"] == troupe.since()
    assert 2 == trio.current_time() - began_s
    assert [] == list(system.stage.registry)


async def test_news_of_children_from_before_a_restart_is_ignored(autojump_clock: trio.abc.Clock) -> None:
    """The end of a child's former self never counts as the end of the child that has its name now."""
    troupe = Troupe()
    crashing: list[str] = []

    class Twice(Player):
        async def run(self) -> None:
            if crashing:
                raise ValueError(crashing.pop())
            await super().run()

    inner = spec(troupe.child("x"), troupe.child("t", Twice, restart=Restart.TRANSIENT), intensity=Intensity(2, 60))
    async with ActorSystem(spec(buggy("inner", inner))) as system:
        crashing += ["after the restart"]
        tell(system, "/inner", "bug")  # stops t (shutdown), starts it again, and it crashes at once
        await settle()

        assert "running" == states(system)["/inner/t"]


async def test_ends_of_children_are_no_undelivered_messages(autojump_clock: trio.abc.Clock) -> None:
    """What is counted as undelivered was sent by users, not by the runtime to itself."""
    troupe = Troupe()
    inner = spec(troupe.child("x"), troupe.child("y"))
    async with ActorSystem(spec(buggy("inner", inner), troupe.child("a"))) as system:
        tell(system, "/inner", "bug")
        await settle()

    assert {"/inner": 1} == dict(system.undelivered.by_path())  # the one in hand


async def test_a_child_that_never_starts_does_not_keep_the_system_from_stopping(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A restart that hangs in `on_start` is given up when the system stops; those before it stop in reverse."""
    troupe = Troupe()

    class Stuck(Player):
        async def on_start(self) -> None:
            await super().on_start()
            if self.cell.generation > 1:
                await trio.sleep_forever()

    began_s = 0.0
    async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Stuck, stop_budget_s=2))) as system:
        tell(system, "/b", ValueError("boom"))
        await settle()
        troupe.since()
        began_s = trio.current_time()

    assert ["-a"] == troupe.since()
    assert 2 == trio.current_time() - began_s


class _Hello(Request[str]):
    pass


async def test_asking_a_parked_child_or_a_forgotten_one_fails_at_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A child that is gone for good answers nobody, and says so at once."""
    troupe = Troupe()
    async with ActorSystem(spec(troupe.child("a", restart=Restart.TEMPORARY))) as system:
        ref = system.stage.registry["/a"].ref
        ref.tell(ValueError("gone"))
        await settle()

        with pytest.raises(ActorDown, match="crashed: ValueError: gone"):
            await ref.ask(_Hello(), timeout=60)


async def test_a_start_failure_says_which_child(autojump_clock: trio.abc.Clock) -> None:
    """Without an exception of its own to show, opening names the child that could not start."""
    troupe = Troupe()

    class Suicidal(Player):
        async def on_start(self) -> None:
            self.cell.kill()
            await trio.sleep_forever()

    with pytest.raises(ChildStartFailed, match=r"/b killed"):
        async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Suicidal)), seams=_seams()):
            pass

    assert ["+a", "-a"] == troupe.since()


def _seams() -> Seams:
    return Seams.seeded(1)
