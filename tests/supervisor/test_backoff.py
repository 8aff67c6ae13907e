"""Restarts that wait: how long, what may happen meanwhile, and that no timer of the past undoes it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.errors import AskTimeout
from callsheet.actors.events import Delayed
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.actors.seams import Seams
from callsheet.supervisor.errors import ChildIsUp, ChildStartFailed
from callsheet.supervisor.spec import Backoff, ChildSpec, Intensity, Strategy, SupervisorSpec
from callsheet.supervisor.supervisor import RestartsDue
from callsheet.supervisor.system import ActorSystem

from .troupe import Plain, Tasked, Troupe, settle, states, story, tell

PATIENT = Intensity(1_000, 1.0)
"""For tests in which nobody gives up."""


def system_of(*children: ChildSpec, seed: int = 1, **fields: Any) -> ActorSystem:
    return ActorSystem(SupervisorSpec(children, **{"intensity": PATIENT, **fields}), seams=Seams.seeded(seed))


def waits(system: ActorSystem, path: str) -> list[float]:
    """How long the restarts of this child waited, as reported."""
    reports = [report for _, report in system.reports.recent()]
    return [each.delay_s for each in reports if isinstance(each, Delayed) and each.path == path]


class Timed(Plain):
    """Writes down when it starts."""

    def on_start(self) -> None:
        self.log.append(f"{self.name} at {trio.current_time():.3g}")


class Shy(Tasked):
    """Cannot start again before the hundredth second."""

    async def on_start(self) -> None:
        await super().on_start()
        if self.cell.generation > 1 and trio.current_time() < 100:
            raise OSError("not yet")


# ---------------------------------------------------------------- how long


async def test_delays_grow_to_their_bound(autojump_clock: trio.abc.Clock) -> None:
    """Each restart in a row waits `factor` times longer, at most `max_s`; the child starts when it is over, not before."""
    troupe = Troupe()

    async with system_of(troupe.child("a", Timed, backoff=Backoff(1, 5, reset_after_s=60))) as system:
        for _ in range(4):
            tell(system, "/a", ValueError("boom"))
            await trio.sleep(10)

        assert [1, 2, 4, 5] == pytest.approx(waits(system, "/a"))
        assert ["a at 0", "a at 1", "a at 12", "a at 24", "a at 35"] == [each for each in troupe.log if each != "-a"]


async def test_jitter_is_taken_off_and_follows_from_the_seed(autojump_clock: trio.abc.Clock) -> None:
    """No delay is longer than without jitter, nor shorter than its part; the same seed gives the same delays."""

    async def delays(seed: int) -> list[float]:
        troupe = Troupe()
        backoff = Backoff(4, 4, jitter=0.5, reset_after_s=60)
        async with system_of(troupe.child("a", backoff=backoff), seed=seed) as system:
            for _ in range(20):
                tell(system, "/a", ValueError("boom"))
                await trio.sleep(5)
            return waits(system, "/a")

    one, again, another = await delays(1), await delays(1), await delays(2)

    assert one == again
    assert one != another
    assert all(2 < each <= 4 for each in one + another)
    assert 1 < len(set(one))


async def test_whoever_lived_long_enough_begins_with_the_shortest_delay(autojump_clock: trio.abc.Clock) -> None:
    """`reset_after_s` of life, to the second, start the row anew; a moment less does not."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(1, 60, reset_after_s=10))) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(1 + 9.5)
        tell(system, "/a", ValueError("too early"))
        await trio.sleep(2 + 10)
        tell(system, "/a", ValueError("long enough"))
        await settle()

        assert [1, 2, 1] == pytest.approx(waits(system, "/a"))


