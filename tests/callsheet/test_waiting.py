"""Who waits for what in a runtime, as its wheel knows it."""

from __future__ import annotations

import pytest
import trio

from callsheet import Context, Jobs, Queue, SyncContext, WaitTimeout

from .house import Place, open_house, settle


def jobs_that_wait() -> Jobs:
    """A queue of one slot, a run that sleeps in it, a schedule."""
    jobs = Jobs("j", queue=Queue(concurrency=1))

    @jobs.task("work", timeout=600)
    async def work(seconds: float, ctx: Context) -> None:
        await trio.sleep(seconds)

    @jobs.task("plain")
    def plain(seconds: float, ctx: SyncContext) -> None:
        ctx.sleep(seconds)

    jobs.every("pulse", 50, "work", 0)
    return jobs


async def test_the_wheel_knows_who_waits(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Each that waits is one timer, or a few, in its own name; whoever waits no more has none."""
    jobs = jobs_that_wait()
    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue("plain", 10)
        run = await jobs.enqueue("work", 20)
        later = await jobs.enqueue("work", 0, delay=30)
        await trio.sleep(0.5)  # whole seconds are when everybody looks
        counts = runtime.system.stage.timers.counts
        standing = {"/calendar": 2, "/schedules": 1}  # its look and the delayed run; the next time of the schedule
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.until_idle)
            nursery.start_soon(lambda: jobs.runs.wait(run.run_id, timeout=40))
            nursery.start_soon(lambda: jobs.runs.wait(later.run_id))  # as long as it takes: no timer
            await settle()
            assert {**standing, "until_idle": 1, "runs.wait": 1, "ctx.sleep": 1} == counts()

            await trio.sleep(15)
            assert {**standing, "until_idle": 1, "runs.wait": 1} == counts()
            nursery.cancel_scope.cancel()

        assert standing == counts()


async def test_a_wait_for_a_run_ends_in_its_time_and_leaves_no_timer(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """`timeout` is never early, and what comes of it is nobody's timer any more; so it is when the run ended before."""
    jobs = jobs_that_wait()
    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("work", 20)
        began_s = trio.current_time()

        with pytest.raises(WaitTimeout):
            await jobs.runs.wait(run.run_id, timeout=5)
        assert 5 == trio.current_time() - began_s
        await jobs.runs.wait(run.run_id, timeout=500)
        assert 20 == round(trio.current_time() - began_s, 3)

        assert "runs.wait" not in runtime.system.stage.timers.counts()
        assert 0 == len(runtime.system.stage.waits)
