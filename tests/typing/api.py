"""
What a type checker makes of the public names. This file is checked (`make check`), never run.

Rule: use the package as a user would, and say with `assert_type` what must come out.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

from attrs import frozen

import callsheet

assert_type(callsheet.__version__, str)
callsheet.no_such_name  # type: ignore[attr-defined]  # although names load lazily


jobs = callsheet.Jobs("typed")


def policy(access: callsheet.Access) -> bool | str:
    assert_type(access.run, callsheet.Run | None)
    assert_type(access.action, callsheet.Action)
    return access.action is callsheet.Action.READ or "read only"


async def waits(access: callsheet.Access) -> bool:
    return True


guarded = callsheet.Jobs("guarded", policy=policy)
callsheet.Jobs("wrong", policy=waits)  # type: ignore[arg-type]
with callsheet.acting_as(object()):
    assert_type(guarded.config.guarded, bool)

kept = callsheet.Retention(succeeded=timedelta(days=7), canceled=60)
assert_type(kept.succeeded, float | None)
callsheet.Jobs("kept", retention=kept)
callsheet.Retention(succeeded="7 days")  # type: ignore[arg-type]
callsheet.Jobs("wrong", retention=60)  # type: ignore[arg-type]


@jobs.task("double")
async def double(n: int, ctx: callsheet.Context) -> str:
    assert_type(ctx.attempt, int)
    return str(n)


assert_type(double, callsheet.Task[int, str])


@jobs.task("halve", queue="mail", accepts=("0",), aliases=["split"], on_crash="dead_letter", stuck_after=5)
def halve(n: int, ctx: callsheet.SyncContext) -> float:
    ctx.check()
    ctx.sleep(timedelta(seconds=1))
    ctx.progress({"n": n})
    assert_type(ctx.enqueue(double, 1), callsheet.EnqueueResult)
    assert_type(ctx.enqueue(WelcomeEmail("u1"), delay=1), callsheet.EnqueueResult)
    return n / 2


assert_type(halve, callsheet.Task[int, float])

jobs.every("hourly", timedelta(hours=1), double, 2, first="now", start=datetime.now(UTC))
jobs.cron("daily", "0 9 * * *", "double", 2, tz="Europe/Berlin", max_attempts=3)
jobs.every("wrong", "1h", double, 2)  # type: ignore[arg-type]
jobs.every("wrong", 60, double, 2, frist="now")  # type: ignore[call-arg]

jobs.task("wrong", on_crash="ignore")  # type: ignore[arg-type]
jobs.task("wrong", qeueu="mail")  # type: ignore[call-arg]


@jobs.task("wrong")  # type: ignore[arg-type]
def plain_with_the_context_of_an_async_one(n: int, ctx: callsheet.Context) -> None: ...


@jobs.task("wrong")  # type: ignore[arg-type]
async def one_parameter(n: int) -> None: ...


@jobs.register
@frozen
class WelcomeEmail(callsheet.Job, kind="mail.welcome", queue="mail"):
    """Declared bare."""

    user_id: str

    async def work(self, ctx: callsheet.Context) -> None:
        """Its handler."""
        ctx.progress(0.5)
        await ctx.enqueue(WelcomeEmail(self.user_id))

    def job_queue(self) -> str | None:
        """Decided by the job."""
        return "mail" if self.user_id else None

    def job_max_attempts(self) -> int:
        """Decided by the job."""
        return 3

    def job_retry_delay(self, attempt: int, error: BaseException) -> timedelta | None:
        """Decided by the job."""
        return timedelta(seconds=attempt)


assert_type(WelcomeEmail("u1").user_id, str)


@jobs.register(queue="mail", retry=callsheet.Retry(attempts=3), kind="image.resize")
@frozen
class Resize(callsheet.Job):
    """Declared with options."""

    path: str

    def work(self, ctx: callsheet.SyncContext) -> str:
        """Its handler, in a thread."""
        ctx.check()
        return self.path


assert_type(Resize("a").path, str)

jobs.register(str)  # type: ignore[type-var]
jobs.register(qeueu="mail")  # type: ignore[call-overload]


@frozen
class Misspelt(callsheet.Job, kind="misspelt", qeueu="mail"):  # type: ignore[call-arg]
    """A keyword that no class has."""

    def work(self, ctx: callsheet.SyncContext) -> None:
        """Its handler."""

    def job_max_attempts(self) -> str:  # type: ignore[override]
        """Not a number."""
        return "3"


async def use() -> None:
    """Calls as a user makes them; what must be an error has its ignore, which fails when it is none."""
    async with jobs.open(Path("jobs.db"), grace=3) as runtime:
        assert_type(runtime, callsheet.Runtime)
        result = await double.enqueue(2, delay=1.5, idempotency_key="k")
        assert_type(result, callsheet.EnqueueResult)
        assert_type(result.run, callsheet.Run)
        await double.enqueue("2")  # type: ignore[arg-type]
        await double.enqueue(2, dealy=1)  # type: ignore[call-arg]
        assert_type(await jobs.enqueue_many([double.entry(1)]), list[callsheet.EnqueueResult])
        assert_type((await jobs.runs.get(result.run_id)).run.status, callsheet.Status)
        assert_type((await jobs.runs.list(status="queued")).next, str | None)
        assert_type(await jobs.runs.wait(result.run_id, timeout=1), callsheet.Run)
        await jobs.enqueue("double", {"any": "thing"}, priority=1)
        said = await jobs.schedules.every("k", timedelta(hours=1), double, 2, misfire="all", overlap="queue", jitter=5)
        assert_type(said, callsheet.ScheduleState)
        assert_type(said.next_at, datetime | None)
        assert_type(said.misfire, callsheet.Misfire)
        await jobs.schedules.cron("k", "0 9 * * *", "double", 2, tz="Europe/Berlin", overlap=callsheet.Overlap.ALLOW)
        await jobs.schedules.every("k", 60, double, 2, jiter=5)  # type: ignore[call-arg]
        await jobs.schedules.every("k", 60, double, 2, misfire="some")  # type: ignore[arg-type]
        assert_type(await jobs.schedules.list(), tuple[callsheet.ScheduleState, ...])
        assert_type(await jobs.schedules.history("k", limit=5), tuple[callsheet.FiredTime, ...])
        assert_type((await jobs.schedules.history("k"))[0].did, callsheet.Did)
        assert_type(await jobs.schedules.preview("k"), tuple[datetime, ...])
        assert_type(await jobs.schedules.trigger("k"), str)
        await jobs.enqueue(double, 2)
        await jobs.enqueue(double, "2")  # type: ignore[misc]
        await jobs.enqueue(double)  # type: ignore[call-overload]
        await jobs.enqueue(17)  # type: ignore[call-overload]
        await halve.enqueue("2")  # type: ignore[arg-type]
        assert_type(await jobs.enqueue(WelcomeEmail("u1"), trace_id="t"), callsheet.EnqueueResult)
        await jobs.enqueue(WelcomeEmail("u1"), {"user_id": "u1"})  # type: ignore[call-overload]
        await jobs.enqueue_in(WelcomeEmail("u1"), 60)
        await jobs.enqueue_in(double, timedelta(minutes=1), 2, priority=1)
        await jobs.enqueue_in("double", 60, 2)
        await jobs.enqueue_in(double, 60, "2")  # type: ignore[misc]
        await jobs.enqueue_at(WelcomeEmail("u1"), "2030-01-01T00:00:00Z")
        await jobs.enqueue_at(WelcomeEmail("u1"), 60)  # type: ignore[call-overload]
        await jobs.enqueue_many([jobs.entry(WelcomeEmail("u1")), jobs.entry(double, 2), jobs.entry("double")])
        assert_type(jobs.config, callsheet.JobsConfig)
        assert_type(jobs.config.queue.concurrency, int)
        assert_type(jobs.definitions(), tuple[callsheet.Definition, ...])
        assert_type(callsheet.Jobs.current(), callsheet.Jobs)
        assert_type(jobs.is_working, bool)
        assert_type(callsheet.AttemptStopped("canceled").reason, str)


def hears(event: callsheet.Event) -> None:
    assert_type(event.kind, callsheet.EventKind)
    assert_type(event.at, datetime)


async def waits_for(event: callsheet.Event) -> None:
    """Nobody would wait for it."""


async def observe() -> None:
    """Listeners, streams, settings, and the page for Prometheus."""
    assert_type(jobs.on_event(hears, kinds=["failed", callsheet.EventKind.RETRYING]), Callable[[], None])
    jobs.on_event(waits_for)  # type: ignore[arg-type]
    async with jobs.events(limit=10) as events:
        assert_type(events, callsheet.Stream[callsheet.Event])
        assert_type(events.lost, int)
        async for event in events:
            hears(event)
    assert_type(jobs.dropped_listeners, tuple[callsheet.DroppedListener, ...])
    quiet = callsheet.Observability(enqueue=False, execution="debug", retry=30, traces=True)
    assert_type(callsheet.Jobs("quiet", observability=quiet).observability.retry, str | None)
    callsheet.Observability(enqueue=1.5)  # type: ignore[arg-type]
    callsheet.Observability(traces="yes")  # type: ignore[arg-type]
    assert_type(callsheet.prometheus_text(await jobs.snapshot(), await guarded.snapshot()), str)


def when(at: datetime) -> None:
    """A time is an aware datetime or a text."""
    jobs.entry(double, 1, run_at=at)
    jobs.entry(double, 1, run_at=17)  # type: ignore[call-overload]


def from_outside(at: datetime) -> None:
    """A client does what the instance does, and nothing is awaited."""
    with jobs.client(Path("jobs.db"), subject="ann") as client:
        assert_type(client, callsheet.Client)
        result = client.enqueue("double", 2, delay=1.5)
        assert_type(result, callsheet.EnqueueResult)
        client.enqueue(double, 2, idempotency_key="k")
        client.enqueue(double, "2")  # type: ignore[misc]
        client.enqueue(double)  # type: ignore[call-overload]
        client.enqueue(17)  # type: ignore[call-overload]
        client.enqueue(double, 2, dealy=1)  # type: ignore[call-overload]
        client.enqueue(WelcomeEmail("u1"), {"user_id": "u1"})  # type: ignore[call-overload]
        client.enqueue_in(WelcomeEmail("u1"), 60)
        client.enqueue_in(double, timedelta(minutes=1), 2, priority=1)
        client.enqueue_in(double, 60, "2")  # type: ignore[misc]
        client.enqueue_at("double", at, 2)
        client.enqueue_at(double, 60, 2)  # type: ignore[call-overload]
        assert_type(client.enqueue_many([client.entry(double, 1), double.entry(2)]), list[callsheet.EnqueueResult])
        client.entry(double, "2")  # type: ignore[misc]
        assert_type(client.runs.get(result.run_id).run.status, callsheet.Status)
        assert_type(client.runs.list(status="queued", limit=5).next, str | None)
        client.runs.list(taks="double")  # type: ignore[call-arg]
        assert_type(client.runs.wait(result.run_id, timeout=1), callsheet.Run)
        assert_type(client.runs.cancel(result.run_id, "no"), callsheet.CancelResult)
        assert_type(client.runs.replay(result.run_id, delay=1), callsheet.EnqueueResult)
        assert_type(client.runs.cancel_all(task="double"), callsheet.BulkResult)
        assert_type(client.runs.explain(result.run_id).reason, callsheet.Reason)
        assert_type(client.queues.pause("mail"), callsheet.QueueState)
        assert_type(client.schedules.every("k", 60, double, 2), callsheet.ScheduleState)
        client.schedules.every("k", 60, double, 2, jiter=5)  # type: ignore[call-arg]
        assert_type(client.schedules.trigger("k"), str)
        assert_type(client.snapshot().schedules, tuple[callsheet.ScheduleState, ...])
        client.queues.set("mail", concurrency="2")  # type: ignore[arg-type]
        assert_type(client.snapshot().wake_path, str | None)
        assert_type(client.config.queue.concurrency, int)
        assert_type(client.definitions(), tuple[callsheet.Definition, ...])
    callsheet.Client("jobs.db", jobs="app/background").stats()
    callsheet.Client("jobs.db", jobs)  # type: ignore[arg-type]


async def from_another_loop() -> None:
    """The same, awaited."""
    async with callsheet.AsyncClient(jobs.client("jobs.db")) as client:
        result = await client.enqueue("double", 2, delay=1.5)
        assert_type(result, callsheet.EnqueueResult)
        await client.enqueue(double, "2")  # type: ignore[misc]
        await client.enqueue_in(WelcomeEmail("u1"), 60)
        assert_type(await client.enqueue_many([await client.entry(double, 1)]), list[callsheet.EnqueueResult])
        assert_type((await client.runs.get(result.run_id)).run.status, callsheet.Status)
        assert_type(await client.runs.wait(result.run_id, timeout=1), callsheet.Run)
        await client.runs.list(taks="double")  # type: ignore[call-arg]
        assert_type(await client.queues.pause("mail"), callsheet.QueueState)
        assert_type(await client.schedules.pause("k"), callsheet.ScheduleState)
        assert_type((await client.snapshot()).wake_path, str | None)
        assert_type(await client.definitions(), tuple[callsheet.Definition, ...])
        client.runs.get(result.run_id)  # type: ignore[unused-awaitable]