async def test_by_default_it_is_the_longest_delay_that_resets(autojump_clock: trio.abc.Clock) -> None:
    """Without `reset_after_s`, a life of `max_s` is long enough."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(1, 8))) as system:
        for life_s in (0.0, 7.0, 8.0):
            await trio.sleep(life_s)
            tell(system, "/a", ValueError("boom"))
            await settle()
            await trio.sleep(waits(system, "/a")[-1])

        assert [1, 2, 1] == pytest.approx(waits(system, "/a"))


async def test_an_actor_that_calls_itself_healthy_begins_anew(autojump_clock: trio.abc.Clock) -> None:
    """`healthy()` counts for the incarnation that said it, however short its life."""
    troupe = Troupe()

    class Calm(Plain):
        def receive(self, message: Any) -> None:
            if message == "well":
                self.healthy()
            super().receive(message)

    async with system_of(troupe.child("a", Calm, backoff=Backoff(1, 60))) as system:
        for message in (None, None, "well", None):
            if message is not None:
                tell(system, "/a", message)
            tell(system, "/a", ValueError("boom"))
            await trio.sleep(10)

        assert [1, 2, 1, 2] == pytest.approx(waits(system, "/a"))


async def test_a_start_that_fails_again_waits_longer(autojump_clock: trio.abc.Clock) -> None:
    """A child that ends before it has started is retried with growing delays until it starts, and then all is well."""
    troupe = Troupe()

    async with system_of(troupe.child("a", Shy, backoff=Backoff(10, 40, reset_after_s=5))) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(200)

        assert [10, 20, 40, 40] == pytest.approx(waits(system, "/a"))
        assert "running" == states(system)["/a"]
        assert ["+a", "-a", "+a", "+a", "+a", "+a"] == troupe.since()


async def test_delayed_restarts_spend_intensity(autojump_clock: trio.abc.Clock) -> None:
    """A delay is no way around the budget: the restart that would be one too many is not even waited for."""
    troupe = Troupe()
    child = troupe.child("a", backoff=Backoff(1, 1), intensity=Intensity(2, 60), parks=True)

    async with system_of(child) as system:
        for _ in range(3):
            tell(system, "/a", ValueError("boom"))
            await trio.sleep(2)

        assert ["+a", "-a", "+a", "-a", "+a", "-a"] == troupe.since()
        assert [1, 1] == waits(system, "/a")
        assert ["/a ended (3) crashed: ValueError: boom → parked", "/a parked crashed: ValueError: boom"] == story(
            system
        )[-2:]


# ---------------------------------------------------------------- what may happen meanwhile


class _Hello(Request[str]):
    pass


async def test_messages_and_questions_wait_with_the_child(autojump_clock: trio.abc.Clock) -> None:
    """What is sent during the delay is handled after it; an ask that cannot wait so long ends with its own timeout."""
    troupe = Troupe()

    class Polite(Plain):
        def receive(self, message: Any) -> None:
            if isinstance(message, _Hello):
                message.reply.answer(f"hello from {self.cell.generation}")
            else:
                super().receive(message)

    async with system_of(troupe.child("a", Polite, backoff=Backoff(10, 10))) as system:
        ref: Ref[Any] | None = system.whereis("/a")
        assert ref is not None
        ref.tell(ValueError("boom"))
        await settle()
        assert not ref.is_alive
        ref.tell("later")
        with pytest.raises(AskTimeout):
            await ref.ask(_Hello(), timeout=3)
        answer = await ref.ask(_Hello(), timeout=30)

        assert "hello from 2" == answer
        assert ["+a", "-a", "+a", "a:later"] == troupe.since()
        assert 10 == trio.current_time()


async def test_a_child_that_is_stopped_during_its_delay_stays_down(autojump_clock: trio.abc.Clock) -> None:
    """The delay that was begun restarts nobody; its spec is kept, and a restart that is asked for works."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(10, 10))) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(5)
        await system.stop_child("a")
        assert 0 == len(system.stage.timers)
        await trio.sleep(60)
        assert ["+a", "-a"] == troupe.since()
        assert "down" == states(system)["/a"]

        await system.restart_child("a")
        assert ["+a"] == troupe.since()


async def test_a_child_that_is_removed_during_its_delay_is_gone(autojump_clock: trio.abc.Clock) -> None:
    """Its name is free at once, and the delay of the one before restarts neither it nor its successor."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(10, 10))) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(5)
        await system.remove_child("a")
        assert {"": "running"} == states(system)
        await system.start_child(troupe.child("a"))
        await trio.sleep(60)

        assert ["+a", "-a", "+a"] == troupe.since()


async def test_a_child_that_is_replaced_during_its_delay_starts_once(autojump_clock: trio.abc.Clock) -> None:
    """The new one starts at once, and is not touched when the old one's delay is over."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(10, 10)), troupe.child("b")) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(5)
        await system.replace_child(ChildSpec("a", lambda: Plain("new", troupe.log)))
        await trio.sleep(60)

        assert ["+a", "+b", "-a", "+new"] == troupe.since()
        assert 1 == system.stage.registry["/a"].generation
        assert 0 == len(system.stage.timers)


