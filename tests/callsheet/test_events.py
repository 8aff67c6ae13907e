"""Every step of a run is one event, told once, in order, whatever its end."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import trio
from attrs import evolve, field, frozen

from callsheet import Context, Discard, Event, EventKind, Jobs, Retry, Snooze, Status, StoreError, open_runtime
from callsheet.actors.batch import settlement
from callsheet.actors.run import Unreadable
from callsheet.actors.seams import Seams
from callsheet.observe.told import ENDS, Teller
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
    Noted,
    NoteLate,
    NoteRunning,
    Rescue,
    Rescued,
    RescuedRun,
    Settle,
    Settled,
)
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Claimed, Clock, Lane, Move, NewRun, OutcomeKind, Verdict
from callsheet.testing import Die, Hang, Play, Raise, Return, Sleep, simulate
from callsheet.testing.world import World

from .house import Place, open_house

START: Final = ["enqueued 0 queued", "started 1 running"]
FAILED_ONCE: Final = [*START, "failed 1 retrying", "retrying 1 retrying"]
SECOND: Final = ["started 2 running", "succeeded 2 succeeded"]


def declared(**options: Any) -> Jobs:
    """One task, which does what a script says; by itself it holds out against its cancellation."""
    jobs = Jobs("j", retry=Retry(attempts=2, backoff="fixed", initial_delay=5))

    @jobs.task("work", **options)
    async def work(_payload: Any, _ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    return jobs


def listening(jobs: Jobs) -> list[Event]:
    events: list[Event] = []
    jobs.on_event(events.append)
    return events


def told(events: list[Event], run_id: str | None = None) -> list[str]:
    return [f"{e.kind} {e.attempt} {e.status}" for e in events if run_id in (None, e.run_id)]


async def enqueue(_world: World, jobs: Jobs) -> None:
    await jobs.enqueue("work")


async def enqueue_later(_world: World, jobs: Jobs) -> None:
    await jobs.enqueue("work", delay=10)


async def enqueue_twice(world: World, jobs: Jobs) -> None:
    await jobs.enqueue_many([jobs.entry("work", idempotency_key="k")] * 2)
    await world.until_idle()
    await jobs.enqueue("work", idempotency_key="k")


async def cancel_one_that_waits(_world: World, jobs: Jobs) -> None:
    run_id = (await jobs.enqueue("work", delay=10)).run_id
    await jobs.runs.cancel(run_id)
    await jobs.runs.cancel(run_id)  # nothing is left to cancel


async def cancel_one_that_runs(world: World, jobs: Jobs) -> None:
    run_id = (await jobs.enqueue("work")).run_id
    await world.settle()
    await jobs.runs.cancel(run_id)


async def restart_in_order(world: World, jobs: Jobs) -> None:
    await jobs.enqueue("work")
    await world.settle()
    await world.restart()


async def replay(world: World, jobs: Jobs) -> None:
    run_id = (await jobs.enqueue("work")).run_id
    await world.until_idle()
    await jobs.runs.replay(run_id, reason="again")


@frozen
class Life:
    """What a run goes through, and what is told of it."""

    steps: list[Any]
    expected: list[str]
    act: Callable[[World, Jobs], Awaitable[None]] = enqueue
    options: dict[str, Any] = field(factory=dict)


CRASHES: Final = [
    line for n in range(1, 5) for line in (f"started {n} running", f"crashed {n} retrying", f"retrying {n} retrying")
]

LIVES: Final[dict[str, Life]] = {
    "succeeded": Life([Return("done")], [*START, "succeeded 1 succeeded"]),
    "due later": Life(
        [Return()], ["enqueued 0 scheduled", "started 1 running", "succeeded 1 succeeded"], enqueue_later
    ),
    "deduped": Life(
        [Return()],
        ["enqueued 0 queued", "deduped 0 queued", "started 1 running", "succeeded 1 succeeded", "deduped 1 succeeded"],
        enqueue_twice,
    ),
    "retried": Life(
        [Raise(OSError("no route")), Return()],
        [*FAILED_ONCE, *SECOND],
    ),
    "exhausted": Life(
        [Raise(OSError()), Raise(OSError())],
        [*FAILED_ONCE, "started 2 running", "failed 2 dead_lettered", "dead_lettered 2 dead_lettered"],
    ),
    "not retryable": Life(
        [Raise(KeyError())],
        [*START, "failed 1 dead_lettered", "dead_lettered 1 dead_lettered"],
        options={"retry": Retry(never=KeyError)},
    ),
    "discarded": Life(
        [Raise(Discard("no such order"))], [*START, "discarded 1 dead_lettered", "dead_lettered 1 dead_lettered"]
    ),
    "timed out": Life(
        [Hang(), Return()],
        [*START, "timed_out 1 retrying", "retrying 1 retrying", *SECOND],
        options={"timeout": 5},
    ),
    "stuck": Life(
        [Play(), Return()],
        [*START, "stuck 1 running", "timed_out 1 retrying", "retrying 1 retrying", *SECOND],
        options={"timeout": 5, "stuck_after": 10},
    ),
    "snoozed": Life(
        [Raise(Snooze(60)), Return()],
        [*START, "snoozed 1 scheduled", *SECOND],
    ),
    "unreadable": Life(
        [Raise(Unreadable()), Return()],
        [*START, "unreadable 1 scheduled", *SECOND],
    ),
    "canceled while it waits": Life([], ["enqueued 0 scheduled", "canceled 0 canceled"], cancel_one_that_waits),
    "canceled while it runs": Life([Hang()], [*START, "canceled 1 canceled"], cancel_one_that_runs),
    "interrupted": Life(
        [Hang(), Return()],
        [*START, "interrupted 1 queued", *SECOND],
        restart_in_order,
    ),
    "crashed": Life(
        [Die(), Return()],
        [*START, "crashed 1 retrying", "retrying 1 retrying", *SECOND],
    ),
    "poisoned": Life(
        [Die()] * 5,
        [
            "enqueued 0 queued",
            *CRASHES,
            "started 5 running",
            "crashed 5 dead_lettered",
            "dead_lettered 5 dead_lettered",
        ],
    ),
    "begun at most once": Life(
        [Die()],
        [*START, "crashed 1 dead_lettered", "dead_lettered 1 dead_lettered"],
        options={"on_crash": "dead_letter"},
    ),
    "replayed": Life(
        [Return(), Return()],
        [*START, "succeeded 1 succeeded", "replayed 0 queued", "started 1 running", "succeeded 1 succeeded"],
        replay,
    ),
}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("name", LIVES)
async def test_each_step_is_told_once_and_in_order(mock_clock: trio.abc.Clock, name: str, store: Any) -> None:
    """Whatever the end of a run: each of its steps is one event; the same on every store."""
    life = LIVES[name]
    jobs = declared(**life.options)
    events = listening(jobs)

    async with simulate(jobs, store=store) as world:
        world.script("work", life.steps)
        await life.act(world, jobs)
        await world.advance(minutes=5)

    assert life.expected == told(events)


async def test_a_run_of_a_schedule_is_told_as_any_other(mock_clock: trio.abc.Clock) -> None:
    """Requested by the clock, after a wait for the run before, or by hand; a time that comes to nothing makes no event."""
    jobs = declared()
    jobs.every("busy", 30, "work", overlap="queue")
    events = listening(jobs)

    async with simulate(jobs) as world:
        world.script("work", [Sleep(100), Return(), Return(), Return()])
        await world.advance(seconds=135)  # due at 30, 60, 90 and 120; the first one ends at 130
        await jobs.schedules.pause("busy")
        by_hand = await jobs.schedules.trigger("busy")
        await world.until_idle()

    ended = [*START, "succeeded 1 succeeded"]
    assert [*ended * 3] == told(events)
    assert "work" == events[0].task
    assert by_hand == events[-1].run_id
    assert 3 == len({e.run_id for e in events})


def test_every_kind_of_event_is_tried() -> None:
    """The lives above meet every kind there is, but for a lost lease, which no runtime of today loses."""
    met = {EventKind(line.split()[0]) for life in LIVES.values() for line in life.expected}

    assert set(EventKind) - {EventKind.LEASE_LOST} == met


async def test_what_is_told_agrees_with_the_history(mock_clock: trio.abc.Clock) -> None:
    """Every transition of every run has its event, at its very time; and there is no other."""
    jobs = declared(timeout=20)
    events = listening(jobs)

    async with simulate(jobs, seed=5, store="sqlite") as world:
        world.script(
            "work", [Raise(OSError()), Sleep(3, Raise(Snooze(7))), Hang(), Return(1), Raise(Discard("no"))] * 8
        )
        world.faults.random(0.1, kinds=("refuse", "stall"))
        with world.flowing():
            ids = [await enqueued(jobs, n) for n in range(20)]
            await jobs.runs.cancel(ids[3])
        await world.advance(hours=1)
        histories = [world.history(run_id) for run_id in ids]

    for each in histories:
        steps = [(t.at_us, t.now, t.attempt) for t in each.transitions]
        mine = [e for e in events if e.run_id == each.run.id]
        firsts = [e for e in mine if e.kind not in (EventKind.RETRYING, EventKind.DEAD_LETTERED)]
        assert steps == [(e.at_us, e.status, e.attempt) for e in firsts]
        assert [t.cause for t in each.transitions if t.cause] == [e.cause for e in firsts if e.cause]
        ends = [e for e in firsts if e.took_us is not None]
        assert [(a.n, a.outcome, a.ended_us) for a in each.attempts] == [(e.attempt, e.kind, e.at_us) for e in ends]
        assert [a.error for a in each.attempts] == [e.error for e in ends]


async def enqueued(jobs: Jobs, n: int) -> str:
    while True:
        try:
            return (await jobs.enqueue("work", n, run_id=f"run-{n}")).run_id
        except StoreError:  # once more
            await trio.sleep(1)


async def test_an_event_says_how_long_things_took(mock_clock: trio.abc.Clock) -> None:
    """Waiting is counted from when a run was due, an attempt from its claim; what is due later says when."""
    jobs = declared()
    events = listening(jobs)

    async with simulate(jobs) as world:
        world.script("work", [Sleep(3, Raise(OSError("no route"))), Sleep(2)])
        requested_us = int(world.now.timestamp() * 1e6)
        await jobs.queues.pause()
        await jobs.enqueue("work", delay=10, trace_id="t-1")
        await world.advance(seconds=14)
        await jobs.queues.resume()
        await world.until_idle()

    first, started, failed, retrying, again, succeeded = [evolve(e, at_us=e.at_us - requested_us) for e in events]
    assert {"t-1"} == {e.trace_id for e in events}
    assert (0, requested_us + 10_000_000) == (first.at_us, first.due_us)
    assert (14_000_000, 4_000_000, None) == (started.at_us, started.waited_us, started.took_us)
    assert (17_000_000, 3_000_000, requested_us + 22_000_000) == (failed.at_us, failed.took_us, failed.due_us)
    assert (None, "failed", requested_us + 22_000_000) == (retrying.took_us, retrying.cause, retrying.due_us)
    assert failed.error is not None
    assert ("OSError", "no route", failed.error) == (failed.error.type, failed.error.message, retrying.error)
    assert (22_000_000, 0) == (again.at_us, again.waited_us)
    assert (24_000_000, 2_000_000, None) == (succeeded.at_us, succeeded.took_us, succeeded.error)


async def test_an_event_says_where_and_as_what(mock_clock: trio.abc.Clock) -> None:
    """Whose step it was, on which queue, of which replay: in plain values, for a program in another language too."""
    jobs = declared()
    events = listening(jobs)

    async with simulate(jobs) as world:
        world.script("work", [Return(), Return()])
        boot_id = world.runtime.boot_id
        old = (await jobs.enqueue("work")).run_id
        await world.until_idle()
        new = (await jobs.runs.replay(old, reason="it was wrong")).run_id

    replayed = json.loads(json.dumps(events[3].as_dict()))
    assert {
        "kind": "replayed",
        "at": "2027-01-15T12:00:00.000000+00:00",
        "jobs": "default/j",
        "queue": "j-jobs",
        "task": "work",
        "run_id": new,
        "attempt": 0,
        "status": "queued",
        "trace_id": None,
        "cause": "it was wrong",
        "error_type": None,
        "error": None,
        "waited_us": None,
        "took_us": None,
        "due_us": None,
        "replay_of": old,
        "boot_id": boot_id,
    } == replayed
    assert {frozenset(replayed)} == {frozenset(e.as_dict()) for e in events}
    assert "2027-01-15T12:00:00+00:00" == events[3].at.isoformat()


async def test_a_crash_is_told_by_whoever_takes_the_run_back(mock_clock: trio.abc.Clock) -> None:
    """With why: that its process died, and what five deaths in a row lead to."""
    jobs = declared()
    events = listening(jobs)

    async with simulate(jobs, store="sqlite") as world:
        world.script("work", [Sleep(3, Die())] * 5)
        first = world.runtime.boot_id
        await jobs.enqueue("work", trace_id="t-1")
        await world.advance(minutes=5)

    crashed = [e for e in events if e.kind == "crashed"]
    assert [3_000_000] * 5 == [e.took_us for e in crashed]
    assert [*["crashed"] * 4, "poisoned: 5 crashes in a row"] == [e.cause for e in crashed]
    assert "poisoned: 5 crashes in a row" == events[-1].cause
    assert {"t-1"} == {e.trace_id for e in events}
    assert first not in {e.boot_id for e in crashed}


async def test_nothing_secret_is_in_an_event(mock_clock: trio.abc.Clock) -> None:
    """Payloads, results and keys stay with the run."""
    jobs = declared()
    events = listening(jobs)

    async with simulate(jobs) as world:
        world.script("work", [Return("secret result")])
        for _ in range(2):
            await jobs.enqueue("work", "secret payload", idempotency_key="secret key")
        await world.until_idle()

    assert 4 == len(events)
    assert "secret" not in repr(events) + json.dumps([e.as_dict() for e in events])


async def test_a_late_end_of_a_canceled_run_is_not_told(mock_clock: trio.abc.Clock) -> None:
    """Its cancel was its end: what its handler does later changes nothing, and so is no event."""
    jobs = declared()
    events = listening(jobs)

    async with simulate(jobs) as world:
        run_id = (await jobs.enqueue("work")).run_id
        await world.settle()
        await jobs.runs.cancel(run_id)
        await world.advance(seconds=90)

    assert [*START, "canceled 1 canceled"] == told(events)
    assert (0, "canceled") == (events[-1].took_us, events[-1].cause)


async def test_one_that_is_stuck_is_told_of_once(mock_clock: trio.abc.Clock) -> None:
    """Also where the store refuses the note of it at first."""
    jobs = declared(timeout=5, stuck_after=10)
    events = listening(jobs)

    async with simulate(jobs) as world:
        world.faults.fail(on="note")
        await jobs.enqueue("work")
        await world.advance(seconds=30)

    assert 1 == told(events).count("stuck 1 running")


async def test_a_bulk_replay_tells_of_new_runs_only(mock_clock: trio.abc.Clock) -> None:
    """A run that was replayed before is passed over, and that is no event."""
    jobs = declared()
    events = listening(jobs)

    async with simulate(jobs) as world:
        world.script("work", [Raise(Discard("no")), Return()])
        await jobs.enqueue("work")
        await world.until_idle()
        for _ in range(2):
            await jobs.runs.replay_all(reason="repaired")
        await world.until_idle()

    assert ["replayed 0 queued"] == [line for line in told(events) if line.split()[0] in ("replayed", "deduped")]


async def test_each_instance_hears_of_its_own_runs(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """Several Jobs of one runtime are told apart."""
    mine, yours = declared(), Jobs("other")
    yours.task("work")(mine.tasks["work"].handler)
    heard = listening(mine), listening(yours)

    async with open_house(place, mine, yours) as runtime:
        await mine.enqueue("work")
        await yours.enqueue("work")
        await runtime.until_idle()

    assert [{"default/j"}, {"default/other"}] == [{e.jobs for e in events} for events in heard]
    assert [3, 3] == [len(events) for events in heard]


async def test_a_runtime_beside_tells_its_own_steps(autojump_clock: trio.abc.Clock) -> None:
    """Whoever makes a step durable tells it: nobody tells what another process did."""
    jobs, desk, tables = declared(), declared(), Tables()
    here, there = listening(jobs), listening(desk)
    one, two = (MemoryStore(tables, exclusive=False) for _ in range(2))

    async with (
        open_runtime(one, jobs, seams=Seams.seeded(1)) as runtime,
        open_runtime(two, desk, work=False, seams=Seams.seeded(2)) as beside,
    ):
        run_id = (await desk.enqueue("work")).run_id
        await runtime.until_idle()
        await trio.sleep(1)
        await desk.runs.wait(run_id)

    assert ["enqueued 0 queued"] == told(there)
    assert ["started 1 running", "succeeded 1 succeeded"] == told(here)
    assert [{beside.boot_id}, {runtime.boot_id}] == [{e.boot_id for e in events} for events in (there, here)]


# ---------------------------------------------------------------- from commands and answers, without a runtime

LANE: Final = Lane("default/j", "default/mail", "work", "1")
RUN: Final = Claimed("r", LANE, 3, 1, 0, 5, None, 5, b"c", 7, 900, 100, b"{}", "t", None, due_us=400)
FAIL: Final = Verdict(Move.RETRY, OutcomeKind.FAILED, due_us=5_000, clock=Clock.STEADY, cause="failed")


def tell(command: Command, answer: Answer, kinds: frozenset[EventKind] = frozenset(EventKind)) -> list[Event]:
    return Teller("default/j", kinds, 1_000, "boot").events(command, answer)


def test_a_lost_lease_is_told() -> None:
    """With what became of the run, as a second event."""
    rescue = Rescue("boot", "expired", 10)
    lost = RescuedRun("r", LANE, 3, OutcomeKind.LEASE_LOST, Status.RETRYING, 0, Clock.AT_ONCE, "t", 900, "lease_lost")

    events = tell(rescue, Rescued((lost,), more=False))

    assert ["lease_lost 3 retrying", "retrying 3 retrying"] == told(events)
    assert [(100, "lease_lost"), (None, "lease_lost")] == [(e.took_us, e.cause) for e in events]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (Settle((settlement(RUN, FAIL),)), Settled((None,))),
        (Claim("boot", b"c", (LANE,), 5, 15), ClaimedRuns(())),
        (Cancel("r"), CancelAnswer("r", Status.SUCCEEDED, canceled=False)),
        (Cancel("r"), CancelAnswer("r", None, canceled=False)),
        (NoteRunning("r", 3, b"c", 7, progress=b"1", run=RUN), Noted(held=True)),
        (NoteRunning("r", 3, b"c", 7, stuck_since_us=1, run=RUN), Noted(held=False)),
        (NoteLate("r", 3, b"c", "raised OSError"), None),
        (Insert((NewRun("r", LANE, b"1", 0),)), Conflict("k", None)),  # type: ignore[arg-type]
    ],
)
def test_what_changed_nothing_is_no_event(command: Command, answer: Answer) -> None:
    """A stale end, an empty claim, a cancel that came too late, a note of something else."""
    assert [] == tell(command, answer)


def test_every_outcome_has_its_event() -> None:
    """An attempt cannot end in a way that nobody is told of."""
    assert set(OutcomeKind) == set(ENDS)


def test_only_what_is_wanted_is_made() -> None:
    """Of an end that makes two events the one that somebody asked for; of a commit without one, none."""
    settled = Settle((settlement(RUN, FAIL), settlement(RUN, Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED))))
    statuses = Settled((Status.RETRYING, Status.SUCCEEDED))
    found = Insert((NewRun("r", LANE, b"1", 0),) * 2), Inserted((None, None))

    assert ["retrying"] == [e.kind for e in tell(settled, statuses, frozenset({EventKind.RETRYING}))]
    assert ["succeeded"] == [e.kind for e in tell(settled, statuses, frozenset({EventKind.SUCCEEDED}))]
    assert [] == tell(*found, kinds=frozenset({EventKind.DEDUPED}))


def test_waiting_is_never_negative() -> None:
    """Clocks of two processes may disagree: nobody waited for less than no time."""
    early = evolve(RUN, started_us=50, created_us=100, due_us=400)

    (event,) = tell(Claim("boot", b"c", (LANE,), 5, 15), ClaimedRuns((early,)))

    assert 0 == event.waited_us
