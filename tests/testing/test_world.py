"""A world: virtual time, what is in it, and that all of it follows from the seed."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
import trio
import trio.testing
from attrs import astuple, evolve, frozen

from callsheet import (
    CallsheetError,
    Context,
    InvalidOption,
    Jobs,
    NotOpen,
    Queue,
    Retention,
    Retry,
    RunNotFound,
    Snooze,
    Status,
    UnknownTask,
)
from callsheet.store.contract import Claim
from callsheet.store.records import Attempt, History, Now
from callsheet.testing import Raise, RealClock, Return, Sleep, StillBusy, World, WrongBooks, run, simulate
from callsheet.testing.order import repeatable


def some_jobs(**options: Any) -> Jobs:
    """One task that does what its payload says."""
    jobs = Jobs("j", retry=Retry(attempts=3, backoff="fixed", initial_delay=60), **options)

    @jobs.task("work")
    async def work(payload: dict[str, float] | None, ctx: Context) -> int:
        await trio.sleep((payload or {}).get("sleep_s", 0))
        if ctx.spent < (payload or {}).get("fails", 0):
            raise ValueError("not yet")
        return ctx.attempt

    return jobs


async def test_time_stands_still_until_the_world_is_asked_to_move_it(mock_clock: trio.abc.Clock) -> None:
    """A run that is delayed by two hours starts after two hours of `advance`, and not before."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        run_id = (await jobs.enqueue("work", delay=7200)).run_id
        await world.settle()
        at_first = world.history(run_id).run.status
        await world.advance(hours=1, minutes=59, seconds=59)
        just_before = world.history(run_id).run.status
        await world.advance(seconds=1)

        assert [Status.SCHEDULED, Status.SCHEDULED] == [at_first, just_before]
        assert Status.SUCCEEDED is world.history(run_id).run.status
        assert datetime(2027, 1, 15, 14, tzinfo=UTC) == world.now


async def test_time_that_flowed_stands_still_again(mock_clock: trio.testing.MockClock) -> None:
    """After `advance`, also one inside `flowing`, the clock is as the test had it."""
    async with simulate(some_jobs()) as world:
        await world.advance(seconds=1)
        assert math.inf == mock_clock.autojump_threshold
        with world.flowing():
            await world.advance(seconds=1)
            await trio.sleep(5)
        assert math.inf == mock_clock.autojump_threshold
        assert 7.0 == trio.current_time()

    assert math.inf == mock_clock.autojump_threshold


async def test_what_falls_due_while_time_goes_by_happens_at_its_own_time(mock_clock: trio.abc.Clock) -> None:
    """One `advance` over many timers goes from one to the next, as real time would."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        script = world.script("work", [Raise(OSError), Raise(OSError)])
        await jobs.enqueue("work", delay=30)
        began = world.now
        await world.advance(days=1)

        assert [30, 90, 150] == [(each.at - began).total_seconds() for each in script.calls]


async def test_a_world_waits_until_nothing_is_left_to_do(mock_clock: trio.abc.Clock) -> None:
    """`until_idle` lets retries come to their end, and leaves alone what is not due."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        failing = await jobs.enqueue("work", {"fails": 2})
        later = await jobs.enqueue("work", delay=86_400)
        began = world.now
        await world.until_idle()

        assert Status.SUCCEEDED is world.history(failing.run_id).run.status
        assert Status.SCHEDULED is world.history(later.run_id).run.status
        assert timedelta(minutes=2) == world.now - began


