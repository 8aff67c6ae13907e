"""Steering queues while they work: pause, resume, limits for one runtime and for all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from callsheet import Context, InvalidOption, Jobs, Queue, QueueOverride, Status, UnknownQueue, open_runtime
from callsheet.actors.seams import Seams
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables

from .house import Place, Wall, open_house, settle, statuses


def sleepers(**options: Any) -> tuple[Jobs, list[int], Callable[[], int]]:
    """Jobs whose runs sleep ten seconds; what began, and how many are on at most."""
    jobs = Jobs("j", queue=Queue(**{"concurrency": 2, **options}), queues=[Queue("mail")])
    began: list[int] = []
    now = most = 0

    @jobs.task("work")
    async def work(n: int, ctx: Context) -> None:
        nonlocal now, most
        began.append(n)
        now += 1
        most = max(most, now)
        try:
            await trio.sleep(10)
        finally:
            now -= 1

    return jobs, began, lambda: most


async def enqueue(jobs: Jobs, n: int) -> list[str]:
    return [(await jobs.enqueue("work", each)).run_id for each in range(n)]


# ---------------------------------------------------------------- pause and resume


async def test_a_paused_queue_starts_nothing_more(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """What runs goes on to its end; other queues go on; resume starts what waited."""
    jobs, began, _ = sleepers()
    async with open_house(place, jobs) as runtime:
        runs = await enqueue(jobs, 4)
        await settle()
        paused = await jobs.queues.pause()
        await jobs.enqueue("work", 100, queue="mail")
        await trio.sleep(60)

        assert (True, "j-jobs", {Status.QUEUED: 2, Status.SCHEDULED: 0, Status.RETRYING: 0}) == (
            paused.paused,
            paused.name,
            paused.waiting,
        )
        assert [0, 1, 100] == sorted(began)
        assert ["succeeded"] * 2 + ["queued"] * 2 == await statuses(jobs, runs)

        resumed = await jobs.queues.resume()
        await runtime.until_idle()

        assert not resumed.paused
        assert ["succeeded"] * 4 == await statuses(jobs, runs)


async def test_a_pause_outlives_the_process(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """It is stored, and holds from the first moment of the next runtime; nobody waits for what is paused."""
    jobs, began, _ = sleepers()
    async with open_house(place, jobs):
        await jobs.queues.pause("j-jobs")
    async with open_house(place, jobs) as runtime:
        await enqueue(jobs, 2)
        await runtime.until_idle()
        await trio.sleep(30)

        assert ([], True) == (began, (await jobs.queues.get()).paused)

        await jobs.queues.resume()
        await runtime.until_idle()

    assert [0, 1] == sorted(began)


# ---------------------------------------------------------------- limits


async def test_limits_said_at_run_time_win_over_the_code_until_reset(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """More slots are used at once, fewer end nothing that runs; both the code's and what was said are shown."""
    jobs, _, most = sleepers()
    async with open_house(place, jobs) as runtime:
        await enqueue(jobs, 9)
        await settle()
        raised = await jobs.queues.set(concurrency=5, batch_size=3)
        await settle()

        assert (5, 3, 2) == (raised.concurrency, raised.batch_size, raised.declared.concurrency)
        assert 5 == runtime.on_stage

        lowered = await jobs.queues.set(concurrency=1)
        await trio.sleep(11)

        assert (1, 3) == (lowered.concurrency, lowered.batch_size)
        assert 1 == runtime.on_stage
        await trio.sleep(10)
        assert 1 == runtime.on_stage

        reset = await jobs.queues.reset()
        await settle()

        assert (2, 10, 2) == (reset.concurrency, reset.batch_size, runtime.on_stage)
        assert isinstance(reset.override, QueueOverride)
        await runtime.until_idle()
    assert 5 == most()


