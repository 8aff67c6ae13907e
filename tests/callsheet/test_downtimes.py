"""
Processes that are killed or close at random moments, and stay away for a while: what came meanwhile is handled by its policy.

Rule: what must become of each time of a schedule is told by going through all of them (`almanac.expected`), from when anybody
looked after it and when its runs ended; nothing of `callsheet.schedules` is asked.
Not here: real processes (`tests/real`), clocks that are set (`test_clocks`).
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field, frozen

from callsheet import Context, Jobs, Queue, Retry, Snooze
from callsheet.schedules.planner import Planner
from callsheet.store.records import Run
from callsheet.store.sqlite import SqliteStore
from callsheet.testing import World, simulate

from .almanac import SECOND, Grid, Policies, at, expected
from .house import NOON_NS, folder
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
        options: dict[str, Any] = {
            "misfire": policies.misfire,
            "misfire_cap": policies.cap,
            "overlap": policies.overlap,
        }
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
            await trio.sleep(n % 4 / 7)
            if n % 11 == 0 and ctx.spent < 2:
                raise ValueError("not yet")
            if n % 13 == 0 and ctx.attempt < 3:
                raise Snooze(WAIT_S)

        @jobs.task("recur", retry=retry)
        async def recur(key: str, ctx: Context) -> None:
            chance = random.Random(f"{key} {ctx.nominal_time} {ctx.attempt}")
            await trio.sleep(
                chance.randrange(1, 40 * SECOND) / SECOND
            )  # to the microsecond: nothing ends as a time comes
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
                if n % 10:  # most come together with others
                    later_us += -later_us % (20 * SECOND)
                self.due[n] = now_us() + later_us
                options: Any = {"delay": later_us / SECOND} if n % 2 else {"run_at": at(self.due[n])}
                entries.append(work.entry(n, **options))
            await jobs.enqueue_many(entries)


HOWS: Final = ("crash", "close", "close, then crash", "in a commit", "at a step")


def now_us() -> int:
    return NOON + round(trio.current_time() * SECOND)


async def live_and_die(evening: Evening, world: World, steps: Steps, span_s: float, deaths: int) -> None:
    """The process ends that often until then, in any way, and comes back at once, soon or late."""
    chance = evening.chance
    while trio.current_time() < span_s:
        up_s = round(chance.expovariate(deaths * 1.6 / span_s), 3) + 0.0005  # between two ticks
        how = chance.choice(HOWS)
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
        if evening.opened_us is None:  # else it died in a commit while it closed, and came back by itself
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
            for _ in range(3):  # a time that waited for a run has its own once that has ended
                await world.until_idle()
                await world.advance(minutes=1)
            evening.over("the end")
            found = wrongs(evening, world, schedules)
            keys = [run.schedule_key for run in world.runs()]
            for each in schedules:
                found += await wrong_counts(jobs, each, keys.count(each.key))
    return found, evening


async def test_p8_fifty_schedules_over_many_ends(autojump_clock: trio.abc.Clock) -> None:
    """Each time of each schedule comes to what its policies say, once; no delayed run is early or lost."""
    with folder() as place:
        found, evening = await evening_of(1, place, runs=2_000, span_s=900, deaths=16)

    assert [] == found[:20]
    assert set(HOWS) == set(evening.what) - {"the end"}
    assert len(evening.lives) > 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
async def test_p8_a_hundred_thousand_runs_and_fifty_schedules(autojump_clock: trio.abc.Clock, seed: int) -> None:
    """As above, over six hours."""
    with folder() as place:
        found, evening = await evening_of(seed, place, runs=100_000, span_s=6 * 3600, deaths=100)

    away = [round((two[0] - one[1]) / SECOND, 3) for one, two in pairwise(evening.lives)]
    sys.stdout.write(f"\nseed {seed}: {Counter(evening.what)}, away for {away} s\n")
    assert [] == found[:20]


# ---------------------------------------------------------------- one downtime

BEFORE: Final = [0, 10]
"""Minutes of the times that came while somebody was there; those of 20, 30, 40 and 50 were missed."""


@pytest.mark.parametrize("how", ["close", "crash"])
@pytest.mark.parametrize(
    ("misfire", "overlap", "come"),
    [
        ("skip", "allow", ([50, 60, 70, 80], [60, 70, 80], [50, 60, 70, 80], [60, 70, 80])),
        ("skip", "skip", ([50, 60, 70, 80], [60, 70, 80], [80], [80])),
        ("skip", "queue", ([50, 60, 70, 80], [60, 70, 80], [50, 80], [60, 80])),
        ("latest", "allow", ([50, 60, 70, 80],) * 4),
        ("latest", "skip", ([50, 60, 70, 80], [50, 60, 70, 80], [80], [80])),
        ("latest", "queue", ([50, 60, 70, 80], [50, 60, 70, 80], [50, 80], [50, 80])),
        ("all", "allow", ([30, 40, 50, 60, 70, 80],) * 4),
        ("all", "skip", ([50, 60, 70, 80], [50, 60, 70, 80], [80], [80])),
        ("all", "queue", ([50, 60, 70, 80], [50, 60, 70, 80], [50, 80], [50, 80])),
    ],
)
async def test_p8_what_came_while_nobody_was_there(
    autojump_clock: trio.abc.Clock, misfire: Any, overlap: Any, come: tuple[list[int], ...], how: str
) -> None:
    """
    By its policies, after a close in order as after a kill. The last of those times is seen within a minute or later; and a
    run of the schedule was in hand when the process ended, and goes on for 25 minutes when the next one begins, or was not.
    """
    for (takes_s, away_s), expected_minutes in zip(((0, 45), (0, 75), (1500, 45), (1500, 75)), come, strict=True):
        jobs = Jobs("j")

        @jobs.task("work")
        async def work(takes_s: float, ctx: Context) -> None:
            if ctx.nominal_time == at(NOON + 600 * SECOND):
                await trio.sleep(takes_s)

        options: dict[str, Any] = {"misfire": misfire, "misfire_cap": 3, "overlap": overlap}
        jobs.every("k", 600, "work", takes_s, start=at(NOON), **options)
        async with simulate(jobs, start=at(NOON)) as world:
            began_s = trio.current_time()
            await world.advance(minutes=15)
            await (world.crash() if how == "crash" else world._leave())
            await world.advance(seconds=began_s + 50 * 60 + away_s - trio.current_time())
            await world.restart()
            await world.advance(minutes=34)
            requested = sorted((run.nominal_us or 0) - NOON for run in world.runs())
            state = await jobs.schedules.get("k")

        assert [*BEFORE, *expected_minutes] == [us // (60 * SECOND) for us in requested]
        assert (len(requested), 9 - len(requested)) == (state.fired, state.skipped)
