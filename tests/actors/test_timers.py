"""Timers as data, against a sorted list; and the actor that pumps them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
import trio.testing
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from callsheet.actors.exits import Crashed
from callsheet.actors.scheduler import BUDGET
from callsheet.actors.timers import Timer, Timers

from .world import open_world, settle


def fire(timers: Timers, now_s: float, limit: int = 1_000_000) -> None:
    for call in timers.due(now_s, limit):
        call()


# ---------------------------------------------------------------- as data


def test_timers_fire_in_order_of_time_then_of_making() -> None:
    """What is due is called by time; at the same time, by the order in which it was added; the rest waits."""
    timers, fired = Timers(), list[str]()
    for when_s, name in ((3, "c"), (1, "a"), (3, "d"), (2, "b"), (4, "e")):
        timers.at(when_s, lambda name=name: fired.append(name))

    fire(timers, 3)

    assert ["a", "b", "c", "d"] == fired
    assert 1 == len(timers)
    assert 4 == timers.next_s()


def test_a_timer_never_fires_early() -> None:
    """Just before its time it is not due; at its time it is."""
    timers, fired = Timers(), list[str]()
    timers.at(5, lambda: fired.append("x"))

    fire(timers, math.nextafter(5, 0))
    assert [] == fired

    fire(timers, 5)
    assert ["x"] == fired


def test_cancel_tells_whether_it_came_in_time() -> None:
    """`cancel` is True once; False when the timer was called or cancelled before."""
    timers = Timers()
    first, second = timers.at(1, lambda: None), timers.at(2, lambda: None)

    fire(timers, 1)

    assert not first.cancel()
    assert second.cancel()
    assert not second.cancel()
    assert 0 == len(timers)
    assert math.inf == timers.next_s()


def test_a_call_may_cancel_the_next_one_that_is_due_with_it() -> None:
    """A timer that another call cancels is not called, also when both are due in the same moment."""
    timers, fired, others = Timers(), list[str](), list[Timer]()
    answers: list[bool] = []

    def first() -> None:
        fired.append("first")
        answers.append(others[0].cancel())

    timers.at(1, first)
    others.append(timers.at(1, lambda: fired.append("second")))

    fire(timers, 1)

    assert ["first"] == fired
    assert [True] == answers


def test_a_timer_made_by_a_call_is_never_called_from_inside_it() -> None:
    """A timer in the past fires with the next look, not inside `at`."""
    timers, fired = Timers(), list[str]()

    def first() -> None:
        timers.at(0, lambda: fired.append("second"))
        fired.append("first")

    timers.at(1, first)
    fire(timers, 1)

    assert ["first", "second"] == fired


def test_the_limit_bounds_one_look() -> None:
    """At most `limit` timers are taken with one look; the rest are still due."""
    timers, fired = Timers(), list[int]()
    for n in range(5):
        timers.at(0, lambda n=n: fired.append(n))

    fire(timers, 0, limit=3)

    assert [0, 1, 2] == fired
    assert 2 == len(timers)


def test_cancelled_timers_do_not_pile_up() -> None:
    """A heap of mostly cancelled timers is compacted: memory follows the living ones."""
    timers = Timers()
    kept = timers.at(0.5, lambda: None)

    for n in range(10_000):
        timers.at(1_000 + n, lambda: None).cancel()

    assert 1 == len(timers)
    assert len(timers._heap) < 200
    assert kept.cancel()


@define(eq=False)
class Model:
    """Timers as a sorted list."""

    waiting: list[tuple[float, int]] = field(factory=list)
    fired: list[int] = field(factory=list)

    def advance(self, now_s: float, limit: int) -> None:
        self.waiting.sort()
        due = [entry for entry in self.waiting if entry[0] <= now_s][:limit]
        self.waiting = [entry for entry in self.waiting if entry not in due]
        self.fired += [number for _, number in due]

    def cancel(self, number: int) -> bool:
        before = len(self.waiting)
        self.waiting = [entry for entry in self.waiting if entry[1] != number]
        return len(self.waiting) < before


times = st.one_of(st.integers(0, 20).map(float), st.floats(0, 1e9))
steps = st.one_of(
    st.tuples(st.just("add"), times),
    st.tuples(st.just("cancel"), st.integers(0, 60)),
    st.tuples(st.just("advance"), times, st.integers(1, 10)),
)


@given(st.lists(steps, max_size=150))
def test_timers_behave_like_a_sorted_list(story: list[tuple[str, float] | tuple[str, float, int]]) -> None:
    """Whatever is added, cancelled and awaited: what fires, in which order, and what is left is that of the model."""
    timers, model = Timers(), Model()
    fired: list[int] = []
    made: list[Timer] = []

    for step in story:
        match step:
            case ("add", when_s):
                number = len(made)
                made.append(timers.at(when_s, lambda number=number: fired.append(number)))
                model.waiting.append((when_s, number))
            case ("cancel", number):
                if number < len(made):
                    assert model.cancel(int(number)) == made[int(number)].cancel()
            case ("advance", now_s, limit):
                fire(timers, now_s, limit)
                model.advance(now_s, limit)
        assert model.fired == fired
        assert len(model.waiting) == len(timers)
        assert min(model.waiting, default=(math.inf, 0))[0] == timers.next_s()


# ---------------------------------------------------------------- pumped


async def test_a_timer_fires_at_its_time(autojump_clock: trio.abc.Clock) -> None:
    """The scheduler calls a timer when its time has come, to the instant on a mock clock."""
    async with open_world() as world:
        fired: list[float] = []
        now_s = trio.current_time()
        for delay_s in (5.0, 0.25, 3600.0):
            world.stage.timers.at(now_s + delay_s, lambda: fired.append(trio.current_time() - now_s))

        await trio.sleep(4000)

        assert [0.25, 5.0, 3600.0] == fired


async def test_an_earlier_timer_wakes_the_scheduler_in_time(autojump_clock: trio.abc.Clock) -> None:
    """A timer added while the scheduler sleeps towards a later one is not late."""
    async with open_world() as world:
        fired: list[float] = []
        now_s = trio.current_time()
        world.stage.timers.at(now_s + 100, lambda: fired.append(trio.current_time() - now_s))
        await settle()

        world.stage.timers.at(now_s + 1, lambda: fired.append(trio.current_time() - now_s))
        await trio.sleep(200)

        assert [1, 100] == fired


async def test_a_timer_in_the_past_fires_at_once(autojump_clock: trio.abc.Clock) -> None:
    """What is due already is called with the next look, without waiting for anything else."""
    async with open_world() as world:
        fired: list[str] = []

        world.stage.timers.at(trio.current_time() - 10, lambda: fired.append("x"))
        await settle()

        assert ["x"] == fired


async def test_a_failing_call_does_not_stop_the_others(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A timer's call that raises is logged; the timers after it are called."""
    async with open_world() as world:
        fired: list[str] = []

        def fail() -> None:
            raise ValueError("a bad call")

        world.stage.timers.at(0, fail)
        world.stage.timers.at(0, lambda: fired.append("x"))
        await settle()

        assert ["x"] == fired
        assert [] == world.exits
        assert "a bad call" in caplog.text


