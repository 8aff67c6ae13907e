"""
Parts of a runtime that die at random moments under load, and one part that dies at every moment of a story.

A moment is a step of trio's scheduler: what lies between two steps is one piece, and nothing can die inside it. Everything
follows from a seed: a failure names it, and `play(seed, ...)` repeats it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import trio
import trio.testing
from attrs import define, field, frozen

from callsheet import Context, Jobs, Queue, Retry, RunDetails, Runtime, Status
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import OutcomeKind
from callsheet.store.sqlite import SqliteStore

from .house import Place, open_house

T = TypeVar("T")

ATTEMPTS: Final = 3
TIMEOUT_S: Final = 2.0
WORKS: Final = ("deliver", "resize", "report")
CORE: Final = ("/journal", "/scheduler", "/calendar")
TASKS: Final = tuple(f"/tasks/default/j/{name}" for name in WORKS)
QUEUES: Final = ("/queues/default/j-jobs", "/queues/default/side")
ABOVE: Final = ("/tasks", "/tasks/default/j", "/queues")
LIMIT_S: Final = 600.0
"""Virtual seconds after which a run that has not ended never will."""


@define(eq=False)
class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and makes calls before certain ones."""

    n: int = 0
    calls: dict[int, Callable[[], object]] = field(factory=dict)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.n += 1
        call = self.calls.pop(self.n, None)
        if call is not None:
            call()

    def after(self, steps: int, call: Callable[[], object]) -> None:
        self.calls[self.n + steps] = call


@frozen
class Part:
    """What one run does. What becomes of it follows from this alone, however often it is interrupted."""

    sleep_s: float
    fails: int
    """Tries that raise before one returns."""

    @property
    def ends(self) -> Status:
        never = self.fails >= ATTEMPTS or self.sleep_s >= TIMEOUT_S
        return Status.DEAD_LETTERED if never else Status.SUCCEEDED


@define(eq=False)
class Theatre:
    """Jobs, what was acknowledged of them, and what their handlers saw."""

    chance: random.Random
    steps: Steps
    jobs: Jobs = field(init=False)
    acked: dict[str, Part] = field(factory=dict)
    canceled: set[str] = field(factory=set)
    """By a cancel that was acknowledged."""
    playing: set[str] = field(factory=set)
    wrong: list[str] = field(factory=list)
    deaths: Counter[str] = field(factory=Counter)

    def __attrs_post_init__(self) -> None:
        self.jobs = Jobs(
            "j",
            queue=Queue(concurrency=4, batch_size=3),
            queues=[Queue("side", concurrency=2, batch_size=2)],
            retry=Retry(attempts=ATTEMPTS, backoff="fixed", initial_delay=1),
        )
        for n, name in enumerate(WORKS):
            queue = "side" if n == 2 else None
            self.jobs.task(name, timeout=TIMEOUT_S, queue=queue)(self._play)  # type: ignore[call-overload]

    async def _play(self, payload: dict[str, Any], ctx: Context) -> float:
        part = Part(**payload)
        if ctx.run_id in self.playing:
            self.wrong.append(f"two attempts of {ctx.run_id} overlap")
        if ctx.run_id in self.canceled:
            self.wrong.append(f"{ctx.run_id} started after its cancel was acknowledged")
        self.playing.add(ctx.run_id)
        try:
            await trio.sleep(part.sleep_s)
            if ctx.spent < part.fails:
                raise ValueError("not yet")
            return part.sleep_s
        finally:
            self.playing.discard(ctx.run_id)

    async def enqueue(self, name: str, part: Part, delay: float = 0) -> None:
        payload = {"sleep_s": part.sleep_s, "fails": part.fails}
        answer = await self.jobs.enqueue(name, payload, delay=delay)
        self.acked[answer.run_id] = part

    async def cancel(self, run_id: str) -> None:
        if (await self.jobs.runs.cancel(run_id)).canceled:
            self.canceled.add(run_id)

    async def load(self, calls: int) -> None:
        """Users who do not wait for each other."""
        chance = self.chance
        async with trio.open_nursery() as nursery:
            for _ in range(calls):
                if chance.random() < 0.2 and self.acked:
                    nursery.start_soon(self.cancel, chance.choice(list(self.acked)))
                else:
                    part = Part(chance.choice([0.0, 0.3, 1.0, 1.7, 5.0]), chance.choice([0, 0, 0, 1, 2, 3]))
                    nursery.start_soon(self.enqueue, chance.choice(WORKS), part, chance.choice([0, 0, 0, 1.5]))
                await trio.sleep(chance.choice([0, 0, 0.1, 0.5]))

    async def kill(self, runtime: Runtime, paths: tuple[str, ...], times: int) -> None:
        """Seldom enough for whoever restarts them."""
        for _ in range(times):
            await trio.sleep(self.chance.uniform(2, 3))
            path = self.chance.choice(paths)
            self.steps.after(self.chance.randrange(1, 60), partial(self.die, runtime, path, self.chance.random() < 0.6))

    def die(self, runtime: Runtime, path: str, kill: bool) -> None:
        cell = runtime.system.stage.registry.get(path)
        if cell is not None and cell.actor is not None:
            self.deaths[path] += 1
            if kill:
                cell.kill()
            else:
                cell.ref.tell_control("poison")

    async def check(self) -> list[RunDetails]:
        """Every acknowledged run has the ending that its part and an acknowledged cancel say."""
        assert [] == self.wrong
        ends = {run_id: await self.jobs.runs.get(run_id) for run_id in self.acked}
        expected = {i: Status.CANCELED if i in self.canceled else part.ends for i, part in self.acked.items()}
        assert expected == {run_id: each.run.status for run_id, each in ends.items()}
        for run_id, each in ends.items():
            if each.run.status is Status.SUCCEEDED:
                assert self.acked[run_id].sleep_s == each.result
        return list(ends.values())


