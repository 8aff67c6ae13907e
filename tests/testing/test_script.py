"""Scripted handlers, and handlers that are called once: what a test can have an attempt do, and what it can ask of one."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import frozen

from callsheet import (
    Context,
    Discard,
    Job,
    Jobs,
    PayloadInvalid,
    Queue,
    Retry,
    RetryAfter,
    Snooze,
    Status,
    SyncContext,
)
from callsheet.store.records import OutcomeKind
from callsheet.testing import Hang, Play, Raise, Return, Sleep, StillBusy, Swallow, World, simulate


@frozen
class Letter:
    to: str
    pages: int = 1


def post() -> tuple[Jobs, list[tuple[str, int]]]:
    """A task that says whom it wrote to in which attempt."""
    jobs = Jobs("post", queue=Queue(concurrency=1), retry=Retry(attempts=4, backoff="fixed", initial_delay=60))
    sent: list[tuple[str, int]] = []

    @jobs.task("send", timeout=30)
    async def send(letter: Letter, ctx: Context) -> dict[str, Any]:
        sent.append((letter.to, ctx.attempt))
        match letter.to:
            case "nobody":
                raise Discard("no such address")
            case "busy":
                raise RetryAfter(5)
            case "closed":
                raise Snooze(3600)
            case "moved":
                raise LookupError(f"attempt {ctx.attempt} of {ctx.attempt + ctx.tries_left - 1}")
            case "slow":
                await trio.sleep(40)
            case "copy":
                await ctx.enqueue("send", Letter("archive"))
        return {"app": ctx.app, "trace": ctx.trace_id, "pages": letter.pages}

    return jobs, sent


def outcomes(world: World, run_id: str) -> list[str]:
    return [str(each.outcome) for each in world.history(run_id).attempts]


# ---------------------------------------------------------------- scripts


async def test_each_attempt_takes_the_next_step_and_then_the_handler_plays(mock_clock: trio.abc.Clock) -> None:
    """Every kind of step does what it says, in order; what is left over is the handler's."""
    jobs, sent = post()

    async with simulate(jobs) as world:
        steps = [
            Raise(OSError),
            Raise(Snooze(10)),
            Swallow(40, Return("late")),
            Hang(),
            Sleep(29, Raise(OSError("slow"))),
        ]
        script = world.script("send", steps)
        first = await jobs.enqueue("send", Letter("ann"), max_attempts=9)
        await world.until_idle()
        await world.advance(seconds=10)  # a snoozed run is scheduled: nothing that a world at rest waits for
        await world.until_idle()
        second = await jobs.enqueue("send", Letter("bob"))
        await world.until_idle()

        assert ["failed", "snoozed", "timed_out", "timed_out", "failed", "succeeded"] == outcomes(world, first.run_id)
        assert ["succeeded"] == outcomes(world, second.run_id)
        assert [("ann", 6), ("bob", 1)] == sent
        assert [*steps, Play(), Play()] == [each.step for each in script.calls]
        assert [Letter("ann")] * 6 + [Letter("bob")] == script.payloads
        assert [1, 2, 3, 4, 5, 6, 1] == [each.attempt for each in script.calls]
        assert first.run_id == script.calls[0].run_id
        assert [] == script.left


async def test_a_swallowed_cancellation_is_late(mock_clock: trio.abc.Clock) -> None:
    """The value of a handler that went on after its cancel is kept as a late outcome, when it comes."""
    jobs, _ = post()

    async with simulate(jobs) as world:
        world.script("send", [Swallow(40, Return("late"))])
        result = await jobs.enqueue("send", Letter("ann"))
        await world.advance(seconds=10)
        await jobs.runs.cancel(result.run_id)
        await world.advance(seconds=29)
        assert None is world.history(result.run_id).attempts[0].late_outcome
        await world.advance(seconds=1)

        assert "returned a value" == world.history(result.run_id).attempts[0].late_outcome


async def test_the_real_handler_can_stand_in_the_middle_of_a_script(mock_clock: trio.abc.Clock) -> None:
    """`Play` calls it, also after a sleep; another script replaces the first."""
    jobs, sent = post()

    async with simulate(jobs) as world:
        old = world.script("send", [Return()] * 3)
        new = world.script("send", [Raise(OSError), Sleep(3, Play()), Return()])
        await jobs.enqueue("send", Letter("ann"))
        await world.until_idle()
        await jobs.enqueue("send", Letter("bob"))
        await world.until_idle()

        assert [("ann", 2)] == sent
        assert (3, 0) == (len(old.left), len(old.calls))
        assert (0, 3) == (len(new.left), len(new.calls))


async def test_what_is_no_step_is_refused(mock_clock: trio.abc.Clock) -> None:
    """When the script is given, not when an attempt meets it."""
    jobs, _ = post()

    async with simulate(jobs) as world:
        with pytest.raises(TypeError, match=r"a script is made of Return, Raise.*not of 3"):
            world.script("send", [3])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="Raise takes an exception, not 'no'"):
            Raise("no")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a step must be at least 0"):
            Sleep(-1)


