"""
What handlers did, against the store.

Rule: as `oracle`. A handler writes its first line before it does anything, so an attempt that is not in the store by then
was not durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from callsheet.store.records import Attempt, History, OutcomeKind

from .evidence import Evidence
from .ledger import Line

SAID: Final[dict[OutcomeKind, set[str]]] = {
    OutcomeKind.SUCCEEDED: {"returned"},
    OutcomeKind.FAILED: {"Flop", "RetryAfter"},
    OutcomeKind.DISCARDED: {"Discard"},
    OutcomeKind.SNOOZED: {"Snooze"},
    OutcomeKind.TIMED_OUT: {"stopped", "late", "returned", "Flop", "RetryAfter", "Discard", "Snooze"},
}
"""What a handler must have written down at its end, by the outcome that the store has."""


def staged(evidence: Evidence) -> Iterator[str]:
    """I13: no handler began without its attempt; I12: none twice; I20: no two of a run at once; I3: and none invented."""
    begun: dict[tuple[str, int], Line] = {}
    ended: dict[tuple[str, int], str] = {}
    last: dict[str, Line] = {}
    for line in evidence.stage:
        if line["say"] not in ("start", "end"):
            continue
        me = line["run"], line["attempt"]
        if line["say"] == "end":
            ended[me] = line["how"]
            continue
        yield from (f"{problem} (run {me[0]})" for problem in _durable(line, evidence.runs.get(me[0])))
        if me in begun:
            yield f"I12 attempt {me[1]} of run {me[0]} began twice"
        before = last.get(me[0])
        if before is not None and before["boot"] == line["boot"] and (me[0], before["attempt"]) not in ended:
            yield f"I20 attempt {me[1]} of run {me[0]} began while attempt {before['attempt']} was on stage"
        begun[me] = last[me[0]] = line
    for history in evidence.runs.values():
        for each in history.attempts:
            yield from (
                f"{problem} (run {history.run.id})"
                for problem in _played(each, (history.run.id, each.n) in begun, ended.get((history.run.id, each.n)))
            )
            if each.outcome is OutcomeKind.CRASHED and each.owner not in evidence.killed:
                yield f"P9 attempt {each.n} of run {history.run.id} crashed under {each.owner}, which was not killed"


def _durable(start: Line, history: History | None) -> Iterator[str]:
    if history is None:
        yield f"I13 attempt {start['attempt']} began, and its run is not in the store"
        return
    wanted = start["attempt"], start["claim"], start["fence"], start["boot"]
    if wanted not in ((each.n, each.claim_id.hex(), each.fence, each.owner) for each in history.attempts):
        yield f"I13 attempt {start['attempt']} with claim {start['claim']} began, and is not in the store"


def _played(attempt: Attempt, begun: bool, how: str | None) -> Iterator[str]:
    wanted = SAID.get(attempt.outcome) if attempt.outcome is not None else None
    if wanted is not None and (not begun or how not in wanted):
        yield f"I3 attempt {attempt.n} is {attempt.outcome}, its handler {f'said {how}' if begun else 'never began'}"
