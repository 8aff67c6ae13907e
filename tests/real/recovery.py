"""
How each life came back after the kill of the one before: worked out afterwards, from the store and the ledgers.

Rule: a run counts as rescued by the life that began its next attempt; one that was canceled while it waited for that
counts nowhere.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from callsheet.store.records import OutcomeKind

from .evidence import Evidence


@frozen
class Recovery:
    """Of a story of lives."""

    first_s: list[float] = field(factory=list)
    """From the moment a life had loaded its code until a handler of a rescued run began."""
    all_s: list[float] = field(factory=list)
    """Until that of the last one began, where the life lasted that long."""
    cut_short: int = 0
    """Lives that were killed while runs were still to be rescued."""


def recovery(evidence: Evidence, began_ns: Mapping[str, int]) -> Recovery:
    """`began_ns`: when each life had loaded its code, by boot id, oldest life first."""
    number = {boot: n for n, boot in enumerate(began_ns)}
    began = {(line["run"], line["attempt"]): line["t"] for line in evidence.stage if line["say"] == "start"}
    back_ns: dict[int, list[int]] = defaultdict(list)
    owed: dict[int, int] = defaultdict(int)
    for history in evidence.runs.values():
        for lost, again in zip(history.attempts, history.attempts[1:], strict=False):
            if lost.outcome is not OutcomeKind.CRASHED:
                continue
            rescuer = number[again.owner]
            for life in range(number[lost.owner] + 1, rescuer):
                owed[life] += 1
            if (history.run.id, again.n) in began:  # else the next kill came between its claim and its handler
                back_ns[rescuer].append(began[history.run.id, again.n])
    starts = list(began_ns.values())
    found = Recovery(cut_short=len(owed))
    for life, times in back_ns.items():
        found.first_s.append((min(times) - starts[life]) / 1e9)
        if life not in owed:
            found.all_s.append((max(times) - starts[life]) / 1e9)
    return found


def spread(values: Sequence[float]) -> str:
    """Minimum, median, maximum."""
    if not values:
        return "(none)"
    return f"{min(values):.3g} / {statistics.median(values):.3g} / {max(values):.3g}"
