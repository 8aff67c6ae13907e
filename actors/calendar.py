"""
The near future of the store, as timers: when a run becomes due, its queue is woken.

Rule 1: it holds a window of time only, and one timer per queue and millisecond; the rest waits in the store. The window is
    short where the future is dense, so that timers are never many; it is read in pages, and others are heard in between.
Rule 2: what it sends is an empty wake-up. The claim that follows compares every row with its own clock, so a timer that
    fires early costs a look, and one that was lost costs a second at most.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias, assert_never

from attrs import define, field, frozen

from ..store.records import Clock, Due
from .actor import Actor
from .timers import Timer

_log = logging.getLogger("callsheet.calendar")

WINDOW_US: Final = 60_000_000
"""How far ahead timers are held, if they are not too many."""
MOST: Final = 10_000
"""Timers of one clock after which no more of the future is read; twice as many are cut back to it."""
PAGE: Final = 1_000
"""Rows of the store that are read at a time, about."""
LOOK_S: Final = 1.0
"""How often queues look without being woken, and the wall clock is compared: bounds what a lost wake-up costs."""
DRIFT_US: Final = 10_000
"""A wall clock that moved by more than this against the steady one, at once or little by little: its timers are made anew."""
GRAIN_US: Final = 1_000
"""Wake-ups of one queue within this are one."""


@frozen
class Expect:
    """These become due; committed already."""

    dues: tuple[Due, ...]


@frozen
class Look:
    """A second has passed."""


@frozen
class Reread:
    """Others wrote to the store: what we hold of its future may lack something."""


@frozen
class ReadOn:
    """More of the future is to be held."""


@frozen
class Fire:
    """A timer's time has come."""

    key: tuple[str, Clock, int]


CalendarMessage: TypeAlias = Expect | Look | Reread | ReadOn | Fire
Upcoming: TypeAlias = Callable[[Clock, int, int, int], Awaitable[tuple[Due, ...]]]
"""(clock, after_us, until_us, limit) -> a page of the store's future, read somewhere else than in our task."""


@define(eq=False)
class Horizon:
    """Up to where the future of one clock is held as timers."""

    until_us: int
    timers: dict[tuple[str, Clock, int], Timer] = field(factory=dict)
    is_reading: bool = False
    """Whether more is being read, page by page."""

    def begin(self, now_us: int) -> None:
        """Read on when half of what may be held has passed."""
        if self.until_us < now_us + WINDOW_US // 2 and len(self.timers) < MOST // 2:
            self.is_reading = True

    def cut(self) -> None:
        """Hold the nearest ones only; the others are read again when there is room."""
        grains = sorted([grain_us for _, _, grain_us in self.timers])
        self.until_us = grains[MOST - 1]
        for key in [key for key in self.timers if key[2] > self.until_us]:
            self.timers.pop(key).cancel()
        self.is_reading = False