async def test_typed_jobs_and_plain_functions_take_part(mock_clock: trio.abc.Clock) -> None:
    """A job class names its task; a function that runs in a thread can be scripted, performed, and takes no virtual time."""
    jobs = Jobs("j", retry=Retry(attempts=3, backoff="fixed", initial_delay=60))

    @jobs.register
    @frozen
    class Welcome(Job, kind="mail.welcome"):
        user: str

        async def work(self, ctx: Context) -> str:
            return f"hello {self.user}"

        def job_retry_delay(self, attempt: int, error: BaseException) -> float:
            return 7.0 * attempt

    @jobs.task("count")
    def count(n: int, ctx: SyncContext) -> int:
        ctx.enqueue(Welcome(f"u{n}"))
        return n + ctx.attempt

    async with simulate(jobs) as world:
        script = world.script(Welcome, [Raise(OSError), Raise(OSError)])
        world.script("count", [Raise(OSError)])
        counted = await jobs.enqueue("count", 1)
        await world.until_idle()

        assert 3 == world.history(counted.run_id).result
        [welcome] = world.assert_enqueued(Welcome, count=1, payload=Welcome("u1"))
        assert "hello u1" == welcome.result
        assert [7.0, 14.0] == [
            (b.at - a.at).total_seconds() for a, b in zip(script.calls, script.calls[1:], strict=False)
        ]
        assert 11 == (await world.perform("count", 10)).result
        assert "hello ann" == (await world.perform(Welcome, Welcome("ann"))).result
        assert "hello ben" == (await world.perform(Welcome("ben"))).result
        with pytest.raises(TypeError, match="a job is its own payload: perform takes no other one with it"):
            await world.perform(Welcome("ben"), 5)


# ---------------------------------------------------------------- perform


async def test_one_call_says_what_would_become_of_its_run(mock_clock: trio.abc.Clock) -> None:
    """Value, error and verdict of one attempt, with nothing of it stored."""
    jobs, sent = post()

    async with simulate(jobs, app="the app") as world:
        fine = await world.perform("send", Letter("ann", 3), trace_id="t1")
        other = await world.perform("send", Letter("ann"), app="another")
        moved = await world.perform("send", Letter("moved"), attempt=3)
        last = await world.perform("send", Letter("moved"), attempt=4)
        spared = await world.perform("send", Letter("moved"), attempt=4, spent=0)

        assert (OutcomeKind.SUCCEEDED, Status.SUCCEEDED) == (fine.outcome, fine.status)
        assert {"app": "the app", "trace": "t1", "pages": 3} == fine.result
        assert {"app": "another", "trace": None, "pages": 1} == other.result
        assert (OutcomeKind.FAILED, Status.RETRYING, 60.0) == (moved.outcome, moved.status, moved.delay_s)
        assert isinstance(moved.raised, LookupError)
        assert ("LookupError", "attempt 3 of 4") == (moved.error.type, moved.error.message)  # type: ignore[union-attr]
        assert (Status.DEAD_LETTERED, None) == (last.status, last.delay_s)
        assert "4 of 4 attempts spent" == last.verdict.cause
        assert Status.RETRYING is spared.status
        assert [1, 1, 3, 4, 4] == [attempt for _, attempt in sent]
        assert [] == world.runs()


async def test_what_a_handler_raises_on_purpose_counts(mock_clock: trio.abc.Clock) -> None:
    """Discard, RetryAfter and Snooze, and a timeout in virtual time, judged as for a stored run."""
    jobs, _ = post()

    async with simulate(jobs) as world:
        nobody = await world.perform("send", Letter("nobody"))
        busy = await world.perform("send", Letter("busy"))
        closed = await world.perform("send", Letter("closed"), attempt=4)
        slow = await world.perform("send", Letter("slow"))
        patient = await world.perform("send", Letter("slow"), timeout=50)

        assert (Status.DEAD_LETTERED, "no such address") == (nobody.status, nobody.verdict.cause)
        assert (Status.RETRYING, 5.0) == (busy.status, busy.delay_s)
        assert (Status.SCHEDULED, 3600.0) == (closed.status, closed.delay_s)
        assert (OutcomeKind.TIMED_OUT, 30.0, None) == (slow.outcome, slow.took_s, slow.raised)
        assert (OutcomeKind.SUCCEEDED, 40.0) == (patient.outcome, patient.took_s)


async def test_a_performed_handler_may_enqueue(mock_clock: trio.abc.Clock) -> None:
    """What it enqueues is stored, and runs; a script for its task is for runs, and not for it."""
    jobs, sent = post()

    async with simulate(jobs) as world:
        world.script("send", [Return("scripted")])
        await world.perform("send", Letter("copy"))
        await world.until_idle()

        [follows] = world.assert_enqueued("send", count=1, payload=Letter("archive"))
        assert "scripted" == follows.result
        assert [("copy", 1)] == sent


async def test_a_call_that_cannot_be_is_refused(mock_clock: trio.abc.Clock) -> None:
    """A wrong payload or attempt before the handler is called; one that never ends after the limit."""
    jobs, sent = post()

    @jobs.task("hang")
    async def hang(_: object, ctx: Context) -> None:
        await trio.sleep_forever()

    async with simulate(jobs) as world:
        with pytest.raises(PayloadInvalid):
            await world.perform("send", {"to": 3})
        with pytest.raises(ValueError, match="attempts are counted from 1, and 0"):
            await world.perform("send", Letter("ann"), attempt=0)
        with pytest.raises(StillBusy, match=r"(?s)after 60 s of virtual time.*the handler of hang"):
            await world.perform("hang", limit=60)
        await world.settle()

        assert [] == sent
        assert 60.0 == trio.current_time()
