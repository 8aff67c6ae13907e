"""
The times of schedules found the slow way, wall clocks that anything can happen to, and what must become of missed times.

Rule 1: nothing of the product is asked: a time of a schedule is found by trying every second or minute.
Rule 2: what a wall clock showed at any moment can be told afterwards; at the moment in which it was set, it showed both.
Not here: changes between summer and winter (`test_cadence`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
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
        return max(each.shows(mono_s) for each, until_s in self.spans() if each.from_s <= mono_s <= until_s)

    def spans(self) -> Iterator[tuple[Stretch, float]]:
        """Each with its end."""
        ends = [each.from_s for each in self.stretches[1:]]
        return zip(self.stretches, [*ends, math.inf], strict=True)

    def due_spans(self, due_us: int, from_s: float) -> Iterator[tuple[float, float]]:
        """From when until when it shows `due_us` or more, from `from_s` on."""
        begins_s: float | None = None
        for each, until_s in self.spans():
            if until_s < from_s:
                continue
            left_us = due_us - each.shows(max(each.from_s, from_s))
            if left_us <= 0:
                if begins_s is None:
                    begins_s = max(each.from_s, from_s)
                continue
            if begins_s is not None:
                yield begins_s, each.from_s
                begins_s = None
            there_s = max(each.from_s, from_s) + (left_us / each.rate / SECOND if each.rate else math.inf)
            if there_s < until_s:
                begins_s = there_s
        if begins_s is not None:
            yield begins_s, math.inf


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
    """What a schedule requested, and what came to nothing."""

    runs: list[tuple[int, int]] = field(factory=list)
    """The time, and when it was requested."""
    skipped: int = 0
    waiting: int | None = None


def expected(
    grid: Grid,
    policies: Policies,
    first_after_us: int,
    lives: Sequence[tuple[int, int]],
    ends: dict[int, int],
) -> Expected:
    """
    What must become of the times after `first_after_us`, one after another.

    lives: from when until when anybody looked after it. ends: when the run of a time ended.
    """
    found, seen_us = Expected(), first_after_us
    open_until = 0
    """The end of its last run that ended; sorted runs may end in any order."""
    for begins_us, until_us in lives:
        moments: list[int] = [begins_us, *grid.times(max(seen_us, begins_us), until_us)]
        while moments:
            now_us = moments.pop(0)
            if found.waiting is not None and open_until <= now_us:
                found.runs.append((found.waiting, now_us))
                open_until = max(open_until, ends.get(found.waiting, 1 << 62))
                found.waiting = None
            come = grid.times(seen_us, now_us)
            if come:
                seen_us = come[-1]
                open_until = _turn(found, policies, come, now_us, open_until, ends)
            if found.waiting is not None and now_us < open_until <= until_us:
                if not moments or open_until < moments[0]:
                    moments.insert(0, open_until)
    return found


def _turn(
    found: Expected, policies: Policies, come: Sequence[int], now_us: int, open_until: int, ends: dict[int, int]
) -> int:
    wanted = policies.wanted(come, now_us)
    found.skipped += len(come) - len(wanted)
    if wanted and policies.overlap != "allow" and open_until > now_us:
        if policies.overlap == "queue" and found.waiting is None:
            found.waiting = wanted[-1]
        else:
            found.skipped += len(wanted)
        return open_until
    for us in wanted:
        found.runs.append((us, now_us))
        open_until = max(open_until, ends.get(us, 1 << 62))
    return open_until


def shuffled(chance: random.Random, groups: Iterable[tuple[str, int]]) -> list[str]:
    """So many of each, in any order."""
    names = [name for name, n in groups for _ in range(n)]
    chance.shuffle(names)
    return names
