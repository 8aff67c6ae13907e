"""Any sequence of commands: the SQLite store and the store in dicts answer alike, and hold the same afterwards."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.register_assert_rewrite("tests.store.contract_suite")

from callsheet.store.contract import (  # noqa: E402
    Cancel,
    Claim,
    ClaimedRuns,
    Command,
    Insert,
    NoteLate,
    NoteRunning,
    Prune,
    Publish,
    Register,
    Renew,
    Rescue,
    SetQueue,
    SetSchedule,
    Settle,
    Settlement,
    Store,
    Unregister,
)
from callsheet.store.errors import MalformedCommand  # noqa: E402
from callsheet.store.memory import MemoryStore  # noqa: E402
from callsheet.store.records import (  # noqa: E402
    NO_LIMIT,
    Claimed,
    Clock,
    Did,
    Fired,
    Lane,
    Move,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    Published,
    RunFilter,
    Schedule,
    Status,
    Verdict,
)
from callsheet.store.sqlite import SqliteStore  # noqa: E402
from callsheet.store.sqlite.timely import stamp  # noqa: E402

from .contract_suite import ALL, BOOM, LEASE, SECOND, START, Desk, agree, run_id  # noqa: E402

OWNERS = ("boot-a", "boot-b", "boot-c")
VERDICTS = (
    Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED),
    Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result=b"[1]"),
    Verdict(Move.RETRY, OutcomeKind.FAILED, START + 3 * SECOND, Clock.STEADY, BOOM, cause="failed"),
    Verdict(Move.RETRY, OutcomeKind.FAILED, START + 4 * SECOND, Clock.STEADY, cause="failed otherwise"),
    Verdict(Move.RETRY, OutcomeKind.FAILED, START + 4 * SECOND, Clock.WALL, BOOM),
    Verdict(Move.RETRY, OutcomeKind.TIMED_OUT, START + 9 * SECOND, Clock.WALL),
    Verdict(Move.SNOOZE, OutcomeKind.SNOOZED, START + 60 * SECOND, Clock.STEADY),
    Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED),
    Verdict(Move.EXHAUST, OutcomeKind.FAILED, error=BOOM),
    Verdict(Move.DISCARD, OutcomeKind.DISCARDED, cause="no"),
    Verdict(Move.RESCUE, OutcomeKind.CRASHED),
    Verdict(Move.RESCUE, OutcomeKind.LEASE_LOST),
)


def named(n: int) -> str:
    """Every other id tells when its run was created."""
    return f"{stamp(START)}{n:016d}" if n % 2 else run_id(n)


MALFORMED = Insert((NewRun(named(99), ALL[0], b"", START, status=Status.RUNNING),))

numbers = st.integers(0, 14)
lanes = st.sampled_from(ALL)
some_lanes = st.lists(lanes, min_size=1, max_size=4).map(tuple)
owners = st.sampled_from(OWNERS)


@st.composite
def new_runs(draw: st.DrawFn) -> NewRun:
    clock = draw(st.sampled_from(Clock))
    key = draw(st.sampled_from((None, None, None, "k", "l")))
    return NewRun(
        id=named(draw(numbers)),
        lane=draw(lanes),
        payload=draw(st.sampled_from((b"{}", b"x" * 1500))),
        created_us=START + draw(st.integers(0, 3)),
        status=Status.QUEUED if clock is Clock.AT_ONCE else Status.SCHEDULED,
        due_us=START + draw(st.integers(-2, 5)) * SECOND,
        clock=clock,
        priority=draw(st.sampled_from((0, 5, 5, 5, 9))),
        idempotency_key=key,
        payload_hash=None if key is None else draw(st.sampled_from((b"1", b"2"))),
        trace_id=draw(st.sampled_from((None, "t"))),
        replay_of=draw(st.sampled_from((None, None, named(3)))),
        at_most_once=draw(st.sampled_from((False, False, True))),
        trace_context=draw(st.sampled_from((None, "00-c"))),
    )


inserts = st.builds(Insert, st.lists(new_runs(), max_size=5).map(tuple), st.booleans(), st.booleans())
claims = st.builds(
    Claim,
    owners,
    st.binary(min_size=4, max_size=4),
    some_lanes,
    st.integers(0, 5),
    st.just(LEASE),
    st.sampled_from((None, None, 0, 1)),
    st.sampled_from((None, ALL[0].queue, ALL[0].queue, ALL[2].queue)),
    st.sampled_from((None, NO_LIMIT, 1, 2, 3)),
)
set_queues = st.builds(
    SetQueue,
    st.sampled_from((ALL[0].queue, ALL[0].queue, ALL[2].queue, "app/none")),
    st.sampled_from((None, None, True, False, False)),
    st.sampled_from((None, 7)),
    st.sampled_from((None, 8)),
    st.sampled_from((None, None, NO_LIMIT, 1, 2)),
    st.sampled_from((None, SECOND)),
    st.booleans(),
)
rescues = st.builds(
    Rescue,
    owners,
    st.sampled_from(("others", "expired", "own")),
    st.integers(1, 4),
    st.frozensets(numbers.map(named), max_size=3),
    st.just(LEASE),
    st.sampled_from((None, None, (ALL[0], ALL[1]))),
)
prunes = st.builds(
    Prune,
    st.sampled_from(("app/main", "app/main", "app/other", "app/none")),
    st.sampled_from(Status),
    st.integers(1, 60).map(lambda seconds: START + seconds * SECOND),
    st.just(10_000),  # which runs are on a page is the store's own business
)
publishes = st.builds(
    lambda *said: Publish(tuple(said)),
    *[st.builds(Published, st.sampled_from(("app/main", "app/other")), st.sampled_from((b"{}", b"[]")))] * 2,
)


@st.composite
def set_schedules(draw: st.DrawFn, instead_of: str | None = None) -> SetSchedule:
    """
    A change of a schedule: often by who is right about it, with runs that are new or not, of times noted or not.

    instead_of: it is what is done if a run of this schedule has not ended.
    """
    key = instead_of or draw(st.sampled_from(("k", "k", "l")))
    times = draw(st.lists(numbers, max_size=3, unique=True))
    runs = draw(
        st.lists(new_runs(), max_size=2).map(lambda runs: [each for each in runs if each.lane.jobs == ALL[0].jobs])
    )
    named_runs = {each.id: evolve(each, schedule_key=key, idempotency_key=None, payload_hash=None) for each in runs}
    return SetSchedule(
        draw(st.sampled_from((None, None, 1, 1, 2, 3))),
        Schedule(ALL[0].jobs, key, b"{}", draw(st.sampled_from((None, 1, 2))), 2, fired=draw(st.integers(0, 2))),
        () if draw(st.booleans()) else tuple(named_runs.values()),
        tuple([Fired(n, START, draw(st.sampled_from(Did))) for n in times]),
        delete=instead_of is None and draw(st.integers(0, 9)) == 0,
        if_active=None if instead_of or draw(st.booleans()) else draw(set_schedules(key)),
    )


registers = st.builds(lambda boot_id: Register(Owner(boot_id, 1, "h", START, queues=("q",))), owners)
told_by_attempts = st.sampled_from((None, None, b"1", b"", b"\xff"))
ends = st.tuples(numbers, st.sampled_from(VERDICTS), st.sampled_from((0, 0, 0, 0, 0, 0, 1)), told_by_attempts)
"""Which of the claims so far, how, whether with a wrong fence, and what progress it tells."""


class Later:
    """A command that names claims: they are known only when the ones before were answered."""

    def __init__(self, kind: str, picks: list[tuple[int, Verdict, int, bytes | None]]) -> None:
        self.kind, self.picks = kind, picks

    def __repr__(self) -> str:
        return f"{self.kind}({self.picks})"

    def command(self, claimed: list[Claimed]) -> Command:
        named = [(claimed[-1 - n], *rest) for n, *rest in self.picks if n < len(claimed)]
        if self.kind == "renew":
            return Renew("boot-a", tuple((c.run_id, c.claim_id, c.fence + off) for c, _, off, _ in named), LEASE)
        if self.kind == "note" and named:
            one, *_ = named[0]
            return NoteLate(one.run_id, one.attempt, one.claim_id, "late")
        if self.kind == "tell" and named:
            one, verdict, off, told = named[0]
            return NoteRunning(one.run_id, one.attempt, one.claim_id, one.fence + off, told, verdict.due_us)
        ends = ((Settlement(c.run_id, c.attempt, c.claim_id, c.fence + off, v, told)) for c, v, off, told in named)
        return Settle(tuple(ends))


later = st.builds(
    Later, st.sampled_from(("settle", "settle", "settle", "renew", "note", "tell")), st.lists(ends, max_size=6)
)
commands: st.SearchStrategy[Any] = st.one_of(
    inserts,
    inserts,
    claims,
    claims,
    later,
    later,
    later,
    rescues,
    registers,
    set_queues,
    prunes,
    publishes,
    set_schedules(),
    set_schedules(),
    st.builds(Cancel, numbers.map(named)),
    st.builds(Unregister, owners),
)
batches = st.tuples(
    st.integers(0, 25),
    st.integers(-1, 1),
    st.lists(commands, max_size=4),
    st.sampled_from([False] * 9 + [True]),
)
FILTERS = (
    RunFilter(),
    RunFilter(task="mail"),
    RunFilter(task="hook", also_tasks=("report", "nothing")),
    RunFilter(jobs="app/main", idempotency_key="k"),
    RunFilter(idempotency_key="k"),
    RunFilter(idempotency_key="k", created_from_us=START + 1),
    RunFilter(trace_id="t", created_before_us=START + 2, status=Status.QUEUED),
    RunFilter(replay_of=named(3), trace_id="t"),
    RunFilter(trace_id="t", queue=ALL[0].queue),
    RunFilter(replay_of=named(3)),
    RunFilter(schedule_key="k"),
    RunFilter(schedule_key="k", trace_id="t"),
    RunFilter(created_from_us=START + 1, created_before_us=START + 3, task="mail"),
    *(RunFilter(status=status) for status in Status),
    *(RunFilter(status=status, jobs="app/main", task="mail") for status in Status),
)


def told(desk: Desk) -> object:
    """All that a store can be asked."""
    reader = desk.store.reader()
    try:
        return (
            [reader.get(named(n)) for n in range(16)],
            [reader.list(where, limit=limit) for where in FILTERS for limit in (3, 100)],
            [reader.list(where, limit=4, before=named(7)) for where in FILTERS],
            [
                reader.upcoming(clock, START + after * SECOND, START + 70 * SECOND, limit)
                for clock in Clock
                for after in (-9, 2)
                for limit in (1, 3, 99)
            ],
            reader.queues(),
            reader.published(),
            reader.schedules(),
            [reader.fires("app/main", key, limit) for key in ("k", "l") for limit in (2, 100)],
            reader.snapshot(limit=5),
            reader.snapshot(limit=1, where=RunFilter(jobs="app/main")),
        )
    finally:
        reader.close()


def play(desk: Desk, story: list[Any]) -> list[object]:
    """The answers to a story."""
    claimed: list[Claimed] = []
    answers: list[object] = []
    for seconds, skew, specs, malformed in story:
        desk.later(seconds)
        desk.now = Now(desk.now.steady_us, desk.now.steady_us + skew * 4 * SECOND)
        batch: list[Command] = [each.command(claimed) if isinstance(each, Later) else each for each in specs]
        try:
            some = desk.do(*batch, *([MALFORMED] if malformed else []))
        except MalformedCommand:  # by another of them than the last
            answers.append("malformed")
            continue
        except ValueError as error:
            assert (malformed, True) == (True, "a new run is queued or scheduled" in str(error))  # noqa: PT017 -- else none
            answers.append("malformed")
            continue
        assert not malformed
        answers.append(some)
        claimed += [run for each in some if isinstance(each, ClaimedRuns) for run in each.runs]
    return answers


def opened(store: Store) -> Desk:
    store.open(Owner("boot-a", 1, "h", START))
    return Desk(store)


stories = st.lists(batches, min_size=2, max_size=14)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(story=stories)
def test_sqlite_answers_as_the_model_does(story: list[Any]) -> None:
    """Every answer and everything that can be read is the same, and each store agrees with itself."""
    compare(story)


@pytest.mark.slow
@settings(max_examples=1_000, suppress_health_check=list(HealthCheck))
@given(story=stories)
def test_sqlite_answers_very_many_stories_as_the_model_does(story: list[Any]) -> None:
    """The same for very many."""
    compare(story)


def compare(story: list[Any]) -> None:
    """Play it to both stores."""
    with tempfile.TemporaryDirectory() as folder:
        model, real = opened(MemoryStore()), opened(SqliteStore(Path(folder) / "jobs.db"))
        try:
            expected, got = play(model, story), play(real, story)

            assert got == expected
            assert told(real) == told(model)
            agree(real)
        finally:
            real.store.close()


def test_a_lane_has_room_for_every_field() -> None:
    """The model would not notice lanes that differ only where it does not look."""
    assert len({*ALL, Lane("app/main", "app/main-jobs", "mail", "2")}) == len(ALL) + 1
