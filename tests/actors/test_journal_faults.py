"""
The journal on a store that fails on purpose: whatever fails and whoever dies, every asker is told what is true.

Each row of `FAULTS` is one story: in one moment several askers want something, one thing goes wrong, and then every answer
and every row of the store is compared with what the askers may rely on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, evolve, field, frozen

from callsheet.actors.batch import MAX_BATCH, Write
from callsheet.actors.cell import Cell
from callsheet.actors.errors import ActorDown
from callsheet.actors.exits import Killed, Shutdown
from callsheet.actors.journal import RETRY_S, Journal, JournalState, send, write
from callsheet.actors.reply import Forward, Reply
from callsheet.actors.writer import InlineWriter, ThreadWriter
from callsheet.store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Claim,
    ClaimedRuns,
    Command,
    Insert,
    Inserted,
    Prune,
    Pruned,
    Publish,
    Register,
    Settle,
    Settled,
    Settlement,
    Store,
)
from callsheet.store.errors import MalformedCommand, OutcomeUnknown, StoreBusy, StoreFull, StoreUnavailable
from callsheet.store.memory import MemoryStore
from callsheet.store.records import (
    Claimed,
    Count,
    History,
    Lane,
    Move,
    NewRun,
    OutcomeKind,
    Owner,
    Published,
    RunFilter,
    Status,
    Verdict,
)
from callsheet.store.sqlite import SqliteStore

from .faulty import Dead, Fault, FaultyStore, raising
from .world import World, open_world, settle, together

LANE: Final = Lane("app/main", "app/main-jobs", "mail", "1")
OWNER: Final = Owner("boot", 1, "here", 0)
SUCCEED: Final = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result=b'"done"')
UNKNOWN: Final = OutcomeUnknown("x", "disk I/O error")
BUSY: Final = StoreBusy("x", 5)


def new(run_id: str, **fields: Any) -> NewRun:
    return evolve(NewRun(run_id, LANE, b"null", 0), **fields)


def end_of(run: Claimed) -> Settlement:
    return Settlement(run.run_id, run.attempt, run.claim_id, run.fence, SUCCEED)


@define(eq=False)
class House:
    """A journal that is started again whenever it dies, and the runs that are on stage."""

    world: World
    store: FaultyStore
    state: JournalState
    journal: Cell[Write]
    on_stage: set[str] = field(factory=set)

    async def write(self, command: Command) -> Answer:
        return await write(self.journal.ref, command)

    async def claim(self, claim_id: bytes, limit: int = 10) -> ClaimedRuns:
        """As a queue does it: in the moment of the answer the runs are on stage."""
        reply: Reply[ClaimedRuns] = Reply()

        def got(answer: ClaimedRuns) -> None:
            self.on_stage |= {run.run_id for run in answer.runs}
            reply.answer(answer)

        command = Claim("boot", claim_id, (LANE,), limit, 1_000_000)
        send(self.journal.ref, command, Forward(got, reply.fail))
        return await reply.wait()

    def history(self, run_id: str) -> History | None:
        reader = self.store.reader()
        try:
            return reader.get(run_id)
        finally:
            reader.close()

    def moves(self, run_id: str) -> list[str]:
        """Every status it has had; empty when it is not stored."""
        history = self.history(run_id)
        return [] if history is None else [str(each.now) for each in history.transitions]

    def listed(self) -> list[str]:
        reader = self.store.reader()
        try:
            return sorted(run.id for run in reader.list(RunFilter(), limit=10_000))
        finally:
            reader.close()

    async def keep_up(self) -> None:
        """What a supervisor would do."""
        while True:
            await self.journal.wait_gone()
            await self.journal.start()


@pytest.fixture(params=["memory", "sqlite"])
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that works."""
    return SqliteStore(tmp_path / "jobs.db") if request.param == "sqlite" else MemoryStore()


@asynccontextmanager
async def open_house(inner: Store, *, keep_up: bool = True) -> AsyncIterator[House]:
    async with open_world() as world:
        store = FaultyStore(inner)
        store.open(OWNER)
        state = JournalState(store, InlineWriter(), OWNER)
        journal = await world.start("journal", lambda: Journal(state))
        house = House(world, store, state, journal)
        state.on_stage = lambda: frozenset(house.on_stage)
        await settle()
        async with trio.open_nursery() as nursery:
            if keep_up:
                nursery.start_soon(house.keep_up)
            with trio.fail_after(10_000):  # whoever waits for longer waits for ever
                yield house
            nursery.cancel_scope.cancel()
        store.close()


