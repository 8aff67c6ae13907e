"""
P1 to P6 and P8 with real processes: `kill -9` at random moments, judged by ledgers outside the store.

What it does not show: the page cache survives a process, so what was never flushed is not lost here.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field

from .chance import some_seed
from .evidence import gather
from .ledger import now_ns
from .lives import Life, Lives
from .oracle import reached, violations
from .recovery import recovery, spread

KILLS: Final = 25
IN_RECOVERY: Final = 5
SURELY: Final = 1.2
"""So many times as many kills are to look as if they came during a recovery: what seemed to be owed may have been canceled."""
IN_FLIGHT: Final = 20
"""Attempts on stage at each kill, at least."""
LONGEST_S: Final = 0.5
"""How long a life may go on with so many in flight: every moment until then is as likely."""


@define(eq=False)
class Story:
    """Lives that are killed one after the other."""

    lives: Lives
    chance: random.Random
    in_flight: list[int] = field(factory=list)
    """At each kill that met enough of them."""
    in_recovery: int = 0
    """How many of them seemed to come before all that was owed had begun again."""
    owed: set[str] = field(factory=set)
    """Runs that were on stage at the last kill, and those that the life before it had not come to."""

    def kill_in_recovery(self) -> None:
        """One life, killed before all that is owed has begun again."""
        life = self.lives.begin()
        enough = self.chance.uniform(0.0, 0.7) * len(self.owed)
        late_ns = now_ns() + 10**9  # some of them were canceled or poisoned, and will not begin again
        self.lives.until(
            lambda: len(life.on_stage) >= IN_FLIGHT and (len(self.owed & life.started) >= enough or now_ns() > late_ns),
            f"{IN_FLIGHT} attempts in flight",
        )
        owed = self.owed
        self._kill(life)
        left = owed - life.started
        self.in_recovery += len(left) > len(owed) / 4  # else it was as good as over when the signal came
        self.owed |= left
        self.lives.prepare_next()

    def kill_at_work(self) -> None:
        """One life, killed at a random moment."""
        life, lasts_s = self.lives.begin(), self.chance.uniform(0.0, LONGEST_S)
        self.lives.until(lambda: len(life.on_stage) >= IN_FLIGHT, f"{IN_FLIGHT} attempts in flight")
        until_ns = now_ns() + int(lasts_s * 1e9)
        self.lives.prepare_next()
        self.lives.until(lambda: now_ns() >= until_ns and len(life.on_stage) >= IN_FLIGHT, "a random moment")
        self._kill(life)

    def _kill(self, life: Life) -> None:
        self.lives.kill()
        if len(life.on_stage) >= IN_FLIGHT:  # else one more life makes up for it: some ended while the signal was sent
            self.in_flight.append(len(life.on_stage))
        self.owed = set(life.on_stage)


def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    I1 I2 I4 I10 to I18 I20 I27 I33: killed 25 times with 20 attempts in flight or more, 5 times while it still recovers,
    it keeps every acknowledged call, numbers attempts without gaps, ends every run once, and starts no handler whose
    attempt is not durable.
    """
    story_of(KILLS, IN_RECOVERY, tmp_path, capsys)


@pytest.mark.slow
def test_kill_9_at_very_many_random_moments_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same twenty times over, on one store."""
    story_of(20 * KILLS, 20 * IN_RECOVERY, tmp_path, capsys)


def test_more_runs_than_one_page_are_rescued(tmp_path: Path) -> None:
    """P8: killed with 2,500 attempts in flight, and again while it takes them back page by page, it finishes them all."""
    with Lives(tmp_path, some_seed()) as lives:
        for crowd, enough in ((2_600, 2_500), (0, 600)):
            life = lives.begin(crowd=crowd, slots=3_000)
            lives.prepare_next()
            lives.until(lambda: len(life.on_stage) >= enough, f"{enough} attempts in flight")  # noqa: B023 -- called at once
            lives.kill()
        lives.begin(finish=True, slots=3_000)
        status = lives.wait()
    evidence = gather(tmp_path, lives.killed, ended=True)

    assert status == 0, lives.said()
    assert [] == violations(evidence)


def story_of(kills: int, in_recovery: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tell it, and judge it."""
    seed = some_seed()
    chance = random.Random(seed)
    with capsys.disabled():
        sys.stdout.write(f"\nkill -9: CALLSHEET_SEED={seed}\n")

    with Lives(folder, seed) as lives:
        story = Story(lives, chance)
        while len(story.in_flight) < kills or story.in_recovery < SURELY * in_recovery:
            wanted, left = SURELY * in_recovery - story.in_recovery, max(1, kills - len(story.in_flight))
            aimed = bool(story.owed) and chance.random() < wanted / left
            (story.kill_in_recovery if aimed else story.kill_at_work)()
            assert len(lives.killed) < 3 * kills, f"no recovery is slow enough to be hit: {story.in_recovery}"
        lives.begin(finish=True)
        status = lives.wait()
    evidence = gather(folder, lives.killed, ended=True)

    counts, found = reached(evidence), recovery(evidence, lives.began_ns)
    with capsys.disabled():
        sys.stdout.write(
            f"  {len(lives.killed)} kills, {found.cut_short} in recovery; attempts in flight {spread(story.in_flight)}\n"
            f"  from code loaded to first rescued run {spread(found.first_s)} s, to all {spread(found.all_s)} s\n"
            f"  {dict(sorted(counts.items()))}\n"
        )
    assert status == 0, lives.said()
    assert [] == violations(evidence)
    assert in_recovery <= found.cut_short
    for what in ("unanswered", "deduped", "delayed", "cancels", "replays", "attempt crashed", "attempt failed"):
        assert counts[what] > 0, f"the workload never had: {what}"