async def play(seed: int, place: Place, paths: tuple[str, ...], steps: Steps) -> Counter[str]:
    """One story under load; returns who died how often."""
    theatre = Theatre(random.Random(seed), steps)
    with trio.fail_after(LIMIT_S):
        async with open_house(place, theatre.jobs, seed=seed) as runtime:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theatre.load, CALLS)
                nursery.start_soon(theatre.kill, runtime, paths, DEATHS)
            await runtime.until_idle()
            await trio.sleep(10)  # what was on its way when the last one died
            await runtime.until_idle()
            ended = await theatre.check()
    if set(paths) <= set(TASKS):
        names = {path.rpartition("/")[2] for path in theatre.deaths}
        hurt = {each.run.lane.task for each in ended if OutcomeKind.INTERRUPTED in {a.outcome for a in each.attempts}}
        assert hurt <= names, f"runs of {hurt - names} noticed the death of {names}"
    return theatre.deaths


def run(seed: int, what: Callable[[Steps], Awaitable[T]], monkeypatch: pytest.MonkeyPatch) -> T:
    """In a world of its own, whose order of steps follows from the seed."""
    monkeypatch.setattr("trio._core._run._r", random.Random(seed))
    steps = Steps()
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        return trio.run(what, steps, clock=clock, instruments=[steps])
    except BaseException as error:
        error.add_note(f"this was seed {seed}")
        raise


def in_memory() -> Place:
    tables = Tables()
    return lambda: MemoryStore(tables)


# ---------------------------------------------------------------- at random moments

CALLS: Final = 20
DEATHS: Final = 4
SCENES: Final[dict[str, tuple[str, ...]]] = {
    "journal": ("/journal",),
    "task supervisors": TASKS,
    "queues": QUEUES,
    "anybody": CORE + TASKS + QUEUES + ABOVE,
}


