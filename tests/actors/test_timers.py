"""Timers as data, in seconds; and the actor that pumps them. (The wheel under them: test_wheel.)"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from callsheet.actors.exits import Crashed
from callsheet.actors.scheduler import BUDGET, Scheduler
from callsheet.actors.timers import TICKS_PER_S, Timer, Timers, TooManyTimers, past_tick, to_tick
from callsheet.actors.wheel import FIRE_COST

from .world import World, open_world, settle


def fire(timers: Timers, now_s: float, budget: int = 1_000_000_000) -> bool:
    """Make the calls that are due; whether there is more to do."""
    return timers.advance(now_s, budget, lambda call: call())


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

    assert fire(timers, 1)
    assert ["first"] == fired
    assert not fire(timers, 1)
    assert ["first", "second"] == fired


def test_the_budget_bounds_one_advance() -> None:
    """What a small budget does not reach is still due, and the advance says so."""
    timers, fired = Timers(), list[int]()
    for n in range(5):
        timers.at(0, lambda n=n: fired.append(n))

    assert fire(timers, 0, budget=2 * FIRE_COST + 2)
    assert [0, 1, 2] == fired
    assert 2 == len(timers)
    assert not fire(timers, 0)
    assert [0, 1, 2, 3, 4] == fired


def test_a_failing_call_is_the_only_one_that_is_lost() -> None:
    """What a call raises comes out of the advance; the next one goes on with the call after it."""
    timers, fired = Timers(), list[str]()
    timers.at(1, lambda: 1 / 0)
    timers.at(1, lambda: fired.append("x"))

    with pytest.raises(ZeroDivisionError):
        fire(timers, 1)
    assert 1 == len(timers)
    fire(timers, 1)

    assert ["x"] == fired


def test_the_clock_may_go_back() -> None:
    """A time that is before the last one fires nothing and breaks nothing."""
    timers, fired = Timers(), list[str]()
    fire(timers, 100)
    timers.at(101, lambda: fired.append("x"))

    fire(timers, 1)
    assert [] == fired

    fire(timers, 101)
    assert ["x"] == fired


def test_cancelled_timers_do_not_pile_up() -> None:
    """A cancelled timer lets go of its call at once; what is left of ten thousand is next to nothing, near or far."""
    timers = Timers()
    kept = timers.at(0.5, lambda: None)

    for n in range(10_000):
        for when_s in (0.4, 30, 1_000 + n):
            timer = timers.at(when_s, lambda: None)
            timer.cancel()
            assert timer.call is None

    wheel = timers.wheel
    assert 1 == len(timers)
    assert 200 > sum(map(len, wheel._near.values())) + len(wheel._far) + len(wheel._far_keys)
    assert kept.cancel()


@pytest.mark.parametrize("when_s", [math.inf, -math.inf, math.nan])
def test_a_time_that_never_comes_is_refused(when_s: float) -> None:
    """A timer needs a finite time, when it is made and when it is moved; a refusal leaves it where it was."""
    timers = Timers()
    timer = timers.at(1, lambda: None)

    with pytest.raises(ValueError, match=f"a timer needs a finite time, in seconds: not {when_s}"):
        timers.at(when_s, lambda: None)
    with pytest.raises(ValueError, match="a timer needs a finite time"):
        timer.reschedule(when_s)

    assert 1 == len(timers)
    assert 1 == timers.next_s()


def test_a_timer_can_be_moved() -> None:
    """A timer that is moved fires once, at its new time, earlier or later; one that is over cannot be moved."""
    timers, fired = Timers(), list[str]()
    sooner = timers.at(50, lambda: fired.append("sooner"))
    later = timers.at(2, lambda: fired.append("later"))

    assert sooner.reschedule(1)
    assert later.reschedule(60)
    fire(timers, 1)
    assert ["sooner"] == fired
    fire(timers, 59.9)
    assert ["sooner"] == fired
    fire(timers, 60)

    assert ["sooner", "later"] == fired
    assert not sooner.reschedule(100)
    later.cancel()
    assert not later.reschedule(100)
    assert 0 == len(timers)


def test_timers_are_counted_by_owner() -> None:
    """`counts` names every owner that has timers pending, and no other: cancelled and fired ones are gone from it."""
    timers = Timers()
    timers.at(1, lambda: None)
    timers.at(1, lambda: None, owner="a")
    cancelled = timers.at(1, lambda: None, owner="b")
    moved = timers.at(1, lambda: None, owner="b")
    timers.at(3, lambda: None, owner="c")
    assert {"a": 1, "b": 2, "c": 1} == timers.counts()

    cancelled.cancel()
    cancelled.cancel()
    moved.reschedule(2)
    assert {"a": 1, "b": 1, "c": 1} == timers.counts()

    fire(timers, 2)
    assert {"c": 1} == timers.counts()


def test_there_is_a_limit() -> None:
    """One timer too many is refused with the number and the owner; there is room again when one fired or was cancelled."""
    timers = Timers(limit=2)
    first, _ = timers.at(1, lambda: None), timers.at(2, lambda: None)

    with pytest.raises(TooManyTimers, match=r"no timer for me: 2 are pending, which is the limit") as caught:
        timers.at(3, lambda: None, owner="me")
    assert (2, "me") == (caught.value.pending, caught.value.owner)
    assert {} == timers.counts()

    first.cancel()
    timers.at(3, lambda: None)
    fire(timers, 2)
    timers.at(4, lambda: None)
    assert 2 == len(timers)


def test_only_an_earlier_timer_is_reported() -> None:
    """Whoever sleeps is told of a timer that is earlier than its waking, made or moved, and of no other."""
    timers, told = Timers(), list[float]()
    timers.at(10, lambda: None)
    timers.on_earlier = told.append

    assert 10 == timers.arm()
    timers.at(11, lambda: None)
    timers.at(10, lambda: None)
    timer = timers.at(9, lambda: None)
    timers.at(9.5, lambda: None)
    timer.reschedule(20)
    timer.reschedule(8)

    assert [9, 8] == told


def test_whoever_is_awake_is_not_told_of_earlier_timers() -> None:
    """What is added while the timers are pumped is seen by the look that follows: nobody needs to be woken."""
    timers, told = Timers(), list[float]()
    timers.on_earlier = told.append
    timers.at(1, lambda: timers.at(0.5, lambda: None))
    told.clear()
    timers.arm()

    assert fire(timers, 1)
    timers.at(0.1, lambda: None)

    assert [] == told
    assert 1 >= timers.next_s()


ticks = st.integers(0, 10**9).map(lambda tick: tick / TICKS_PER_S)
times = st.one_of(
    ticks,
    ticks.map(lambda at_s: math.nextafter(at_s, 0)),
    ticks.map(lambda at_s: math.nextafter(at_s, math.inf)),
    st.floats(-1e6, 1e12),
)


@given(times, times)
@example(1.001, 1.001)  # times 1000, as a float, that is less than 1001
def test_no_rounding_makes_a_timer_early_or_a_sleeper_late(when_s: float, now_s: float) -> None:
    """A tick is not before its time, at most one tick after it, and over when a clock says so: to the last bit."""
    tick = to_tick(when_s)

    assert tick / TICKS_PER_S >= when_s
    assert (tick - 1) / TICKS_PER_S <= when_s
    assert tick == past_tick(tick / TICKS_PER_S)
    assert (past_tick(now_s) >= tick) == (now_s >= tick / TICKS_PER_S)


@given(times, st.floats(0, 1e9), st.floats(0, 1e6))
def test_no_timer_is_early(when_s: float, first_s: float, step_s: float) -> None:
    """Whatever the clock shows: a timer has been called exactly when its tick has begun, which is never before its time."""
    timers, fired = Timers(), list[str]()
    fire(timers, first_s)
    timers.at(when_s, lambda: fired.append("x"))

    fire(timers, first_s + step_s)

    assert (first_s + step_s >= to_tick(when_s) / TICKS_PER_S) == (["x"] == fired)
    assert [] == fired or first_s + step_s >= when_s


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
        count = 10 * BUDGET // FIRE_COST
        for _ in range(count):
            world.stage.timers.at(0, call)

        while len(fired) < count:
            await trio.lowlevel.checkpoint()
            seen.append(len(fired))

        assert 5 <= len(set(seen))


def wakes(world: World) -> int:
    """How often the scheduler was woken."""
    scheduler = world.stage.registry["/scheduler"].actor
    assert isinstance(scheduler, Scheduler)
    return scheduler.wakes


async def test_the_scheduler_wakes_once_for_each_time(autojump_clock: trio.abc.Clock) -> None:
    """However far away timers are, and however many share a moment: one waking for each moment, and none besides."""
    async with open_world() as world:
        fired: list[float] = []
        now_s = trio.current_time()
        for delay_s in (0.25, 3.0, 3.0, 3.0, 80_000.0):
            world.stage.timers.at(now_s + delay_s, lambda: fired.append(trio.current_time() - now_s))

        await trio.sleep(86_000)

        assert [0.25, 3, 3, 3, 80_000] == fired
        assert 3 == wakes(world)


async def test_a_timer_that_is_later_than_the_next_wakes_nobody(autojump_clock: trio.abc.Clock) -> None:
    """Timers made and cancelled while the scheduler sleeps towards an earlier one do not disturb it."""
    async with open_world() as world:
        world.stage.timers.at(trio.current_time() + 50, lambda: None)
        await settle()

        for _ in range(100):
            world.stage.timers.at(trio.current_time() + 60, lambda: None).cancel()
            await trio.sleep(0.1)

        assert 0 == wakes(world)


async def test_cancelling_the_next_timer_fires_nothing(autojump_clock: trio.abc.Clock) -> None:
    """When the timer that the scheduler sleeps towards is cancelled, it is not called; the one after it is, in time."""
    async with open_world() as world:
        fired: list[float] = []
        now_s = trio.current_time()
        timer = world.stage.timers.at(now_s + 1, lambda: fired.append(trio.current_time() - now_s))
        world.stage.timers.at(now_s + 2, lambda: fired.append(trio.current_time() - now_s))
        await settle()

        timer.cancel()
        await trio.sleep(10)

        assert [2] == fired


async def test_timers_that_are_pending_at_the_end_are_not_called(autojump_clock: trio.abc.Clock) -> None:
    """A scheduler that stops calls nothing more: what is pending stays so, and can be cancelled."""
    async with open_world() as world:
        fired: list[str] = []
        timer = world.stage.timers.at(trio.current_time() + 1, lambda: fired.append("x"))
        await settle()

        await world.stop(world.stage.registry["/scheduler"])
        await trio.sleep(10)

        assert [] == fired
        assert 1 == len(world.stage.timers)
        assert timer.cancel()


async def test_deadlines_fire_once_after_the_loop_has_stalled(mock_clock: trio.testing.MockClock) -> None:
    """When the event loop stood still for two seconds, all that came due meanwhile is called: once, in order of time."""
    async with open_world() as world:
        fired: list[int] = []
        now_s = trio.current_time()
        for ms in (1_900, 100, 2_100, 700):
            world.stage.timers.at(now_s + ms / 1000, lambda ms=ms: fired.append(ms))
        await settle()

        mock_clock.jump(2)
        await settle()

        assert [100, 700, 1_900] == fired
        assert 1 == wakes(world)