async def test_a_new_scheduler_goes_on_with_the_timers_of_the_old_one(autojump_clock: trio.abc.Clock) -> None:
    """Timers outlive a crash of the scheduler, those that come due while it is down and those due in that moment too."""
    async with open_world() as world:
        scheduler = world.stage.registry["/scheduler"]
        fired: list[str] = []
        now_s = trio.current_time()

        def interrupt() -> None:
            raise KeyboardInterrupt

        world.stage.timers.at(now_s + 1, interrupt)
        world.stage.timers.at(now_s + 1, lambda: fired.append("due with the crash"))
        world.stage.timers.at(now_s + 2, lambda: fired.append("due while down"))
        world.stage.timers.at(now_s + 20, lambda: fired.append("due later"))
        await scheduler.wait_gone()
        assert isinstance(scheduler.exit, Crashed)
        await trio.sleep(10)
        assert [] == fired

        await scheduler.start()
        await settle()

        assert ["due with the crash", "due while down"] == fired
        await trio.sleep(10)
        assert "due later" == fired[-1]


async def test_a_message_to_the_scheduler_crashes_it_and_not_the_program(autojump_clock: trio.abc.Clock) -> None:
    """Whoever tells the scheduler anything makes it crash, once; it never spins on a message that nobody takes."""
    async with open_world() as world:
        scheduler = world.stage.registry["/scheduler"]

        scheduler.ref.tell("poison")
        with trio.fail_after(1):
            await scheduler.wait_gone()
        await scheduler.start()
        fired: list[str] = []
        world.stage.timers.at(0, lambda: fired.append("x"))
        await settle()

        assert isinstance(scheduler.exit, Crashed) or scheduler.exit is None
        assert ["x"] == fired


async def test_an_idle_scheduler_does_not_wake(autojump_clock: trio.abc.Clock) -> None:
    """Without timers, and between them, the scheduler's task is not run at all."""

    class Count(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps += task.name == "/scheduler"

    async with open_world() as world:
        world.stage.timers.at(trio.current_time() + 86_400, lambda: None)
        await settle()
        count = Count()
        trio.lowlevel.add_instrument(count)

        await trio.sleep(86_000)

        assert 0 == count.steps


async def test_many_due_timers_let_others_run_in_between(autojump_clock: trio.abc.Clock) -> None:
    """A flood of timers is called in portions, with a checkpoint after each."""
    async with open_world() as world:
        fired: list[int] = []
        seen: list[int] = []
        call: Callable[[], object] = lambda: fired.append(1)  # noqa: E731 -- shorter than a def of nothing
        for _ in range(10 * BUDGET):
            world.stage.timers.at(0, call)

        while len(fired) < 10 * BUDGET:
            await trio.lowlevel.checkpoint()
            seen.append(len(fired))

        assert 5 <= len(set(seen))
