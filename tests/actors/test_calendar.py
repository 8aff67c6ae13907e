"""The calendar over a store of due times: every queue is woken in time, whatever the clocks do meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from attrs import define, field

from callsheet.actors import calendar as calendar_module
from callsheet.actors.calendar import LOOK_S, WINDOW_US, Calendar, CalendarMessage, Expect, Reread
from callsheet.actors.cell import Cell
from callsheet.store.records import Clock, Due

from .world import World, open_world, settle

SECOND_US = 1_000_000


@define(eq=False)
class Future:
    """A store's waiting rows, and who was woken when. Pages break where a store's may: after a due time, at `rows`."""

    world: World
    rows: int = 1_000_000
    dues: list[Due] = field(factory=list)
    woken: list[tuple[str, float]] = field(factory=list)
    reads: list[int] = field(factory=list)
    looks: int = 0
    set_at: list[float] = field(factory=list)
    """When it was told that the wall clock was set."""
    slow_s: float = 0.0
    fail: list[Exception] = field(factory=list)
    _began_s: float = field(factory=trio.current_time)

    async def upcoming(self, clock: Clock, after_us: int, until_us: int, limit: int) -> tuple[Due, ...]:
        await trio.sleep(self.slow_s)
        if self.fail:
            raise self.fail.pop()
        self.reads.append(until_us)
        rows = sorted(
            (each for each in self.dues if each.clock is clock and after_us < each.due_us <= until_us),
            key=lambda each: (each.due_us, each.queue),
        )
        last_us = rows[: min(limit, self.rows)][-1].due_us if rows else after_us
        return tuple(dict.fromkeys(each for each in rows if each.due_us <= last_us))

    def wake(self, queue: str) -> None:
        self.woken.append((queue, round(trio.current_time() - self._began_s, 6)))

    def wake_all(self) -> None:
        self.looks += 1

    def wall_was_set(self) -> None:
        self.set_at.append(round(trio.current_time() - self._began_s, 6))

    def add(self, queue: str, in_s: float, clock: Clock = Clock.STEADY) -> Due:
        """Due that long after the beginning, by the clock as it stands."""
        seams = self.world.stage.seams.clock
        now_us = seams.wall_us() if clock is Clock.WALL else seams.steady_us()
        due = Due(queue, clock, now_us + round(in_s * 1e6))
        self.dues.append(due)
        return due


@define(eq=False)
class SetClock:
    """A wall clock that somebody sets; the steady one goes on."""

    offset_s: float = 0.0
    base_s: float = field(factory=trio.current_time)

    def mono_s(self) -> float:
        return trio.current_time()

    def steady_us(self) -> int:
        return 1_800_000_000_000_000 + round((trio.current_time() - self.base_s) * 1e6)

    def wall_us(self) -> int:
        return self.steady_us() + round(self.offset_s * 1e6)


@asynccontextmanager
async def open_future() -> AsyncIterator[tuple[Future, SetClock]]:
    async with open_world() as world:
        clock = world.stage.seams.clock = SetClock()
        yield Future(world), clock


async def begin(future: Future) -> Cell[CalendarMessage]:
    return await future.world.start(
        "calendar", lambda: Calendar(future.upcoming, future.wake, future.wake_all, future.wall_was_set)
    )


async def test_what_waits_in_the_store_wakes_its_queue_in_time(autojump_clock: trio.abc.Clock) -> None:
    """P7: a queue is woken when something of it becomes due, to the millisecond and never before."""
    async with open_future() as (future, _):
        future.add("a", 3.0)
        future.add("b", 0.0105)
        future.add("a", 59.9)
        await begin(future)

        await trio.sleep(100)

        assert [("b", 0.011), ("a", 3.0), ("a", 59.9)] == future.woken


async def test_what_is_told_wakes_its_queue_in_time(autojump_clock: trio.abc.Clock) -> None:
    """A due time that was just committed needs no reading."""
    async with open_future() as (future, _):
        calendar = await begin(future)
        await trio.sleep(1)
        reads = len(future.reads)

        calendar.ref.tell(Expect((future.add("a", 2.0), future.add("b", 5.0, Clock.WALL))))
        await trio.sleep(20)

        assert [("a", 3.0), ("b", 6.0)] == future.woken
        assert reads == len(future.reads)


async def test_what_is_due_at_once_wakes_at_once(autojump_clock: trio.abc.Clock) -> None:
    """A run that waits for no clock wakes its queue without a timer."""
    async with open_future() as (future, _):
        calendar = await begin(future)

        calendar.ref.tell(Expect((Due("a", Clock.AT_ONCE, 0),)))
        await settle()

        assert [("a", 0.0)] == future.woken


async def test_the_far_future_waits_in_the_store(autojump_clock: trio.abc.Clock) -> None:
    """Only a window of time is held as timers; what lies beyond it is read when its time comes nearer."""
    async with open_future() as (future, _):
        for n in range(100):
            future.add("a", 100 + n)
        calendar = await begin(future)
        calendar.ref.tell(Expect((future.add("b", 5_000),)))
        await trio.sleep(10.5)
        assert 1 == len(future.world.stage.timers)

        await trio.sleep(6_000)

        assert [*[("a", 100.0 + n) for n in range(100)], ("b", 5_000.0)] == future.woken


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1_000_000])
async def test_pages_may_be_shorter_than_asked(autojump_clock: trio.abc.Clock, rows: int) -> None:
    """A store may end a page early; only an empty one is the last, and nothing between two of them is missed."""
    async with open_future() as (future, _):
        future.rows = rows
        for n in range(20):
            for queue in "abc":
                future.add(queue, 1 + n // 2)
        await begin(future)

        await trio.sleep(30)

        assert sorted((queue, 1.0 + n) for n in range(10) for queue in "abc") == sorted(future.woken)


async def test_queues_look_once_a_second_whatever_was_lost(autojump_clock: trio.abc.Clock) -> None:
    """I39: a lost wake-up costs a second at most."""
    async with open_future() as (future, _):
        await begin(future)
        before = future.looks

        await trio.sleep(10.5 * LOOK_S)

        assert 10 == future.looks - before


async def test_a_wall_clock_set_forward_wakes_what_is_due_now(autojump_clock: trio.abc.Clock) -> None:
    """After the wall clock jumped ahead, what it made due is found at the next look, and the rest at its new time."""
    async with open_future() as (future, clock):
        future.add("soon", 1_000, Clock.WALL)
        future.add("later", 3_700, Clock.WALL)
        future.add("steady", 50)
        await begin(future)
        await trio.sleep(10)
        looks = future.looks

        clock.offset_s += 3_600
        await trio.sleep(LOOK_S)
        assert looks < future.looks
        await trio.sleep(200)

        assert [("steady", 50.0), ("later", 100.0)] == future.woken


async def test_a_wall_clock_set_back_delays_what_follows_it(autojump_clock: trio.abc.Clock) -> None:
    """P7: a queue is not woken for a `run_at` that the clock says is not there yet; delays are not touched."""
    async with open_future() as (future, clock):
        future.add("wall", 30, Clock.WALL)
        future.add("steady", 50)
        await begin(future)
        await trio.sleep(10)

        clock.offset_s -= 600
        await trio.sleep(1_000)

        assert [("steady", 50.0), ("wall", 630.0)] == future.woken


async def test_p7_who_goes_by_the_wall_clock_is_told_that_it_was_set(autojump_clock: trio.abc.Clock) -> None:
    """Within a second, also when it went wrong little by little; and not for nothing."""
    async with open_future() as (future, clock):
        await begin(future)
        await trio.sleep(10.5)
        for step_s in (3_600, -600, 0.011):
            clock.offset_s += step_s
            await trio.sleep(2)
        for _ in range(30):  # 0.4 ms a second
            clock.offset_s -= 0.0004
            await trio.sleep(1)

        assert [11.0, 13.0, 15.0, 42.0] == future.set_at


async def test_drift_is_counted_from_when_timers_were_made(autojump_clock: trio.abc.Clock) -> None:
    """P7: news of others make them anew, by the clock as it goes then; from there it may move by 10 ms, not by 20."""
    async with open_future() as (future, clock):
        future.add("wall", 30, Clock.WALL)
        calendar = await begin(future)
        clock.offset_s = -0.009
        calendar.ref.tell(Reread())
        await trio.sleep(5)

        clock.offset_s = 0.009
        await trio.sleep(60)

        assert [("wall", 29.991)] == future.woken


async def test_a_store_that_cannot_be_read_is_asked_again(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed read is logged, and repeated with the next look; nothing is lost by it."""
    async with open_future() as (future, _):
        future.add("a", 10)
        future.fail = [OSError("disk"), OSError("disk"), OSError("disk"), OSError("disk")]
        await begin(future)

        await trio.sleep(20)

        assert [("a", 10.0)] == future.woken
        assert "could not read what becomes due" in caplog.text