async def test_a_world_that_cannot_come_to_rest_says_what_waits(mock_clock: trio.abc.Clock) -> None:
    """After the limit, `until_idle` lists every run that has not ended, and when it is due."""
    jobs = some_jobs(queue=Queue(concurrency=1))

    async with simulate(jobs, grace=0) as world:
        hanging = await jobs.enqueue("work", {"sleep_s": 1e6})
        queued = await jobs.enqueue("work")
        await jobs.enqueue("work", delay=7200)
        with pytest.raises(StillBusy) as caught:
            await world.until_idle(limit=timedelta(hours=1))

        assert 3600 == (world.now - datetime(2027, 1, 15, 12, tzinfo=UTC)).total_seconds()

    assert (
        "after 3600 s of virtual time there is still work in this world:\n"
        f"  run {hanging.run_id} of work on default/j-jobs is running, attempt 1\n"
        f"  run {queued.run_id} of work on default/j-jobs is queued, due\n"
    ) in str(caught.value)
    assert "is scheduled, due in 3600 s" in str(caught.value)


async def test_time_also_flows_by_itself_where_the_test_wants_that(autojump_clock: trio.abc.Clock) -> None:
    """Under an autojump clock the test waits for runs as a program would."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        result = await jobs.enqueue("work", {"fails": 1})
        ended = await jobs.runs.wait(result.run_id)

        assert Status.SUCCEEDED is ended.status
        assert [ended.id] == [each.id for each in world.runs()]


def test_a_real_clock_is_refused_with_both_ways_out() -> None:
    """A test that forgot to ask for virtual time is told how to."""

    async def main() -> None:
        async with simulate(some_jobs()):
            raise AssertionError("opened")

    with pytest.raises(RealClock, match=r"mock_clock \(or autojump_clock\).*callsheet\.testing\.run\(main\)"):
        trio.run(main)


def test_a_world_needs_no_test_runner() -> None:
    """`callsheet.testing.run` gives a plain function its virtual time, and returns what it returned."""
    jobs = some_jobs()

    async def main(hours: int) -> tuple[int, float]:
        async with simulate(jobs) as world:
            await jobs.enqueue("work", delay=timedelta(hours=hours))
            await world.advance(hours=hours)
            return len(world.enqueued(status="succeeded")), trio.current_time()

    assert (1, 3 * 3_600) == run(main, 3)


async def test_the_wall_clock_can_be_set(mock_clock: trio.abc.Clock) -> None:
    """A run at a wall time starts when the clock on the wall is put there; a delay does not care."""
    jobs = some_jobs()
    start = datetime(2030, 6, 1, 8, 30, tzinfo=UTC)

    async with simulate(jobs, start=start) as world:
        at_ten = await jobs.enqueue("work", run_at=datetime(2030, 6, 1, 10, tzinfo=UTC))
        delayed = await jobs.enqueue("work", delay=5400)
        assert start == world.now
        world.step_wall(timedelta(hours=2))
        assert start + timedelta(hours=2) == world.now
        await world.settle()

        assert Status.SUCCEEDED is world.history(at_ten.run_id).run.status
        assert Status.SCHEDULED is world.history(delayed.run_id).run.status
        world.set_wall(start)
        await world.advance(minutes=90)
        assert Status.SUCCEEDED is world.history(delayed.run_id).run.status


async def story(seed: int, store: Literal["memory", "sqlite"]) -> list[Any]:
    """Something of everything, with chance in it; the whole history."""
    jobs = some_jobs(queue=Queue(concurrency=3, batch_size=2))

    @jobs.task("other", retry=Retry(attempts=4, jitter=0.5, initial_delay=3))
    async def other(payload: float, ctx: Context) -> None:
        await trio.sleep(payload)
        await ctx.enqueue("work", {"sleep_s": payload})
        if ctx.attempt < 3:
            raise OSError

    async with simulate(jobs, seed=seed, store=store) as world:
        world.faults.random(0.2)
        world.script("work", [Sleep(3, Return(1)), Raise(Snooze(20)), Raise(OSError)])
        for n in range(12):
            try:
                with world.flowing():
                    await jobs.enqueue("other" if n % 3 else "work", n / 10 if n % 3 else {"fails": n % 2}, delay=n % 4)
            except CallsheetError:  # refused, unknown, not there just now
                await world.advance(seconds=1)
        await world.advance(seconds=3)
        world.faults.heal()
        await world.restart()
        await world.until_idle()
        histories = [world.history(each.id) for each in world.runs()]
        return [
            *((each.run, placeless(each), each.transitions) for each in histories),
            world.faults.happened,
            world.now,
        ]


def placeless(history: History) -> list[tuple[Attempt, list[str]]]:
    """Its attempts, as if the store of each world had one path: what a store refused a handler names it."""
    without = [evolve(each, error=None) for each in history.attempts]
    errors = [[] if each.error is None else list(astuple(each.error)) for each in history.attempts]
    return [
        *zip(without, [[re.sub(r"[^\s:]+/jobs\.db", "jobs.db", text) for text in each] for each in errors], strict=True)
    ]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_the_whole_history_follows_from_the_seed(store: Literal["memory", "sqlite"]) -> None:
    """Two worlds with one seed and one story are equal in every id, time and fault; another seed tells another story."""
    first, again, other = run(story, 7, store), run(story, 7, store), run(story, 8, store)

    assert len(first) > 10
    assert any(each.kind == "crash" for each in first[-2])
    assert first == again
    assert first != other


def test_the_order_of_one_moment_follows_from_the_seed() -> None:
    """Many who wait for one event go on in an order that is the same each time, and another with another seed."""

    async def main(seed: int) -> list[int]:
        order: list[int] = []

        async def wait(n: int) -> None:
            await event.wait()
            order.append(n)

        async with simulate(some_jobs(), seed=seed) as world, trio.open_nursery() as nursery:
            event = trio.Event()
            for n in range(30):
                nursery.start_soon(wait, n)
            await world.settle()
            event.set()
            await world.settle()
        return order

    orders = [tuple(run(main, 1)) for _ in range(3)]

    assert {orders[0]} == set(orders)
    assert orders[0] != tuple(run(main, 2))
    assert list(range(30)) == sorted(orders[0])


def test_this_trio_has_what_the_order_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one place that knows private names of trio: where they are gone, the order of one moment is trio's again."""
    from trio._core import _run

    monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)  # as it is without hypothesis
    state = _run._r.getstate()

    with repeatable(1):
        assert _run._ALLOW_DETERMINISTIC_SCHEDULING
        assert state != _run._r.getstate()

    assert (False, state) == (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate())


