"""
What became of writes whose commit failed with an unknown outcome: looked up by id, before anything is done again.

Rule: only what can be proven is answered from here: what was written carries the time of the try that wrote it, and a
claim's random id. The rest is done again, which the guards of the store make harmless.
Not here: which writes are in doubt (`batch`), when to look (`journal`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..store.arithmetic import claimed_of, status_after
from ..store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Claim,
    ClaimedRuns,
    Insert,
    Inserted,
    Reader,
    Register,
    Settle,
    Settled,
    Settlement,
    Store,
)
from ..store.records import Move, NewRun, Now, Owner, Run, RunFilter, Status
from .batch import Doubt, Write

PAGE: Final = 1_000
"""Running rows that are read at a time."""


def looked_up(reader: Reader, group: Sequence[Write]) -> dict[int, Answer]:
    """By place in `group`: the answers of those in doubt that were done."""
    answers: dict[int, Answer] = {}
    claims: dict[bytes, int] = {}
    canceled: set[str] = set()
    for place, write in enumerate(group):
        if write.doubt is None:
            continue
        match write.command:
            case Settle() as command:
                settled = _settled(reader, command, write.doubt)
                if settled is not None:
                    answers[place] = settled
            case Cancel(run_id) as command if run_id not in canceled:  # of two alike the first was the one
                done = _canceled(reader, command, write.doubt)
                if done is not None:
                    canceled.add(run_id)
                    answers[place] = done
            case Claim(claim_id=claim_id):
                claims[claim_id] = place
            case _:
                pass  # doing it again is the answer
    if claims:
        answers |= _claimed(reader, claims)
    return answers


def write_in_doubt(store: Store, owner: Owner, group: Sequence[Write], now: Now) -> list[Answer]:
    """
    Do the group, some of which is in doubt: what was done already is answered as it would have been then.

    That too is answered after a commit that can be relied on. Raises what reading and writing raise; then as much is in
    doubt as before.
    """
    reader = store.reader()
    try:
        known = looked_up(reader, group)
    finally:
        reader.close()
    rest = [write.command for place, write in enumerate(group) if place not in known]
    answers = iter(store.write([*rest, Register(owner)], now))  # a commit that changes nothing would not be flushed
    return [known[place] if place in known else _as_first(write, next(answers)) for place, write in enumerate(group)]


def _as_first(write: Write, answer: Answer) -> Answer:
    """What the first try of a repeated insert would have answered: a run found as we made it was stored by it."""
    command = write.command
    if write.doubt is None or not isinstance(command, Insert) or not isinstance(answer, Inserted):
        return answer
    pairs = zip(command.runs, answer.existing, strict=True)
    return Inserted(tuple([None if found is not None and _is_of(found, run) else found for run, found in pairs]))


def _is_of(found: Run, run: NewRun) -> bool:
    """Whether `found` was stored by this very insert: an id may be the caller's own, and older than it."""
    return (found.id, found.created_us) == (run.id, run.created_us)


def _settled(reader: Reader, command: Settle, doubt: Doubt) -> Settled | None:
    """None when no attempt was ended by it: then it was not durable, or changed nothing, and does not the next time."""
    statuses = tuple([_ended(reader, each, doubt) for each in command.settlements])
    return Settled(statuses) if any(statuses) else None


def _ended(reader: Reader, one: Settlement, doubt: Doubt) -> Status | None:
    history = reader.get(one.run_id)
    for attempt in () if history is None else history.attempts:
        if attempt.n == one.attempt and attempt.claim_id == one.claim_id:
            ours = attempt.outcome is one.verdict.outcome and attempt.ended_us in doubt.tried_us
            return status_after(one.run_id, one.verdict) if ours else None
    return None


def _canceled(reader: Reader, command: Cancel, doubt: Doubt) -> CancelAnswer | None:
    history = reader.get(command.run_id)
    if history is None:
        return None
    run, last = history.run, history.transitions[-1]
    if last.move is not Move.CANCEL or last.at_us not in doubt.tried_us or last.cause != command.cause:
        return None
    if last.was is not Status.RUNNING:
        return CancelAnswer(run.id, last.was, True, run.lane, run.attempt, trace_id=run.trace_id)
    ended = history.attempts[-1]
    return CancelAnswer(run.id, last.was, True, run.lane, run.attempt, ended.claim_id, run.trace_id, ended.started_us)


def _claimed(reader: Reader, claims: dict[bytes, int]) -> dict[int, Answer]:
    found: dict[int, list[Run]] = {}
    for run in _running(reader):
        if run.claim_id in claims:
            history = reader.get(run.id)  # a page has no payloads
            if history is not None and history.run.claim_id == run.claim_id:
                found.setdefault(claims[run.claim_id], []).append(history.run)
    return {
        place: ClaimedRuns(tuple([claimed_of(run) for run in sorted(runs, key=_order)]))
        for place, runs in found.items()
    }


def _running(reader: Reader) -> Iterator[Run]:
    before: str | None = None
    while page := reader.list(RunFilter(status=Status.RUNNING), limit=PAGE, before=before):
        yield from page
        before = page[-1].id


def _order(run: Run) -> tuple[int, int, str]:
    return run.priority, run.due_us, run.id
