"""Leaving the block, in every way; and what a next runtime finds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from attrs import evolve

from callsheet import (
    Context,
    Jobs,
    NotOpen,
    Queue,
    Retry,
    Runtime,
    RuntimeGaveUp,
    ShuttingDown,
    Status,
    StoreHeld,
    UnknownTask,
    open_runtime,
)
from callsheet.actors.mailbox import Mailbox
from callsheet.store.contract import Claim, Insert, Settle, Settlement
from callsheet.store.memory import MemoryStore
from callsheet.store.records import Clock, Lane, Move, NewRun, OutcomeKind, Owner, RunFilter, Verdict
from callsheet.supervisor.task import CANCEL_BUDGET_S

from .house import NOON_NS, Place, Wall, moves_of, open_house, outcomes_of, read, settle, statuses, write

NOON_US = NOON_NS // 1000


def sleepers(**options: Any) -> tuple[Jobs, list[str]]:
    jobs = Jobs("j", **options)
    log: list[str] = []

    @jobs.task("sleep")
    async def sleep(seconds: float, ctx: Context) -> str:
        log.append(f"start {seconds:g}")
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            log.append(f"cancelled {seconds:g}")
            raise
        log.append(f"end {seconds:g}")
        return "slept"

    return jobs, log


def stored(place: Place) -> dict[str, tuple[str, int, list[str]]]:
    """Of every run: its status, tries spent, and how its attempts ended."""

    def look(reader: Any) -> dict[str, tuple[str, int, list[str]]]:
        found = {}
        for run in reader.list(RunFilter(), limit=1_000):
            history = reader.get(run.id)
            found[run.id] = (str(run.status), run.spent, [str(each.outcome) for each in history.attempts])
        return found

    return read(place, look)


# ---------------------------------------------------------------- the end of the block


async def test_work_in_hand_may_end_within_the_grace(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P9: leaving the block starts nothing new, lets what runs end, and returns as soon as it has."""
    jobs, log = sleepers(queue=Queue(concurrency=2))
    async with open_house(place, jobs, grace=8):
        runs = [(await jobs.enqueue("sleep", n)).run_id for n in (3, 5, 7)]
        await trio.sleep(1)
        left_s = trio.current_time()

    assert 4 == trio.current_time() - left_s
    assert ["start 3", "start 5"] == sorted(log[:2])
    assert ["end 3", "end 5"] == log[2:]
    found = stored(place)
    assert [("succeeded", 0, ["succeeded"])] * 2 == [found[each] for each in runs[:2]]
    assert ("queued", 0, []) == found[runs[2]]


