"""
What a store in memory keeps: dicts of records, and how to take back what was put into them.

Rule: every change goes through `put` or `put_run`, so that `undo` can restore what was there.
Not here: what the commands do (`memory`), how the rows are read (`memory_reader`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from attrs import define, field, frozen

from .arithmetic import in_history
from .records import (
    Attempt,
    Fired,
    Lane,
    Move,
    Owner,
    Published,
    QueueOverride,
    Run,
    Schedule,
    Status,
    Transition,
)

K = TypeVar("K")
V = TypeVar("V")


@frozen
class SeenOwner:
    """An owner, with what only the store knows of it."""

    owner: Owner
    seen_us: int
    closed: bool = False


@define(eq=False)
class Tables:
    """What survives a `MemoryStore`: give the same tables to another one, and it goes on from there."""

    runs: dict[str, Run] = field(factory=dict)
    attempts: dict[str, tuple[Attempt, ...]] = field(factory=dict)
    """Only those that ended; the current one is made up from its run."""
    transitions: dict[str, tuple[Transition, ...]] = field(factory=dict)
    keys: dict[tuple[str, str], str] = field(factory=dict)
    owners: dict[str, SeenOwner] = field(factory=dict)
    queues: dict[str, QueueOverride] = field(factory=dict)
    replays: dict[str, dict[str, None]] = field(factory=dict)
    """By the id of the run that they replay."""
    ids: dict[tuple[Lane, Status], dict[str, None]] = field(factory=dict)
    """The runs of a lane in a status: what a claim looks at, and what the counters are the sizes of."""
    definitions: dict[str, Published] = field(factory=dict)
    """By jobs."""
    pruned: dict[tuple[Lane, Status], int] = field(factory=dict)
    """How many runs of a lane were forgotten, by the status that they had ended with."""
    schedules: dict[tuple[str, str], Schedule] = field(factory=dict)
    """By jobs and key."""
    fires: dict[tuple[str, str], tuple[Fired, ...]] = field(factory=dict)
    """What was done about the last times of each, oldest first."""
    writes: int = 0
    """How many batches were ever written, by anybody."""
    held_by: Owner | None = None
    """Who has it open exclusively."""
    lock: threading.RLock = field(factory=threading.RLock)
    _undo: list[Callable[[], object]] = field(factory=list)

    def put(self, table: dict[K, V], key: K, value: V) -> None:
        """Set `table[key]`."""
        self._remember(table, key)
        table[key] = value

    def drop(self, table: dict[K, V], key: K) -> None:
        """Remove `table[key]`."""
        self._remember(table, key)
        table.pop(key, None)

    def put_run(self, run: Run) -> None:
        """Set a run's row, and keep the lists by status right."""
        old = self.runs.get(run.id)
        if old is not None:
            self.drop(self.ids[old.lane, old.status], old.id)
        self.put(self.ids.setdefault((run.lane, run.status), {}), run.id, None)
        self.put(self.runs, run.id, run)

    def move_run(self, run: Run, was: Status | None, move: Move, at_us: int) -> None:
        """Set a run's row together with the transition that led to it."""
        before = self.transitions.get(run.id, ())
        seq = before[-1].seq + 1 if before else 1
        kept = (each for each in before if in_history(each.attempt, run.attempt))
        last = Transition(run.id, seq, was, run.status, move, at_us, run.attempt, run.cause)
        self.put_run(run)
        self.put(self.transitions, run.id, (*kept, last))

    def forget_run(self, run: Run) -> None:
        """Remove a run with all that belongs to it, and count it. Those that replay it still say so."""
        self.drop(self.ids[run.lane, run.status], run.id)
        self.drop(self.runs, run.id)
        self.drop(self.attempts, run.id)
        self.drop(self.transitions, run.id)
        if run.idempotency_key is not None:
            self.drop(self.keys, (run.lane.jobs, run.idempotency_key))
        if run.replay_of is not None:
            self.drop(self.replays[run.replay_of], run.id)
        place = run.lane, run.status
        self.put(self.pruned, place, self.pruned.get(place, 0) + 1)

    def of_status(self, status: Status, lanes: Iterable[Lane] | None = None) -> list[Run]:
        """The runs in a status, of these lanes or of all."""
        wanted = None if lanes is None else set(lanes)
        return [
            self.runs[run_id]
            for (lane, has), ids in self.ids.items()
            if has is status and (wanted is None or lane in wanted)
            for run_id in ids
        ]

    @property
    def mark(self) -> int:
        """Where we are now, for `undo`."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back every change since `mark`."""
        while len(self._undo) > mark:
            self._undo.pop()()

    def keep(self) -> None:
        """Forget how to take anything back."""
        self._undo.clear()

    def _remember(self, table: dict[K, V], key: K) -> None:
        if key in table:
            old = table[key]
            self._undo.append(lambda: table.__setitem__(key, old))
        else:
            self._undo.append(lambda: table.pop(key, None))
