"""Schedules as users have them: declared, made at run time, over restarts, with clocks that are set and two runtimes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, field

from callsheet import (
    Context,
    InvalidName,
    InvalidOption,
    Jobs,
    PayloadInvalid,
    PayloadTooLarge,
    Queue,
    Retry,
    Status,
    UnknownQueue,
    UnknownTask,
)
from callsheet.errors import AlreadyDeclared, InvalidSchedule, ScheduleNotFound
from callsheet.runtime import Runtime
from callsheet.store.contract import SetSchedule, Store
from callsheet.store.errors import StoreBusy
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.sqlite import SqliteStore
from callsheet.testing import simulate

from .house import Wall, open_house, settle

NOON: Final = datetime(2026, 3, 28, 12, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
BERLIN: Final = "Europe/Berlin"

stores = pytest.mark.parametrize("store", ["memory", "sqlite"])


@define(eq=False)
class Seen:
    """What the handlers were given."""

    times: list[datetime | None] = field(factory=list)
    at: list[datetime] = field(factory=list)
    payloads: list[Any] = field(factory=list)


def some_jobs(seen: Seen, *, takes_s: float = 0, fails: int = 0, name: str = "j") -> Jobs:
    """One task that writes down what it is given; it takes so long, and fails so often."""
    jobs = Jobs(name, queue=Queue(concurrency=50, batch_size=50))
    left = [fails]

    @jobs.task("work", retry=Retry(backoff="fixed", initial_delay=100, jitter=0))
    async def work(payload: Any, ctx: Context) -> None:
        seen.times.append(ctx.nominal_time)
        seen.payloads.append(payload)
        await trio.sleep(takes_s)
        if left[0]:
            left[0] -= 1
            raise ValueError("not yet")

    return jobs


def minutes(times: Any) -> list[float]:
    return [(each - NOON) / MINUTE for each in times]


async def did(jobs: Jobs, key: str = "k") -> list[tuple[str, float]]:
    """Its history, the oldest first."""
    return [(str(each.did), (each.nominal - NOON) / MINUTE) for each in (await jobs.schedules.history(key))[::-1]]


# ---------------------------------------------------------------- as it should be


@stores
async def test_what_the_code_declares_is_requested(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """At its times, each of which its handler is told; the payload is that of the moment of declaring."""
    seen = Seen()
    jobs = some_jobs(seen)
    payload = {"x": [1]}
    jobs.every("k", 60, "work", payload, start=NOON, first="next")
    jobs.cron("b", "*/2 * * * *", "work", "cron", tz=BERLIN)
    payload["x"].append(2)

    async with simulate(jobs, store=store, start=NOON - MINUTE / 2) as world:
        await world.advance(minutes=4)
        states = await jobs.schedules.list()
        history = await did(jobs), await did(jobs, "b")

        by_payload: dict[str, list[Any]] = {str(each): [] for each in seen.payloads}
        for each, at in zip(seen.payloads, seen.times, strict=True):
            by_payload[str(each)].append(at)
        assert {"{'x': [1]}", "cron"} == by_payload.keys()
        assert [0, 1, 2, 3] == minutes(sorted(by_payload["{'x': [1]}"]))
        assert [0, 2] == minutes(sorted(by_payload["cron"]))
        assert [[("requested", n) for n in range(4)], [("requested", 0), ("requested", 2)]] == list(history)
        assert [("b", "code", 2, 0), ("k", "code", 4, 0)] == [(s.key, s.origin, s.fired, s.skipped) for s in states]
        assert [NOON + 4 * MINUTE] * 2 == [each.next_at for each in states]
        runs = world.runs()
        assert {("k", 4), ("b", 2)} == {
            (key, len([run for run in runs if run.schedule_key == key])) for key in ("k", "b")
        }


@stores
async def test_what_is_made_at_run_time_is_requested(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """It is changed by saying it again, and outlives the process."""
    seen = Seen()
    jobs = some_jobs(seen)
    async with simulate(jobs, store=store, start=NOON) as world:
        state = await jobs.schedules.every("k", 60, "work", 1, first="now")
        assert NOON == state.next_at
        await world.advance(seconds=61)
        await jobs.schedules.every("k", 60, "work", 2)
        await world.restart()
        await world.advance(seconds=60)
        changed = await jobs.schedules.cron("k", "0 * * * *", "work", 3)
        await world.advance(hours=1)

        assert [1, 1, 2, 3] == seen.payloads
        assert [0, 1, 2, 60] == minutes(seen.times)
        assert (NOON + 60 * MINUTE, "call") == (changed.next_at, changed.origin)


@stores
async def test_a_pause_holds_over_a_restart(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """What comes meanwhile is not made up for; by hand it is requested all the same."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 60, "work", start=NOON, misfire="all", overlap="allow")
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(seconds=1)
        paused = await jobs.schedules.pause("k")
        await world.restart()
        await world.advance(minutes=10)
        run_id = await jobs.schedules.trigger("k")
        await world.settle()
        shown = await jobs.schedules.get("k"), await jobs.schedules.preview("k", 2)
        resumed = await jobs.schedules.resume("k")
        await world.advance(minutes=1)

        assert (True, None) == (paused.paused, paused.next_at)
        assert (True, None, 2) == (shown[0].paused, shown[0].next_at, shown[0].fired)
        assert [11, 12] == minutes(shown[1])
        assert (False, NOON + 11 * MINUTE) == (resumed.paused, resumed.next_at)
        assert [0, 11] == [minutes(seen.times)[n] for n in (0, 2)]
        assert Status.SUCCEEDED is world.history(run_id).run.status
        assert ["requested", "triggered", "requested"] == [each for each, _ in await did(jobs)]


