"""
P9 with real processes: SIGTERM, once or twice, at random moments of a worker with work in hand.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from callsheet.store.records import Status

from .chance import some_seed
from .evidence import gather
from .ledger import now_ns
from .lives import ROOT, Lives
from .oracle import reached, violations
from .oracle_store import counters, of_history
from .webhooks import Webhooks

SLOW_CLOSE: Final = Path(__file__).with_name("slow_close.py")
SIGNALS: Final = [6, pytest.param(20, marks=pytest.mark.slow)]
"""How often it is told to stop; half of them twice."""
RUNS: Final = {6: 1_125, 20: 1_500}
"""Deliveries, by how often it is told: more than the demonstration's worker requests before the last signal."""
GRACE_S: Final = 0.15
"""Less than the longest handlers take, so that some end and some are interrupted."""


@pytest.mark.parametrize("signals", SIGNALS)
def test_sigterm_at_random_moments_leaves_nothing_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: int
) -> None:
    """
    I34 and all of the oracle: told to stop again and again with work in hand, half the time twice, it exits with 0, leaves no
    row running, loses nothing, and hands back what it interrupted without spending a try; the next start ends everything.
    """
    seed = some_seed()
    chance = random.Random(seed)
    twice = set(chance.sample(range(signals), signals // 2))

    with Lives(tmp_path, seed) as lives:
        for each in range(signals):
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
        sys.stdout.write(
            f"\nSIGTERM: CALLSHEET_SEED={seed}\n  {signals} signals, {signals // 2} twice; {dict(counts)}\n"
        )
    assert status == 0, lives.said()
    assert [] == violations(evidence)
    assert counts["attempt interrupted"] > 0
    assert counts["attempt crashed"] == 0


def test_kill_9_while_it_stops_loses_nothing(tmp_path: Path) -> None:
    """P1 to P6: told to stop and killed before it has, 8 times; what it had handed back and what it had not both go on."""
    seed = some_seed()
    chance = random.Random(seed)

    with Lives(tmp_path, seed) as lives:
        for _ in range(8):
            life = lives.begin(signals=True, grace=GRACE_S)
            lives.until(lambda: len(life.on_stage) >= 10, "10 attempts in flight")  # noqa: B023 -- called at once
            lives.prepare_next()
            life.end(signal.SIGTERM)
            pause(lives, chance.uniform(0.0, 1.5 * GRACE_S))
            lives.kill()
        lives.begin(finish=True)
        status = lives.wait()
    evidence = gather(tmp_path, lives.killed, ended=True)

    assert status == 0, (seed, lives.said())
    assert [] == violations(evidence), seed


def pause(lives: Lives, wait_s: float) -> None:
    """Let some time pass, or the life end."""
    until_ns = now_ns() + int(wait_s * 1e9)
    lives.until(lambda: now_ns() >= until_ns or lives.is_over, "some time")


@pytest.mark.parametrize(
    ("how_long", "signals_at", "status", "said"),
    [
        ("forever", ["open"], 0, ["closing", "closed", "after"]),
        ("forever", ["open", "closing"], 0, ["closed", "after"]),
        ("once", ["closing"], -signal.SIGTERM, ["closed"]),
    ],
)
def test_a_signal_while_the_store_closes_lets_it_close(
    how_long: str, signals_at: list[str], status: int, said: list[str], tmp_path: Path
) -> None:
    """P9: an impatient second signal kills nobody; a first one that finds the block closing of itself ends the process then."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", SLOW_CLOSE, tmp_path / "jobs.db", how_long],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        for each in signals_at:
            while process.stdout.readline().strip() != each:
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().split()

    assert (status, said) == (process.returncode, rest)
    assert ["jobs.db"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("signals", SIGNALS)
def test_sigterm_ends_the_worker_of_the_demonstration_cleanly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signals: int
) -> None:
    """
    I34 and P1 over real HTTP: told to stop again and again amid its deliveries, half the time twice, the worker exits with
    0, no row is left running, what it interrupted is in the history and spent no try; the last start delivers the rest.
    """
    seed = some_seed()
    chance = random.Random(seed)
    twice = set(chance.sample(range(signals), signals // 2))

    with Webhooks(tmp_path, seed, RUNS[signals]) as webhooks:
        for each in range(signals):
            webhooks.books.look()
            called, received = len(webhooks.books.caller), len(webhooks.books.receiver)
            webhooks.start_worker()
            # a call that was acknowledged says that it is open: deliveries may still be answers to the life before
            webhooks.until(lambda: len(webhooks.books.caller) > called, "a call")  # noqa: B023 -- called at once
            webhooks.until(lambda: len(webhooks.books.receiver) >= received + 10, "10 deliveries")  # noqa: B023
            let_pass(webhooks, chance.uniform(0.0, 0.3))
            assert not webhooks.is_over, webhooks.said()
            webhooks.signal()
            if each in twice:
                let_pass(webhooks, chance.uniform(0.0, 0.3))
                webhooks.signal()
            assert (each, 0) == (each, webhooks.wait()), webhooks.said()
            assert [] == problems(webhooks)
        webhooks.start_worker(per_second=1_000)
        status = webhooks.wait()
        histories = dict(webhooks.store().runs)
        findings = webhooks.audit(histories)

    kinds = Counter(str(attempt.outcome) for history in histories.values() for attempt in history.attempts)
    with capsys.disabled():
        sys.stdout.write(
            f"\nSIGTERM: CALLSHEET_SEED={seed}\n  {signals} signals, {signals // 2} twice; attempts {dict(kinds)}\n"
        )
    assert status == 0, webhooks.said()
    assert findings.is_clean, (findings.lost, findings.strays, findings.silent)
    assert kinds["interrupted"] > 0
    assert kinds["crashed"] == 0


def problems(webhooks: Webhooks) -> list[str]:
    """What must not be in the store between two lives."""
    evidence = webhooks.store()
    found = list(counters(evidence))
    for run_id, history in evidence.runs.items():
        found += [f"{problem} (run {run_id})" for problem in of_history(history)]
        if history.run.status is Status.RUNNING:
            found.append(f"I34 run {run_id} is still running")
    webhooks.books.look()
    found += [f"I1 {entry} is not there" for entry in webhooks.books.caller if entry.run_id not in evidence.runs]
    return found


def let_pass(webhooks: Webhooks, wait_s: float) -> None:
    """Let some time pass, or the worker end."""
    until_ns = now_ns() + int(wait_s * 1e9)
    webhooks.until(lambda: now_ns() >= until_ns, "some time")