def test_both_stores_tell_the_same_story() -> None:
    """What a test finds in memory is what it would find on disk."""
    memory, sqlite = run(story, 3, "memory"), run(story, 3, "sqlite")

    assert [each[0].status for each in memory[:-2]] == [each[0].status for each in sqlite[:-2]]
    assert memory[-1] == sqlite[-1]


# ---------------------------------------------------------------- what was enqueued


@frozen
class Letter:
    to: str
    pages: int = 1


async def test_a_test_can_say_what_must_have_been_enqueued(mock_clock: trio.abc.Clock) -> None:
    """By task, payload, queue, status and number; a payload as it was given, or as JSON."""
    jobs = Jobs("post", namespace="app", queues=[Queue("slow")])

    @jobs.task("send")
    async def send(letter: Letter, ctx: Context) -> None: ...

    @jobs.task("print", queue="slow")
    async def print_(letter: Letter, ctx: Context) -> None: ...

    async with simulate(jobs) as world:
        await send.enqueue(Letter("ann"))
        await send.enqueue(Letter("bob", pages=2))
        await print_.enqueue(Letter("ann"))
        await world.until_idle()

        assert 3 == len(world.assert_enqueued())
        assert ["ann", "bob"] == [each.payload["to"] for each in world.assert_enqueued("send", count=2)]  # type: ignore[index]
        assert 1 == len(world.assert_enqueued(task=send, payload=Letter("ann")))
        assert 2 == len(world.assert_enqueued(payload={"to": "ann", "pages": 1}, status="succeeded"))
        assert 1 == len(world.assert_enqueued(Letter, queue="slow"))
        assert 1 == len(world.assert_enqueued(queue="app/slow"))
        assert [] == world.assert_enqueued(send, count=0, payload=Letter("eve"))


