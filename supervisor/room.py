"""
How many runs a runtime has on stage in all its queues together (`max_running`).

Rule 1: what is free is computed from who is there, as in `slots`; a claim under way counts as if it were filled.
Rule 2: queues that want more than there is stand in line: whoever waits longest asks first, and goes to the end with what it
    got. So a busy queue cannot keep another one out.
Not here: the slots of one queue (`slots`), a limit that several processes share (the store's claim).
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol

from attrs import define, field


class Occupant(Protocol):
    """A queue, as far as it takes room."""

    @property
    def on_stage(self) -> Sized:
        """Its runs."""

    @property
    def reserved(self) -> int:
        """What its claim under way may bring."""

    def wake(self) -> None:
        """Have it ask again."""


@define(eq=False)
class Room:
    """One per runtime."""

    limit: int | None = None
    """None: as many as the queues have slots."""
    queues: list[Occupant] = field(factory=list)
    _line: dict[Occupant, None] = field(factory=dict, init=False)
    """Queues that want more than they got, longest first."""

    @property
    def free(self) -> int:
        """How many more runs may be claimed now; only where there is a limit."""
        assert self.limit is not None
        return self.limit - sum([len(each.on_stage) + each.reserved for each in self.queues])

    def ask(self, queue: Occupant, wanted: int) -> int:
        """How many of `wanted` runs the queue may claim now. If they are fewer, it is woken when it is its turn again."""
        if self.limit is None:
            return wanted
        granted = min(wanted, max(0, self.free)) if self._is_first(queue) else 0
        if granted:
            self._line.pop(queue, None)
        if granted < wanted:
            self._line.setdefault(queue, None)
        return granted

    def pass_on(self, queue: Occupant) -> None:
        """The queue wants nothing for now, or got less than it might have: whoever is next may ask."""
        if self._line:
            self._line.pop(queue, None)
            self.freed()

    def freed(self) -> None:
        """There may be room: have the first in line ask."""
        if self._line and self.free > 0:
            next(iter(self._line)).wake()

    def _is_first(self, queue: Occupant) -> bool:
        return not self._line or next(iter(self._line)) is queue