async def test_what_takes_longer_is_cancelled_and_handed_back_unspent(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """P9: after the grace handlers are cancelled; their runs are queued again, the attempt ended as interrupted."""
    jobs, log = sleepers()
    async with open_house(place, jobs, grace=2):
        run = (await jobs.enqueue("sleep", 100)).run_id
        await trio.sleep(1)
        left_s = trio.current_time()

    assert 2 == trio.current_time() - left_s
    assert ["start 100", "cancelled 100"] == log
    assert ("queued", 0, ["interrupted"]) == stored(place)[run]


async def test_a_grace_of_nothing_cancels_at_once(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`grace=0`: out as fast as handlers can be cancelled, and still nothing is left running."""
    jobs, log = sleepers()
    async with open_house(place, jobs, grace=0):
        await jobs.enqueue("sleep", 100)
        await trio.sleep(1)
        left_s = trio.current_time()

    assert 0 == trio.current_time() - left_s
    assert ["start 100", "cancelled 100"] == log


async def test_a_handed_back_run_goes_on_at_the_next_open(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P8: attempts count on, tries do not."""
    jobs, log = sleepers()
    wall = Wall()
    async with open_house(place, jobs, grace=0, wall=wall):
        run = (await jobs.enqueue("sleep", 5, max_attempts=1)).run_id
        await trio.sleep(1)
    async with open_house(place, jobs, wall=wall) as runtime:
        await runtime.until_idle()

        assert ["interrupted", "succeeded"] == await outcomes_of(jobs, run)
        assert ["queued", "running", "queued", "running", "succeeded"] == await moves_of(jobs, run)
    assert ["start 5", "cancelled 5", "start 5", "end 5"] == log


async def test_a_cancelled_host_has_the_same_grace(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P9: a host that is cancelled waits for work in hand as one that leaves its block."""
    jobs, log = sleepers()
    began_s = trio.current_time()

    with trio.move_on_after(1) as host:
        async with open_house(place, jobs, grace=4):
            await jobs.enqueue("sleep", 3)
            await jobs.enqueue("sleep", 100)
            await trio.sleep_forever()

    assert host.cancelled_caught
    assert 5 == trio.current_time() - began_s
    assert ["end 3", "cancelled 100"] == log[2:]


async def test_an_error_in_the_block_comes_out_as_it_is(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """The host's own exception, in no group, after work in hand has ended."""
    jobs, log = sleepers()
    error = ExceptionGroup("the host's own", [ValueError()])

    with pytest.raises(ExceptionGroup) as caught:
        async with open_house(place, jobs):
            await jobs.enqueue("sleep", 3)
            await settle()
            raise error

    assert error is caught.value
    assert None is error.__context__
    assert ["start 3", "end 3"] == log


async def test_stop_ends_the_block_and_a_second_one_the_grace(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`runtime.stop()` cancels the block; `stop(grace=0)` while it waits for handlers ends that too."""
    jobs, log = sleepers()
    reached: list[str] = []

    async def impatient(runtime: Runtime) -> None:
        await trio.sleep(2)
        runtime.stop()
        await trio.sleep(3)
        runtime.stop(grace=0)

    async with trio.open_nursery() as nursery:
        async with open_house(place, jobs, grace=60) as runtime:
            nursery.start_soon(impatient, runtime)
            await jobs.enqueue("sleep", 4)
            await jobs.enqueue("sleep", 100)
            with suppress(ValueError):
                await runtime.forever()
            reached.append("never")
        ended_s = trio.current_time()

    assert [] == reached
    assert 5 == ended_s
    assert ["end 4", "cancelled 100"] == log[2:]


async def test_work_that_a_handler_enqueues_while_we_stop_is_kept(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P1: acknowledged is durable, also during the grace; it runs at the next open."""
    jobs = Jobs("j")
    made: list[str] = []

    @jobs.task("parent")
    async def parent(_: object, ctx: Context) -> None:
        await trio.sleep(3)
        made.append((await ctx.enqueue("child")).run_id)

    @jobs.task("child")
    async def child(_: object, ctx: Context) -> None: ...

    wall = Wall()
    async with open_house(place, jobs, wall=wall):
        await jobs.enqueue("parent")
        await trio.sleep(1)
    assert ("queued", 0, []) == stored(place)[made[0]]
    async with open_house(place, jobs, wall=wall) as runtime:
        await runtime.until_idle()
        assert [Status.SUCCEEDED] == await statuses(jobs, made)


async def test_a_handler_that_ignores_its_cancellation_leaves_its_row_running(
    autojump_clock: trio.abc.Clock, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A zombie: everything else is tidy, its row says running, and the next open takes it back as crashed."""
    jobs = Jobs("j")
    wall = Wall()

    @jobs.task("stubborn")
    async def stubborn(_: object, ctx: Context) -> None:
        with trio.CancelScope(shield=ctx.attempt == 1):
            await trio.sleep(1_000)

    async with open_house(place, jobs, grace=1, wall=wall, zombies=1):
        run = (await jobs.enqueue("stubborn", timeout=10_000)).run_id
        await trio.sleep(1)
        left_s = trio.current_time()

    assert 999 == trio.current_time() - left_s  # only the very end waits for it
    assert "ignores its cancellation: it stays running in the store" in caplog.text
    assert CANCEL_BUDGET_S < 998
    async with open_house(place, jobs, wall=wall) as runtime:
        await runtime.until_idle()
        assert ["crashed", "succeeded"] == await outcomes_of(jobs, run)


async def test_nothing_more_is_taken_when_the_journal_has_ended(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """A call that comes too late is told so, and stores nothing."""
    jobs, _ = sleepers()
    other: list[BaseException] = []

    async def late() -> None:
        for _ in range(20):
            try:
                await jobs.enqueue("sleep", 1)
            except (ShuttingDown, NotOpen) as error:
                other.append(error)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, open_house(memory, jobs):
        await settle()
        nursery.start_soon(late)

    assert other
    assert {NotOpen, ShuttingDown} >= {type(each) for each in other}
    assert 20 - len(other) == len(stored(memory))


async def test_after_the_block_the_jobs_are_not_open(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Every call says so in a sentence; opening again works."""
    jobs, _ = sleepers()
    async with open_house(memory, jobs):
        run = await jobs.enqueue("sleep", 0)

    for call in (
        lambda: jobs.enqueue("sleep", 1),
        lambda: jobs.enqueue_many([]),
        lambda: jobs.runs.get(run.run_id),
        jobs.runs.list,
        lambda: jobs.runs.cancel(run.run_id),
        lambda: jobs.runs.replay(run.run_id),
        lambda: jobs.runs.wait(run.run_id),
    ):
        with pytest.raises(NotOpen, match=r"default/j is not open here: use it inside `async with jobs.open\(...\)`"):
            await call()
    async with open_house(memory, jobs):
        assert run.run_id == (await jobs.runs.get(run.run_id)).run.id


# ---------------------------------------------------------------- giving up


async def test_a_runtime_that_cannot_keep_itself_alive_gives_up_loudly(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """The block is cancelled, RuntimeGaveUp carries the causes, and every acknowledged run is kept and goes on."""
    jobs, log = sleepers()
    wall = Wall()

    with pytest.raises(RuntimeGaveUp, match="every acknowledged run is kept and goes on at the next open") as caught:
        async with open_house(place, jobs, wall=wall, zombies=1, grace=0) as runtime:
            runs = [(await jobs.enqueue("sleep", n)).run_id for n in (50, 60)]
            await jobs.runs.cancel(runs[1])
            await trio.sleep(1)
            for _ in range(11):
                await poison(runtime, "/journal")
            await runtime.forever()

    chain = [caught.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    assert TypeError is type(chain[-1])
    async with open_house(place, jobs, wall=wall) as runtime:
        await runtime.until_idle()
        assert [Status.SUCCEEDED, Status.CANCELED] == await statuses(jobs, runs)
    assert "end 50" in log


async def test_a_call_in_flight_when_the_runtime_gives_up_is_told(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A task of the host outside the block never waits for an answer that cannot come."""
    jobs, _ = sleepers()
    told: list[BaseException] = []

    async def call() -> None:
        while True:
            try:
                await jobs.enqueue("sleep", 0, delay=1_000)
                await trio.sleep(0.001)  # or time would stand still
            except (ShuttingDown, NotOpen) as error:
                told.append(error)
                return

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            with suppress(RuntimeGaveUp):
                async with open_house(memory, jobs) as runtime:
                    for _ in range(20):
                        nursery.start_soon(call)
                    for _ in range(11):
                        await poison(runtime, "/journal")
                    await runtime.forever()

    assert 20 == len(told)


async def poison(runtime: Runtime, path: str) -> None:
    """Crash it, as soon as it is up."""
    cell = runtime.system.stage.registry[path]
    while cell.state != "running":  # noqa: ASYNC110 -- a test may look
        await trio.sleep(0.01)
    cell.ref.tell_control("poison")
    await settle()


async def test_a_parked_task_waits_and_the_others_go_on(
    autojump_clock: trio.abc.Clock, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A task whose supervisor gave up starts nothing more until reopen; its runs are kept, nobody else notices."""
    jobs, _ = sleepers()
    wall = Wall()

    @jobs.task("other")
    async def other(_: object, ctx: Context) -> str:
        return "done"

    async with open_house(place, jobs, wall=wall) as runtime:
        waiting = [(await jobs.enqueue("sleep", 5)).run_id for _ in range(3)]
        await settle()
        for _ in range(4):
            runtime.system.stage.registry["/tasks/default/j/sleep"].ref.tell("poison")
            await settle()
        waiting.append((await jobs.enqueue("sleep", 5)).run_id)
        fine = (await jobs.enqueue("other")).run_id
        await trio.sleep(60)

        assert [Status.SUCCEEDED] == await statuses(jobs, [fine])
        assert [Status.QUEUED] * 4 == await statuses(jobs, waiting)
        assert "/tasks/default/j/sleep is parked" in caplog.text
        assert 0 == runtime.on_stage
    async with open_house(place, jobs, wall=wall) as runtime:
        await runtime.until_idle()
        assert [Status.SUCCEEDED] * 4 == await statuses(jobs, waiting)


async def test_a_parked_task_goes_on_when_it_is_unparked(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`runtime.unpark` starts it with its budget whole: its runs go on at once, and it may crash as often as before."""
    jobs, _ = sleepers()

    async with open_house(place, jobs) as runtime:
        supervisor = runtime.system.stage.registry["/tasks/default/j/sleep"].ref
        for _ in range(4):
            supervisor.tell("poison")  # type: ignore[arg-type]
            await settle()
        waiting = [(await jobs.enqueue("sleep", 5)).run_id for _ in range(3)]
        await settle()
        assert [Status.QUEUED] * 3 == await statuses(jobs, waiting)

        assert await runtime.unpark("sleep")
        assert not await runtime.unpark("sleep")
        with pytest.raises(UnknownTask, match="no task"):
            await runtime.unpark("slep")
        supervisor.tell("poison")  # type: ignore[arg-type]
        await settle()
        await runtime.until_idle()

        assert [Status.SUCCEEDED] * 3 == await statuses(jobs, waiting)


async def test_a_task_that_is_unparked_twice_at_once_is_unparked_once(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """One of the two calls did it; neither fails."""
    jobs, _ = sleepers()
    told: list[bool] = []

    async def unpark(runtime: Runtime) -> None:
        told.append(await runtime.unpark("sleep"))

    async with open_house(memory, jobs) as runtime:
        cell = runtime.system.stage.registry["/tasks/default/j/sleep"]
        for _ in range(4):
            cell.ref.tell("poison")
            await settle()
        assert cell.parked

        async with trio.open_nursery() as nursery:
            nursery.start_soon(unpark, runtime)
            nursery.start_soon(unpark, runtime)

        assert [False, True] == sorted(told)
        assert not cell.parked


async def test_runs_that_wait_in_the_mailbox_of_a_task_that_parks_go_back_to_their_queue(
    autojump_clock: trio.abc.Clock, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were claimed for it and never started: nobody else would hand them back before the next open."""
    jobs, _ = sleepers()

    async with open_house(place, jobs) as runtime:
        cell = runtime.system.stage.registry["/tasks/default/j/sleep"]
        for _ in range(3):
            cell.ref.tell("poison")
            await settle()
        put = Mailbox.put

        def put_and_poison(mailbox: Mailbox[Any], message: object) -> bool:
            if mailbox is cell.mailbox:
                mailbox.put_control("poison")
            return put(mailbox, message)

        monkeypatch.setattr(Mailbox, "put", put_and_poison)
        run = (await jobs.enqueue("sleep", 5)).run_id
        await settle()

        assert cell.parked
        assert [Status.QUEUED] == await statuses(jobs, [run])
        assert 0 == runtime.on_stage


# ---------------------------------------------------------------- recovery

DEAD = Owner("dead", 1, "here", NOON_US)
LANE = Lane("default/j", "default/j-jobs", "sleep", "1")


async def test_what_a_dead_process_left_running_goes_on(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P8: its attempt ends as crashed, unspent; the run starts again at once, and the history shows both."""
    jobs, log = sleepers()
    run = NewRun("r1", LANE, b"2", NOON_US, max_attempts=1)
    write(place, DEAD, Insert((run, evolve(run, id="r2"))), Claim("dead", b"c" * 16, (LANE,), 1, 15_000_000))

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()

        assert ["crashed", "succeeded"] == await outcomes_of(jobs, "r1")
        assert ["queued", "running", "retrying", "running", "succeeded"] == await moves_of(jobs, "r1")
        ended = (await jobs.runs.get("r1")).run
        assert (2, 0, 0) == (ended.attempt, ended.spent, ended.deaths)
        assert ["succeeded"] == await outcomes_of(jobs, "r2")
    assert ["start 2", "start 2", "end 2", "end 2"] == log


async def test_many_runs_of_a_dead_process_all_go_on(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """P8: however many there are, more than one page of them too; retries and delays keep their times."""
    jobs, _ = sleepers(queue=Queue(concurrency=500, batch_size=500))
    runs = tuple(NewRun(f"r{n:04}", LANE, b"0.5", NOON_US) for n in range(1_500))
    failed = Verdict(Move.RETRY, OutcomeKind.FAILED, due_us=NOON_US + 60_000_000, cause="failed")
    retrying = Settlement("r0000", 1, b"c" * 16, 1, evolve(failed, clock=Clock.STEADY))
    write(place, DEAD, Insert(runs), Claim("dead", b"c" * 16, (LANE,), 1_500, 15_000_000), Settle((retrying,)))

    async with open_house(place, jobs) as runtime:
        await trio.sleep(30)
        assert {"succeeded": 1_499, "retrying": 1} == await counts(runtime)
        await runtime.until_idle()
        assert {"succeeded": 1_500} == await counts(runtime)
        assert ["failed", "succeeded"] == await outcomes_of(jobs, "r0000")


async def counts(runtime: Runtime) -> dict[str, int]:
    return {str(each.status): each.n for each in await runtime.read(lambda reader: reader.counts())}


async def test_a_run_whose_process_dies_again_and_again_is_poisoned(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """P4: five deaths in a row with no attempt ended between dead-letter a run."""
    jobs, log = sleepers()
    write(place, DEAD, Insert((NewRun("r1", LANE, b"2", NOON_US),)))
    for n in range(4):
        write(place, evolve(DEAD, boot_id=f"dead{n}"), Claim(f"dead{n}", b"%d" % n * 16, (LANE,), 1, 15_000_000))
        async with open_house(place, Jobs("empty")):
            await settle()
    write(place, DEAD, Claim("dead", b"c" * 16, (LANE,), 1, 15_000_000))

    async with open_house(place, jobs) as runtime:
        await runtime.until_idle()
        ended = await jobs.runs.get("r1")

    assert Status.DEAD_LETTERED == ended.run.status
    assert "poisoned: 5 crashes in a row" == ended.run.cause
    assert ["crashed"] * 5 == [str(each.outcome) for each in ended.attempts]
    assert [] == log


async def test_runs_of_tasks_that_are_not_declared_are_left_alone(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A rolling deploy destroys nothing: unknown tasks and schemas wait for somebody who knows them."""
    jobs, log = sleepers()
    unknown = evolve(LANE, task="gone"), evolve(LANE, schema="2"), evolve(LANE, jobs="default/other")
    write(place, DEAD, Insert(tuple(NewRun(f"r{n}", lane, b"1", NOON_US) for n, lane in enumerate(unknown))))
    due = NewRun("due", unknown[0], b"1", NOON_US, status=Status.SCHEDULED, due_us=NOON_US + 1, clock=Clock.STEADY)
    write(place, DEAD, Insert((due,)))

    async with open_house(place, jobs) as runtime:
        await jobs.enqueue("sleep", 1)
        await jobs.enqueue("sleep", 1, delay=10_000)
        with trio.fail_after(30):
            await runtime.until_idle()

    assert ["start 1", "end 1"] == log
    found = stored(place)
    assert ["queued"] * 3 + ["scheduled"] == [found[run_id][0] for run_id in ("r0", "r1", "r2", "due")]


# ---------------------------------------------------------------- opening


async def test_a_store_is_held_by_one_runtime(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A second runtime on the same store is refused in a sentence, and the first one does not notice."""
    jobs, _ = sleepers()
    other, _ = sleepers()
    async with open_house(place, jobs) as runtime:
        with pytest.raises(StoreHeld, match="is held by process"):
            async with open_runtime(place(), other):
                pytest.fail("it opened")

        run = await jobs.enqueue("sleep", 1)
        await runtime.until_idle()
        assert [Status.SUCCEEDED] == await statuses(jobs, [run.run_id])


async def test_a_start_that_fails_leaves_nothing_open(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """When opening fails half-way, the store is free again and the jobs are not open."""
    jobs, _ = sleepers()

    class Broken:
        """No monitor at all."""

    with pytest.raises(Exception):  # noqa: B017 -- whatever it trips over first
        async with open_runtime(place(), jobs, monitor=Broken()):  # type: ignore[arg-type]
            pytest.fail("it opened")

    with pytest.raises(NotOpen):
        await jobs.enqueue("sleep", 1)
    async with open_house(place, jobs):
        await jobs.enqueue("sleep", 1)


async def test_serve_runs_inside_the_hosts_nursery(autojump_clock: trio.abc.Clock) -> None:
    """`await nursery.start(jobs.serve, store)` returns the runtime once it works; cancelling the nursery ends it."""
    jobs, log = sleepers()

    async with trio.open_nursery() as nursery:
        runtime: Runtime = await nursery.start(jobs.serve, MemoryStore())
        run = await jobs.enqueue("sleep", 2)
        assert Status.SUCCEEDED == (await jobs.runs.wait(run.run_id)).status
        assert 1 == len(runtime.jobs)
        runtime.stop()

    assert ["start 2", "end 2"] == log


async def test_until_idle_waits_for_everything_that_could_run(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Queued, running, retrying and due; not for what is scheduled later."""
    jobs = Jobs("j", retry=Retry(attempts=3, backoff="fixed", initial_delay=100), queue=Queue(concurrency=1))
    tries: list[int] = []

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> None:
        tries.append(ctx.attempt)
        await trio.sleep(1)
        if ctx.attempt < 3:
            raise ValueError

    async with open_house(place, jobs) as runtime:
        began_s = trio.current_time()
        await runtime.until_idle()
        assert began_s == trio.current_time()
        await jobs.enqueue("work")
        await jobs.enqueue("work", delay=10_000)
        await runtime.until_idle()

        assert [1, 2, 3] == tries
        assert 203 == trio.current_time() - began_s