async def test_a_wrong_expectation_shows_what_there_is(mock_clock: trio.abc.Clock) -> None:
    """The message names what was looked for, how much of it there is, and every run with its payload."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        with pytest.raises(AssertionError, match=r"^no run with task='work' was enqueued; there are none at all$"):
            world.assert_enqueued("work")
        a = (await jobs.enqueue("work", {"fails": 1}, delay=1)).run_id
        for n in range(25):
            await jobs.enqueue("work", {"sleep_s": n})
        with pytest.raises(AssertionError) as none:
            world.assert_enqueued("work", payload={"fails": 2}, queue="j-jobs", status=Status.RUNNING)
        with pytest.raises(
            AssertionError, match=r"^26 runs with task='work' were enqueued, not 2; there are 26 in all"
        ):
            world.assert_enqueued("work", count=2)

    assert str(none.value).startswith(
        "no run with task='work', queue='j-jobs', status='running', payload={'fails': 2} was enqueued; "
        f"there are 26 in all:\n  run {a} of work on default/j-jobs is scheduled with payload {{'fails': 1}}\n"
    )
    assert str(none.value).endswith("\n  and 6 more")


async def test_what_is_not_there_is_named(mock_clock: trio.abc.Clock) -> None:
    """Unknown tasks, runs and options are refused in a sentence."""
    jobs, others = some_jobs(), Jobs("others")
    others.task("work")(jobs.tasks["work"].handler)

    async with simulate(jobs, others) as world:
        with pytest.raises(UnknownTask, match="wrok"):
            world.script("wrok", [])
        with pytest.raises(UnknownTask, match="Letter"):
            world.enqueued(Letter)
        with pytest.raises(InvalidOption, match="several Jobs of this world have a task 'work'"):
            world.script("work", [])
        with pytest.raises(RunNotFound):
            world.history("nobody")
        with pytest.raises(ValueError, match="0 or more seconds"):
            await world.advance(hours=-1)
        with pytest.raises(ValueError, match="no zone"):
            world.set_wall(datetime(2030, 1, 1))  # noqa: DTZ001 -- that is the mistake
        with pytest.raises(TypeError, match="a time is an aware datetime, not str"):
            world.set_wall("2030-01-01")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="step_wall takes a number of seconds or a timedelta, not str"):
            world.step_wall("5")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="minutes must be a number, not str"):
            await world.advance(minutes="5")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"a script is made of Return, .*, not of 5"):
            world.script(jobs.tasks["work"], 5)  # type: ignore[arg-type]
        world.script(others.tasks["work"], [])

    for option in ("seams", "signals"):
        with pytest.raises(InvalidOption, match=f"{option}.*belongs to the world"):
            async with simulate(jobs, **{option: True}):  # type: ignore[arg-type]
                raise AssertionError("opened")
    with pytest.raises(InvalidOption, match="what makes a Store"):
        async with simulate(jobs, store="redis"):  # type: ignore[arg-type]
            raise AssertionError("opened")
    with pytest.raises(TypeError, match="no option 'gracee'"):
        async with simulate(jobs, gracee=3):  # type: ignore[call-arg]
            raise AssertionError("opened")


# ---------------------------------------------------------------- the end of the block


async def test_what_the_block_raises_comes_out_as_it_was(mock_clock: trio.abc.Clock) -> None:
    """A failed assertion ends the world at once, with work in hand, and is no member of a group."""
    jobs = some_jobs()
    error = AssertionError("of the test")

    with pytest.raises(AssertionError) as caught:
        async with simulate(jobs) as world:
            await jobs.enqueue("work", {"sleep_s": 1e6})
            await world.settle()
            raise error

    assert error is caught.value
    assert error.__context__ is None
    with pytest.raises(NotOpen):
        await jobs.enqueue("work")


async def test_a_world_that_is_cancelled_ends(autojump_clock: trio.abc.Clock) -> None:
    """A timeout around the world ends it, and is heard by whoever set it."""
    jobs = some_jobs()

    with trio.move_on_after(5) as over:
        async with simulate(jobs):
            await jobs.enqueue("work", {"sleep_s": 1e6})
            await trio.sleep_forever()

    assert over.cancelled_caught
    assert 5 == trio.current_time()


async def test_the_end_of_the_block_closes_in_order(mock_clock: trio.abc.Clock) -> None:
    """Work in hand may end within the grace, though nobody asks for time any more."""
    jobs = some_jobs()
    done: list[str] = []

    @jobs.task("last")
    async def last(_: object, ctx: Context) -> None:
        await trio.sleep(5)
        done.append(ctx.run_id)

    async with simulate(jobs) as world:
        result = await jobs.enqueue("last")
        await world.settle()

    assert [result.run_id] == done
    assert 0.0 != trio.current_time()


async def test_books_that_are_wrong_fail_the_test(mock_clock: trio.abc.Clock) -> None:
    """Whoever broke the store, or had a handler run twice at once, is told so in sentences, also at the end of the block."""
    jobs = some_jobs()

    with pytest.raises(WrongBooks) as caught:
        async with simulate(jobs) as world:
            result = await jobs.enqueue("work")
            await world.until_idle()
            await world.check()
            _spoil(world, result.run_id)
            with pytest.raises(WrongBooks):
                await world.check()

    assert f"run {result.run_id} is queued, and its last transition is succeed (no. 3, running to succeeded)" in str(
        caught.value
    )
    assert "the counter of queued runs of work on default/j-jobs says 0, and there are 1" in str(caught.value)


async def test_what_handlers_saw_is_compared_with_the_books(mock_clock: trio.abc.Clock) -> None:
    """Two attempts at a time, one twice, one that the store does not know, and a run that nobody runs."""
    jobs = some_jobs()

    with pytest.raises(WrongBooks) as caught:
        async with simulate(jobs) as world:
            left = (await jobs.enqueue("work", delay=10)).run_id
            done = (await jobs.enqueue("work")).run_id
            await world.until_idle()
            for attempt in (1, 2):
                world._ledger.begins(done, attempt, "work")
            stranger = Claim("stranger", b"s" * 16, (world.runs()[0].lane,), 1, 1)
            store = world.runtime.store.inner  # type: ignore[attr-defined]
            store.write([stranger], Now(world.runs()[0].due_us, 0))

    assert (
        f"run {done} began attempt 1 twice",
        f"run {done} began attempt 2 while attempt 1 was on stage",
        f"run {done} played attempt 2, which the store does not know",
        f"run {left} of work on default/j-jobs is running though its process has closed, and no handler outlived that",
    ) == caught.value.wrongs


def _spoil(world: World, run_id: str) -> None:
    from attrs import evolve

    tables = world.runtime.store.inner.tables  # type: ignore[attr-defined]
    tables.runs[run_id] = evolve(tables.runs[run_id], status=Status.QUEUED)


async def test_a_run_that_was_lost_is_not_taken_for_one_that_was_forgotten(mock_clock: trio.abc.Clock) -> None:
    """Retention may leave gaps in the books, as many as it counts; one more is told."""
    jobs = some_jobs(retention=Retention(succeeded=60))

    with pytest.raises(WrongBooks) as caught:
        async with simulate(jobs) as world:
            for _ in range(3):
                await jobs.enqueue("work")
            await world.until_idle()
            await world.advance(minutes=3)
            assert [] == world.runs()
            await world.check()
            lost = (await jobs.enqueue("work")).run_id
            await world.until_idle()
            _lose(world, lost)

    assert f"4 runs were played that are not stored, and 3 were pruned; the last is {lost}" in caught.value.wrongs


def _lose(world: World, run_id: str) -> None:
    tables = world.runtime.store.inner.tables  # type: ignore[attr-defined]
    tables.ids[tables.runs[run_id].lane, tables.runs[run_id].status].pop(run_id)
    del tables.runs[run_id]