async def test_many_due_times_of_a_queue_in_one_moment_are_one_wake(autojump_clock: trio.abc.Clock) -> None:
    """Wake-ups of one queue within a millisecond are one timer."""
    async with open_future() as (future, _):
        for n in range(1_000):
            future.add("a", 5 + n / 1e6)
        await begin(future)
        assert 3 >= len(future.world.stage.timers)

        await trio.sleep(10)

        assert [("a", 5.0), ("a", 5.001)] == future.woken


async def test_a_calendar_that_stops_leaves_no_timer(autojump_clock: trio.abc.Clock) -> None:
    """Neither its window nor its next look outlive it; a new incarnation reads them again."""
    async with open_future() as (future, _):
        future.add("a", 10)
        future.add("b", WINDOW_US / SECOND_US - 1)
        calendar = await begin(future)

        calendar.request_stop()
        await calendar.wait_gone()
        assert 0 == len(future.world.stage.timers)
        await calendar.start()
        await trio.sleep(100)

        assert [("a", 10.0), ("b", 59.0)] == future.woken


@pytest.mark.parametrize("told", [False, True], ids=["read", "told"])
async def test_of_a_dense_future_only_so_much_is_held(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Timers are bounded however much is due soon, and every queue is woken in time all the same."""
    monkeypatch.setattr(calendar_module, "MOST", 50)
    async with open_future() as (future, _):
        future.rows = 7
        if told:
            cell = await begin(future)
            await settle()
        dues = [future.add(f"q{n % 4}", 1 + n / 500, (Clock.STEADY, Clock.WALL)[n % 2]) for n in range(3_000)]
        if told:
            cell.ref.tell(Expect(tuple(dues)))
        else:
            await begin(future)

        most = 0
        while len(future.woken) < len(dues):
            await trio.sleep(0.01)
            most = max(most, len(future.world.stage.timers))

        assert [f"q{n % 4}" for n in range(3_000)] == [queue for queue, _ in future.woken]
        late_ms = [round(1e3 * (at_s - 1 - n / 500), 3) for n, (_, at_s) in enumerate(future.woken)]
        assert {0, 1} >= set(late_ms)
        assert 50 < most <= 2 * 2 * 50 + 1  # of either clock, and the next look


async def test_what_is_read_in_pages_keeps_nobody_waiting(autojump_clock: trio.abc.Clock) -> None:
    """The calendar has started before the future is read, and hears what it is told between two pages."""
    async with open_future() as (future, _):
        future.rows = 1
        for n in range(100):
            future.add("a", 1 + n)
        future.slow_s = 0.5

        calendar = await begin(future)
        assert [] == future.reads
        calendar.ref.tell_control(Expect((Due("b", Clock.AT_ONCE, 0),)))
        await trio.sleep(3)

        assert ("b", 1.0) == future.woken[0]  # after a page of each clock