class Calendar(Actor[CalendarMessage]):
    """
    Wakes queues in time, and tells whoever else goes by the wall clock that it was set: `wall_was_set()`. What it calls must be
    cheap and may be called for nothing.
    """

    def __init__(
        self,
        upcoming: Upcoming,
        wake: Callable[[str], object],
        wake_all: Callable[[], object],
        wall_was_set: Callable[[], object] = lambda: None,
    ) -> None:
        self._upcoming = upcoming
        self._wake = wake
        self._wake_all = wake_all
        self._wall_was_set = wall_was_set

    async def on_start(self) -> None:
        """Look, and begin to read; whoever starts after us does not wait until all is read."""
        self._horizons = {clock: Horizon(self._now_us(clock)) for clock in (Clock.STEADY, Clock.WALL)}
        self._offset_us = self._wall_offset_us()
        self._next_look: Timer | None = None
        self._is_stale = False
        self._look()

    async def on_stop(self) -> None:
        """Leave no timer behind, and no wake-up: whoever comes next reads anew."""
        self.cell.mailbox.take_now()
        if self._next_look is not None:
            self._next_look.cancel()
        for horizon in self._horizons.values():
            for timer in horizon.timers.values():
                timer.cancel()

    async def receive(self, message: CalendarMessage) -> None:
        """See the messages."""
        match message:
            case Expect(dues):
                self._hold(dues)
            case Fire(key):
                self._fire(key)
            case Look():
                self._look()
            case ReadOn():
                await self._read_on()
            case Reread():  # with the next look: others may write all the time
                self._is_stale = True
            case _:
                assert_never(message)

    # -- the window

    def _look(self) -> None:
        self._wake_all()
        self._re_anchor()
        for clock, horizon in self._horizons.items():
            self._begin(clock, horizon)
        seams = self.stage.seams
        if self._next_look is not None:  # somebody asked for a look before its time
            self._next_look.cancel()
        when_s = seams.clock.mono_s() + (LOOK_S if seams.look_s is None else seams.look_s)
        self._next_look = self.stage.timers.at(when_s, lambda: self.ref.tell_control(Look()), owner=self.cell.path)

    def _begin(self, clock: Clock, horizon: Horizon) -> None:
        is_reading = any(each.is_reading for each in self._horizons.values())
        horizon.begin(self._now_us(clock))
        if horizon.is_reading and not is_reading:
            self.ref.tell_control(ReadOn())

    async def _read_on(self) -> None:
        """A page of each clock; the next ones after whatever else there is to do."""
        for clock, horizon in self._horizons.items():
            if horizon.is_reading:
                horizon.is_reading = await self._read_page(clock, horizon)
        if any(horizon.is_reading for horizon in self._horizons.values()):
            self.ref.tell_control(ReadOn())

    async def _read_page(self, clock: Clock, horizon: Horizon) -> bool:
        """Whether there is more to read."""
        until_us = self._now_us(clock) + WINDOW_US
        try:
            page = await self._upcoming(clock, horizon.until_us, until_us, PAGE)
        except Exception:  # noqa: BLE001 -- logged; begun anew with the next look
            _log.exception("could not read what becomes due; looking again soon")
            return False
        # a page holds everything that falls due with its last entry, and may be shorter than asked: empty is the end
        horizon.until_us = page[-1].due_us if page else until_us
        self._hold(page)
        return bool(page) and len(horizon.timers) < MOST

    def _re_anchor(self) -> None:
        """
        When somebody has set the wall clock, every timer made by it is wrong; when others wrote, some may be missing, and
        what others write is on that clock. Forget them and read again.
        """
        offset_us = self._wall_offset_us()
        if abs(offset_us - self._offset_us) > DRIFT_US:
            _log.info("the wall clock moved by %+.3f s", (offset_us - self._offset_us) / 1e6)
        elif not self._is_stale:
            return
        self._offset_us, self._is_stale = offset_us, False
        self._wall_was_set()  # also by a little: it is counted from now on, and a little each second is much in a day
        horizon = self._horizons[Clock.WALL]
        for timer in horizon.timers.values():
            timer.cancel()
        horizon.timers.clear()
        horizon.until_us = self._now_us(Clock.WALL)

    # -- the timers

    def _hold(self, dues: Iterable[Due]) -> None:
        seams, timers = self.stage.seams, self.stage.timers
        for due in dues:
            if due.clock is Clock.AT_ONCE:
                self._wake(due.queue)
                continue
            horizon = self._horizons[due.clock]
            if due.due_us > horizon.until_us:
                continue  # the next page will bring it
            grain_us = -(-due.due_us // GRAIN_US) * GRAIN_US  # rounded up: never early
            key = (due.queue, due.clock, grain_us)
            if key not in horizon.timers:
                wait_s = max(0, grain_us - self._now_us(due.clock)) / 1e6
                horizon.timers[key] = timers.at(
                    seams.clock.mono_s() + wait_s,
                    lambda key=key: self.ref.tell_control(Fire(key)),  # type: ignore[misc]
                    owner=self.cell.path,
                )
                if len(horizon.timers) >= 2 * MOST:
                    horizon.cut()

    def _fire(self, key: tuple[str, Clock, int]) -> None:
        queue, clock, due_us = key
        horizon = self._horizons[clock]
        if horizon.timers.pop(key, None) is None:
            return
        if self._now_us(clock) < due_us:  # the clock it was made by has gone back meanwhile
            self._hold([Due(queue, clock, due_us)])
        else:
            self._wake(queue)
        if len(horizon.timers) == MOST // 2 - 1:  # the window may be shorter than the time between two looks
            self._begin(clock, horizon)

    def _now_us(self, clock: Clock) -> int:
        return self.stage.seams.clock.wall_us() if clock is Clock.WALL else self.stage.seams.clock.steady_us()

    def _wall_offset_us(self) -> int:
        return self.stage.seams.clock.wall_us() - self.stage.seams.clock.steady_us()