async def test_a_child_can_be_started_before_its_delay_is_over(autojump_clock: trio.abc.Clock) -> None:
    """`RestartChild` cuts the delay short and makes its budget and its delays whole; the delay's end changes nothing."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(10, 60, reset_after_s=100))) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(5)
        await system.restart_child("a")
        assert ["+a", "-a", "+a"] == troupe.since()
        await trio.sleep(60)
        assert [] == troupe.since()

        with pytest.raises(ChildIsUp, match="/a is running: stop it first"):
            await system.restart_child("a")
        tell(system, "/a", ValueError("boom"))
        await settle()
        assert [10, 10] == waits(system, "/a")


async def test_a_start_that_is_asked_for_and_fails_leaves_the_child_stopped(autojump_clock: trio.abc.Clock) -> None:
    """Whoever asked hears why; nobody tries again behind their back."""
    troupe = Troupe()

    async with system_of(troupe.child("a", Shy, backoff=Backoff(10, 10))) as system:
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(5)
        with pytest.raises(ChildStartFailed, match="/a could not start: OSError: not yet"):
            await system.restart_child("a")
        await trio.sleep(500)

        assert ["+a", "-a", "+a"] == troupe.since()
        assert "down" == states(system)["/a"]
        assert "/a could not start (2) OSError('not yet')" in story(system)


async def test_leaving_waits_for_no_delay(autojump_clock: trio.abc.Clock) -> None:
    """A system that stops while children wait for their restart stops at once, and starts nobody."""
    troupe = Troupe()
    began_s = 0.0

    async with system_of(troupe.child("a", backoff=Backoff(60, 60)), troupe.child("b")) as system:
        tell(system, "/a", ValueError("boom"))
        await settle()
        began_s = trio.current_time()

    assert began_s == trio.current_time()
    assert ["+a", "+b", "-a", "-b"] == troupe.since()
    assert 0 == len(system.stage.timers)


async def test_a_wake_up_without_a_reason_does_nothing(autojump_clock: trio.abc.Clock) -> None:
    """A wake-up carries nothing: doubled, late or for nobody, it starts nobody before their time."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(10, 10)), troupe.child("b")) as system:
        for _ in range(3):
            system.root.tell_control(RestartsDue())
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(9.9)
        system.root.tell_control(RestartsDue())
        await settle()
        assert ["+a", "+b", "-a"] == troupe.since()
        await trio.sleep(0.2)

        assert ["+a"] == troupe.since()


async def test_one_child_waits_and_the_others_go_on(autojump_clock: trio.abc.Clock) -> None:
    """Under one_for_one each delay is its child's own: the supervisor restarts others meanwhile, with and without one."""
    troupe = Troupe()
    children = [
        troupe.child("a", Timed, backoff=Backoff(10, 10)),
        troupe.child("b", Timed, backoff=Backoff(3, 3)),
        troupe.child("c", Timed),
    ]

    async with system_of(*children) as system:
        troupe.since()
        for path in ("/a", "/b", "/c"):
            await trio.sleep(1)
            tell(system, path, ValueError("boom"))
        await trio.sleep(20)

        assert ["-a", "-b", "-c", "c at 3", "b at 5", "a at 11"] == troupe.since()


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize(
    ("strategy", "down", "up"),
    [
        (Strategy.ONE_FOR_ALL, ["-b", "-c", "-a"], ["+a", "+b", "+c"]),
        (Strategy.REST_FOR_ONE, ["-b", "-c"], ["+b", "+c"]),
    ],
)
async def test_those_that_go_down_together_come_back_together(
    autojump_clock: trio.abc.Clock, strategy: Strategy, down: list[str], up: list[str]
) -> None:
    """The group is stopped at once, in reverse, waits for the delay of the child that crashed, and starts in order."""
    troupe = Troupe()
    children = [troupe.child("a"), troupe.child("b", backoff=Backoff(10, 10)), troupe.child("c")]

    async with system_of(*children, strategy=strategy) as system:
        troupe.since()
        tell(system, "/b", ValueError("boom"))
        await trio.sleep(9.9)
        assert down == troupe.since()
        await trio.sleep(0.2)

        assert up == troupe.since()


@pytest.mark.parametrize(
    ("first_s", "restart_at"),
    [
        pytest.param(None, 10, id="without a backoff of its own it waits for the group"),
        pytest.param(2.0, 10, id="a shorter one waits for the group too"),
        pytest.param(30.0, 34, id="a longer one makes the group wait"),
    ],
)
async def test_a_sibling_that_crashes_while_a_group_waits_joins_it(
    autojump_clock: trio.abc.Clock, first_s: float | None, restart_at: float
) -> None:
    """The delay becomes the longer of what is left and the new one; nobody starts before those it depends on."""
    troupe = Troupe()
    own = None if first_s is None else Backoff(first_s, first_s)
    children = [
        troupe.child("a", Timed, backoff=own),
        troupe.child("b", Timed, backoff=Backoff(10, 10)),
        troupe.child("c", Timed),
    ]

    async with system_of(*children, strategy=Strategy.REST_FOR_ONE) as system:
        troupe.since()
        tell(system, "/b", ValueError("boom"))
        await trio.sleep(4)
        tell(system, "/a", ValueError("boom too"))
        await trio.sleep(60)

        assert ["-b", "-c", "-a", f"a at {restart_at}", f"b at {restart_at}", f"c at {restart_at}"] == troupe.since()
        assert {"running"} == set(states(system).values())


