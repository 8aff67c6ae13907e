"""
The harness of `test_kill` can fail: a kill under a store that breaks one promise, and the oracle names that promise.

Rule: the smallest story that shows it: two lives. The oracle alone is tried on made-up evidence, in `test_oracle`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from .evidence import gather
from .ledger import now_ns
from .lives import Lives
from .oracle import violations

IN_FLIGHT: Final = 10
LASTS_S: Final = 0.3
TRIES: Final = 10
"""A kill may come at a moment when nothing is owed; so many in a row do not."""


@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [
        ("AnswersEnqueuesFirst", "I1"),
        ("StartsFirst", "I13"),
        ("KeepsNoCancel", "I15"),
        ("SettlesAll", "I15"),
        ("RescuesNobody", "I34"),
        ("ForgetsAttempts", "I12"),
    ],
)
def test_a_store_that_breaks_a_promise_is_found(mutant: str, invariant: str, tmp_path: Path) -> None:
    """Killed with work in hand, such a store is reported, with the number of what it broke."""
    found: set[str] = set()

    with Lives(tmp_path, seed=1) as lives:
        for _ in range(TRIES):
            kill_and_finish(lives, mutant)
            found |= {problem.split()[0] for problem in violations(gather(tmp_path, lives.killed, ended=False))}
            if invariant in found:
                break

    assert invariant in found


def kill_and_finish(lives: Lives, mutant: str) -> None:
    """A life that is killed at work, and one that takes back what it left and closes."""
    life = lives.begin(mutant=mutant)
    lives.until(lambda: len(life.on_stage) >= IN_FLIGHT, f"{IN_FLIGHT} attempts in flight")
    until_ns = now_ns() + int(LASTS_S * 1e9)
    lives.prepare_next()
    lives.until(lambda: now_ns() >= until_ns, "a moment")
    lives.kill()
    lives.begin(finish=True, mutant=mutant, patience=LASTS_S)
    lives.prepare_next()
    lives.wait()
