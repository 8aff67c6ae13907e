"""
P9 with real processes: SIGTERM, once or twice, at random moments of a worker with work in hand.
"""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from typing import Final

import pytest

from .chance import some_seed
from .evidence import gather
from .ledger import now_ns
from .lives import Lives
from .oracle import reached, violations

SIGNALS: Final = 20
TWICE: Final = 10
GRACE_S: Final = 0.15
"""Less than the longest handlers take, so that some end and some are interrupted."""


def test_sigterm_at_random_moments_leaves_nothing_running(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    I34 and all of the oracle: told to stop 20 times with work in hand, 10 times twice, it exits with 0, leaves no row
    running, loses nothing, and hands back what it interrupted without spending a try; the next start ends everything.
    """
    seed = some_seed()
    chance = random.Random(seed)
    twice = set(chance.sample(range(SIGNALS), TWICE))

    with Lives(tmp_path, seed) as lives:
        for each in range(SIGNALS):
            life = lives.begin(signals=True, grace=GRACE_S)
            lives.until(lambda: len(life.on_stage) >= 10, "10 attempts in flight")  # noqa: B023 -- called at once
            lives.prepare_next()
            pause(lives, chance.uniform(0.0, 0.3))
            life.end(signal.SIGTERM)
            if each in twice:
                pause(lives, chance.uniform(0.0, GRACE_S))
                life.end(signal.SIGTERM)
            assert (each, 0) == (each, lives.wait()), life.said()
            assert [] == violations(gather(tmp_path, (), ended=False))
        lives.begin(finish=True)
        status = lives.wait()
    evidence = gather(tmp_path, (), ended=True)

    counts = reached(evidence)
    with capsys.disabled():
        sys.stdout.write(f"\nSIGTERM: CALLSHEET_SEED={seed}\n  {SIGNALS} signals, {TWICE} twice; {dict(counts)}\n")
    assert status == 0, lives.said()
    assert [] == violations(evidence)
    assert counts["attempt interrupted"] > 0
    assert counts["attempt crashed"] == 0


def pause(lives: Lives, wait_s: float) -> None:
    """Let some time pass, or the life end."""
    until_ns = now_ns() + int(wait_s * 1e9)
    lives.until(lambda: now_ns() >= until_ns or lives.is_over, "some time")
