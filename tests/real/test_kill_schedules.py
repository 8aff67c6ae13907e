"""
P7 and P8 with real processes: `kill -9` in the middle of delayed runs and schedules, judged by walking over their grids.

The wall clock of the story is `wall`: its parent sets it, so that a gap between two lives is hours long and costs nothing.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from attrs import define, evolve, field, frozen

from callsheet import Client, StoreBusy
from callsheet.actors.seams import WallClock
from callsheet.client.drive import drive
from callsheet.schedules.schedules import ScheduleState
from callsheet.store.records import Schedule

from .asking import some_asks
from .chance import some_seed
from .evidence import gather
from .ledger import Ledger, Line, now_ns, read_all
from .lives import Lives
from .oracle_schedule import KEPT, Minutes
from .oracle_time import Story, Walls, reached_in_time, untimely
from .recovery import spread
from .timetable import BASE_US, CAP, SECOND_US, Timing, timetable
from .wall import SharedWall, us_of

T = TypeVar("T")

JOBS: Final = "real/time"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TIMEKEEPER: Final = Path(__file__).with_name("timekeeper.py")
HOUR_S: Final = 3_600
FEW_S: Final = 0.01
"""Between two looks at a life, where nothing waits for them."""


@frozen
class Size:
    """How much of it."""

    runs: int
    """Delayed runs that are asked for at least, from outside; lives ask for some more."""
    schedules: int
    kills: int
    longest_s: float
    """How long a life may go on."""
    asks: int
    """Runs that a life asks for at once."""
    ahead_s: float
    """Up to how far ahead runs are asked for."""
    patience_s: float = 60.0
    mutant: str | None = None
    reaches: tuple[str, ...] = ("requested", "missed")
    """What must have happened, or it proved nothing."""


SHORT: Final = Size(runs=2_000, schedules=18, kills=3, longest_s=0.8, asks=5, ahead_s=HOUR_S)
FULL: Final = Size(
    runs=100_000, schedules=50, kills=24, longest_s=10.0, asks=30, ahead_s=6 * HOUR_S, patience_s=240.0,
    reaches=(
        *("requested", "missed", "overlapped", "waited", "triggered", "pause", "edit", "clock set back"),
        *("attempt crashed", "attempt failed", "starts while the clocks differed"),
    ),
)  # fmt: skip


@define(eq=False)
class SetWallClock(WallClock):
    """That of a client outside of the lives: the same wall as theirs."""

    wall: SharedWall

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return us_of(self.wall.now_ns())


@define(eq=False)
class Parent:
    """Who begins lives and kills them, asks for runs, changes schedules, and sets the clock."""

    folder: Path
    seed: int
    size: Size
    lives: Lives
    chance: random.Random = field(init=False)
    wall: SharedWall = field(init=False)
    client: Client = field(init=False)
    caller: Ledger = field(init=False)
    steering: Ledger = field(init=False)
    minutes: dict[str, Minutes] = field(factory=dict)
    steps: list[tuple[int, int]] = field(factory=list)
    asked: int = 0
    runs: int = 0
    """Asked for and acknowledged."""
    timings: dict[str, Timing] = field(init=False)
    """As they are said now."""
    paused: set[str] = field(factory=set)
    peak_us: int = 0
    """The latest time that the wall clock had shown when it was set last."""
    first_start_s: list[float] = field(factory=list)
    """From the moment that a life had loaded its code until a handler began."""

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.wall = SharedWall(self.folder / "wall")
        self._set(BASE_US - us_of(now_ns()))
        self.client = Client(self.folder / "jobs.db", JOBS)
        self.caller = Ledger(self.folder / "caller-parent.jsonl")
        self.steering = Ledger(self.folder / "steering.jsonl")
        self.timings = {each.key: each for each in timetable(self.seed, self.size.schedules)}

    # -- the clock

    def _set(self, ahead_us: int) -> None:
        self.peak_us = max(self.peak_us, us_of(self.wall.now_ns()))
        self.steps.append((us_of(now_ns()), ahead_us))
        self.wall.offset_ns = 1_000 * ahead_us

    def step(self, by_s: float) -> None:
        """Somebody sets the wall clock."""
        self._set(self.steps[-1][1] + int(by_s * SECOND_US))

    def gap(self) -> None:
        """Nobody works for a while; on the wall clock that may be hours, and now and then it is set back."""
        time.sleep(self.chance.uniform(0, 0.2))
        kind = self.chance.random()
        if kind < 0.2:
            return
        if kind < 0.4:
            self.step(self.chance.uniform(1, 55))
        elif kind < 0.65:
            self.step(self.chance.uniform(60, 900))
        elif kind < 0.85:
            self.step(self.chance.uniform(900, 2.5 * HOUR_S))
        else:
            self.step(-self.chance.uniform(1, 900))

    # -- what is asked

    def ask(self, number: int) -> None:
        """So many delayed runs at once."""
        if number <= 0:
            return
        self.asked += 1
        me, clocks = f"parent.{self.asked}", lambda: {"wall": us_of(self.wall.now_ns())}
        asks = some_asks(self.chance, me, number, clocks()["wall"], self.size.ahead_s)
        self.caller.say("ask", id=me, do="many", by="wall", **asks.told(), **clocks())
        work = self.client.jobs.tasks["work"]
        entries = [work.entry(plan, **options) for plan, options in zip(asks.plans, asks.options(), strict=True)]
        found = patiently(lambda: self.client.enqueue_many(entries))
        self.caller.say("ack", id=me, runs=[each.run_id for each in found], **clocks())
        self.runs += number

    def make(self) -> None:
        """Make the schedules that the code does not declare."""
        for timing in list(self.timings.values()):
            if not timing.declared:
                self._say("make", timing)

    def _say(self, what: str, timing: Timing) -> None:
        plan = {"n": timing.key, "ms": timing.ms, "fails": timing.fails, "by": "raising", "then": "return"}
        options: dict[str, Any] = {
            "misfire": timing.misfire, "overlap": timing.overlap, "jitter": timing.jitter_us / 1e6, "misfire_cap": CAP,
        }  # fmt: skip
        if timing.start_us is not None:
            options["start"] = EPOCH + timedelta(microseconds=timing.start_us)
        with self._steered(what, timing.key, step=timing.step_us, jitter=timing.jitter_us, misfire=timing.misfire,
                           overlap=timing.overlap) as answer:  # fmt: skip
            if timing.cron:
                cron = self.client.schedules.cron
                answer.update(_state(patiently(lambda: cron(timing.key, timing.cron, "tick", plan, **options))))
            else:
                step = timedelta(microseconds=timing.step_us)
                every = self.client.schedules.every
                answer.update(_state(patiently(lambda: every(timing.key, step, "tick", plan, **options))))
        self.timings[timing.key] = timing

    @contextmanager
    def _steered(self, what: str, key: str, **facts: object) -> Iterator[dict[str, Any]]:
        t0, w0, answer = now_ns(), us_of(self.wall.now_ns()), dict[str, Any]()
        yield answer
        self.steering.say(what, key=key, t0=t0, w0=w0, w1=us_of(self.wall.now_ns()), **facts, **answer)

    def steer(self) -> None:
        """Change some schedule in some way."""
        what = self.chance.choice(["pause", "pause", "trigger", "edit", "edit"])
        mine = [key for key, each in self.timings.items() if not each.declared and not each.cron]
        key = self.chance.choice(mine if what == "edit" else list(self.timings))
        timing, schedules = self.timings[key], self.client.schedules
        if key in self.paused:
            self.resume(key)
        elif what == "pause":
            with self._steered("pause", key):
                patiently(lambda: schedules.pause(key))
            self.paused.add(key)
        elif what == "edit":
            if self.chance.random() < 0.5:
                timing = evolve(timing, misfire=self.chance.choice(["skip", "latest", "all"]))
            if self.chance.random() < 0.5:
                timing = evolve(timing, step_us=self.chance.choice([1, 2, 6, 150]) * SECOND_US, jitter_us=0)
            self._say("edit", timing)
        else:
            with self._steered("trigger", key) as answer:
                answer["run"] = patiently(lambda: schedules.trigger(key))

    def resume(self, key: str) -> None:
        """End a pause."""
        with self._steered("resume", key) as answer:
            answer.update(_state(patiently(lambda: self.client.schedules.resume(key))))
        self.paused.discard(key)

    # -- lives

    def reach(self) -> None:
        """Once somebody has published what there is to call."""
        self.client.port.seams.clock = SetWallClock(self.wall)

    def read(self) -> Mapping[str, Schedule]:
        """What is noted of all schedules now; and how they stand."""
        found = drive(self.client.port.read(lambda reader: reader.schedules(JOBS)))
        for each in found:
            lines = drive(self.client.port.read(lambda reader, key=each.key: reader.fires(JOBS, key, KEPT)))
            self.minutes.setdefault(each.key, Minutes()).read(lines)
        return {each.key: each for each in found}

    def live(self) -> None:
        """One life, killed at a random moment, or before it has done much; meanwhile this and that is asked."""
        size = self.size
        life = self.lives.begin(schedules=size.schedules, asks=size.asks, ahead_s=size.ahead_s, mutant=size.mutant)
        self.lives.prepare_next()
        self.lives.until(lambda: life.boot is not None, "it to open")
        opened_ns = now_ns()
        lasts_s = self.chance.choice([self.chance.uniform(0, 0.2), self.chance.uniform(0, size.longest_s)])
        events = sorted(self.chance.uniform(0, lasts_s) for _ in range(self.chance.randint(1, 6)))
        for at_s in [*events, lasts_s]:
            self.lives.until(lambda at_s=at_s: now_ns() - opened_ns >= at_s * 1e9, "a random moment")  # type: ignore[misc]
            if at_s == lasts_s:
                break
            self.read()
            what = self.chance.random()
            if what < 0.3:  # its steady clock and the wall part
                self.step(self.chance.uniform(0.5, 300))
            elif what < 0.4:
                self.ask(min(200, size.runs - self.runs))
            else:
                self.steer()
        self.lives.kill()
        self._measure()

    def _measure(self) -> None:
        life = self.lives.current
        assert life is not None
        if life.first_ns:
            self.first_start_s.append((life.first_ns - life.began_ns) / 1e9)

    def tell(self) -> None:
        """All of it, but for the end."""
        size = self.size
        self.first()
        for n in range(size.kills - 1):
            left = size.kills - 1 - n
            self.gap()
            self.read()
            for _ in range(self.chance.randint(1, 4)):
                self.steer()
            share = (size.runs - self.runs) // (2 * left)
            for begin in range(0, share, 10_000):
                self.ask(min(10_000, share - begin))
            self.live()
        self.gap()

    def first(self) -> None:
        """A life that publishes what there is, and is killed; and what is asked for then."""
        life = self.lives.begin(schedules=self.size.schedules, mutant=self.size.mutant)
        self.lives.prepare_next()
        self.lives.until(lambda: life.opened, "it to open")
        time.sleep(self.chance.uniform(0, 0.1))
        self.lives.kill()
        self.reach()
        self.make()
        for begin in range(0, self.size.runs // 2, 10_000):
            self.ask(min(10_000, self.size.runs // 2 - begin))

    def end(self) -> int:
        """All that is left comes to its end: the status of the last life."""
        self.read()
        for key in sorted(self.paused):
            self.resume(key)
        while self.runs < self.size.runs:
            self.ask(min(10_000, self.size.runs - self.runs))
        # all that was asked for becomes due, also what was asked for before the clock was set back
        behind_s = max(0, self.peak_us - us_of(self.wall.now_ns())) / SECOND_US
        self.step(behind_s + self.size.ahead_s + 60)
        life = self.lives.begin(
            schedules=self.size.schedules, finish=True, patience=self.size.patience_s - 20, mutant=self.size.mutant
        )
        self.lives.prepare_next()
        self.lives.until(lambda: life.boot is not None, "it to open")
        read_ns = now_ns()

        def over() -> bool:
            nonlocal read_ns
            if now_ns() - read_ns > 2 * 10**9:
                self.read()
                read_ns = now_ns()
            return life.closed

        self.lives.until(over, "it to close")
        status = self.lives.wait()
        self._measure()
        return status

    def story(self) -> Story:
        """All that is known."""
        schedules = self.read()
        self.client.close()
        evidence = gather(self.folder, self.lives.killed, ended=True)
        lives = {
            line["boot"]: (line["steady_least"], line["steady_most"])
            for line in evidence.stage
            if line["say"] == "open"
        }
        until_us = next((line["wall"] for line in evidence.stage if line["say"] == "until"), 0)
        return Story(
            evidence,
            {each.key: each for each in timetable(self.seed, self.size.schedules)},
            read_all(self.folder / "steering.jsonl"),
            Walls(self.steps),
            self.minutes,
            schedules,
            lives,
            until_us,
        )


def patiently(call: Callable[[], T]) -> T:
    """Make a call until the store is not busy: nothing was stored until then."""
    while True:
        with suppress(StoreBusy):
            return call()


def _state(state: ScheduleState) -> Line:
    def us(at: datetime | None) -> int | None:
        return None if at is None else (at - EPOCH) // timedelta(microseconds=1)

    return {"next": us(state.next_at), "last": us(state.last_at)}


def test_kill_9_in_the_middle_of_schedules_loses_no_time_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    I1 I2 I27 I29 I30 I33 P7 P8: killed at random moments, with gaps of hours, it starts every delayed run once and not before
    its time, and each time of each schedule has its one run or is what the policy drops.
    """
    judge(SHORT, tmp_path, capsys)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_100_000_scheduled_runs_and_50_schedules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same with 100,000 delayed runs, 50 schedules and 24 kills."""
    judge(FULL, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "sentence"),
    [
        ("RequestsTwice", "I29 2 runs are of"),
        ("LosesTimes", "is lost"),
        ("RequestsLater", "I30 it says that it requested"),
        ("StartsEarly", "before its time on the"),
        ("LosesDelayed", "I1 call"),
    ],
)
def test_a_store_that_breaks_a_promise_about_time_is_found(mutant: str, sentence: str, tmp_path: Path) -> None:
    """The harness can fail: under such a store, the same story is reported in the sentence that is meant for it."""
    _, story, _ = told(evolve(SHORT, mutant=mutant, patience_s=30), tmp_path, seed=1)

    found = untimely(story)

    assert [problem for problem in found if sentence in problem], found


def judge(size: Size, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tell it, and judge it."""
    seed = some_seed()
    with capsys.disabled():
        sys.stdout.write(f"\nkill -9 among schedules: CALLSHEET_SEED={seed}\n")
    began_ns = now_ns()

    status, story, parent = told(size, folder, seed)

    told_ns = now_ns()
    problems, counts = untimely(story), reached_in_time(story)
    with capsys.disabled():
        sys.stdout.write(
            f"  {len(parent.lives.killed)} kills in {(told_ns - began_ns) / 1e9:.0f} s;"
            f" judged in {(now_ns() - told_ns) / 1e9:.0f} s;"
            f" from code loaded to first start {spread(parent.first_start_s)} s\n"
            f"  {dict(sorted(counts.items()))}\n"
        )
    assert [] == problems
    assert status == 0, parent.lives.said()
    assert size.kills == len(parent.lives.killed)
    assert size.runs <= counts["delayed runs"]
    for what in size.reaches:
        assert counts[what] > 0, f"the story never had: {what}"


def told(size: Size, folder: Path, seed: int) -> tuple[int, Story, Parent]:
    """The whole story."""
    with Lives(folder, seed, worker=TIMEKEEPER, poll_s=FEW_S, patience_s=size.patience_s) as lives:
        parent = Parent(folder, seed, size, lives)
        parent.tell()
        status = parent.end()
        return status, parent.story(), parent
