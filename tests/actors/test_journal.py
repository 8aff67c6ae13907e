"""The journal over a store that fails: nobody is told what is not true, and what must be written is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, evolve, field

from callsheet.actors.batch import Write
from callsheet.actors.cell import Cell
from callsheet.actors.exits import Crashed
from callsheet.actors.journal import CLOSE_S, Journal, JournalState, Overloaded, write
from callsheet.actors.reply import Reply
from callsheet.actors.writer import InlineWriter
from callsheet.store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Claim,
    ClaimedRuns,
    Command,
    Insert,
    Inserted,
    Rescue,
    Rescued,
    Settle,
    Settled,
    Settlement,
)
from callsheet.store.errors import (
    IllegalMove,
    MalformedCommand,
    OutcomeUnknown,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
)
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Lane, Move, NewRun, Now, OutcomeKind, Owner, RunFilter, Status, Verdict

from .world import World, open_world, settle, together

LANE = Lane("app/main", "app/main-jobs", "mail", "1")
OWNER = Owner("boot", 1, "here", 0)
SUCCEED = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)


def new(run_id: str, **fields: Any) -> NewRun:
    return evolve(NewRun(run_id, LANE, b"null", 0), **fields)


class Moody(MemoryStore):
    """A store that is told with what to fail next, before its commit or after it."""

    def __init__(self, tables: Tables | None = None) -> None:
        super().__init__(tables)
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.batches: list[list[Command]] = []

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        self.batches.append(list(commands))
        answers = super().write(commands, now)
        if self.after:
            raise self.after.pop(0)
        return answers

    def _commit(self) -> None:
        if self.before:
            raise self.before.pop(0)


@define(eq=False)
class House:
    world: World
    store: Moody
    state: JournalState
    journal: Cell[Write]
    committed: list[tuple[Command, Answer]] = field(factory=list)

    async def write(self, command: Command) -> Answer:
        return await write(self.journal.ref, command)

    def listed(self) -> list[str]:
        return sorted(run.id for run in self.store.reader().list(RunFilter(), limit=100))

    def status(self, run_id: str) -> Status:
        history = self.store.reader().get(run_id)
        assert history is not None
        return history.run.status

    async def claim(self, claim_id: bytes = b"c", limit: int = 10) -> ClaimedRuns:
        answer = await self.write(Claim("boot", claim_id, (LANE,), limit, 1_000_000))
        assert isinstance(answer, ClaimedRuns)
        return answer


@asynccontextmanager
async def open_journal() -> AsyncIterator[House]:
    async with open_world() as world:
        store = Moody()
        store.open(OWNER)
        state = JournalState(store, InlineWriter(), OWNER)
        journal = await world.start("journal", lambda: Journal(state))
        house = House(world, store, state, journal)
        state.on_committed.append(lambda commands, answers: house.committed.extend(zip(commands, answers, strict=True)))
        await settle()
        with trio.fail_after(10_000):  # whoever waits for longer waits for ever
            yield house


async def test_the_answer_comes_after_the_commit(autojump_clock: trio.abc.Clock) -> None:
    """P1: whoever is answered can read what was written; listeners are told after that."""
    async with open_journal() as house:
        answer = await house.write(Insert((new("a"),)))

        assert Inserted((None,)) == answer
        assert ["a"] == house.listed()
        assert answer is house.committed[-1][1]


async def test_what_waits_together_is_committed_together(autojump_clock: trio.abc.Clock) -> None:
    """Group commit: messages that gather while a commit runs go into one batch."""
    async with open_journal() as house:
        house.store.batches.clear()

        await together(*[lambda n=n: house.write(Insert((new(f"r{n}"),))) for n in range(100)])

        assert 100 == len(house.listed())
        assert 2 >= len(house.store.batches)


async def test_a_large_payload_goes_alone(autojump_clock: trio.abc.Clock) -> None:
    """A batch holds at most 4 MiB of payloads; one that is larger than the rest does not hold them up."""
    async with open_journal() as house:
        house.store.batches.clear()
        large = b'"' + b"x" * 3_000_000 + b'"'

        await together(*[lambda n=n: house.write(Insert((new(f"r{n}", payload=large),))) for n in range(3)])

        sizes = [sum(len(run.payload) for c in batch for run in c.runs) for batch in house.store.batches]  # type: ignore[union-attr]
        assert 3 == len(house.listed())
        assert max(sizes) <= 4 * 1024 * 1024


@pytest.mark.parametrize("error", [MalformedCommand("no"), IllegalMove("bad", Status.QUEUED, Move.RETRY, ())])
async def test_a_bad_message_fails_alone(autojump_clock: trio.abc.Clock, error: Exception) -> None:
    """I19: in a batch of good messages only the one that cannot be stored is refused; each good one is stored once."""

    class Picky(Moody):
        def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
            if any(isinstance(c, Insert) and c.runs[0].id == "bad" for c in commands):
                raise error
            return super().write(commands, now)

    async with open_journal() as house:
        house.store = house.state.store = Picky(house.store.tables)
        house.store.tables.held_by = None
        house.store.open(OWNER)
        names = [*[f"r{n:02}" for n in range(10)], "bad", *[f"r{n:02}" for n in range(10, 20)]]

        results = await together(*[lambda name=name: house.write(Insert((new(name),))) for name in names])

        assert [error] == [each for each in results if isinstance(each, Exception)]
        assert error is results[10]
        assert sorted({*names} - {"bad"}) == house.listed()


@pytest.mark.parametrize("error", [StoreBusy("x", 5), StoreFull("x"), StoreUnavailable("x", "disk I/O error")])
async def test_a_store_that_refuses_turns_new_work_away_and_keeps_endings(
    autojump_clock: trio.abc.Clock, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """P10: while the store refuses, an enqueue is told at once; a settle and a cancel wait until it takes them."""
    async with open_journal() as house:
        await house.write(Insert((new("a"), new("b"))))
        (run,) = (await house.claim(limit=1)).runs
        house.store.before = [error] * 4
        settlement = Settlement(run.run_id, run.attempt, run.claim_id, run.fence, SUCCEED)

        results = await together(
            lambda: house.write(Insert((new("c"),))),
            lambda: house.write(Settle((settlement,))),
            lambda: house.write(Cancel("b")),
            house.claim,
        )

        assert [repr(error)] * 2 == [repr(results[0]), repr(results[3])]
        assert results[0] is not results[3]  # each asker raises an exception of its own
        assert Settled((Status.SUCCEEDED,)) == results[1]
        assert isinstance(results[2], CancelAnswer)
        assert (Status.SUCCEEDED, Status.CANCELED) == (house.status("a"), house.status("b"))
        assert ["a", "b"] == house.listed()
        assert 1 == caplog.text.count("the store refuses writes")
        assert Inserted((None,)) == await house.write(Insert((new("d"),)))


async def test_a_commit_whose_outcome_is_unknown_is_done_again_where_that_is_safe(
    autojump_clock: trio.abc.Clock,
) -> None:
    """I6: after such a commit an enqueue is answered truly, whether it was durable or not, and stored once."""
    for fail in ("before", "after"):
        async with open_journal() as house:
            await house.write(Insert((new("old", idempotency_key="k", payload_hash=b"h"),)))
            getattr(house.store, fail).append(OutcomeUnknown("x", "disk I/O error"))

            [fresh, known] = await together(
                lambda: house.write(Insert((new("a"),))),
                lambda: house.write(Insert((new("b", idempotency_key="k", payload_hash=b"h"),))),
            )

            assert Inserted((None,)) == fresh
            assert isinstance(known, Inserted)
            assert ["old"] == [None if each is None else each.id for each in known.existing]
            assert ["a", "old"] == house.listed()


async def test_a_second_unknown_outcome_is_told_to_the_caller(autojump_clock: trio.abc.Clock) -> None:
    """When the repeat fails the same way the caller is told that nobody knows; the ids make repeating safe."""
    async with open_journal() as house:
        house.store.after = [OutcomeUnknown("x", "disk I/O error")] * 2

        with pytest.raises(OutcomeUnknown):
            await house.write(Insert((new("a"),)))

        assert ["a"] == house.listed()


async def test_an_ending_with_unknown_outcome_counts_once(autojump_clock: trio.abc.Clock) -> None:
    """P3: a settle that was durable and is repeated changes nothing; one that was not is applied."""
    for fail in ("before", "after"):
        async with open_journal() as house:
            await house.write(Insert((new("a"),)))
            (run,) = (await house.claim()).runs
            getattr(house.store, fail).append(OutcomeUnknown("x", "disk I/O error"))

            await house.write(Settle((Settlement(run.run_id, run.attempt, run.claim_id, run.fence, SUCCEED),)))

            history = house.store.reader().get("a")
            assert history is not None
            assert ["queued", "running", "succeeded"] == [str(each.now) for each in history.transitions]


async def test_a_message_that_is_none_crashes_the_journal_once(autojump_clock: trio.abc.Clock) -> None:
    """What came with the poison is written by the next incarnation, and answered."""
    async with open_journal() as house:
        first: Reply[Any] = Reply()
        second: Reply[Any] = Reply()
        house.journal.ref.tell(Write(Insert((new("a"),)), first))
        house.journal.ref.tell("poison")  # type: ignore[arg-type]
        house.journal.ref.tell(Write(Insert((new("b"),)), second))
        await house.journal.wait_gone()
        assert isinstance(house.journal.exit, Crashed)

        await house.journal.start()

        assert [Inserted((None,))] * 2 == [await first.wait(), await second.wait()]
        assert ["a", "b"] == house.listed()


async def test_a_new_incarnation_settles_what_was_kept_before_it_takes_runs_back(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A run whose end waited in the journal when it crashed has that end; only what nobody runs is handed back."""
    async with open_journal() as house:
        await house.write(Insert((new("ended"), new("lost"))))
        ended, _ = (await house.claim()).runs
        reply: Reply[Any] = Reply()
        settlement = Settlement(ended.run_id, ended.attempt, ended.claim_id, ended.fence, SUCCEED)
        house.journal.ref.tell_control("poison")  # type: ignore[arg-type]
        house.journal.ref.tell_control(Write(Settle((settlement,)), reply))
        await house.journal.wait_gone()

        await house.journal.start()

        assert Settled((Status.SUCCEEDED,)) == await reply.wait()
        await settle()
        assert (Status.SUCCEEDED, Status.QUEUED) == (house.status("ended"), house.status("lost"))


