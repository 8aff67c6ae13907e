"""
One suite for every store: what `callsheet.store.contract` promises, seen only through it.

Subclass `StoreContract` and override `place`. After each test `agree` compares what is stored with itself.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, evolve, field, fields

from callsheet.store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Claim,
    ClaimedRuns,
    Command,
    Conflict,
    Insert,
    Inserted,
    NoteLate,
    Register,
    Renew,
    Renewed,
    Rescue,
    Rescued,
    RescuedRun,
    Settle,
    Settled,
    Settlement,
    Store,
    Unregister,
)
from callsheet.store.errors import IllegalMove, StoreClosed
from callsheet.store.lifecycle import MOVES
from callsheet.store.records import (
    HISTORY_FIRST,
    HISTORY_LAST,
    WAITING,
    Attempt,
    Claimed,
    Clock,
    Count,
    Due,
    Error,
    History,
    Lane,
    Move,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    Run,
    RunFilter,
    Status,
    Verdict,
)

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
LEASE = 15 * SECOND
MAIL = Lane("app/main", "app/main-jobs", "mail", "1")
HOOK = Lane("app/main", "app/main-jobs", "hook", "1")
SLOW = Lane("app/main", "app/slow", "report", "2")
OTHER = Lane("app/other", "app/other-jobs", "mail", "1")
ALL = (MAIL, HOOK, SLOW, OTHER)

SUCCEED = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)
HAND_BACK = Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED, cause="interrupted")
CRASH = Verdict(Move.RESCUE, OutcomeKind.CRASHED, cause="crashed")
BOOM = Error("ValueError", "boom", "Traceback …")

Place = Callable[[], Store]
"""Makes a store over the same data each time; the suite opens and closes it."""


def fail(due_us: int | None = None, clock: Clock = Clock.STEADY) -> Verdict:
    return Verdict(Move.RETRY, OutcomeKind.FAILED, due_us=due_us, clock=clock, error=BOOM, cause="failed")


def run_id(n: int) -> str:
    return f"{n:026d}"


@define
class Desk:
    """A store in use by somebody who knows what time it is."""

    store: Store
    now: Now = field(factory=lambda: Now(steady_us=START, wall_us=START))
    _claims: Iterator[int] = field(factory=itertools.count)

    def later(self, seconds: float) -> None:
        step = int(seconds * SECOND)
        self.now = Now(self.now.steady_us + step, self.now.wall_us + step)

    def do(self, *commands: Command) -> list[Answer]:
        return self.store.write(commands, self.now)

    def insert(self, *runs: NewRun, strict: bool = False) -> Inserted | Conflict:
        (answer,) = self.do(Insert(runs, strict))
        assert isinstance(answer, Inserted | Conflict)
        return answer

    def existing(self, *runs: NewRun) -> tuple[Run | None, ...]:
        """What an insert says was there already."""
        answer = self.insert(*runs)
        assert isinstance(answer, Inserted)
        return answer.existing

    def add(self, n: int, lane: Lane = MAIL, **fields: Any) -> str:
        answer = self.insert(self.new(n, lane, **fields))
        assert answer == Inserted((None,))
        return run_id(n)

    def new(self, n: int, lane: Lane = MAIL, **fields: Any) -> NewRun:
        if "clock" in fields:
            fields.setdefault("status", Status.SCHEDULED)
        fields.setdefault("created_us", self.now.steady_us)
        return NewRun(run_id(n), lane, fields.pop("payload", b'{"n":%d}' % n), **fields)

    def claim_command(self, limit: int, lanes: tuple[Lane, ...], owner: str, **fields: Any) -> Claim:
        return Claim(owner, b"claim-%d" % next(self._claims), lanes, limit, LEASE, **fields)

    def claim(
        self, limit: int = 10, *, lanes: tuple[Lane, ...] = ALL, owner: str = "boot-a", **fields: Any
    ) -> tuple[Claimed, ...]:
        (answer,) = self.do(self.claim_command(limit, lanes, owner, **fields))
        assert isinstance(answer, ClaimedRuns)
        return answer.runs

    def start(self, n: int, lane: Lane = MAIL, *, owner: str = "boot-a", **fields: Any) -> Claimed:
        """Add a run and claim it."""
        self.add(n, lane, **fields)
        (claimed,) = self.claim(owner=owner)
        assert claimed.run_id == run_id(n)
        return claimed

    def settle(self, claimed: Claimed, verdict: Verdict = SUCCEED, **changed: Any) -> Status | None:
        (answer,) = self.do(Settle((evolve(end_of(claimed, verdict), **changed),)))
        assert isinstance(answer, Settled)
        (status,) = answer.statuses
        return status

    def cancel(self, run: str, cause: str = "canceled") -> CancelAnswer:
        (answer,) = self.do(Cancel(run, cause))
        assert isinstance(answer, CancelAnswer)
        return answer

    def rescue(self, scope: Any, owner: str = "boot-b", limit: int = 100, **fields: Any) -> Rescued:
        (answer,) = self.do(Rescue(owner, scope, limit, lease_us=LEASE, **fields))
        assert isinstance(answer, Rescued)
        return answer

    def renew(self, *claims: tuple[str, bytes, int], owner: str = "boot-a") -> frozenset[str]:
        (answer,) = self.do(Renew(owner, claims, LEASE))
        assert isinstance(answer, Renewed)
        return answer.held

    def register(self, boot_id: str) -> Owner:
        owner = Owner(boot_id, 7, "host", self.now.steady_us, "1.0", ("mail",), ("app/main-jobs",))
        self.do(Register(owner))
        return evolve(owner, seen_us=self.now.steady_us)

    def history(self, run: str) -> History:
        reader = self.store.reader()
        try:
            history = reader.get(run)
        finally:
            reader.close()
        assert history is not None
        return history

    def everything(self) -> list[History]:
        reader = self.store.reader()
        try:
            found = [reader.get(run.id) for run in reader.list(RunFilter(), limit=100_000)]
        finally:
            reader.close()
        return [history for history in found if history is not None]

    def counts(self) -> tuple[Count, ...]:
        reader = self.store.reader()
        try:
            return reader.counts()
        finally:
            reader.close()

    def ids(self, where: RunFilter = RunFilter(), limit: int = 1000, before: str | None = None) -> list[int]:  # noqa: B008
        reader = self.store.reader()
        try:
            return [int(run.id) for run in reader.list(where, limit=limit, before=before)]
        finally:
            reader.close()


def end_of(claimed: Claimed, verdict: Verdict = SUCCEED) -> Settlement:
    return Settlement(claimed.run_id, claimed.attempt, claimed.claim_id, claimed.fence, verdict)


def agree(desk: Desk) -> None:
    """Whatever happened: counters equal a recount, and each run agrees with its transitions and attempts."""
    found = desk.everything()
    recount = Counter((history.run.lane, history.run.status) for history in found)
    counted = desk.counts()

    assert {(each.lane, each.status): each.n for each in counted} == dict(recount)
    assert len(counted) == len(recount)
    for history in found:
        agrees_with_itself(history)


def agrees_with_itself(history: History) -> None:
    run, attempts, transitions = history.run, history.attempts, history.transitions
    kept = [n for n in range(1, run.attempt + 1) if n <= HISTORY_FIRST or n > run.attempt - HISTORY_LAST]

    assert [each.n for each in attempts] == kept
    running = run.status is Status.RUNNING
    assert [each.ended_us is None for each in attempts] == [running and n == run.attempt for n in kept]
    assert [each.outcome is None for each in attempts] == [running and n == run.attempt for n in kept]
    assert len({each.id for each in attempts}) == len(attempts)
    assert [each.fence for each in attempts] == sorted({each.fence for each in attempts})
    assert run.spent <= run.attempt
    if run.attempt <= HISTORY_FIRST + HISTORY_LAST:
        spent = sum(each.outcome in (OutcomeKind.FAILED, OutcomeKind.TIMED_OUT) for each in attempts)
        assert run.spent == spent
        assert [each.seq for each in transitions] == list(range(1, len(transitions) + 1))
    assert transitions[0].was is None
    assert transitions[0].now in (Status.QUEUED, Status.SCHEDULED)
    assert (transitions[-1].now, transitions[-1].cause) == (run.status, run.cause)
    assert transitions[-1].attempt == run.attempt
    for one, two in itertools.pairwise(transitions):
        if two.seq == one.seq + 1:
            assert two.was is one.now
        assert two.was is not None
        assert MOVES[two.was][two.move] is two.now
    assert (run.ended_us is not None) == run.status.is_final
    held = (run.owner, run.claim_id, run.started_us, run.lease_until_us)
    assert [each is not None for each in held] == [running] * 4


class StoreContract:
    """The promises. A subclass names the place where a store's data is."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def desk(self, place: Place) -> Iterator[Desk]:
        store = place()
        store.open(Owner("boot-a", 7, "host", START))
        desk = Desk(store)
        yield desk
        agree(desk)
        store.close()

    # ------------------------------------------------------------ enqueue

    def test_a_run_reads_back_as_it_was_stored(self, desk: Desk) -> None:
        """Every field of a new run survives, and the rest begins empty."""
        new = NewRun(
            run_id(1),
            SLOW,
            '{"text":"\\u0000 é 🎭"}'.encode(),
            created_us=START,
            status=Status.SCHEDULED,
            due_us=START + 5,
            clock=Clock.WALL,
            priority=2,
            max_attempts=9,
            timeout_us=30 * SECOND,
            idempotency_key="key\x00'; drop table runs; --",
            payload_hash=b"\x00\x01" * 8,
            trace_id="trace",
            replay_of=run_id(0),
            reason="endpoint recovered",
            schedule_key="nightly",
            nominal_us=START - 1,
            at_most_once=True,
            trace_context="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )

        answer = desk.insert(new)

        assert answer == Inserted((None,))
        history = desk.history(run_id(1))
        run = history.run
        for each in fields(NewRun):
            assert getattr(run, each.name) == getattr(new, each.name), each.name
        assert (run.attempt, run.spent, run.deaths, run.fence) == (0, 0, 0, 0)
        assert (run.updated_us, run.ended_us, run.cause, run.result, run.progress) == (
            START,
            None,
            None,
            None,
            None,
        )
        assert history.attempts == ()
        (birth,) = history.transitions
        assert (birth.seq, birth.move, birth.at_us, birth.attempt) == (1, Move.SCHEDULE, START, 0)

    def test_an_unknown_run_is_none(self, desk: Desk) -> None:
        """Nothing is made up for an id that is not stored."""
        reader = desk.store.reader()

        assert reader.get(run_id(1)) is None
        reader.close()

    def test_a_large_payload_comes_back_whole(self, desk: Desk) -> None:
        """Sizes around every internal limit make no difference."""
        sizes = (0, 1, 1000, 1023, 1024, 1025, 4096, 70_000, 300_000)
        payloads = {run_id(n): bytes([n]) * size for n, size in enumerate(sizes)}
        desk.insert(*(desk.new(n, payload=payloads[run_id(n)]) for n in range(len(sizes))))

        claimed = desk.claim(100)

        assert {each.run_id: each.payload for each in claimed} == payloads
        assert {run: desk.history(run).run.payload for run in payloads} == payloads

    def test_p6_the_same_key_is_the_same_run(self, desk: Desk) -> None:
        """A key that is there already returns its run, whatever task it was for, and also after it ended."""
        first = desk.start(1, idempotency_key="k", payload_hash=b"one")

        (running,) = desk.existing(desk.new(2, HOOK, idempotency_key="k", payload_hash=b"two"))
        desk.settle(first)
        (ended,) = desk.existing(desk.new(3, idempotency_key="k", payload_hash=b"one"))

        assert running is not None
        assert ended is not None
        assert (running.id, running.status, running.payload_hash) == (run_id(1), Status.RUNNING, b"one")
        assert (ended.id, ended.status, ended.payload) == (run_id(1), Status.SUCCEEDED, None)
        assert desk.ids() == [1]

    def test_p6_the_scope_of_a_key_is_the_jobs_instance(self, desk: Desk) -> None:
        """Two Jobs may use the same key; two queues or tasks of one may not."""
        desk.add(1, MAIL, idempotency_key="k")

        other = desk.insert(desk.new(2, OTHER, idempotency_key="k"))
        same = desk.insert(desk.new(3, SLOW, idempotency_key="k"))

        assert other == Inserted((None,))
        assert isinstance(same, Inserted)
        assert [run and run.id for run in same.existing] == [run_id(1)]

    def test_the_same_id_twice_is_stored_once(self, desk: Desk) -> None:
        """Repeating an enqueue whose outcome was unknown is safe."""
        desk.add(1, payload=b"first")

        answer = desk.insert(desk.new(1, payload=b"second"))

        assert isinstance(answer, Inserted)
        assert [run and run.id for run in answer.existing] == [run_id(1)]
        assert desk.history(run_id(1)).run.payload == b"first"

    def test_a_key_or_id_repeated_in_one_insert_is_that_of_its_first(self, desk: Desk) -> None:
        """An enqueue_many dedupes within itself."""
        answer = desk.insert(
            desk.new(1, idempotency_key="k"), desk.new(2, idempotency_key="k"), desk.new(3), desk.new(3)
        )

        assert isinstance(answer, Inserted)
        assert [run and run.id for run in answer.existing] == [None, run_id(1), None, run_id(3)]
        assert desk.ids() == [3, 1]

    def test_a_mixed_insert_stores_what_is_new(self, desk: Desk) -> None:
        """The answers stand in the order of the runs."""
        desk.add(2, idempotency_key="k")

        answer = desk.insert(desk.new(1), desk.new(5, idempotency_key="k"), desk.new(3), desk.new(2), desk.new(4))

        assert isinstance(answer, Inserted)
        assert [run and run.id for run in answer.existing] == [None, run_id(2), None, run_id(2), None]
        assert desk.ids() == [4, 3, 2, 1]

    def test_a_strict_conflict_stores_nothing(self, desk: Desk) -> None:
        """One key with another payload refuses the whole command, and only that command."""
        desk.add(1, idempotency_key="k", payload_hash=b"one")

        before, conflict, after = desk.do(
            Insert((desk.new(2),)),
            Insert((desk.new(3), desk.new(4, idempotency_key="k", payload_hash=b"two"), desk.new(5)), strict=True),
            Insert((desk.new(6),)),
        )

        assert isinstance(conflict, Conflict)
        assert (conflict.idempotency_key, conflict.existing.id) == ("k", run_id(1))
        assert before == after == Inserted((None,))
        assert desk.ids() == [6, 2, 1]

    def test_the_id_of_a_run_of_other_jobs_stores_nothing(self, desk: Desk) -> None:
        """Ids are unique in a store, and nobody is answered with what belongs to others; other commands are not concerned."""
        desk.add(1, OTHER)

        before, conflict, after = desk.do(
            Insert((desk.new(2),)), Insert((desk.new(3), desk.new(1), desk.new(5))), Insert((desk.new(6),))
        )

        assert isinstance(conflict, Conflict)
        assert (None, run_id(1)) == (conflict.idempotency_key, conflict.existing.id)
        assert before == after == Inserted((None,))
        assert desk.ids() == [6, 2, 1]
        assert Inserted((None,)) == desk.insert(desk.new(3))

    def test_a_strict_insert_of_an_id_with_another_payload_conflicts(self, desk: Desk) -> None:
        """An id is as good as a key, where it is known with what it was given."""
        desk.add(1, payload_hash=b"one")
        desk.add(2)

        same, unknown, other = desk.do(
            Insert((desk.new(1, payload_hash=b"one"),), strict=True),
            Insert((desk.new(2, payload_hash=b"one"),), strict=True),
            Insert((desk.new(3), desk.new(1, payload_hash=b"two")), strict=True),
        )

        assert isinstance(same, Inserted)
        assert isinstance(unknown, Inserted)
        assert isinstance(other, Conflict)
        assert (None, run_id(1)) == (other.idempotency_key, other.existing.id)
        assert desk.ids() == [2, 1]

    def test_a_strict_insert_with_the_same_payload_dedupes(self, desk: Desk) -> None:
        """Strictness is about the payload, not about the key."""
        desk.add(1, idempotency_key="k", payload_hash=b"one")

        answer = desk.insert(desk.new(2, idempotency_key="k", payload_hash=b"one"), desk.new(3), strict=True)

        assert isinstance(answer, Inserted)
        assert [run and run.id for run in answer.existing] == [run_id(1), None]

    def test_a_strict_conflict_within_one_insert(self, desk: Desk) -> None:
        """The same key twice with two payloads conflicts with itself."""
        answer = desk.insert(
            desk.new(1, idempotency_key="k", payload_hash=b"one"),
            desk.new(2, idempotency_key="k", payload_hash=b"two"),
            strict=True,
        )

        assert isinstance(answer, Conflict)
        assert answer.existing.id == run_id(1)
        assert desk.ids() == []
        assert desk.add(2, idempotency_key="k") == run_id(2)

    def test_an_empty_insert_is_answered(self, desk: Desk) -> None:
        """Nothing to do is not an error."""
        assert desk.insert() == Inserted(())

    # ------------------------------------------------------------ claim

    def test_p4_a_claim_starts_an_attempt(self, desk: Desk) -> None:
        """The attempt is durable, and readable, before anybody runs it."""
        desk.add(
            1, max_attempts=3, timeout_us=4, trace_id="t", priority=1, nominal_us=9, due_us=8, trace_context="00-c"
        )
        desk.later(1)

        (claimed,) = desk.claim(owner="boot-x")

        history = desk.history(run_id(1))
        now_us = desk.now.steady_us
        assert claimed == Claimed(
            run_id=run_id(1), lane=MAIL, attempt=1, spent=0, deaths=0, max_attempts=3, timeout_us=4,
            priority=1, claim_id=claimed.claim_id, fence=1, started_us=now_us, created_us=START,
            payload=b'{"n":1}', trace_id="t", nominal_us=9,
            due_us=8, trace_context="00-c",
        )  # fmt: skip
        run = history.run
        assert (run.status, run.attempt, run.owner, run.claim_id) == (
            Status.RUNNING,
            1,
            "boot-x",
            claimed.claim_id,
        )
        assert (run.started_us, run.updated_us, run.lease_until_us) == (now_us, now_us, now_us + LEASE)
        assert history.attempts == (Attempt(run.id, 1, now_us, None, None, None, claimed.claim_id, 1, "boot-x"),)
        assert [(each.move, each.at_us) for each in history.transitions][-1] == (Move.START, now_us)

    def test_p7_no_attempt_begins_before_its_run_was_made(self, desk: Desk) -> None:
        """Whoever claims may have waited for the transaction of whoever made it, with a look at the clock from before that."""
        desk.later(1)
        desk.add(1)
        made_us = desk.now.steady_us
        desk.later(-1)

        (claimed,) = desk.claim()

        history = desk.history(run_id(1))
        assert [made_us] * 3 == [claimed.started_us, history.run.started_us, history.run.updated_us]
        assert [made_us] * 2 == [each.at_us for each in history.transitions]

    @pytest.mark.parametrize("begun", [True, False])
    def test_p5_no_cancel_is_before_what_it_ends(self, desk: Desk, begun: bool) -> None:
        """Whoever cancels may have waited for the transaction of whoever claimed it."""
        desk.later(1)
        if begun:
            desk.start(1)
        else:
            desk.add(1)
        last_us = desk.now.steady_us
        desk.later(-1)

        desk.cancel(run_id(1))

        history = desk.history(run_id(1))
        assert [last_us] * 2 == [history.run.ended_us, history.transitions[-1].at_us]
        assert [last_us] * begun == [each.ended_us for each in history.attempts]

    def test_claims_come_by_priority_then_due_then_id(self, desk: Desk) -> None:
        """One order over several lanes and all three clocks."""
        desk.add(9, MAIL, priority=5, due_us=START)
        desk.add(8, HOOK, priority=5, due_us=START - 1, clock=Clock.STEADY)
        desk.add(7, SLOW, priority=5, due_us=START - 2, clock=Clock.WALL)
        desk.add(6, MAIL, priority=0, due_us=START, clock=Clock.WALL)
        desk.add(5, OTHER, priority=9, due_us=START - 99)
        desk.add(4, HOOK, priority=5, due_us=START)
        desk.add(3, HOOK, priority=0, due_us=START)

        order = [int(each.run_id) for each in desk.claim(100)]

        assert order == [3, 6, 7, 8, 4, 9, 5]

    def test_a_limit_takes_the_first_of_that_order(self, desk: Desk) -> None:
        """Claims one after the other give the same order as one large claim."""
        rng = random.Random(1)
        runs = [
            desk.new(n, rng.choice(ALL), priority=rng.randrange(3), due_us=START - rng.randrange(5), clock=clock)
            for n, clock in ((n, rng.choice(list(Clock))) for n in range(60))
        ]
        desk.insert(*runs)
        expected = [new.id for new in sorted(runs, key=lambda new: (new.priority, new.due_us, new.id))]

        taken = [[each.run_id for each in desk.claim(limit)] for limit in (1, 2, 7, 20, 100)]

        assert list(itertools.chain(*taken)) == expected
        assert [len(each) for each in taken] == [1, 2, 7, 20, 30]

    def test_one_lane_in_order(self, desk: Desk) -> None:
        """The commonest claim, one lane and one priority, keeps the order by due and id."""
        desk.insert(*(desk.new(n, due_us=START - n % 3) for n in range(9)))

        order = [int(each.run_id) for limit in (4, 4, 4) for each in desk.claim(limit, lanes=(MAIL,))]

        assert order == [2, 5, 8, 1, 4, 7, 0, 3, 6]

    def test_p7_never_early_on_its_own_clock(self, desk: Desk) -> None:
        """Each row waits for its own clock, whatever the other one says; AT_ONCE waits for none."""
        hour = 3600 * SECOND
        desk.add(1, due_us=START + 10, clock=Clock.STEADY)
        desk.add(2, due_us=START + 10, clock=Clock.WALL)
        desk.add(3, due_us=START + hour)

        desk.now = Now(steady_us=START - hour, wall_us=START + 9)
        at_once = [int(each.run_id) for each in desk.claim()]
        desk.now = Now(steady_us=START - hour, wall_us=START + 10)
        by_wall = [int(each.run_id) for each in desk.claim()]
        desk.now = Now(steady_us=START + 9, wall_us=START + hour)
        nothing = desk.claim()
        desk.now = Now(steady_us=START + 10, wall_us=START - hour)
        by_steady = [int(each.run_id) for each in desk.claim()]

        assert (at_once, by_wall, nothing, by_steady) == ([3], [2], (), [1])

    def test_only_the_lanes_asked_for_are_taken(self, desk: Desk) -> None:
        """An unknown task, schema, queue or Jobs waits untouched."""
        for n, lane in enumerate(ALL):
            desk.add(n, lane)
        strange = (Lane("app/main", "app/main-jobs", "mail", "2"), Lane("x/y", "app/main-jobs", "mail", "1"))

        assert desk.claim(lanes=strange) == ()
        assert desk.claim(lanes=()) == ()
        assert [each.lane for each in desk.claim(lanes=(OTHER, OTHER, *strange))] == [OTHER]
        assert [each.status for each in desk.counts()].count(Status.QUEUED) == 3

    def test_a_claim_of_none_takes_none(self, desk: Desk) -> None:
        """A full queue may ask for nothing."""
        desk.add(1)

        assert desk.claim(0) == ()

    def test_p2_two_owners_never_get_one_run_twice(self, desk: Desk) -> None:
        """Whatever two claims of one batch ask for, no run is in both."""
        desk.insert(*(desk.new(n, ALL[n % 4]) for n in range(30)))

        one, two, three = desk.do(
            desk.claim_command(10, ALL, "boot-a"),
            desk.claim_command(15, (MAIL, HOOK), "boot-b"),
            desk.claim_command(30, ALL, "boot-a"),
        )

        taken = [each.run_id for answer in (one, two, three) for each in answer.runs]  # type: ignore[union-attr]
        assert len(taken) == len(set(taken)) == 30
        assert {desk.history(each.run_id).run.owner for each in two.runs} == {"boot-b"}  # type: ignore[union-attr]

    def test_a_batch_sees_its_own_work(self, desk: Desk) -> None:
        """A claim finds what the insert before it stored, and a settle what the claim took."""
        _, claim = desk.do(Insert((desk.new(1),)), Claim("boot-a", b"c", (MAIL,), 5, LEASE))
        assert isinstance(claim, ClaimedRuns)
        answers = desk.do(
            Settle((end_of(claim.runs[0], HAND_BACK),)),
            Claim("boot-a", b"d", (MAIL,), 5, LEASE),
            Settle((Settlement(run_id(1), 2, b"d", 2, SUCCEED),)),
            Insert((desk.new(1),)),
        )

        settled, claimed, again, existing = answers
        assert settled == Settled((Status.QUEUED,))
        assert [each.attempt for each in claimed.runs] == [2]  # type: ignore[union-attr]
        assert again == Settled((Status.SUCCEEDED,))
        assert isinstance(existing, Inserted)
        assert [run and run.status for run in existing.existing] == [Status.SUCCEEDED]

    def test_p4_fences_count_up_and_claims_differ(self, desk: Desk) -> None:
        """Each start of a run has a greater fence than the one before."""
        claimed = [desk.start(1)]
        for _ in range(4):
            desk.settle(claimed[-1], HAND_BACK)
            claimed.extend(desk.claim())

        assert [each.fence for each in claimed] == [1, 2, 3, 4, 5]
        assert [each.attempt for each in claimed] == [1, 2, 3, 4, 5]
        assert len({each.claim_id for each in claimed}) == 5

    def test_suspects_are_taken_as_many_as_asked_for(self, desk: Desk) -> None:
        """A run that saw three deaths waits where no suspect is wanted; its neighbours do not."""
        for n in (1, 2):
            desk.add(n, priority=1)
        for _ in range(3):
            for each in desk.claim():
                desk.settle(each, evolve(CRASH, due_us=desk.now.steady_us, clock=Clock.STEADY))
        desk.add(3)

        assert [int(each.run_id) for each in desk.claim(suspects=0)] == [3]
        assert [int(each.run_id) for each in desk.claim(suspects=1)] == [1]
        assert [(int(each.run_id), each.deaths) for each in desk.claim()] == [(2, 3)]

    def test_suspects_of_several_priorities_share_the_limit(self, desk: Desk) -> None:
        """One is one, also when the first one is of a better priority."""
        for n in (1, 2, 3):
            desk.add(n, priority=n)
        for _ in range(3):
            for each in desk.claim():
                desk.settle(each, CRASH)
        desk.add(4, priority=9)

        assert [int(each.run_id) for each in desk.claim(suspects=2)] == [1, 2, 4]

    def test_suspects_of_several_lanes_share_the_limit(self, desk: Desk) -> None:
        """One is one, whatever lane it is of; they stand in order among the others."""
        for n, lane in enumerate((MAIL, HOOK, SLOW), 1):
            desk.add(n, lane)
        for _ in range(3):
            for each in desk.claim():
                desk.settle(each, evolve(CRASH, due_us=START - int(each.run_id), clock=Clock.STEADY))
        desk.add(4, OTHER, due_us=START - 2)

        assert [int(each.run_id) for each in desk.claim(suspects=1)] == [3, 4]
        assert [int(each.run_id) for each in desk.claim(limit=1, suspects=5)] == [2]

    # ------------------------------------------------------------ settle

    @pytest.mark.parametrize(
        ("move", "outcome", "status", "spent"),
        [
            (Move.SUCCEED, OutcomeKind.SUCCEEDED, Status.SUCCEEDED, 0),
            (Move.RETRY, OutcomeKind.FAILED, Status.RETRYING, 1),
            (Move.RETRY, OutcomeKind.TIMED_OUT, Status.RETRYING, 1),
            (Move.EXHAUST, OutcomeKind.FAILED, Status.DEAD_LETTERED, 1),
            (Move.EXHAUST, OutcomeKind.TIMED_OUT, Status.DEAD_LETTERED, 1),
            (Move.DISCARD, OutcomeKind.DISCARDED, Status.DEAD_LETTERED, 0),
            (Move.DISCARD, OutcomeKind.FAILED, Status.DEAD_LETTERED, 1),
            (Move.POISON, OutcomeKind.CRASHED, Status.DEAD_LETTERED, 0),
            (Move.CANCEL, OutcomeKind.CANCELED, Status.CANCELED, 0),
            (Move.SNOOZE, OutcomeKind.SNOOZED, Status.SCHEDULED, 0),
            (Move.SNOOZE, OutcomeKind.UNREADABLE, Status.SCHEDULED, 0),
            (Move.HAND_BACK, OutcomeKind.INTERRUPTED, Status.QUEUED, 0),
            (Move.RESCUE, OutcomeKind.CRASHED, Status.RETRYING, 0),
            (Move.RESCUE, OutcomeKind.LEASE_LOST, Status.RETRYING, 0),
        ],
    )  # fmt: skip
    def test_every_verdict(self, desk: Desk, move: Move, outcome: OutcomeKind, status: Status, spent: int) -> None:
        """A settle writes status, spending, cause, error, the end of the attempt and the transition."""
        claimed = desk.start(1, due_us=START - 9)
        desk.later(2)
        verdict = Verdict(move, outcome, error=BOOM, cause="why")

        answer = desk.settle(claimed, verdict)

        history = desk.history(run_id(1))
        run, now_us = history.run, desk.now.steady_us
        assert answer is run.status is status
        assert (run.spent, run.cause, run.updated_us, run.fence) == (spent, "why", now_us, 1)
        assert run.ended_us == (now_us if status.is_final else None)
        (attempt,) = history.attempts
        assert (attempt.started_us, attempt.ended_us, attempt.outcome) == (START, now_us, outcome)
        assert (attempt.error, attempt.owner, attempt.claim_id) == (BOOM, "boot-a", claimed.claim_id)
        last = history.transitions[-1]
        assert (last.was, last.now, last.move, last.at_us, last.attempt) == (
            Status.RUNNING, status, move, now_us, 1,
        )  # fmt: skip
        if status in WAITING:
            keeps_its_place = move in (Move.HAND_BACK, Move.RESCUE)
            assert (run.due_us, run.clock) == (START - 9 if keeps_its_place else now_us, Clock.AT_ONCE)

    @pytest.mark.parametrize("clock", [Clock.STEADY, Clock.WALL])
    def test_p7_a_retry_waits_until_it_is_due(self, desk: Desk, clock: Clock) -> None:
        """The verdict's due time holds, on the verdict's clock, to the microsecond."""
        claimed = desk.start(1)
        desk.settle(claimed, fail(START + 5 * SECOND, clock))
        early = START + 5 * SECOND - 1

        desk.now = Now(early, early)
        assert desk.claim() == ()
        desk.now = Now(early + (clock is Clock.STEADY), early + (clock is Clock.WALL))
        (again,) = desk.claim()

        assert (again.attempt, again.spent) == (2, 1)
        assert desk.history(run_id(1)).run.due_us == START + 5 * SECOND

    def test_a_result_is_kept(self, desk: Desk) -> None:
        """What a handler returned is the run's result, or why there is none."""
        one, two = desk.start(1), desk.start(2)

        desk.settle(one, evolve(SUCCEED, result=b'{"ok":true}'))
        desk.settle(two, evolve(SUCCEED, result_error="PayloadTooLarge"))

        assert desk.history(run_id(1)).run.result == b'{"ok":true}'
        assert desk.history(run_id(2)).run.result_error == "PayloadTooLarge"

    @pytest.mark.parametrize("move", [Move.START, Move.ENQUEUE, Move.SCHEDULE])
    def test_a_move_that_running_does_not_have_is_malformed(self, desk: Desk, move: Move) -> None:
        """It raises, whether or not the settlement is stale, and leaves nothing of the batch."""
        claimed = desk.start(1)

        with pytest.raises(IllegalMove):
            desk.do(Insert((desk.new(2),)), Settle((end_of(claimed), end_of(claimed, evolve(SUCCEED, move=move)))))

        assert desk.history(run_id(1)).run.status is Status.RUNNING
        assert desk.ids() == [1]

    def test_many_settlements_at_once(self, desk: Desk) -> None:
        """Mixed verdicts and stale ones in one command are answered one by one, in order."""
        desk.insert(*(desk.new(n, ALL[n % 4]) for n in range(40)))
        claimed = desk.claim(40)
        verdicts = (SUCCEED, fail(START), HAND_BACK, evolve(SUCCEED, result=b"1"))
        for each in claimed[::5]:
            desk.cancel(each.run_id)

        (answer,) = desk.do(Settle(tuple(end_of(each, verdicts[i % 4]) for i, each in enumerate(claimed))))

        statuses = (Status.SUCCEEDED, Status.RETRYING, Status.QUEUED, Status.SUCCEEDED)
        expected = [None if i % 5 == 0 else statuses[i % 4] for i in range(40)]
        assert answer == Settled(tuple(expected))

    def test_settlements_of_a_kind_keep_their_own_particulars(self, desk: Desk) -> None:
        """Many failures at once: each its own error, cause, due time and clock. Many results at once: each its own."""
        desk.insert(*(desk.new(n) for n in range(1, 11)))
        claimed = [*desk.claim(5), *desk.claim(5)]
        verdicts = [
            fail(START + 1),
            evolve(fail(START + 2), error=Error("KeyError", "'é\x00\"'", "tb"), cause="a \x00 'cause'"),
            evolve(fail(START + 3, Clock.WALL), error=None, cause=None),
            fail(),
            SUCCEED,
            fail(START + 6),
            evolve(fail(START + 7), outcome=OutcomeKind.TIMED_OUT),
            evolve(SUCCEED, result=b"\xff\x00"),
            evolve(SUCCEED, result=b""),
            evolve(SUCCEED, result_error="too 'large'"),
        ]
        desk.later(1)

        (answer,) = desk.do(Settle(tuple(end_of(*each) for each in zip(claimed, verdicts, strict=True))))

        retrying, succeeded = Status.RETRYING, Status.SUCCEEDED
        assert answer == Settled((retrying,) * 4 + (succeeded,) + (retrying,) * 2 + (succeeded,) * 3)
        for each, verdict in zip(claimed, verdicts, strict=True):
            history = desk.history(each.run_id)
            run, (attempt,), last = history.run, history.attempts, history.transitions[-1]
            assert (attempt.outcome, attempt.error) == (verdict.outcome, verdict.error)
            assert run.cause == last.cause == verdict.cause
            assert (run.result, run.result_error) == (verdict.result, verdict.result_error)
            if run.status is retrying:
                due = (verdict.due_us, verdict.clock) if verdict.due_us else (desk.now.steady_us, Clock.AT_ONCE)
                assert (run.due_us, run.clock, run.spent) == (*due, 1)

    def test_p3_the_second_of_two_settlements_in_one_command_is_stale(self, desk: Desk) -> None:
        """Also when a wrong one stands before the right one."""
        claimed = desk.start(1)
        wrong = evolve(end_of(claimed), claim_id=b"wrong")
        older = evolve(end_of(claimed), attempt=0)

        (answer,) = desk.do(Settle((wrong, older, end_of(claimed), end_of(claimed), wrong)))

        assert answer == Settled((None, None, Status.SUCCEEDED, None, None))
        assert len(desk.history(run_id(1)).attempts) == 1

    @pytest.mark.parametrize(
        "change",
        [{"attempt": 2}, {"attempt": 0}, {"claim_id": b"x"}, {"fence": 2}, {"fence": 0}, {"run_id": "x"}],
    )
    def test_p2_each_part_of_the_guard_counts(self, desk: Desk, change: dict[str, Any]) -> None:
        """Another attempt, claim, fence or run than the running one changes nothing."""
        claimed = desk.start(1)
        before = desk.history(run_id(1))

        assert desk.settle(claimed, **change) is None
        assert desk.history(run_id(1)) == before

    def test_p3_a_settled_run_cannot_be_settled_again(self, desk: Desk) -> None:
        """The first ending stays."""
        claimed = desk.start(1)
        desk.settle(claimed)
        ended = desk.history(run_id(1))
        desk.later(1)

        assert desk.settle(claimed, fail()) is None
        assert desk.settle(claimed) is None
        assert desk.history(run_id(1)) == ended

    def test_p2_a_claim_that_was_rescued_settles_nothing(self, desk: Desk) -> None:
        """Neither while the run waits again nor when it runs for somebody else."""
        old = desk.start(1)
        desk.rescue("others")

        assert desk.settle(old) is None
        (new,) = desk.claim(owner="boot-b")
        assert desk.settle(old) is None
        assert desk.renew((old.run_id, old.claim_id, old.fence)) == frozenset()
        assert desk.settle(new) is Status.SUCCEEDED

    def test_attempts_without_gaps(self, desk: Desk) -> None:
        """Whatever ends an attempt, the next has the next number, and each has exactly one outcome."""
        desk.add(1)
        for verdict in (fail(), HAND_BACK, CRASH, fail(), evolve(HAND_BACK, move=Move.SNOOZE), SUCCEED):
            (claimed,) = desk.claim()
            assert desk.settle(claimed, verdict) is not None

        attempts = desk.history(run_id(1)).attempts
        assert [each.n for each in attempts] == [1, 2, 3, 4, 5, 6]
        assert [each.outcome and each.outcome.value for each in attempts] == [
            "failed", "interrupted", "crashed", "failed", "interrupted", "succeeded",
        ]  # fmt: skip
        assert desk.history(run_id(1)).run.spent == 2

    def test_deaths_in_a_row(self, desk: Desk) -> None:
        """A crash adds one; a lost lease or an interruption keeps the sum; any other end clears it."""
        desk.add(1)
        deaths = []
        for move, outcome in (
            (Move.RESCUE, OutcomeKind.CRASHED),
            (Move.RESCUE, OutcomeKind.CRASHED),
            (Move.RESCUE, OutcomeKind.LEASE_LOST),
            (Move.HAND_BACK, OutcomeKind.INTERRUPTED),
            (Move.RETRY, OutcomeKind.FAILED),
            (Move.RESCUE, OutcomeKind.CRASHED),
            (Move.SNOOZE, OutcomeKind.SNOOZED),
            (Move.RESCUE, OutcomeKind.CRASHED),
            (Move.CANCEL, OutcomeKind.CANCELED),
        ):
            (claimed,) = desk.claim()
            desk.settle(claimed, Verdict(move, outcome))
            deaths.append(desk.history(run_id(1)).run.deaths)

        assert deaths == [1, 2, 2, 2, 0, 1, 0, 1, 0]

    def test_history_keeps_the_first_ten_and_the_last_ninety(self, desk: Desk) -> None:
        """A run that never ends does not grow; numbers go on counting."""
        desk.add(1)
        desk.add(2)
        for _ in range(125):
            claimed = desk.claim()
            desk.do(Settle(tuple(end_of(each, fail(START - int(each.run_id))) for each in claimed)))
        desk.cancel(run_id(2))

        waiting = desk.history(run_id(1))
        desk.claim()
        running = desk.history(run_id(1))

        assert [each.n for each in waiting.attempts] == [*range(1, 11), *range(36, 126)]
        assert [each.n for each in running.attempts] == [*range(1, 11), *range(37, 127)]
        assert waiting.run.spent == 125
        assert {each.attempt for each in waiting.transitions} == {0, *range(1, 11), *range(36, 126)}
        assert waiting.transitions[-1].seq == 251

    # ------------------------------------------------------------ cancel

    def test_p5_a_waiting_run_is_canceled(self, desk: Desk) -> None:
        """In every waiting status: the run ends, nothing can start it."""
        desk.add(1, trace_id="t1")
        desk.add(2, due_us=START, clock=Clock.WALL, trace_id="t2")
        desk.add(3, SLOW)
        (claimed,) = desk.claim(lanes=(SLOW,))
        desk.settle(claimed, fail())
        desk.later(1)

        answers = [desk.cancel(run_id(n), "not wanted") for n in (1, 2, 3)]

        assert answers == [
            CancelAnswer(run_id(1), Status.QUEUED, True, MAIL, 0, trace_id="t1"),
            CancelAnswer(run_id(2), Status.SCHEDULED, True, MAIL, 0, trace_id="t2"),
            CancelAnswer(run_id(3), Status.RETRYING, True, SLOW, 1),
        ]
        for n in (1, 2, 3):
            run = desk.history(run_id(n)).run
            assert (run.status, run.cause, run.ended_us) == (
                Status.CANCELED,
                "not wanted",
                desk.now.steady_us,
            )
        assert desk.claim() == ()

    def test_p5_a_running_run_is_canceled_with_its_attempt(self, desk: Desk) -> None:
        """The attempt ends with it; whoever runs it can be told; its own settle comes too late."""
        claimed = desk.start(1, SLOW, trace_id="t")
        desk.later(1)

        answer = desk.cancel(run_id(1))

        assert answer == CancelAnswer(run_id(1), Status.RUNNING, True, SLOW, 1, claimed.claim_id, "t", START)
        assert desk.settle(claimed) is None
        history = desk.history(run_id(1))
        assert history.run.status is Status.CANCELED
        assert [(each.outcome, each.ended_us) for each in history.attempts] == [
            (OutcomeKind.CANCELED, desk.now.steady_us)
        ]

    def test_p3_an_ended_run_is_not_canceled(self, desk: Desk) -> None:
        """It is told what it is, and stays that."""
        desk.settle(desk.start(1))
        desk.settle(desk.start(2), Verdict(Move.DISCARD, OutcomeKind.DISCARDED))
        desk.cancel(desk.add(3))
        before = desk.everything()

        answers = [desk.cancel(run_id(n)) for n in (1, 2, 3, 4)]

        was = (Status.SUCCEEDED, Status.DEAD_LETTERED, Status.CANCELED, None)
        assert answers == [CancelAnswer(run_id(n + 1), was[n], canceled=False) for n in range(4)]
        assert desk.everything() == before

    # ------------------------------------------------------------ late outcomes

    def test_a_late_outcome_is_noted(self, desk: Desk) -> None:
        """What a handler did after its run was canceled is kept with its attempt, once."""
        claimed = desk.start(1)
        desk.cancel(run_id(1))

        desk.do(NoteLate(run_id(1), 1, claimed.claim_id, "returned None"))
        desk.do(NoteLate(run_id(1), 1, claimed.claim_id, "and again"))

        assert [each.late_outcome for each in desk.history(run_id(1)).attempts] == ["returned None"]

    def test_a_late_outcome_of_another_claim_is_refused(self, desk: Desk) -> None:
        """Neither another claim, nor a running attempt, nor an unknown run takes it."""
        old = desk.start(1)
        desk.rescue("others")
        (new,) = desk.claim(owner="boot-b")

        answers = desk.do(
            NoteLate(run_id(1), 1, new.claim_id, "wrong claim"),
            NoteLate(run_id(1), 2, new.claim_id, "still running"),
            NoteLate(run_id(2), 1, old.claim_id, "no such run"),
        )
        desk.do(NoteLate(run_id(1), 1, old.claim_id, "raised KeyError"))

        assert answers == [None, None, None]
        attempts = desk.history(run_id(1)).attempts
        assert [each.late_outcome for each in attempts] == ["raised KeyError", None]

    # ------------------------------------------------------------ leases

    def test_a_renewed_lease_does_not_expire(self, desk: Desk) -> None:
        """Renewing holds a claim for one more lease from now."""
        claimed = desk.start(1)
        desk.later(10)
        held = desk.renew((claimed.run_id, claimed.claim_id, claimed.fence))
        desk.later(14)

        assert held == {run_id(1)}
        assert desk.rescue("expired").runs == ()
        assert desk.history(run_id(1)).run.lease_until_us == START + 25 * SECOND

    def test_only_held_claims_are_renewed(self, desk: Desk) -> None:
        """Whoever lost a claim is told so."""
        desk.insert(*(desk.new(n) for n in range(1, 6)))
        one, two, three, four, five = desk.claim()
        desk.cancel(two.run_id)
        desk.settle(three, HAND_BACK)

        held = desk.renew(
            (one.run_id, one.claim_id, one.fence),
            (two.run_id, two.claim_id, two.fence),
            (three.run_id, three.claim_id, three.fence),
            (four.run_id, b"other", four.fence),
            (five.run_id, five.claim_id, five.fence + 1),
            ("nobody", b"x", 1),
        )

        assert held == {run_id(1)}

    def test_an_expired_lease_is_rescued_once(self, desk: Desk) -> None:
        """At the very end of the lease, not before."""
        desk.start(1)
        desk.now = evolve(desk.now, steady_us=START + LEASE - 1)
        early = desk.rescue("expired")
        desk.now = evolve(desk.now, steady_us=START + LEASE)
        late = desk.rescue("expired")
        again = desk.rescue("expired")

        assert early.runs == again.runs == ()
        assert [each.run_id for each in late.runs] == [run_id(1)]

    def test_an_expired_lease_can_be_renewed_while_nobody_took_it(self, desk: Desk) -> None:
        """A late renewal is as good as a timely one, until the rescue."""
        claimed = desk.start(1)
        desk.later(60)

        assert desk.renew((claimed.run_id, claimed.claim_id, claimed.fence)) == {run_id(1)}
        assert desk.rescue("expired").runs == ()

    @pytest.mark.parametrize(
        ("seen_before_s", "outcome"),
        [(0, OutcomeKind.LEASE_LOST), (29.999999, OutcomeKind.LEASE_LOST), (30, OutcomeKind.CRASHED)],
    )
    def test_crashed_or_lease_lost(self, desk: Desk, seen_before_s: float, outcome: OutcomeKind) -> None:
        """An owner that was seen within two leases lost the lease; one that was not seen has died."""
        desk.register("boot-a")
        desk.start(1)
        desk.later(40)
        desk.renew()
        desk.later(seen_before_s)

        rescued = desk.rescue("expired")

        assert [each.outcome for each in rescued.runs] == [outcome]
        run = desk.history(run_id(1)).run
        assert run.deaths == (outcome is OutcomeKind.CRASHED)
        assert (run.status, run.spent, run.cause) == (Status.RETRYING, 0, outcome.value)

    def test_an_owner_that_never_registered_has_died(self, desk: Desk) -> None:
        """Nobody ever saw it."""
        desk.start(1)
        desk.later(15)

        assert [each.outcome for each in desk.rescue("expired").runs] == [OutcomeKind.CRASHED]

    # ------------------------------------------------------------ rescue

    def test_p8_others_are_rescued_at_once(self, desk: Desk) -> None:
        """All rows of other boots come back as crashed and due, in their place; my own stay."""
        desk.start(1, owner="boot-a", due_us=START - 2, trace_id="t")
        desk.later(1)
        desk.start(2, SLOW, owner="boot-c", due_us=START, clock=Clock.WALL)
        desk.start(3, owner="boot-b")
        desk.later(1)

        rescued = desk.rescue("others", owner="boot-b")

        back = OutcomeKind.CRASHED, Status.RETRYING
        assert rescued.runs == (
            RescuedRun(run_id(1), MAIL, 1, *back, START - 2, Clock.AT_ONCE, "t", START, "crashed"),
            RescuedRun(run_id(2), SLOW, 1, *back, START, Clock.AT_ONCE, None, START + SECOND, "crashed"),
        )
        assert not rescued.more
        assert [each.run_id for each in desk.claim(owner="boot-b")] == [run_id(1), run_id(2)]
        assert desk.history(run_id(3)).run.owner == "boot-b"

    def test_my_own_are_handed_back(self, desk: Desk) -> None:
        """Those without a live actor return to the queue, unspent; those in `keep` and other lanes go on."""
        for n, lane in enumerate((MAIL, MAIL, SLOW, HOOK), 1):
            desk.start(n, lane, owner="boot-b")
        desk.start(5, owner="boot-a")

        rescued = desk.rescue("own", keep=frozenset({run_id(1)}), lanes=(MAIL, SLOW))

        assert [(each.run_id, each.outcome, each.status, each.clock) for each in rescued.runs] == [
            (run_id(2), OutcomeKind.INTERRUPTED, Status.QUEUED, Clock.AT_ONCE),
            (run_id(3), OutcomeKind.INTERRUPTED, Status.QUEUED, Clock.AT_ONCE),
        ]
        run = desk.history(run_id(2)).run
        assert (run.spent, run.deaths, run.cause) == (0, 0, "interrupted")

    @pytest.mark.parametrize("scope", ["others", "own", "expired"])
    def test_a_rescue_in_pages(self, desk: Desk, scope: str) -> None:
        """`more` is true exactly when something is left; every run comes back once."""
        owner = "boot-b" if scope == "own" else "boot-a"
        desk.insert(*(desk.new(n) for n in range(10)))
        desk.claim(10, owner=owner)
        desk.later(60)

        pages = [desk.rescue(scope, limit=limit) for limit in (4, 5, 1, 3)]

        assert [len(page.runs) for page in pages] == [4, 5, 1, 0]
        assert [page.more for page in pages] == [True, True, False, False]
        assert [int(each.run_id) for page in pages for each in page.runs] == list(range(10))

    def test_a_rescue_keeps_its_order_over_several_owners(self, desk: Desk) -> None:
        """By owner, then id, in pages of any size."""
        for n, owner in enumerate(("boot-d", "boot-a", "boot-c", "boot-a", "boot-d")):
            desk.start(n, owner=owner)

        pages = [desk.rescue("others", limit=2) for _ in range(3)]

        assert [int(each.run_id) for page in pages for each in page.runs] == [1, 3, 2, 0, 4]

    def test_p4_the_fifth_death_is_the_last(self, desk: Desk) -> None:
        """A run under which the process dies five times in a row is dead-lettered, and says why."""
        desk.add(1, max_attempts=1)
        seen = []
        for _ in range(5):
            assert len(desk.claim()) == 1
            (rescued,) = desk.rescue("others").runs
            seen.append((rescued.outcome.value, rescued.status.value))

        assert seen == [("crashed", "retrying")] * 4 + [("crashed", "dead_lettered")]
        history = desk.history(run_id(1))
        assert (history.run.deaths, history.run.spent) == (5, 0)
        assert history.transitions[-1].move is Move.POISON
        assert history.run.cause == "poisoned: 5 crashes in a row"
        assert desk.claim() == ()

    def test_an_attempt_that_ends_between_deaths_clears_them(self, desk: Desk) -> None:
        """Four deaths, a failure, four deaths: still alive."""
        desk.add(1)
        for _ in range(2):
            for _ in range(4):
                desk.claim()
                desk.rescue("others")
            (claimed,) = desk.claim()
            desk.settle(claimed, fail())

        assert desk.history(run_id(1)).run.status is Status.RETRYING

    def test_at_most_once(self, desk: Desk) -> None:
        """What is stored like that is ended by a crash or a lost lease instead of started again; a stop hands it back."""
        desk.start(1, at_most_once=True)
        desk.start(2)
        desk.start(3, owner="boot-b", at_most_once=True)
        crashed, own = desk.rescue("others"), desk.rescue("own")
        desk.do(Register(Owner("boot-a", 1, "host", START)))
        desk.add(4, HOOK, at_most_once=True)
        desk.claim(lanes=(HOOK,))
        desk.later(16)
        lost = desk.rescue("expired")

        assert [(each.run_id, each.outcome, each.status) for each in (*crashed.runs, *own.runs, *lost.runs)] == [
            (run_id(1), OutcomeKind.CRASHED, Status.DEAD_LETTERED),
            (run_id(2), OutcomeKind.CRASHED, Status.RETRYING),
            (run_id(3), OutcomeKind.INTERRUPTED, Status.QUEUED),
            (run_id(4), OutcomeKind.LEASE_LOST, Status.DEAD_LETTERED),
        ]
        assert desk.history(run_id(1)).transitions[-1].move is Move.DISCARD
        assert desk.history(run_id(1)).run.cause == "on_crash"

    def test_a_rescue_never_touches_what_has_ended_or_waits(self, desk: Desk) -> None:
        """Only running rows come back."""
        desk.add(1)
        (claimed,) = desk.claim()
        desk.settle(claimed)
        desk.add(3)
        desk.later(60)

        assert desk.rescue("others").runs == desk.rescue("expired").runs == desk.rescue("own").runs == ()

    # ------------------------------------------------------------ replays

    def test_what_was_replayed_is_not_replayed_again_with_once(self, desk: Desk) -> None:
        """The latest replay that was there before the command is its answer; the others of the command are stored."""
        for n in (1, 2, 3):
            desk.add(n)
        desk.add(4, replay_of=run_id(1))
        desk.add(5, replay_of=run_id(1))
        new = [desk.new(10 + n, replay_of=run_id(n)) for n in (1, 2, 3)]
        new += [desk.new(14), desk.new(15, replay_of=run_id(2))]

        (answer,) = desk.do(Insert(tuple(new), once=True))
        (again,) = desk.do(Insert(tuple(desk.new(20 + n, replay_of=run_id(n)) for n in (1, 2, 3)), once=True))
        (plain,) = desk.do(Insert((desk.new(30, replay_of=run_id(1)),)))

        assert isinstance(answer, Inserted)
        assert isinstance(again, Inserted)
        assert [5, None, None, None, None] == [each and int(each.id) for each in answer.existing]
        assert [5, 15, 13] == [each and int(each.id) for each in again.existing]
        assert all(each is None or each.payload is None for each in (*answer.existing, *again.existing))
        assert plain == Inserted((None,))

    # ------------------------------------------------------------ owners

    def test_runtimes_are_shown_while_they_are_open(self, desk: Desk) -> None:
        """Registering again tells when it was seen last; a closed one stays while it has running rows."""
        one = desk.register("boot-a")
        desk.later(1)
        two = desk.register("boot-b")
        claimed = desk.start(1, owner="boot-a")
        desk.later(1)
        desk.do(Register(two))

        desk.do(Unregister("boot-a"), Unregister("unknown"))
        shown = self.owners(desk)
        desk.settle(claimed)
        ended = self.owners(desk)
        desk.do(Unregister("boot-b"))

        seen = evolve(two, seen_us=two.seen_us + SECOND)
        assert shown == (one, seen)
        assert ended == (seen,)
        assert self.owners(desk) == ()

    def test_dead_runtimes_are_forgotten_when_their_runs_are_rescued(self, desk: Desk) -> None:
        """Not while a page is missing."""
        desk.register("boot-a")
        mine = desk.register("boot-b")
        for n in (1, 2):
            desk.start(n, owner="boot-a")

        shown = []
        for _ in range(2):
            desk.rescue("others", limit=1)
            shown.append(len(self.owners(desk)))

        assert shown == [2, 1]
        assert self.owners(desk) == (mine,)

    def test_a_runtime_not_seen_for_a_day_is_forgotten(self, desk: Desk) -> None:
        """Rows of runtimes that died do not pile up; one that runs something is kept."""
        desk.register("boot-old")
        busy = desk.register("boot-busy")
        desk.start(1, owner="boot-busy")
        desk.later(86_400)

        new = desk.register("boot-new")

        assert self.owners(desk) == (busy, new)

    @staticmethod
    def owners(desk: Desk) -> tuple[Owner, ...]:
        reader = desk.store.reader()
        try:
            return reader.snapshot(limit=0).owners
        finally:
            reader.close()

    # ------------------------------------------------------------ batches

    @pytest.mark.parametrize("bad", ["command", "status", "move"])
    def test_a_malformed_command_leaves_nothing_of_its_batch(self, desk: Desk, bad: str) -> None:
        """Not a run, not a counter, not a lane; and the next batch finds everything as it was."""
        claimed = desk.start(1)
        before = (desk.everything(), desk.counts())
        malformed: dict[str, Any] = {
            "command": object(),
            "status": Insert((desk.new(4), desk.new(5, status=Status.RUNNING))),
            "move": Settle((end_of(claimed, Verdict(Move.START, OutcomeKind.SUCCEEDED)),)),
        }

        with pytest.raises(Exception):  # noqa: B017 - whatever it raises
            desk.do(
                Insert((desk.new(2), desk.new(3, SLOW, idempotency_key="k"))),
                desk.claim_command(1, ALL, "boot-a"),
                Settle((end_of(claimed),)),
                Cancel(run_id(2)),
                malformed[bad],
            )

        assert (desk.everything(), desk.counts()) == before
        assert desk.add(3, SLOW, idempotency_key="k")
        assert [each.run_id for each in desk.claim()] == [run_id(3)]
        assert desk.settle(claimed) is Status.SUCCEEDED

    def test_an_empty_batch(self, desk: Desk) -> None:
        """Nothing asked, nothing answered."""
        assert desk.do() == []

    @pytest.mark.parametrize("seed", range(8))
    def test_counters_equal_a_recount_after_anything(self, desk: Desk, seed: int) -> None:
        """Random commands, batched at random; `agree` recounts afterwards."""
        rng = random.Random(seed)
        claimed: list[Claimed] = []
        numbers = itertools.count(1)

        def command() -> Command:
            kind = rng.randrange(8)
            if kind < 3:
                keys = [None, None, "a", "b", "c"]
                return Insert(
                    tuple(
                        desk.new(next(numbers), rng.choice(ALL), idempotency_key=rng.choice(keys))
                        for _ in range(rng.randrange(4))
                    )
                )
            if kind < 5:
                return desk.claim_command(rng.randrange(4), tuple(rng.sample(ALL, 2)), rng.choice("ab"))
            if kind == 5:
                return Cancel(run_id(rng.randrange(1, 30)))
            if kind == 6:
                return Rescue(rng.choice("ab"), rng.choice(["others", "own", "expired"]), 2, lease_us=LEASE)
            verdicts = (SUCCEED, fail(), HAND_BACK, evolve(CRASH, move=Move.POISON))
            chosen = [rng.choice(claimed) for _ in range(3)] if claimed else []
            return Settle(tuple(end_of(each, rng.choice(verdicts)) for each in chosen))

        for _ in range(60):
            desk.later(rng.choice([0, 0.5, 20]))
            for answer in desk.do(*(command() for _ in range(rng.randrange(4)))):
                if isinstance(answer, ClaimedRuns):
                    claimed.extend(answer.runs)

        agree(desk)

    # ------------------------------------------------------------ reading

    @pytest.fixture
    def shelf(self, desk: Desk) -> Desk:
        """Twelve runs of all kinds, 1 … 12, one a second."""
        for n, lane in enumerate((MAIL, HOOK, SLOW, OTHER) * 3, 1):
            desk.later(1)
            desk.add(
                n, lane, idempotency_key=f"key-{n % 6}" if n <= 6 else None,
                trace_id="odd" if n % 2 else "even", replay_of=run_id(1) if n > 9 else None,
                due_us=desk.now.steady_us,
            )  # fmt: skip
        started = desk.claim(5)
        desk.settle(started[0])
        desk.settle(started[1], fail(desk.now.steady_us + SECOND))
        desk.settle(started[2], Verdict(Move.EXHAUST, OutcomeKind.FAILED))
        desk.cancel(run_id(12))
        return desk

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (RunFilter(), [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
            (RunFilter(jobs="app/other"), [12, 8, 4]),
            (RunFilter(task="mail"), [12, 9, 8, 5, 4, 1]),
            (RunFilter(task="mail", jobs="app/main"), [9, 5, 1]),
            (RunFilter(queue="app/slow"), [11, 7, 3]),
            (RunFilter(status=Status.QUEUED), [11, 10, 9, 8, 7, 6]),
            (RunFilter(status=Status.RUNNING), [5, 4]),
            (RunFilter(status=Status.SUCCEEDED), [1]),
            (RunFilter(status=Status.RETRYING), [2]),
            (RunFilter(status=Status.DEAD_LETTERED), [3]),
            (RunFilter(status=Status.CANCELED), [12]),
            (RunFilter(status=Status.SCHEDULED), []),
            (RunFilter(status=Status.QUEUED, task="hook"), [10, 6]),
            (RunFilter(status=Status.DEAD_LETTERED, task="mail"), []),
            (RunFilter(idempotency_key="key-4"), [4]),
            (RunFilter(idempotency_key="key-4", jobs="app/main"), []),
            (RunFilter(idempotency_key="'"), []),
            (RunFilter(trace_id="odd"), [11, 9, 7, 5, 3, 1]),
            (RunFilter(trace_id="odd", status=Status.QUEUED), [11, 9, 7]),
            (RunFilter(replay_of=run_id(1)), [12, 11, 10]),
            (RunFilter(created_from_us=START + 10 * SECOND), [12, 11, 10]),
            (RunFilter(created_before_us=START + 3 * SECOND), [2, 1]),
            (RunFilter(created_from_us=START + 3 * SECOND, created_before_us=START + 5 * SECOND), [4, 3]),
            (RunFilter(jobs="app/none"), []),
            (RunFilter(task="hook", queue="app/slow"), []),
        ],
    )  # fmt: skip
    def test_a_list_by_every_filter(self, shelf: Desk, where: RunFilter, expected: list[int]) -> None:
        """Newest first, in one page or in many."""
        assert shelf.ids(where) == expected
        for size in (1, 2, 5):
            paged: list[int] = []
            before = None
            while page := shelf.ids(where, limit=size, before=before):
                assert len(page) <= size
                paged += page
                before = run_id(page[-1])
            assert paged == expected

    def test_a_list_has_no_payloads(self, shelf: Desk) -> None:
        """They may be large; `get` has them."""
        reader = shelf.store.reader()

        listed = reader.list(RunFilter(), limit=100)

        assert [each.payload for each in listed] == [None] * 12
        for each in listed:
            history = reader.get(each.id)
            assert history is not None
            assert evolve(history.run, payload=None) == each
        reader.close()

    def test_counts_by_lane_and_status(self, shelf: Desk) -> None:
        """Sorted by lane and status; nothing that is zero."""
        counts = [(each.lane, each.status.value, each.n) for each in shelf.counts()]

        assert counts == [
            (HOOK, "queued", 2), (HOOK, "retrying", 1),
            (MAIL, "queued", 1), (MAIL, "running", 1), (MAIL, "succeeded", 1),
            (SLOW, "dead_lettered", 1), (SLOW, "queued", 2),
            (OTHER, "canceled", 1), (OTHER, "queued", 1), (OTHER, "running", 1),
        ]  # fmt: skip

    def test_a_snapshot_is_one_consistent_read(self, shelf: Desk) -> None:
        """Counters, newest runs and runtimes."""
        owner = shelf.register("boot-a")
        reader = shelf.store.reader()

        snapshot = reader.snapshot(limit=3)

        assert snapshot.counts == reader.counts()
        assert [int(each.id) for each in snapshot.runs] == [12, 11, 10]
        assert {each.payload for each in snapshot.runs} == {None}
        assert snapshot.owners == (owner,)
        reader.close()

    def test_upcoming_in_pages(self, desk: Desk) -> None:
        """Each (queue, due) once, in order, on one clock; paging by the last due misses none and ends."""
        dues = [5, 5, 5, 5, 6, 6, 7, 9, 9, 20]
        for n, due in enumerate(dues):
            desk.add(n, ALL[n % 4], due_us=START + due, clock=Clock.STEADY)
        desk.add(50, due_us=START + 8, clock=Clock.WALL)
        desk.add(51, due_us=START + 8)
        desk.cancel(desk.add(52, due_us=START + 8, clock=Clock.STEADY))
        reader = desk.store.reader()
        expected = sorted({(START + due, ALL[n % 4].queue) for n, due in enumerate(dues) if due < 20})

        for limit in (1, 2, 3, 100):
            found: list[tuple[int, str]] = []
            after = START
            while page := reader.upcoming(Clock.STEADY, after, START + 19, limit):
                assert all(each.clock is Clock.STEADY for each in page)
                found += [(each.due_us, each.queue) for each in page]
                after = page[-1].due_us
            assert found == expected

        assert reader.upcoming(Clock.WALL, START, START + 8, 9) == (Due(MAIL.queue, Clock.WALL, START + 8),)
        assert reader.upcoming(Clock.WALL, START + 8, START + 99, 9) == ()
        assert reader.upcoming(Clock.WALL, START, START + 7, 9) == ()
        assert reader.upcoming(Clock.AT_ONCE, 0, START + 99, 9) == ()
        reader.close()

    def test_a_page_of_upcoming_is_as_long_as_asked_for(self, desk: Desk) -> None:
        """Where every run has a time of its own, the limit is the length."""
        desk.insert(*(desk.new(n, ALL[n % 4], due_us=START + n, clock=Clock.WALL) for n in range(1, 60)))
        reader = desk.store.reader()

        assert len(reader.upcoming(Clock.WALL, START, START + 99, 7)) == 7
        assert reader.upcoming(Clock.WALL, START, START + 99, 0) == ()
        reader.close()

    def test_upcoming_shows_retries_and_snoozes_but_nothing_that_runs(self, desk: Desk) -> None:
        """Whatever waits on the clock, for whatever reason."""
        desk.settle(desk.start(1, MAIL), fail(START + 1))
        desk.settle(desk.start(2, SLOW), Verdict(Move.SNOOZE, OutcomeKind.SNOOZED, START + 2, Clock.STEADY))
        desk.add(3, OTHER, due_us=START - 1, clock=Clock.STEADY)
        desk.claim(lanes=(OTHER,))
        reader = desk.store.reader()

        found = reader.upcoming(Clock.STEADY, 0, START + 99, 9)

        assert found == (Due(MAIL.queue, Clock.STEADY, START + 1), Due(SLOW.queue, Clock.STEADY, START + 2))
        reader.close()

    # ------------------------------------------------------------ open and close

    def test_p1_what_was_written_is_there_after_reopening(self, desk: Desk, place: Place) -> None:
        """Closing and opening again changes nothing; the next owner goes on."""
        claimed = desk.start(1, idempotency_key="k")
        desk.add(2, SLOW, due_us=START + SECOND, clock=Clock.WALL)
        desk.add(3, HOOK, priority=1)
        for _ in range(3):
            desk.settle(*desk.claim(), CRASH)
        before = (desk.everything(), desk.counts())
        desk.store.close()

        desk.store = place()
        desk.store.open(Owner("boot-z", 8, "host", START))

        assert (desk.everything(), desk.counts()) == before
        assert desk.settle(claimed) is Status.SUCCEEDED
        desk.later(1)
        assert [each.run_id for each in desk.claim()] == [run_id(3), run_id(2)]
        assert [run and run.id for run in desk.existing(desk.new(4, idempotency_key="k"))] == [run_id(1)]
        assert desk.ids() == [3, 2, 1]

    def test_a_closed_store_says_so(self, place: Place) -> None:
        """Before open and after close; closing twice does nothing."""
        store = place()
        now = Now(START, START)

        with pytest.raises(StoreClosed):
            store.write([], now)
        store.open(Owner("boot-a", 1, "h", START))
        reader = store.reader()
        store.write([], now)
        reader.close()
        reader.close()
        store.close()
        store.close()
        with pytest.raises(StoreClosed):
            store.write([], now)
        with pytest.raises(StoreClosed):
            reader.counts()

    def test_own_writes_are_not_a_change_by_others(self, desk: Desk) -> None:
        """`changed` is about somebody else."""
        desk.store.changed()
        desk.add(1)

        assert not desk.store.changed()
        desk.store.idle()
        assert not desk.store.changed()
