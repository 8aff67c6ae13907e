"""One attempt: whatever a handler does, it ends with an outcome, and nobody else is harmed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from attrs import define, evolve, field

from callsheet.actors.control import Discard, RetryAfter, Snooze
from callsheet.actors.run import RunActor, StopReason
from callsheet.store.policy import RetryPolicy
from callsheet.store.records import Claimed, Lane, Outcome, OutcomeKind

from .world import World, open_world, settle

CLAIMED = Claimed(
    run_id="r1",
    lane=Lane("app/main", "app/main-jobs", "mail", "1"),
    attempt=1,
    spent=0,
    deaths=0,
    max_attempts=3,
    timeout_us=None,
    priority=5,
    claim_id=b"c" * 16,
    fence=1,
    started_us=0,
    created_us=0,
    payload=b"null",
    trace_id=None,
    nominal_us=None,
)

Handler = Callable[[], Awaitable[object]]


@define(eq=False)
class Ends:
    """The parent of a run: keeps what it is told."""

    outcomes: list[Outcome] = field(factory=list)
    stuck: list[int | None] = field(factory=list)

    def run_ended(self, actor: RunActor, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def run_stuck(self, actor: RunActor) -> None:
        self.stuck.append(actor.stuck_since_us)


def stage_run(
    world: World, handler: Handler, timeout_s: float | None = None, policy: RetryPolicy | None = None
) -> tuple[RunActor, Ends]:
    ends = Ends()
    claimed = evolve(CLAIMED, timeout_us=None if timeout_s is None else int(timeout_s * 1e6))
    actor = RunActor(claimed, lambda _: handler(), policy or RetryPolicy(), world.stage, ends)
    actor.start()
    return actor, ends


async def outcome_of(handler: Handler, timeout_s: float | None = None, policy: RetryPolicy | None = None) -> Outcome:
    """Of a handler that ends by itself within an hour; the stage must still stand then."""
    async with open_world() as world:
        _, ends = stage_run(world, handler, timeout_s, policy)
        await trio.sleep(3600)
        await settle()
        [outcome] = ends.outcomes
        assert [] == world.exits
        return outcome


async def stopped(handler: Handler, reason: StopReason) -> tuple[Outcome, str | None]:
    """The outcome, and what is kept as late, of a handler that is told to stop after a second."""
    async with open_world() as world:
        actor, ends = stage_run(world, handler)
        await trio.sleep(1)
        actor.stop(reason)
        await trio.sleep(3600)
        [outcome] = ends.outcomes
        return outcome, actor.late


def kind_and_error(outcome: Outcome) -> tuple[OutcomeKind, str | None]:
    return outcome.kind, None if outcome.error is None else outcome.error.type


# ---------------------------------------------------------------- by itself


async def test_a_handler_that_returns_has_succeeded(autojump_clock: trio.abc.Clock) -> None:
    """A returned value is the result; None is no result."""

    async def one() -> object:
        return {"n": 1}

    async def none() -> object:
        return None

    assert Outcome(OutcomeKind.SUCCEEDED, result=b'{"n":1}') == await outcome_of(one)
    assert Outcome(OutcomeKind.SUCCEEDED) == await outcome_of(none)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes", object(), {1: 2}, "x" * 300_000, "\ud800"])
async def test_a_result_that_cannot_be_kept_is_no_failure(autojump_clock: trio.abc.Clock, value: object) -> None:
    """The run succeeded, with a `result_error` that says why its value is missing."""

    async def handler() -> object:
        return value

    outcome = await outcome_of(handler)

    assert (OutcomeKind.SUCCEEDED, None) == (outcome.kind, outcome.result)
    assert (outcome.result_error or "").startswith("result is ")


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


def _deep_group(levels: int) -> BaseException:
    error: Exception = ValueError("leaf")
    for _ in range(levels):
        error = ExceptionGroup("g", [error])
    return error


def _cyclic() -> BaseException:
    error = ValueError("a")
    error.__cause__ = KeyError("b")
    error.__cause__.__cause__ = error
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("v"), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit"),
        (GeneratorExit(), "GeneratorExit"),
        (StopAsyncIteration(), "StopAsyncIteration"),
        (BaseException("base"), "BaseException"),
        (ExceptionGroup("g", [ValueError(), KeyError()]), "ExceptionGroup"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), SystemExit()]), "BaseExceptionGroup"),
        (_Unprintable(), "_Unprintable"),
        (ValueError("x" * 5_000_000), "ValueError"),
        (ValueError("\ud800"), "ValueError"),
        (_deep_group(5_000), "ExceptionGroup"),
        (_cyclic(), "ValueError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_a_handler_raises_fails_that_attempt_only(
    autojump_clock: trio.abc.Clock, error: BaseException, name: str
) -> None:
    """BaseException, groups of it, an exception that cannot be printed: the attempt failed, and the stage stands."""

    async def handler() -> object:
        raise error

    outcome = await outcome_of(handler)

    assert (OutcomeKind.FAILED, name) == kind_and_error(outcome)
    assert outcome.error is not None
    assert len(outcome.error.message) <= 16 * 1024


async def test_a_stop_iteration_fails_the_attempt(autojump_clock: trio.abc.Clock) -> None:
    """Python turns a StopIteration out of a coroutine into a RuntimeError: that is what the attempt failed with."""

    async def handler() -> object:
        raise StopIteration

    assert (OutcomeKind.FAILED, "RuntimeError") == kind_and_error(await outcome_of(handler))


async def test_a_cancelled_that_strayed_fails_the_attempt(autojump_clock: trio.abc.Clock) -> None:
    """A Cancelled kept and raised outside its scope is the handler's error; nobody else is cancelled."""

    async def handler() -> object:
        kept: BaseException = ValueError()
        with trio.move_on_after(1):
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                kept = error
        raise kept

    assert (OutcomeKind.FAILED, "Cancelled") == kind_and_error(await outcome_of(handler))


