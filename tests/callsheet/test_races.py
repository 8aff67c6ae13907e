"""
Two sides that want to end or move one run at the same time, in both orders.

Which of them is first is forced: the commit of one is held, in virtual time, until the other has done all it can. The one
that loses is told so, and changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from attrs import define, field

from callsheet import CancelResult, Context, Jobs, Queue, Retry, Status
from callsheet.store.contract import Claim, ClaimedRuns, Rescue, Rescued, Settle, Settled, Settlement
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Claimed, Move, Now, OutcomeKind, Owner, Verdict
from callsheet.testing import Die, Hang, Raise, Return, Script, Sleep, World, simulate

WORK_S: Final = 5.0
"""How long the handler works."""
BOTH: Final = pytest.mark.parametrize("store", ["memory", "sqlite"])


@define(eq=False)
class Race:
    """A world with one run, and what those who called were told."""

    jobs: Jobs
    world: World
    nursery: trio.Nursery
    run_id: str = ""
    told: list[Any] = field(factory=list)

    async def starts(self, *steps: Any, delay: float = 0) -> Script:
        script = self.world.script("work", steps)
        self.run_id = (await self.jobs.enqueue("work", delay=delay)).run_id
        await self.world.settle()
        return script

    def call(self, what: Callable[[], Awaitable[object]]) -> None:
        """Somebody calls, and is told when it is time."""

        async def call() -> None:
            self.told.append(await what())

        self.nursery.start_soon(call)

    def cancel(self) -> None:
        self.call(lambda: self.jobs.runs.cancel(self.run_id, reason="race"))

    @property
    def moves(self) -> list[str]:
        return [str(each.now) for each in self.world.history(self.run_id).transitions]

    @property
    def attempts(self) -> list[tuple[str, str | None]]:
        """How each ended, and what its handler did after that."""
        return [(str(each.outcome), each.late_outcome) for each in self.world.history(self.run_id).attempts]

    @property
    def answers(self) -> list[tuple[bool, Status]]:
        """What those who canceled were told."""
        assert all(isinstance(each, CancelResult) for each in self.told)
        return [(each.canceled, each.status) for each in self.told]


@asynccontextmanager
async def race(store: Any, **options: Any) -> AsyncIterator[Race]:
    jobs = Jobs("j", queue=Queue(concurrency=1), retry=Retry(attempts=3, backoff="fixed", initial_delay=60))

    @jobs.task("work")
    async def work(_: object, ctx: Context) -> str:
        return "unscripted"

    @jobs.task("first")
    async def first(seconds: float, ctx: Context) -> None:
        await trio.sleep(seconds)

    async with simulate(jobs, store=store, **options) as world, trio.open_nursery() as nursery:
        yield Race(jobs, world, nursery)


# ---------------------------------------------------------------- cancel and success


@BOTH
async def test_a_success_that_is_first_stands(mock_clock: trio.abc.Clock, store: Any) -> None:
    """The cancel that waited behind its commit changes nothing, and is told that the run has succeeded."""
    async with race(store) as r:
        await r.starts(Sleep(WORK_S, Return("done")))
        r.world.faults.stall(seconds=10, on="settle")
        await r.world.advance(seconds=WORK_S + 1)

        r.cancel()
        await r.world.advance(seconds=5)
        assert ([], ["queued", "running"]) == (r.told, r.moves)
        await r.world.until_idle()

        assert [(False, Status.SUCCEEDED)] == r.answers
        assert ["queued", "running", "succeeded"] == r.moves
        assert [("succeeded", None)] == r.attempts
        assert "done" == r.world.history(r.run_id).result


@BOTH
async def test_a_cancel_that_is_first_stands(mock_clock: trio.abc.Clock, store: Any) -> None:
    """The value that came while it was written is no result; that there was one is kept with the attempt."""
    async with race(store) as r:
        await r.starts(Sleep(WORK_S, Return("done")))
        r.world.faults.stall(seconds=10, on="cancel")

        r.cancel()
        await r.world.advance(seconds=WORK_S + 1)
        assert ([], ["queued", "running"]) == (r.told, r.moves)
        await r.world.until_idle()

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "running", "canceled"] == r.moves
        assert [("canceled", "returned a value")] == r.attempts
        assert None is r.world.history(r.run_id).result


# ---------------------------------------------------------------- cancel and retry


@BOTH
async def test_a_run_that_was_sent_to_retry_first_is_canceled_there(mock_clock: trio.abc.Clock, store: Any) -> None:
    """Its failure counts, and it is not tried again."""
    async with race(store) as r:
        script = await r.starts(Sleep(WORK_S, Raise(ValueError("no"))))
        r.world.faults.stall(seconds=10, on="settle")
        await r.world.advance(seconds=WORK_S + 1)

        r.cancel()
        await r.world.advance(hours=1)

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "running", "retrying", "canceled"] == r.moves
        assert [("failed", None)] == r.attempts
        assert (1, 1) == (r.world.history(r.run_id).run.spent, len(script.calls))


@BOTH
async def test_a_run_that_was_canceled_first_has_no_failure_to_retry(mock_clock: trio.abc.Clock, store: Any) -> None:
    """What it raised meanwhile spends nothing, and is kept with the attempt."""
    async with race(store) as r:
        script = await r.starts(Sleep(WORK_S, Raise(ValueError("no"))))
        r.world.faults.stall(seconds=10, on="cancel")

        r.cancel()
        await r.world.advance(hours=1)

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "running", "canceled"] == r.moves
        assert [("canceled", "raised ValueError")] == r.attempts
        assert (0, 1) == (r.world.history(r.run_id).run.spent, len(script.calls))


@BOTH
async def test_a_cancel_between_two_tries_is_before_the_second_or_stops_it(
    mock_clock: trio.abc.Clock, store: Any
) -> None:
    """Written when the retry falls due: whichever of claim and cancel is first, it ends canceled."""
    for held, attempts in (("claim", 2), ("cancel", 1)):
        async with race(store) as r:
            await r.starts(Raise(ValueError), Hang())
            await r.world.advance(seconds=59)
            r.world.faults.stall(seconds=5, on=held)  # type: ignore[arg-type]
            if held == "cancel":
                r.cancel()
            await r.world.advance(seconds=2)
            if held == "claim":
                r.cancel()
            await r.world.advance(minutes=10)

            assert [(True, Status.CANCELED)] == r.answers
            assert [("failed", None), ("canceled", None)][:attempts] == r.attempts


# ---------------------------------------------------------------- cancel and start


@BOTH
async def test_a_run_whose_claim_is_first_is_canceled_as_running(mock_clock: trio.abc.Clock, store: Any) -> None:
    """The claim is durable, and nobody knows it yet: the attempt that it began ends with the cancel, and nothing runs."""
    async with race(store) as r:
        blocking = await r.jobs.enqueue("first", WORK_S)
        script = await r.starts(Hang())
        r.world.faults.stall(seconds=10, when="after", on="claim")
        await r.world.advance(seconds=WORK_S + 1)
        assert ["queued", "running"] == r.moves

        r.cancel()
        await r.world.until_idle()

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "running", "canceled"] == r.moves
        assert [("canceled", None)] == r.attempts
        assert len(script.calls) <= 1
        assert Status.SUCCEEDED is r.world.history(blocking.run_id).run.status


@BOTH
async def test_a_run_whose_cancel_is_first_is_not_claimed(mock_clock: trio.abc.Clock, store: Any) -> None:
    """The claim that waited behind it brings nothing."""
    async with race(store) as r:
        await r.jobs.enqueue("first", WORK_S)
        script = await r.starts(Hang())
        r.world.faults.stall(seconds=10, on="cancel")

        r.cancel()
        await r.world.advance(seconds=WORK_S + 1)
        assert ["queued"] == r.moves
        await r.world.until_idle()

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "canceled"] == r.moves
        assert [] == r.attempts == script.calls


# ---------------------------------------------------------------- cancel and shutdown


@BOTH
async def test_a_run_that_was_handed_back_first_is_canceled_as_queued(mock_clock: trio.abc.Clock, store: Any) -> None:
    """The cancel of a runtime that is closing is still taken, and the next one does not start the run."""
    async with race(store, grace=0) as r:
        script = await r.starts(Hang())
        r.world.faults.stall(seconds=4, on="settle")
        r.nursery.start_soon(r.world.restart)
        await r.world.advance(seconds=1)

        r.cancel()
        await r.world.advance(minutes=1)
        await r.world.until_idle()

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "running", "queued", "canceled"] == r.moves
        assert [("interrupted", None)] == r.attempts
        assert 1 == len(script.calls)


@BOTH
async def test_a_run_that_was_canceled_first_is_not_handed_back(mock_clock: trio.abc.Clock, store: Any) -> None:
    """The runtime that stops its handler finds it canceled already."""
    async with race(store, grace=0) as r:
        script = await r.starts(Hang())
        r.world.faults.stall(seconds=4, on="cancel")

        r.cancel()
        await r.world.settle()
        r.nursery.start_soon(r.world.restart)
        await r.world.advance(minutes=1)
        await r.world.until_idle()

        assert [(True, Status.CANCELED)] == r.answers
        assert ["queued", "running", "canceled"] == r.moves
        assert [("canceled", None)] == r.attempts
        assert 1 == len(script.calls)


# ---------------------------------------------------------------- rescue and success


@BOTH
@pytest.mark.parametrize(
    ("when", "attempts"),
    [("before", [("crashed", None), ("succeeded", None)]), ("after", [("succeeded", None)])],
)
async def test_a_process_that_dies_over_a_success_is_followed_by_what_is_durable(
    mock_clock: trio.abc.Clock, store: Any, when: Any, attempts: list[tuple[str, None]]
) -> None:
    """A success that was written needs no rescue; one that was not is rescued, and done again."""
    async with race(store) as r:
        await r.starts(Return("once"), Return("again"))
        assert ["queued", "running", "succeeded"] == r.moves
        r.world.faults.crash(when=when, on="settle")
        await r.starts(Return("once"), Return("again"))
        await r.world.until_idle()

        assert attempts == r.attempts
        assert {1: "once", 2: "again"}[len(attempts)] == r.world.history(r.run_id).result


@define(eq=False)
class Other:
    """Another runtime on the same store, which takes the owner of everything for dead."""

    store: MemoryStore
    world: World
    run: Claimed | None = None

    def rescues(self) -> int:
        """Take back what runs, and claim it; returns how much that was."""
        now = self._now()
        [answer] = self.store.write([Rescue("other", "others", limit=10)], now)
        assert isinstance(answer, Rescued)
        if answer.runs:
            lanes = tuple(each.lane for each in answer.runs)
            [claimed] = self.store.write([Claim("other", b"o" * 16, lanes, 1, 1_000_000)], now)
            assert isinstance(claimed, ClaimedRuns)
            [self.run] = claimed.runs
        return len(answer.runs)

    def succeeds(self) -> Status | None:
        run = self.run
        assert run is not None
        verdict = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result=b'"theirs"')
        settlement = Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict)
        [answer] = self.store.write([Settle((settlement,))], self._now())
        assert isinstance(answer, Settled)
        return answer.statuses[0]

    def _now(self) -> Now:
        return self.world.runtime.seams.now()


@asynccontextmanager
async def shared() -> AsyncIterator[tuple[Race, Other]]:
    """A store that several may run on, as a server is."""
    tables = Tables()
    async with race(lambda: MemoryStore(tables, exclusive=False)) as r:
        other = Other(MemoryStore(tables, exclusive=False), r.world)
        other.store.open(Owner("other", 2, "there", 0))
        yield r, other
        other.store.close()


async def test_a_rescue_that_is_first_stands(mock_clock: trio.abc.Clock) -> None:
    """The success of whoever was taken for dead changes nothing; that it had one is kept with its attempt."""
    async with shared() as (r, other):
        await r.starts(Sleep(WORK_S, Return("ours")))
        r.world.faults.stall(seconds=10, on="settle")
        await r.world.advance(seconds=WORK_S + 1)

        assert 1 == other.rescues()
        await r.world.advance(seconds=10)
        assert [("crashed", "returned a value"), ("None", None)] == r.attempts
        assert Status.SUCCEEDED is other.succeeds()
        await r.world.until_idle()

        assert ["queued", "running", "retrying", "running", "succeeded"] == r.moves
        assert [("crashed", "returned a value"), ("succeeded", None)] == r.attempts
        assert "theirs" == r.world.history(r.run_id).result


async def test_a_success_that_is_first_is_not_rescued(mock_clock: trio.abc.Clock) -> None:
    """Whoever takes its owner for dead finds nothing that runs, though nobody was told of the success yet."""
    async with shared() as (r, other):
        await r.starts(Sleep(WORK_S, Return("ours")))
        r.world.faults.stall(seconds=10, when="after", on="settle")
        await r.world.advance(seconds=WORK_S + 1)

        assert 0 == other.rescues()
        await r.world.until_idle()

        assert ["queued", "running", "succeeded"] == r.moves
        assert [("succeeded", None)] == r.attempts


async def test_a_second_success_after_a_rescue_changes_nothing(mock_clock: trio.abc.Clock) -> None:
    """The other has ended the run already when the first one's success comes: the first to be written stands."""
    async with shared() as (r, other):
        await r.starts(Sleep(WORK_S, Return("ours")))
        await r.world.advance(seconds=1)
        assert 1 == other.rescues()
        assert Status.SUCCEEDED is other.succeeds()

        await r.world.until_idle()

        assert [("crashed", "returned a value"), ("succeeded", None)] == r.attempts
        assert "theirs" == r.world.history(r.run_id).result


# ---------------------------------------------------------------- cancel and death


@BOTH
@pytest.mark.parametrize(("when", "ends"), [("before", "succeeded"), ("after", "canceled")])
async def test_a_process_that_dies_over_a_cancel_is_followed_by_what_is_durable(
    mock_clock: trio.abc.Clock, store: Any, when: Any, ends: str
) -> None:
    """Whoever canceled does not know; a cancel that was written is final, also for what the dead process ran."""
    async with race(store) as r:
        script = await r.starts(Hang(), Return("after all"))
        r.world.faults.crash(when=when, on="cancel")
        with pytest.raises(Exception, match="its process was killed"):
            await r.jobs.runs.cancel(r.run_id)
        await r.world.until_idle()

        assert ends == r.moves[-1]
        assert {"succeeded": ["crashed", "succeeded"], "canceled": ["canceled"]}[ends] == [o for o, _ in r.attempts]
        assert {"succeeded": 2, "canceled": 1}[ends] == len(script.calls)
        script = await r.starts(Die())
        await r.world.until_idle()
        assert [("crashed", None), ("succeeded", None)] == r.attempts
