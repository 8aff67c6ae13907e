"""
An incarnation's own timers: messages that it sends to itself, once or again and again.

Rule 1: what was cancelled, replaced or outlived is never handled, also when its tick waits in the mailbox already: a tick
    carries the generation of its alarm, and whoever opens it asks `Tick.live` first. (Pekko's rule.)
Rule 2: ticks that nobody takes do not pile up: of one alarm one waits, at most `ALL_LIMIT` if it was asked for all.
Not here: keeping time (`timers`), opening ticks (`cell`), anything that must survive the process (delayed runs).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

from attrs import define, field, frozen

from .timers import TICKS_PER_S, Timer, Timers

M = TypeVar("M")

Missed: TypeAlias = Literal["one", "skip", "all"]
"""What `every` does for several times that have passed at once: send one tick, none, or all (up to ALL_LIMIT)."""

ALL_LIMIT: Final = 100
"""Ticks of one alarm that may wait in the mailbox: who is further behind than that needs the count, not the ticks."""
SHORTEST_S: Final = 1 / TICKS_PER_S
"""The shortest period: one tick of the wheel."""


class HasMonotonic(Protocol):
    """The part of `seams.Clock` that is needed here."""

    def mono_s(self) -> float:
        """See `Clock.mono_s`."""


@frozen(eq=False)
class Tick(Generic[M]):
    """An alarm's time has come: what travels through the mailbox in place of its message."""

    alarm: Alarm[M]
    generation: int
    due_s: float
    """When it was due, on `Clock.mono_s`."""
    missed: int
    """Earlier times of the alarm that got no tick of their own since the tick before."""

    @property
    def live(self) -> bool:
        """False when it must be dropped: its alarm was cancelled or replaced after this was queued."""
        return self.generation == self.alarm.generation

    @property
    def message(self) -> M:
        """What to hand to `receive`. Reading it takes the tick: the alarm is over, or may queue the next one."""
        if self.live:
            self.alarm.taken()
        return self.alarm.message


@define(eq=False)
class Alarm(Generic[M]):
    """One message and its times; made by `Alarms`."""

    message: M
    key: Hashable | None
    """None: it has no other name than itself."""
    _alarms: Alarms[M]
    _due_s: float
    """The next time; with a period, the first of all times."""
    _wait_s: float | None = None
    """Set: again and again; the time between two, or from taking one to the next."""
    _missed: Missed | None = None
    """Set: at a fixed rate, and what to do when late."""
    generation: int = field(default=0, init=False)
    """Of the ticks that are to be handled."""
    _passed: int = field(default=0, init=False)
    """Times of a fixed rate that are over."""
    _untold: int = field(default=0, init=False)
    """Times that got no tick, since the last tick."""
    _waiting: int = field(default=0, init=False)
    """Ticks that were queued and not taken."""
    _timer: Timer | None = field(default=None, init=False)

    def cancel(self) -> bool:
        """Send no more, and drop what waits; False when it was over: sent and taken, cancelled, or replaced."""
        return self._alarms._remove(self)  # noqa: SLF001 -- the two are one structure

    def arm(self) -> None:
        """Set the timer for the next time."""
        due_s = self._nth_s(self._passed) if self._missed else self._due_s
        self._timer = self._alarms.timers.at(due_s, self._ring, owner=self._alarms.owner)

    def stop(self) -> None:
        """No tick of this generation is handled from now on."""
        self.generation += 1
        if self._timer is not None:
            self._timer.cancel()

    def taken(self) -> None:
        """One of the ticks is being handled."""
        self._waiting -= 1
        if self._wait_s is None:
            self.cancel()
        elif self._missed is None:
            self._due_s = self._alarms.clock.mono_s() + self._wait_s
            self.arm()

    def _ring(self) -> None:
        if self._missed is None:
            self._send(self._due_s)
            return
        before, self._passed = self._passed, self._count(self._alarms.clock.mono_s())
        self.arm()  # before the mailbox is touched: what it raises must not end the alarm
        count = self._passed - before
        room = {"one": 1, "skip": 1 if count == 1 else 0, "all": ALL_LIMIT}[self._missed] - self._waiting
        told = max(0, min(count, room))
        self._untold += count - told
        for n in range(self._passed - told, self._passed):  # the latest: an old one is worth less
            self._send(self._nth_s(n))

    def _send(self, due_s: float) -> None:
        missed, self._untold = self._untold, 0
        self._waiting += 1
        self._alarms.deliver(Tick(self, self.generation, due_s, missed))

    def _nth_s(self, n: int) -> float:
        assert self._wait_s is not None
        return self._due_s + n * self._wait_s  # not a sum of periods: its error would grow

    def _count(self, now_s: float) -> int:
        """How many of the times are not after `now_s`; at least one more than before, since a timer is never early."""
        assert self._wait_s is not None
        count = max(self._passed, math.floor((now_s - self._due_s) / self._wait_s)) + 1
        return count - 1 if count > self._passed + 1 and self._nth_s(count - 1) > now_s else count


