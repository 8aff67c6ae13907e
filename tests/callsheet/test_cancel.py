"""Cancel, replay, wait and list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from attrs import evolve

from callsheet import (
    Context,
    Jobs,
    NotOpen,
    Queue,
    Retry,
    RunNotFinished,
    RunNotFound,
    Status,
    WaitTimeout,
)

from .house import NOON_NS, Place, moves_of, open_house, outcomes_of, settle

NOON = datetime.fromtimestamp(NOON_NS / 1e9, UTC)


def sleepers(**options: object) -> tuple[Jobs, list[str]]:
    """Jobs with one task that sleeps as long as its payload says, and a log of what happened in it."""
    jobs = Jobs("j", **options)  # type: ignore[arg-type]
    log: list[str] = []

    @jobs.task("sleep", retry=Retry(backoff="fixed", initial_delay=60))
    async def sleep(seconds: float, ctx: Context) -> str:
        log.append("start")
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            log.append("cancelled")
            raise
        log.append("end")
        if seconds < 0.5:
            raise ValueError("too short")
        return "slept"

    return jobs, log


# ---------------------------------------------------------------- cancel


async def test_a_queued_run_that_is_canceled_never_starts(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P5: canceled while it waits for a slot."""
    jobs, log = sleepers(queue=Queue(concurrency=1))
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue("sleep", 10)
        second = await jobs.enqueue("sleep", 10)
        await trio.sleep(1)

        answer = await jobs.runs.cancel(second.run_id)
        await runtime.until_idle()

        assert (second.run_id, True, Status.CANCELED) == (answer.run_id, answer.canceled, answer.status)
        assert ["start", "end"] == log
        assert ["queued", "canceled"] == await moves_of(jobs, second.run_id)
        assert ["succeeded"] == await outcomes_of(jobs, first.run_id)


