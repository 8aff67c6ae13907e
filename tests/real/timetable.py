"""
What is to recur in the story of `test_kill_schedules`, and when: as the calendar on a wall would have it.

Rule: it shares nothing with the product. Its times are found by walking over all of them.
Not here: what became of the times (`oracle_time`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Final

from attrs import evolve, frozen

BASE_US: Final = 1_800_000_000_000_000
"""When the story begins on the wall clock: 2027-01-15T08:00Z."""
SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
DAY_MINUTES: Final = 24 * 60

MISFIRES: Final = ("skip", "latest", "all")
OVERLAPS: Final = ("skip", "queue", "allow")
CAP: Final = 40
"""Of misfire="all": so few that the history of a schedule, 100 lines, holds all that was done between two looks at it."""

CRONS: Final[dict[str, frozenset[int]]] = {
    "* * * * *": frozenset(range(DAY_MINUTES)),
    "*/2 * * * *": frozenset(range(0, DAY_MINUTES, 2)),
    "7,23,48 * * * *": frozenset(m for m in range(DAY_MINUTES) if m % 60 in (7, 23, 48)),
    "0-59/5 */2 * * *": frozenset(m for m in range(0, DAY_MINUTES, 5) if m // 60 % 2 == 0),
    "30 9,11,14 * * *": frozenset({9 * 60 + 30, 11 * 60 + 30, 14 * 60 + 30}),
}
"""Minutes of a day, UTC, by expression."""


@frozen
class Timing:
    """One schedule."""

    key: str
    misfire: str
    overlap: str
    ms: int
    """How long its handler takes: not long where many go on at once, for after three kills they go one by one."""
    fails: int
    """Tries of each run that fail."""
    declared: bool
    """By the code; else the parent makes it."""
    step_us: int = 0
    cron: str = ""
    jitter_us: int = 0
    start_us: int | None = None
    """Said to the product."""
    anchor_us: int | None = None
    """A point of its grid; known from the start where that was said, else when it was stored."""

    def times(self, from_us: int, to_us: int) -> Iterator[int]:
        """Each of its times from the one to the other, both included."""
        from_us = max(from_us, self.start_us or 0)
        if self.cron:
            minutes = CRONS[self.cron]
            for us in range(-(-from_us // MINUTE_US) * MINUTE_US, to_us + 1, MINUTE_US):
                if us // MINUTE_US % DAY_MINUTES in minutes:
                    yield us
            return
        assert self.anchor_us is not None
        yield from range(from_us + (self.anchor_us - from_us) % self.step_us, to_us + 1, self.step_us)

    def first_after(self, us: int) -> int:
        """The first of its times that is later."""
        reach_us = self.step_us or DAY_MINUTES * MINUTE_US
        return next(self.times(us + 1, max(us, self.start_us or 0) + reach_us))


def timetable(seed: int, number: int) -> list[Timing]:
    """
    `number` schedules: every policy with every other; of five three come every few seconds, one of those that are left takes
    minutes and one is a cron expression, for what was missed a while ago is another thing than what is always in time.
    """
    chance = random.Random(f"timetable/{seed}")
    policies = list(product(MISFIRES, OVERLAPS))
    chance.shuffle(policies)
    return [_timing(n, *policies[n % len(policies)], chance) for n in range(number)]


def _timing(n: int, misfire: str, overlap: str, chance: random.Random) -> Timing:
    plain = Timing(
        key=f"{n:02}-{misfire}-{overlap}",
        misfire=misfire,
        overlap=overlap,
        ms=chance.choice([1, 1, 50] if overlap == "allow" else [1, 50, 300, 700]),
        fails=chance.choice([0, 0, 0, 1]),
        declared=n % 4 != 3,
    )
    if n % 5 == 4:
        jitter_us = chance.choice([0, 0, 20 * SECOND_US])
        return evolve(plain, cron=chance.choice(list(CRONS)), jitter_us=jitter_us)
    step_us = int(chance.choice([90, 200, 600] if n % 5 == 3 else [1, 1, 1.5, 2, 2.5, 3, 4, 5, 7]) * SECOND_US)
    timing = evolve(plain, step_us=step_us, jitter_us=chance.choice([0, step_us // 2]))
    how = chance.random()
    if how < 0.3:  # its grid began long ago
        start_us = BASE_US - chance.randrange(10**12)
    elif how < 0.5:  # it begins when some lives are over
        start_us = BASE_US + chance.randrange(3_600) * SECOND_US
    else:
        return timing
    return evolve(timing, start_us=start_us, anchor_us=start_us)
