"""Retention: runs that ended long ago are forgotten, in time, a few at a time, and nobody minds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, field

from callsheet import (
    Client,
    Context,
    Discard,
    InvalidOption,
    Jobs,
    Queue,
    Retention,
    RunNotFound,
    Runtime,
    Status,
)
from callsheet.store.contract import Answer, Command, Prune, Pruned
from callsheet.store.sqlite import SqliteStore
from callsheet.supervisor import paths
from callsheet.supervisor.pruner import BATCH, EVERY_S, FIRST_S, PAUSE_S, Pruner
from callsheet.testing import World, simulate

from .house import Place, open_house

HOUR: Final = 3_600.0
LATE: Final = EVERY_S + 1
"""So much later than its time a run is gone for sure, where there is little to forget."""
ENDED: Final = (Status.SUCCEEDED, Status.DEAD_LETTERED, Status.CANCELED)

stores = pytest.mark.parametrize("store", ["memory", "sqlite"])


def some_jobs(name: str = "j", **options: Any) -> Jobs:
    """One task that ends as its payload says."""
    jobs = Jobs(name, queue=Queue(concurrency=200, batch_size=200), **options)

    @jobs.task("work")
    async def work(payload: Any, ctx: Context) -> str:
        if payload == "discard":
            raise Discard("no use")
        await trio.sleep(payload if isinstance(payload, int) else 0)
        return "done"

    return jobs


async def ended(jobs: Jobs, world: World, status: Status = Status.SUCCEEDED, **options: Any) -> str:
    """A run that has ended like this, now."""
    payload = {Status.SUCCEEDED: None, Status.DEAD_LETTERED: "discard", Status.CANCELED: 60}[status]
    run_id = (await jobs.enqueue("work", payload, **options)).run_id
    await world.settle()
    if status is Status.CANCELED:
        await jobs.runs.cancel(run_id)
        await world.settle()
    assert world.history(run_id).run.status is status
    return run_id


def ids(world: World) -> list[str]:
    return [run.id for run in world.runs()]


@define(eq=False)
class Heard:
    """The commits of a runtime in which anything was to be forgotten."""

    runtime: Runtime
    asked: list[list[Prune]] = field(factory=list)
    forgot: list[int] = field(factory=list)
    at_s: list[float] = field(factory=list)

    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        prunes = [each for each in commands if isinstance(each, Prune)]
        if prunes:
            self.asked.append(prunes)
            self.at_s.append(self.runtime.seams.clock.mono_s())
        self.forgot += [each.n for each in answers if isinstance(each, Pruned)]


def heard(runtime: Runtime) -> Heard:
    listener = Heard(runtime)
    runtime.journal.on_committed.append(listener)
    return listener


# ---------------------------------------------------------------- when


@stores
@pytest.mark.parametrize("status", ENDED)
async def test_a_run_is_forgotten_after_its_time_and_not_before(
    mock_clock: trio.abc.Clock, store: Any, status: Status
) -> None:
    """However it ended, as long after as is said of that; what ended otherwise stays, and what is gone is counted."""
    jobs = some_jobs(retention=Retention(**{status.value: timedelta(hours=1)}))

    async with simulate(jobs, store=store, grace=0) as world:
        runs = {each: await ended(jobs, world, each) for each in ENDED}
        await world.advance(seconds=HOUR - 1)
        before = ids(world)
        await world.advance(seconds=1 + LATE)
        stats = await jobs.stats()

        assert sorted(runs.values()) == sorted(before)
        assert sorted(run for each, run in runs.items() if each is not status) == sorted(ids(world))
        assert (2, {status: 1}) == (stats.total, stats.pruned)
        assert stats == (await jobs.snapshot()).stats
        with pytest.raises(RunNotFound):
            await jobs.runs.get(runs[status])


@stores
async def test_every_ending_has_its_own_time(mock_clock: trio.abc.Clock, store: Any) -> None:
    """Also one of seconds; nothing that came later is forgotten with what came before."""
    jobs = some_jobs(retention=Retention(succeeded=1, canceled=HOUR))

    async with simulate(jobs, store=store, grace=0) as world:
        runs = {each: await ended(jobs, world, each) for each in ENDED}
        await world.advance(seconds=LATE)
        after_a_minute = set(ids(world))
        late = await ended(jobs, world, Status.CANCELED)
        await world.advance(seconds=HOUR)

        assert {runs[Status.DEAD_LETTERED], runs[Status.CANCELED]} == after_a_minute
        assert {runs[Status.DEAD_LETTERED], late} == set(ids(world))


async def test_nothing_is_forgotten_early(mock_clock: trio.abc.Clock) -> None:
    """Each of two hundred runs that end one after the other has its own time, to the second."""
    jobs = some_jobs(retention=Retention(succeeded=90))

    async with simulate(jobs) as world:
        await jobs.enqueue_many([jobs.entry("work", n) for n in range(200)])
        ended_at: dict[str, datetime] = {}
        gone: dict[str, float] = {}
        while len(gone) < 200:
            await world.advance(seconds=1)
            there = {run.id: run for run in world.runs()}
            ended_at |= {run_id: run.ended_at for run_id, run in there.items() if run.ended_at is not None}
            for run_id in ended_at.keys() - there.keys() - gone.keys():
                gone[run_id] = (world.now - ended_at[run_id]).total_seconds()

        assert min(gone.values()) >= 90
        assert max(gone.values()) <= 90 + LATE


async def test_nothing_is_forgotten_unless_somebody_says_so(mock_clock: trio.abc.Clock) -> None:
    """By default every run is kept, and nobody looks for old ones."""
    jobs = some_jobs()

    async with simulate(jobs) as world:
        runs = [await ended(jobs, world, each) for each in ENDED]
        listener = heard(world.runtime)
        await world.advance(hours=6)

        assert sorted(runs) == sorted(ids(world))
        assert ([], {}) == (listener.asked, (await jobs.stats()).pruned)
        assert "retention" not in [node.name for node in world.runtime.tree().children]
        assert Retention() == jobs.config.retention


@stores
async def test_p3_only_what_has_ended_is_forgotten(mock_clock: trio.abc.Clock, store: Any) -> None:
    """What runs, or waits, longer than ended runs are kept goes on, however old it is; its time begins when it ends."""
    jobs = some_jobs(retention=Retention(succeeded=1, dead_lettered=1, canceled=1))

    async with simulate(jobs, store=store) as world:
        running = (await jobs.enqueue("work", 7200)).run_id
        waiting = (await jobs.enqueue("work", delay=7200)).run_id
        await jobs.queues.pause()
        queued = (await jobs.enqueue("work")).run_id
        await world.advance(seconds=7199)
        meanwhile = {run.id: run.status for run in world.runs()}
        await jobs.queues.resume()
        await world.advance(seconds=1 + LATE)

        assert {running: Status.RUNNING, waiting: Status.SCHEDULED, queued: Status.QUEUED} == meanwhile
        assert ([], {Status.SUCCEEDED: 3}) == (ids(world), (await jobs.stats()).pruned)


# ---------------------------------------------------------------- what follows


@stores
async def test_p6_the_key_of_a_forgotten_run_is_free_again(mock_clock: trio.abc.Clock, store: Any) -> None:
    """As long as the run is there it is the answer; then the key makes a new one."""
    jobs = some_jobs(retention=Retention(succeeded=HOUR))

    async with simulate(jobs, store=store) as world:
        first = await ended(jobs, world, idempotency_key="k")
        await world.advance(seconds=HOUR - 1)
        again = await jobs.enqueue("work", idempotency_key="k")
        await world.advance(seconds=1 + LATE)
        new = await jobs.enqueue("work", idempotency_key="k")
        await world.settle()

        assert (first, True) == (again.run_id, again.deduped)
        assert (False, Status.SUCCEEDED) == (new.deduped, world.history(new.run_id).run.status)
        assert [new.run_id] == ids(world)


@stores
async def test_the_replay_of_a_forgotten_run_is_whole(mock_clock: trio.abc.Clock, store: Any) -> None:
    """It says what it replays; what is gone can be neither replayed nor canceled nor waited for."""
    jobs = some_jobs(retention=Retention(dead_lettered=HOUR))

    async with simulate(jobs, store=store) as world:
        old = await ended(jobs, world, Status.DEAD_LETTERED)
        replay = (await jobs.runs.replay(old, delay=7200)).run_id
        await world.advance(seconds=HOUR + LATE)

        assert [replay] == ids(world)
        assert old == (await jobs.runs.get(replay)).run.replay_of
        assert [replay] == [run.id for run in (await jobs.runs.list(replay_of=old)).runs]
        for call in (jobs.runs.replay, jobs.runs.cancel, jobs.runs.wait, jobs.runs.result, jobs.runs.explain):
            with pytest.raises(RunNotFound):
                await call(old)


async def test_others_keep_what_they_want(mock_clock: trio.abc.Clock) -> None:
    """Each instance of a runtime has its own retention."""
    short, long, ever = (
        some_jobs("a", retention=Retention(succeeded=60)),
        some_jobs("b", retention=Retention(succeeded=HOUR)),
        some_jobs("c"),
    )

    async with simulate(short, long, ever) as world:
        runs = [await ended(jobs, world) for jobs in (short, long, ever)]
        await world.advance(seconds=60 + LATE)
        first = ids(world)
        await world.advance(seconds=HOUR)

        assert (sorted(runs[1:]), [runs[2]]) == (sorted(first), ids(world))
        assert [{Status.SUCCEEDED: 1}, {Status.SUCCEEDED: 1}, {}] == [
            (await jobs.stats()).pruned for jobs in (short, long, ever)
        ]


async def test_who_does_not_run_jobs_forgets_none(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A runtime that only enqueues leaves that to the one that works."""
    jobs = some_jobs(retention=Retention(succeeded=1))
    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()

    async with open_house(place, jobs, work=False):
        await trio.sleep(HOUR)

        assert 1 == (await jobs.stats()).total