# ---------------------------------------------------------------- the table


@frozen
class Row:
    """One thing that goes wrong; what new work is told of it. `heals_s`: until then the store refuses all."""

    name: str
    plan: Callable[[House], list[Fault]]
    insert: type[Exception] | None = None
    claim: type[Exception] | None = None
    insert_stored: bool = True
    heals_s: float | None = None
    dies: int = 0
    """How many incarnations of the journal it costs."""


def _always(*faults: Fault) -> Callable[[House], list[Fault]]:
    return lambda _house: list(faults)


def _kill(house: House) -> Callable[[], object]:
    return house.journal.kill


BEFORE = _always(Fault(before=raising(UNKNOWN)))
AFTER = _always(Fault(after=raising(UNKNOWN)))
REFUSED: Final = {"insert_stored": False, "dies": 0}

FAULTS: Final = [
    Row("nothing", _always()),
    # the commit fails, and nobody knows with which outcome
    Row("unknown, absent", BEFORE),
    Row("unknown, present", AFTER),
    Row("unknown, absent, twice", lambda h: BEFORE(h) * 2, insert=OutcomeUnknown, insert_stored=False),
    Row("unknown, present, twice", lambda h: AFTER(h) * 2, insert=OutcomeUnknown),
    Row("unknown, absent, then present", lambda h: BEFORE(h) + AFTER(h), insert=OutcomeUnknown),
    Row("unknown, absent, then busy", lambda h: [*BEFORE(h), Fault(before=raising(BUSY))], OutcomeUnknown, None, False),
    Row("unknown, present, then busy", lambda h: [*AFTER(h), Fault(before=raising(BUSY))], OutcomeUnknown),
    Row(
        "unknown, present, then full",
        lambda h: [*AFTER(h), *[Fault(before=raising(StoreFull("x")))] * 20],
        OutcomeUnknown,
    ),
    # nothing was stored, for sure
    Row("busy once", _always(Fault(before=raising(BUSY))), StoreBusy, StoreBusy, False),
    Row("busy nine times", _always(*[Fault(before=raising(BUSY))] * 9), StoreBusy, StoreBusy, False),
    Row("disk error", _always(Fault(before=raising(StoreUnavailable("x", "I/O")))), *[StoreUnavailable] * 2, False),
    Row("no memory", _always(Fault(before=raising(MemoryError()))), MemoryError, MemoryError, False),
    Row("full until healed", _always(), StoreFull, StoreFull, False, heals_s=3_600),
    # the journal dies
    Row("killed before the commit", lambda h: [Fault(before=_kill(h))], dies=1),
    Row("killed between commit and answer", lambda h: [Fault(after=_kill(h))], dies=1),
    Row(
        "killed between two tries",
        lambda h: [Fault(before=lambda: (_kill(h)(), raising(BUSY)()))],
        StoreBusy,
        StoreBusy,
        False,
        dies=1,
    ),
    Row("killed in doubt, absent", lambda h: [Fault(before=lambda: (_kill(h)(), raising(UNKNOWN)()))], dies=1),
    Row("killed in doubt, present", lambda h: [Fault(after=lambda: (_kill(h)(), raising(UNKNOWN)()))], dies=1),
    Row("crashed before the commit", _always(Fault(before=raising(Dead()))), dies=1),
    Row("crashed between commit and answer", _always(Fault(after=raising(Dead()))), dies=1),
    Row("crashed, then in doubt", lambda h: [Fault(after=raising(Dead())), *BEFORE(h)], OutcomeUnknown, dies=1),
]


