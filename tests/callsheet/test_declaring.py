"""What a Jobs instance is declared with, what it shows of it, and where code finds out for whom it works."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from attrs import frozen

from callsheet import (
    Context,
    Custom,
    Definition,
    InvalidName,
    Job,
    Jobs,
    JobsConfig,
    NotInHandler,
    Observability,
    PayloadTooLarge,
    Queue,
    Retention,
    Retry,
    RetryPolicy,
    Status,
    SyncContext,
)

from .house import Place, open_house, settle


@frozen
class Image:
    path: str


def full() -> Jobs:
    """One of everything."""
    jobs = Jobs(
        "background",
        namespace="app",
        queue=Queue(concurrency=50),
        queues=[Queue("mail", batch_size=5)],
        retry=Retry(attempts=3, initial_delay=2),
        timeout=60,
    )

    @jobs.task(
        "resize",
        schema="2",
        accepts=["1"],
        aliases=("resize-image",),
        retry=Retry(backoff=Custom([1, 2])),
        on_crash="dead_letter",
        stuck_after=5,
    )
    def resize(image: Image, ctx: SyncContext) -> None: ...

    @jobs.task("count", timeout=1.5, queue="mail")
    async def count(numbers: list[int], ctx: Context) -> None: ...

    @jobs.task("any")
    async def anything(payload: object, ctx: Context) -> None: ...

    @jobs.register
    @frozen
    class Mail(Job, kind="mail.welcome"):
        async def work(self, ctx: Context) -> None: ...

    return jobs


def test_a_config_leaves_nothing_open() -> None:
    """Identity, queues with their names, the policy with every field, limits: as given, or the default."""
    policy = RetryPolicy(attempts=3, backoff="exponential", initial_delay=2.0, max_delay=300.0)
    expected = JobsConfig(
        name="background",
        namespace="app",
        queues=(Queue("background-jobs", concurrency=50), Queue("mail", batch_size=5)),
        retry=policy,
        timeout=60.0,
        max_payload=262_144,
        stuck_after=30.0,
        retention=Retention(),
        observability=Observability(),
        guarded=False,
    )

    config = full().config

    assert expected == config
    assert ("app/background", expected.queues[0]) == (config.identity, config.queue)
    default = Jobs("j").config
    assert ("default/j", (Queue("j-jobs"),), RetryPolicy(), None) == (
        default.identity,
        default.queues,
        default.retry,
        default.timeout,
    )


def test_definitions_say_what_each_task_is() -> None:
    """L20, L21, L23, G05: sorted by name; kind of handler, queue, schemas, names, and the policy merged field by field."""
    policy = RetryPolicy(attempts=3, initial_delay=2.0)
    plain = Definition(
        name="any",
        handler="async",
        is_job=False,
        payload_type=None,
        queue="background-jobs",
        schema="1",
        accepts=(),
        aliases=(),
        retry=policy,
        timeout=60.0,
        on_crash="retry",
        stuck_after=30.0,
    )

    any_, count, mail, resize = full().definitions()

    assert plain == any_
    assert ("count", "mail", "list[int]", 1.5) == (count.name, count.queue, count.payload_type, count.timeout)
    assert ("mail.welcome", "async", True) == (mail.name, mail.handler, mail.is_job)
    assert "full.<locals>.Mail" == mail.payload_type
    assert ("resize", "sync", "Image") == (resize.name, resize.handler, resize.payload_type)
    assert ("2", ("1",), ("resize-image",)) == (resize.schema, resize.accepts, resize.aliases)
    assert ("dead_letter", 5.0, 3) == (resize.on_crash, resize.stuck_after, resize.max_attempts)
    assert (3, Custom([1, 2]), 2.0) == (resize.retry.attempts, resize.retry.backoff, resize.retry.initial_delay)
    assert () == Jobs("j").definitions()


def test_options_of_a_task_that_are_none_count_as_left_out() -> None:
    """So that they can be passed on."""
    jobs = Jobs("j", timeout=3)
    nothing: dict[str, Any] = dict.fromkeys(
        ("retry", "timeout", "queue", "schema", "accepts", "aliases", "on_crash", "stuck_after")
    )

    async def handler(payload: object, ctx: Context) -> None: ...

    jobs.task("one", **nothing)(handler)
    jobs.task("two")(handler)

    one, two = jobs.definitions()
    assert (one.schema, one.timeout, one.on_crash) == (two.schema, two.timeout, two.on_crash) == ("1", 3.0, "retry")


def test_our_own_namespace_is_reserved() -> None:
    """No instance may be called as if it were a part of this package."""
    with pytest.raises(InvalidName, match="namespace 'callsheet' is not allowed: it is reserved"):
        Jobs("j", namespace="callsheet")

    assert "callsheets/callsheet" == Jobs("callsheet", namespace="callsheets").identity


async def test_the_size_of_payloads_is_bounded_as_declared(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """max_payload counts bytes of JSON; what is larger is refused with both numbers, and nothing is stored."""
    small, large = Jobs("small", max_payload=10), Jobs("large", max_payload=1_000_000)

    async def work(payload: object, ctx: Context) -> None: ...

    small.task("work")(work)
    large.task("work")(work)
    async with open_house(memory, small, large) as runtime:
        await small.enqueue("work", "x" * 8)
        with pytest.raises(PayloadTooLarge, match="11 bytes of JSON, the limit is 10"):
            await small.enqueue("work", "x" * 9)
        run = await large.enqueue("work", "x" * 999_998)
        await runtime.until_idle()
        assert Status.SUCCEEDED == (await large.runs.get(run.run_id)).run.status
        assert 1 == len((await small.runs.list()).runs)


async def test_a_handler_knows_for_whom_it_works(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """G96: Jobs.current() is the instance whose handler runs, in its tasks and its thread too; anywhere else an error."""
    one, two = Jobs("one"), Jobs("two")
    seen: list[str] = []

    def look(where: str) -> None:
        seen.append(f"{where} {Jobs.current().name}")

    async def later(where: str) -> None:
        await trio.sleep(1)
        look(where)

    async def work(_: object, ctx: Context) -> None:
        look("handler")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, "its task")

    def thread(_: object, ctx: SyncContext) -> None:
        look("thread")

    for jobs in (one, two):
        jobs.task("work")(work)
    two.task("thread")(thread)
    with pytest.raises(NotInHandler, match="there is none here"):
        Jobs.current()
    async with open_house(memory, one, two) as runtime:
        for request in (one.enqueue("work"), two.enqueue("work"), two.enqueue("thread")):
            await request
        with pytest.raises(NotInHandler):
            Jobs.current()
        await runtime.until_idle()

    expected = ["handler one", "handler two", "thread two", "its task one", "its task two"]
    assert sorted(expected) == sorted(seen)


async def test_jobs_know_whether_they_are_working(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """`is_working`: from open to close, from any thread; not for a runtime that only enqueues and reads."""
    jobs, other = full(), full()
    assert not jobs.is_working

    async with open_house(memory, jobs):
        seen: list[bool] = []
        looker = threading.Thread(target=lambda: seen.append(jobs.is_working))
        looker.start()
        looker.join()
        assert ([True], False) == (seen, other.is_working)
    assert not jobs.is_working

    async with open_house(memory, jobs, work=False):
        assert not jobs.is_working


async def test_a_context_says_which_attempt_this_is(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """L25, L26: the id of the run is the same in every attempt, which are numbered from 1; both contexts say the same."""
    jobs = Jobs("j", retry=Retry(attempts=2))
    seen: list[tuple[object, ...]] = []

    def note(ctx: Context | SyncContext) -> None:
        seen.append((ctx.task, ctx.run_id, ctx.attempt, ctx.spent, ctx.tries_left, ctx.schema, ctx.jobs is jobs))
        assert (16, None, None) == (len(ctx.claim_id), ctx.deadline, ctx.nominal_time)
        if ctx.attempt == 1:
            raise ValueError

    @jobs.task("async")
    async def handler(_: object, ctx: Context) -> None:
        note(ctx)

    @jobs.task("sync")
    def plain(_: object, ctx: SyncContext) -> None:
        note(ctx)

    async with open_house(memory, jobs) as runtime:
        for name in ("async", "sync"):
            await jobs.enqueue(name, run_id=f"{name}-1")
        await settle()
        await runtime.until_idle()

    expected = [(name, f"{name}-1", n, n - 1, 3 - n, "1", True) for name in ("async", "sync") for n in (1, 2)]
    assert expected == sorted(seen)


async def test_what_a_handler_returns_is_the_result(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """L27, L29: a handler that returns has succeeded, at whichever attempt; its JSON value is kept with the run."""
    jobs = Jobs("j")

    @jobs.task("work")
    async def work(payload: object, ctx: Context) -> object:
        if ctx.attempt == 1:
            raise ValueError("L28: a handler that raises has failed this attempt")
        return {"gone": 410}

    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue("work")
        await runtime.until_idle()
        ended = await jobs.runs.get(run.run_id)

    assert (Status.SUCCEEDED, {"gone": 410}) == (ended.run.status, ended.result)
    assert ["failed", "succeeded"] == [str(each.outcome) for each in ended.attempts]
