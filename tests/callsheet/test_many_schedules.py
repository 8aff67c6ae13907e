"""Very many schedules, some of which fail: they share their commits, and none of them holds up the others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field

from callsheet import Context, Jobs, Queue
from callsheet.runtime import Runtime
from callsheet.schedules import decide, planner
from callsheet.schedules.planner import STEPS, STEPS_BYTES, Planner
from callsheet.store.contract import SetSchedule
from callsheet.store.errors import MalformedCommand
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Owner, Schedule
from callsheet.testing import World, simulate

from . import house
from .house import Wall, open_house

NOON: Final = datetime(2026, 3, 28, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
SECOND: Final = timedelta(seconds=1)

stores = pytest.mark.parametrize("store", ["memory", "sqlite"])


@define(eq=False)
class Seen:
    """What the handlers were given, in the order in which they began."""

    payloads: list[Any] = field(factory=list)
    times: list[datetime | None] = field(factory=list)


def some_jobs(seen: Seen, *, takes_s: float = 0, slots: int = 50) -> Jobs:
    jobs = Jobs("j", queue=Queue(concurrency=slots, batch_size=slots))

    @jobs.task("work")
    async def work(payload: Any, ctx: Context) -> None:
        seen.payloads.append(payload)
        seen.times.append(ctx.nominal_time)
        await trio.sleep(takes_s)

    return jobs


def many(jobs: Jobs, n: int, seconds: float = 3600, **options: Any) -> None:
    """Schedules k000, k001, ... with their number as payload; first due an hour after the world begins."""
    for number in range(n):
        jobs.every(f"k{number:03}", seconds, "work", number, **{"start": NOON + HOUR} | options)


@define(eq=False)
class Books:
    """What reached the stores that it made."""

    groups: list[list[SetSchedule]] = field(factory=list)
    """The changes of schedules that each commit held."""
    refuse: Callable[[SetSchedule], bool] = lambda _command: False
    """Which of them are malformed."""
    tried: list[tuple[float, str]] = field(factory=list)
    """When that was found, and of which schedule."""
    before: list[Callable[[MemoryStore, Sequence[SetSchedule], Any], object]] = field(factory=list)
    """Called once, before the next commit that holds some."""
    reads: int = 0
    read_takes_s: float = 0.0
    tables: Tables = field(factory=Tables)

    def store(self) -> MemoryStore:
        books = self

        class Kept(MemoryStore):
            def write(self, commands: Any, now: Any) -> Any:
                group = [each for each in commands if isinstance(each, SetSchedule)]
                if group and books.before:
                    books.before.pop()(self, group, now)
                for each in group:
                    if books.refuse(each):
                        if len(commands) == 1:
                            books.tried.append((trio.current_time(), each.schedule.key))
                        raise MalformedCommand("it is not to be")
                answers = super().write(commands, now)
                if group:
                    books.groups.append(group)
                return answers

            def reader(self) -> Any:
                reader = super().reader()
                ask = reader.schedules

                def counted(jobs: Any = None) -> Any:
                    books.reads += 1
                    return ask(jobs)

                reader.schedules = counted  # type: ignore[method-assign]
                return reader

        return Kept(self.tables)

    def sizes(self) -> list[int]:
        return [len(each) for each in self.groups]


@contextmanager
def looks() -> Iterator[list[float]]:
    """When planners looked."""
    found: list[float] = []
    look = Planner._look

    async def counted(self: Planner, **options: Any) -> None:
        found.append(trio.current_time())
        await look(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Planner, "_look", counted)
        yield found


def asked(world: World) -> list[tuple[str | None, datetime]]:
    """Which times of which schedules have runs, in the order in which these sort."""
    runs = sorted((run for run in world.runs() if run.nominal_us is not None), key=lambda run: run.id)
    return [(run.schedule_key, datetime.fromtimestamp((run.nominal_us or 0) / 1e6, UTC)) for run in runs]


# ---------------------------------------------------------------- many at once


async def test_a_thousand_schedules_share_their_commits(autojump_clock: trio.abc.Clock) -> None:
    """When they are declared, and when they are due; nobody tells the planner what it did itself."""
    seen, books = Seen(), Books()
    jobs = some_jobs(seen)
    many(jobs, 1000)
    async with simulate(jobs, store=books.store, start=NOON) as world:
        assert [STEPS] * (1000 // STEPS) == books.sizes()
        reads = books.reads
        await world.advance(hours=1)

        assert [STEPS] * (2 * 1000 // STEPS) == books.sizes()
        assert reads == books.reads
        assert [(f"k{n:03}", NOON + HOUR) for n in range(1000)] == asked(world)
        assert list(range(1000)) == sorted(seen.payloads)
        assert {NOON + HOUR} == {datetime.fromtimestamp(run.created_us / 1e6, UTC) for run in world.runs()}
        await world.restart()
        assert 2 * 1000 // STEPS == len(books.groups)


async def test_a_thousand_schedules_at_rest_wake_nobody(autojump_clock: trio.abc.Clock) -> None:
    """Nothing looks at them until one is due, and then only that one is looked at."""
    seen, decided = Seen(), [0]
    jobs = some_jobs(seen)
    many(jobs, 1000)
    jobs.every("often", 600, "work", "often", start=NOON + timedelta(seconds=300))
    turn = decide.turn

    def counted(*given: Any) -> Any:
        decided[0] += 1
        return turn(*given)

    with looks() as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "turn", counted)
        async with simulate(jobs, start=NOON) as world:
            await world.settle()
            began_s = trio.current_time()
            found.clear()
            await world.advance(minutes=59)

            assert [300.0 + n * 600 for n in range(6)] == pytest.approx([each - began_s for each in found], abs=0.01)
            assert 6 == decided[0]
            assert ["often"] * 6 == seen.payloads


@stores
async def test_p7_what_was_missed_is_requested_in_due_order(
    autojump_clock: trio.abc.Clock, monkeypatch: Any, store: Any
) -> None:
    """However the schedules are called, and more of them than go into one commit: so runs are claimed in that order too."""
    monkeypatch.setattr(planner, "STEPS", 20)
    seen, n = Seen(), 50
    jobs = some_jobs(seen, slots=1)
    for number in range(n):
        jobs.every(f"k{number:03}", 3600, "work", number, start=NOON + timedelta(seconds=n - number))
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.crash()
        world.set_wall(NOON + HOUR / 2)
        await world.restart()
        await world.settle()

        assert list(range(n))[::-1] == seen.payloads
        assert [(f"k{n - k:03}", NOON + timedelta(seconds=k)) for k in range(1, n + 1)] == asked(world)


async def test_a_thousand_times_made_up_for_are_requested_in_order(autojump_clock: trio.abc.Clock) -> None:
    """Of one schedule after the other, as they were due."""
    seen = Seen()
    jobs = some_jobs(seen)
    for key, after in (("a", 2), ("b", 1)):
        start = NOON + timedelta(seconds=after)
        jobs.every(
            key, 1, "work", key, start=start, end=start + 600 * SECOND, misfire="all", misfire_cap=500, overlap="allow"
        )
    async with simulate(jobs, start=NOON) as world:
        await world.crash()
        world.set_wall(NOON + HOUR)
        await world.restart()
        await world.advance(seconds=1)

        last = range(101, 601)
        assert [("b", NOON + (1 + k) * SECOND) for k in last] + [("a", NOON + (2 + k) * SECOND) for k in last] == asked(
            world
        )
        assert sorted(each for _, each in asked(world)) == sorted(each for each in seen.times if each)


async def test_what_is_heavy_goes_in_smaller_groups(autojump_clock: trio.abc.Clock) -> None:
    """Large payloads, or many runs made up for: a commit stays bounded."""
    seen, books, payload = Seen(), Books(), "x" * 200_000
    jobs = some_jobs(seen)
    for n in range(30):
        jobs.every(f"k{n:03}", 3600, "work", payload, start=NOON + HOUR)
    async with simulate(jobs, store=books.store, start=NOON) as world:
        await world.advance(hours=1)

        weights = [
            sum(len(each.schedule.body) + sum(len(run.payload) for run in each.runs) for each in group)
            for group in books.groups
        ]
        assert 30 == len(seen.payloads)
        assert STEPS_BYTES * 0.8 < max(weights) < STEPS_BYTES + 1_000_000


async def test_a_time_that_waits_goes_before_one_that_is_due(autojump_clock: trio.abc.Clock, monkeypatch: Any) -> None:
    """Of each schedule, in one look at all of them: the older time gets the run, and the newer one waits in its place."""
    monkeypatch.setattr(planner, "STEPS", 20)
    seen, tables, n = Seen(), Tables(), 30
    jobs = some_jobs(seen, takes_s=7200)
    many(jobs, n, overlap="queue", start=NOON)
    async with simulate(jobs, store=lambda: MemoryStore(tables), start=NOON - SECOND) as world:
        stored = await world.runtime.read(lambda reader: reader.schedules())
    assert {NOON.timestamp() * 1e6} == {each.next_us for each in stored}
    waits = [evolve(each, waiting_us=each.next_us, next_us=(each.next_us or 0) + 3_600_000_000) for each in stored]
    waits = [evolve(each, due_us=each.next_us, last_us=each.waiting_us) for each in waits]
    house.write(
        lambda: MemoryStore(tables), Owner("x", 1, "x", 0), *[SetSchedule(each.version, each) for each in waits]
    )

    async with simulate(jobs, store=lambda: MemoryStore(tables), start=NOON + HOUR + SECOND) as world:
        await world.settle()
        states = await jobs.schedules.list()
        assert [(f"k{k:03}", NOON) for k in range(n)] == asked(world)
        assert {(NOON + HOUR, 1, 0)} == {(each.waiting_at, each.fired, each.skipped) for each in states}


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(("store", "commit"), [("memory", 1), ("memory", 2), ("sqlite", 1)])
@pytest.mark.parametrize("fault", ["refused", "lost", "answer lost", "stalled", "crashed", "crashed after", "full"])
async def test_p7_a_fault_while_200_are_due(
    autojump_clock: trio.abc.Clock, monkeypatch: Any, store: Any, fault: str, commit: int
) -> None:
    """Whatever happens to a commit that they share, each time leads to one run."""
    monkeypatch.setattr(planner, "STEPS", 200 // commit)
    seen = Seen()
    jobs = some_jobs(seen)
    many(jobs, 200)
    async with simulate(jobs, store=store, start=NOON, seed=7) as world:
        await world.advance(minutes=59, seconds=59)
        match fault:
            case "refused" | "lost":
                world.faults.fail(commit, unknown=fault == "lost", on="set_schedule")
            case "answer lost":
                world.faults.fail(commit, when="after", on="set_schedule")
            case "stalled":
                world.faults.stall(commit, seconds=7, when="after", on="set_schedule")
            case "full":
                world.faults.full(range(commit, commit + 3))
            case _:
                when: Any = "after" if fault == "crashed after" else "before"
                world.faults.crash(commit, when=when, on="set_schedule")
        await world.advance(minutes=2)

        states = await jobs.schedules.list()
        assert fault == "full" or "set_schedule" in world.faults.happened[0].steps
        assert [(each.key, NOON + HOUR) for each in states] == sorted(asked(world))
        assert {(1, 0, NOON + 2 * HOUR)} == {(each.fired, each.skipped, each.next_at) for each in states}
        assert list(range(len(states))) == sorted(set(seen.payloads))


@pytest.mark.parametrize("seed", range(3))
async def test_p7_200_are_due_every_ten_seconds_with_faults(autojump_clock: trio.abc.Clock, seed: int) -> None:
    """Half of all commits fail in some way, and the process dies now and then: no time is lost, none comes twice."""
    seen, n = Seen(), 200
    jobs = some_jobs(seen)
    many(jobs, n, 10, start=NOON + SECOND, misfire="all", misfire_cap=1000, overlap="allow")
    async with simulate(jobs, start=NOON, seed=seed) as world:
        world.faults.random(0.4, ["refuse", "lose", "lose_answer", "crash"])
        await world.advance(seconds=30)
        world.faults.heal()
        await world.advance(seconds=10)

        states = await jobs.schedules.list()
        times = asked(world)
        assert {"refuse", "lose", "lose_answer", "crash"} >= {each.kind for each in world.faults.happened}
        assert len(world.faults.happened) > 3
        assert len(set(times)) == len(times)
        assert {0} == {each.skipped for each in states}
        begun = {each.key: min(at for key, at in times if key == each.key) for each in states}
        last = {each.key: each.last_at for each in states}
        assert sum((last[key] - begun[key]).total_seconds() / 10 + 1 for key in begun) == len(times)  # type: ignore[operator]
        assert all(world.now - each.last_at < 10 * SECOND for each in states if each.last_at)


async def test_one_that_fails_alone_holds_up_nobody(autojump_clock: trio.abc.Clock, caplog: Any) -> None:
    """It is said once, and tried again every second until it can be done; when it fails anew, that is said anew."""
    seen, books = Seen(), Books()
    jobs = some_jobs(seen)
    many(jobs, 40)
    async with simulate(jobs, store=books.store, start=NOON) as world:
        for hour in (1, 2):
            books.refuse = lambda each: each.schedule.key in ("k003", "k017") and bool(each.runs)
            began = trio.current_time()
            books.tried.clear()
            with caplog.at_level(logging.ERROR, "callsheet.schedules"):
                await world.advance(hours=1, seconds=4.5 if hour == 1 else 0)
            asked_for = sorted(key or "" for key, at in asked(world) if at == NOON + hour * HOUR)
            books.refuse = lambda _each: False
            await world.advance(seconds=10)

            assert [f"k{n:03}" for n in range(40) if n not in (3, 17)] == asked_for
            assert hour * 40 == len(set(asked(world))) == len(asked(world))
            for key in ("k003", "k017"):
                assert hour == caplog.text.count(
                    f"schedule {key} of default/j failed, trying again: the command cannot be stored"
                )
            if hour == 1:
                at = [round(when - began) - 3600 for when, key in books.tried if key == "k003"]
                assert [0, 1, 2, 3, 4] == at


async def test_one_that_cannot_be_said_holds_up_nobody(autojump_clock: trio.abc.Clock, caplog: Any) -> None:
    """A declaration that the store does not take: the others hold, and it does as soon as it is taken."""
    seen, books = Seen(), Books()
    jobs = some_jobs(seen)
    many(jobs, 5, 10, start=NOON)
    books.refuse = lambda each: each.schedule.key == "k001"
    with caplog.at_level(logging.ERROR, "callsheet.schedules"):
        async with simulate(jobs, store=books.store, start=NOON) as world:
            await world.advance(seconds=5)
            first = sorted(seen.payloads)
            world.runtime.system.stage.registry["/schedules"].kill()
            await world.advance(seconds=5.5)
            books.refuse = lambda _each: False
            await world.advance(seconds=10)

            assert [0, 2, 3, 4] == first
            assert [NOON + 20 * SECOND] == [at for key, at in asked(world) if key == "k001"]
            assert 2 == caplog.text.count("schedule k001 of default/j failed")


@pytest.mark.parametrize("broken", ["a bug", "no such field", "no object", "wrong kinds", "no task"])
async def test_a_plan_that_cannot_be_followed_holds_up_nobody(
    autojump_clock: trio.abc.Clock, caplog: Any, broken: str
) -> None:
    """What is stored of one schedule makes no sense: the others go on, and so does the runtime."""
    seen, tables = Seen(), Tables()
    jobs = some_jobs(seen)
    async with simulate(jobs, store=lambda: MemoryStore(tables), start=NOON) as world:
        for n in range(5):
            await jobs.schedules.every(f"k{n:03}", 10, "work", n, start=NOON + SECOND)
        stored: Schedule = (await world.runtime.read(lambda reader: reader.schedules()))[1]
    wrong = {
        "no such field": b'{"v":1}',
        "no object": b"[]",
        "wrong kinds": stored.body.replace(b'"end_us":null', b'"end_us":"soon"'),
        "no task": stored.body.replace(b'"task":"work"', b'"task":["work"]'),
    }.get(broken, stored.body)
    assert (wrong != stored.body) is (broken != "a bug")
    change = SetSchedule(stored.version, evolve(stored, body=wrong))
    house.write(lambda: MemoryStore(tables), Owner("x", 1, "x", 0), change)
    turn = decide.turn

    def buggy(was: Schedule, *rest: Any) -> Any:
        if was.key == "k001" and broken == "a bug":
            raise ZeroDivisionError
        return turn(was, *rest)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "callsheet.schedules"):
        patch.setattr(decide, "turn", buggy)
        async with simulate(jobs, store=lambda: MemoryStore(tables), start=NOON) as world:
            planner_cell = world.runtime.system.stage.registry["/schedules"]
            incarnations = planner_cell.generation
            await world.advance(seconds=59)

            assert sorted(6 * [0, 2, 3, 4]) == sorted(seen.payloads)
            assert incarnations == planner_cell.generation
            assert 1 == caplog.text.count("schedule k001 of default/j ")


async def test_somebody_else_is_faster_with_half_of_them(autojump_clock: trio.abc.Clock) -> None:
    """Those are left as they were made; the others are requested, in the same look, and nothing is read anew for it."""
    seen, books, n = Seen(), Books(), 60
    jobs = some_jobs(seen)
    many(jobs, n)

    def pause_half(store: MemoryStore, group: Sequence[SetSchedule], now: Any) -> None:
        half = [each for each in group if each.schedule.key < f"k{n // 2:03}"]
        stored = {each.key: each for each in books.tables.schedules.values()}
        MemoryStore.write(
            store,
            [SetSchedule(each.was, evolve(stored[each.schedule.key], paused=True)) for each in half],
            now,
        )

    async with simulate(jobs, store=books.store, start=NOON) as world:
        await world.advance(minutes=59)
        books.before.append(pause_half)
        books.groups.clear()
        reads = books.reads
        await world.advance(minutes=30)

        half = [f"k{k:03}" for k in range(n // 2, n)]
        assert [(key, NOON + HOUR) for key in half] == asked(world)
        assert ([n], reads) == (books.sizes(), books.reads)
        await jobs.schedules.resume("k000")
        await world.advance(minutes=31)
        assert [(key, NOON + 2 * HOUR) for key in ["k000", *half]] == asked(world)[n // 2 :]


async def test_somebody_else_is_faster_and_leaves_a_time_waiting(autojump_clock: trio.abc.Clock) -> None:
    """The run that it waited for has ended meanwhile, of which nobody tells: it is requested at once all the same."""
    seen, books = Seen(), Books()
    jobs = some_jobs(seen)
    many(jobs, 1, overlap="queue")

    def left_waiting(store: MemoryStore, group: Sequence[SetSchedule], now: Any) -> None:
        (was,) = books.tables.schedules.values()
        later_us = (was.next_us or 0) + 3_600_000_000
        MemoryStore.write(
            store,
            [SetSchedule(group[0].was, evolve(was, waiting_us=was.next_us, next_us=later_us, due_us=later_us))],
            now,
        )

    async with simulate(jobs, store=books.store, start=NOON) as world:
        await world.advance(minutes=59)
        books.before.append(left_waiting)
        await world.advance(minutes=1, seconds=1)

        assert [("k000", NOON + HOUR)] == asked(world)
        assert ["waited"] == [each.did for each in await jobs.schedules.history("k000")]


@stores
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_planner_that_is_killed_over_its_commit(
    autojump_clock: trio.abc.Clock, monkeypatch: Any, store: Any, when: Any
) -> None:
    """What it sent is done all the same, or by the next incarnation: each time has one run."""
    monkeypatch.setattr(planner, "STEPS", 20)
    seen = Seen()
    jobs = some_jobs(seen)
    many(jobs, 30, 10, start=NOON + 10 * SECOND, end=NOON + 50 * SECOND, misfire="all", overlap="allow")
    async with simulate(jobs, store=store, start=NOON) as world:
        await world.advance(seconds=9)
        world.faults.stall(1, seconds=3, when=when, on="set_schedule")
        await world.advance(seconds=2)
        world.runtime.system.stage.registry["/schedules"].kill()
        await world.advance(seconds=60)

        every = {(f"k{k:03}", NOON + s * SECOND) for k in range(30) for s in (10, 20, 30, 40, 50)}
        assert "set_schedule" in world.faults.happened[0].steps
        assert every == set(asked(world))
        assert len(every) == len(asked(world))


async def test_a_runtime_that_stops_over_its_commit(autojump_clock: trio.abc.Clock, monkeypatch: Any) -> None:
    """What was sent is written, and not much more is; the rest is requested by whoever opens next."""
    monkeypatch.setattr(planner, "STEPS", 10)
    seen, books, n = Seen(), Books(), 100
    jobs = some_jobs(seen)
    many(jobs, n)
    async with simulate(jobs, store=books.store, start=NOON) as world:
        await world.advance(minutes=59, seconds=59)
        books.groups.clear()
        books.before.append(lambda *_: world.runtime.stop())
        await world.advance(seconds=2)
        before = sum(books.sizes())
        await world.restart()
        await world.advance(seconds=2)

        assert 10 <= before <= 20
        assert [10] * 10 == books.sizes()
        assert [(f"k{k:03}", NOON + HOUR) for k in range(n)] == sorted(asked(world))


async def test_a_journal_with_too_much_to_do_is_left_alone(
    autojump_clock: trio.abc.Clock, caplog: Any, monkeypatch: Any
) -> None:
    """Schedules do not add to it: they are requested when there is room."""
    seen, books = Seen(), Books()
    jobs = some_jobs(seen)
    many(jobs, 20)
    async with simulate(jobs, store=books.store, start=NOON) as world:
        monkeypatch.setattr(planner, "MAX_WAITING", -1)
        books.groups.clear()
        with caplog.at_level(logging.WARNING, "callsheet.schedules"):
            await world.advance(hours=1, seconds=10)
        before = books.sizes()
        monkeypatch.undo()
        await world.advance(seconds=1)

        assert ([], [20]) == (before, books.sizes())
        assert 20 == len(seen.payloads)
        assert 1 == caplog.text.count("schedules cannot be looked after, trying again: ")


async def test_a_run_that_ends_while_others_are_looked_after(autojump_clock: trio.abc.Clock, monkeypatch: Any) -> None:
    """That a time has begun to wait for it is known before the look at all of them is over."""
    monkeypatch.setattr(planner, "STEPS", 1)
    seen = Seen()
    jobs = some_jobs(seen, takes_s=3602)
    many(jobs, 2, start=NOON, overlap="queue")
    async with simulate(jobs, start=NOON) as world:
        await world.advance(minutes=59, seconds=59)
        world.faults.stall(1, seconds=5, when="after", on="set_schedule")
        await world.advance(seconds=10)

        assert "set_schedule" in world.faults.happened[0].steps
        assert [("k000", NOON), ("k000", NOON + HOUR), ("k001", NOON), ("k001", NOON + HOUR)] == sorted(asked(world))


async def test_a_run_that_ends_while_the_store_refuses(autojump_clock: trio.abc.Clock) -> None:
    """The time that waits for it is requested when the store takes it."""
    seen = Seen()
    jobs = some_jobs(seen, takes_s=3700)
    many(jobs, 2, start=NOON, overlap="queue")
    async with simulate(jobs, start=NOON) as world:
        await world.advance(hours=1, seconds=99)
        world.faults.fail(1, on="set_schedule")
        await world.advance(seconds=4)

        assert [("k000", NOON), ("k000", NOON + HOUR), ("k001", NOON), ("k001", NOON + HOUR)] == sorted(asked(world))
        assert "set_schedule" in world.faults.happened[0].steps


# ---------------------------------------------------------------- when it looks


async def test_opening_does_not_wait_for_what_is_due(autojump_clock: trio.abc.Clock, monkeypatch: Any) -> None:
    """However much that is: what the code declares is in the store, and the rest comes after."""
    monkeypatch.setattr(planner, "STEPS", 10)
    seen, books = Seen(), Books()
    jobs = some_jobs(seen)
    many(jobs, 300)
    wall = Wall()
    async with open_house(books.store, jobs, wall=wall):
        assert [10] * 30 == books.sizes()
        await trio.sleep(1)
    wall.offset_s += 7200
    books.groups.clear()
    async with open_house(books.store, jobs, wall=wall):
        at_once = len(books.groups)
        await trio.sleep(1)

        assert at_once < 5
        assert [10] * 30 == books.sizes()


async def test_other_runs_are_nothing_to_a_time_that_waits(autojump_clock: trio.abc.Clock) -> None:
    """Only where a run of a schedule ends does anybody look whether one that waits may go."""
    seen = Seen()
    jobs = some_jobs(seen, takes_s=5000)

    @jobs.task("other")
    async def other(_payload: Any, _ctx: Context) -> None: ...

    jobs.every("k", 3600, "work", start=NOON, overlap="queue")
    with looks() as found:
        async with simulate(jobs, start=NOON) as world:
            await world.advance(hours=1, seconds=1)
            found.clear()
            for _ in range(20):
                await jobs.enqueue("other", None)
                await world.advance(seconds=1)
            before = len(found)
            await world.advance(seconds=1400)

            assert 0 == before
            assert [NOON, NOON + HOUR] == seen.times


async def test_schedules_are_not_read_all_the_time(autojump_clock: trio.abc.Clock, monkeypatch: Any) -> None:
    """Others may write without a pause: a tenth of the time goes into reading at most, and it is never a second late."""
    seen, reads = Seen(), [0]
    jobs = some_jobs(seen)
    many(jobs, 3)
    read = Runtime.read

    async def slow(self: Runtime, what: Any) -> Any:
        reads[0] += 1
        await trio.sleep(0.05)
        return await read(self, what)

    async with open_house(MemoryStore(Tables()), jobs, wall=Wall()) as runtime:
        await trio.sleep(2)
        monkeypatch.setattr(Runtime, "read", slow)
        for _ in range(1000):
            runtime.planned.others_wrote()
            await trio.sleep(0.01)

        assert 15 <= reads[0] <= 10 / 0.05 * planner.READ_SHARE + 1


@define(eq=False)
class Drifting(Wall):
    """A wall clock that goes wrong by a part of the time, and does not jump."""

    rate: float = 0.0

    def __call__(self) -> int:
        return super().__call__() + round((trio.current_time() - self._from_s) * self.rate * 1e6) * 1000


@pytest.mark.parametrize("rate", [0.005, -0.005, 0.0005, -0.0005])
async def test_p7_a_wall_clock_that_drifts(autojump_clock: trio.abc.Clock, rate: float) -> None:
    """By less in a second than anybody calls setting it: times are those of that clock all the same, never early."""
    seen = Seen()
    jobs = some_jobs(seen)
    jobs.every("k", 300, "work")
    async with open_house(MemoryStore(Tables()), jobs, wall=Drifting(rate=rate)) as runtime:
        await trio.sleep(1200 / (1 + rate) + 1)
        history = await jobs.schedules.history("k")

        assert 4 == len(history)
        late_s = [(each.at - each.nominal).total_seconds() for each in history]
        assert 0 <= min(late_s) <= max(late_s) <= 0.02
        assert runtime.is_open


async def test_a_wall_clock_that_is_set_while_the_calendar_is_mended(autojump_clock: trio.abc.Clock) -> None:
    """Whoever comes after it looks at the clock as it is then."""
    seen, wall = Seen(), Wall()
    jobs = some_jobs(seen)
    jobs.every("k", 3600, "work")
    async with open_house(MemoryStore(Tables()), jobs, wall=wall) as runtime:
        await trio.sleep(10)
        runtime.system.stage.registry["/calendar"].kill()
        wall.offset_s += 3600
        await trio.sleep(7)

        assert 1 == len(seen.times)
        (fired,) = await jobs.schedules.history("k")
        assert (fired.at - fired.nominal).total_seconds() < 17 + math.ulp(1)