@pytest.mark.parametrize("row", FAULTS, ids=lambda row: row.name)
async def test_every_asker_is_told_the_truth(autojump_clock: trio.abc.Clock, inner: Store, row: Row) -> None:
    """I1, I2, I3, I6, P10: what ends or cancels is done once; new work is done, or told what is known of it."""
    async with open_house(inner) as house:
        await house.write(Insert((new("ended"), new("stopped"))))
        ended, stopped = (await house.claim(b"first")).runs
        await house.write(Insert((new("waiting"), new("due", priority=1))))
        house.store.plan = row.plan(house)
        house.store.refuses = StoreFull("x") if row.heals_s is not None else None

        async def heal() -> None:
            await trio.sleep(row.heals_s or 0)
            house.store.refuses = None

        settled, canceled, dropped, inserted, claimed, _ = await together(
            lambda: house.write(Settle((end_of(ended),))),
            lambda: house.write(Cancel("stopped")),
            lambda: house.write(Cancel("waiting")),
            lambda: house.write(Insert((new("new", created_us=7),))),
            lambda: house.claim(b"second", limit=1),
            heal,
        )
        await trio.sleep(60)

        assert Settled((Status.SUCCEEDED,)) == settled
        assert (
            CancelAnswer("stopped", Status.RUNNING, True, LANE, 1, stopped.claim_id, None, stopped.started_us)
            == canceled
        )
        assert CancelAnswer("waiting", Status.QUEUED, True, LANE) == dropped
        assert ["queued", "running", "succeeded"] == house.moves("ended")
        assert ["queued", "running", "canceled"] == house.moves("stopped")
        assert ["queued", "canceled"] == house.moves("waiting")

        assert (Inserted((None,)) if row.insert is None else row.insert) in (inserted, type(inserted))
        assert (["queued"] if row.insert_stored else []) == house.moves("new")
        if row.claim is None:
            assert [("due", 1, b"null")] == [(run.run_id, run.attempt, run.payload) for run in claimed.runs]
        else:
            assert row.claim is type(claimed)
        assert (["queued"] if row.claim else ["queued", "running"]) == house.moves("due")

        assert row.dies == len([exit_ for _, exit_ in house.world.exits])
        assert None is house.state.trouble
        assert 0 == len(house.state.hand)


POISON: Final = [ValueError("no"), MalformedCommand("no"), RecursionError(), AssertionError()]


