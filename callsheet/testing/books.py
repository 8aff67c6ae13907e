"""
Whether what a store keeps agrees with itself: every run with its history, the counters with the rows.

Rule: pure but for the reader; each thing found wrong is a sentence that names its run.
Not here: what the handlers saw (`ledger`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from ..store.contract import Reader
from ..store.lifecycle import BIRTHS, MOVES
from ..store.records import (
    HISTORY_FIRST,
    HISTORY_LAST,
    SPENDING,
    History,
    Move,
    OutcomeKind,
    Run,
    RunFilter,
    Status,
    Transition,
)

WHOLE: Final = HISTORY_FIRST + HISTORY_LAST
"""Attempts up to which a history has no gaps."""
ALL: Final = 1_000_000_000

ENDS: Final[dict[Move, frozenset[OutcomeKind]]] = {
    Move.SUCCEED: frozenset({OutcomeKind.SUCCEEDED}),
    Move.RETRY: SPENDING,
    Move.EXHAUST: SPENDING,
    Move.DISCARD: SPENDING | {OutcomeKind.DISCARDED, OutcomeKind.CRASHED, OutcomeKind.LEASE_LOST},
    Move.POISON: frozenset({OutcomeKind.CRASHED}),
    Move.CANCEL: frozenset({OutcomeKind.CANCELED}),
    Move.SNOOZE: frozenset({OutcomeKind.SNOOZED, OutcomeKind.UNREADABLE}),
    Move.HAND_BACK: frozenset({OutcomeKind.INTERRUPTED}),
    Move.RESCUE: frozenset({OutcomeKind.CRASHED, OutcomeKind.LEASE_LOST}),
}
"""How an attempt ended that a run left running by this move."""


def wrongs(reader: Reader) -> Iterator[str]:
    """Everything that the books of this store get wrong."""
    runs = {run.id: run for run in reader.list(RunFilter(), limit=ALL)}
    for run in runs.values():
        history = reader.get(run.id)
        if history is None:
            yield f"run {run.id} is listed and not found"
            continue
        yield from (f"run {run.id} {wrong}" for wrong in _of_run(history))
        if run.replay_of in runs and not runs[run.replay_of].status.is_final:
            yield f"run {run.id} replays {run.replay_of}, which has not ended"
    yield from _of_keys(runs)
    yield from _of_counters(reader, runs)
    for each in reader.snapshot(limit=0).pruned:
        if not each.status.is_final or each.n < 1:
            yield f"{each.n} {each.status} runs of {each.lane.task} are counted as pruned"


def _of_run(history: History) -> Iterator[str]:
    yield from _of_transitions(history)
    yield from _of_attempts(history)
    run = history.run
    if run.spent > run.max_attempts:
        yield f"has spent {run.spent} tries of {run.max_attempts}"
    if run.status.is_final is (run.ended_us is None):
        yield f"is {run.status}, and ended_us is {run.ended_us}"
    if (run.status is Status.RUNNING) is (run.claim_id is None or run.owner is None):
        yield f"is {run.status}, and its claim is {run.claim_id!r} of owner {run.owner}"


def _of_transitions(history: History) -> Iterator[str]:
    run, moves = history.run, history.transitions
    first, last = moves[0], moves[-1]
    if first.was is not None or BIRTHS.get(first.move) is not first.now:
        yield f"began with {_shown(first)}"
    if last.now is not run.status:
        yield f"is {run.status}, and its last transition is {_shown(last)}"
    for each in moves[1:]:
        if each.was is None or MOVES[each.was].get(each.move) is not each.now:
            yield f"made a move that no run can make: {_shown(each)}"
    for each, following in pairwise(moves):
        if run.attempt <= WHOLE and (each.seq + 1 != following.seq or each.now is not following.was):
            yield f"has a gap between {_shown(each)} and {_shown(following)}"
        if each.now.is_final:
            yield f"had ended with {_shown(each)}, and then made {_shown(following)}"


def _of_attempts(history: History) -> Iterator[str]:
    run, attempts = history.run, history.attempts
    numbers = [each.n for each in attempts]
    if run.attempt <= WHOLE and list(range(1, run.attempt + 1)) != numbers:
        yield f"is at attempt {run.attempt}, and has the attempts {numbers}"
    spent = sum(each.outcome in SPENDING for each in attempts)
    if run.attempt <= WHOLE and run.spent != spent:
        yield f"has spent {run.spent} tries, and {spent} of its attempts failed or timed out"
    unended = [each.n for each in attempts if each.outcome is None or each.ended_us is None]
    if unended != ([run.attempt] if run.status is Status.RUNNING else []):
        yield f"is {run.status} at attempt {run.attempt}, and the attempts {unended} have no end"
    for each, following in pairwise(attempts):
        if following.fence <= each.fence or following.claim_id == each.claim_id:
            yield f"has attempt {following.n} with a claim that does not come after that of attempt {each.n}"
    outcomes = {each.n: each.outcome for each in attempts}
    for move in history.transitions:
        if move.was is Status.RUNNING and outcomes.get(move.attempt) not in ENDS[move.move]:
            yield f"has an attempt that ended as {outcomes.get(move.attempt)}, by {_shown(move)}"


def _of_keys(runs: dict[str, Run]) -> Iterator[str]:
    keys = Counter((run.lane.jobs, run.idempotency_key) for run in runs.values() if run.idempotency_key is not None)
    for (jobs, key), n in keys.items():
        if n > 1:
            yield f"{n} runs of {jobs} have the idempotency key {key!r}"


def _of_counters(reader: Reader, runs: dict[str, Run]) -> Iterator[str]:
    counted = {(each.lane, each.status): each.n for each in reader.counts()}
    rows = Counter((run.lane, run.status) for run in runs.values())
    for lane, status in counted.keys() | rows.keys():
        if counted.get((lane, status), 0) != rows[lane, status]:
            yield (
                f"the counter of {status} runs of {lane.task} on {lane.queue} says {counted.get((lane, status), 0)}, "
                f"and there are {rows[lane, status]}"
            )


def _shown(move: Transition) -> str:
    return f"{move.move} (no. {move.seq}, {move.was} to {move.now})"