async def test_a_group_member_that_cannot_start_keeps_those_after_it_down(autojump_clock: trio.abc.Clock) -> None:
    """After the delay the group starts in order; where that fails, the rest waits with it for its next delay."""
    troupe = Troupe()
    children = [
        troupe.child("a", Timed, backoff=Backoff(90, 90)),
        troupe.child("b", Shy, backoff=Backoff(20, 20)),
        troupe.child("c", Timed),
    ]

    async with system_of(*children, strategy=Strategy.ONE_FOR_ALL) as system:
        troupe.since()
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(95)
        assert ["-a", "-c", "-b", "a at 90", "+b", "-a"] == troupe.since()
        await trio.sleep(20)

        assert ["a at 110", "+b", "c at 110"] == troupe.since()


async def test_a_child_apart_waits_alone(autojump_clock: trio.abc.Clock) -> None:
    """One that stands apart takes nobody down, and nobody's delay is its own."""
    troupe = Troupe()
    children = [
        troupe.child("apart", Timed, backoff=Backoff(10, 10), apart=True),
        troupe.child("a", Timed, backoff=Backoff(2, 2)),
        troupe.child("b", Timed),
    ]

    async with system_of(*children, strategy=Strategy.ONE_FOR_ALL) as system:
        troupe.since()
        tell(system, "/apart", ValueError("boom"))
        await trio.sleep(1)
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(20)

        assert ["-apart", "-a", "-b", "a at 3", "b at 3", "apart at 10"] == troupe.since()


# ---------------------------------------------------------------- nobody pumps the wheel


async def test_the_scheduler_comes_back_although_nobody_pumps_its_wheel(autojump_clock: trio.abc.Clock) -> None:
    """Its own delayed restart, and that of others due meanwhile, need no wheel; timers that were set go on."""
    troupe = Troupe()
    rung: list[float] = []

    async with system_of(troupe.child("a", Timed, backoff=Backoff(0.05, 0.05))) as system:
        system.stage.timers.at(0.07, lambda: rung.append(trio.current_time()))
        tell(system, "/scheduler", "nobody tells a scheduler anything")
        tell(system, "/a", ValueError("boom"))
        await trio.sleep(0.06)
        assert "down" == str(system.stage.registry["/scheduler"].state)
        assert ["a at 0", "-a", "a at 0.05"] == troupe.since()
        await trio.sleep(1)

        assert 2 == system.stage.registry["/scheduler"].generation
        assert [0.1] == pytest.approx(rung)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_the_scheduler_and_its_siblings_leave_each_other_alone(
    autojump_clock: trio.abc.Clock, strategy: Strategy
) -> None:
    """It stands first, and in no group: its crash takes nobody down, and no crash takes it down."""
    troupe = Troupe()

    async with system_of(troupe.child("a"), troupe.child("b"), strategy=strategy) as system:
        troupe.since()
        tell(system, "/a", ValueError("boom"))
        await settle()
        assert 1 == system.stage.registry["/scheduler"].generation
        troupe.since()
        tell(system, "/scheduler", "nobody tells a scheduler anything")
        await trio.sleep(1)

        assert 2 == system.stage.registry["/scheduler"].generation
        assert [] == troupe.since()


async def test_a_system_can_be_left_while_its_scheduler_waits(autojump_clock: trio.abc.Clock) -> None:
    """Nothing that stops needs the wheel."""
    troupe = Troupe()
    began_s = 0.0

    async with system_of(troupe.child("a"), troupe.child("b", backoff=Backoff(60, 60))) as system:
        tell(system, "/b", ValueError("boom"))
        tell(system, "/scheduler", "nobody tells a scheduler anything")
        await settle()
        began_s = trio.current_time()

    assert began_s == trio.current_time()
    assert {} == system.stage.registry


async def test_a_child_that_waits_can_wait_for_ever(autojump_clock: trio.abc.Clock) -> None:
    """A question without a deadline, asked during a delay, is answered by the end of the child when it is removed."""
    troupe = Troupe()

    async with system_of(troupe.child("a", backoff=Backoff(60, 60))) as system:
        ref: Ref[Any] | None = system.whereis("/a")
        assert ref is not None
        ref.tell(ValueError("boom"))
        await settle()
        answers: list[str] = []

        async def ask() -> None:
            try:
                await ref.ask(_Hello(), timeout=math.inf)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is compared below
                answers.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            await system.remove_child("a")

        assert ["actor /a did not answer: crashed: ValueError: boom"] == answers
