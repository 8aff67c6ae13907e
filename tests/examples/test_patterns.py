"""The five patterns print what they are about."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

PATTERNS: Final = Path(__file__).parents[2] / "examples" / "patterns"
PATIENCE_S: Final = 60
"""A program that is silent for so long hangs: the test fails, and says so."""

ONE_OFF: Final = """\
requested: queued
succeeded after 1 attempt: anna.jpg at 320 pixels
"""

DELAYED: Final = """\
your appointment begins: scheduled, waits for time
your appointment is near: scheduled, waits for time
you have missed it: scheduled, waits for time
reminder: your appointment is near
reminder: your appointment begins
succeeded after 1 attempts
succeeded after 1 attempts
canceled after 0 attempts
"""

RETRYING: Final = """\
bank: succeeded (10)
  attempt 1: failed, ConnectionError: no answer
  attempt 2: failed, RetryAfter: asked us to wait
  attempt 3: succeeded
shop: dead_lettered (the account is closed)
  attempt 1: discarded, Discard: the account is closed
post: dead_lettered (4 of 4 attempts spent)
  attempt 1: failed, ConnectionError: no answer
  attempt 2: failed, ConnectionError: no answer
  attempt 3: failed, ConnectionError: no answer
  attempt 4: failed, ConnectionError: no answer
"""

MANAGED_RUN: Final = """\
June: 1 of 1 slots of queue example/reports-jobs are taken.
June: canceled (canceled: not needed)
May: dead_lettered (1 of 1 attempts spent); LookupError was raised
May, once more (the figures are there): report of May
May: still dead_lettered, replayed 1 time
"""

WEBHOOK_DELIVERY: Final = """\
evt-1 to /fine: queued
evt-1 to /flaky: queued
evt-1 to /gone: queued
evt-1 to /broken: queued
evt-1 to /fine: known already
webhook:/fine:evt-1: succeeded, 1 requests, all of this run: True
webhook:/flaky:evt-1: succeeded, 3 requests, all of this run: True
webhook:/gone:evt-1: succeeded, 1 requests, all of this run: True
webhook:/broken:evt-1: dead_lettered, 4 requests, all of this run: True
disabled: {'/gone'}
"""

SAID: Final = {
    "one_off": ONE_OFF,
    "delayed": DELAYED,
    "retrying": RETRYING,
    "managed_run": MANAGED_RUN,
    "webhook_delivery": WEBHOOK_DELIVERY,
}


def warnings(stderr: str) -> list[str]:
    """What stands there beside the records of runs that fail, which is what some patterns are about."""
    return [line for line in stderr.splitlines() if not line.startswith("run ")]


@pytest.mark.parametrize("name", SAID)
def test_a_pattern_prints_what_it_is_about(name: str, tmp_path: Path) -> None:
    """L116: it ends by itself, with this output and no warning, and leaves nothing behind."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PATTERNS / f"{name}.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PATTERNS.parents[1])},
    )

    assert (0, SAID[name], []) == (done.returncode, done.stdout, warnings(done.stderr))
    assert [] == list(tmp_path.iterdir())


def test_every_pattern_is_here_and_short() -> None:
    """What is to be copied fits a screen; the one that plays its own receivers, two."""
    lines = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in PATTERNS.glob("*.py")}

    assert set(SAID) == set(lines)
    assert [] == [name for name, n in lines.items() if n > (100 if name == "webhook_delivery" else 60)]