@pytest.mark.parametrize("scene", SCENES)
def test_deaths_at_random_moments_lose_nothing(scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, P2, P3, P5, I20: whoever dies under load, what was acknowledged ends once, as if nobody had died."""
    deaths: Counter[str] = Counter()

    for seed in range(15):
        deaths += run(seed, partial(play, seed, in_memory(), SCENES[scene]), monkeypatch)

    assert set(SCENES[scene]) == set(deaths)


@pytest.mark.parametrize("scene", SCENES)
def test_deaths_at_random_moments_lose_nothing_on_disk(
    scene: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same over SQLite."""
    for seed in range(1_000, 1_006):
        path = tmp_path / f"{seed}.db"
        run(seed, partial(play, seed, partial(SqliteStore, path), SCENES[scene]), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_thousands_of_deaths_lose_nothing(scene: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same for very many seeds, the first of them over SQLite too."""
    deaths: Counter[str] = Counter()

    for seed in range(10_000, 12_000):
        deaths += run(seed, partial(play, seed, in_memory(), SCENES[scene]), monkeypatch)
        if seed < 10_100:
            path = tmp_path / f"{seed}.db"
            run(seed, partial(play, seed, partial(SqliteStore, path), SCENES[scene]), monkeypatch)

    assert set(SCENES[scene]) == set(deaths)


# ---------------------------------------------------------------- at every moment


async def tell(theatre: Theatre, place: Place, path: str, moments: tuple[int, ...], *, kill: bool) -> int:
    """
    A short story with everything in it, in which `path` dies at some steps; then the store is opened once more.

    Returns how many steps the story has, from the open to the end of the close.
    """
    steps = theatre.steps
    with trio.fail_after(LIMIT_S):
        async with open_house(place(), theatre.jobs, seed=1) as runtime:
            began = steps.n
            for moment in moments:
                steps.after(moment, partial(theatre.die, runtime, path, kill))
            await theatre.enqueue("deliver", Part(0.3, 0))
            await theatre.enqueue("deliver", Part(0.0, 1))
            await theatre.enqueue("resize", Part(1.7, 0))
            await theatre.enqueue("report", Part(0.0, 0), delay=0.4)
            await trio.sleep(0.5)
            await theatre.cancel(list(theatre.acked)[2])
            await runtime.until_idle()
            await theatre.enqueue("resize", Part(0.3, 0))
            await trio.sleep(0.1)  # this one is on stage when the runtime stops
        told = steps.n - began
        async with open_house(place, theatre.jobs, seed=2) as runtime:
            await runtime.until_idle()
            await theatre.check()
    return told


def story(path: str, moments: tuple[int, ...], kill: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many steps it has, and how often `path` died."""
    deaths: Counter[str] = Counter()

    def what(steps: Steps) -> Awaitable[int]:
        return tell(Theatre(random.Random(1), steps, deaths=deaths), in_memory(), path, moments, kill=kill)

    try:
        return run(1, what, monkeypatch), deaths[path]
    except BaseException as error:
        error.add_note(f"{path} died before the steps {moments}")
        raise


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "crashed"])
@pytest.mark.parametrize("path", ["/journal", TASKS[1], QUEUES[0]])
def test_a_death_at_each_moment_of_a_story_loses_nothing(
    path: str, kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1 - P5, P8, P9: one story per step, from the open to the end of the close."""
    moments, _ = story(path, (), kill, monkeypatch)

    deaths = sum(story(path, (moment,), kill, monkeypatch)[1] for moment in range(1, moments + 1))

    assert deaths > moments // 2  # after its own end it cannot die


@pytest.mark.slow
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "crashed"])
@pytest.mark.parametrize("path", ["/journal", TASKS[1], QUEUES[0]])
def test_a_second_death_soon_after_each_moment_loses_nothing(
    path: str, kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, with a second death one to fifteen steps later: while it is stopped, or started again."""
    moments, _ = story(path, (), kill, monkeypatch)

    pairs = [(moment, moment + later) for moment in range(1, moments + 1) for later in range(1, 16)]
    deaths = sum(story(path, pair, kill, monkeypatch)[1] for pair in pairs)

    assert deaths > len(pairs)