async def test_a_scope_left_open_fails_the_attempt(autojump_clock: trio.abc.Clock) -> None:
    """A handler that leaves a cancel scope open breaks trio's order: for this attempt only."""

    async def handler() -> object:
        trio.move_on_after(10_000).__enter__()
        return None

    outcome = await outcome_of(handler)

    assert (OutcomeKind.FAILED, "RuntimeError") == kind_and_error(outcome)
    assert outcome.error is not None
    assert "Cancel scope stack corrupted" in outcome.error.message


async def test_control_exceptions_say_how_it_ends(autojump_clock: trio.abc.Clock) -> None:
    """Discard, RetryAfter and Snooze are outcomes of their own."""

    def raising(error: BaseException) -> Handler:
        async def handler() -> object:
            raise error

        return handler

    discarded = await outcome_of(raising(Discard("gone for good")))
    retried = await outcome_of(raising(RetryAfter(90)))
    snoozed = await outcome_of(raising(Snooze(3600)))

    assert (OutcomeKind.DISCARDED, "gone for good") == (discarded.kind, discarded.cause)
    assert (OutcomeKind.FAILED, 90_000_000, True) == (retried.kind, retried.delay_us, retried.retryable)
    assert (OutcomeKind.SNOOZED, 3_600_000_000) == (snoozed.kind, snoozed.delay_us)


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([Snooze(1), Snooze(5), Snooze(3)], (OutcomeKind.SNOOZED, 5_000_000, None)),
        ([Snooze(1), ValueError()], (OutcomeKind.FAILED, None, None)),
        ([Snooze(1), RetryAfter(2)], (OutcomeKind.FAILED, 2_000_000, None)),
        ([RetryAfter(2), Discard("no"), Snooze(1)], (OutcomeKind.DISCARDED, None, "no")),
        ([RetryAfter(2), ValueError(), RetryAfter(7)], (OutcomeKind.FAILED, 7_000_000, None)),
        ([ExceptionGroup("inner", [Discard("deep")]), ValueError()], (OutcomeKind.DISCARDED, None, "deep")),
    ],
)
async def test_the_leaves_of_a_group_decide(
    autojump_clock: trio.abc.Clock, leaves: list[Exception], expected: tuple[OutcomeKind, int | None, str | None]
) -> None:
    """All Snooze: the longest; any Discard: discard; else the longest RetryAfter; else a plain failure."""

    async def handler() -> object:
        raise ExceptionGroup("several", leaves)

    outcome = await outcome_of(handler)

    assert expected == (outcome.kind, outcome.delay_us, outcome.cause)


@pytest.mark.parametrize(
    ("policy", "error", "retryable"),
    [
        (RetryPolicy(), ValueError(), True),
        (RetryPolicy(never=(ValueError,)), ValueError(), False),
        (RetryPolicy(never=(ValueError,)), UnicodeError(), False),
        (RetryPolicy(never=(ValueError,)), ExceptionGroup("g", [KeyError(), ValueError()]), False),
        (RetryPolicy(on=(OSError,)), TimeoutError(), True),
        (RetryPolicy(on=(OSError,)), ValueError(), False),
        (RetryPolicy(on=(OSError,)), ExceptionGroup("g", [OSError(), ValueError()]), False),
        (RetryPolicy(on=(OSError,)), ExceptionGroup("g", [OSError(), ConnectionError()]), True),
        (RetryPolicy(on=(OSError,), never=(TimeoutError,)), TimeoutError(), False),
    ],
)
async def test_on_and_never_say_what_is_retried(
    autojump_clock: trio.abc.Clock, policy: RetryPolicy, error: Exception, retryable: bool
) -> None:
    """Not retried: a leaf that `never` matches, or with `on` a leaf that none of it matches."""

    async def handler() -> object:
        raise error

    assert retryable == (await outcome_of(handler, policy=policy)).retryable


# ---------------------------------------------------------------- told to stop


