"""Stores that fail on purpose and processes that are killed: what a world does, and that it is what really happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from callsheet import (
    CallsheetError,
    Context,
    Jobs,
    NotOpen,
    OutcomeUnknown,
    Queue,
    Retry,
    RunNotFound,
    Status,
    StoreBusy,
    StoreFull,
)
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.testing import Die, Hang, NotRunning, Raise, Return, Sleep, Swallow, World, run, simulate


def some_jobs() -> Jobs:
    jobs = Jobs("j", queue=Queue(concurrency=3), retry=Retry(attempts=3, backoff="fixed", initial_delay=60))

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> int:
        return ctx.attempt

    return jobs


def outcomes(world: World, run_id: str) -> list[str]:
    return [str(each.outcome) for each in world.history(run_id).attempts]


# ---------------------------------------------------------------- commits


async def test_a_refused_commit_leaves_nothing_and_the_caller_is_told(mock_clock: trio.abc.Clock) -> None:
    """`fail(when="before")`: as a busy database; the next call succeeds."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        world.faults.fail(on="enqueue")
        with pytest.raises(StoreBusy):
            await jobs.enqueue("work", run_id="first")
        await jobs.enqueue("work", run_id="second")

        assert ["second"] == [each.id for each in world.runs()]
        assert [("refuse", "before", ("enqueue",))] == [(e.kind, e.when, e.steps) for e in world.faults.happened]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_whose_outcome_is_unknown_is_found_out(mock_clock: trio.abc.Clock, when: Any) -> None:
    """Whether it was written or not: the runtime looks, and an enqueue is acknowledged once."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        world.faults.fail(when=when, unknown=True, on="enqueue")
        with world.flowing():
            result = await jobs.enqueue("work")
        await world.until_idle()

        assert [(result.run_id, Status.SUCCEEDED)] == [(each.id, each.status) for each in world.runs()]
        assert [when] == [each.when for each in world.faults.happened]


async def test_commits_are_counted_from_when_the_fault_was_planned(mock_clock: trio.abc.Clock) -> None:
    """The second enqueue after the plan fails, whatever the runtime writes besides."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        await jobs.enqueue("work", run_id="a")
        await world.until_idle()
        world.faults.fail(2, on="enqueue")
        await jobs.enqueue("work", run_id="b")
        await world.until_idle()
        with pytest.raises(StoreBusy):
            await jobs.enqueue("work", run_id="c")
        world.faults.fail(1)
        with pytest.raises(StoreBusy):
            await jobs.enqueue("work", run_id="d")

        assert ["a", "b"] == [each.id for each in world.runs()]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_stalled_commit_takes_virtual_time(mock_clock: trio.abc.Clock, when: Any) -> None:
    """It is durable at the end of the stall or at its beginning; its caller waits either way."""
    jobs = some_jobs()
    acknowledged: list[float] = []

    async def enqueue() -> None:
        await jobs.enqueue("work", run_id="a")
        acknowledged.append(trio.current_time())

    async with simulate(jobs) as world, trio.open_nursery() as nursery:
        world.faults.stall(seconds=5, when=when, on="enqueue")
        nursery.start_soon(enqueue)
        await world.advance(seconds=4)
        assert ([], []) == (acknowledged, [] if when == "before" else acknowledged)
        assert (when == "after") is bool(world.runs())
        await world.advance(seconds=1)

        assert [5.0] == acknowledged
        assert ["a"] == [each.id for each in world.runs()]


