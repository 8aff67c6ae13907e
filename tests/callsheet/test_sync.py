"""Handlers that are plain functions: they run in threads, in virtual time too."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

from callsheet import (
    AttemptStopped,
    Context,
    Discard,
    Jobs,
    Queue,
    Retry,
    RetryAfter,
    Snooze,
    Status,
    SyncContext,
    open_runtime,
)
from callsheet.store.memory import MemoryStore

from .house import Place, moves_of, open_house, outcomes_of, settle, statuses


def one(handler: Callable[..., Any], **options: Any) -> Jobs:
    """Jobs with one task."""
    jobs = Jobs("j")
    jobs.task("work", **options)(handler)
    return jobs


async def test_a_plain_function_is_a_handler(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """It runs in a thread that is not the event loop's, with its typed payload; what it returns is the result."""

    @frozen
    class Image:
        path: str

    threads: list[int] = []

    def resize(image: Image, ctx: SyncContext) -> dict[str, object]:
        threads.append(threading.get_ident())
        return {"path": image.path, "attempt": ctx.attempt, "task": ctx.task, "app": ctx.app, "left": ctx.tries_left}

    resize.__annotations__["image"] = Image
    jobs = one(resize)
    async with open_house(place, jobs, app="services") as runtime:
        run = await jobs.enqueue("work", Image("a.png"))
        await runtime.until_idle()
        ended = await jobs.runs.get(run.run_id)

    assert {"path": "a.png", "attempt": 1, "task": "work", "app": "services", "left": 5} == ended.result
    assert threading.get_ident() not in threads


class _Mailer:
    def __init__(self, calls: list[object]) -> None:
        self.calls = calls

    def __call__(self, payload: object, ctx: SyncContext) -> None:
        self.calls.append(("object", payload))

    def send(self, payload: object, ctx: SyncContext) -> None:
        self.calls.append(("method", payload))


class _AsyncMailer:
    def __init__(self, calls: list[object]) -> None:
        self.calls = calls

    async def __call__(self, payload: object, ctx: Context) -> None:
        self.calls.append(("async object", payload))