@define(eq=False)
class Alarms(Generic[M]):
    """
    The alarms of one incarnation. `deliver` puts a tick where it is opened later; it must not handle it at once.

    A new alarm with a key takes the place of the one that had it. Messages, like all messages, should not change.
    """

    timers: Timers
    clock: HasMonotonic
    deliver: Callable[[Tick[M]], object]
    owner: str
    """Whom `Timers.counts` names."""
    _alarms: dict[Hashable, Alarm[M]] = field(factory=dict, init=False)

    def __len__(self) -> int:
        """Alarms that will still send something, or whose tick waits."""
        return len(self._alarms)

    def after(self, delay_s: float, message: M, *, key: Hashable | None = None) -> Alarm[M]:
        """Send `message` once, `delay_s` seconds (0 or more) from now. Raises ValueError, TooManyTimers."""
        _check("delay_s", delay_s, 0)
        return self._add(Alarm(message, key, self, self.clock.mono_s() + delay_s))

    def every(self, period_s: float, message: M, *, key: Hashable | None = None, missed: Missed = "one") -> Alarm[M]:
        """
        Send `message` at a fixed rate: `period_s` seconds (0.001 or more) from now, and so on, without drifting.

        When several times have passed at once (the event loop stalled, the machine slept), and when the tick before was
        not taken yet, `missed` says what becomes of them. "one": one tick stands for all. "skip": no tick, and on with the
        next time; an actor that is always late by a period gets none at all. "all": a tick for each, while fewer than
        ALL_LIMIT wait; the oldest are left out. `Tick.missed` counts what got none. Raises ValueError, TooManyTimers.
        """
        _check("period_s", period_s, SHORTEST_S)
        if missed not in get_args(Missed):
            raise ValueError(f"missed must be one of {', '.join(get_args(Missed))}, not {missed!r}")
        return self._add(Alarm(message, key, self, self.clock.mono_s() + period_s, period_s, missed))

    def repeat(self, delay_s: float, message: M, *, key: Hashable | None = None) -> Alarm[M]:
        """
        Send `message` with a fixed delay: `delay_s` seconds (0.001 or more) from now, then as long after it was taken.

        Raises ValueError, TooManyTimers.
        """
        _check("delay_s", delay_s, SHORTEST_S)
        return self._add(Alarm(message, key, self, self.clock.mono_s() + delay_s, delay_s))

    def cancel(self, key: Hashable) -> bool:
        """As `Alarm.cancel`, of the alarm that has this key; False when there is none."""
        alarm = self._alarms.get(key)
        return alarm is not None and self._remove(alarm)

    def cancel_all(self) -> None:
        """The incarnation has ended: nothing that it asked for reaches the next one."""
        alarms, self._alarms = self._alarms, {}
        for alarm in alarms.values():
            alarm.stop()

    def _add(self, alarm: Alarm[M]) -> Alarm[M]:
        name = alarm if alarm.key is None else alarm.key
        hash(name)  # raises before anything is armed that nobody could cancel
        alarm.arm()  # it may refuse; then the one that it replaces stays
        replaced = self._alarms.pop(name, None)
        if replaced is not None:
            replaced.stop()
        self._alarms[name] = alarm
        return alarm

    def _remove(self, alarm: Alarm[M]) -> bool:
        name = alarm if alarm.key is None else alarm.key
        if self._alarms.get(name) is not alarm:
            return False
        del self._alarms[name]
        alarm.stop()
        return True


def _check(name: str, seconds: float, least_s: float) -> None:
    if not isinstance(seconds, int | float) or not least_s <= seconds < math.inf:
        raise ValueError(f"{name} must be a finite number of seconds, {least_s:g} or more, not {seconds!r}")
