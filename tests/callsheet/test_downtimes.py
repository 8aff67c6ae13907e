"""
Processes that are killed or close at random moments, and stay away for a while: what came meanwhile is handled by its policy.

Rule: what must become of each time of a schedule is told by going through all of them (`almanac.expected`), from when anybody
looked after it and when its runs ended; nothing of `callsheet.schedules` is asked.
Not here: real processes (`tests/real`), clocks that are set (`test_clocks`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field, frozen

from callsheet import Context, Jobs, Queue, Retry, Snooze, Status
from callsheet.schedules.planner import Planner
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import OutcomeKind, Run
from callsheet.store.sqlite import SqliteStore
from callsheet.testing import World, simulate
from callsheet.testing.clock import us_of

from .almanac import HOUR, MINUTE, SECOND, Expected, Grid, Policies, at, expected
from .house import NOON_NS
from .test_random_deaths import Steps

NOON: Final = NOON_NS // 1000
WAIT_S: Final = 20.0
"""Between tries."""
TICKS_US: Final = 2_000
"""A due time is rounded up to a millisecond, and so is the timer that is made of it."""


@frozen
class Timely:
    """A schedule, as it is declared and as the almanac knows it."""

    key: str
    grid: Grid
    policies: Policies

    def declare(self, jobs: Jobs, task: str) -> None:
        policies, grid = self.policies, self.grid
        options: dict[str, Any] = {"misfire": policies.misfire, "misfire_cap": policies.cap, "overlap": policies.overlap}
        options |= {"start": at(grid.start_us), "end": at(grid.end_us), "trace_id": self.key}
        if grid.every_s is None:
            jobs.cron(self.key, grid.expression, task, self.key, tz=grid.tz, **options)
        else:
            jobs.every(self.key, grid.every_s, task, self.key, **options)


def timetable(chance: random.Random, span_s: float) -> list[Timely]:
    """Fifty: all policies, from every few seconds to every hour."""
    found = []
    for n in range(50):
        policies = Policies(["skip", "latest", "all"][n % 3], 1 + n, ["skip", "queue", "allow"][n // 3 % 3])
        begins_us, ends_us = NOON + 2 * SECOND, NOON + round(span_s) * SECOND
        if n % 2:
            expression = ["* * * * *", "*/5 * * * *", "3,11,40 * * * *", "*/7 */2 * * *", "0 * * * *"][n // 2 % 5]
            grid = Grid(expression=expression, tz=["UTC", "Asia/Kathmandu", "America/New_York"][n % 3])
        else:
            grid = Grid(every_s=[13, 27, 45, 60, 61, 90, 150, 301, 900][n // 2 % 9])
            begins_us += chance.randrange(60) * SECOND
        found.append(Timely(f"k{n:02}", evolve(grid, start_us=begins_us, end_us=ends_us), policies))
    return found


# ---------------------------------------------------------------- one evening


@define(eq=False)
class Evening:
    """What was asked for, when anybody was there, and what the handlers saw."""

    chance: random.Random
    due: dict[int, int] = field(factory=dict)
    began: dict[int, list[int]] = field(factory=lambda: defaultdict(list))
    lives: list[tuple[int, int]] = field(factory=list)
    """From when until when schedules were looked after."""
    opened_us: int | None = None
    what: list[str] = field(factory=list)
    """How each life ended."""

    def jobs(self, schedules: list[Timely]) -> Jobs:
        jobs = Jobs("j", queue=Queue(concurrency=2_000, batch_size=500))
        retry = Retry(attempts=5, backoff="fixed", initial_delay=WAIT_S)

        @jobs.task("work", retry=retry)
        async def work(n: int, ctx: Context) -> None:
            self.began[n].append(now_us())
            await trio.sleep(n % 40 / 7)
            if n % 11 == 0 and ctx.spent < 2:
                raise ValueError("not yet")
            if n % 13 == 0 and ctx.attempt < 3:
                raise Snooze(WAIT_S)

        @jobs.task("recur", retry=retry)
        async def recur(key: str, ctx: Context) -> None:
            chance = random.Random(f"{key} {ctx.nominal_time} {ctx.attempt}")
            await trio.sleep(chance.randrange(1, 40 * SECOND) / SECOND)  # to the microsecond: nothing ends as a time comes
            if chance.random() < 0.1:
                raise ValueError("not yet")

        for each in schedules:
            each.declare(jobs, "recur")
        return jobs

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, it is known when planners start."""
        with pytest.MonkeyPatch.context() as patch:
            on_start = Planner.on_start

            async def watched(planner: Planner) -> None:
                if self.opened_us is None:
                    self.opened_us = now_us()
                await on_start(planner)

            patch.setattr(Planner, "on_start", watched)
            yield

    def over(self, how: str) -> None:
        """From now on nobody looks after anything."""
        assert self.opened_us is not None
        self.lives.append((self.opened_us, now_us()))
        self.opened_us = None
        self.what.append(how)

    async def ask(self, jobs: Jobs, runs: int, span_s: float) -> None:
        work = jobs.tasks["work"]
        for page in range(0, runs, 10_000):
            entries = []
            for n in range(page, min(page + 10_000, runs)):
                later_us = self.chance.randrange(1_000, round(span_s * SECOND))
                self.due[n] = now_us() + later_us
                options: Any = {"delay": later_us / SECOND} if n % 2 else {"run_at": at(self.due[n])}
                entries.append(work.entry(n, **options))
            await jobs.enqueue_many(entries)


