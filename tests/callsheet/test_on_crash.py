"""What becomes of a run under which the process died, as its task says."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from callsheet import Context, Jobs, Status
from callsheet.store.contract import Claim, Insert
from callsheet.store.records import Lane, NewRun, Owner

from .house import NOON_NS, Place, open_house, outcomes_of, settle, write

NOON_US = NOON_NS // 1000
DEAD = Owner("dead", 1, "here", NOON_US)


def paying(started: list[str], **options: Any) -> Jobs:
    jobs = Jobs("j")

    @jobs.task("pay", **options)
    async def pay(_: object, ctx: Context) -> None:
        started.append(ctx.run_id)

    return jobs


def crash(place: Place, *tasks: str) -> None:
    """Leave a run of each task running under a process that is no more."""
    lanes = tuple(Lane("default/j", "default/j-jobs", task, "1") for task in tasks)
    runs = tuple(NewRun(f"run-{lane.task}", lane, b"1", NOON_US) for lane in lanes)
    write(place, DEAD, Insert(runs), Claim(DEAD.boot_id, b"c" * 16, lanes, len(lanes), 15_000_000))


@pytest.mark.parametrize("task", ["pay", "pay-old"])
async def test_a_task_that_may_begin_at_most_once_is_dead_lettered(
    autojump_clock: trio.abc.Clock, place: Place, task: str
) -> None:
    """With on_crash="dead_letter" a run is never started again after a crash, also one under an older name."""
    crash(place, task)
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
    crash(place, "pay", "other")
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
