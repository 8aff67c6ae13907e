"""
All waiting, as data: what is to be called at which time.

Rule: pure and synchronous; the scheduler actor pumps it, and a new scheduler goes on with what the old one left.
A heap with lazy removal, compacted when most of it is dead; the two-tier wheel takes its place without changing a caller.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Final

from attrs import define, field

_SLACK: Final = 64
"""Dead entries that a small heap may hold before it is compacted."""


class Timer:
    """One call at one time. `cancel` is idempotent and tells whether it came in time."""

    __slots__ = ("_timers", "call", "when_s")

    def __init__(self, timers: Timers, when_s: float, call: Callable[[], object]) -> None:
        self._timers = timers
        self.when_s = when_s
        self.call: Callable[[], object] | None = call

    def cancel(self) -> bool:
        """Make sure that it is not called from now on; False when it was called or cancelled before."""
        if self.call is None:
            return False
        self.call = None
        self._timers._forget()  # noqa: SLF001 -- the two are one structure
        return True


@define(eq=False)
class Timers:
    """Timers by time, then by the order in which they were added. Times are seconds on `Clock.mono_s`."""

    on_earlier: Callable[[float], object] = field(default=lambda _when_s: None)
    """Called when a timer is added that is earlier than every other: the scheduler moves its deadline."""
    _heap: list[tuple[float, int, Timer]] = field(factory=list, init=False)
    _seq: int = field(default=0, init=False)
    _live: int = field(default=0, init=False)

    def __len__(self) -> int:
        """Timers that are still to be called."""
        return self._live

    def at(self, when_s: float, call: Callable[[], object]) -> Timer:
        """Have `call` called at `when_s`, never earlier; never from inside this call, even when that is in the past."""
        timer = Timer(self, when_s, call)
        self._seq += 1
        self._live += 1
        heapq.heappush(self._heap, (when_s, self._seq, timer))
        if self._heap[0][2] is timer:
            self.on_earlier(when_s)
        return timer

    def next_s(self) -> float:
        """When the next one is due; infinity when there is none."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now_s: float, limit: int) -> Iterator[Callable[[], object]]:
        """Take out up to `limit` calls that are due at `now_s`, in order: one by one, so that one may cancel the next."""
        for _ in range(limit):
            if self.next_s() > now_s:
                return
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            assert call is not None, "next_s drops the dead ones"
            self._live -= 1
            yield call

    def _forget(self) -> None:
        self._live -= 1
        if len(self._heap) > 2 * self._live + _SLACK:
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
