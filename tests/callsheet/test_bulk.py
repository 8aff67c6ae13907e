"""Cancel and replay of everything that matches, answered run by run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from callsheet import (
    BulkResult,
    Context,
    Discard,
    InvalidName,
    InvalidOption,
    InvalidSchedule,
    Jobs,
    Queue,
    Retry,
    Status,
    open_runtime,
)
from callsheet import bulk as bulk_module
from callsheet.actors.readers import Readers
from callsheet.actors.seams import Seams
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables

from .house import NOON_NS, Place, Wall, open_house, settle, statuses


def failing(**options: Any) -> tuple[Jobs, list[str]]:
    """Jobs whose task is dead-lettered while its service is down, and what it was called with."""
    jobs = Jobs("j", queue=Queue(concurrency=1), **options)
    calls: list[str] = []

    @jobs.task("deliver")
    async def deliver(what: str, ctx: Context) -> str:
        calls.append(what)
        if what.startswith("bad") and ctx.trace_id != "mended":
            raise Discard("the receiver is gone")
        await trio.sleep(1)
        return what

    return jobs, calls


# ---------------------------------------------------------------- cancel


async def test_all_that_has_not_ended_can_be_canceled_at_once(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P5: queued, scheduled, running; each is answered, ended ones are left alone."""
    jobs, calls = failing()
    async with open_house(place, jobs) as runtime:
        done = await jobs.enqueue("deliver", "done")
        await runtime.until_idle()
        runs = [(await jobs.enqueue("deliver", name, delay=d)).run_id for name, d in (("a", 0), ("b", 0), ("c", 60))]
        await settle()

        result = await jobs.runs.cancel_all(task="deliver", reason="moved away")
        await runtime.until_idle()

        assert (3, False) == (result.done, result.more)
        assert {*runs} == {each.run_id for each in result.answers if each.done}
        assert ["canceled"] * 3 == await statuses(jobs, runs)
        assert ["succeeded"] == await statuses(jobs, [done.run_id])
        assert "canceled: moved away" == (await jobs.runs.get(runs[2])).run.cause
        assert 0 == (await jobs.runs.cancel_all()).done
    assert ["done", "a"] == calls


