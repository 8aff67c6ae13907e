"""Results, both links of a replay, statistics and the snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from callsheet import (
    Context,
    Discard,
    Jobs,
    Queue,
    ResultNotKept,
    Retry,
    RunFailed,
    RunNotFinished,
    RunNotFound,
    Status,
)

from .house import NOON_NS, Place, open_house, settle


def shop(name: str = "shop") -> Jobs:
    jobs = Jobs(name, namespace="app", queue=Queue(concurrency=2), queues=[Queue("slow")])

    @jobs.task("add", retry=Retry(attempts=2, backoff="fixed", initial_delay=60))
    async def add(numbers: list[int], ctx: Context) -> object:
        if not numbers:
            raise Discard("nothing to add")
        if sum(numbers) < 0:
            raise ValueError("below zero")
        return sum(numbers) if sum(numbers) != 7 else {1, 2}

    @jobs.task("sleep", queue="slow")
    async def sleep(seconds: float, ctx: Context) -> None:
        await trio.sleep(seconds)

    return jobs


async def test_the_result_of_a_run_is_what_its_handler_returned(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L29: read after the end, without waiting; nothing returned is None."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("add", [1, 2, 3])
        nothing = await jobs.enqueue("sleep", 1)
        with pytest.raises(RunNotFinished, match="only a run that has ended has a result"):
            await jobs.runs.result(nothing.run_id)
        await runtime.until_idle()

        assert [6, None] == [await jobs.runs.result(each.run_id) for each in (run, nothing)]
        with pytest.raises(RunNotFound):
            await jobs.runs.result("01ARZ3NDEKTSV4RRFFQ69G5FAV")


async def test_the_result_of_a_run_that_failed_is_why(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The error tells the status, the cause, and what the last attempt raised."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        failed = await jobs.enqueue("add", [-1])
        discarded = await jobs.enqueue("add", [])
        canceled = await jobs.enqueue("sleep", 1, delay=60)
        await jobs.runs.cancel(canceled.run_id)
        await runtime.until_idle()

        with pytest.raises(
            RunFailed, match=r"dead_lettered \(2 of 2 attempts spent\); .* raised ValueError: below zero"
        ):
            await jobs.runs.result(failed.run_id)
        with pytest.raises(RunFailed, match="nothing to add") as discard:
            await jobs.runs.result(discarded.run_id)
        with pytest.raises(RunFailed, match="canceled"):
            await jobs.runs.result(canceled.run_id)
        assert (Status.DEAD_LETTERED, "nothing to add") == (discard.value.status, discard.value.cause)


async def test_a_result_that_could_not_be_kept_is_not_told_as_none(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """The run succeeded; the error says why its value is not there."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("add", [3, 4])
        await runtime.until_idle()

        with pytest.raises(ResultNotKept, match="set"):
            await jobs.runs.result(run.run_id)
        assert Status.SUCCEEDED is (await jobs.runs.get(run.run_id)).run.status


async def test_replay_links_both_ways(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """I16: the new run names the old one, the old one all that replay it, oldest first."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        old = await jobs.enqueue("add", [1])
        await runtime.until_idle()
        first = await jobs.runs.replay(old.run_id, reason="customer requested")
        second = await jobs.runs.replay(old.run_id, delay=30)

        details = await jobs.runs.get(old.run_id)
        replay = await jobs.runs.get(first.run_id)

        assert (first.run_id, second.run_id) == details.replays
        assert (old.run_id, "customer requested", ()) == (replay.run.replay_of, replay.run.reason, replay.replays)


async def test_a_run_past_its_time_says_that_it_waits_for_a_slot(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """It keeps its status until it starts; `due` and `waiting_for` tell the difference."""
    jobs = shop()
    async with open_house(place, jobs):
        await jobs.queues.pause("slow")
        run = await jobs.enqueue("sleep", 1, delay=10)
        early = await jobs.runs.get(run.run_id)
        await trio.sleep(11)
        late = await jobs.runs.get(run.run_id)
        await jobs.queues.resume("slow")
        await settle()
        on = await jobs.runs.get(run.run_id)

    assert [("scheduled", False, "time"), ("scheduled", True, "slot"), ("running", False, None)] == [
        (each.run.status, each.due, each.waiting_for) for each in (early, late, on)
    ]


async def test_statistics_are_sums_of_one_instance(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G90: by status, task, queue, and queue and status; only keys with runs; other instances are not counted."""
    jobs, other = shop(), Jobs("other", namespace="app")

    @other.task("noise")
    async def noise(payload: None, ctx: Context) -> None:
        pass

    async with open_house(place, jobs, other):
        for numbers in ([1], [2], [-1]):
            await jobs.enqueue("add", numbers)
        await jobs.enqueue("sleep", 100)
        await jobs.enqueue("sleep", 1, delay=60, queue="shop-jobs")
        await other.enqueue("noise")
        await settle()

        stats = await jobs.stats()

    assert 5 == stats.total
    assert {Status.SUCCEEDED: 2, Status.RETRYING: 1, Status.RUNNING: 1, Status.SCHEDULED: 1} == stats.by_status
    assert {"add": 3, "sleep": 2} == stats.by_task
    assert {"shop-jobs": 4, "slow": 1} == stats.by_queue
    assert {Status.RUNNING: 1} == stats.by_queue_status["slow"]


async def test_the_snapshot_shows_everything_at_a_glance(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G91, L115: running, definitions, queue limits, statistics, the newest runs; no payload in it."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        runs = [(await jobs.enqueue("add", [n])).run_id for n in range(120)]
        await runtime.until_idle()

        snapshot = await jobs.snapshot()
        (registered,) = await jobs.runtimes()

        assert ("app/shop", True, None) == (snapshot.jobs, snapshot.working, snapshot.trouble)
        assert ["add", "sleep"] == [each.name for each in snapshot.definitions]
        assert [("shop-jobs", 2, 0, 2), ("slow", 100, 0, 100)] == [
            (each.name, each.concurrency, each.running, each.available) for each in snapshot.queues
        ]
        assert 120 == snapshot.stats.total
        assert runs[:-101:-1] == [each.id for each in snapshot.recent]
        assert {None} == {each.payload for each in snapshot.recent}
        assert (registered,) == snapshot.runtimes
        assert (runtime.boot_id, ("app/shop/add", "app/shop/sleep"), ("app/shop-jobs", "app/slow")) == (
            registered.boot_id,
            registered.tasks,
            registered.queues,
        )


async def test_a_run_tells_what_people_ask_in_plain_words(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Its id, task and queue by the names that calls take, and times as aware datetimes."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        receipt = await jobs.enqueue("add", [1], delay=90, queue="slow")
        running = await jobs.enqueue("sleep", 1000)
        await settle()
        on = (await jobs.runs.get(running.run_id)).run
        await runtime.until_idle()
        page = await jobs.runs.list(task="add")
        details = await jobs.runs.get(receipt.run_id)
    (run,) = page.runs

    noon = datetime.fromtimestamp(NOON_NS / 1e9, UTC)
    assert (receipt.run_id, "add", "slow") == (run.run_id, run.task, run.queue)
    assert (noon, noon + timedelta(seconds=90)) == (run.created_at, run.due_at)
    assert run.ended_at is not None
    assert 90 == round((run.ended_at - noon).total_seconds())
    assert (None, noon) == (run.started_at, on.started_at)
    assert (run.ended_at, run.ended_at) == (details.attempts[0].ended_at, details.transitions[-1].at)
    assert 90 == round((details.attempts[0].started_at - noon).total_seconds())
