"""
How a task waits for a time: on the wheel, which everything else waits on too.

Rule 1: never early; and however a wait ends, it leaves no timer behind.
Rule 2: no wait hangs on the scheduler. While nobody pumps the wheel (it is being restarted, or the system stops and it is
    gone) each wait is a deadline of trio's, those that had begun included.
Not here: messages at a time (`alarms`), calls at a time (`timers`); what bounds the starts and stops of actors: those are
deadlines of trio's from the start, since they bound the scheduler's too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import trio
from attrs import define, field

from .alarms import HasMonotonic
from .timers import Timers, TooManyTimers


@define(eq=False)
class Waits:
    """Of one stage. `owner` is whom `Timers.counts` names for a wait."""

    _timers: Timers
    _clock: HasMonotonic
    _open: dict[trio.CancelScope, float] = field(factory=dict, init=False)
    """Until when they wait, for those that end by themselves."""
    _is_pumped: bool = field(default=False, init=False)

    def __len__(self) -> int:
        """Waits that have begun and not ended, but for those that wait for ever."""
        return len(self._open)

    def on_wheel(self) -> None:
        """Somebody pumps the timers from now on."""
        self._is_pumped = True

    def off_wheel(self) -> None:
        """Nobody does: whoever waits goes on by itself."""
        self._is_pumped = False
        for scope, when_s in self._open.items():
            scope.deadline = when_s

    async def sleep(self, seconds: float, *, owner: str) -> None:
        """Wait so many seconds; 0 or less is a checkpoint."""
        await self.sleep_until(self._clock.mono_s() + seconds, owner=owner)

    async def sleep_until(self, when_s: float, *, owner: str) -> None:
        """Wait until then on `Clock.mono_s`; a time that has passed is a checkpoint. Raises ValueError for NaN."""
        with self.move_on_at(when_s, owner=owner):
            await trio.sleep_forever()

    def move_on_after(self, seconds: float, *, owner: str) -> AbstractContextManager[trio.CancelScope]:
        """As `trio.move_on_after`."""
        return self.move_on_at(self._clock.mono_s() + seconds, owner=owner)

    @contextmanager
    def move_on_at(self, when_s: float, *, owner: str) -> Iterator[trio.CancelScope]:
        """As `trio.move_on_at`: what waits in the block then is cancelled. Raises ValueError for NaN."""
        scope, timer = trio.CancelScope(), None
        if when_s <= self._clock.mono_s():
            scope.cancel()
        elif when_s != math.inf:
            try:
                timer = self._timers.at(when_s, scope.cancel, owner=owner)
            except TooManyTimers:  # who waits is a task already: a timer more would not be what is too much
                scope.deadline = when_s
            if not self._is_pumped:
                scope.deadline = when_s
            self._open[scope] = when_s
        try:
            with scope:
                yield scope
        finally:
            self._open.pop(scope, None)
            if timer is not None:
                timer.cancel()
