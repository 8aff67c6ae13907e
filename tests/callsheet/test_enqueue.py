"""What `enqueue` promises whoever calls it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from attrs import frozen

from callsheet import Context, IdempotencyConflict, InvalidOption, Jobs, Queue, Status, TooMany, open_runtime

from .house import NOON_NS, Place, Wall, moves_of, open_house, settle, statuses

NOON = datetime.fromtimestamp(NOON_NS / 1e9, UTC)


def quiet(**options: Any) -> tuple[Jobs, list[tuple[object, float]]]:
    """Jobs with one task that writes down with what, and after how many seconds, it was started."""
    jobs = Jobs("j", **options)
    started: list[tuple[object, float]] = []
    began: list[float] = []

    @jobs.task("work")
    async def work(payload: object, ctx: Context) -> None:
        started.append((payload, round(trio.current_time() - began[0], 3)))

    @jobs.task("other")
    async def other(payload: object, ctx: Context) -> None:
        started.append((payload, round(trio.current_time() - began[0], 3)))

    began.append(trio.current_time())
    return jobs, started


async def test_an_enqueued_run_is_there_and_runs(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P1: when enqueue returns, the run is stored; then it runs once, and its life can be read."""
    jobs, started = quiet()
    async with open_house(place, jobs) as runtime:
        result = await jobs.enqueue("work", {"n": 1}, trace_id="trace/1", priority=3)
        stored = await jobs.runs.get(result.run_id)
        await runtime.until_idle()
        ended = await jobs.runs.get(result.run_id)

    assert (False, True, Status.QUEUED) == (result.deduped, result.payload_matches, result.run.status)
    assert result.run_id == stored.run.id
    assert ({"n": 1}, "trace/1", 3, 5) == (stored.payload, stored.run.trace_id, stored.run.priority, 5)
    assert [({"n": 1}, 0)] == started
    assert ["queued", "running", "succeeded"] == [str(each.now) for each in ended.transitions]
    assert ["succeeded"] == [str(each.outcome) for each in ended.attempts]
    assert 1 == ended.run.attempt
    assert f"{result.run_id}.1" == ended.attempts[0].id


