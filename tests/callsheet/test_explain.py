"""Why a run is where it is: every reason, reached the way a user would reach it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve

from callsheet import Context, Jobs, Queue, Reason, Retry, RunNotFound, open_runtime
from callsheet.actors.seams import Seams
from callsheet.context import instant
from callsheet.store.contract import Claim, Insert, Settle, Settlement
from callsheet.store.errors import StoreBusy, StoreFull
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Lane, Move, NewRun, Now, OutcomeKind, Owner, Verdict
from callsheet.testing import simulate

from .house import NOON_NS, Place, Wall, open_house, settle

NOON_US = NOON_NS // 1000


def shop(**options: Any) -> Jobs:
    jobs = Jobs("j", queue=Queue(**{"concurrency": 1, **options}), queues=[Queue("mail")])

    @jobs.task("work", retry=Retry(attempts=3, backoff="fixed", initial_delay=60), stuck_after=5)
    async def work(what: str, ctx: Context) -> None:
        if what == "fail":
            raise ValueError("no")
        if what == "deaf":
            with trio.CancelScope(shield=True):
                await trio.sleep(30)
        await trio.sleep(10)

    return jobs


async def reasons(jobs: Jobs, run_id: str) -> list[Reason]:
    return [*(await jobs.runs.explain(run_id)).reasons]


# ---------------------------------------------------------------- waiting


async def test_a_run_that_is_not_due_says_when_it_is(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Delayed, and between two attempts; the sentence says why it waits."""
    jobs = shop()
    async with open_house(place, jobs):
        later = await jobs.enqueue("work", "a", delay=90)
        failed = await jobs.enqueue("work", "fail")
        await settle()

        explained = [await jobs.runs.explain(each.run_id) for each in (later, failed)]

    assert [[Reason.NOT_DUE]] * 2 == [[*each.reasons] for each in explained]
    assert ["It is due at 2027-01-15 08:01:30.000+00:00.", True] == [
        explained[0].text,
        explained[1].text.startswith("Attempt 1 ended (failed: ValueError); the next one is due at 2027-01-15 08:01:"),
    ]
    assert [90, 60] == [round(each.due.timestamp() - NOON_NS / 1e9) for each in explained if each.due is not None]