async def test_partials_methods_and_objects_are_handlers_too(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Whatever can be called with a payload and a context, in a thread or in the event loop."""
    calls: list[object] = []

    def plain(mark: str, payload: object, ctx: SyncContext) -> None:
        calls.append((mark, payload))

    async def coroutine(mark: str, payload: object, ctx: Context) -> None:
        calls.append((mark, payload))

    jobs = Jobs("j")
    jobs.task("partial")(functools.partial(plain, "partial"))
    jobs.task("async partial")(functools.partial(coroutine, "async partial"))
    jobs.task("object")(_Mailer(calls))
    jobs.task("async object")(_AsyncMailer(calls))
    jobs.task("method")(_Mailer(calls).send)
    async with open_house(memory, jobs) as runtime:
        for name in jobs.tasks:
            await jobs.enqueue(name, 1)
        await runtime.until_idle()

    assert {(name, 1) for name in jobs.tasks} == set(calls)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), ["failed", "succeeded"]),
        (SystemExit(3), ["failed", "succeeded"]),
        (KeyboardInterrupt(), ["failed", "succeeded"]),
        (StopIteration(), ["failed", "succeeded"]),
        (AttemptStopped("stray"), ["failed", "succeeded"]),
        (RetryAfter(7), ["failed", "succeeded"]),
        (Snooze(7), ["snoozed", "succeeded"]),
        (Discard("enough"), ["discarded"]),
    ],
)
async def test_what_it_raises_means_what_it_always_means(
    autojump_clock: trio.abc.Clock, memory: Place, error: BaseException, expected: list[str]
) -> None:
    """Whatever comes out of a thread ends that attempt only; RetryAfter, Snooze and Discard are obeyed."""

    def work(_: object, ctx: SyncContext) -> None:
        if ctx.attempt == 1:
            raise error

    jobs = one(work)
    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("work")
        await jobs.runs.wait(run.run_id)
        await runtime.until_idle()
        assert expected == await outcomes_of(jobs, run.run_id)


async def test_a_plain_function_that_returns_a_coroutine_has_failed(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """Nobody would await it: the error says what to do."""

    async def inner() -> None: ...

    def work(_: object, ctx: SyncContext) -> object:
        return inner()

    jobs = one(work, retry=Retry(attempts=1))
    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("work")
        await runtime.until_idle()
        error = (await jobs.runs.get(run.run_id)).attempts[0].error

    assert error is not None
    assert "the handler is a plain function that returned a coroutine: declare an async one" == error.message


# ---------------------------------------------------------------- time


async def test_time_stands_still_while_a_thread_computes(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """In a simulation no timer fires, and no day passes, because a thread takes a moment; then time goes on."""
    times: list[float] = []
    steps: list[str] = []

    def work(_: object, ctx: SyncContext) -> int:
        for _turn in range(3):  # long enough for the event loop to have nothing to do
            threading.Event().wait(0.02)
        steps.append("thread")
        return 1

    async def other() -> None:
        await trio.sleep(1)
        steps.append("timer")

    jobs = one(work)
    async with open_house(memory, jobs) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        began_s = trio.current_time()
        run = await jobs.enqueue("work")
        await jobs.runs.wait(run.run_id)
        times.append(trio.current_time() - began_s)
        await jobs.enqueue("work", delay=3_600)
        await trio.sleep(3_599)
        assert ["thread", "timer"] == steps
        await trio.sleep(1)
        await runtime.until_idle()

    assert [0.0] == times
    assert ["thread", "timer", "thread"] == steps


async def test_a_plain_function_can_wait_in_virtual_time(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """`ctx.sleep` lets time pass, for several threads at once."""
    ended: list[float] = []

    def work(delay_s: float, ctx: SyncContext) -> None:
        ctx.sleep(delay_s)
        ended.append(trio.from_thread.run_sync(trio.current_time))

    jobs = one(work)
    async with open_house(memory, jobs) as runtime:
        began_s = trio.current_time()
        for delay_s in (5, 3_600.5, 60):
            await jobs.enqueue("work", delay_s)
        await runtime.until_idle()

    assert [5.0, 60.0, 3_600.5] == [round(each - began_s, 3) for each in ended]


# ---------------------------------------------------------------- being told to stop


async def test_check_raises_once_the_attempt_timed_out(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The thread goes on until it asks; then the attempt has timed out, and is tried again by its policy."""
    reasons: list[str] = []

    def work(_: object, ctx: SyncContext) -> str:
        ctx.check()
        if ctx.attempt == 2:
            return "done"
        try:
            ctx.sleep(3_600)
        except AttemptStopped as stopped:
            reasons.append(stopped.reason)
            raise
        return "never"

    jobs = one(work, timeout=10)
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("work")
        await runtime.until_idle()
        ended = await jobs.runs.get(run.run_id)

    assert ["timed_out"] == reasons
    assert ["timed_out", "succeeded"] == [str(each.outcome) for each in ended.attempts]
    assert ("done", 1) == (ended.result, ended.run.spent)
    began, timed_out, again = [each.at_us for each in ended.transitions[1:4]]
    assert (10_000_000, 5_000_000) == (timed_out - began, again - timed_out)


async def test_a_thread_that_does_not_ask_has_timed_out_all_the_same(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """How the attempt ended is judged by our own flag; its slot and its run are taken until the thread has ended."""
    jobs = Jobs("j", queue=Queue(concurrency=1))
    go_on, told, token = threading.Event(), trio.Event(), trio.lowlevel.current_trio_token()

    @jobs.task("work", timeout=10, retry=Retry(attempts=1))
    def work(_: object, ctx: SyncContext) -> str:
        with pytest.raises(AttemptStopped):
            ctx.sleep(60)
        trio.from_thread.run_sync(told.set, trio_token=token)
        go_on.wait()
        return "late"

    @jobs.task("other")
    async def other(_: object, ctx: Context) -> None: ...

    async with open_house(memory, jobs) as runtime:
        runs = [(await work.enqueue(None)).run_id, (await other.enqueue(None)).run_id]
        await told.wait()
        assert [Status.RUNNING, Status.QUEUED] == await statuses(jobs, runs)
        go_on.set()
        await runtime.until_idle()
        assert ["timed_out"] == await outcomes_of(jobs, runs[0])
        assert [Status.DEAD_LETTERED, Status.SUCCEEDED] == await statuses(jobs, runs)


@pytest.mark.parametrize("obeys", [True, False])
async def test_a_canceled_run_is_canceled_whatever_its_thread_does(
    autojump_clock: trio.abc.Clock, place: Place, obeys: bool
) -> None:
    """P5: it hears of it at its next check; what it returns all the same is kept as late."""
    began = trio.Event()

    def work(_: object, ctx: SyncContext) -> str:
        trio.from_thread.run_sync(began.set)
        try:
            ctx.sleep(3_600)
        except AttemptStopped:
            if obeys:
                raise
        return "late"

    jobs = one(work)
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("work")
        await began.wait()
        assert (await jobs.runs.cancel(run.run_id)).canceled
        await runtime.until_idle()
        await settle()
        [attempt] = (await jobs.runs.get(run.run_id)).attempts
        assert ["queued", "running", "canceled"] == await moves_of(jobs, run.run_id)

    assert (None if obeys else "returned a value") == attempt.late_outcome


async def test_a_stop_interrupts_threads_that_ask_and_their_runs_go_on_at_the_next_open(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """P9: after the grace a thread hears that it is interrupted, and its run waits again, unspent."""
    reasons: list[str] = []

    def work(_: object, ctx: SyncContext) -> None:
        if ctx.attempt == 1:
            try:
                while True:
                    ctx.sleep(1)
            except AttemptStopped as stopped:
                reasons.append(stopped.reason)
                raise

    jobs = one(work)
    async with open_house(place, jobs, grace=5):
        run = await jobs.enqueue("work")
        await trio.sleep(1)
    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        assert ["interrupted", "succeeded"] == await outcomes_of(jobs, run.run_id)

    assert ["interrupted"] == reasons


# ---------------------------------------------------------------- through the context


async def test_a_thread_can_enqueue(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """It waits until the new run is durable, which takes over the trace id; threads that the handler starts can do it too."""
    made: list[str] = []

    def parent(_: object, ctx: SyncContext) -> None:
        made.append(ctx.enqueue("child", 1).run_id)
        helper = threading.Thread(target=lambda: made.append(ctx.enqueue("child", 2, trace_id="own").run_id))
        helper.start()
        helper.join()

    def child(n: int, ctx: SyncContext) -> int:
        return n

    jobs = one(parent)
    jobs.task("child")(child)
    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("work", trace_id="t")
        await runtime.until_idle()
        ended = [await jobs.runs.get(each) for each in made]

    assert [(1, "t"), (2, "own")] == [(each.result, each.run.trace_id) for each in ended]


async def test_a_thread_enqueues_where_it_runs(autojump_clock: trio.abc.Clock) -> None:
    """With several runtimes open for the same jobs, a thread that the handler started means that of its handler too."""

    def parent(_: object, ctx: SyncContext) -> None:
        helper = threading.Thread(target=lambda: ctx.enqueue("child"))
        helper.start()
        helper.join()

    def child(_: object, ctx: SyncContext) -> None: ...

    jobs = one(parent)
    jobs.task("child")(child)
    async with open_house(MemoryStore(), jobs), open_house(MemoryStore(), jobs) as inner:
        await jobs.enqueue("work")
        await inner.until_idle()
        assert {"work", "child"} == {run.lane.task for run in (await jobs.runs.list()).runs}


async def test_a_thread_that_was_told_to_stop_requests_nothing_more(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """`ctx.enqueue` is one of the places where it hears of it."""

    def work(_: object, ctx: SyncContext) -> None:
        with pytest.raises(AttemptStopped):
            ctx.sleep(60)
        ctx.enqueue("work")

    jobs = one(work, timeout=10, retry=Retry(attempts=1))
    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()
        [run] = (await jobs.runs.list()).runs

    assert (Status.DEAD_LETTERED, "1 of 1 attempts spent") == (run.status, run.cause)


async def test_a_wrong_request_out_of_a_thread_is_its_error(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """The sentences that `enqueue` has reach the handler as what they are."""
    from callsheet import UnknownTask

    def work(_: object, ctx: SyncContext) -> None:
        with pytest.raises(UnknownTask, match="did you mean 'work'"):
            ctx.enqueue("wrok")

    jobs = one(work, retry=Retry(attempts=1))
    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("work")
        await runtime.until_idle()
        assert [Status.SUCCEEDED] == await statuses(jobs, [run.run_id])


async def test_more_threads_than_trio_gives_by_default(memory: Place) -> None:
    """As many as the queue has slots run at once: no other limit holds a run back that has its slot. In real time."""
    n = 60
    barrier = threading.Barrier(n)

    def work(_: object, ctx: SyncContext) -> None:
        barrier.wait(timeout=30)

    jobs = Jobs("j", queue=Queue(concurrency=n, batch_size=n))
    jobs.task("work", retry=Retry(attempts=1))(work)
    async with open_runtime(MemoryStore(), jobs) as runtime:
        runs = await jobs.enqueue_many([jobs.entry("work") for _ in range(n)])
        await runtime.until_idle()
        assert [Status.SUCCEEDED] * n == await statuses(jobs, [each.run_id for each in runs])
