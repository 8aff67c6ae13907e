"""The comparison of the books finds every kind of loss, and only losses."""

from collections.abc import Sequence

import pytest
from attrs import evolve

from callsheet.demo.audit import Findings, Lost, audit
from callsheet.demo.ledger import Acknowledged, Answered, Entry, Received
from callsheet.demo.plan import key_of
from callsheet.store.arithmetic import run_of
from callsheet.store.records import Attempt, History, Lane, Move, NewRun, OutcomeKind, Status, Transition

LANE = Lane("demo/webhooks", "demo/webhooks-jobs", "deliver-webhook", "1")
ENDS = {Move.SUCCEED: Status.SUCCEEDED, Move.EXHAUST: Status.DEAD_LETTERED, Move.DISCARD: Status.DEAD_LETTERED}
FAILED, CRASHED, GOOD = OutcomeKind.FAILED, OutcomeKind.CRASHED, OutcomeKind.SUCCEEDED


def history(n: int, *outcomes: OutcomeKind, end: Move | None = Move.SUCCEED, status: Status | None = None) -> History:
    """Run n as a store has it, after attempts that ended so."""
    run_id = f"R{n}"
    born_as = run_of(NewRun(run_id, LANE, b"null", 0, idempotency_key=key_of(f"evt-{n}")))
    attempts = tuple(
        Attempt(run_id, i, 1_000 * n + i, 1_000 * n + i, outcome, None, b"", i, "boot")
        for i, outcome in enumerate(outcomes, 1)
    )
    moves = [Move.ENQUEUE]
    for outcome in outcomes[: None if end is None else -1]:
        moves += [Move.START, Move.RESCUE if outcome is CRASHED else Move.RETRY]
    if end is not None:
        moves += [Move.START, end]
    became = status or (Status.RETRYING if end is None else ENDS.get(end, Status.CANCELED))
    transitions = tuple(Transition(run_id, i, None, became, move, 0, 0) for i, move in enumerate(moves, 1))
    return History(evolve(born_as, status=became, attempt=len(attempts)), attempts, transitions)


def sent(n: int, *statuses: int, run_id: str | None = None) -> list[Entry]:
    """What the receiver entered: run n was sent as often, and answered so."""
    entries: list[Entry] = []
    for i, status in enumerate(statuses, 1):
        entries += [Received(f"evt-{n}", i, run_id or f"R{n}", i), Answered(f"evt-{n}", i, status)]
    return entries


def called(*numbers: int) -> list[Acknowledged]:
    """The caller's ledger: one call for each."""
    return [Acknowledged(call, f"evt-{n}", f"R{n}", deduped=False) for call, n in enumerate(numbers)]


def compared(
    caller: list[Acknowledged], receiver: list[Entry], *histories: History, events: Sequence[int] = ()
) -> Findings:
    """The audit, of events that were all called for unless given."""
    planned = [f"evt-{n}" for n in events] or {entry.event for entry in caller}
    return audit(planned, caller, receiver, {each.run.id: each for each in histories})


def test_when_all_went_well_nothing_is_lost() -> None:
    """Succeeded with a 200, refused, and out of tries: three endings, each of them fine."""
    receiver = sent(1, 500, 200) + sent(2, 410) + sent(3, 500, 500) + sent(4, 410)
    ended = [
        history(1, FAILED, GOOD),
        history(2, OutcomeKind.DISCARDED, end=Move.DISCARD),
        history(3, FAILED, FAILED, end=Move.EXHAUST),
        history(4, OutcomeKind.DISCARDED, end=Move.DISCARD),
    ]

    found = compared(called(1, 2, 3, 4), receiver, *ended)

    assert found.is_clean
    assert () == found.lost
    assert (4, 4, 0, 1) == (found.calls, found.runs, found.deduplicated, found.delivered)
    assert (2, 1, 3) == (found.refused, found.exhausted, found.dead_lettered)
    assert (6, 2, 0, None) == (found.attempts, found.retried, found.crashed, found.resumed_us)


@pytest.mark.parametrize(
    ("receiver", "stored", "why"),
    [
        (sent(1, 200), None, "not in the store"),
        (sent(1, 500), history(1, FAILED, end=None), "not ended: it is retrying"),
        (sent(1, 200), history(1, end=None, status=Status.QUEUED), "not ended: it is queued"),
        (sent(1, 200), history(1, end=None, status=Status.RUNNING), "not ended: it is running"),
        (sent(1, 500), history(1, GOOD), "never answered 200"),
        ([], history(1, GOOD), "never answered 200"),
        (sent(2, 200), history(1, GOOD), "never answered 200"),
        (sent(1, 500), history(1, FAILED, end=Move.CANCEL), "nobody asked for that"),
        ([], history(1, FAILED, end=Move.EXHAUST), "never reached the receiver"),
        (sent(1, 200, run_id="R9"), history(1, GOOD), "never reached the receiver"),
        (sent(1, 500, 200), history(1, GOOD), "was sent attempt 2, of which the store knows nothing"),
        (sent(1, 200), evolve(history(1, GOOD), run=history(8, GOOD).run), "the store has webhook:evt-8 under its id"),
    ],
)
def test_each_kind_of_loss_is_found(receiver: list[Entry], stored: History | None, why: str) -> None:
    """A run that is gone, has not ended, or ended otherwise than the receiver saw is lost, and it is said why."""
    fine = history(5, GOOD)
    histories = {"R5": fine} if stored is None else {"R1": stored, "R5": fine}

    found = audit(["evt-1", "evt-5"], called(1, 5), receiver + sent(5, 200), histories)

    (lost,) = found.lost
    assert ("R1", "evt-1") == (lost.run_id, lost.event)
    assert why in lost.why
    assert not found.is_clean
    assert 1 == found.delivered