async def test_a_run_behind_others_says_that_the_queue_is_full(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """With the slots; once there is room, that it is next, running, ended."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue("work", "a")
        second = await jobs.enqueue("work", "b")
        await settle()
        full = await jobs.runs.explain(second.run_id)
        running = await jobs.runs.explain(first.run_id)
        await runtime.until_idle()
        ended = await jobs.runs.explain(first.run_id)

    assert (Reason.QUEUE_FULL, "1 of 1 slots of queue default/j-jobs are taken.") == (full.reason, full.text)
    assert (Reason.RUNNING, True) == (running.reason, running.text.startswith("It is running: attempt 1, since"))
    assert (Reason.ENDED, True) == (ended.reason, ended.text.startswith("It is succeeded since"))


async def test_a_full_runtime_says_so(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """`max_running` counts all queues."""
    jobs = shop()
    async with open_house(place, jobs, max_running=1):
        await jobs.enqueue("work", "a")
        waits = await jobs.enqueue("work", "b", queue="mail")
        await settle()

        explained = await jobs.runs.explain(waits.run_id)

    assert (Reason.QUEUE_FULL, "As many runs are on stage here as max_running allows.") == (
        explained.reason,
        explained.text,
    )


async def test_a_run_that_nothing_is_known_to_hold_up_is_next(autojump_clock: trio.abc.Clock) -> None:
    """As one sees it that does not work: another process has the slots."""
    tables = Tables()
    jobs, desk = shop(), shop()
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    async with (
        open_runtime(one, jobs, seams=Seams.seeded(1, wall_ns=Wall())),
        open_runtime(two, desk, work=False, seams=Seams.seeded(2, wall_ns=Wall())),
    ):
        await jobs.enqueue("work", "a")
        await settle()
        run = await desk.enqueue("work", "b")

        explained = await desk.runs.explain(run.run_id)

    assert (Reason.NEXT, "It is due, with priority 5, and starts after those before it.") == (
        explained.reason,
        explained.text,
    )


async def test_all_that_holds_a_run_up_is_told_at_once(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """So that nobody mends one thing to find the next; the first reason is the one to begin with."""
    jobs = shop(global_limit=1)
    async with open_house(place, jobs):
        await jobs.enqueue("work", "a")
        waits = await jobs.enqueue("work", "b")
        later = await jobs.enqueue("work", "c", delay=60)
        await settle()
        await jobs.queues.pause()

        assert [Reason.QUEUE_PAUSED, Reason.GLOBAL_LIMIT, Reason.QUEUE_FULL] == await reasons(jobs, waits.run_id)
        assert [Reason.NOT_DUE, Reason.QUEUE_PAUSED] == await reasons(jobs, later.run_id)
        assert (await jobs.runs.explain(waits.run_id)).text.startswith(
            "Queue default/j-jobs is paused. 1 runs of queue"
        )


async def test_a_run_that_nobody_watches_says_so(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """G28: no runtime takes from its queue, though one is open."""
    jobs = shop()
    async with open_house(place, jobs, queues=["mail"]):
        run = await jobs.enqueue("work", "a")

        assert [Reason.NO_RUNTIME_WATCHES] == await reasons(jobs, run.run_id)
    async with open_house(place, jobs, work=False):
        assert [Reason.NO_RUNTIME_WATCHES] == await reasons(jobs, run.run_id)


async def test_a_runtime_that_died_is_not_counted_on(autojump_clock: trio.abc.Clock) -> None:
    """One that lives says so every quarter of a minute; whoever was not seen for a minute watches nothing."""
    tables = Tables()
    jobs, desk = shop(), shop()
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))
    wall = Wall()
    async with open_runtime(two, desk, work=False, seams=Seams.seeded(2, wall_ns=wall)):
        async with open_runtime(one, jobs, seams=Seams.seeded(1, wall_ns=wall)):
            await jobs.enqueue("work", "a", timeout=400)
            run = await desk.enqueue("work", "b", delay=1000)
            await trio.sleep(130)
            (seen,) = await desk.runtimes()

            assert [Reason.NOT_DUE] == await reasons(desk, run.run_id)
            assert 115 <= round((seen.seen_us - NOON_US) / 1e6) <= 130
            dead = evolve(tables.owners[seen.boot_id], closed=False)
        tables.owners[seen.boot_id] = dead  # as if it had been killed: it never signed off
        await trio.sleep(61)

        assert [Reason.NOT_DUE, Reason.NO_RUNTIME_WATCHES] == await reasons(desk, run.run_id)


@pytest.mark.parametrize(
    ("task", "schema", "reason"),
    [("old", "1", Reason.UNKNOWN_TASK), ("work", "7", Reason.UNKNOWN_SCHEMA)],
)
async def test_a_run_of_other_code_says_what_is_not_known(
    autojump_clock: trio.abc.Clock, place: Place, task: str, schema: str, reason: Reason
) -> None:
    """E7: a task or a schema that no code here has: it waits, nothing of it is lost."""
    jobs = shop()
    foreign = NewRun("R", Lane("default/j", "default/j-jobs", task, schema), b'"a"', NOON_US, due_us=NOON_US)
    async with open_house(place, jobs) as runtime:
        await runtime.write(Insert((foreign,)))
        await trio.sleep(60)

        assert [reason] == await reasons(jobs, "R")


async def test_an_unreadable_payload_is_told(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """It is tried again once a minute, for code that can read it."""
    jobs = shop()
    foreign = NewRun("R", Lane("default/j", "default/j-jobs", "work", "1"), b"[1]", NOON_US, due_us=NOON_US)
    async with open_house(place, jobs) as runtime:
        await runtime.write(Insert((foreign,)))
        await settle()

        explained = await jobs.runs.explain("R")

    assert (Reason.UNREADABLE, True) == (explained.reason, "tried again at 2027-01-15 08:01:00" in explained.text)


async def test_a_parked_task_is_told(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Its supervisor gave up; the sentence says what starts it again."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        for _ in range(4):
            runtime.system.stage.registry["/tasks/default/j/work"].ref.tell("poison")
            await trio.sleep(0.5)
        run = await jobs.enqueue("work", "a")

        explained = await jobs.runs.explain(run.run_id)

    assert ([Reason.TASK_PARKED], True) == ([*explained.reasons], "runtime.unpark" in explained.text)


async def test_a_suspect_behind_another_one_is_told(autojump_clock: trio.abc.Clock) -> None:
    """Runs under which the process died three times go one at a time."""
    tables = Tables()
    jobs = shop(concurrency=5)
    store = MemoryStore(tables)
    lane = Lane("default/j", "default/j-jobs", "work", "1")
    store.open(Owner("dead", 1, "h", 0))
    now = Now(NOON_US - 1, NOON_US - 1)
    store.write([Insert(tuple(NewRun(name, lane, b'"a"', 0) for name in ("A", "B")))], now)
    for _ in range(3):
        (claimed,) = store.write([Claim("dead", b"c" * 16, (lane,), 2, 1)], now)
        crash = Verdict(Move.RESCUE, OutcomeKind.CRASHED)
        ends = (Settlement(r.run_id, r.attempt, r.claim_id, r.fence, crash) for r in claimed.runs)  # type: ignore[union-attr]
        store.write([Settle(tuple(ends))], now)
    store.close()
    async with open_house(MemoryStore(tables), jobs):
        await settle()

        explained = [await jobs.runs.explain(name) for name in ("A", "B")]

    assert [Reason.RUNNING, Reason.QUARANTINE] == [each.reason for each in explained]
    assert "such runs go one at a time, and A is on stage" in explained[1].text


class Refusing(MemoryStore):
    """Takes no writes while it has an error."""

    error: Exception | None = None

    def write(self, commands: Any, now: Now) -> Any:
        if self.error is not None:
            raise self.error
        return super().write(commands, now)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StoreFull("jobs.db"), Reason.STORE_FULL), (StoreBusy("jobs.db", 5.0), Reason.STORE_BUSY)],
)
async def test_a_store_that_takes_no_writes_is_told(
    autojump_clock: trio.abc.Clock, error: Exception, reason: Reason
) -> None:
    """P10: with what it says; the snapshot says it too."""
    store = Refusing()
    jobs = shop()
    async with open_house(store, jobs):
        run = await jobs.enqueue("work", "a", delay=1)
        store.error = error
        await trio.sleep(2)
        explained = await jobs.runs.explain(run.run_id)
        snapshot = await jobs.snapshot()
        store.error = None
        await trio.sleep(1)

        assert (reason, str(error)) == (explained.reason, snapshot.trouble)
        assert (await jobs.snapshot()).trouble is None


async def test_a_run_of_a_runtime_that_is_gone_says_when_that_was_last_seen(autojump_clock: trio.abc.Clock) -> None:
    """Its row says that it runs, and nobody has taken it back yet: whoever only reads shall not take it for alive."""
    tables = Tables()

    def place() -> MemoryStore:
        return MemoryStore(tables, exclusive=False)

    jobs = shop()
    async with simulate(jobs, store=place, start=instant(NOON_US)) as world:
        run = await jobs.enqueue("work", "a")
        await world.settle()
        alive = await jobs.runs.explain(run.run_id)
        await world.crash()

    async with open_house(place, jobs, wall=Wall(offset_s=120), work=False, zombies=1):
        explained = await jobs.runs.explain(run.run_id)

    assert [Reason.RUNNING] * 2 == [alive.reason, explained.reason]
    assert "seen" not in alive.text
    assert "which was last seen at 2027-01-15 08:00:00.000+00:00: if it has died" in explained.text


# ---------------------------------------------------------------- stuck


async def test_a_handler_that_ignores_its_timeout_is_told_as_stuck(
    autojump_clock: trio.abc.Clock, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """I36: from `stuck_after` on, with the time when it was told to stop; it keeps its slot; then it settles as timed out."""
    jobs = shop(concurrency=1)
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("work", "deaf", timeout=2, max_attempts=1)
        behind = await jobs.enqueue("work", "b")
        await trio.sleep(6)
        patient = (await jobs.runs.get(run.run_id)).run.stuck_since_us
        await trio.sleep(2)
        details = await jobs.runs.get(run.run_id)
        explained = await jobs.runs.explain(run.run_id)

        assert (None, "running", 1) == (patient, details.run.status, runtime.on_stage)
        assert details.run.stuck_since_us is not None
        assert 2 == round((details.run.stuck_since_us - NOON_US) / 1e6)
        assert (Reason.STUCK, True) == (
            explained.reason,
            explained.text.startswith("It was told to stop at 2027-01-15 08:00:02.0"),
        )
        assert [Reason.QUEUE_FULL] == await reasons(jobs, behind.run_id)
        assert "goes on 5 s after it was told to stop (timed_out)" in caplog.text

        await runtime.until_idle()
        ended = await jobs.runs.get(run.run_id)

    assert ("dead_lettered", None, ["timed_out"]) == (
        ended.run.status,
        ended.run.stuck_since_us,
        [each.outcome for each in ended.attempts],
    )


async def test_that_a_run_is_stuck_is_kept_as_soon_as_the_store_takes_it(autojump_clock: trio.abc.Clock) -> None:
    """P10: the disk was full at that moment."""
    jobs = Jobs("j", stuck_after=5)

    @jobs.task("work", timeout=1)
    async def work(payload: object, ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    async with simulate(jobs) as world:
        run = await jobs.enqueue("work")
        await world.advance(seconds=5)
        world.faults.full()
        await world.advance(seconds=5)
        refused = await jobs.runs.explain(run.run_id)
        world.faults.heal()
        await world.advance(seconds=2)
        explained = await jobs.runs.explain(run.run_id)

    assert (Reason.RUNNING, Reason.STUCK) == (refused.reason, explained.reason)


async def test_a_canceled_run_whose_handler_goes_on_says_so(
    autojump_clock: trio.abc.Clock, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: the cancel is final at once; the slot is not free until the handler has ended."""
    jobs = shop()
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("work", "deaf")
        await trio.sleep(1)
        await jobs.runs.cancel(run.run_id)
        explained = await jobs.runs.explain(run.run_id)
        await trio.sleep(6)

        assert (Reason.ENDED, True, 1) == (
            explained.reason,
            explained.text.endswith("Its handler has not ended yet, and keeps its slot."),
            runtime.on_stage,
        )
        assert "goes on 5 s after it was told to stop (canceled)" in caplog.text


async def test_only_runs_of_the_instance_are_explained(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """A run of another instance is not there, and its state is not told."""
    jobs, other = shop(), Jobs("other")

    @other.task("work")
    async def work(payload: object, ctx: Context) -> None:
        pass

    async with open_house(memory, jobs, other):
        run = await other.enqueue("work")

        with pytest.raises(RunNotFound):
            await jobs.runs.explain(run.run_id)
        with pytest.raises(TypeError, match="run_id must be a str"):
            await jobs.runs.explain(3)  # type: ignore[arg-type]