async def test_limits_said_at_run_time_outlive_the_process(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The next runtime begins with them."""
    jobs, _, most = sleepers()
    async with open_house(place, jobs):
        await jobs.queues.set(concurrency=1, visibility_timeout=60)
    async with open_house(place, jobs) as runtime:
        await enqueue(jobs, 3)
        await runtime.until_idle()
        state = await jobs.queues.get()

    assert (1, 1, 60.0, 15.0) == (
        most(),
        state.concurrency,
        state.visibility_timeout,
        state.declared.visibility_timeout,
    )


@pytest.mark.parametrize("declared", [True, False])
async def test_a_global_limit_bounds_all_runtimes_together(autojump_clock: trio.abc.Clock, declared: bool) -> None:
    """I24, G43: two runtimes with room for eight keep to three running rows, also when the limit is said at run time."""
    tables, began = Tables(), 0
    wall = Wall()
    most = 0
    instances = []
    for _ in range(2):
        jobs = Jobs("j", queue=Queue(concurrency=4, global_limit=3 if declared else None))

        @jobs.task("work")
        async def work(n: int, ctx: Context) -> None:
            nonlocal began, most
            began += 1
            running = [each for each in tables.runs.values() if each.status is Status.RUNNING]
            most = max(most, len(running))
            await trio.sleep(1 + n % 3)

        instances.append(jobs)
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    async with (
        open_runtime(one, instances[0], seams=Seams.seeded(1, wall_ns=wall)) as first,
        open_runtime(two, instances[1], seams=Seams.seeded(2, wall_ns=wall)) as second,
    ):
        if not declared:
            await instances[0].queues.set(global_limit=3)
        for n in range(20):
            await instances[n % 2].enqueue("work", n)
        await first.until_idle()
        await second.until_idle()

    assert (20, 3) == (began, most)


async def test_what_another_process_says_of_a_queue_is_obeyed(autojump_clock: trio.abc.Clock, tmp_path: Path) -> None:
    """Within a quarter of a second by its look at what others wrote, also while all its slots are taken."""
    jobs, began, _ = sleepers()
    desk, _, _ = sleepers()
    wall = Wall()
    tables = Tables()
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    async with (
        open_runtime(one, jobs, seams=Seams.seeded(1, wall_ns=wall)) as runtime,
        open_runtime(two, desk, work=False, seams=Seams.seeded(2, wall_ns=wall)),
    ):
        await enqueue(jobs, 8)
        await settle()
        await desk.queues.set(concurrency=4)
        await trio.sleep(0.3)

        assert 4 == runtime.on_stage

        await desk.queues.pause()
        await trio.sleep(60)

        assert 4 == len(began)

        await desk.queues.resume()
        await trio.sleep(0.3)
        await runtime.until_idle()

    assert 8 == len(began)


async def test_the_last_word_counts_whatever_clocks_say(autojump_clock: trio.abc.Clock) -> None:
    """Of two processes whose clocks differ by an hour, either may say something of a queue after the other."""
    tables = Tables()
    jobs, began, _ = sleepers()
    desk, _, _ = sleepers()
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    async with (
        open_runtime(one, jobs, seams=Seams.seeded(1, wall_ns=Wall(offset_s=3600))) as runtime,
        open_runtime(two, desk, work=False, seams=Seams.seeded(2, wall_ns=Wall())),
    ):
        await jobs.queues.pause()
        await enqueue(jobs, 1)
        await desk.queues.resume()
        await trio.sleep(0.3)
        await runtime.until_idle()

    assert [0] == began


# ---------------------------------------------------------------- reading and wrong use


async def test_queues_are_listed_as_they_stand(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G91: slots, what is free, what waits, for each declared queue."""
    jobs, _, _ = sleepers(global_limit=2)
    async with open_house(place, jobs):
        await enqueue(jobs, 5)
        await jobs.enqueue("work", 9, delay=60)
        await settle()

        default, mail = await jobs.queues.list()

    assert ("j-jobs", 2, 0, 2, None) == (
        default.name,
        default.running,
        default.available,
        default.global_limit,
        default.override,
    )
    assert {Status.QUEUED: 3, Status.SCHEDULED: 1, Status.RETRYING: 0} == default.waiting
    assert ("mail", 0, 100, 100) == (mail.name, mail.running, mail.available, mail.concurrency)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"concurrency": 0},
        {"concurrency": True},
        {"batch_size": 10_001},
        {"global_limit": -1},
        {"global_limit": "3"},
        {"visibility_timeout": 0.5},
        {"visibility_timeout": float("nan")},
    ],
)
async def test_limits_out_of_bounds_change_nothing(
    autojump_clock: trio.abc.Clock, place: Place, wrong: dict[str, Any]
) -> None:
    """The error names the limit; good ones beside it are not taken either."""
    jobs, _, _ = sleepers()
    async with open_house(place, jobs):
        with pytest.raises(InvalidOption):
            await jobs.queues.set("mail", **({"batch_size": 7, **wrong} if wrong else {}))
        with pytest.raises(UnknownQueue, match="did you mean 'mail'"):
            await jobs.queues.pause("mial")

        assert [None, None] == [each.override for each in await jobs.queues.list()]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, 1_000_001])
def test_a_declared_global_limit_is_a_number_of_runs(wrong: Any) -> None:
    """Said when it is declared."""
    with pytest.raises(InvalidOption, match="global_limit"):
        Queue(global_limit=wrong)
