"""Typed jobs: classes that are their own payload and do their own work."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from attrs import define, frozen

from callsheet import (
    AlreadyDeclared,
    Context,
    Discard,
    InvalidName,
    InvalidOption,
    InvalidSchedule,
    Job,
    Jobs,
    NotRegistered,
    PayloadInvalid,
    Queue,
    Retry,
    RetryAfter,
    Snooze,
    Status,
    SyncContext,
    UnknownQueue,
)

from .house import NOON_NS, Place, open_house, outcomes_of, settle, statuses

NOON = datetime.fromtimestamp(NOON_NS / 1e9, UTC)


def mailing(**options: Any) -> tuple[Jobs, Any, list[object]]:
    """Jobs with one Job class, the class, and what its instances did."""
    jobs = Jobs("j", queues=[Queue("mail")])
    done: list[object] = []

    @jobs.register(**options)
    @frozen
    class WelcomeEmail(Job, kind="mail.welcome", queue="mail", retry=Retry(attempts=3)):
        user_id: str
        copies: tuple[int, ...] = ()

        async def work(self, ctx: Context) -> str:
            done.append((self, ctx.task, ctx.attempt))
            return self.user_id

    return jobs, WelcomeEmail, done


async def test_a_job_is_its_own_payload_and_handler(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G01, G48: an instance is enqueued, stored as JSON, read back and does its work; what that returns is the result."""
    jobs, mail, done = mailing()
    async with open_house(place, jobs) as runtime:
        result = await jobs.enqueue(mail("u1", (1, 2)), trace_id="t")
        await runtime.until_idle()
        ended = await jobs.runs.get(result.run_id)

    assert [(mail("u1", (1, 2)), "mail.welcome", 1)] == done
    assert ("u1", {"user_id": "u1", "copies": [1, 2]}) == (ended.result, ended.payload)
    lane = ended.run.lane
    assert ("mail.welcome", "default/mail", 3) == (lane.task, lane.queue, ended.run.max_attempts)


