"""
The handler zoo: everything that a handler may do, in one table, and what becomes of its run.

Each row plays beside a neighbour that must not notice. What handlers do to a whole process stands in tests/real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final, Literal

import pytest
import trio
from attrs import frozen

from callsheet import Context, Discard, Jobs, Queue, Retry, RetryAfter, Snooze, Status, SyncContext
from callsheet.actors.seams import Seams
from callsheet.store.records import OutcomeKind
from callsheet.testing import simulate

TIMEOUT_S: Final = 5.0
CANCEL_S: Final = 3.0
NEIGHBOUR_S: Final = 20.0

FAILED, TIMED_OUT, CANCELED = OutcomeKind.FAILED, OutcomeKind.TIMED_OUT, OutcomeKind.CANCELED
SUCCEEDED = OutcomeKind.SUCCEEDED


@frozen
class Row:
    """A handler, and what must come of its only attempt."""

    handler: Callable[..., Any]
    outcome: OutcomeKind
    status: Status
    error: str | None = None
    """Class of the error that is kept."""
    result: object = None
    result_error: str | None = None
    """A part of it."""
    late: str | None = None
    told: Literal["timeout", "cancel"] | None = None
    """What stops it: a timeout of five seconds, or a cancel after three."""
    ends_s: float = 0.0
    """When the handler has ended, and its slot is free."""


def succeeds(handler: Callable[..., Any], result: object = None, **more: Any) -> Row:
    return Row(handler, SUCCEEDED, Status.SUCCEEDED, result=result, **more)


def fails(handler: Callable[..., Any], error: str, **more: Any) -> Row:
    return Row(handler, FAILED, Status.DEAD_LETTERED, error=error, **more)


def times_out(handler: Callable[..., Any], ends_s: float = TIMEOUT_S) -> Row:
    return Row(handler, TIMED_OUT, Status.DEAD_LETTERED, error="TimeoutError", told="timeout", ends_s=ends_s)


def is_canceled(handler: Callable[..., Any], late: str | None, ends_s: float = CANCEL_S) -> Row:
    return Row(handler, CANCELED, Status.CANCELED, late=late, told="cancel", ends_s=ends_s)


def returns(value: object) -> Callable[..., Any]:
    async def handler(_: object, ctx: Context) -> object:
        return value

    return handler


def raises(make: Callable[[], BaseException]) -> Callable[..., Any]:
    async def handler(_: object, ctx: Context) -> None:
        raise make()

    return handler


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def cyclic() -> BaseException:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def deep() -> BaseException:
    error: BaseException = ValueError("the leaf")
    for _ in range(10_000):
        error = BaseExceptionGroup("more", [error])
    return error


def endless() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


# ---------------------------------------------------------------- told to stop


async def waits(_: object, ctx: Context) -> None:
    await trio.sleep_forever()


async def swallows(_: object, ctx: Context) -> str:
    with suppress(trio.Cancelled):
        await trio.sleep_forever()
    return "though cancelled"


async def swallows_three(_: object, ctx: Context) -> str:
    for _n in range(3):
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
    return "at last"


async def shields(_: object, ctx: Context) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(12)


async def complains(_: object, ctx: Context) -> None:
    try:
        await trio.sleep_forever()
    except trio.Cancelled as error:
        raise RuntimeError("not now") from error


async def complains_in_a_nursery(_: object, ctx: Context) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(complains, None, ctx)
        nursery.start_soon(trio.sleep_forever)


async def tidies_up(_: object, ctx: Context) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)


# ---------------------------------------------------------------- trio's rules, broken


async def leaves_a_nursery_open(_: object, ctx: Context) -> int:
    await trio.open_nursery().__aenter__()
    return 1


async def leaves_two_nurseries_with_children(_: object, ctx: Context) -> int:
    for _ in range(2):
        nursery = await trio.open_nursery().__aenter__()
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(complains, None, ctx)
    await trio.sleep(0.25)
    return 1


async def leaves_a_nursery_and_raises(_: object, ctx: Context) -> None:
    await trio.open_nursery().__aenter__()
    raise ValueError("no")


async def leaves_a_nursery_with_a_scope_in_it(_: object, ctx: Context) -> None:
    await trio.open_nursery().__aenter__()
    trio.CancelScope().__enter__()


async def waits_in_a_nursery_that_it_leaves_open(_: object, ctx: Context) -> None:
    nursery = await trio.open_nursery().__aenter__()
    nursery.start_soon(trio.sleep_forever)
    await trio.sleep_forever()


async def strays(_: object, ctx: Context) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept = error
    raise kept


async def makes_a_cancelled(_: object, ctx: Context) -> None:
    raise trio.Cancelled


async def leaves_a_scope_open(_: object, ctx: Context) -> None:
    trio.CancelScope().__enter__()


async def leaves_a_generator(_: object, ctx: Context) -> int:
    async def numbers() -> AsyncIterator[int]:
        for n in range(10):
            yield n

    async for n in numbers():
        return n
    return -1


async def stops_iterating(_: object, ctx: Context) -> None:
    raise StopIteration("over")


# ---------------------------------------------------------------- the runtime, from inside


async def cancels_itself(_: object, ctx: Context) -> str:
    assert (await ctx.jobs.runs.cancel(ctx.run_id)).canceled
    await trio.sleep_forever()
    return "never"


async def cancels_itself_and_goes_on(_: object, ctx: Context) -> str:
    await ctx.jobs.runs.cancel(ctx.run_id)
    return "done anyway"


async def replays_itself(_: object, ctx: Context) -> None:
    await ctx.jobs.runs.replay(ctx.run_id)


async def enqueues_itself_by_its_own_id(_: object, ctx: Context) -> list[object]:
    result = await ctx.enqueue("animal", run_id=ctx.run_id)
    return [result.deduped, result.run_id == ctx.run_id]


async def opens_its_own_store(_: object, ctx: Context) -> None:
    async with ctx.jobs.open(ctx.jobs.runtime().store, seams=Seams.seeded(9)):
        raise AssertionError("opened")


async def waits_for_itself(_: object, ctx: Context) -> None:
    await ctx.jobs.runs.wait(ctx.run_id, timeout=1)


# ---------------------------------------------------------------- plain functions


def plain_returns(_: object, ctx: SyncContext) -> list[int]:
    return [ctx.attempt]


def plain_sleeps(_: object, ctx: SyncContext) -> None:
    ctx.sleep(1_000)


def plain_swallows(_: object, ctx: SyncContext) -> str:
    with suppress(BaseException):
        ctx.sleep(1_000)
    return "though stopped"


def plain_complains(_: object, ctx: SyncContext) -> None:
    try:
        ctx.sleep(1_000)
    except BaseException as error:
        raise RuntimeError("not now") from error


def plain_makes_a_coroutine(_: object, ctx: SyncContext) -> object:
    return waits(None, None)  # type: ignore[arg-type]


def plain_raises(make: Callable[[], BaseException]) -> Callable[..., Any]:
    def handler(_: object, ctx: SyncContext) -> None:
        raise make()

    return handler


ZOO: Final[dict[str, Row]] = {
    "returns nothing": succeeds(returns(None)),
    "returns a value": succeeds(returns({"n": [1, 2.5, None, "é"]}), {"n": [1, 2.5, None, "é"]}),
    "returns NaN": succeeds(returns(float("nan")), result_error="nan"),
    "returns a set": succeeds(returns({1}), result_error="set"),
    "returns bytes": succeeds(returns(b"no"), result_error="bytes"),
    "returns keys that are numbers": succeeds(returns({1: 2}), result_error="key"),
    "returns too much": succeeds(returns("x" * 300_000), result_error="limit is 262,144"),
    "returns too deep": succeeds(returns(nested(65)), result_error="deep"),
    "returns itself": succeeds(returns(endless()), result_error="deep"),
    "returns half a character": succeeds(returns("\ud800"), result_error="surrogate"),
    "raises": fails(raises(lambda: ValueError("no")), "ValueError"),
    "raises KeyboardInterrupt": fails(raises(KeyboardInterrupt), "KeyboardInterrupt"),
    "raises SystemExit": fails(raises(lambda: SystemExit(3)), "SystemExit"),
    "raises GeneratorExit": fails(raises(GeneratorExit), "GeneratorExit"),
    "raises StopAsyncIteration": fails(raises(StopAsyncIteration), "StopAsyncIteration"),
    "raises StopIteration": fails(stops_iterating, "RuntimeError"),
    "raises MemoryError": fails(raises(MemoryError), "MemoryError"),
    "raises a group of all that": fails(
        raises(lambda: BaseExceptionGroup("all", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])),
        "BaseExceptionGroup",
    ),
    "raises what cannot be printed": fails(raises(Unprintable), "Unprintable"),
    "raises 50 MB": fails(raises(lambda: ValueError("x" * 50_000_000)), "ValueError"),
    "raises in circles": fails(raises(cyclic), "ValueError"),
    "raises very deep": fails(raises(deep), "ExceptionGroup"),
    "raises half a character": fails(raises(lambda: ValueError("\ud800")), "ValueError"),
    "discards": Row(raises(lambda: Discard("why")), OutcomeKind.DISCARDED, Status.DEAD_LETTERED, error="Discard"),
    "retries when nothing is left": fails(raises(lambda: RetryAfter(5)), "RetryAfter"),
    "snoozes": Row(raises(lambda: Snooze(1_000)), OutcomeKind.SNOOZED, Status.SCHEDULED),
    "waits for ever, and times out": times_out(waits),
    "swallows its timeout": times_out(swallows),
    "swallows its timeout three times": times_out(swallows_three),
    "shields itself from its timeout": times_out(shields, 12.0),
    "complains of its timeout": times_out(complains),
    "complains of its timeout in a nursery": times_out(complains_in_a_nursery),
    "tidies up after its timeout": times_out(tidies_up, TIMEOUT_S + 1),
    "waits for ever, and is canceled": is_canceled(waits, None),
    "swallows its cancel": is_canceled(swallows, "returned a value"),
    "swallows its cancel three times": is_canceled(swallows_three, "returned a value"),
    "shields itself from its cancel": is_canceled(shields, None, 12.0),
    "complains of its cancel": is_canceled(complains, "raised RuntimeError"),
    "complains of its cancel in a nursery": is_canceled(complains_in_a_nursery, "raised ExceptionGroup"),
    "raises a Cancelled of another scope": fails(strays, "Cancelled"),
    "makes a Cancelled": fails(makes_a_cancelled, "TypeError"),
    "leaves a scope open": fails(leaves_a_scope_open, "RuntimeError"),
    "leaves a nursery open": fails(leaves_a_nursery_open, "NurseryLeftOpen"),
    "leaves two nurseries open, with children": fails(leaves_two_nurseries_with_children, "NurseryLeftOpen"),
    "leaves a nursery open, and raises": fails(leaves_a_nursery_and_raises, "NurseryLeftOpen"),
    "leaves a nursery open, with a scope in it": fails(leaves_a_nursery_with_a_scope_in_it, "NurseryLeftOpen"),
    "leaves a nursery open, and times out": times_out(waits_in_a_nursery_that_it_leaves_open),
    "leaves a nursery open, and is canceled": is_canceled(
        waits_in_a_nursery_that_it_leaves_open, "raised NurseryLeftOpen"
    ),
    "leaves a generator": succeeds(leaves_a_generator, 0),
    "cancels itself": Row(cancels_itself, CANCELED, Status.CANCELED),
    "cancels itself and goes on": Row(cancels_itself_and_goes_on, CANCELED, Status.CANCELED, late="returned a value"),
    "replays itself": fails(replays_itself, "RunNotFinished"),
    "enqueues itself by its own id": succeeds(enqueues_itself_by_its_own_id, [True, True]),
    "opens its own store": fails(opens_its_own_store, "StoreHeld"),
    "waits for itself": fails(waits_for_itself, "WaitTimeout", ends_s=1.0),
    "plain, returns": succeeds(plain_returns, [1]),
    "plain, raises": fails(plain_raises(lambda: ValueError("no")), "ValueError"),
    "plain, raises KeyboardInterrupt": fails(plain_raises(KeyboardInterrupt), "KeyboardInterrupt"),
    "plain, raises SystemExit": fails(plain_raises(lambda: SystemExit(3)), "SystemExit"),
    "plain, raises StopIteration": fails(plain_raises(StopIteration), "RuntimeError"),
    "plain, makes a coroutine": fails(plain_makes_a_coroutine, "TypeError"),
    "plain, discards": Row(
        plain_raises(lambda: Discard("why")), OutcomeKind.DISCARDED, Status.DEAD_LETTERED, error="Discard"
    ),
    "plain, sleeps, and times out": times_out(plain_sleeps),
    "plain, swallows its timeout": times_out(plain_swallows),
    "plain, complains of its timeout": times_out(plain_complains),
    "plain, sleeps, and is canceled": is_canceled(plain_sleeps, None),
    "plain, swallows its cancel": is_canceled(plain_swallows, "returned a value"),
    "plain, complains of its cancel": is_canceled(plain_complains, "raised RuntimeError"),
}


# trio warns of a generator that nobody closes, and is right
@pytest.mark.filterwarnings("ignore:Async generator .*leaves_a_generator:ResourceWarning")
@pytest.mark.parametrize("name", ZOO)
async def test_whatever_a_handler_does_ends_its_attempt_only(mock_clock: trio.abc.Clock, name: str) -> None:
    """I35, I36: the outcome is what the table says, the slot is free when it has ended, and the neighbour notices nothing."""
    row = ZOO[name]
    jobs = Jobs("zoo", queue=Queue(concurrency=2), retry=Retry(attempts=1))
    jobs.task("animal", timeout=TIMEOUT_S if row.told == "timeout" else None)(row.handler)
    ended_s: list[float] = []

    @jobs.task("neighbour")
    async def neighbour(_: object, ctx: Context) -> str:
        await trio.sleep(NEIGHBOUR_S)
        ended_s.append(trio.current_time())
        return "undisturbed"

    @jobs.task("next")
    async def follows(_: object, ctx: Context) -> float:
        return trio.current_time()

    async with simulate(jobs) as world:
        beside = await jobs.enqueue("neighbour")
        await world.settle()
        animal = await jobs.enqueue("animal")
        after = await jobs.enqueue("next", delay=0.5)  # gets the slot of the animal
        await world.advance(seconds=CANCEL_S)
        if row.told == "cancel":
            assert (await jobs.runs.cancel(animal.run_id)).canceled
        await world.advance(seconds=100)

        details = world.history(animal.run_id)
        [attempt] = details.attempts
        assert (row.outcome, row.status) == (attempt.outcome, details.run.status)
        assert row.error == (None if attempt.error is None else attempt.error.type)
        assert row.late == attempt.late_outcome
        assert row.result == details.result
        if row.result_error is None:
            assert None is details.run.result_error
        else:
            assert row.result_error in str(details.run.result_error)
        assert max(0.5, row.ends_s) == pytest.approx(world.history(after.run_id).result, abs=0.01)
        assert ("undisturbed", [NEIGHBOUR_S]) == (world.history(beside.run_id).result, ended_s)