async def test_a_listener_that_fails_harms_nobody(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is told of commits, or answered by one, cannot stop the journal."""

    def fail(commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        raise ValueError("a bad listener")

    async with open_journal() as house:
        house.state.on_committed.insert(0, fail)

        await house.write(Insert((new("a"),)))

        assert "a bad listener" in caplog.text
        assert [] == house.world.exits
        assert 1 == len([command for command, _ in house.committed if isinstance(command, Insert)])


async def test_too_much_waiting_work_is_turned_away(autojump_clock: trio.abc.Clock) -> None:
    """I38: beyond 10,000 waiting messages an enqueue is refused at once; endings and cancels never are."""
    async with open_journal() as house:
        for n in range(10_001):
            house.journal.ref.tell(Write(Insert((new(f"r{n}"),)), Reply()))

        with pytest.raises(Overloaded, match="10,000 messages wait for the journal: nothing was stored"):
            await house.write(Insert((new("one more"),)))

        assert isinstance(await house.write(Cancel("nobody")), CancelAnswer)
        await settle()
        assert 10_001 == len(house.store.tables.runs)


async def test_stopping_writes_what_waits(autojump_clock: trio.abc.Clock) -> None:
    """What was told before the stop is written and answered, then the runtime signs off."""
    async with open_journal() as house:
        replies: list[Reply[Any]] = [Reply() for _ in range(3)]
        for n, reply in enumerate(replies):
            house.journal.ref.tell(Write(Insert((new(f"r{n}"),)), reply))
        house.journal.request_stop()
        await house.journal.wait_gone()

        assert [Inserted((None,))] * 3 == [await each.wait() for each in replies]
        assert () == house.store.reader().snapshot(limit=1).owners


async def test_a_store_that_never_heals_does_not_hold_up_the_end_for_ever(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A stopping journal tries for some seconds beyond the grace; then whoever waits is told, and it ends."""
    async with open_journal() as house:
        house.store.before = [StoreFull("x")] * 1_000
        began_s = trio.current_time()
        house.world.stage.stop_by_s = began_s + 3
        reply: Reply[Any] = Reply()
        house.journal.ref.tell_control(Write(Cancel("a"), reply))

        house.journal.request_stop()
        await house.journal.wait_gone()

        with pytest.raises(StoreFull):
            await reply.wait()
        assert 3 + CLOSE_S <= trio.current_time() - began_s <= 3 + CLOSE_S + 1
        assert "could not be written before the end" in caplog.text


async def test_dead_owners_runs_are_taken_back_in_pages(autojump_clock: trio.abc.Clock) -> None:
    """P8: at the first start everything that another boot id left running is taken back, however many."""
    tables = Tables()
    async with open_world() as world:
        dead = MemoryStore(tables)
        dead.open(Owner("dead", 1, "here", 0))
        dead.write(
            [
                Insert(tuple(new(f"r{n:04}") for n in range(2_500))),
                Claim("dead", b"c", (LANE,), 2_500, 1_000_000),
            ],
            Now(0, 0),
        )
        dead.close()
        store = Moody(tables)
        store.open(OWNER)
        state = JournalState(store, InlineWriter(), OWNER)

        await world.start("journal", lambda: Journal(state))
        await settle()

        rescues = [c for batch in store.batches for c in batch if isinstance(c, Rescue)]
        assert 3 == len(rescues)
        assert {Status.RETRYING: 2_500} == {each.status: each.n for each in store.reader().counts()}
        assert Rescued(runs=(), more=False) == store.write([rescues[0]], Now(0, 0))[0]
