"""
How far it has come, read from the two ledgers while they are written.

Rule: the one who kills knows nothing but what the books say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import define, field

from .ledger import CALLER, COMMITS, RECEIVER, Acknowledged, Answered, Committing, Entry, Received, Tail

IN_FLIGHT: Final = 20
"""Attempts that are to be under way when the worker is killed."""


@define(eq=False)
class Books:
    """Call `look` before reading anything else."""

    folder: Path
    calls: int
    """How many calls of `enqueue` are planned."""
    deliverable: int
    """How many deliveries the receiver will take in the end."""
    caller: list[Acknowledged] = field(factory=list, init=False)
    receiver: list[Entry] = field(factory=list, init=False)
    delivered: set[str] = field(factory=set, init=False)
    """Events that were answered 200."""
    in_flight: int = field(default=0, init=False)
    """Requests without an answer."""
    committed: set[str] = field(factory=set, init=False)
    """Only of a store that answers early: the runs whose commit has begun."""
    _tails: list[Tail] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tails = [Tail(self.folder / name) for name in (CALLER, RECEIVER, COMMITS)]

    def __str__(self) -> str:
        return (
            f"{len(self.caller):,}/{self.calls:,} acknowledged, {len(self.delivered):,} delivered, "
            f"{self.in_flight} in flight"
        )

    def look(self) -> None:
        """Read what is new."""
        for tail in self._tails:
            for entry in tail.new():
                self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        match entry:
            case Acknowledged():
                self.caller.append(entry)
            case Received():
                self.receiver.append(entry)
                self.in_flight += 1
            case Answered():
                self.receiver.append(entry)
                self.in_flight -= 1
                if entry.status == 200:
                    self.delivered.add(entry.event)
            case Committing():
                self.committed.update(entry.run_ids)

    @property
    def is_half_way(self) -> bool:
        """Half of the calls are acknowledged, and many attempts are under way: where a kill does most harm."""
        acknowledged = len(self.caller)
        enough = self.in_flight >= min(IN_FLIGHT, self.calls // 10)
        return 2 * acknowledged >= self.calls and (enough or 10 * acknowledged >= 9 * self.calls)

    @property
    def has_debts(self) -> bool:
        """Of a store that answers early: whether something is acknowledged whose commit has not even begun."""
        return any(entry.run_id not in self.committed for entry in self.caller)
