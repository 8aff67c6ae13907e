"""
What will happen in a demonstration: which deliveries are requested, and how the receiver answers each of them.

Rule: everything follows from a seed and a number of deliveries; the worker and the receiver make the same plan apart.
Not here: when the worker is killed; that depends on how far it has come, not on the seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

HANG: Final = 0
"""In the place of a status: no answer within any timeout."""
RETRY_AFTER_S: Final = 1
"""What a 503 asks for; the header counts whole seconds."""

MOODS: Final[tuple[tuple[float, tuple[int, ...]], ...]] = (
    (0.07, (500, 200)),
    (0.02, (500, 500, 200)),
    (0.05, (503, 200)),
    (0.03, (HANG, 200)),
    (0.01, (503, HANG, 500, 200)),
    (0.02, (410,)),
    (0.02, (500,)),
)
"""Share of the deliveries, and what the receiver answers to the first request for one of them, the second, …; the last
one repeats for ever. The rest is answered 200 at once."""

TWICE: Final = 0.05
"""Share of the deliveries that the caller requests a second time, under the same idempotency key."""
TWICE_WITHIN: Final = 60
"""The second call comes at most so many calls after the first: some of them while the first is still under way."""
DELAYED: Final = 0.10
"""Share of the deliveries that are requested with a delay."""
DELAY_S: Final = (0.5, 3.0)
LATENCY_S: Final = (0.05, 0.35)
"""How long the receiver takes for an answer."""


@frozen
class Call:
    """One call of `enqueue`. `n` numbers the calls: 0, 1, …"""

    n: int
    event: str
    delay_s: float


def key_of(event: str) -> str:
    """The idempotency key of a delivery."""
    return f"webhook:{event}"


@frozen
class Plan:
    """Made by `Plan.of`."""

    seed: int
    calls: tuple[Call, ...]
    moods: Mapping[str, tuple[int, ...]] = field(repr=False)
    """By event id, what its requests are answered in turn."""

    @classmethod
    def of(cls, seed: int, runs: int) -> Plan:
        """The plan for `runs` deliveries that follows from `seed`."""
        chance = random.Random(seed)  # noqa: S311 -- repeatable on purpose
        events = [f"evt-{n:05}" for n in range(1, runs + 1)]
        return cls(seed, _calls(events, chance), dict(zip(events, _moods(runs, chance), strict=True)))

    @property
    def deliverable(self) -> int:
        """How many events the receiver takes in the end."""
        return sum(mood[-1] == 200 for mood in self.moods.values())

    def answer(self, event: str, nth: int) -> int:
        """The status for the `nth` request (1, 2, …) for `event`, or HANG."""
        mood = self.moods[event]
        return mood[min(nth, len(mood)) - 1]

    def latency_s(self, event: str, nth: int) -> float:
        """How long the receiver takes for it."""
        return random.Random(f"{self.seed}/{event}/{nth}").uniform(*LATENCY_S)  # noqa: S311 -- repeatable on purpose


def _moods(runs: int, chance: random.Random) -> list[tuple[int, ...]]:
    """Exact shares, at least one of each, in a random order: even a small demonstration shows everything."""
    moods = [mood for share, mood in MOODS for _ in range(max(1, round(share * runs)))]
    moods = moods[:runs] + [(200,)] * (runs - len(moods))
    chance.shuffle(moods)
    return moods


def _calls(events: list[str], chance: random.Random) -> tuple[Call, ...]:
    delayed = set(chance.sample(events, _share(DELAYED, len(events))))
    delays = {event: round(chance.uniform(*DELAY_S), 2) if event in delayed else 0.0 for event in events}
    twice = sorted(chance.sample(range(len(events)), _share(TWICE, len(events))))
    order = [(float(n), event) for n, event in enumerate(events)]
    order += [(n + chance.uniform(0, TWICE_WITHIN), events[n]) for n in twice]
    order.sort()
    return tuple(Call(n, event, delays[event]) for n, (_, event) in enumerate(order))


def _share(share: float, runs: int) -> int:
    return min(runs, max(1, round(share * runs)))