@pytest.mark.parametrize("error", POISON, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("kind", [Insert, Cancel, Claim, Settle], ids=lambda kind: kind.__name__)
async def test_a_command_that_cannot_be_stored_fails_alone(
    autojump_clock: trio.abc.Clock, inner: Store, kind: type[Command], error: Exception
) -> None:
    """I19: whichever kind it is and wherever it stands, its asker gets the error; the others get their answers."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"), new("b", priority=9))))
        (run,) = (await house.claim(b"first", limit=1)).runs
        house.store.is_poison = lambda command: isinstance(command, kind)
        house.store.poison = error
        asked: dict[type, Callable[[], Any]] = {
            Insert: lambda: house.write(Insert((new("c"),))),
            Settle: lambda: house.write(Settle((end_of(run),))),
            Cancel: lambda: house.write(Cancel("b")),
            Claim: lambda: house.claim(b"second"),
        }

        results = dict(zip(asked, await together(*asked.values()), strict=True))

        assert error is results.pop(kind)
        assert [] == [each for each in results.values() if isinstance(each, Exception)]
        assert None is house.state.trouble


# ---------------------------------------------------------------- claims


async def test_a_claim_whose_asker_is_gone_is_not_made(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """A claim that waits in the mailbox when its asker goes costs no attempt."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        house.store.batches.clear()
        with trio.CancelScope() as scope:
            scope.cancel()
            await write(house.journal.ref, Claim("boot", b"c", (LANE,), 1, 1_000_000))
        await settle()

        assert ["queued"] == house.moves("a")
        assert [] == [c for batch in house.store.batches for c in batch if isinstance(c, Claim)]


async def test_a_claim_that_was_made_for_an_asker_who_went_is_handed_back_at_once(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """The asker goes while the commit runs: what it would have started waits again, unspent, and another may claim it."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        reply: Reply[Any] = Reply()

        async def ask() -> None:
            with trio.CancelScope() as scope:
                house.store.plan = [Fault(after=scope.cancel)]
                send(house.journal.ref, Claim("boot", b"c", (LANE,), 1, 1_000_000), reply)
                await reply.wait()

        await ask()
        await settle()

        assert ["queued", "running", "queued"] == house.moves("a")
        history = house.history("a")
        assert history is not None
        assert [OutcomeKind.INTERRUPTED] == [each.outcome for each in history.attempts]
        assert ["a"] == [run.run_id for run in (await house.claim(b"d")).runs]


async def test_a_claim_in_doubt_is_answered_with_what_it_got_and_nothing_else(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """A lost answer costs no attempt; runs of other claims are left alone; what was canceled meanwhile is left out."""
    async with open_house(inner) as house:
        await house.write(Insert(tuple(new(f"r{n}", payload=b'"%d"' % n, priority=n % 3) for n in range(9))))
        await house.claim(b"first", limit=3)
        house.store.plan = [Fault(after=raising(UNKNOWN))]

        claimed, canceled = await together(lambda: house.claim(b"second", limit=4), lambda: house.write(Cancel("r4")))

        assert CancelAnswer("r4", Status.QUEUED, True, LANE) == canceled
        assert ["r1", "r7", "r2", "r5"] == [run.run_id for run in claimed.runs]
        assert [b'"1"', b'"7"', b'"2"', b'"5"'] == [run.payload for run in claimed.runs]
        assert ["queued", "running"] == house.moves("r1") == house.moves("r0")


# ---------------------------------------------------------------- doubt


async def test_an_id_of_the_callers_own_that_was_there_is_not_taken_for_ours(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """I6: a repeated insert of an id that somebody stored earlier is told so, as without the failure."""
    async with open_house(inner) as house:
        await house.write(Insert((new("mine", created_us=1),)))
        house.store.plan = [Fault(after=raising(UNKNOWN))]

        answer = await house.write(Insert((new("mine", created_us=2), new("other", created_us=2))))

        assert isinstance(answer, Inserted)
        assert ["mine", None] == [None if each is None else each.id for each in answer.existing]


async def test_of_two_equal_cancels_in_doubt_one_did_it(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """P3: both learn that the run is canceled, and one of them that it was its doing."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        house.store.plan = [Fault(after=raising(UNKNOWN))]
        replies: list[Reply[Any]] = [Reply(), Reply()]
        for each in replies:
            send(house.journal.ref, Cancel("a"), each)

        answers = [await each.wait() for each in replies]

        assert [(Status.QUEUED, True), (Status.CANCELED, False)] == [(each.was, each.canceled) for each in answers]


async def test_a_settle_in_doubt_says_which_of_it_came_too_late(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """A message that ended one attempt, and found another one canceled, says so also when its answer was lost."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"), new("b"))))
        a, b = (await house.claim(b"c")).runs
        await house.write(Cancel("a"))
        house.store.plan = [Fault(after=raising(UNKNOWN))]

        answer = await house.write(Settle((end_of(a), end_of(b))))

        assert Settled((None, Status.SUCCEEDED)) == answer


async def test_an_attempt_that_was_ended_earlier_is_not_taken_for_ours(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """P3: a second settle of one attempt came too late, also when its answer was lost."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        (run,) = (await house.claim(b"c")).runs
        await house.write(Settle((end_of(run),)))
        await trio.sleep(1)
        house.store.plan = [Fault(after=raising(UNKNOWN))]

        answer = await house.write(Settle((end_of(run),)))

        assert Settled((None,)) == answer


async def test_what_is_found_is_answered_after_a_commit_that_writes(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """I7: when all that was in doubt is found, something is written nevertheless: only that shows that writes last."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        (run,) = (await house.claim(b"c")).runs
        house.store.plan = [Fault(after=raising(UNKNOWN))]
        house.store.batches.clear()

        await house.write(Settle((end_of(run),)))

        assert [[Settle], [Register]] == [[type(command) for command in batch] for batch in house.store.batches]


async def test_taking_back_our_own_spares_a_claim_of_the_same_commit(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """A claim and the recovery after a restart share a commit of unknown outcome: what was claimed stays claimed."""
    async with open_house(inner, keep_up=False) as house:
        await house.write(Insert((new("a"), new("lost", priority=1))))
        await house.claim(b"first", limit=1)
        house.on_stage.clear()
        house.journal.kill()
        await house.journal.wait_gone()
        house.store.plan = [Fault(after=raising(UNKNOWN))]
        claimed: list[ClaimedRuns] = []

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def claim() -> None:
                claimed.append(await house.claim(b"second", limit=1))

            await settle()
            await house.journal.start()
        await trio.sleep(60)

        (run,) = claimed[0].runs
        other = {"a": "lost", "lost": "a"}[run.run_id]
        assert "running" == house.moves(run.run_id)[-1]
        assert "queued" == house.moves(other)[-1]


async def test_new_work_that_was_not_tried_waits_until_the_doubt_is_over(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """An unknown outcome of one batch is not told to those who come after it: their work is done."""
    async with open_house(inner) as house:
        house.store.plan = [Fault(after=raising(UNKNOWN))]
        names = [f"r{n:04}" for n in range(MAX_BATCH + 100)]

        results = await together(*[partial(house.write, Insert((new(name),))) for name in names])

        assert [Inserted((None,))] * len(names) == results
        assert names == house.listed()


async def test_whoever_waits_when_it_is_over_is_told_what_is_known(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """I6: after a death over a commit, with no incarnation to follow, its askers hear of an unknown outcome."""
    async with open_house(inner, keep_up=False) as house:
        replies: list[Reply[Any]] = [Reply() for _ in range(2)]
        house.store.plan = [Fault(after=raising(Dead()))]
        send(house.journal.ref, Insert((new("a"),)), replies[0])
        await house.journal.wait_gone()
        house.state.hand.take([Write(Insert((new("b"),)), replies[1])])

        house.state.give_up(ValueError("it is over"))

        with pytest.raises(OutcomeUnknown, match="the journal died over it"):
            await replies[0].wait()
        with pytest.raises(ValueError, match="it is over"):
            await replies[1].wait()


# ---------------------------------------------------------------- a store that refuses


async def test_each_asker_raises_an_exception_of_its_own(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """One failed commit that many waited for is raised in each of them, and no traceback mixes two of them up."""
    async with open_house(inner) as house:
        house.store.refuses = error = StoreFull("x")
        error.__cause__ = OSError("no space left")

        results = await together(*[partial(house.write, Insert((new(f"r{n}"),))) for n in range(10)])

        assert 10 == len({id(each) for each in results} - {id(error)})
        assert [repr(error)] * 10 == [repr(each) for each in results]
        assert [error.__cause__] * 10 == [each.__cause__ for each in results]


async def test_a_full_disk_refuses_new_work_at_once_and_heals(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """I8: while an ending waits for room, each enqueue is refused within a try; with room all goes on by itself."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        (run,) = (await house.claim(b"c")).runs
        house.store.refuses = StoreFull("x")
        ended: Reply[Any] = Reply()
        send(house.journal.ref, Settle((end_of(run),)), ended)
        for n in range(20):
            began_s = trio.current_time()
            with pytest.raises(StoreFull):
                await house.write(Insert((new(f"r{n}"),)))
            assert trio.current_time() - began_s <= RETRY_S
            assert isinstance(house.state.trouble, StoreFull)
        house.store.refuses = None

        assert Settled((Status.SUCCEEDED,)) == await ended.wait()
        assert Inserted((None,)) == await house.write(Insert((new("b"),)))
        assert None is house.state.trouble
        assert ["a", "b"] == house.listed()


async def test_what_is_small_is_written_while_what_is_large_has_no_room(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """I8: large new work that cannot be stored, and is tried over and over, does not keep endings from being stored."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"), new("b", priority=9))))
        (run,) = (await house.claim(b"c", limit=1)).runs
        house.store.is_poison = lambda command: isinstance(command, Insert)
        house.store.poison = StoreFull("x")

        async def insist() -> None:
            while True:
                with pytest.raises(StoreFull):
                    await house.write(Insert((new("large"),)))
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            house.store.refuses = StoreFull("x")
            replies: list[Reply[Any]] = [Reply(), Reply()]
            send(house.journal.ref, Settle((end_of(run),)), replies[0])
            send(house.journal.ref, Cancel("b"), replies[1])
            nursery.start_soon(insist)
            await trio.sleep(1)
            house.store.refuses = None
            results = [await each.wait() for each in replies]
            nursery.cancel_scope.cancel()

        assert [Settled, CancelAnswer] == [type(each) for each in results]
        assert ["a", "b"] == house.listed()


async def test_endings_go_ahead_of_new_work_that_is_in_hand_already(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """The reserved lane: a cancel that comes while thousands of inserts are being written is in the next commit."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"),)))
        house.store.batches.clear()
        canceled: Reply[Any] = Reply()
        house.store.plan = [Fault(after=lambda: send(house.journal.ref, Cancel("a"), canceled))]
        for n in range(4 * MAX_BATCH):
            send(house.journal.ref, Insert((new(f"r{n:05}"),)), Reply())

        await canceled.wait()
        batches = [[type(command) for command in batch] for batch in house.store.batches]

        assert [0, 1] == [batch.count(Cancel) for batch in batches[:2]]
        await settle()
        assert 4 * MAX_BATCH + 1 == len(house.listed())


# ---------------------------------------------------------------- kills and stops


async def test_a_kill_does_not_wait_until_nothing_waits(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """A journal under load ends after the commit under way; what is left is written by the next one."""
    async with open_house(inner, keep_up=False) as house:
        replies: list[Reply[Any]] = [Reply() for _ in range(3 * MAX_BATCH)]
        house.store.batches.clear()
        house.store.plan = [Fault(before=house.journal.kill)]
        for n, reply in enumerate(replies):
            send(house.journal.ref, Insert((new(f"r{n:05}"),)), reply)
        await house.journal.wait_gone()

        assert isinstance(house.journal.exit, Killed)
        assert [MAX_BATCH, 1] == [len(house.listed()), len(house.store.batches)]
        await house.journal.start()
        assert [Inserted((None,))] * len(replies) == [await each.wait() for each in replies]


async def test_a_kill_in_the_dedicated_thread_loses_no_answer() -> None:
    """The same with a real thread: a commit under way when the journal is killed is answered before it ends."""
    async with open_world() as world:
        store = FaultyStore(MemoryStore())
        store.open(OWNER)
        state = JournalState(store, ThreadWriter("test-journal"), OWNER)
        journal = await world.start("journal", lambda: Journal(state))
        reply: Reply[Any] = Reply()
        while state.commits == 0:
            await trio.lowlevel.checkpoint()
        store.plan = [Fault(before=lambda: trio.from_thread.run_sync(journal.kill, trio_token=token))]
        token = trio.lowlevel.current_trio_token()
        send(journal.ref, Insert((new("a"),)), reply)

        assert Inserted((None,)) == await reply.wait()
        await journal.wait_gone()
        assert isinstance(journal.exit, Killed)
        state.writer.close()


async def test_a_journal_that_stops_for_a_restart_does_not_wait_for_a_full_disk(
    autojump_clock: trio.abc.Clock, inner: Store
) -> None:
    """Told to stop while the system goes on, it ends; the next incarnation writes what was kept once there is room."""
    async with open_house(inner, keep_up=False) as house:
        await house.write(Insert((new("a"),)))
        house.store.refuses = StoreFull("x")
        reply: Reply[Any] = Reply()
        send(house.journal.ref, Cancel("a"), reply)
        await trio.sleep(1)

        house.journal.request_stop()
        await house.journal.wait_gone()
        assert isinstance(house.journal.exit, Shutdown)
        await house.journal.start()
        await trio.sleep(1)
        house.store.refuses = None

        assert CancelAnswer("a", Status.QUEUED, True, LANE) == await reply.wait()


async def test_a_stopping_journal_takes_no_new_work(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """P9: a host that goes on enqueueing cannot keep it from stopping; endings that come meanwhile are written."""
    async with open_house(inner, keep_up=False) as house:
        await house.write(Insert((new("a"),)))
        late: list[Reply[Any]] = []
        canceled: Reply[Any] = Reply()

        def enqueue() -> None:
            late.append(Reply())
            send(house.journal.ref, Insert((new(f"late{len(late)}"),)), late[-1])
            if len(late) == 1:
                send(house.journal.ref, Cancel("a"), canceled)

        house.store.plan = [Fault(after=enqueue) for _ in range(50)]
        house.journal.request_stop()
        await house.journal.wait_gone()
        house.journal.end()

        assert CancelAnswer("a", Status.QUEUED, True, LANE) == await canceled.wait()
        assert ["a"] == house.listed()
        for each in late:
            with pytest.raises(ActorDown):
                await each.wait()


@pytest.mark.parametrize("after", [False, True])
async def test_a_prune_in_doubt_is_done_again(autojump_clock: trio.abc.Clock, inner: Store, after: bool) -> None:
    """What a commit that may have failed forgot, or did not, is forgotten once and counted once; a Publish with it."""
    async with open_house(inner) as house:
        await house.write(Insert((new("a"), new("b"))))
        for run in (await house.claim(b"c")).runs:
            await house.write(Settle((end_of(run),)))
        lost = raising(UNKNOWN)
        house.store.plan = [Fault(after=lost) if after else Fault(before=lost)]

        pruned, published = await together(
            lambda: house.write(Prune("app/main", Status.SUCCEEDED, 1 << 60, 9)),
            lambda: house.write(Publish((Published("app/main", b"{}"),))),
        )

        assert (Pruned(0 if after else 2, None), None) == (pruned, published)
        reader = house.store.reader()
        assert [Count(LANE, Status.SUCCEEDED, 2)] == list(reader.snapshot(limit=9).pruned)
        assert [b"{}"] == [each.body for each in reader.published()]
        reader.close()
        assert [] == house.listed()


async def test_a_prune_does_not_wait_for_a_store_that_refuses(autojump_clock: trio.abc.Clock, inner: Store) -> None:
    """It is told at once, and nothing was forgotten: the next pass will do it."""
    async with open_house(inner) as house:
        house.store.refuses = BUSY

        with pytest.raises(StoreBusy):
            await house.write(Prune("app/main", Status.SUCCEEDED, 1 << 60, 9))

        house.store.refuses = None