def test_all_that_is_lost_is_listed() -> None:
    """One line for each lost run, in the order of their ids."""
    found = compared(called(3, 1, 2), sent(2, 200), history(2, GOOD))

    assert (
        Lost("R1", "evt-1", "acknowledged, but not in the store"),
        Lost("R3", "evt-3", "acknowledged, but not in the store"),
    ) == found.lost


def test_delivered_more_than_once_is_counted_and_no_loss() -> None:
    """Two answers of 200 for one event: at least once allows it."""
    found = compared(called(1, 2), sent(1, 200, 200) + sent(2, 200), history(1, CRASHED, GOOD), history(2, GOOD))

    assert found.is_clean
    assert 1 == found.repeated
    assert 2 == found.delivered


def test_calls_that_were_deduplicated_are_one_run() -> None:
    """The second call under a key got the first one's run."""
    again = Acknowledged(1, "evt-1", "R1", deduped=True)

    found = compared([*called(1), again], sent(1, 200), history(1, GOOD))

    assert found.is_clean
    assert (2, 1, 1) == (found.calls, found.deduplicated, found.runs)


def test_attempts_that_died_are_told_from_those_that_failed() -> None:
    """A crash is no retry; recovery is when the first interrupted run was running again."""
    receiver = sent(1, 0, 200) + sent(2, 500, 0, 200) + sent(3, 500, 200)
    ended = [history(2, FAILED, CRASHED, GOOD), history(1, CRASHED, GOOD), history(3, FAILED, GOOD)]

    found = compared(called(1, 2, 3), receiver, *ended)

    assert found.is_clean
    assert (7, 2, 2) == (found.attempts, found.retried, found.crashed)
    assert 1_002 == found.resumed_us


def test_what_was_steered_on_the_page_is_no_loss() -> None:
    """A run that somebody canceled there has ended, one that was replayed is no stray; without a page both are wrong."""
    again = history(3, GOOD)
    again = evolve(again, run=evolve(again.run, idempotency_key=None, replay_of="R1"))
    store = {"R1": history(1, GOOD), "R2": history(2, FAILED, end=Move.CANCEL), "R3": again}
    receiver = sent(1, 200) + sent(1, 200, run_id="R3")

    found = audit(["evt-1", "evt-2"], called(1, 2), receiver, store, steered=True)

    assert found.is_clean
    assert (2, 1, 1, 1) == (found.runs, found.delivered, found.canceled, found.replayed)
    found = audit(["evt-1", "evt-2"], called(1, 2), receiver, store)
    assert ["R2"] == [each.run_id for each in found.lost]
    assert ("R3",) == found.strays


def test_steering_excuses_nothing_else() -> None:
    """A run that is gone is lost, whoever watched; so is a canceled one with an attempt that the store does not know."""
    store = {"R2": history(2, FAILED, end=Move.CANCEL), "R3": history(3, GOOD)}

    found = audit(["evt-1", "evt-2"], called(1, 2), sent(2, 500, 500), store, steered=True)

    assert ["R1", "R2"] == [each.run_id for each in found.lost]
    assert ("R3",) == found.strays


def test_a_second_run_for_one_key_is_no_secret() -> None:
    """A run in the store that nobody was told of means that one call was stored twice."""
    found = compared(called(1), sent(1, 200), history(1, GOOD), history(2, GOOD))

    assert ("R2",) == found.strays
    assert () == found.lost
    assert not found.is_clean


def test_two_runs_under_one_key_are_found() -> None:
    """Both were acknowledged, both ended well: still one of them should not exist."""
    second = history(1, GOOD)
    second = evolve(second, run=evolve(second.run, id="R9"))
    caller = [*called(1), Acknowledged(1, "evt-1", "R9", deduped=False)]

    found = compared(caller, sent(1, 200) + sent(1, 200, run_id="R9"), history(1, GOOD), second)

    assert ("R9",) == found.strays


def test_one_run_cannot_stand_for_two_deliveries() -> None:
    """Two events were acknowledged with the same run: one of them has none."""
    caller = [Acknowledged(0, "evt-1", "R1", deduped=False), Acknowledged(1, "evt-2", "R1", deduped=True)]
    for books in (caller, caller[::-1]):
        found = compared(books, sent(1, 200), history(1, GOOD))

        assert ["evt-2"] == [each.event for each in found.lost]
        assert (2, 1) == (found.calls, found.runs)


def test_a_delivery_that_was_never_acknowledged_is_no_secret() -> None:
    """The worker says that it is done, but one call of the plan is missing from the caller's ledger."""
    found = compared(called(1), sent(1, 200), history(1, GOOD), events=[1, 2])

    assert ("evt-2",) == found.silent
    assert not found.is_clean