async def test_by_hand_at_the_very_time_of_the_schedule(autojump_clock: trio.abc.Clock) -> None:
    """Neither keeps the other from coming, nor does a second one."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 60, "work", start=NOON + MINUTE, overlap="allow")
    async with simulate(jobs, start=NOON) as world:
        await jobs.schedules.trigger("k")
        await jobs.schedules.trigger("k")
        world.set_wall(NOON + MINUTE)
        await jobs.schedules.trigger("k")
        await world.settle()
        await world.advance(minutes=1)

        assert [0, 0, 1, 1, 2] == sorted(minutes(seen.times))[:5]
        assert 5 == (await jobs.schedules.get("k")).fired


@stores
async def test_what_is_deleted_stays_away(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """With its history; its runs stay. One that the code declares comes back with the next open."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 60, "work", start=NOON)
    async with simulate(jobs, store=store, start=NOON) as world:
        await jobs.schedules.every("other", 3600, "work")
        await world.advance(seconds=1)
        await jobs.schedules.delete("k")
        await jobs.schedules.pause("other")  # so that all is read anew
        await world.advance(minutes=5)

        assert ["other"] == [each.key for each in await jobs.schedules.list()]
        for ask in (jobs.schedules.get, jobs.schedules.history, jobs.schedules.trigger, jobs.schedules.delete):
            with pytest.raises(ScheduleNotFound):
                await ask("k")
        assert (1, 1) == (len(seen.times), len(world.runs()))
        await world.restart()
        assert [("k", 0), ("other", 0)] == [(each.key, each.fired) for each in await jobs.schedules.list()]


@stores
async def test_what_is_dropped_from_the_code_is_orphaned(
    autojump_clock: trio.abc.Clock, store: Any, caplog: Any, tmp_path: Path
) -> None:
    """It stops and is listed; declared again, it goes on with its next time, and makes up for nothing."""
    seen, tables = Seen(), Tables()
    caplog.set_level(logging.WARNING, "callsheet")

    def place() -> Store:
        return MemoryStore(tables) if store == "memory" else SqliteStore(tmp_path / "jobs.db")

    def release(*, declares: bool) -> Jobs:
        jobs = some_jobs(seen)
        if declares:
            jobs.every("k", 60, "work", start=NOON, misfire="all", overlap="allow")
        return jobs

    async with simulate(release(declares=True), store=place, start=NOON) as world:
        await world.advance(seconds=61)
    async with simulate(without := release(declares=False), store=place, start=NOON + 5 * MINUTE) as world:
        await world.advance(minutes=10)
        (state,) = await without.schedules.list()
        assert (True, None, "code") == (state.orphaned, state.next_at, state.origin)
    async with simulate(again := release(declares=True), store=place, start=NOON + 20.5 * MINUTE) as world:
        (state,) = await again.schedules.list()
        await world.advance(minutes=1)
        assert (False, NOON + 21 * MINUTE) == (state.orphaned, state.next_at)

    assert [0, 1, 21] == minutes(seen.times)
    assert 1 == caplog.text.count("schedule k of default/j is declared no more: it is stopped, and kept")