async def test_a_result_carries_the_run_as_it_was_born(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`result.run` is what `runs.get` says of a run that has not started yet."""
    jobs, _ = quiet()
    async with open_house(place, jobs):
        result = await jobs.enqueue("work", [1], delay=5, idempotency_key="k", timeout=3, max_attempts=2)

        assert (await jobs.runs.get(result.run_id)).run == result.run


async def test_a_task_may_be_named_or_given(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """By its name, by the task itself, or through the task: all the same."""
    jobs, started = quiet()
    async with open_house(memory, jobs) as runtime:
        work = jobs.task_named("work")
        await jobs.enqueue("work", 1)
        await jobs.enqueue(work, 2)
        await work.enqueue(3)
        await jobs.enqueue_many([work.entry(4)])
        await runtime.until_idle()

    assert {1, 2, 3, 4} == {payload for payload, _ in started}


async def test_a_typed_payload_arrives_as_its_type(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The annotation of the handler's payload is its type, at enqueue and in the handler."""

    @frozen
    class Mail:
        to: str
        copies: tuple[int, ...] = ()

    jobs = Jobs("j")
    seen: list[Mail] = []

    async def send(mail: Mail, ctx: Context) -> None:
        seen.append(mail)

    send.__annotations__["mail"] = Mail
    jobs.task("send")(send)
    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("send", Mail("you", (1, 2)))
        await jobs.enqueue("send", {"to": "me"})
        await runtime.until_idle()

    assert [Mail("you", (1, 2)), Mail("me")] == sorted(seen, key=lambda mail: mail.to, reverse=True)


# ---------------------------------------------------------------- keys


async def test_one_key_is_one_run(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P6: the same key returns the same run while its record exists, also after it ended, for any task."""
    jobs, started = quiet()
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue("work", {"a": 1, "b": 2}, idempotency_key="k")
        same = await jobs.enqueue("work", {"b": 2, "a": 1}, idempotency_key="k")
        await runtime.until_idle()
        ended = await jobs.enqueue("work", {"a": 1, "b": 2}, idempotency_key="k")
        other_payload = await jobs.enqueue("work", {"a": 2}, idempotency_key="k")
        other_task = await jobs.enqueue("other", {"a": 1, "b": 2}, idempotency_key="k")
        await runtime.until_idle()
        listed = (await jobs.runs.list(idempotency_key="k")).runs

    results = [first, same, ended, other_payload, other_task]
    assert {first.run_id} == {each.run_id for each in results}
    assert [False, True, True, True, True] == [each.deduped for each in results]
    assert [True, True, True, False, False] == [each.payload_matches for each in results]
    assert Status.SUCCEEDED == ended.run.status
    assert 1 == len(started)
    assert [first.run_id] == [each.id for each in listed]


async def test_many_callers_with_one_key_get_one_run(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P6: callers that race get the same run; exactly one of them made it."""
    jobs, started = quiet()
    deduped: list[bool] = []
    ids: set[str] = set()

    async def call() -> None:
        result = await jobs.enqueue("work", None, idempotency_key="k")
        deduped.append(result.deduped)
        ids.add(result.run_id)

    async with open_house(place, jobs) as runtime:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(call)
        await runtime.until_idle()

    assert [False] + [True] * 19 == sorted(deduped)
    assert (1, 1) == (len(ids), len(started))


async def test_a_conflict_is_raised_where_that_is_asked_for(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`on_conflict="raise"`: another payload or task under the key is an error, the same one is not; nothing is stored."""
    jobs, _ = quiet()
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue("work", 1, idempotency_key="k", on_conflict="raise")
        same = await jobs.enqueue("work", 1, idempotency_key="k", on_conflict="raise")
        await runtime.until_idle()

        with pytest.raises(
            IdempotencyConflict, match=r"idempotency key 'k' belongs to run \w+, which has another"
        ) as c:
            await jobs.enqueue("work", 2, idempotency_key="k", on_conflict="raise")
        with pytest.raises(IdempotencyConflict):
            await jobs.enqueue("other", 1, idempotency_key="k", on_conflict="raise")

        assert (first.run_id, first.run_id) == (same.run_id, c.value.run_id)
        assert 1 == len((await jobs.runs.list()).runs)


async def test_a_key_belongs_to_its_jobs_instance(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The same key on two instances in one store is two runs."""
    one, two = Jobs("one"), Jobs("two")

    async def work(payload: object, ctx: Context) -> None: ...

    one.task("work")(work)
    two.task("work")(work)
    async with open_house(place, one, two) as runtime:
        first = await one.enqueue("work", idempotency_key="k")
        second = await two.enqueue("work", idempotency_key="k")
        await runtime.until_idle()

        assert (False, False) == (first.deduped, second.deduped)
        assert [first.run_id] == [each.id for each in (await one.runs.list()).runs]


async def test_repeating_a_call_with_a_run_id_is_safe(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A run id of your own makes a repeated call return the run that the first one made."""
    jobs, started = quiet()
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue("work", 1, run_id="order-17")
        again = await jobs.enqueue("work", 1, run_id="order-17")
        await runtime.until_idle()

    assert ("order-17", "order-17") == (first.run_id, again.run_id)
    assert (False, True) == (first.deduped, again.deduped)
    assert 1 == len(started)


# ---------------------------------------------------------------- many


async def test_many_are_stored_together_in_order(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`enqueue_many` answers in the order of its entries; a key repeated among them dedupes to its first."""
    jobs, started = quiet()
    async with open_house(place, jobs) as runtime:
        work = jobs.task_named("work")
        known = await jobs.enqueue("work", 0, idempotency_key="known")
        results = await jobs.enqueue_many(
            [
                work.entry(1),
                work.entry(2, idempotency_key="k"),
                work.entry(2, idempotency_key="k"),
                work.entry(0, idempotency_key="known"),
                work.entry(3, delay=5),
            ]
        )
        await runtime.until_idle()
        await trio.sleep(6)

    assert [False, False, True, True, False] == [each.deduped for each in results]
    assert results[1].run_id == results[2].run_id
    assert known.run_id == results[3].run_id
    assert [0, 1, 2, 3] == sorted(payload for payload, _ in started)  # type: ignore[type-var]
    assert [] == [each for each in results if not each.payload_matches]


async def test_many_are_all_or_nothing(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """I18: one entry that conflicts, or is invalid, and none of them is stored."""
    jobs, _ = quiet()
    async with open_house(place, jobs):
        work = jobs.task_named("work")
        await jobs.enqueue("work", 0, idempotency_key="k")

        with pytest.raises(IdempotencyConflict):
            await jobs.enqueue_many([work.entry(1), work.entry(2, idempotency_key="k", on_conflict="raise")])
        with pytest.raises(ValueError, match="not a JSON number"):
            await jobs.enqueue_many([work.entry(1), work.entry(float("nan"))])
        with pytest.raises(TooMany, match=r"10,001 runs in one call, the limit is 10,000: split them"):
            await jobs.enqueue_many([work.entry(1)] * 10_001)

        assert [] == await jobs.enqueue_many([])
        assert 1 == len((await jobs.runs.list()).runs)


async def test_ten_thousand_at_once(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """The largest call that is allowed is stored whole."""
    jobs, _ = quiet(queue=Queue(concurrency=1))
    async with open_runtime(memory(), jobs, grace=0):
        work = jobs.task_named("work")

        results = await jobs.enqueue_many([work.entry(n, delay=3600) for n in range(10_000)])

        assert 10_000 == len({each.run_id for each in results})


# ---------------------------------------------------------------- time


@pytest.mark.parametrize("delay", [10, 10.0, timedelta(seconds=10)])
async def test_a_delayed_run_starts_when_its_delay_is_over(
    autojump_clock: trio.abc.Clock, place: Place, delay: float | timedelta
) -> None:
    """P7: not a moment before, and not noticeably after."""
    jobs, started = quiet()
    async with open_house(place, jobs):
        result = await jobs.enqueue("work", "x", delay=delay)
        assert Status.SCHEDULED == result.run.status
        await trio.sleep(9.999)
        assert [] == started
        await trio.sleep(0.1)

        assert [("x", 10.0)] == started
        assert ["scheduled", "running", "succeeded"] == await moves_of(jobs, result.run_id)


async def test_a_run_at_starts_at_its_time(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """An aware datetime in any zone, or RFC 3339 text."""
    jobs, started = quiet()
    async with open_house(place, jobs):
        zone = datetime.fromisoformat("2020-01-01T00:00:00+05:30").tzinfo
        await jobs.enqueue("work", "datetime", run_at=NOON + timedelta(seconds=5))
        await jobs.enqueue("work", "zone", run_at=(NOON + timedelta(seconds=6)).astimezone(zone))
        await jobs.enqueue("work", "text", run_at=(NOON + timedelta(seconds=7)).isoformat())
        await jobs.enqueue("work", "Z", run_at=f"{NOON + timedelta(seconds=8):%Y-%m-%dT%H:%M:%SZ}")
        await trio.sleep(10)

    assert [("datetime", 5.0), ("zone", 6.0), ("text", 7.0), ("Z", 8.0)] == started


async def test_the_past_means_now(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A `run_at` that has gone by, and a delay of nothing, start at once."""
    jobs, started = quiet()
    async with open_house(place, jobs) as runtime:
        result = await jobs.enqueue("work", 1, run_at=NOON - timedelta(days=400))
        await jobs.enqueue("work", 2, delay=0)
        await jobs.enqueue("work", 3, run_at="0001-01-01T00:00:00+14:00")
        await runtime.until_idle()

    assert Status.QUEUED == result.run.status
    assert [(1, 0), (2, 0), (3, 0)] == sorted(started)  # type: ignore[type-var]


async def test_a_wall_clock_set_forward_makes_run_at_due_and_leaves_delays_alone(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """P7: `run_at` follows the wall clock, a delay the steady one; the step is noticed within a second or so."""
    jobs, started = quiet()
    wall = Wall()
    async with open_house(place, jobs, wall=wall):
        await jobs.enqueue("work", "wall", run_at=NOON + timedelta(hours=1))
        await jobs.enqueue("work", "steady", delay=100)
        await trio.sleep(10.5)
        wall.offset_s += 3_600
        await trio.sleep(200)

    assert ["wall", "steady"] == [payload for payload, _ in started]
    assert 10.5 <= started[0][1] <= 12
    assert 100.0 == started[1][1]


async def test_a_wall_clock_set_back_makes_nothing_early(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P7: after the clock went back ten minutes, `run_at` comes ten minutes later; delays and order stay."""
    jobs, started = quiet()
    wall = Wall()
    async with open_house(place, jobs, wall=wall) as runtime:
        await jobs.enqueue("work", "wall", run_at=NOON + timedelta(seconds=60))
        await jobs.enqueue("work", "steady", delay=100)
        await trio.sleep(10.5)
        wall.offset_s -= 600
        now = await jobs.enqueue("work", "now")
        await settle()
        assert [Status.SUCCEEDED] == await statuses(jobs, [now.run_id])
        await trio.sleep(1_000)
        await runtime.until_idle()

    assert [("now", 10.5), ("steady", 100.0), ("wall", 660.0)] == started


async def test_only_the_first_start_is_delayed(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A retry of a delayed run waits for its policy only."""
    jobs = Jobs("j")
    times: list[float] = []
    began_s = trio.current_time()

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        times.append(trio.current_time() - began_s)
        if ctx.attempt == 1:
            raise ValueError

    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("work", delay=100)
        await trio.sleep(101)
        await runtime.until_idle()

    assert [100.0, 105.0] == [round(each, 3) for each in times]


async def test_an_id_given_twice_tells_whether_it_is_the_same_request(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """As a key does: `payload_matches`, and a conflict for who wants one."""
    jobs, _ = quiet()
    async with open_house(place, jobs):
        first = await jobs.enqueue("work", 1, run_id="mine")
        same = await jobs.enqueue("work", 1, run_id="mine", on_conflict="raise")
        other = await jobs.enqueue("work", 2, run_id="mine")
        pair = await jobs.enqueue_many([jobs.entry("work", n, run_id="pair") for n in (1, 2)])
        with pytest.raises(IdempotencyConflict, match="run 'mine' is there already, with another payload or task"):
            await jobs.enqueue("other", 1, run_id="mine", on_conflict="raise")

        assert [(False, True), (True, True), (True, False), (False, True), (True, False)] == [
            (each.deduped, each.payload_matches) for each in (first, same, other, *pair)
        ]
        assert 2 == (await jobs.stats()).total


async def test_an_id_that_other_jobs_use_is_refused(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """It is not acknowledged with a run that nobody here can see; nothing of the call is stored."""
    jobs, _ = quiet()
    others = Jobs("others")

    @others.task("work")
    async def work(payload: object, ctx: Context) -> None: ...

    async with open_house(place, jobs):
        await jobs.enqueue("work", "a secret", run_id="mine", delay=60)
    async with open_house(place, others):
        for request in (
            lambda: others.enqueue("work", 1, run_id="mine"),
            lambda: others.enqueue_many([work.entry(0), work.entry(1, run_id="mine")]),
        ):
            with pytest.raises(InvalidOption, match="run_id: 'mine' is the id of a run of other Jobs in this store"):
                await request()

        assert 0 == (await others.stats()).total
