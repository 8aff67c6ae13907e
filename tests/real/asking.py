"""
Delayed runs that are asked for at once, in `timekeeper` or by its parent: some by a delay, some by a `run_at`.

Rule: it knows nothing of the product, and what it says can be written down as JSON.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import frozen

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Asks:
    """One call of `enqueue_many`."""

    plans: list[dict[str, Any]]
    """Payloads: an `acting.Plan` each."""
    delays: list[float | None]
    ats: list[int | None]
    """Microseconds UTC; of each run either this or a delay."""

    def options(self) -> Iterator[dict[str, Any]]:
        """Of `enqueue`."""
        for delay, at_us in zip(self.delays, self.ats, strict=True):
            yield {"delay": delay} if at_us is None else {"run_at": EPOCH + timedelta(microseconds=at_us)}

    def told(self) -> dict[str, Any]:
        """As it is written down."""
        return {"plans": self.plans, "delays": self.delays, "ats": self.ats}


def some_asks(chance: random.Random, me: str, number: int, wall_us: int, ahead_s: float) -> Asks:
    """So many runs, from now until `ahead_s` from now; more of them soon than late. me: what makes their plans unique."""
    plans, delays, ats = [], [], []
    for n in range(number):
        wait_s = chance.choice([chance.uniform(0.05, 20), chance.uniform(0.05, 600), chance.uniform(0.05, ahead_s)])
        by_delay = chance.random() < 0.5
        fails = int(chance.random() < 0.02)
        plans.append(
            {"n": f"{me}.{n}", "ms": int(chance.random() < 0.1), "fails": fails, "by": "raising", "then": "return"}
        )
        delays.append(round(wait_s, 3) if by_delay else None)
        ats.append(None if by_delay else wall_us + int(wait_s * 1e6))
    return Asks(plans, delays, ats)