# ---------------------------------------------------------------- restarts, kills, clocks


@stores
@pytest.mark.parametrize(
    ("misfire", "made_up"),
    [("skip", []), ("latest", [10]), ("all", [8, 9, 10])],
)
async def test_p8_what_was_missed_is_handled_by_its_policy(
    autojump_clock: trio.abc.Clock, store: Any, misfire: Any, made_up: list[float]
) -> None:
    """A process that was killed and is away for a while requests nothing twice, and loses nothing but by the policy."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 60, "work", start=NOON, end=NOON + 10 * MINUTE, misfire=misfire, misfire_cap=3, overlap="allow")
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(seconds=1)
        await world.crash()
        world.set_wall(NOON + 15 * MINUTE)
        await world.restart()
        await world.advance(minutes=30)

        state = await jobs.schedules.get("k")
        assert [0, *made_up] == sorted(minutes(seen.times))
        assert (1 + len(made_up), 10 - len(made_up), None) == (state.fired, state.skipped, state.next_at)
        assert len(seen.times) == len(world.runs())


A_DAY: Final = [pytest.param(each, marks=pytest.mark.slow) for each in (86_400, -86_400)]


@stores
@pytest.mark.parametrize("step_s", [3600, -3600, 20_000, -20_000, *A_DAY])
async def test_p7_a_wall_clock_that_is_set(autojump_clock: trio.abc.Clock, store: Any, step_s: int) -> None:
    """Forward, and what was passed over is missed; back, and nothing comes twice: it waits until the clock is there again."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 600, "work", start=NOON)
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(minutes=11)
        world.step_wall(step_s)
        await world.settle()
        after = minutes(seen.times)
        await world.advance(minutes=20, seconds=abs(step_s))

        times = minutes(seen.times)
        assert len(set(times)) == len(times) == len(world.runs())
        assert times == sorted(times)
        made_up = [(step_s / 60 + 11) // 10 * 10] if step_s > 0 else []
        assert [0, 10, *made_up] == after
        coming = [after[-1] + 10 * n for n in range(1, len(times) - len(after) + 1)]
        assert coming == times[len(after) :]
        now = (world.now - NOON) / MINUTE
        assert now - 10 < times[-1] <= now


async def test_a_clock_that_was_far_ahead_by_mistake_is_said(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What has been in another century waits until then, and the log says so, once; said anew, it begins now."""
    seen, years_s = Seen(), 70 * 365 * 86_400
    jobs = some_jobs(seen)
    async with simulate(jobs, start=NOON) as world:
        await jobs.schedules.every("k", 20, "work")
        world.step_wall(years_s)
        await world.advance(seconds=3)
        world.step_wall(-years_s)
        await world.advance(minutes=5)
        assert 1 == len(seen.times)
        (line,) = [each.message for each in caplog.records if "the wall clock was there" in each.message]
        assert line.startswith("schedule k of default/j waits: it has been at 2096-03-10 12:00:00+00:00, ")

        await jobs.schedules.delete("k")
        await jobs.schedules.every("k", 20, "work")
        await world.advance(minutes=1)

        assert 4 == len(seen.times)


@stores
async def test_kills_at_any_moment_lose_and_double_nothing(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """Killed every few seconds: each time has its run, and one."""
    seen = Seen()
    jobs = some_jobs(seen)
    for n in range(5):
        jobs.every(f"k{n}", 1 + n, "work", start=NOON, misfire="all", misfire_cap=1000, overlap="allow")
    async with simulate(jobs, store=store, start=NOON) as world:
        for n in range(40):
            await world.advance(seconds=0.37 + n % 7 * 0.61)
            await world.crash()
            await world.restart()
        await world.advance(seconds=5)

        asked = [(run.schedule_key, run.nominal_us) for run in world.runs()]
        assert len(set(asked)) == len(asked)
        for n in range(5):
            state = await jobs.schedules.get(f"k{n}")
            assert state.last_at is not None
            assert (
                (state.last_at - NOON).total_seconds() / (1 + n) + 1
                == state.fired
                == len([key for key, _ in asked if key == f"k{n}"])
            )
            assert 0 == state.skipped
            assert world.now - state.last_at <= timedelta(seconds=1 + n)


async def test_the_planner_is_mended(autojump_clock: trio.abc.Clock) -> None:
    """It is killed now and then: each time has one run all the same."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 1, "work", start=NOON, misfire="all", overlap="allow")
    async with simulate(jobs, start=NOON) as world:
        for n in range(10):
            await world.advance(seconds=20 + n * 0.37)
            world.runtime.system.stage.registry["/schedules"].kill()
        await world.advance(seconds=60)

        times = [each for each in seen.times if each is not None]
        assert [NOON + timedelta(seconds=n) for n in range(len(times))] == times
        assert world.now - times[-1] < timedelta(seconds=1)


# ---------------------------------------------------------------- overlap


@stores
@pytest.mark.parametrize(
    ("overlap", "runs", "history"),
    [
        ("skip", [0, 2, 4], ["requested", "overlapped", "requested", "overlapped", "requested"]),
        ("allow", [0, 1, 2, 3, 4], ["requested"] * 5),
        ("queue", [0, 1, 2], ["requested", "waited", "waited", "overlapped"]),
    ],
)
async def test_a_run_that_takes_longer_than_the_interval(
    autojump_clock: trio.abc.Clock, store: Any, overlap: Any, runs: list[int], history: list[str]
) -> None:
    """The next time comes to nothing, has its run too, or waits until that one has ended."""
    seen = Seen()
    jobs = some_jobs(seen, takes_s=95)
    jobs.every("k", 60, "work", start=NOON, end=NOON + 4 * MINUTE, overlap=overlap)
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(minutes=4, seconds=5)

        assert runs == minutes(seen.times)
        assert history == [each for each, _ in await did(jobs)]
        await world.advance(minutes=10)
        state = await jobs.schedules.get("k")
        assert 5 == state.fired + state.skipped
        assert state.waiting_at is None
        assert state.fired == len(seen.times) == len(world.runs())


@stores
async def test_a_run_that_is_tried_again_has_not_ended(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """Between its attempts nothing runs, and yet the times that come are kept out."""
    seen = Seen()
    jobs = some_jobs(seen, fails=1)
    jobs.every("k", 60, "work", start=NOON)
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(minutes=2, seconds=1)

        assert [("requested", 0), ("overlapped", 1), ("requested", 2)] == await did(jobs)
        assert [0, 0, 2] == minutes(seen.times)


@stores
async def test_a_canceled_run_lets_the_one_that_waits_go(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """However it ended; and over a restart."""
    seen = Seen()
    jobs = some_jobs(seen, takes_s=3600)
    jobs.every("k", 60, "work", start=NOON, overlap="queue", end=NOON + 2 * MINUTE)
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(minutes=1, seconds=1)
        (first,) = world.runs()
        await jobs.runs.cancel(first.id)
        await world.settle()
        assert [0, 1] == minutes(seen.times)
        await world.advance(minutes=5)
        (second,) = [run for run in world.runs() if not run.status.is_final]
        await world.crash()
        await world.restart()
        await jobs.runs.cancel(second.id)
        await world.settle()

        assert 2 == minutes([seen.times[-1]])[0]
        assert ["requested", "waited", "waited"] == [each for each, _ in await did(jobs)]


# ---------------------------------------------------------------- what goes wrong


async def test_a_schedule_whose_task_is_gone_waits(autojump_clock: trio.abc.Clock, caplog: Any) -> None:
    """That is said once; with the task back, its times are handled by the policy."""
    seen, tables = Seen(), Tables()
    first, without, again = some_jobs(seen), Jobs("j"), some_jobs(seen)

    async with simulate(first, store=lambda: MemoryStore(tables), start=NOON) as world:
        await first.schedules.every("k", 60, "work", start=NOON)
        await world.advance(seconds=1)
    with caplog.at_level(logging.WARNING, "callsheet"):
        async with simulate(without, store=lambda: MemoryStore(tables), start=NOON + 2 * MINUTE) as world:
            await world.advance(minutes=5)
            with pytest.raises(UnknownTask, match="j has no task 'work'"):
                await without.schedules.trigger("k")
            assert 1 == len(world.runs())
    async with simulate(again, store=lambda: MemoryStore(tables), start=NOON + 9.5 * MINUTE) as world:
        await world.settle()

    assert 1 == caplog.text.count("schedule k of default/j waits: there is no task work here")
    assert [0, 9] == minutes(seen.times)


async def test_a_store_that_refuses_delays(autojump_clock: trio.abc.Clock, caplog: Any) -> None:
    """It is said once and tried again; no time is lost, and none comes twice."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 1, "work", start=NOON, misfire="all", overlap="allow")
    refusing = [False]

    class Refusing(MemoryStore):
        def write(self, commands: Any, now: Any) -> Any:
            if refusing[0] and any(isinstance(each, SetSchedule) for each in commands):
                raise StoreBusy("memory", 0)
            return super().write(commands, now)

    tables = Tables()
    async with simulate(jobs, store=lambda: Refusing(tables), start=NOON) as world:
        await world.advance(seconds=2.5)
        refusing[0] = True
        with caplog.at_level(logging.WARNING, "callsheet"):
            await world.advance(seconds=20)
        before = len(seen.times)
        refusing[0] = False
        await world.advance(seconds=20)

        assert 3 == before
        times = sorted(each for each in seen.times if each is not None)
        assert [NOON + timedelta(seconds=n) for n in range(len(times))] == times
        assert len(seen.times) >= 42
        assert 1 == caplog.text.count("schedules cannot be looked after, trying again")


@pytest.mark.parametrize("n", [2, 3])
async def test_two_runtimes_on_one_store_request_each_time_once(autojump_clock: trio.abc.Clock, n: int) -> None:
    """Whoever is faster; and they do not keep each other busy."""
    seen, tables, wall = Seen(), Tables(), Wall()
    together = [some_jobs(seen, takes_s=2.5) for _ in range(n)]
    for jobs in together:
        jobs.every("a", 1, "work", overlap="allow")
        jobs.every("b", 1, "work", overlap="queue")
        jobs.cron("c", "* * * * *", "work")
    store = [MemoryStore(tables, exclusive=False) for _ in range(n)]
    writes = [0]
    for each in store:
        _counted(each, writes)

    async with trio.open_nursery() as nursery:
        closing = trio.Event()

        async def runs(jobs: Jobs, store: Store) -> None:
            async with open_house(store, jobs, wall=wall):
                await closing.wait()

        for jobs, each in zip(together, store, strict=True):
            nursery.start_soon(runs, jobs, each)
        await trio.sleep(120.5)
        await settle()
        states = {each.key: each for each in await together[0].schedules.list()}
        found = [run for run in (await together[0].runs.list(limit=500)).runs if run.schedule_key]
        closing.set()

    asked = [(run.schedule_key, run.nominal_us) for run in found]
    assert len(set(asked)) == len(asked)
    assert {key: state.fired for key, state in states.items()} == {
        key: len([each for each, _ in asked if each == key]) for key in "abc"
    }
    assert 119 <= states["a"].fired + states["a"].skipped <= 120
    assert 2 == states["c"].fired
    assert writes[0] < 120 * 2 * n * 4


def _counted(store: MemoryStore, writes: list[int]) -> None:
    write = store.write

    def counted(commands: Any, now: Any) -> Any:
        writes[0] += sum(isinstance(each, SetSchedule) for each in commands)
        return write(commands, now)

    store.write = counted  # type: ignore[method-assign]


async def test_two_releases_do_not_take_turns(autojump_clock: trio.abc.Clock) -> None:
    """Of two that declare a key differently the one that opened last is believed, and nobody writes for ever."""
    seen, tables, wall = Seen(), Tables(), Wall()
    old, new = some_jobs(seen), some_jobs(seen)
    old.every("k", 60, "work", "old")
    old.every("gone", 60, "work", "old")
    new.every("k", 60, "work", "new")
    writes = [0]
    stores = [MemoryStore(tables, exclusive=False) for _ in range(2)]
    for each in stores:
        _counted(each, writes)

    async with open_house(stores[0], old, wall=wall):
        await trio.sleep(5)
        async with open_house(stores[1], new, wall=wall):
            await trio.sleep(600)
            states = {each.key: each for each in await old.schedules.list()}

    assert {"new"} == set(seen.payloads)
    assert (False, True) == (states["k"].orphaned, states["gone"].orphaned)
    assert writes[0] < 50


# ---------------------------------------------------------------- bad input

WRONG: Final[list[tuple[str, dict[str, Any], type[Exception], str]]] = [
    ("zero", {"every": 0}, InvalidSchedule, "every"),
    ("negative", {"every": -5}, InvalidSchedule, "every"),
    ("below a second", {"every": 0.5}, InvalidSchedule, "every"),
    ("nan", {"every": float("nan")}, InvalidSchedule, "every"),
    ("endless", {"every": float("inf")}, InvalidSchedule, "every"),
    ("two years", {"every": timedelta(days=730)}, InvalidSchedule, "every"),
    ("unknown zone", {"cron": "* * * * *", "tz": "Europe/Atlantis"}, InvalidSchedule, "Europe/Atlantis"),
    ("no zone", {"cron": "* * * * *", "tz": ""}, InvalidSchedule, "tz"),
    ("never fires", {"cron": "0 0 30 2 *"}, InvalidSchedule, "never fires"),
    ("huge range", {"cron": "0-99999999999 * * * *"}, InvalidSchedule, "minute"),
    ("four fields", {"cron": "* * * *"}, InvalidSchedule, "5 fields"),
    ("overlong expression", {"cron": "1," * 300 + "1 * * * *"}, InvalidSchedule, "characters"),
    ("unknown task", {"task": "nowhere"}, UnknownTask, "nowhere"),
    ("unknown queue", {"queue": "nowhere"}, UnknownQueue, "nowhere"),
    ("empty key", {"key": ""}, InvalidName, "schedule key"),
    ("overlong key", {"key": "k" * 300}, InvalidName, "schedule key"),
    ("a key of two lines", {"key": "a\nb"}, InvalidName, "schedule key"),
    ("end before start", {"start": NOON, "end": NOON - MINUTE}, InvalidSchedule, "before its start"),
    ("start before all years", {"start": "0001-01-01T00:00+14:00"}, InvalidSchedule, "start: is before the year 1"),
    (
        "end after all years",
        {"end": "9999-12-31T23:59:59-14:00"},
        InvalidSchedule,
        "end: is before the year 1 or after",
    ),
    ("naive start", {"start": NOON.replace(tzinfo=None)}, InvalidSchedule, "start"),
    ("negative jitter", {"jitter": -1}, InvalidSchedule, "jitter"),
    ("jitter beyond half the interval", {"jitter": 31}, InvalidSchedule, "jitter"),
    ("unknown misfire", {"misfire": "sometimes"}, InvalidOption, "sometimes"),
    ("unknown overlap", {"overlap": "never"}, InvalidOption, "never"),
    ("no cap", {"misfire_cap": 0}, InvalidOption, "misfire_cap"),
    ("huge cap", {"misfire_cap": 10**9}, InvalidOption, "misfire_cap"),
    ("unknown first", {"first": "later"}, InvalidOption, "later"),
    ("unknown option", {"retries": 3}, TypeError, "retries"),
    ("no JSON", {"payload": object()}, PayloadInvalid, "object"),
    ("too large", {"payload": "x" * 10_000_000}, PayloadTooLarge, "payload"),
]


@pytest.mark.parametrize(("given", "error", "says"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
async def test_bad_input_is_refused_with_a_sentence(
    autojump_clock: trio.abc.Clock, given: dict[str, Any], error: Any, says: str
) -> None:
    """When it is declared, and at run time; nothing is stored."""
    jobs = some_jobs(Seen())
    told = dict(given)
    key, task, payload = told.pop("key", "k"), told.pop("task", "work"), told.pop("payload", None)
    every, cron = told.pop("every", 60), told.pop("cron", None)

    with pytest.raises(error, match=says) as declared:
        jobs.cron(key, cron, task, payload, **told) if cron else jobs.every(key, every, task, payload, **told)
    async with simulate(jobs, start=NOON) as world:
        with pytest.raises(error, match=says) as called:
            if cron:
                await jobs.schedules.cron(key, cron, task, payload, **told)
            else:
                await jobs.schedules.every(key, every, task, payload, **told)
        await world.advance(minutes=2)

        assert () == await jobs.schedules.list()
        assert [] == world.runs()
    assert str(declared.value) == str(called.value)
    assert 10 < len(str(called.value)) < 400


async def test_a_change_that_comes_late_does_not_bring_back_what_was_deleted(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody deletes it and says another one of this key while a pause is on its way: the pause is one of the other one."""
    jobs = some_jobs(Seen())
    async with simulate(jobs, start=NOON) as world:
        await jobs.schedules.every("k", 60, "work", "old")
        await world.advance(seconds=1)
        write, is_first = Runtime.write, [True]

        async def faster(runtime: Runtime, command: Any, *rest: Any, **more: Any) -> Any:
            if is_first:
                is_first.clear()
                await jobs.schedules.delete("k")
                await jobs.schedules.every("k", 90, "work", "new")
            return await write(runtime, command, *rest, **more)

        monkeypatch.setattr(Runtime, "write", faster)
        await jobs.schedules.pause("k")

        state = await jobs.schedules.get("k")
        assert ("every 90 s", "new", True) == (state.cadence, state.payload, state.paused)


async def test_a_key_that_is_declared_is_not_made_by_a_call(autojump_clock: trio.abc.Clock) -> None:
    """Nor declared twice, nor while a runtime is open."""
    jobs = some_jobs(Seen())
    jobs.every("k", 60, "work")
    with pytest.raises(AlreadyDeclared, match="there is one with this key"):
        jobs.cron("k", "* * * * *", "work")
    async with simulate(jobs, start=NOON):
        with pytest.raises(InvalidOption, match="'k' is declared by the code"):
            await jobs.schedules.every("k", 60, "work")
        with pytest.raises(AlreadyDeclared, match="a runtime is open"):
            jobs.every("l", 60, "work")

        assert ["k"] == [each.key for each in await jobs.schedules.list()]


@pytest.mark.parametrize("n", [-1, 1001, True, "5"])
async def test_a_preview_is_bounded(autojump_clock: trio.abc.Clock, n: Any) -> None:
    """So is the history."""
    jobs = some_jobs(Seen())
    jobs.every("k", 60, "work", start=NOON + MINUTE, end=NOON + 3 * MINUTE)
    async with simulate(jobs, start=NOON):
        with pytest.raises(InvalidOption):
            await jobs.schedules.preview("k", n)
        with pytest.raises(InvalidOption):
            await jobs.schedules.history("k", limit=n)

        assert [1, 2, 3] == minutes(await jobs.schedules.preview("k", 9))
        assert () == await jobs.schedules.preview("k", 0)


async def test_a_preview_begins_with_what_is_requested_next(autojump_clock: trio.abc.Clock) -> None:
    """Also where that is a time which has come, and whose run is scattered over the minutes after it."""
    jobs = some_jobs(Seen())
    jobs.cron("k", "0 * * * *", "work", jitter=timedelta(minutes=50))
    async with simulate(jobs, start=NOON - MINUTE) as world:
        due = (await jobs.schedules.get("k")).due_at
        assert due is not None
        assert due > NOON + 2 * MINUTE
        await world.advance(minutes=2)

        before = minutes(await jobs.schedules.preview("k", 2))
        await world.advance(seconds=(due - NOON).total_seconds())
        after = minutes(await jobs.schedules.preview("k", 2))

    assert ([0, 60], [60, 120]) == (before, after)


@stores
async def test_a_time_that_waits_is_not_idle(autojump_clock: trio.abc.Clock, store: Any) -> None:
    """`until_idle` returns when the run that waited for the one before it has ended too."""
    for seed in range(8):
        seen = Seen()
        jobs = some_jobs(seen, takes_s=15)
        jobs.every(
            "k", 10, "work", start=NOON + timedelta(seconds=10), end=NOON + timedelta(seconds=20), overlap="queue"
        )
        async with simulate(jobs, store=store, seed=seed, start=NOON) as world:
            await world.advance(seconds=22)
            assert 1 == len(seen.times)

            await world.until_idle()

            assert [10, 20] == [(each - NOON).seconds for each in seen.times if each is not None]
            assert ["succeeded"] * 2 == [each.status for each in world.runs()]