def now_us() -> int:
    return NOON + round(trio.current_time() * SECOND)


async def live_and_die(evening: Evening, world: World, steps: Steps, span_s: float, deaths: int) -> None:
    """The process ends that often until then, in any way, and comes back at once, soon or late."""
    chance = evening.chance
    while trio.current_time() < span_s:
        up_s = round(chance.expovariate(deaths * 1.6 / span_s), 3) + 0.0005  # between two ticks
        how = chance.choice(["crash", "close", "close, then crash", "in a commit", "at a step"])
        away_s = round(chance.choice([0, 0, 0.001, 1, chance.uniform(0, 70), chance.uniform(0, span_s / deaths)]), 3)
        await world.advance(seconds=up_s)
        match how:
            case "crash":
                evening.over(how)
                await world.crash()
            case "close":
                evening.over(how)
                await world._leave()
            case "close, then crash":
                evening.over(how)
                life = world._life
                life.leave.set()
                await world.advance(seconds=round(chance.uniform(0, 8), 3))
                if not life.gone.is_set():
                    world._kill(life, comes_back=False)
                    await world._buried(life)
            case "in a commit":
                world.faults.crash(chance.randrange(1, 20), when=chance.choice(["before", "after"]))
                evening.what.append(how)
                continue
            case _:
                steps.after(chance.randrange(1, 400), lambda: world._kill(world._life, comes_back=True))
                evening.what.append(how)
                continue
        await world.advance(seconds=away_s)
        await world.restart()
    world.faults.heal()
    steps.calls.clear()


# ---------------------------------------------------------------- what must be


def wrongs(evening: Evening, world: World, schedules: list[Timely]) -> list[str]:
    found = []
    runs = world.runs()
    of_schedules: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.schedule_key is not None:
            of_schedules[run.schedule_key].append(run)
        if not run.status.is_final:
            found.append(f"run {run.id} is {run.status}")
    for n, due_us in evening.due.items():
        if not evening.began[n]:
            found.append(f"{n} was lost")
        elif min(evening.began[n]) < due_us:
            found.append(f"{n} began {due_us - min(evening.began[n])} us early")
    for each in schedules:
        found += [f"{each.key}, {each.policies}: {wrong}" for wrong in wrongs_of(each, of_schedules[each.key], evening)]
    return found


def wrongs_of(each: Timely, runs: list[Run], evening: Evening) -> Iterator[str]:
    requested = sorted((run.nominal_us or 0, run.created_us) for run in runs)
    if len({us for us, _ in requested}) < len(requested):
        yield "a time had two runs"
    ends = {run.nominal_us or 0: run.ended_us or 0 for run in runs}
    wanted = expected(each.grid, each.policies, each.grid.start_us - 1, evening.lives, ends)
    wrong = [us - NOON for us, _ in wanted.runs if us not in ends]
    if wrong:
        yield f"no run for {wrong}"
    more = sorted(ends.keys() - {us for us, _ in wanted.runs})
    if more:
        yield f"a run for {[us - NOON for us in more]}"
    for (us, when_us), (_, created_us) in zip(sorted(wanted.runs), requested, strict=False):
        if not wrong and not more and not -1 <= created_us - when_us <= TICKS_US:
            yield f"the run for {us - NOON} was requested {created_us - when_us} us late"


async def wrong_counts(jobs: Jobs, each: Timely, runs: int) -> list[str]:
    state = await jobs.schedules.get(each.key)
    total = len(each.grid.times(each.grid.start_us - 1, each.grid.end_us))
    stands = state.fired, state.fired + state.skipped, state.waiting_at, state.next_at
    return [] if (runs, total, None, None) == stands else [f"{each.key}: {stands}, not {(runs, total, None, None)}"]


async def evening_of(seed: int, folder: Path, *, runs: int, span_s: float, deaths: int) -> tuple[list[str], Evening]:
    evening = Evening(random.Random(seed))
    schedules = timetable(evening.chance, span_s)
    jobs = evening.jobs(schedules)
    steps = Steps()
    with evening.watched():
        async with simulate(jobs, seed=seed, start=at(NOON), store=lambda: SqliteStore(folder / "jobs.db")) as world:
            trio.lowlevel.add_instrument(steps)
            try:
                await evening.ask(jobs, runs, span_s)
                await live_and_die(evening, world, steps, span_s, deaths)
            finally:
                trio.lowlevel.remove_instrument(steps)
            await world.until_idle()
            evening.over("the end")
            found = wrongs(evening, world, schedules)
            keys = [run.schedule_key for run in world.runs()]
            for each in schedules:
                found += await wrong_counts(jobs, each, keys.count(each.key))
    return found, evening


SHM: Final = Path("/dev/shm")
"""Where there is no disk in the way: what is tried here is not durability."""


@pytest.mark.parametrize("seed", [1])
async def test_p8_fifty_schedules_over_many_ends(autojump_clock: trio.abc.Clock, seed: int) -> None:
    """Each time of each schedule comes to what its policies say, once; no delayed run is early or lost."""
    with TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        found, evening = await evening_of(seed, Path(folder), runs=1_000, span_s=3600, deaths=25)

    print(evening.what, len(evening.lives), len(found), *found[:30], sep="\n")
    assert [] == found
