"""What follows when an attempt does not succeed: exact times, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio

from callsheet import Context, Custom, Discard, Jobs, Retry, RetryAfter, RunDetails, Snooze, Status

from .house import Place, Wall, moves_of, open_house, outcomes_of

Script = Sequence[BaseException | Callable[[], BaseException] | None]


async def play(
    place: Place, script: Script, jobs: Jobs | None = None, *, task: dict[str, Any] | None = None, **options: Any
) -> tuple[list[float], RunDetails]:
    """Run one run whose attempts do as the script says (the last line repeats): when each began, and the end."""
    jobs = jobs or Jobs("j")
    times: list[float] = []

    @jobs.task("work", **(task or {}))
    async def work(_: object, ctx: Context) -> str:
        times.append(round(trio.current_time() - began_s, 3))
        line = script[min(len(times), len(script)) - 1]
        if isinstance(line, BaseException):
            raise line
        if line is not None:
            raise line()
        return "done"

    async with open_house(place, jobs) as runtime:
        began_s = trio.current_time()
        result = await jobs.enqueue("work", **options)
        run = await jobs.runs.wait(result.run_id)
        assert run.status.is_final
        await runtime.until_idle()
        return times, await jobs.runs.get(result.run_id)


FAIL = [lambda: ValueError("no")]


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (None, [0, 5, 15, 35, 75]),
        (Retry(attempts=1), [0]),
        (Retry(attempts=3), [0, 5, 15]),
        (Retry(attempts=4, backoff="fixed", initial_delay=2), [0, 2, 4, 6]),
        (Retry(attempts=4, backoff="exponential", initial_delay=1), [0, 1, 3, 7]),
        (Retry(attempts=5, initial_delay=100, max_delay=250), [0, 100, 300, 550, 800]),
        (Retry(attempts=4, backoff=Custom([1, 10]), max_delay=None), [0, 1, 11, 21]),
        (Retry(attempts=4, backoff=Custom([1, 10]), max_delay=4), [0, 1, 5, 9]),
        (Retry(attempts=3, backoff="fixed", initial_delay=0), [0, 0, 0]),
        (Retry(attempts=3, backoff="fixed", initial_delay=0.5), [0, 0.5, 1]),
    ],
)
async def test_each_try_comes_when_its_policy_says(
    autojump_clock: trio.abc.Clock, place: Place, retry: Retry | None, expected: list[float]
) -> None:
    """Fixed, exponential and custom backoff, bounded by max_delay; then the run is dead-lettered with its history."""
    times, ended = await play(place, FAIL, task={"retry": retry})

    assert expected == times
    n = len(expected)
    assert (Status.DEAD_LETTERED, n, n) == (ended.run.status, ended.run.attempt, ended.run.spent)
    assert f"{n} of {n} attempts spent" == ended.run.cause
    assert ["failed"] * n == [str(each.outcome) for each in ended.attempts]
    error = ended.attempts[-1].error
    assert error is not None
    assert ("ValueError", "no") == (error.type, error.message)
    assert "raise line()" in error.traceback


async def test_a_run_that_succeeds_at_last_has_succeeded(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Failures before it are in the history; the result is that of the last attempt."""
    times, ended = await play(place, [ValueError("1"), KeyError("2"), None])

    assert [0, 5, 15] == times
    assert (Status.SUCCEEDED, "done", 3, 2) == (ended.run.status, ended.result, ended.run.attempt, ended.run.spent)
    moves = ["queued", "running", "retrying", "running", "retrying", "running", "succeeded"]
    assert moves == [str(each.now) for each in ended.transitions]


