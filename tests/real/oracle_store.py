"""
The store against itself: counters, attempts and transitions tell one story, and every run ended as its plan says.

Rule: as `oracle`. It reads no ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from callsheet.store import codec
from callsheet.store.lifecycle import BIRTHS, MOVES
from callsheet.store.records import Attempt, History, Move, OutcomeKind, Run, Status, Transition

from .evidence import Evidence
from .ledger import Line

SPENDS: Final = {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT}
KEEPS_DEATHS: Final = {OutcomeKind.INTERRUPTED, OutcomeKind.LEASE_LOST}
POISON: Final = 5
"""Deaths in a row that may dead-letter a run."""

ENDED_BY: Final[dict[Move, set[OutcomeKind]]] = {
    Move.SUCCEED: {OutcomeKind.SUCCEEDED},
    Move.RETRY: SPENDS,
    Move.EXHAUST: SPENDS,
    Move.DISCARD: {OutcomeKind.DISCARDED},
    Move.POISON: {OutcomeKind.CRASHED},
    Move.CANCEL: {OutcomeKind.CANCELED},
    Move.SNOOZE: {OutcomeKind.SNOOZED},
    Move.HAND_BACK: {OutcomeKind.INTERRUPTED},
    Move.RESCUE: {OutcomeKind.CRASHED, OutcomeKind.LEASE_LOST},
}
"""How an attempt may have ended, by the move that ended it."""


def counters(evidence: Evidence) -> Iterator[str]:
    """I4: the counters are what counting gives."""
    counted = Counter((history.run.lane, history.run.status) for history in evidence.runs.values())
    for lane, status in counted.keys() | evidence.counters.keys():
        says, is_ = evidence.counters.get((lane, status), 0), counted[lane, status]
        if says != is_:
            yield f"I4 {lane.task} on {lane.queue}: {says} are said to be {status}, and {is_} are"


def of_history(history: History) -> Iterator[str]:
    """I10, I11, I12, I14: one run, its attempts and its transitions tell one story."""
    run, attempts, transitions = history.run, history.attempts, history.transitions
    yield from _transitions(run, transitions)
    if [each.n for each in attempts] != list(range(1, run.attempt + 1)):
        yield f"I12 its attempts are {[each.n for each in attempts]}, and it says it had {run.attempt}"
    starts = [each.attempt for each in transitions if each.move is Move.START]
    if starts != [each.n for each in attempts]:
        yield f"I12 it was started as {starts}, and its attempts are {[each.n for each in attempts]}"
    yield from _endings(run, attempts, transitions)
    for one, two in pairwise(attempts):
        if two.fence <= one.fence or two.claim_id == one.claim_id:
            yield f"I21 attempt {two.n} has not a new claim: fence {one.fence} → {two.fence}"
    yield from _tries(run, attempts)


def _transitions(run: Run, transitions: tuple[Transition, ...]) -> Iterator[str]:
    if not transitions:
        yield "I10 it has no transition"
        return
    if [each.seq for each in transitions] != list(range(1, len(transitions) + 1)):
        yield f"I10 its transitions are numbered {[each.seq for each in transitions]}"
    first, last = transitions[0], transitions[-1]
    if first.was is not None or BIRTHS.get(first.move) is not first.now:
        yield f"I10 it was born by {first.move} from {first.was} as {first.now}"
    for before, after in pairwise(transitions):
        if before.now.is_final:
            yield f"I11 it had ended as {before.now}, and became {after.now} by {after.move}"
        if after.was is not before.now or MOVES[before.now].get(after.move) is not after.now:
            yield f"I10 it was {before.now}, and went from {after.was} by {after.move} to {after.now}"
    if (last.now, last.attempt, last.cause) != (run.status, run.attempt, run.cause):
        yield f"I10 it is {run.status} in attempt {run.attempt}, its last transition made it {last.now} in {last.attempt}"
    if run.ended_us != (last.at_us if last.now.is_final else None):
        yield f"I11 it ended at {run.ended_us}, its last transition was at {last.at_us}"


def _endings(run: Run, attempts: tuple[Attempt, ...], transitions: tuple[Transition, ...]) -> Iterator[str]:
    """Each attempt but one that is running has one outcome, and one move that gave it."""
    ends: dict[int, list[Transition]] = defaultdict(list)
    for each in transitions:
        if each.was is Status.RUNNING:
            ends[each.attempt].append(each)
    for each in attempts:
        running = run.status is Status.RUNNING and each.n == run.attempt
        moves = [end.move for end in ends.pop(each.n, [])]
        if running:
            if moves or each.outcome is not None:
                yield f"I12 attempt {each.n} is running, and has ended by {moves} as {each.outcome}"
        elif each.outcome is None or each.ended_us is None:
            yield f"I12 attempt {each.n} has no outcome"
        elif len(moves) != 1 or each.outcome not in ENDED_BY[moves[0]]:
            yield f"I12 attempt {each.n} ended as {each.outcome} by {moves}"
    for n in ends:
        yield f"I12 attempt {n} ended, and there is none"


def _tries(run: Run, attempts: tuple[Attempt, ...]) -> Iterator[str]:
    spent = sum(each.outcome in SPENDS for each in attempts)
    if run.spent != spent or spent > run.max_attempts:
        yield f"I14 it says it spent {run.spent} of {run.max_attempts} tries, its attempts spent {spent}"
    deaths = 0
    for each in attempts:
        if each.outcome is OutcomeKind.CRASHED:
            deaths += 1
        elif each.outcome is not None and each.outcome not in KEEPS_DEATHS:
            deaths = 0
        if deaths > POISON:
            yield f"I14 it was started again after {POISON} deaths in a row, as attempt {each.n}"
    if run.deaths != deaths:
        yield f"I14 it says its process died {run.deaths} times in a row, its attempts say {deaths}"


# ---------------------------------------------------------------- how it ended


def of_end(history: History, evidence: Evidence) -> Iterator[str]:
    """I33, I34 and what the payload asked for: it ended, and as planned, unless it was canceled or poisoned."""
    run = history.run
    if run.status is Status.RUNNING:
        yield "I34 it is still running"
    if not run.status.is_final:
        if evidence.ended:
            yield f"I33 it is still {run.status}"
        return
    plan = plan_of(run)
    poisoned = run.status is Status.DEAD_LETTERED and history.transitions[-1].move is Move.POISON
    if poisoned and run.deaths < POISON:
        yield f"I14 it was poisoned after {run.deaths} deaths in a row"
    if poisoned or run.status is Status.CANCELED or _stalled(plan, history.attempts):
        return
    exhausted = plan["fails"] >= run.max_attempts
    dead = exhausted or plan["then"] == "discard"
    if run.status is not (Status.DEAD_LETTERED if dead else Status.SUCCEEDED):
        yield f"I33 it ended as {run.status}, its plan was {plan}"
    if run.spent != (run.max_attempts if exhausted else plan["fails"]):
        yield f"I14 it spent {run.spent} tries, its plan was {plan}"
    if run.status is Status.SUCCEEDED:
        wanted = {"n": plan["n"], "attempt": run.attempt}
        result = None if run.result is None else codec.decode(run.result, None)
        if result != wanted:
            yield f"I3 its result is {result}, its last attempt returned {wanted}"


def _stalled(plan: Line, attempts: tuple[Attempt, ...]) -> bool:
    """Whether a timeout hit a try that does not hang: the machine stood still, and the plan means nothing then."""
    return sum(each.outcome is OutcomeKind.TIMED_OUT for each in attempts) > (
        plan["fails"] if plan["by"] == "hanging" else 0
    )


def plan_of(run: Run) -> Line:
    """The payload of a run."""
    assert run.payload is not None
    plan: Any = codec.decode(run.payload, None)
    return dict(plan)


def stored(evidence: Evidence) -> Iterator[Run]:
    """Every run."""
    return (history.run for history in evidence.runs.values())