async def test_a_job_may_work_in_a_thread(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """A plain `work` is given a SyncContext; a dataclass does as well as an attrs class."""
    jobs = Jobs("j")
    done: list[object] = []

    @jobs.register
    @dataclasses.dataclass(frozen=True, slots=True)
    class Resize(Job, kind="image.resize"):
        path: str

        def work(self, ctx: SyncContext) -> None:
            ctx.check()
            done.append((self.path, ctx.task))

    async with open_house(memory, jobs) as runtime:
        await jobs.enqueue(Resize("a.png"))
        await runtime.until_idle()

    assert [("a.png", "image.resize")] == done


async def test_jobs_may_be_delayed_named_and_many(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Every way to request a run takes a job: later, at a time, by its kind and payload, with others, from a handler."""
    jobs, mail, done = mailing()
    times: list[float] = []

    @jobs.task("starter")
    async def starter(_: object, ctx: Context) -> None:
        await ctx.enqueue(mail("from a handler"))

    @jobs.task("sync starter")
    def sync_starter(_: object, ctx: SyncContext) -> None:
        ctx.enqueue(mail("from a thread"))

    async with open_house(memory, jobs) as runtime:
        began_s = trio.current_time()
        later = await jobs.enqueue_in(mail("in"), 60)
        runs = [
            later,
            await jobs.enqueue_in(starter, timedelta(minutes=2), None),
            await jobs.enqueue_in("sync starter", 180),
            await jobs.enqueue_at(mail("at"), NOON + timedelta(minutes=4), priority=1),
            await jobs.enqueue("mail.welcome", {"user_id": "by kind"}),
            *await jobs.enqueue_many([jobs.entry(mail("many")), jobs.entry("mail.welcome", mail("many too"))]),
        ]
        for run in runs:
            await jobs.runs.wait(run.run_id)
            times.append(trio.current_time() - began_s)
        await runtime.until_idle()

    assert Status.SCHEDULED == later.run.status
    assert [60, 120, 180, 240, 240, 240, 240] == [round(each, 3) for each in times]
    expected = {"in", "at", "by kind", "many", "many too", "from a handler", "from a thread"}
    assert expected == {each.user_id for each, *_ in done}  # type: ignore[misc]


async def test_a_time_is_said_once(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """`enqueue_in` and `enqueue_at` refuse a second time, and what `enqueue` refuses."""
    jobs, mail, _ = mailing()
    async with open_house(memory, jobs):
        with pytest.raises(InvalidSchedule, match="run_at: the second argument says when"):
            await jobs.enqueue_in(mail("u"), 60, run_at=NOON)
        with pytest.raises(InvalidSchedule, match="delay: the second argument says when"):
            await jobs.enqueue_at(mail("u"), NOON, delay=1)
        with pytest.raises(InvalidSchedule, match="delay: must be at least 0"):
            await jobs.enqueue_in(mail("u"), -1)
        with pytest.raises(TypeError, match="a job is its own payload"):
            await jobs.enqueue(mail("u"), {"user_id": "u"})  # type: ignore[call-overload]

        assert () == (await jobs.runs.list()).runs


# ---------------------------------------------------------------- what one job decides


def deciding(jobs: Jobs) -> tuple[Any, list[tuple[int, str]]]:
    """A class whose instances decide everything that they can decide, and what they were asked."""
    asked: list[tuple[int, str]] = []

    @jobs.register
    @frozen
    class Report(Job, kind="report", retry=Retry(attempts=4, backoff="fixed", initial_delay=100)):
        queue: str | None = None
        attempts: Any = None
        delays: tuple[Any, ...] = ()
        error: str = "ValueError"

        def job_queue(self) -> str | None:
            return self.queue

        def job_max_attempts(self) -> int | None:
            return self.attempts  # type: ignore[no-any-return]

        def job_retry_delay(self, attempt: int, error: BaseException) -> Any:
            asked.append((attempt, type(error).__name__))
            delay = self.delays[attempt - 1]
            if delay == "raise":
                raise KeyboardInterrupt
            if delay == "list":
                return []
            if delay == "timedelta":
                return timedelta(minutes=1)
            return delay

        async def work(self, ctx: Context) -> None:
            match self.error:
                case "sleep":
                    await trio.sleep_forever()
                case "RetryAfter":
                    raise RetryAfter(7)
                case "Snooze":
                    raise Snooze(7) if ctx.attempt == 1 else Discard("enough")
                case "KeyError":
                    raise KeyError
                case _:
                    raise ValueError("no")

    return Report, asked


async def test_a_job_may_pick_its_queue(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """G06: by its own fields; None is that of its class; `queue=` wins; one that is not declared is refused."""
    jobs = Jobs("j", queues=[Queue("mail"), Queue("slow")])
    report, _ = deciding(jobs)
    async with open_house(memory, jobs):
        runs = [
            await jobs.enqueue(report("mail")),
            await jobs.enqueue(report()),
            await jobs.enqueue("report", {"queue": "slow"}),
            await jobs.enqueue(report("mail"), queue="slow"),
            *await jobs.enqueue_many([jobs.entry(report("slow"))]),
        ]
        with pytest.raises(UnknownQueue, match="did you mean 'mail'"):
            await jobs.enqueue(report("mial"))

    expected = ["mail", "j-jobs", "slow", "slow", "slow"]
    assert expected == [each.run.lane.queue.partition("/")[2] for each in runs]


async def test_a_job_may_say_how_often_it_is_tried(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """G09: asked at enqueue and stored with the run; None is its policy's; `max_attempts=` wins; a wrong number is refused."""
    jobs = Jobs("j")
    report, _ = deciding(jobs)
    async with open_house(memory, jobs):
        runs = [
            await jobs.enqueue(report(attempts=2)),
            await jobs.enqueue(report()),
            await jobs.enqueue(report(attempts=2), max_attempts=7),
        ]
        with pytest.raises(InvalidOption, match=r"job_max_attempts\(\) of 'report': must be 1 to 10,000, not 0"):
            await jobs.enqueue(report(attempts=0))
        with pytest.raises(TypeError, match=r"job_max_attempts\(\) of 'report' must be an int"):
            await jobs.enqueue(report(attempts="2"))

    assert [2, 4, 7] == [each.run.max_attempts for each in runs]


@pytest.mark.parametrize(
    ("delays", "waits"),
    [
        ((1, 2.5, "timedelta"), [1, 2.5, 60]),
        ((0, None, 1), [0, 100, 1]),
        (("raise", -1, "list"), [100, 100, 100]),
        (("inf", "soon", True), [100, 100, 100]),
    ],
)
async def test_a_job_may_say_when_it_is_tried_again(
    autojump_clock: trio.abc.Clock,
    place: Place,
    caplog: pytest.LogCaptureFixture,
    delays: tuple[Any, ...],
    waits: list[float],
) -> None:
    """G10: asked with the tries spent; 0 is now; what is wrong leaves it to the policy, and is logged."""
    jobs = Jobs("j")
    report, asked = deciding(jobs)
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue(report(delays=delays))
        await jobs.runs.wait(run.run_id)
        await runtime.until_idle()
        moves = (await jobs.runs.get(run.run_id)).transitions

    starts = [each.at_us / 1e6 for each in moves if each.now is Status.RUNNING]
    assert waits == [round(later - sooner, 2) for sooner, later in itertools.pairwise(starts)]
    assert Status.DEAD_LETTERED == moves[-1].now
    assert [(1, "ValueError"), (2, "ValueError"), (3, "ValueError")] == asked  # not after the last one
    wrong = [each for each in delays if each in ("raise", -1, "list", "inf", "soon") or each is True]
    assert len(wrong) == caplog.text.count("cannot say when to try again: its retry policy does")


async def test_no_job_waits_longer_than_a_day(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Whatever it says, the next try is at most 24 hours away."""
    jobs = Jobs("j")
    report, _ = deciding(jobs)
    async with open_house(memory, jobs):
        result = await jobs.enqueue(report(delays=(10 * 86_400,)))
        await settle()
        run = (await jobs.runs.get(result.run_id)).run

    assert (Status.RETRYING, 86_400_000_000) == (run.status, run.due_us - run.updated_us)


async def test_a_job_is_asked_about_a_timeout_too(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """It is given a TimeoutError then."""
    jobs = Jobs("j", timeout=5)
    report, asked = deciding(jobs)
    async with open_house(memory, jobs):
        run = await jobs.enqueue(report(delays=(1, 1, 1), error="sleep"))
        ended = await jobs.runs.wait(run.run_id)

    assert [(1, "TimeoutError"), (2, "TimeoutError"), (3, "TimeoutError")] == asked
    assert 4 * 5 + 3 * 1 == ((ended.ended_us or 0) - ended.created_us) / 1e6


@pytest.mark.parametrize(
    ("error", "outcomes"),
    [("RetryAfter", ["failed"] * 4), ("Snooze", ["snoozed", "discarded"]), ("KeyError", ["failed"])],
)
async def test_a_job_is_not_asked_when_the_handler_said_it(
    autojump_clock: trio.abc.Clock, memory: Place, error: str, outcomes: list[str]
) -> None:
    """RetryAfter, Snooze, Discard and what its policy does not retry leave nothing to ask."""
    jobs = Jobs("j", retry=Retry(never=LookupError))  # type: ignore[arg-type]
    report, asked = deciding(jobs)
    async with open_house(memory, jobs):
        run = await jobs.enqueue(report(error=error))
        await jobs.runs.wait(run.run_id)
        assert outcomes == await outcomes_of(jobs, run.run_id)

    assert [] == asked


# ---------------------------------------------------------------- declaring


def test_arguments_of_the_decorator_win_over_keywords_of_the_class() -> None:
    """Options of both are put together; a kind may be given there too."""
    jobs, _, _ = mailing(retry=Retry(attempts=9), kind="mail.hello", timeout=3)

    [definition] = jobs.definitions()

    assert ("mail.hello", "mail", 9, 3.0) == (
        definition.name,
        definition.queue,
        definition.max_attempts,
        definition.timeout,
    )


def test_options_are_handed_down_and_kinds_are_not() -> None:
    """G03: a class without a kind of its own is refused, with a sentence that says whose it would have taken."""
    jobs, mail, _ = mailing()

    @frozen
    class Goodbye(mail):  # type: ignore[misc]
        pass

    @frozen
    class Named(mail, kind="mail.named", timeout=5):  # type: ignore[misc]
        pass

    with pytest.raises(InvalidOption, match=r"kind: .*Goodbye inherits 'mail.welcome' of .*WelcomeEmail, whose runs"):
        jobs.register(Goodbye)
    jobs.register(Named)

    definition = next(each for each in jobs.definitions() if each.name == "mail.named")
    assert ("mail", 3, 5.0) == (definition.queue, definition.max_attempts, definition.timeout)


@frozen
class Plain:
    async def work(self, ctx: Context) -> None: ...


@frozen
class NoKind(Job):
    async def work(self, ctx: Context) -> None: ...


@frozen
class EmptyKind(Job, kind=""):
    async def work(self, ctx: Context) -> None: ...


@frozen
class LongKind(Job, kind="x" * 129):
    async def work(self, ctx: Context) -> None: ...


@frozen
class NoWork(Job, kind="no.work"):
    pass


class NoFields(Job, kind="no.fields"):
    async def work(self, ctx: Context) -> None: ...


@frozen
class TwoPayloads(Job, kind="two"):
    async def work(self, payload: object, ctx: Context) -> None: ...


@frozen
class WrongContext(Job, kind="wrong"):
    async def work(self, ctx: SyncContext) -> None: ...


@frozen
class WrongQueue(Job, kind="queue", queue="mial"):
    async def work(self, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("job", "error", "sentence"),
    [
        (Plain, TypeError, "@jobs.register takes a class derived from Job, not <class"),
        (NoKind(), TypeError, "takes a class derived from Job, not NoKind"),
        (NoKind, InvalidOption, r'kind: NoKind has none: write `class NoKind\(Job, kind="…"\)`'),
        (EmptyKind, InvalidName, "kind '' is not allowed: it is empty"),
        (LongKind, InvalidName, "it has 129 bytes, the limit is 128"),
        (NoWork, TypeError, "NoWork has no `work`"),
        (NoFields, TypeError, "NoFields must be an attrs class or a dataclass: write @frozen, or @dataclass, below"),
        (TwoPayloads, TypeError, r"the handler of job 'two' must take \(self, ctx\)"),
        (WrongContext, TypeError, "the handler of job 'wrong' must take a Context, not a SyncContext"),
        (WrongQueue, UnknownQueue, "did you mean 'mail'"),
    ],
)
def test_a_wrong_class_is_refused_when_it_is_registered(job: Any, error: type[Exception], sentence: str) -> None:
    """G02, G03, G04: no kind, an empty or long one, no work, no fields, another form: a sentence, and nothing is declared."""
    jobs, _, _ = mailing()

    with pytest.raises(error, match=sentence):
        jobs.register(job)

    assert ["mail.welcome"] == list(jobs.tasks)


def test_one_kind_is_one_class() -> None:
    """G03: a kind twice is refused, also where it is a task's name, an alias, or the same class again."""
    jobs, mail, _ = mailing(aliases=("mail.old",))
    for kind in ("mail.welcome", "mail.old"):
        with pytest.raises(AlreadyDeclared, match=f"task '{kind}' cannot be declared"):
            jobs.register(kind=kind)(NoKind)
    with pytest.raises(AlreadyDeclared, match="there is one of this name"):
        jobs.register(mail)


def test_a_keyword_that_no_task_has_is_refused_where_the_class_is_made() -> None:
    """A misspelt keyword names what there is."""
    with pytest.raises(TypeError, match="a task has no option 'qeueu'; it has retry"):
        type("Wrong", (Job,), {}, kind="wrong", qeueu="mail")  # type: ignore[call-overload]


async def test_only_the_registered_class_is_taken(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """G11: another class with the same kind, or a subclass, would come back as something else: it is refused."""
    jobs, mail, _ = mailing()

    @define
    class Other(Job, kind="mail.welcome"):
        user_id: str = ""

        async def work(self, ctx: Context) -> None: ...

    @frozen
    class Sub(mail, kind="mail.sub"):  # type: ignore[misc]
        pass

    async with open_house(memory, jobs):
        for call in (jobs.enqueue, lambda job: jobs.enqueue("mail.welcome", job)):
            with pytest.raises(NotRegistered, match=r"Other: kind 'mail.welcome' is that of .*WelcomeEmail"):
                await call(Other("u"))
            with pytest.raises(NotRegistered, match=r"default/j does not know the class .*Sub: put @jobs.register on"):
                await call(Sub("u"))
        with pytest.raises(NotRegistered):
            jobs.entry(Other("u"))
        with pytest.raises(PayloadInvalid, match=r"\$\.user_id: it is an integer, not a text"):
            await jobs.enqueue(mail(5))

        assert () == (await jobs.runs.list()).runs


async def test_what_work_raises_ends_its_attempt_only(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """G49, G50: any exception is a failed attempt with its text, retried by the policy, at last dead-lettered."""
    jobs = Jobs("j")

    @jobs.register
    @frozen
    class Bomb(Job, kind="bomb", retry=Retry(attempts=2)):
        async def work(self, ctx: Context) -> None:
            raise SystemExit("boom")

    async with open_house(memory, jobs) as runtime:
        run = await jobs.enqueue(Bomb())
        await jobs.runs.wait(run.run_id)
        await runtime.until_idle()
        assert [Status.DEAD_LETTERED] == await statuses(jobs, [run.run_id])
        errors = [each.error for each in (await jobs.runs.get(run.run_id)).attempts]

    assert [("SystemExit", "boom")] * 2 == [(each.type, each.message) for each in errors if each is not None]
