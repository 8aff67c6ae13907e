"""What a handler tells of itself while it runs."""

from __future__ import annotations

import pytest
import trio

from callsheet import Context, Jobs, PayloadInvalid, PayloadTooLarge, Retry, Runtime, Status, SyncContext
from callsheet.store.contract import NoteRunning

from .house import Place, open_house, settle


def count_notes(runtime: Runtime) -> list[tuple[float, object]]:
    """When each progress was committed, and which."""
    notes: list[tuple[float, object]] = []
    began_s = trio.current_time()
    runtime.journal.on_committed.append(
        lambda commands, _: notes.extend(
            (round(trio.current_time() - began_s, 2), each.progress)
            for each in commands
            if isinstance(each, NoteRunning)
        )
    )
    return notes


async def test_progress_can_be_read_while_the_run_runs_and_after_it(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """The first value is written at once; the last one stays after the end."""
    jobs = Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        ctx.progress({"done": 1, "of": 3})
        await trio.sleep(10)
        ctx.progress({"done": 3, "of": 3})

    async with open_house(place, jobs) as runtime:
        run = await work.enqueue(None)
        assert (await jobs.runs.get(run.run_id)).progress is None
        await settle()
        during = await jobs.runs.get(run.run_id)
        await runtime.until_idle()
        after = await jobs.runs.get(run.run_id)

    assert (Status.RUNNING, {"done": 1, "of": 3}) == (during.run.status, during.progress)
    assert (Status.SUCCEEDED, {"done": 3, "of": 3}) == (after.run.status, after.progress)


async def test_the_latest_wins_and_is_written_four_times_a_second(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """However often it is told; what is pending at the end is written with the end."""
    jobs = Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        for n in range(100):
            ctx.progress(n)
            await trio.sleep(0.01)
        ctx.progress("last")

    async with open_house(memory, jobs) as runtime:
        notes = count_notes(runtime)
        run = await work.enqueue(None)
        await runtime.until_idle()
        assert "last" == (await jobs.runs.get(run.run_id)).progress
        await trio.sleep(10)

    assert [0.0, 0.25, 0.5, 0.75] == [when_s for when_s, _ in notes if when_s < 0.99]
    assert b'"last"' not in [body for _, body in notes]
    assert len(notes) <= 5


async def test_what_is_told_while_a_value_is_written_is_written_next(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A value that comes before the commit of the one before it is not taken for that one."""
    jobs = Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        ctx.progress("first")
        ctx.progress("second")
        await trio.sleep(60)

    async with open_house(memory, jobs) as runtime:
        notes = count_notes(runtime)
        run = await work.enqueue(None)
        await trio.sleep(30)
        assert "second" == (await jobs.runs.get(run.run_id)).progress
        await runtime.until_idle()

    assert [(0.0, b'"first"'), (0.25, b'"second"')] == notes


async def test_a_thread_tells_too(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """From a plain function it is the same, and also waits for nothing."""
    jobs = Jobs("j")

    @jobs.task("work")
    def work(_: object, ctx: SyncContext) -> None:
        for n in range(1_000):
            ctx.progress(n)
        ctx.sleep(60)
        ctx.progress("almost")

    async with open_house(place, jobs) as runtime:
        notes = count_notes(runtime)
        run = await work.enqueue(None)
        await trio.sleep(30)
        during = (await jobs.runs.get(run.run_id)).progress
        await runtime.until_idle()
        after = (await jobs.runs.get(run.run_id)).progress

    assert (999, "almost") == (during, after)
    assert len(notes) <= 5


@pytest.mark.parametrize(
    ("value", "error"),
    [(float("nan"), PayloadInvalid), ({1: 2}, PayloadInvalid), (b"x", PayloadInvalid), ("x" * 16_384, PayloadTooLarge)],
)
async def test_what_cannot_be_kept_is_refused(
    autojump_clock: trio.abc.Clock, memory: Place, value: object, error: type[Exception]
) -> None:
    """Progress is JSON of at most 16 KiB: the handler is told at once, and what was kept before stays."""
    jobs = Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        ctx.progress("x" * 16_382)
        with pytest.raises(error, match=r"^progress is"):
            ctx.progress(value)

    async with open_house(memory, jobs) as runtime:
        run = await work.enqueue(None)
        await runtime.until_idle()
        ended = await jobs.runs.get(run.run_id)

    assert (Status.SUCCEEDED, "x" * 16_382) == (ended.run.status, ended.progress)


async def test_a_failed_attempt_leaves_its_progress_to_the_next(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """It is the run's: what an attempt told stays until another one tells something else."""
    jobs = Jobs("j", retry=Retry(attempts=2))

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        if ctx.attempt == 1:
            ctx.progress("half")
            raise ValueError

    async with open_house(memory, jobs) as runtime:
        run = await work.enqueue(None)
        await runtime.until_idle()
        assert "half" == (await jobs.runs.get(run.run_id)).progress


async def test_a_canceled_run_keeps_nothing_that_came_too_late(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """After the cancel is acknowledged the run is as it was."""
    jobs = Jobs("j")

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        ctx.progress("before")
        try:
            await trio.sleep_forever()
        finally:
            ctx.progress("after")

    async with open_house(memory, jobs) as runtime:
        run = await work.enqueue(None)
        await trio.sleep(1)
        await jobs.runs.cancel(run.run_id)
        await runtime.until_idle()
        await trio.sleep(1)
        assert "before" == (await jobs.runs.get(run.run_id)).progress