async def test_a_scheduled_run_that_is_canceled_never_starts(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P5: canceled before its time."""
    jobs, log = sleepers()
    async with open_house(place, jobs):
        run = await jobs.enqueue("sleep", 1, delay=10)

        answer = await jobs.runs.cancel(run.run_id)
        await trio.sleep(60)

        assert answer.canceled
        assert ["scheduled", "canceled"] == await moves_of(jobs, run.run_id)
        assert [] == log


async def test_a_retrying_run_that_is_canceled_is_not_tried_again(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P5: canceled between two attempts."""
    jobs, log = sleepers()
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("sleep", 0)
        await trio.sleep(1)

        answer = await jobs.runs.cancel(run.run_id, reason="not needed any more")
        await trio.sleep(200)
        await runtime.until_idle()

        assert answer.canceled
        assert ["queued", "running", "retrying", "canceled"] == await moves_of(jobs, run.run_id)
        assert "canceled: not needed any more" == (await jobs.runs.get(run.run_id)).run.cause
        assert ["start", "end"] == log


async def test_a_running_run_that_is_canceled_is_stopped(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P5: final when the call returns, attempt included; the handler is cancelled; its slot is free when it has ended."""
    jobs, log = sleepers(queue=Queue(concurrency=1))
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("sleep", 1_000)
        waiting = await jobs.enqueue("sleep", 1)
        await trio.sleep(1)

        answer = await jobs.runs.cancel(run.run_id)
        assert (True, Status.CANCELED) == (answer.canceled, answer.status)
        assert ["canceled"] == await outcomes_of(jobs, run.run_id)
        await settle()
        assert ["start", "cancelled", "start"] == log
        await runtime.until_idle()

        assert ["queued", "running", "canceled"] == await moves_of(jobs, run.run_id)
        assert Status.SUCCEEDED == (await jobs.runs.get(waiting.run_id)).run.status


async def test_an_ended_run_is_left_as_it_is(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P3: cancelling what has ended, also by a cancel, changes nothing and reports its status."""
    jobs, _ = sleepers()
    async with open_house(place, jobs) as runtime:
        done = await jobs.enqueue("sleep", 1)
        await runtime.until_idle()
        canceled = await jobs.enqueue("sleep", 1, delay=5)
        await jobs.runs.cancel(canceled.run_id)
        before = await jobs.runs.get(done.run_id)

        answers = [await jobs.runs.cancel(each.run_id) for each in (done, canceled)]

        assert [(False, Status.SUCCEEDED), (False, Status.CANCELED)] == [(a.canceled, a.status) for a in answers]
        assert before == await jobs.runs.get(done.run_id)


async def test_an_unknown_run_cannot_be_canceled(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Neither one that never was, nor one of another Jobs instance in the same store."""
    jobs, _ = sleepers()
    others = Jobs("others")

    @others.task("sleep")
    async def sleep(_: object, ctx: Context) -> None: ...

    async with open_house(place, jobs, others):
        theirs = await others.enqueue("sleep", delay=10)
        for run_id in ("01J0000000000000000000000X", theirs.run_id, "", "\x00", "x" * 10_000):
            with pytest.raises(RunNotFound, match="there is no run"):
                await jobs.runs.cancel(run_id)

        assert Status.SCHEDULED == (await others.runs.get(theirs.run_id)).run.status


async def test_a_cancel_that_meets_a_success_in_one_commit(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P3, P5: whichever comes first counts, and both sides are told the truth."""
    jobs, _ = sleepers()
    answers = []
    async with open_house(place, jobs) as runtime:
        for offset in (-0.001, 0.0, 0.001):
            run = await jobs.enqueue("sleep", 10)
            await trio.sleep(10 + offset)
            answer = await jobs.runs.cancel(run.run_id)
            await runtime.until_idle()
            status = (await jobs.runs.get(run.run_id)).run.status
            answers.append((answer.canceled, status))
            assert answer.status == status

    assert (True, Status.CANCELED) == answers[0]
    assert (False, Status.SUCCEEDED) == answers[2]
    assert answers[1] in (answers[0], answers[2])


async def test_a_run_canceled_between_its_claim_and_its_start_never_starts(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """P5: a cancel that is committed with the claim, before there is an actor to stop."""
    jobs, log = sleepers()
    canceled: list[bool] = []
    async with open_house(place, jobs) as runtime:

        async def cancel(run_id: str) -> None:
            canceled.append((await jobs.runs.cancel(run_id)).canceled)

        for _ in range(20):
            run = await jobs.enqueue("sleep", 100)
            for _ in range(len(canceled) % 7):
                await trio.lowlevel.checkpoint()
            await cancel(run.run_id)
            await settle()
            assert ["canceled"] == (await moves_of(jobs, run.run_id))[-1:]
        await runtime.until_idle()
        assert 0 == runtime.on_stage

    assert [True] * 20 == canceled
    assert log.count("start") == log.count("cancelled")


async def test_what_a_handler_did_after_its_cancel_is_noted(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A late value or error changes nothing and is kept with the attempt."""
    jobs = Jobs("j")

    @jobs.task("late")
    async def late(how: str, ctx: Context) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        if how == "raise":
            raise ValueError
        return "too late"

    async with open_house(place, jobs) as runtime:
        runs = [await jobs.enqueue("late", how) for how in ("return", "raise")]
        await trio.sleep(1)
        for each in runs:
            await jobs.runs.cancel(each.run_id)
        assert 2 == runtime.on_stage
        await runtime.until_idle()

        ended = [await jobs.runs.get(each.run_id) for each in runs]
    assert ["returned a value", "raised ValueError"] == [each.attempts[0].late_outcome for each in ended]
    assert [Status.CANCELED] * 2 == [each.run.status for each in ended]
    assert [None, None] == [each.result for each in ended]


async def test_a_handler_may_cancel_its_own_run(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Nothing waits for itself: the handler is cancelled at its next checkpoint."""
    jobs = Jobs("j")
    log: list[str] = []

    @jobs.task("suicide")
    async def suicide(_: object, ctx: Context) -> None:
        answer = await jobs.runs.cancel(ctx.run_id)
        log.append(answer.status)
        await trio.sleep(1)
        log.append("still here")

    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("suicide")
        await runtime.until_idle()

        assert Status.CANCELED == (await jobs.runs.get(run.run_id)).run.status
    assert [log[0]] == log


# ---------------------------------------------------------------- replay


async def test_a_replay_is_a_new_run_with_a_link_back(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """I16: own id, attempts from nothing, the same payload and options but no key; the old one is untouched."""
    jobs, _ = sleepers(queues=[Queue("side")])
    async with open_house(place, jobs) as runtime:
        old = await jobs.enqueue(
            "sleep", 0, idempotency_key="k", priority=2, max_attempts=1, timeout=50, trace_id="t", queue="side"
        )
        await runtime.until_idle()
        before = await jobs.runs.get(old.run_id)

        result = await jobs.runs.replay(old.run_id, reason="fixed")
        await runtime.until_idle()
        new = await jobs.runs.get(result.run_id)

        assert evolve(before, replays=(new.run.id,)) == await jobs.runs.get(old.run_id)
    assert result.run_id != old.run_id
    assert not result.deduped
    assert (old.run_id, "fixed", None) == (new.run.replay_of, new.run.reason, new.run.idempotency_key)
    copied = ("lane", "priority", "max_attempts", "timeout_us", "trace_id", "payload")
    assert [getattr(before.run, each) for each in copied] == [getattr(new.run, each) for each in copied]
    assert ["queued", "running", "dead_lettered"] == [str(each.now) for each in new.transitions]


async def test_a_replay_may_be_delayed(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`delay` and `run_at` mean what they mean at enqueue."""
    jobs, _ = sleepers()
    async with open_house(place, jobs) as runtime:
        old = await jobs.enqueue("sleep", 1)
        await runtime.until_idle()
        later = await jobs.runs.replay(old.run_id, delay=30)
        at = await jobs.runs.replay(old.run_id, run_at=NOON + timedelta(seconds=60))
        await trio.sleep(100)

        starts = [(await jobs.runs.get(each.run_id)).attempts[0].started_us for each in (later, at)]
        assert [31_000_000, 60_000_000] == [start - NOON_NS // 1000 for start in starts]


async def test_only_what_has_ended_can_be_replayed(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Queued, scheduled, running, retrying: refused with the status, and nothing is stored."""
    jobs, _ = sleepers(queue=Queue(concurrency=2))
    async with open_house(place, jobs, grace=0):
        failing = await jobs.enqueue("sleep", 0)
        await trio.sleep(1)
        runs = [failing, await jobs.enqueue("sleep", 1, delay=99)]
        runs += [await jobs.enqueue("sleep", 99) for _ in range(3)]
        await trio.sleep(1)
        seen = []
        for each in runs:
            with pytest.raises(RunNotFinished, match="only a run that has ended can be replayed") as caught:
                await jobs.runs.replay(each.run_id)
            seen.append(caught.value.status)

        expected = [Status.RETRYING, Status.SCHEDULED, Status.RUNNING, Status.RUNNING, Status.QUEUED]
        assert expected == seen
        assert 5 == len((await jobs.runs.list()).runs)
        with pytest.raises(RunNotFound):
            await jobs.runs.replay("nothing")


async def test_a_canceled_run_and_a_replay_can_be_replayed(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Whatever ended can be done again, as often as one likes."""
    jobs, _ = sleepers()
    async with open_house(place, jobs) as runtime:
        old = await jobs.enqueue("sleep", 1, delay=9)
        await jobs.runs.cancel(old.run_id)
        once = await jobs.runs.replay(old.run_id)
        await runtime.until_idle()
        twice = await jobs.runs.replay(once.run_id)
        await runtime.until_idle()

        assert [once.run_id] == [each.id for each in (await jobs.runs.list(replay_of=old.run_id)).runs]
        assert [twice.run_id] == [each.id for each in (await jobs.runs.list(replay_of=once.run_id)).runs]


# ---------------------------------------------------------------- wait


async def test_wait_returns_when_the_run_has_ended(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """In the moment it ends, whichever way; at once when it has ended already; also for several who wait."""
    jobs, _ = sleepers()
    ends: list[tuple[Status, float]] = []
    began_s = trio.current_time()

    async def wait(run_id: str) -> None:
        run = await jobs.runs.wait(run_id)
        ends.append((run.status, trio.current_time() - began_s))

    async with open_house(place, jobs), trio.open_nursery() as nursery:
        slept = await jobs.enqueue("sleep", 3)
        canceled = await jobs.enqueue("sleep", 30)
        dead = await jobs.enqueue("sleep", 0, max_attempts=2)
        for each in (slept, slept, canceled, dead):
            nursery.start_soon(wait, each.run_id)
        await trio.sleep(5)
        await jobs.runs.cancel(canceled.run_id)
        await trio.sleep(100)
        await wait(slept.run_id)

    times = [round(at_s, 3) for _, at_s in ends]
    assert [3, 3, 5, 60, 105] == times
    assert ["succeeded", "succeeded", "canceled", "dead_lettered", "succeeded"] == [str(each) for each, _ in ends]


async def test_wait_gives_up_at_its_timeout(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The run goes on; the sentence says where it stands. A timeout of 0 is one look."""
    jobs, _ = sleepers()
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("sleep", 10)
        await trio.sleep(1)
        began_s = trio.current_time()

        with pytest.raises(WaitTimeout, match=r"run \w+ is still running after 2.5 s"):
            await jobs.runs.wait(run.run_id, timeout=2.5)
        assert 2.5 == trio.current_time() - began_s
        with pytest.raises(TimeoutError):
            await jobs.runs.wait(run.run_id, timeout=0)
        await runtime.until_idle()

        assert Status.SUCCEEDED == (await jobs.runs.wait(run.run_id, timeout=0)).status


async def test_waiting_for_nobody_is_an_error(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """An unknown id is refused at once, not waited for."""
    jobs, _ = sleepers()
    async with open_house(memory, jobs):
        with pytest.raises(RunNotFound, match="there is no run 'nobody'"):
            await jobs.runs.wait("nobody")


async def test_whoever_waits_when_the_runtime_closes_is_told(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """A wait in another part of the host's program ends with NotOpen, not never."""
    jobs, _ = sleepers()
    told: list[type[BaseException]] = []

    async def wait(run_id: str) -> None:
        try:
            await jobs.runs.wait(run_id)
        except NotOpen as error:
            told.append(type(error))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, open_house(memory, jobs):
            run = await jobs.enqueue("sleep", 1, delay=1_000)
            nursery.start_soon(wait, run.run_id)
            await settle()

    assert [NotOpen] == told


# ---------------------------------------------------------------- list


async def test_a_list_is_newest_first_and_filtered(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """By task, queue, status, key, trace id, and when it was created: everything given must match."""
    jobs, _ = sleepers(queues=[Queue("side")])

    @jobs.task("other")
    async def other(_: object, ctx: Context) -> None: ...

    async with open_house(place, jobs) as runtime:
        a = (await jobs.enqueue("sleep", 1, trace_id="t")).run_id
        await trio.sleep(10)
        b = (await jobs.enqueue("other", queue="side", idempotency_key="k")).run_id
        await trio.sleep(10)
        c = (await jobs.enqueue("other", delay=1_000, trace_id="t")).run_id
        await runtime.until_idle()

        async def ids(**where: object) -> list[str]:
            page = await jobs.runs.list(**where)  # type: ignore[arg-type]
            return [each.id for each in page.runs]

        assert [c, b, a] == await ids()
        assert [c, b] == await ids(task="other")
        assert [] == await ids(task="forgotten")
        assert [b] == await ids(queue="side")
        assert [c, a] == await ids(queue="j-jobs")
        assert [b, a] == await ids(status="succeeded")
        assert [c] == await ids(status=Status.SCHEDULED)
        assert [b] == await ids(idempotency_key="k")
        assert [c, a] == await ids(trace_id="t")
        assert [c] == await ids(trace_id="t", task="other")
        assert [b] == await ids(created_from=NOON + timedelta(seconds=10), created_before=NOON + timedelta(seconds=20))
        assert [None] * 3 == [each.payload for each in (await jobs.runs.list()).runs]


async def test_pages_follow_one_another_without_gap_or_repeat(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The cursor of each page leads to the next, the last page has none, and new runs do not disturb it."""
    jobs, _ = sleepers()
    async with open_house(place, jobs, grace=0):
        made = [(await jobs.enqueue("sleep", n, delay=1_000)).run_id for n in range(25)]
        pages: list[list[str]] = []
        cursor: str | None = None
        while True:
            page = await jobs.runs.list(limit=10, after=cursor)
            pages.append([each.id for each in page.runs])
            await jobs.enqueue("sleep", 1, delay=1_000)
            cursor = page.next
            if cursor is None:
                break

        assert [10, 10, 5] == [len(each) for each in pages]
        assert made[::-1] == [each for page in pages for each in page]
        exact = await jobs.runs.list(limit=28)
        assert (28, None) == (len(exact.runs), exact.next)


async def test_a_wait_ends_with_its_runtime_also_when_another_one_opens(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """It is told that the runtime closed; the next one's news would never reach it."""
    jobs, _ = sleepers()
    told: list[type[Exception]] = []

    async def wait(run_id: str) -> None:
        try:
            await jobs.runs.wait(run_id)
        except NotOpen as error:
            told.append(type(error))

    async with trio.open_nursery() as nursery:
        async with open_house(place, jobs, work=False):
            run = await jobs.enqueue("sleep", 1)
            nursery.start_soon(wait, run.run_id)
            await trio.sleep(1)
        async with open_house(place, jobs) as runtime:
            await runtime.until_idle()
            await trio.sleep(1)

            assert [NotOpen] == told