async def test_a_full_store_heals(mock_clock: trio.abc.Clock) -> None:
    """New work is refused, what is acknowledged is kept, and goes on when there is space again."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        world.script("work", [Sleep(10)])
        result = await jobs.enqueue("work")
        await world.settle()
        world.faults.full()
        with pytest.raises(StoreFull):
            await jobs.enqueue("work")
        await world.advance(seconds=60)
        assert Status.RUNNING is world.history(result.run_id).run.status
        world.faults.heal()
        await world.until_idle()
        assert Status.SUCCEEDED is world.history(result.run_id).run.status

        world.faults.full(commits=range(1, 3))
        refused = 0
        for _ in range(4):
            try:
                await jobs.enqueue("work")
            except StoreFull:
                refused += 1
        assert 2 == refused


def test_faults_by_chance_follow_from_the_seed() -> None:
    """A rate over many commits, of the kinds that were asked for; `heal` ends it."""

    async def main(seed: int) -> list[Any]:
        jobs = some_jobs()
        async with simulate(jobs, seed=seed) as world:
            world.faults.random(0.3, ["refuse", "stall"])
            for _ in range(40):
                try:
                    with world.flowing():
                        await jobs.enqueue("work")
                except StoreBusy:
                    pass
            world.faults.heal()
            n = len(world.faults.happened)
            await world.until_idle()
            assert n == len(world.faults.happened)
            return world.faults.happened

    first, again, other = run(main, 5), run(main, 5), run(main, 6)

    assert {"refuse", "stall"} == {each.kind for each in first}
    assert first == again
    assert first != other


async def test_a_plan_that_cannot_be_meant_is_refused(mock_clock: trio.abc.Clock) -> None:
    """Before anything happens, in a sentence."""
    async with simulate(some_jobs()) as world:
        with pytest.raises(ValueError, match="counted from 1, and 0"):
            world.faults.fail(0)
        with pytest.raises(ValueError, match="'inserts' is none of them"):
            world.faults.crash(on="inserts")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match='"before" or "after"'):
            world.faults.stall(seconds=1, when="during")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="stall must be at least 0"):
            world.faults.stall(seconds=-1)
        with pytest.raises(ValueError, match="range of commits"):
            world.faults.full(range(3))
        with pytest.raises(ValueError, match="rate from 0 to 1"):
            world.faults.random(2)
        with pytest.raises(ValueError, match="kinds out of"):
            world.faults.random(0.5, ["full"])  # type: ignore[list-item]

        assert [] == world.faults.planned


# ---------------------------------------------------------------- processes


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_kill_is_a_kill(mock_clock: trio.abc.Clock, store: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No time goes by, nothing is handed back, and nothing that a handler does on its way out reaches the store."""
    jobs = some_jobs()
    tried: list[str] = []

    @jobs.task("tidy")
    async def tidy(_: object, ctx: Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for enqueue in (ctx.enqueue, jobs.enqueue):
                    try:
                        await enqueue("work", run_id="from the grave")
                    except CallsheetError as error:
                        tried.append(type(error).__name__)

    async with simulate(jobs, store=store) as world:
        result = await jobs.enqueue("tidy")
        await world.advance(seconds=3)
        await world.crash()

        assert 3.0 == trio.current_time()
        assert ["OutcomeUnknown", "OutcomeUnknown"] == tried
        assert "" == caplog.text
        assert [Status.RUNNING] == [each.status for each in world.runs()]
        with pytest.raises(NotRunning, match=r"await world\.restart\(\)"):
            _ = world.runtime
        with pytest.raises(NotRunning):
            await world.until_idle()
        with pytest.raises(NotRunning):
            await world.crash()
        with pytest.raises(NotRunning):
            await world.perform("work")
        with pytest.raises(NotOpen):
            await jobs.enqueue("work")

        await world.check()
        world.script("tidy", [Return()])
        await world.restart()
        await world.until_idle()
        assert ["crashed", "succeeded"] == outcomes(world, result.run_id)
        assert 1 == len(world.runs())


async def test_what_shields_itself_from_the_kill_is_a_ghost(mock_clock: trio.abc.Clock) -> None:
    """It runs on, beside the new process, and changes nothing; nor does what it had started elsewhere."""
    jobs = some_jobs()
    ghosts: list[str] = []

    async def enqueues_later() -> None:
        await trio.sleep(30)
        try:
            await jobs.enqueue("work")
        except OutcomeUnknown as error:
            ghosts.append(str(error))

    @jobs.task("hire")
    async def hire(_: object, ctx: Context) -> None:
        if ctx.attempt == 1:
            ctx.app.start_soon(enqueues_later)
            await trio.sleep_forever()

    @jobs.task("haunt")
    async def haunt(_: object, ctx: Context) -> str:
        if ctx.attempt > 1:
            return "second"
        with trio.CancelScope(shield=True):
            await enqueues_later()
        return "first"

    for task in ("haunt", "hire"):
        async with trio.open_nursery() as nursery, simulate(jobs, app=nursery) as world:
            result = await jobs.enqueue(task)
            await world.settle()
            await world.crash()
            await world.restart()
            await world.advance(minutes=1)

            assert ["memory: whether the last commit is durable is unknown (its process was killed)"] == ghosts
            assert ["crashed", "succeeded"] == outcomes(world, result.run_id)
            assert 1 == len(world.runs())
            ghosts.clear()


async def test_whoever_waits_for_a_killed_process_learns_that_it_cannot_know(mock_clock: trio.abc.Clock) -> None:
    """A call that was under way ends with OutcomeUnknown; `runs.wait` of the body with NotOpen."""
    jobs = some_jobs()
    ends: list[str] = []

    async def call(what: Callable[[], Awaitable[object]]) -> None:
        try:
            await what()
        except CallsheetError as error:
            ends.append(type(error).__name__)

    async with simulate(jobs) as world, trio.open_nursery() as nursery:
        world.script("work", [Hang()])
        result = await jobs.enqueue("work")
        await world.settle()
        world.faults.stall(seconds=1e6)
        nursery.start_soon(call, lambda: jobs.enqueue("work"))
        await world.settle()
        nursery.start_soon(call, lambda: jobs.enqueue("work"))
        nursery.start_soon(call, lambda: jobs.runs.cancel(result.run_id))
        nursery.start_soon(call, lambda: jobs.runs.wait(result.run_id))
        await world.settle()
        assert [] == ends
        await world.crash()

        assert ["NotOpen", "OutcomeUnknown", "OutcomeUnknown", "OutcomeUnknown"] == sorted(ends)
        assert [result.run_id] == [each.id for each in world.runs()]


@pytest.mark.parametrize(("when", "kept"), [("before", False), ("after", True)])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_crash_at_a_commit_comes_before_or_after_it(
    mock_clock: trio.abc.Clock, store: Any, when: Any, kept: bool
) -> None:
    """What was not written is gone, what was written is there; the process starts again by itself."""
    jobs = some_jobs()

    async with simulate(jobs, store=store) as world:
        boot = world.runtime.boot_id
        world.faults.crash(when=when, on="enqueue")
        with pytest.raises(OutcomeUnknown, match="its process was killed"):
            await jobs.enqueue("work", run_id="a")
        await world.until_idle()

        assert boot != world.runtime.boot_id
        assert kept is bool(world.runs())
        again = await jobs.enqueue("work", run_id="a")
        await world.until_idle()
        assert kept is again.deduped
        assert ["succeeded"] == outcomes(world, "a")


async def test_a_crash_while_the_process_starts_is_followed_by_another_start(mock_clock: trio.abc.Clock) -> None:
    """Three kills within the first commits of three lives: the fourth does the work."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        await jobs.enqueue("work", run_id="a")
        world.faults.crash(on="settle")
        for n in (1, 2):
            world.faults.crash(n, on="register")
        await world.until_idle()

        assert ["crashed", "succeeded"] == outcomes(world, "a")
        assert 3 == len(world.faults.happened)


async def test_a_clean_restart_hands_back_and_goes_on(mock_clock: trio.abc.Clock) -> None:
    """`restart` of a living world closes it in order: what does not end within the grace is interrupted, unspent."""
    jobs = some_jobs()

    async with simulate(jobs, grace=2) as world:
        script = world.script("work", [Hang(), Sleep(1)])
        hanging = await jobs.enqueue("work")
        await jobs.enqueue("work")
        await world.settle()
        await world.restart()
        await world.until_idle()

        assert ["interrupted", "succeeded"] == outcomes(world, hanging.run_id)
        assert 3 == len(script.calls)
        assert 2.0 == trio.current_time()


async def test_dying_handlers_make_a_crash_loop_that_ends_as_poison(mock_clock: trio.abc.Clock) -> None:
    """`Die` kills the process under a run each time it starts, until the run is taken for the culprit."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        script = world.script("work", [Die()] * 6)
        result = await jobs.enqueue("work")
        await world.until_idle()

        assert ["crashed"] * 5 == outcomes(world, result.run_id)
        assert Status.DEAD_LETTERED is world.history(result.run_id).run.status
        assert (5, 1) == (len(script.calls), len(script.left))


async def test_a_handler_that_outlives_its_runtime_stays_running(mock_clock: trio.abc.Clock) -> None:
    """It is the one run that may be left running at the end of the block, and its late value is not kept."""
    jobs = some_jobs()

    async with simulate(jobs, grace=0) as world:
        world.script("work", [Swallow(100, Return("late"))])
        result = await jobs.enqueue("work")
        await world.settle()
        await world.restart()

        assert 100.0 == trio.current_time()
        await world.until_idle()
        assert ["crashed", "succeeded"] == outcomes(world, result.run_id)
        world.script("work", [Swallow(100, Return("late"))])
        await jobs.enqueue("work")
        await world.settle()

    assert 200.0 == trio.current_time()


async def test_a_world_runs_on_any_store(mock_clock: trio.abc.Clock) -> None:
    """A third party's store is made anew for each process, over the same data."""
    tables, made = Tables(), 0

    def place() -> MemoryStore:
        nonlocal made
        made += 1
        return MemoryStore(tables, name="mine")

    jobs = some_jobs()
    async with simulate(jobs, store=place) as world:
        await jobs.enqueue("work")
        await world.restart()
        assert "mine" == world.runtime.store.name

    assert made >= 2
    assert 1 == len(tables.runs)


async def test_a_store_that_cannot_be_opened_says_so_as_open_does(mock_clock: trio.abc.Clock) -> None:
    """The error of the first open comes out of `simulate`, that of a restart out of `restart`."""
    jobs = some_jobs()
    broken = True

    class Broken(MemoryStore):
        def open(self, owner: Any) -> None:
            if broken:
                raise StoreFull("the moon")
            super().open(owner)

    with pytest.raises(StoreFull, match="the moon"):
        async with simulate(jobs, store=Broken):
            raise AssertionError("opened")

    broken = False
    tables = Tables()
    async with simulate(jobs, store=lambda: Broken(tables)) as world:
        broken = True
        with pytest.raises(StoreFull, match="the moon"):
            await world.restart()
        broken = False
        await world.restart()
        await jobs.enqueue("work")
        with pytest.raises(RunNotFound):
            await jobs.runs.get("nobody")


async def test_a_crash_asks_for_raise_and_hang_alike(mock_clock: trio.abc.Clock) -> None:
    """Scripts go on over crashes: what is left of them is for the attempts that follow."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        script = world.script("work", [Hang(), Raise(OSError("down")), Return("up")])
        result = await jobs.enqueue("work")
        await world.settle()
        await world.crash()
        await world.restart()
        await world.until_idle()

        assert ["crashed", "failed", "succeeded"] == outcomes(world, result.run_id)
        assert "up" == world.history(result.run_id).result
        assert [1, 2, 3] == [each.attempt for each in script.calls]
        assert [] == script.left
