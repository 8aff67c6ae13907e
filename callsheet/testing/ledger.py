"""
What the handlers of a world saw: which attempts began and ended, written down outside the store.

Rule: it knows only what happened on stage; whether that agrees with the store is asked of it, never assumed.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from ..store.contract import Reader
from ..store.records import HISTORY_FIRST, HISTORY_LAST


@define(eq=False)
class Played:
    """One call of a handler, or of the step that stood in for it."""

    run_id: str
    attempt: int
    task: str
    over: bool = False
    """Whether it has ended, or its process has."""


@define(eq=False)
class Ledger:
    """Of one world, over all its processes."""

    played: dict[tuple[str, int], Played] = field(factory=dict)
    _on_stage: dict[str, Played] = field(factory=dict)
    """By run id."""
    zombies: set[str] = field(factory=set)
    """Runs whose handler outlived its runtime."""
    found: list[str] = field(factory=list)
    """What was wrong on stage."""

    def begins(self, run_id: str, attempt: int, task: str) -> Played:
        """The first thing that an attempt does."""
        played = Played(run_id, attempt, task)
        before = self._on_stage.get(run_id)
        if before is not None:
            self.found.append(f"run {run_id} began attempt {attempt} while attempt {before.attempt} was on stage")
        if (run_id, attempt) in self.played:
            self.found.append(f"run {run_id} began attempt {attempt} twice")
        self.played[run_id, attempt] = self._on_stage[run_id] = played
        return played

    def ends(self, played: Played) -> None:
        """The last thing that it does."""
        if not played.over:
            played.over = True
            self._on_stage.pop(played.run_id, None)

    def all_over(self) -> None:
        """The process is gone, and whatever was on stage with it."""
        for each in list(self._on_stage.values()):
            self.ends(each)

    def signed_off(self) -> None:
        """The runtime wrote its last; whoever is still on stage stays running in the store."""
        self.zombies |= self._on_stage.keys()

    def wrongs(self, reader: Reader) -> Iterator[str]:
        """What disagrees with the store: an attempt is durable before its handler begins."""
        yield from self.found
        gone: dict[str, None] = {}
        for run_id, attempt in self.played:
            history = reader.get(run_id)
            if history is None:
                gone[run_id] = None
                continue
            kept = attempt in [each.n for each in history.attempts]
            if not kept and not HISTORY_FIRST < attempt <= history.run.attempt - HISTORY_LAST:
                yield f"run {run_id} played attempt {attempt}, which the store does not know"
        pruned = sum(each.n for each in reader.snapshot(limit=0).pruned)  # which runs those were, nobody knows any more
        if len(gone) > pruned:
            yield f"{len(gone)} runs were played that are not stored, and {pruned} were pruned; the last is {[*gone][-1]}"