async def test_a_handler_that_takes_too_long_timed_out(autojump_clock: trio.abc.Clock) -> None:
    """At its timeout the handler is cancelled, and the attempt settles when it has ended."""
    ended: list[float] = []

    async def handler() -> object:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    began_s = trio.current_time()
    outcome = await outcome_of(handler, timeout_s=2.5)

    assert [began_s + 2.5] == ended
    assert (OutcomeKind.TIMED_OUT, "TimeoutError") == kind_and_error(outcome)
    assert outcome.error is not None
    assert "the attempt took longer than its timeout of 2.5 s" == outcome.error.message


async def test_a_timeout_is_matched_as_a_timeout_error(autojump_clock: trio.abc.Clock) -> None:
    """`never=TimeoutError` makes a timeout final, whatever the handler raised meanwhile."""

    async def handler() -> object:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise KeyError("in the cleanup") from None

    assert False is (await outcome_of(handler, 1, RetryPolicy(never=(TimeoutError,)))).retryable
    assert True is (await outcome_of(handler, 1, RetryPolicy(on=(TimeoutError,)))).retryable


async def _swallows() -> object:
    with trio.CancelScope(shield=True):
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            raise AssertionError("it is shielded") from None
    return "late"


async def _returns_from_cancelled() -> object:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        return "caught"  # what nobody should do
    return None


async def _raises_from_cancelled() -> object:
    try:
        await trio.sleep_forever()
    except trio.Cancelled:
        raise RuntimeError("cleanup failed") from None
    return None


async def _obeys() -> object:
    await trio.sleep_forever()
    return None


async def _obeys_in_a_nursery() -> object:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(trio.sleep_forever)
    return None


async def _mixes() -> object:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(_raises_from_cancelled)
    return None


@pytest.mark.parametrize(
    ("handler", "late"),
    [
        (_obeys, None),
        (_obeys_in_a_nursery, None),
        (_swallows, "returned a value"),
        (_returns_from_cancelled, "returned a value"),
        (_raises_from_cancelled, "raised RuntimeError"),
        (_mixes, "raised ExceptionGroup"),
    ],
)
@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (StopReason.TIMED_OUT, OutcomeKind.TIMED_OUT),
        (StopReason.CANCELED, OutcomeKind.CANCELED),
        (StopReason.INTERRUPTED, OutcomeKind.INTERRUPTED),
    ],
)
async def test_why_it_was_stopped_decides_and_not_what_it_did_then(
    autojump_clock: trio.abc.Clock, handler: Handler, late: str | None, reason: StopReason, kind: OutcomeKind
) -> None:
    """A handler that swallows its cancellation, returns or raises something else was stopped all the same."""
    actor_timeout = 1.0 if reason is StopReason.TIMED_OUT else None
    if actor_timeout is not None:
        async with open_world() as world:
            actor, ends = stage_run(world, handler, actor_timeout)
            await trio.sleep(3600)
            assert [kind] == [each.kind for each in ends.outcomes]
            assert late == actor.late
        return

    outcome, kept = await stopped(handler, reason)

    assert (kind, late) == (outcome.kind, kept)


async def test_a_stopped_attempt_is_over_when_its_handler_has_ended_and_not_before(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A handler that shields itself for a while keeps its attempt open that long."""
    async with open_world() as world:
        actor, ends = stage_run(world, _swallows)
        await trio.sleep(1)

        actor.stop(StopReason.CANCELED)
        await trio.sleep(8)
        assert [] == ends.outcomes
        await trio.sleep(2)

        assert [OutcomeKind.CANCELED] == [each.kind for each in ends.outcomes]


async def test_a_cancel_overrides_a_timeout_and_nothing_overrides_a_cancel(autojump_clock: trio.abc.Clock) -> None:
    """Of several reasons the first counts, except that a cancel, which the store has written, always does."""
    for first, second, kind in (
        (StopReason.TIMED_OUT, StopReason.CANCELED, OutcomeKind.CANCELED),
        (StopReason.CANCELED, StopReason.INTERRUPTED, OutcomeKind.CANCELED),
        (StopReason.INTERRUPTED, StopReason.CANCELED, OutcomeKind.CANCELED),
    ):
        async with open_world() as world:
            actor, ends = stage_run(world, _swallows, timeout_s=100)
            await settle()

            actor.stop(first)
            actor.stop(second)
            await trio.sleep(20)

            assert [kind] == [each.kind for each in ends.outcomes]


async def test_a_run_without_end_leaves_no_timer(autojump_clock: trio.abc.Clock) -> None:
    """However an attempt ends, its timeout is forgotten."""
    async with open_world() as world:

        async def handler() -> object:
            raise ValueError

        stage_run(world, handler, timeout_s=1000)
        await settle()

        assert 0 == len(world.stage.timers)


async def test_a_very_deep_group_raised_from_a_cancellation_is_contained(autojump_clock: trio.abc.Clock) -> None:
    """Trio itself cannot look through 5,000 levels; the attempt was stopped all the same, and the stage stands."""

    async def handler() -> object:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise _deep_group(5_000) from None

    outcome, _ = await stopped(handler, StopReason.CANCELED)

    assert OutcomeKind.CANCELED == outcome.kind