async def test_a_policy_is_merged_over_its_instances_field_by_field(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """What a task leaves out comes from its Jobs, and what that leaves out from the defaults."""
    jobs = Jobs("j", retry=Retry(attempts=3, backoff="fixed", initial_delay=7))

    times, ended = await play(place, FAIL, jobs, task={"retry": Retry(initial_delay=2)})

    assert [0, 2, 4] == times
    assert 3 == ended.run.max_attempts


async def test_max_attempts_of_a_run_wins(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`max_attempts` given at enqueue counts for that run, whatever the task says."""
    times, ended = await play(place, FAIL, max_attempts=2)

    assert [0, 5] == times
    assert 2 == ended.run.max_attempts


async def test_jitter_lengthens_and_never_passes_the_bound(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """With jitter waits differ, each between its delay and the bound."""
    retry = Retry(attempts=12, backoff="fixed", initial_delay=10, max_delay=14, jitter=0.5)

    times, _ = await play(place, FAIL, task={"retry": retry})

    waits = [round(later - sooner, 3) for sooner, later in itertools.pairwise(times)]
    assert 3 <= len(set(waits))
    assert 10 <= min(waits) <= max(waits) <= 14.002


async def test_retry_after_says_when(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """RetryAfter spends a try and ignores the policy's bound; a delay of 0 is at once."""
    times, ended = await play(place, [RetryAfter(1_000), RetryAfter(0, "busy"), None])

    assert [0, 1_000, 1_000] == times
    assert (Status.SUCCEEDED, 2) == (ended.run.status, ended.run.spent)
    error = ended.attempts[1].error
    assert error is not None
    assert "busy" == error.message


async def test_retry_after_is_not_one_try_more(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A handler that always asks for later ends with its attempts all the same."""
    times, ended = await play(place, [RetryAfter(1)], max_attempts=3)

    assert [0, 1, 2] == times
    assert Status.DEAD_LETTERED == ended.run.status


async def test_discard_ends_it_now(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Discard dead-letters at once with its reason, spending nothing."""
    times, ended = await play(place, [Discard("the account is closed")])

    assert [0] == times
    assert (Status.DEAD_LETTERED, "the account is closed", 0) == (ended.run.status, ended.run.cause, ended.run.spent)
    assert ["discarded"] == [str(each.outcome) for each in ended.attempts]


async def test_snooze_waits_without_spending(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A snoozed run is scheduled again and has as many tries as before, however often."""
    times, ended = await play(place, [Snooze(60)] * 8 + [None], max_attempts=1)  # type: ignore[list-item]

    assert [60.0 * n for n in range(9)] == times
    assert (Status.SUCCEEDED, 9, 0) == (ended.run.status, ended.run.attempt, ended.run.spent)
    assert "scheduled" == str(ended.transitions[2].now)


async def test_the_leaves_of_a_group_decide(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Out of a nursery inside the handler too: the longest RetryAfter counts; a Discard beats it."""
    retry = ExceptionGroup("nursery", [RetryAfter(5), ValueError(), RetryAfter(9)])
    discard = ExceptionGroup("nursery", [RetryAfter(5), ExceptionGroup("inner", [Discard("enough")])])

    times, ended = await play(place, [retry, discard])

    assert [0, 9] == times
    assert "enough" == ended.run.cause


async def test_never_is_never_retried(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """An exception that `never` matches ends the run as not retryable."""
    times, ended = await play(place, [KeyError("gone")], task={"retry": Retry(never=LookupError)})  # type: ignore[arg-type]

    assert [0] == times
    assert (Status.DEAD_LETTERED, "not_retryable") == (ended.run.status, ended.run.cause)
    assert 1 == ended.run.spent


async def test_on_is_all_that_is_retried(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """With `on`, another exception ends the run at once."""
    times, ended = await play(
        place,
        [OSError("net"), ConnectionError("net"), ValueError("bug")],
        task={"retry": Retry(on=(OSError,))},
    )

    assert [0, 5, 15] == times
    assert "not_retryable" == ended.run.cause


async def test_a_timeout_spends_a_try_and_is_retried(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A handler that takes too long is cancelled at its timeout, and tried again by its policy."""
    jobs = Jobs("j", timeout=100)
    times: list[float] = []
    left: list[float | None] = []
    began_s = trio.current_time()

    @jobs.task("work", timeout=10)
    async def work(_: object, ctx: Context) -> None:
        times.append(trio.current_time() - began_s)
        left.append(None if ctx.deadline is None else ctx.deadline.timestamp())
        await trio.sleep_forever()

    async with open_house(place, jobs) as runtime:
        own = await jobs.enqueue("work", max_attempts=2)
        other = await jobs.enqueue("work", max_attempts=1, timeout=2)
        await runtime.until_idle()
        ended = [await jobs.runs.get(each.run_id) for each in (own, other)]

    assert [0, 0, 15] == [round(each, 3) for each in times]
    assert [["timed_out", "timed_out"], ["timed_out"]] == [[str(a.outcome) for a in each.attempts] for each in ended]
    assert [2, 1] == [each.run.spent for each in ended]
    assert 8 == abs(round((left[0] or 0) - (left[1] or 0)))
    assert [Status.DEAD_LETTERED] * 2 == [each.run.status for each in ended]


async def test_a_handler_that_shields_itself_holds_its_slot_and_its_attempt(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """Until a timed-out handler has ended its run is running, and nothing else of it starts."""
    jobs = Jobs("j", retry=Retry(attempts=2, initial_delay=1))
    running: list[int] = []

    @jobs.task("work", timeout=1)
    async def work(_: object, ctx: Context) -> str:
        running.append(ctx.attempt)
        with trio.CancelScope(shield=True):
            await trio.sleep(30)
        return "late"

    async with open_house(place, jobs) as runtime:
        result = await jobs.enqueue("work")
        await trio.sleep(29)
        assert ([1], 1) == (running, runtime.on_stage)
        assert ["queued", "running"] == await moves_of(jobs, result.run_id)
        await runtime.until_idle()

        assert ["timed_out", "timed_out"] == await outcomes_of(jobs, result.run_id)
        assert None is (await jobs.runs.get(result.run_id)).result
    assert [1, 2] == running


async def test_what_a_handler_knows_of_its_attempts(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`ctx` counts attempts without gaps, tries spent, and tries left, this one included."""
    jobs = Jobs("j")
    seen: list[tuple[int, int, int]] = []
    claims: set[bytes] = set()
    fences: list[int] = []

    @jobs.task("work", retry=Retry(attempts=3, backoff="fixed", initial_delay=1))
    async def work(_: object, ctx: Context) -> None:
        seen.append((ctx.attempt, ctx.spent, ctx.tries_left))
        claims.add(ctx.claim_id)
        fences.append(ctx.fence)
        if ctx.attempt == 2:
            raise Snooze(1)
        raise ValueError

    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()
        await trio.sleep(1.5)
        await runtime.until_idle()

    assert [(1, 0, 3), (2, 1, 2), (3, 1, 2), (4, 2, 1)] == seen
    assert 4 == len(claims)
    assert sorted(set(fences)) == fences


async def test_a_stored_payload_that_its_type_refuses_waits(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A payload that this release cannot read is not thrown away: unspent, it waits a minute, and says why."""
    before, after = Jobs("j"), Jobs("j")

    @before.task("work")
    async def old(payload: str, ctx: Context) -> None: ...

    @after.task("work")
    async def new(payload: int, ctx: Context) -> None: ...

    wall = Wall()
    async with open_house(place, before, wall=wall):
        result = await before.enqueue("work", "text", delay=1)
    async with open_house(place, after, wall=wall):
        await trio.sleep(65)
        waiting = await after.runs.get(result.run_id)
    async with open_house(place, before, wall=wall) as runtime:
        await trio.sleep(65)
        await runtime.until_idle()
        ended = await before.runs.get(result.run_id)

    assert (Status.SCHEDULED, "unreadable", 0) == (waiting.run.status, waiting.run.cause, waiting.run.spent)
    assert {"unreadable"} == {str(each.outcome) for each in waiting.attempts}
    assert Status.SUCCEEDED == ended.run.status
