"""
Virtual time: trio's mock clock, moved when asked, and a wall clock that can be set.

Rule: nothing here sleeps for real, and time that was let flow stands still again afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import trio
import trio.testing
from attrs import define, field

from .errors import RealClock

R = TypeVar("R")

NOON: Final = datetime(2027, 1, 15, 12, tzinfo=UTC)
"""Where the wall clock of a world begins, unless it is told otherwise."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_US: Final = timedelta(microseconds=1)


def run(main: Callable[..., Awaitable[R]], *arguments: object) -> R:
    """
    `trio.run(main, *arguments)` in virtual time, for tests without pytest-trio.

    The clock stands still until a world moves it.
    """
    return trio.run(main, *arguments, clock=trio.testing.MockClock())


def as_seconds(*, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> float:
    """The sum in seconds. Raises TypeError for what is no number, ValueError unless it is finite and 0 or more."""
    for name, value in (("days", days), ("hours", hours), ("minutes", minutes), ("seconds", seconds)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    total_s = days * 86_400 + hours * 3_600 + minutes * 60 + seconds
    if not 0 <= total_s < math.inf:
        raise ValueError(f"time goes on by 0 or more seconds, not by {total_s:g}")
    return total_s


def us_of(when: datetime) -> int:
    """An aware datetime as microseconds UTC. Raises ValueError for a naive one, TypeError for anything else."""
    if not isinstance(when, datetime):
        raise TypeError(f"a time is an aware datetime, not {type(when).__name__}")
    if when.utcoffset() is None:
        raise ValueError("the time has no zone; say which, for example datetime(2030, 1, 1, tzinfo=UTC)")
    return (when - _EPOCH) // _US


@define(eq=False)
class Time:
    """The clocks of one world."""

    clock: trio.testing.MockClock
    _base_us: int
    """What the wall clock showed, or would have shown, when trio's stood at 0."""
    _asked: int = field(default=0, init=False)
    _before_s: float = field(default=math.inf, init=False)

    @classmethod
    def of_this_run(cls, start: datetime) -> Time:
        """Raises RealClock when the clock of this `trio.run` is none that can be moved."""
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock):
            raise RealClock(type(clock).__name__)
        return cls(clock, us_of(start) - _us(clock))

    @property
    def mono_s(self) -> float:
        """Trio's clock."""
        return self.clock.current_time()

    @property
    def wall_us(self) -> int:
        """The wall clock, microseconds UTC."""
        return self._base_us + _us(self.clock)

    def wall_ns(self) -> int:
        """The same in nanoseconds, as `time.time_ns` tells it."""
        return self.wall_us * 1_000

    def set_wall(self, us: int) -> None:
        """Set the wall clock; trio's goes on as before."""
        self._base_us += us - self.wall_us

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Time goes on, from timer to timer, whenever nothing else is left to do."""
        if not self._asked:
            self._before_s = self.clock.autojump_threshold
            self.clock.autojump_threshold = 0
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1
            if not self._asked:
                self.clock.autojump_threshold = self._before_s


def _us(clock: trio.testing.MockClock) -> int:
    return round(clock.current_time() * 1e6)