async def test_a_run_that_starts_while_others_are_read_is_canceled_too(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    """P5: it was retrying while those that run were read, and ran while those that retry were."""
    jobs = Jobs("j")

    @jobs.task("work", retry=Retry(initial_delay=5))
    async def work(payload: object, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise OSError("first")
        await trio.sleep(1000)

    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("work")
        await trio.sleep(1)
        read, statuses_read = Readers.read, 0

        async def slow(self: Readers, what: Any) -> Any:
            nonlocal statuses_read
            found = await read(self, what)
            statuses_read += self is runtime.readers
            if statuses_read == 3:
                await trio.sleep(10)
            return found

        monkeypatch.setattr(Readers, "read", slow)
        result = await jobs.runs.cancel_all()

        assert (1, False) == (result.done, result.more)
        assert ["canceled"] == await statuses(jobs, [run.run_id])


async def test_answers_are_newest_first_whatever_the_runs_were(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Also of cancels, for which runs are read status by status."""
    jobs, _ = failing()
    async with open_house(place, jobs):
        runs = [(await jobs.enqueue("deliver", name, delay=d)).run_id for name, d in (("a", 0), ("b", 0), ("c", 60))]
        await settle()

        result = await jobs.runs.cancel_all()

        assert sorted(runs, reverse=True) == [each.run_id for each in result.answers]


async def test_a_filter_bounds_what_is_canceled(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Everything given must match; a run of that status that has ended says what it is."""
    jobs, _ = failing()
    async with open_house(place, jobs) as runtime:
        bad = await jobs.enqueue("deliver", "bad")
        await runtime.until_idle()
        mine = await jobs.enqueue("deliver", "a", delay=60, trace_id="t")
        other = await jobs.enqueue("deliver", "b", delay=60)

        result = await jobs.runs.cancel_all(trace_id="t")
        ended = await jobs.runs.cancel_all(status="dead_lettered")

        assert [mine.run_id] == [each.run_id for each in result.answers]
        assert ["scheduled"] == await statuses(jobs, [other.run_id])
        assert [(bad.run_id, False, Status.DEAD_LETTERED, "it is dead_lettered")] == [
            (each.run_id, each.done, each.status, each.why) for each in ended.answers
        ]


async def test_bulk_goes_through_pages_and_keeps_to_its_limit(
    autojump_clock: trio.abc.Clock, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`more` says that a further call has something to do, and that call does the rest."""
    monkeypatch.setattr(bulk_module, "PAGE", 3)
    monkeypatch.setattr(bulk_module, "REPLAYED", 3)
    jobs, _ = failing()
    async with open_house(place, jobs) as runtime:
        await jobs.enqueue_many([jobs.entry("deliver", f"bad {n}") for n in range(7)])
        await jobs.enqueue_many([jobs.entry("deliver", f"x {n}", delay=60) for n in range(8)])
        await trio.sleep(1)
        canceled = [await jobs.runs.cancel_all(limit=5) for _ in range(2)]
        replayed = [await jobs.runs.replay_all(limit=4, delay=60)]
        replayed.append(await jobs.runs.replay_all(limit=4, delay=60, after=replayed[0].next))
        replayed.append(await jobs.runs.replay_all(limit=4, delay=60))
        await runtime.until_idle()

        assert [(5, True), (3, False)] == [(each.done, each.more) for each in canceled]
        assert [(4, True), (3, False), (0, True)] == [(each.done, each.more) for each in replayed]
        assert [4, 3, 4] == [len(each.answers) for each in replayed]
        assert 7 == len({each.replay_id for result in replayed for each in result.answers if each.done})
        assert {Status.CANCELED: 8, Status.DEAD_LETTERED: 7, Status.SCHEDULED: 7} == (await jobs.stats()).by_status


# ---------------------------------------------------------------- replay


async def test_all_that_is_dead_lettered_can_be_replayed_at_once(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """L101: each gets a new run that links back; the old one is untouched; a second call replays nothing twice."""
    jobs, calls = failing()
    async with open_house(place, jobs) as runtime:
        old = [(await jobs.enqueue("deliver", f"bad {n}")).run_id for n in range(3)]
        await jobs.enqueue("deliver", "good")
        await runtime.until_idle()
        before = [await jobs.runs.get(each) for each in old]

        result = await jobs.runs.replay_all(reason="endpoint recovered")
        again = await jobs.runs.replay_all()
        await runtime.until_idle()
        once_more = await jobs.runs.replay_all(repeat=True, limit=1)

        assert (3, 0, 1) == (result.done, again.done, once_more.done)
        new = {each.run_id: each.replay_id for each in result.answers}
        assert {*old} == {*new}
        assert {
            (each.run_id, each.replay_id, "it was replayed before") for each in again.answers if each.run_id in new
        } >= {(run_id, new[run_id], "it was replayed before") for run_id in old}
        for run_id, details in zip(old, before, strict=True):
            replay_id = new[run_id]
            assert replay_id is not None
            replay = await jobs.runs.get(replay_id)
            now = await jobs.runs.get(run_id)
            assert (details.run, details.attempts, details.transitions) == (now.run, now.attempts, now.transitions)
            assert replay_id == now.replays[0]
            assert (run_id, "endpoint recovered", details.payload) == (
                replay.run.replay_of,
                replay.run.reason,
                replay.payload,
            )
    assert 4 + 3 <= len(calls)


async def test_of_two_bulk_replays_at_once_each_run_gets_one(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    """As from a page whose button was pressed twice: every run is replayed by one of them."""
    monkeypatch.setattr(bulk_module, "PAGE", 2)
    jobs, _ = failing()
    async with open_house(place, jobs) as runtime:
        for n in range(5):
            await jobs.enqueue("deliver", f"bad {n}")
        await runtime.until_idle()
        await jobs.queues.pause()
        done: list[str] = []

        async def replay() -> None:
            result = await jobs.runs.replay_all()
            done.extend(each.run_id for each in result.answers if each.done)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(replay)
            nursery.start_soon(replay)

        assert 5 == len(done) == len({*done})
        assert [1] * 5 == [len((await jobs.runs.get(each)).replays) for each in done]


async def test_two_processes_that_replay_at_once_replay_nothing_twice(autojump_clock: trio.abc.Clock) -> None:
    """Page by page: each run is replayed by one of them, and the other is told by which run."""
    tables = Tables()
    (jobs, _), (desk, _) = failing(), failing()
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    results: list[BulkResult] = []

    async def replay(who: Jobs) -> None:
        results.append(await who.runs.replay_all(delay=60))

    async with (
        open_runtime(one, jobs, seams=Seams.seeded(1, wall_ns=Wall())),
        open_runtime(two, desk, work=False, seams=Seams.seeded(2, wall_ns=Wall())),
    ):
        await jobs.enqueue_many([jobs.entry("deliver", f"bad {n}") for n in range(250)])
        await trio.sleep(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replay, jobs)
            nursery.start_soon(replay, desk)

        assert {Status.DEAD_LETTERED: 250, Status.SCHEDULED: 250} == (await jobs.stats()).by_status
    first, second = results
    assert 250 == first.done + second.done
    assert {each.run_id: each.replay_id for each in first.answers} == {
        each.run_id: each.replay_id for each in second.answers
    }


@pytest.mark.parametrize("call", ["cancel_all", "replay_all"])
async def test_a_filter_that_turned_out_to_be_none_does_not_mean_everything(
    autojump_clock: trio.abc.Clock, place: Place, call: str
) -> None:
    """As from a setting that is missing: nothing is touched."""
    jobs, _ = failing()
    async with open_house(place, jobs):
        run = await jobs.enqueue("deliver", "a", delay=60)

        with pytest.raises(InvalidOption, match="task: is None; leave it out to mean any"):
            await getattr(jobs.runs, call)(task=None)

        assert ["scheduled"] == await statuses(jobs, [run.run_id])


async def test_a_bulk_replay_can_wait(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`delay` and `run_at` hold for all of them."""
    jobs, _ = failing()
    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("deliver", "bad")
        await runtime.until_idle()

        result = await jobs.runs.replay_all(run_at=datetime.fromtimestamp(NOON_NS / 1e9 + 3600, UTC))

        (answer,) = result.answers
        assert answer.replay_id is not None
        assert ["scheduled"] == await statuses(jobs, [answer.replay_id])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"limit": 0}, InvalidOption),
        ({"limit": 10_001}, InvalidOption),
        ({"status": "retrying"}, InvalidOption),
        ({"status": "over"}, InvalidOption),
        ({"delay": 1, "run_at": datetime.now(UTC)}, InvalidSchedule),
        ({"delay": -1}, InvalidSchedule),
        ({"task": "a\nb"}, InvalidName),
        ({"tsak": "deliver"}, TypeError),
        ({"reason": "x" * 1001}, InvalidOption),
    ],
)
async def test_a_wrong_bulk_call_changes_nothing(
    autojump_clock: trio.abc.Clock, place: Place, wrong: dict[str, Any], error: type[Exception]
) -> None:
    """Said before the first run is touched."""
    jobs, _ = failing()
    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("deliver", "bad")
        await runtime.until_idle()
        before = await jobs.stats()

        with pytest.raises(error):
            await jobs.runs.replay_all(**wrong)

        assert before == await jobs.stats()
