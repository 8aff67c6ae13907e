"""
Nothing is early, twice or lost, whatever the clocks do: many delayed runs and schedules in virtual time, and an oracle.

Rule: when something is due follows from what was asked for and from what the clocks showed, never from what the product says
of it; what the product says is compared with that.
Not here: processes that end (`test_downtimes`), changes between summer and winter (`test_cadence`).
"""

from __future__ import annotations

import math
import random
import sys
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from attrs import define, field, frozen

from callsheet import Context, Jobs, Queue, Retry, RetryAfter, Snooze, open_runtime
from callsheet.actors.calendar import DRIFT_US, LOOK_S
from callsheet.actors.scheduler import BUDGET
from callsheet.actors.seams import Seams
from callsheet.actors.timers import Timers
from callsheet.actors.wheel import FIRE_COST
from callsheet.store.contract import Claim, ClaimedRuns, Command, Insert, SetSchedule, Store
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Clock, Did, Fired
from callsheet.store.sqlite import SqliteStore

from .almanac import DAY, HOUR, SECOND, AnyWall, Grid, Stretch, at
from .house import NOON_NS, Place, folder, open_house, settle

NOON: Final = NOON_NS // 1000
TIMEOUT_S: Final = 4.25
FIRST_WAIT_S: Final = 1.5
MOST_WAIT_S: Final = 9.0
TICKS_S: Final = 0.002
"""A due time is rounded up to a millisecond, and so is the timer that is made of it."""
SEEN_S: Final = LOOK_S + TICKS_S
"""A runtime looks once a second at the wall clock: so late may it see that this was set."""
WROTE_S: Final = 0.25
"""It looks four times a second at whether another process wrote; what that made due is read with the look after."""
HASTE: Final = 2e-6
"""The steady clock is cut to microseconds, and these sums are rounded to them."""


# ---------------------------------------------------------------- what is asked for


@frozen
class Act:
    """What one attempt does: it works for a while, and then…"""

    then: str
    for_s: float
    """Of `hang`: as long as it may; of `snooze` and `later`: how long to wait."""


@frozen
class Asked:
    """One run that was asked for, and what its attempts do; the last one succeeds."""

    n: int
    how: str
    """delay, run_at, desk (a delay from another process), desk_at, now."""
    when_s: float
    acts: tuple[Act, ...]
    begin_s: float
    """When it is asked for, after the beginning."""


HOWS: Final = ("delay", "delay", "delay", "run_at", "run_at", "run_at", "desk", "desk", "desk_at", "now")


def any_run(chance: random.Random, n: int, span_s: float, far_s: Sequence[float]) -> Asked:
    acts = []
    for _ in range(chance.choice([0, 0, 0, 0, 1, 1, 2, 3])):
        then = chance.choice(["fail", "fail", "hang", "snooze", "later"])
        acts.append(Act(then, round(chance.uniform(0.001, 12), chance.choice([0, 3, 6])) or 1.0))
    how = chance.choice(HOWS)
    when_s = round(chance.uniform(0.001, span_s), chance.choice([0, 1, 3, 6])) or 0.5
    if how.endswith("_at"):
        when_s += chance.choice(far_s)
    early = n % 2 == 0
    return Asked(n, how, when_s, tuple(acts), 0.0 if early else round(chance.uniform(0, span_s * 0.8), 3))


@frozen
class Timely:
    """A schedule, as it is declared and as the almanac knows it."""

    key: str
    grid: Grid
    options: dict[str, Any]