# ---------------------------------------------------------------- a few at a time


@stores
async def test_many_runs_are_forgotten_a_few_at_a_time(
    mock_clock: trio.abc.Clock, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One command a commit, each of a bounded size, with a pause behind it; and one line in the log for all of them."""
    jobs = some_jobs(retention=Retention(succeeded=HOUR, canceled=HOUR))

    async with simulate(jobs, store=store) as world:
        await jobs.enqueue_many([jobs.entry("work") for _ in range(5 * BATCH)])
        await world.until_idle()
        await ended(jobs, world, Status.CANCELED)
        listener = heard(world.runtime)
        with caplog.at_level(logging.INFO, "callsheet.retention"):
            await world.advance(seconds=HOUR + 3 * LATE)

        assert 5 * BATCH + 1 == sum(listener.forgot)
        assert BATCH == max(listener.forgot)
        assert {1} == {len(asked) for asked in listener.asked}
        assert PAUSE_S <= min(round(two_s - one_s, 6) for one_s, two_s in pairwise(listener.at_s))
        assert ([], {Status.SUCCEEDED: 5 * BATCH, Status.CANCELED: 1}) == (ids(world), (await jobs.stats()).pruned)
    assert ["forgot 501 runs that ended long ago: 500 succeeded of default/j, 1 canceled of default/j"] == [
        each.getMessage() for each in caplog.records if each.name == "callsheet.retention"
    ]


async def test_a_busy_queue_is_cleared_behind_itself(mock_clock: trio.abc.Clock) -> None:
    """Hours of work, and no more is stored than the retention holds; every run was run."""
    jobs, most = some_jobs(retention=Retention(succeeded=600)), 0

    async with simulate(jobs) as world:
        for _ in range(120):
            await jobs.enqueue_many([jobs.entry("work", 5) for _ in range(10)])
            await world.advance(minutes=1)
            most = max(most, len(world.runs()))
        await world.until_idle()
        stats = await jobs.stats()

        assert 1200 == stats.total + stats.pruned[Status.SUCCEEDED]
        assert 100 <= most <= 120
        assert {Status.SUCCEEDED} == {run.status for run in world.runs()}
        assert 1200 == len({run for run, _ in world._ledger.played})


async def test_a_pass_waits_for_its_commit(mock_clock: trio.abc.Clock) -> None:
    """While the store takes minutes over one command, no other is sent; then the pass goes on."""
    jobs = some_jobs(retention=Retention(succeeded=1))

    async with simulate(jobs) as world:
        await jobs.enqueue_many([jobs.entry("work") for _ in range(3 * BATCH)])
        await world.settle()
        listener = heard(world.runtime)
        world.faults.stall(seconds=300, on="prune")
        await world.advance(seconds=FIRST_S + 290)
        stalled = len(listener.asked)
        await world.advance(seconds=10 + 2 * 300)  # a pause is as long as what came before it

        assert (0, []) == (stalled, ids(world))


async def test_a_crash_in_a_pass_is_mended(mock_clock: trio.abc.Clock) -> None:
    """The answer to what was asked before it changes nothing; the next pass begins again."""
    jobs = some_jobs(retention=Retention(succeeded=1))

    async with simulate(jobs) as world:
        await jobs.enqueue_many([jobs.entry("work") for _ in range(3 * BATCH)])
        await world.settle()
        world.faults.stall(seconds=5, on="prune")
        await world.advance(seconds=FIRST_S + 1)
        world.runtime.system.stage.registry[paths.RETENTION].ref.tell("nonsense")
        await world.advance(seconds=FIRST_S + LATE)
        (node,) = [each for each in world.runtime.tree().children if each.kind == "retention"]

        assert (1, "running", []) == (node.restarts, node.state, ids(world))


async def test_a_runtime_that_closes_meanwhile_says_nothing(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer to the last command finds nobody, and that is no news."""
    jobs = some_jobs(retention=Retention(succeeded=1))

    async with simulate(jobs) as world:
        await ended(jobs, world)
        world.faults.stall(seconds=3, on="prune")
        await world.advance(seconds=FIRST_S + 1)
        await world.restart()

        assert [] == ids(world)
    assert [] == [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# ---------------------------------------------------------------- whatever goes wrong


@stores
@pytest.mark.parametrize("fault", ["refused", "lost", "done, and not known", "full"])
async def test_a_store_that_fails_only_delays_it(mock_clock: trio.abc.Clock, store: Any, fault: str) -> None:
    """The next pass does it, and what was forgotten is counted once."""
    jobs = some_jobs(retention=Retention(succeeded=HOUR))

    async with simulate(jobs, store=store) as world:
        await jobs.enqueue_many([jobs.entry("work") for _ in range(3 * BATCH)])
        await world.until_idle()
        await world.advance(seconds=HOUR - LATE)
        match fault:
            case "full":
                world.faults.full()
            case "refused":
                world.faults.fail(3, on="prune")  # the first comes before the hour is over
            case _:
                world.faults.fail(3, on="prune", unknown=True, when="before" if fault == "lost" else "after")
        await world.advance(seconds=2 * LATE)
        there, happened = len(ids(world)), len(world.faults.happened)
        world.faults.heal()
        await world.advance(seconds=2 * LATE)

        assert happened > 0
        assert {"full": 3 * BATCH, "refused": 2 * BATCH}.get(fault, 0) == there
        assert ([], {Status.SUCCEEDED: 3 * BATCH}) == (ids(world), (await jobs.stats()).pruned)


@stores
@pytest.mark.parametrize("when", ["before", "after"])
async def test_p8_a_restart_goes_on_with_it(mock_clock: trio.abc.Clock, store: Any, when: Any) -> None:
    """A process that is killed in the middle of a pass has forgotten what was committed, and the next one the rest."""
    jobs = some_jobs(retention=Retention(succeeded=HOUR))

    async with simulate(jobs, store=store) as world:
        await jobs.enqueue_many([jobs.entry("work") for _ in range(3 * BATCH)])
        await world.until_idle()
        await world.advance(seconds=HOUR / 2)
        await world.restart()
        await world.advance(seconds=HOUR / 2 - LATE)
        before = len(ids(world))
        world.faults.crash(2, on="prune", when=when)
        await world.advance(seconds=2 * LATE + FIRST_S)

        assert 1 == len(world.faults.happened)
        assert 3 * BATCH == before
        assert ([], {Status.SUCCEEDED: 3 * BATCH}) == (ids(world), (await jobs.stats()).pruned)


async def test_when_it_cannot_stay_up_nothing_else_notices(
    mock_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is restarted, and parked in the end; runs go on, and are kept."""
    jobs, crashes = some_jobs(retention=Retention(succeeded=1)), 0

    def crash(_self: Pruner, _pruned: Pruned) -> None:
        nonlocal crashes
        crashes += 1
        raise RuntimeError("no")

    async with simulate(jobs) as world:
        first = await ended(jobs, world)
        with monkeypatch.context() as patch:
            patch.setattr(Pruner, "_done", crash)
            patch.setattr("callsheet.supervisor.pruner.FIRST_S", 0.01)
            await world.advance(hours=1)
        second = await ended(jobs, world)
        states = {node.name: (node.state, node.restarts) for node in world.runtime.tree().children}

        assert crashes > 3
        assert "parked" == states.pop("retention")[0]
        assert {("running", 0)} == set(states.values())
        assert first not in ids(world)
        assert second in ids(world)


# ---------------------------------------------------------------- saying so


@pytest.mark.parametrize("field", ["succeeded", "dead_lettered", "canceled"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0, "must be at least 1 seconds, not 0"),
        (0.5, "must be at least 1 seconds, not 0.5"),
        (-3600, "must be at least 1 seconds, not -3600"),
        (timedelta(days=3651), "must be at most 315360000 seconds, not 315446400"),
        (float("nan"), "must be finite, not nan"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(field: str, value: Any, why: str) -> None:
    """When it is declared, with the name of the field."""
    with pytest.raises(InvalidOption) as caught:
        Retention(**{field: value})

    assert (f"Retention({field})", why) == (caught.value.option, caught.value.why)


@pytest.mark.parametrize("value", ["7 days", True, [3]])
def test_what_is_no_time_is_refused(value: Any) -> None:
    """A text is not read, and True is not a second."""
    with pytest.raises(TypeError, match=r"Retention\(canceled\) must be a number of seconds or a timedelta, not "):
        Retention(canceled=value)


def test_retention_has_a_form_of_its_own() -> None:
    """A bare number would not say of what."""
    with pytest.raises(TypeError, match=r"retention must be a Retention, as in retention=Retention\(…\), not int"):
        Jobs("j", retention=3600)  # type: ignore[arg-type]


def test_what_was_said_is_shown() -> None:
    """In seconds, whatever it was given as."""
    jobs = some_jobs(retention=Retention(succeeded=timedelta(days=7), canceled=90))

    assert Retention(succeeded=604_800, canceled=90) == jobs.config.retention
    assert "Retention(succeeded=604800.0, dead_lettered=None, canceled=90.0)" == repr(jobs.config.retention)


async def test_a_client_sees_what_was_forgotten(autojump_clock: trio.abc.Clock, tmp_path: Path) -> None:
    """From outside, with the code and without it; and how long runs are kept."""
    jobs, path = some_jobs(retention=Retention(succeeded=60)), tmp_path / "jobs.db"

    async with open_house(lambda: SqliteStore(path), jobs) as runtime:
        await jobs.enqueue("work")
        await runtime.until_idle()
        await trio.sleep(60 + LATE)
        with jobs.client(path) as typed, Client(path, jobs="default/j") as bare:
            told = [(client.stats().pruned, client.config.retention.succeeded) for client in (typed, bare)]

    assert [({Status.SUCCEEDED: 1}, 60.0)] * 2 == told
