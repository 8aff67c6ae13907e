"""What becomes of a run under which the process died, as its task says."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from callsheet import Context, Discard, Jobs, Status
from callsheet.options import OnCrash
from callsheet.store.contract import Claim, Insert
from callsheet.store.records import Lane, NewRun, Owner
from callsheet.testing import Hang, Raise, simulate

from .house import NOON_NS, Place, open_house, outcomes_of, settle, write

NOON_US = NOON_NS // 1000
DEAD = Owner("dead", 1, "here", NOON_US)


def paying(started: list[str], **options: Any) -> Jobs:
    jobs = Jobs("j")

    @jobs.task("pay", **options)
    async def pay(_: object, ctx: Context) -> None:
        started.append(ctx.run_id)

    return jobs


def declared_later(how: str) -> Jobs:
    if not how.startswith("renamed"):
        return paying([], on_crash=how)
    jobs = Jobs("j")
    jobs.task("charge", aliases=("pay",), on_crash="dead_letter")(paying([]).tasks["pay"].handler)
    return jobs


def crash(place: Place, *tasks: str, at_most_once: tuple[str, ...] = ()) -> None:
    """Leave a run of each task running under a process that is no more."""
    lanes = tuple(Lane("default/j", "default/j-jobs", task, "1") for task in tasks)
    runs = tuple(
        NewRun(f"run-{lane.task}", lane, b"1", NOON_US, at_most_once=lane.task in at_most_once) for lane in lanes
    )
    write(place, DEAD, Insert(runs), Claim(DEAD.boot_id, b"c" * 16, lanes, len(lanes), 15_000_000))


@pytest.mark.parametrize("task", ["pay", "pay-old"])
async def test_a_task_that_may_begin_at_most_once_is_dead_lettered(
    autojump_clock: trio.abc.Clock, place: Place, task: str
) -> None:
    """With on_crash="dead_letter" a run is never started again after a crash, also one under an older name."""
    crash(place, task, at_most_once=(task,))
    started: list[str] = []
    jobs = paying(started, on_crash="dead_letter", aliases=("pay-old",))

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        run = (await jobs.runs.get(f"run-{task}")).run
        assert ["crashed"] == await outcomes_of(jobs, run.id)

    assert (Status.DEAD_LETTERED, "on_crash") == (run.status, run.cause)
    assert [] == started


async def test_every_other_task_is_tried_again(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """By default a crash costs time, and no try; the setting of one task is none of another's business."""
    crash(place, "pay", "other", at_most_once=("other",))
    started: list[str] = []
    jobs = paying(started)
    jobs.task("other", on_crash="dead_letter")(jobs.tasks["pay"].handler)

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        run = (await jobs.runs.get("run-pay")).run
        other = (await jobs.runs.get("run-other")).run

    assert (Status.SUCCEEDED, 2, 0) == (run.status, run.attempt, run.spent)
    assert Status.DEAD_LETTERED == other.status
    assert ["run-pay"] == started


@pytest.mark.parametrize("deploy", ["other jobs", "without the task", "the task as it was declared before"])
async def test_it_holds_whoever_takes_the_run_back(mock_clock: trio.abc.Clock, place: Place, deploy: str) -> None:
    """A run was requested as one that begins at most once: what the process that opens next declares changes nothing."""
    started: list[str] = []
    jobs = paying(started, on_crash="dead_letter")
    other = {
        "other jobs": Jobs("other"),
        "without the task": Jobs("j"),
        "the task as it was declared before": paying(started),
    }[deploy]
    async with simulate(jobs, store=place) as world:
        world.script("pay", [Hang()])
        run_id = (await jobs.enqueue("pay")).run_id
        await world.settle()
        assert Status.RUNNING is world.history(run_id).run.status
        await world.crash()

    async with simulate(other, store=place, seed=2) as world:
        await world.advance(seconds=200)
    async with simulate(jobs, store=place, seed=3) as world:
        await world.advance(seconds=200)
        run = world.history(run_id).run

    assert (Status.DEAD_LETTERED, "on_crash", 1) == (run.status, run.cause, run.attempt)
    assert [] == started


async def test_a_run_is_what_its_task_was_when_it_was_requested(mock_clock: trio.abc.Clock, place: Place) -> None:
    """A task that asks for it from now on says nothing of the runs that were requested before."""
    started: list[str] = []
    before, after = paying(started), paying(started, on_crash="dead_letter")
    async with simulate(before, store=place) as world:
        world.script("pay", [Hang()])
        run_id = (await before.enqueue("pay")).run_id
        await world.settle()
        await world.crash()

    async with simulate(after, store=place, seed=2) as world:
        await world.advance(seconds=200)
        run = world.history(run_id).run

    assert (Status.SUCCEEDED, 2) == (run.status, run.attempt)
    assert [run_id] == started


@pytest.mark.parametrize("then", ["retry", "dead_letter", "renamed to dead_letter", None])
@pytest.mark.parametrize("first", ["retry", "dead_letter"])
@pytest.mark.parametrize("in_bulk", [False, True])
async def test_a_replay_goes_by_what_its_task_says_now(
    mock_clock: trio.abc.Clock, place: Place, first: OnCrash, then: str | None, in_bulk: bool
) -> None:
    """It is a new request; where the task is not declared any more, the run that it replays decides."""
    before = paying([], on_crash=first)
    async with simulate(before, store=place) as world:
        world.script("pay", [Raise(Discard("no"))])
        run_id = (await before.enqueue("pay")).run_id
        await world.until_idle()
        assert (first == "dead_letter") is world.history(run_id).run.at_most_once

    now = Jobs("j") if then is None else declared_later(then)
    async with simulate(now, store=place, seed=2) as world:
        await (now.runs.replay_all() if in_bulk else now.runs.replay(run_id))
        [again] = [run for run in world.runs() if run.replay_of == run_id]

    wanted = (first if then is None else then).endswith("dead_letter")
    assert wanted is again.at_most_once


async def test_what_a_stop_interrupts_is_no_crash(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A runtime that stops hands such a run back like any other, and so does a task supervisor that dies."""
    jobs = Jobs("j")
    may_end = trio.Event()

    @jobs.task("pay", on_crash="dead_letter")
    async def pay(_: object, ctx: Context) -> None:
        await may_end.wait()

    async with open_house(place, jobs, grace=0) as runtime:
        run = await pay.enqueue(None)
        await settle()
        runtime.system.stage.registry["/tasks/default/j/pay"].kill()
        await trio.sleep(2)
    may_end.set()
    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        *before, last = await outcomes_of(jobs, run.run_id)

    assert ({"interrupted"}, "succeeded") == (set(before), last)
    assert 2 <= len(before)