def timetable(begins_us: int) -> list[Timely]:
    """Two dozen."""
    found = []
    misfires = ["skip", "latest", "all"]
    overlaps = ["allow", "skip", "queue"]
    zones = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]
    expressions = ["*/2 * * * *", "*/5 * * * *", "1,17,43 * * * *", "*/3 */2 * * *"]
    for n in range(24):
        options = {"misfire": misfires[n % 3], "overlap": overlaps[n // 3 % 3], "misfire_cap": 1 + n}
        if n % 2:
            grid = Grid(expression=expressions[n // 2 % 4], tz=zones[n // 2 % 6])
        else:
            every_s = (7, 13, 31, 60, 90, 150)[n // 2 % 6]
            grid = Grid(every_s, begins_us - (n + 1) * SECOND)
        if n % 8 in (6, 7):
            options["jitter"] = 3.0
        found.append(Timely(f"k{n:02}", grid, options))
    return found


# ---------------------------------------------------------------- what was seen


@define(eq=False)
class Attempt:
    """What the first line of an attempt saw, and when it ended."""

    n: int
    attempt: int
    mono_s: float
    steady_us: int
    wall_us: int
    end_s: float = 0.0
    then: str = ""


@frozen
class Turn:
    """Something was done about a schedule."""

    at_s: float
    last_us: int | None
    """The last time that anything was done about."""
    waits_us: int | None
    fired: tuple[Fired, ...]


@define(eq=False)
class Play:
    """One evening: what was asked for, what was seen, and all that the store was told."""

    wall: AnyWall
    asked: dict[int, Asked] = field(factory=dict)
    due: dict[int, tuple[Clock, int, float]] = field(factory=dict)
    """By which clock the first start of each is due, when, and since when it was known."""
    wall_dues: list[int] = field(factory=list)
    """All of them by the wall clock, in order."""
    ids: dict[str, int] = field(factory=dict)
    attempts: dict[int, list[Attempt]] = field(factory=lambda: defaultdict(list))
    of_schedules: list[tuple[str, int, Attempt]] = field(factory=list)
    claimed: dict[tuple[str, int], tuple[int, int]] = field(factory=dict)
    """The clocks as they were given to the store with the claim of each attempt."""
    stored: dict[str, tuple[Clock, int]] = field(factory=dict)
    turns: dict[str, list[Turn]] = field(factory=lambda: defaultdict(list))
    """Of each schedule."""
    left: int = 0
    """Runs that have not succeeded yet."""
    end_us: int = 0
    """The wall clock at the end."""
    jumps: list[tuple[float, float]] = field(factory=list)
    """From when until when all clocks jumped at once."""
    on_claim: Callable[[], object] = lambda: None
    """Called between a claim and the start of what it brought."""

    def began(self, attempts: list[Attempt], n: int, ctx: Context, seams: Seams) -> Attempt:
        seen = Attempt(n, ctx.attempt, trio.current_time(), seams.clock.steady_us(), seams.clock.wall_us())
        attempts.append(seen)
        return seen

    # -- what the store is told

    def watched(self, store: Store) -> Store:
        write = store.write

        def told(commands: Sequence[Command], now: Any) -> Any:
            answers = write(commands, now)
            for command, answer in zip(commands, answers, strict=True):
                match command:
                    case Insert():
                        self.stored |= {run.id: (run.clock, run.due_us) for run in command.runs}
                    case Claim() if answer.runs:
                        for run in answer.runs:
                            self.claimed[run.run_id, run.attempt] = now.steady_us, now.wall_us
                        self.on_claim()
                    case SetSchedule() if answer.done:
                        doing = command.if_active if answer.active and command.if_active else command
                        now_stands = doing.schedule
                        turn = Turn(trio.current_time(), now_stands.last_us, now_stands.waiting_us, doing.fired)
                        self.turns[now_stands.key].append(turn)
            return answers

        store.write = told  # type: ignore[method-assign]
        return store


def theatre(play: Play, schedules: Sequence[Timely], seams: list[Seams]) -> Jobs:
    jobs = Jobs("j", queue=Queue(concurrency=200_000, batch_size=1_000))
    retry = Retry(attempts=20, initial_delay=FIRST_WAIT_S, max_delay=MOST_WAIT_S)

    @jobs.task("work", retry=retry, timeout=TIMEOUT_S)
    async def work(n: int, ctx: Context) -> None:
        seen = play.began(play.attempts[n], n, ctx, seams[0])
        acts = play.asked[n].acts
        act = acts[ctx.attempt - 1] if ctx.attempt <= len(acts) else Act("ok", 0)
        seen.then = act.then
        try:
            match act.then:
                case "fail":
                    await trio.sleep(act.for_s / 4)
                    raise ValueError("no")
                case "hang":
                    await trio.sleep_forever()
                case "snooze":
                    raise Snooze(act.for_s)
                case "later":
                    raise RetryAfter(act.for_s)
                case _:
                    play.left -= 1
        finally:
            seen.end_s = trio.current_time()

    @jobs.task("recur", retry=retry)
    async def recur(lasts_s: float, ctx: Context) -> None:
        assert ctx.nominal_time is not None
        seen = play.began([], 0, ctx, seams[0])
        play.of_schedules.append((f"{ctx.trace_id}", (ctx.nominal_time - at(0)) // (at(1) - at(0)), seen))
        await trio.sleep(lasts_s)

    for n, each in enumerate(schedules):
        options = {"start": at(each.grid.start_us), **each.options, "trace_id": each.key}
        lasts_s = (0.0, 3.3, 0.0, 17.7)[n % 4]
        if each.grid.every_s is None:
            del options["start"]
            jobs.cron(each.key, each.grid.expression, "recur", lasts_s, tz=each.grid.tz, **options)
        else:
            jobs.every(each.key, each.grid.every_s, "recur", lasts_s, **options)
    return jobs


# ---------------------------------------------------------------- what the clocks do

Trouble = Callable[[Play, random.Random], Any]


def until_due(play: Play, chance: random.Random) -> float:
    """Seconds to a moment that matters: just before, at, or just after a run becomes due by the wall clock."""
    now_us = play.wall.now_us()
    begin = bisect_left(play.wall_dues, now_us + 1)
    near = [due_us - now_us for due_us in play.wall_dues[begin : begin + 200] if due_us - now_us < 20 * SECOND]
    if not near or chance.random() < 0.3:
        return chance.uniform(0.01, 6)
    return max(0.0, (chance.choice(near) + chance.choice([-1_100, -1_000, -1, 0, 1, 1_000])) / SECOND)


def stepped(by_us: int) -> Trouble:
    """Set forth and back by so much, at moments that matter; some of them between a claim and the start."""

    async def trouble(play: Play, chance: random.Random) -> None:
        offset_us = 0

        def step() -> None:
            nonlocal offset_us
            step_us = -offset_us if offset_us else chance.choice([-by_us, by_us])
            play.wall.set(step_us)
            offset_us += step_us

        def claimed() -> None:
            if chance.random() < 0.02:
                step()

        play.on_claim = claimed
        while play.left:
            await trio.sleep(until_due(play, chance))
            step()
            if offset_us < 0 and chance.random() < 0.7:  # back over times that have come, and soon forth again
                await trio.sleep(chance.choice([0, 0.001, 0.5, 3]))
                step()

    return trouble


async def frozen_at_times(play: Play, chance: random.Random) -> None:
    """It stands still for a while, and then goes on from there, or from where it would be."""
    behind_us = 0
    while play.left:
        await trio.sleep(until_due(play, chance))
        play.wall.set(rate=0.0)
        still_s = chance.choice([0.0005, 0.3, 1.0, 7.0])
        await trio.sleep(still_s)
        behind_us += round(still_s * SECOND)
        by_us = chance.choice([0, behind_us])
        play.wall.set(by_us, rate=1.0)
        behind_us -= by_us


def drifting(*rates: float) -> Trouble:
    """It goes too fast or too slow, and sometimes differently."""

    async def trouble(play: Play, chance: random.Random) -> None:
        while play.left:
            play.wall.set(rate=chance.choice(rates))
            await trio.sleep(chance.uniform(1, 30))

    return trouble


async def trembling(play: Play, chance: random.Random) -> None:
    """It is set by up to a millisecond all the time."""
    off_us = 0
    while play.left:
        await trio.sleep(chance.choice([0.007, 0.1, 1.3]))
        to_us = chance.randint(-500, 500)
        play.wall.set(to_us - off_us)
        off_us = to_us


async def suspended_wall(play: Play, chance: random.Random) -> None:
    """The machine sleeps for hours, and the steady clock with it."""
    while play.left:
        await trio.sleep(until_due(play, chance))
        play.wall.set(round(chance.uniform(0.5, 5) * HOUR))
        await trio.sleep(chance.uniform(5, 60))


async def suspended(play: Play, chance: random.Random) -> None:
    """All clocks jump by hours at once: whatever comes in between is overdue in one moment."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    while play.left:
        await trio.sleep(until_due(play, chance))
        from_s = trio.current_time()
        clock.jump(round(chance.choice([chance.uniform(0.5, 30), chance.uniform(1800, 3600)]), 3))
        play.jumps.append((from_s, trio.current_time()))
        await trio.sleep(chance.uniform(5, 60))


TROUBLES: Final[dict[str, Trouble]] = {
    "an hour": stepped(HOUR),
    "a day": stepped(DAY),
    "frozen": frozen_at_times,
    "drifting": drifting(0.9995, 1.0005, 1.0),
    "drifting far": drifting(0.9, 1.02, 1.1),
    "trembling": trembling,
    "suspended, wall": suspended_wall,
    "suspended, all": suspended,
}


# ---------------------------------------------------------------- the evening


async def evening(trouble: Trouble, one: Store, two: Store, *, runs: int, span_s: float, seed: int) -> Oracle:
    """So many runs and two dozen schedules, until each run has ended."""
    chance = random.Random(seed)
    wall = AnyWall(NOON)
    play = Play(wall, left=runs)
    schedules = timetable(NOON)
    mine, other = Seams.seeded(seed, wall_ns=wall), Seams.seeded(seed + 1, wall_ns=wall)
    mine.attend = lambda runtime: setattr(runtime.journal, "has_neighbours", True)  # SQLite is not asked in simulations
    jobs, desk = theatre(play, schedules, [mine]), theatre(play, (), [other])
    play.asked = {n: any_run(chance, n, span_s, (0, 0, 0, 3600, -3600, 86_400)) for n in range(runs)}
    async with (
        open_runtime(play.watched(one), jobs, seams=mine),
        open_runtime(play.watched(two), desk, work=False, seams=other),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_all, play, jobs, desk)
            await settle()
            nursery.start_soon(trouble, play, random.Random(-seed))
            for _ in range(round(6 * span_s)):  # then some will never end, and the oracle names them
                if not play.left:
                    break
                await trio.sleep(1)
                if trio.current_time() > wall.begins_s + 1.5 * span_s and wall.now_us() < NOON + 25 * HOUR:
                    wall.set(25 * HOUR)  # what waits for tomorrow need not do so in full
            nursery.cancel_scope.cancel()
        play.on_claim = lambda: None
        wall.set(rate=1.0)
        await trio.sleep(5)
        play.end_us = wall.now_us()
    oracle = Oracle(play)
    oracle.of_runs()
    oracle.of_schedules(schedules)
    return oracle


async def ask_all(play: Play, jobs: Jobs, desk: Jobs) -> None:
    begin_s = trio.current_time()
    for each in sorted(play.asked.values(), key=lambda each: each.begin_s):
        wait_s = begin_s + each.begin_s - trio.current_time()
        if wait_s > 0:
            await trio.sleep(wait_s)
        await ask(play, each, desk if each.how.startswith("desk") else jobs)


async def ask(play: Play, asked: Asked, jobs: Jobs) -> None:
    """Request it, and write down when it is due."""
    now_s = trio.current_time()
    steady_us = NOON + round((now_s - play.wall.begins_s) * SECOND)
    wall_us = play.wall.now_us()
    later_us = round(asked.when_s * SECOND)
    options: dict[str, Any]
    match asked.how:
        case "delay":
            clock, due_us, options = Clock.STEADY, steady_us + later_us, {"delay": asked.when_s}
        case "desk":
            clock, due_us, options = Clock.WALL, wall_us + later_us, {"delay": asked.when_s}
        case "run_at" | "desk_at":
            clock, due_us, options = Clock.WALL, NOON + later_us, {"run_at": at(NOON + later_us)}
        case _:
            clock, due_us, options = Clock.AT_ONCE, 0, {}
    if clock is Clock.WALL and due_us <= wall_us:
        clock = Clock.AT_ONCE
    play.due[asked.n] = clock, due_us, now_s
    if clock is Clock.WALL:
        insort(play.wall_dues, due_us)
    result = await jobs.enqueue("work", asked.n, run_id=f"run-{asked.n}", **options)
    play.ids[result.run_id] = asked.n


# ---------------------------------------------------------------- the oracle


@define(eq=False)
class Oracle:
    """What is wrong with an evening."""

    play: Play
    found: list[str] = field(factory=list)
    set_back: int = 0
    """Attempts that were claimed in the moment in which the wall clock was set back: their first line saw both."""
    latest_s: dict[str, float] = field(factory=lambda: defaultdict(float))
    """How late the latest start was, by what bounds it."""
    changes: list[tuple[float, int]] = field(init=False)
    """When the wall clock was set, and by how much."""
    is_subtle: bool = field(init=False)
    """Whether it ever moved by less than what its timers are made anew for."""

    def __attrs_post_init__(self) -> None:
        stretches = self.play.wall.stretches
        pairs = list(pairwise(stretches))
        self.changes = [(new.from_s, new.at_us - old.shows(new.from_s)) for old, new in pairs]
        small = any(0 < abs(by_us) <= DRIFT_US for _, by_us in self.changes)
        self.is_subtle = small or any(each.rate != 1 for each in stretches)

    def say(self, what: str) -> None:
        self.found.append(what)

    def bound(
        self, clock: Clock, since_s: float, start_s: float, known_s: float, *, by_desk: bool
    ) -> tuple[str, float]:
        """How late may start what was due at `since_s`, and why so late."""
        if by_desk and since_s < known_s + LOOK_S + WROTE_S:
            return "written by another process", WROTE_S + (SEEN_S if clock is Clock.WALL else TICKS_S)
        if clock is not Clock.WALL:
            return "a timer", TICKS_S
        begin_s = since_s - LOOK_S - HASTE
        set_s, far = 0.0, 0.0
        before: Stretch | None = None
        for each, _ in self.play.wall.within(begin_s, start_s):
            far = max(far, abs(each.rate - 1))
            if before is not None:
                set_s += abs(each.at_us - before.shows(each.from_s)) / SECOND
            before = each
        if set_s == 0 and far == 0 and not self.is_subtle:
            return "a timer of the wall clock", TICKS_S
        # a timer is made while the clock is off by that one way, and comes while it is off the other way
        bound_s = TICKS_S + 2 * DRIFT_US / SECOND + set_s + far * LOOK_S
        return ("drift", bound_s) if bound_s < SEEN_S else ("a clock that was set", SEEN_S)

    def timely(self, clock: Clock, due_us: int, known_s: float, start_s: float, *, by_desk: bool = False) -> str | None:
        """What is wrong with a start at `start_s` of what was due at `due_us`; None: nothing."""
        spans: Iterable[tuple[float, float]] = [(known_s, math.inf)]
        if clock is Clock.STEADY:
            spans = [(max(known_s, self.play.wall.begins_s + (due_us - NOON) / SECOND), math.inf)]
        elif clock is Clock.WALL:
            spans = self.play.wall.due_spans(due_us, known_s)
        for from_s, until_s in spans:
            since_s = self.awake(from_s)
            why, bound_s = self.bound(clock, since_s, start_s, known_s, by_desk=by_desk)
            if start_s < since_s - HASTE:
                return f"{since_s - start_s:.6f} s early"
            late_s = min(start_s, until_s) - since_s
            if late_s > bound_s + HASTE:
                return f"{late_s:.6f} s late, at most {bound_s:.6f} ({why})"
            if start_s <= until_s + HASTE:
                self.latest_s[why] = max(self.latest_s[why], late_s)
                return None
        return "never due"

    def awake(self, moment_s: float) -> float:
        """The first moment from then on in which anybody could do anything."""
        return next((until_s for from_s, until_s in self.play.jumps if from_s < moment_s < until_s), moment_s)

    # -- runs

    def of_runs(self) -> None:
        for run_id, n in self.play.ids.items():
            asked, attempts = self.play.asked[n], self.play.attempts[n]
            if [each.attempt for each in attempts] != list(range(1, len(asked.acts) + 2)):
                self.say(f"{n}: its attempts are {[each.attempt for each in attempts]}")
                continue
            clock, due_us, known_s = self.play.due[n]
            stored, stored_us = self.play.stored[run_id]
            if stored is not clock or (clock is not Clock.AT_ONCE and abs(stored_us - due_us) > 1):
                self.say(f"{n}: {asked.how} is due {clock} {due_us}, and stored as {stored} {stored_us}")
            spent = 0
            for seen in attempts:
                self.of_attempt(seen, run_id, asked.how, (clock, due_us, known_s))
                if seen.then == "ok":
                    break
                act = asked.acts[seen.attempt - 1]
                spent += seen.then != "snooze"
                wait_s = (
                    min(FIRST_WAIT_S * 2 ** (spent - 1), MOST_WAIT_S) if act.then in ("fail", "hang") else act.for_s
                )
                clock, known_s = Clock.STEADY, seen.end_s
                due_us = NOON + round((seen.end_s - self.play.wall.begins_s + wait_s) * SECOND)

    def of_attempt(self, seen: Attempt, run_id: str, how: str, due: tuple[Clock, int, float]) -> None:
        clock, due_us, known_s = due
        name = f"{seen.n}, attempt {seen.attempt}, {how}, due {clock.name} {due_us - NOON}"
        if clock is not Clock.AT_ONCE:
            saw_us = seen.steady_us + 1 if clock is Clock.STEADY else seen.wall_us  # + 1: it is cut to microseconds
            if saw_us < due_us:
                self.set_back += 1
                if clock is Clock.STEADY or self.play.wall.showed(seen.mono_s) < due_us:
                    self.say(f"{name}: its first line saw {due_us - saw_us} us too few")
            steady_us, wall_us = self.play.claimed[run_id, seen.attempt]
            if (steady_us + 1 if clock is Clock.STEADY else wall_us) < due_us:
                self.say(f"{name}: it was claimed before it was due")
        if wrong := self.timely(
            clock, due_us, known_s, seen.mono_s, by_desk=how.startswith("desk") and seen.attempt == 1
        ):
            self.say(f"{name}: {wrong}")
        if abs(seen.steady_us - NOON - (seen.mono_s - self.play.wall.begins_s) * SECOND) > 1:
            self.say(f"{name}: the steady clock went wrong")
        over_s = seen.end_s - self.awake(seen.mono_s + TIMEOUT_S)
        if seen.then == "hang" and not -HASTE <= over_s < 0.001 + HASTE:
            self.say(f"{name}: its timeout came {over_s:+.6f} s off")

    # -- schedules

    def of_schedules(self, schedules: Sequence[Timely]) -> None:
        runs = Counter((key, us) for key, us, _ in self.play.of_schedules)
        for (key, us), n in runs.items():
            if n > 1:
                self.say(f"{key}, {us - NOON}: it had {n} runs")
        noted = {
            (key, one.nominal_us): one.did for key, turns in self.play.turns.items() for t in turns for one in t.fired
        }
        for (
            key,
            us,
            seen,
        ) in self.play.of_schedules:  # one that waited for another had come before the clock was set back
            if noted[key, us] is not Did.WAITED and self.play.wall.showed(seen.mono_s) < us:
                self.say(f"{key}, {us - NOON}: its run began early")
        for each in schedules:
            self.of_turns(each)
            asked = [one.nominal_us for turn in self.play.turns[each.key] for one in turn.fired if one.run_id]
            if sorted(asked) != sorted(us for key, us in runs if key == each.key):
                self.say(f"{each.key}: other times were noted as requested than had runs")

    def of_turns(self, each: Timely) -> None:
        """Each time of the grid is noted once, when it has come, and not later than it may be seen."""
        turns = self.play.turns[each.key]
        known_s, last_us, waits_us = turns[0].at_s, NOON, None
        for turn in turns:
            come = each.grid.times(last_us, turn.last_us) if turn.last_us is not None else ()
            last_us = come[-1] if come else last_us
            begins_to_wait = turn.waits_us is not None and turn.waits_us != waits_us
            waits_us = turn.waits_us
            noted = sum(one.times for one in turn.fired if one.did is not Did.WAITED) + begins_to_wait
            if noted != len(come):
                self.say(f"{each.key} at {turn.at_s}: {len(come)} times came, and {noted} were noted")
            if come and come[-1] > self.play.wall.showed(turn.at_s):
                self.say(f"{each.key}, {come[-1] - NOON}: it was noted early")
            for us in (come[0], come[-1]) if come and "jitter" not in each.options else ():
                if wrong := self.timely(Clock.WALL, us, known_s, turn.at_s):
                    self.say(f"{each.key}, {us - NOON}: it was noted {wrong}")
        late = each.grid.times(last_us, self.play.end_us - 5 * SECOND)
        if late:
            self.say(f"{each.key}: {len(late)} times came, and nothing was done about them")


# ---------------------------------------------------------------- proofs


@pytest.mark.parametrize("clock", TROUBLES)
async def test_p7_nothing_is_early_twice_or_lost(autojump_clock: trio.abc.Clock, tmp_path: Path, clock: str) -> None:
    """
    Whatever is done to the clocks: delays, `run_at`, retries, snoozes, what another process asks for, two dozen schedules.

    Each start is within milliseconds of its time where nobody set the clock in the second before, and within a second where
    somebody did; timeouts and waits between attempts are as long as they were said to be.
    """
    tables = Tables()
    stores: list[Store] = [MemoryStore(tables, exclusive=False) for _ in range(2)]
    if clock == "an hour":
        stores = [SqliteStore(tmp_path / "jobs.db"), SqliteStore(tmp_path / "jobs.db", exclusive=False)]

    oracle = await evening(TROUBLES[clock], *stores, runs=100, span_s=30, seed=1)

    assert [] == oracle.found[:20]
    assert 24 == len(oracle.play.turns)
    assert 100 == len(oracle.play.attempts)


@pytest.mark.slow
@pytest.mark.parametrize("clock", TROUBLES)
async def test_p7_twenty_thousand_runs(autojump_clock: trio.abc.Clock, clock: str) -> None:
    """As above, in a database."""
    with folder() as place:
        stores = SqliteStore(place / "jobs.db"), SqliteStore(place / "jobs.db", exclusive=False)
        oracle = await evening(TROUBLES[clock], *stores, runs=20_000, span_s=1200, seed=2)

    late = {why: round(late_s, 6) for why, late_s in oracle.latest_s.items()}
    sys.stdout.write(
        f"\n{clock}: {len(oracle.changes)} changes of the clock, {oracle.set_back} runs claimed as it was set back, "
        f"{len(oracle.play.of_schedules)} of schedules; the latest of each kind: {late}\n"
    )
    assert [] == oracle.found[:20]
    assert 20_000 == len(oracle.play.attempts)


@pytest.mark.parametrize("hours", [3, 1000])
async def test_p7_after_a_sleep_all_that_is_due_comes_once_and_in_order(
    autojump_clock: trio.testing.MockClock, memory: Place, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """All clocks jump at once: thousands of timers are overdue in one moment, and others have their turn in between."""
    jobs = Jobs("j", queue=Queue(concurrency=10_000, batch_size=100))
    began: list[int] = []

    @jobs.task("work")
    async def work(n: int, ctx: Context) -> None:
        began.append(n)

    claims: list[list[int]] = []
    calls: list[int] = []
    async with open_house(memory, jobs) as runtime:
        timers = runtime.system.stage.timers
        await jobs.enqueue_many([work.entry(n, delay=60 + n * 7919 % 1500 * 7) for n in range(1500)])
        for n in range(1500):
            timers.at(trio.current_time() + 100 + n * 7, lambda: None)
        runtime.store.write = watched_claims(runtime.store.write, claims)  # type: ignore[method-assign]
        advance = Timers.advance

        def counted(timers: Timers, *arguments: Any) -> bool:
            called: list[object] = []
            now_s, budget, run = arguments
            more = advance(timers, now_s, budget, lambda call: called.append(run(call)))
            calls.append(len(called))
            return more

        monkeypatch.setattr(Timers, "advance", counted)
        await trio.sleep(1)
        autojump_clock.jump(hours * 3600)
        await settle()
        await runtime.until_idle()

    assert [1] * 1500 == list(Counter(began).values())
    assert sorted(range(1500), key=lambda n: n * 7919 % 1500) == [n for claim in claims for n in claim]
    assert 1500 <= sum(calls)
    assert max(calls) <= BUDGET // FIRE_COST


def watched_claims(write: Any, claims: list[list[int]]) -> Any:
    """Notes the payloads of what each claim brings, in the order of the claims."""

    def watched(commands: Sequence[Command], now: Any) -> Any:
        answers = write(commands, now)
        claims.extend(
            [int(run.payload) for run in answer.runs] for answer in answers if isinstance(answer, ClaimedRuns)
        )
        return answers

    return watched


EDGES: Final = {"2038": datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC), "9998": datetime(9998, 12, 31, 23, 59, tzinfo=UTC)}


@pytest.mark.parametrize("arrives", ["slowly", "set forward"])
@pytest.mark.parametrize("edge", EDGES)
async def test_p7_over_the_edge_of_the_years(
    autojump_clock: trio.abc.Clock, place: Place, edge: str, arrives: str
) -> None:
    """The second in which 32 bits are too few, and the last year: runs and schedules come before, at and after it."""
    edge_us = (EDGES[edge] - at(0)) // timedelta(microseconds=1)
    wall = AnyWall(edge_us - 30 * SECOND)
    jobs = Jobs("j", queue=Queue(concurrency=100))
    began: list[tuple[str, float]] = []

    @jobs.task("work", retry=Retry(initial_delay=3))
    async def work(name: str, ctx: Context) -> None:
        began.append((name, (wall.now_us() - edge_us) / SECOND))
        if name == "fails" and ctx.attempt < 3:
            raise ValueError("no")

    jobs.every("k", 20, "work", "k", start=at(edge_us - 20 * SECOND))
    async with open_house(place, jobs, wall=wall) as runtime:
        for after_s in (-10, 0, 10):
            await jobs.enqueue("work", f"at {after_s}", run_at=at(edge_us + after_s * SECOND))
        await jobs.enqueue("work", "fails", delay=25)
        states = [(await jobs.schedules.get("k")).next_at, *await jobs.schedules.preview("k", 3)]
        if arrives == "set forward":
            await trio.sleep(5)
            wall.set(25 * SECOND)
            await trio.sleep(SEEN_S)
        await trio.sleep(50)
        await runtime.until_idle()

    set_s = 25 if arrives == "set forward" else 0
    seen_s = 1 if set_s else 0
    assert [at(edge_us + n * SECOND) for n in (-20, -20, 0, 20)] == states
    by_name = {name: [round(s, 2) for other, s in began if other == name] for name, _ in began}
    assert [-5.0 + set_s, -2.0 + set_s, 4.0 + set_s] == by_name["fails"]
    for after_s in (-10, 0, 10):
        (start_s,) = by_name[f"at {after_s}"]
        assert after_s <= start_s <= max(after_s, seen_s)
    keys = by_name["k"]
    assert sorted(keys) == keys
    if not set_s:
        assert [-20, 0, 20] == keys[:3]


@pytest.mark.parametrize("wait_s", [4.1, 8.2, 1.001, 0.000249, 31.234567])
async def test_p7_no_wait_is_cut_short_by_a_rounding(
    autojump_clock: trio.abc.Clock, memory: Place, wait_s: float
) -> None:
    """4.1 * 1e6 is a little less than 4,100,000: a delay, a backoff, a snooze and a timeout have all their microseconds."""
    jobs = Jobs("j")

    @jobs.task("work", retry=Retry(backoff="fixed", initial_delay=wait_s))
    async def work(then: str, ctx: Context) -> None:
        if ctx.attempt == 1 and then == "fail":
            raise ValueError("no")
        if ctx.attempt == 1 and then == "snooze":
            raise Snooze(wait_s)
        if ctx.attempt == 1 and then == "later":
            raise RetryAfter(wait_s)

    wait_us = round(wait_s * SECOND)
    async with open_house(memory, jobs) as runtime:
        now_us = runtime.seams.clock.steady_us()
        runs = [await jobs.enqueue("work", then, timeout=wait_s) for then in ("fail", "snooze", "later")]
        runs.append(await jobs.enqueue("work", "ok", timeout=wait_s, delay=wait_s))
        await settle()
        waiting = [(await jobs.runs.get(each.run_id)).run for each in runs]
        await trio.sleep(60)

    assert [now_us + wait_us] * 4 == [run.due_us for run in waiting]
    assert [wait_us] * 4 == [run.timeout_us for run in waiting]
