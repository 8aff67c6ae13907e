"""
The times of schedules found the slow way, wall clocks that anything can happen to, and what must become of missed times.

Rule 1: nothing of the product is asked: a time of a schedule is found by trying every second or minute.
Rule 2: what a wall clock showed at any moment can be told afterwards; at the moment in which it was set, it showed both.
Not here: changes between summer and winter (`test_cadence`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Final
from zoneinfo import ZoneInfo

import trio
from attrs import define, field, frozen

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TOLERANCE_US: Final = MINUTE
"""A time that is seen within a minute was not missed (docs/time.md, "Missed times")."""


def at(us: int) -> datetime:
    """For years that `fromtimestamp` does not know everywhere."""
    return EPOCH + timedelta(microseconds=us)


# ---------------------------------------------------------------- a wall clock


@frozen
class Stretch:
    """What the clock shows while nobody touches it."""

    from_s: float
    at_us: int
    rate: float

    def shows(self, mono_s: float) -> int:
        return self.at_us + round((mono_s - self.from_s) * self.rate * SECOND)


@define(eq=False)
class AnyWall:
    """A wall clock that can be set, stopped and made to go wrong. Called, it is a `time.time_ns`."""

    begins_us: int
    begins_s: float = field(factory=trio.current_time)
    stretches: list[Stretch] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stretches = [Stretch(self.begins_s, self.begins_us, 1.0)]

    def __call__(self) -> int:
        return self.now_us() * 1000

    def now_us(self) -> int:
        return self.stretches[-1].shows(trio.current_time())

    def set(self, by_us: int = 0, *, rate: float | None = None) -> None:
        """From now on it shows so much more, and goes so fast."""
        last = self.stretches[-1]
        now_s = trio.current_time()
        self.stretches.append(Stretch(now_s, last.shows(now_s) + by_us, last.rate if rate is None else rate))

    def showed(self, mono_s: float) -> int:
        """The latest time that it showed in this moment."""
        return max(each.shows(mono_s) for each, _ in self.within(mono_s, mono_s))

    def within(self, from_s: float, until_s: float) -> Iterator[tuple[Stretch, float]]:
        """What it did in this time: each stretch with its end."""
        n = max(0, bisect_left(self.stretches, from_s, key=_BEGINS) - 1)
        while n < len(self.stretches) and self.stretches[n].from_s <= until_s:
            end_s = self.stretches[n + 1].from_s if n + 1 < len(self.stretches) else math.inf
            yield self.stretches[n], end_s
            n += 1

    def due_spans(self, due_us: int, from_s: float) -> Iterator[tuple[float, float]]:
        """From when until when it shows `due_us` or more, from `from_s` on."""
        begins_s: float | None = None
        for each, until_s in self.within(from_s, math.inf):
            since_s = max(each.from_s, from_s)
            left_us = due_us - each.shows(since_s)
            if left_us <= 0:
                begins_s = since_s if begins_s is None else begins_s
                continue
            if begins_s is not None:
                yield begins_s, each.from_s
                begins_s = None
            there_s = since_s + (left_us / each.rate / SECOND if each.rate else math.inf)
            if there_s <= until_s + 1e-6:  # also when it is set in the very moment in which it comes to show it
                begins_s = min(there_s, until_s)
        if begins_s is not None:
            yield begins_s, math.inf


_BEGINS: Final = attrgetter("from_s")


# ---------------------------------------------------------------- times of schedules


@frozen
class Grid:
    """Which times a schedule has: every so many seconds since `start_us`, or the minutes of an expression."""

    every_s: int | None = None
    start_us: int = 0
    expression: str = ""
    tz: str = "UTC"
    end_us: int = 1 << 62

    def times(self, after_us: int, until_us: int) -> Sequence[int]:
        """Those after the one and until the other."""
        after_us, until_us = max(after_us, self.start_us - 1), min(until_us, self.end_us)
        if self.every_s is None:
            minutes = range(after_us // MINUTE * MINUTE, until_us + 1, MINUTE)
            return [us for us in minutes if us > after_us and shows(self.expression, self.tz, us)]
        step_us = self.every_s * SECOND
        first_us = self.start_us + max(0, (after_us - self.start_us) // step_us + 1) * step_us
        return range(first_us, until_us + 1, step_us)


@cache
def shows(expression: str, tz: str, us: int) -> bool:
    """Whether the clocks of the zone show what the expression names: `*`, `*/n`, `n` and `a,b` in five fields."""
    local = at(us).astimezone(ZoneInfo(tz))
    values = (local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
    return all(_is_in(value, named) for value, named in zip(values, expression.split(), strict=True))


def _is_in(value: int, named: str) -> bool:
    if named.startswith("*/"):
        return value % int(named[2:]) == 0
    return named == "*" or str(value) in named.split(",")


# ---------------------------------------------------------------- what must become of them


@frozen
class Policies:
    misfire: str = "latest"
    cap: int = 100
    overlap: str = "skip"

    def wanted(self, come: Sequence[int], now_us: int) -> Sequence[int]:
        """Of times that are seen together, those that are to have a run."""
        if self.misfire == "skip" and now_us - come[-1] > TOLERANCE_US:
            return []
        if self.misfire == "all" and self.overlap == "allow":
            return come[-self.cap :]
        return come[-1:]


@define(eq=False)
class Expected:
    """What a schedule requests, and what comes to nothing, as time goes by."""

    grid: Grid
    policies: Policies
    ends: dict[int, int]
    """When the run of a time ended."""
    runs: list[tuple[int, int]] = field(factory=list)
    """The time, and when it was requested."""
    skipped: int = 0
    waiting: int | None = None
    active_until: int = 0
    """When the last of its runs so far ends."""

    def request(self, us: int, now_us: int) -> None:
        self.runs.append((us, now_us))
        self.active_until = max(self.active_until, self.ends.get(us, 1 << 62))

    def release(self, now_us: int) -> None:
        """The one that waits comes when the runs before it have ended."""
        if self.waiting is not None and self.active_until <= now_us:
            waiting, self.waiting = self.waiting, None
            self.request(waiting, now_us)

    def look(self, come: Sequence[int], now_us: int) -> None:
        """These times have come since the last look."""
        wanted = self.policies.wanted(come, now_us)
        self.skipped += len(come) - len(wanted)
        if not wanted or self.policies.overlap == "allow" or self.active_until <= now_us:
            for us in wanted:
                self.request(us, now_us)
        elif self.policies.overlap == "queue" and self.waiting is None:
            self.waiting = wanted[-1]
        else:
            self.skipped += len(wanted)


def expected(
    grid: Grid, policies: Policies, after_us: int, lives: Sequence[tuple[int, int]], ends: dict[int, int]
) -> Expected:
    """
    What must become of the times after `after_us`, one after another.

    lives: from when until when anybody looked after them.
    """
    found, seen_us = Expected(grid, policies, ends), after_us
    for begins_us, until_us in lives:
        moments = [begins_us, *grid.times(max(seen_us, begins_us), until_us)]
        while moments:
            now_us = moments.pop(0)
            found.release(now_us)
            come = grid.times(seen_us, now_us)
            if come:
                seen_us = come[-1]
                found.look(come, now_us)
            next_us = moments[0] if moments else until_us + 1
            if found.waiting is not None and now_us < found.active_until < next_us:
                moments.insert(0, found.active_until)
    return found
