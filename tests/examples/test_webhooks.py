"""The example says what its text says."""

import subprocess
import sys
from pathlib import Path
from typing import Final

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "webhooks.py"

ENDED: Final = """\
webhook:/fine:evt-1: succeeded (succeeded)
webhook:/flaky:evt-2: succeeded (failed, failed, succeeded)
webhook:/busy:evt-3: succeeded (failed, succeeded)
webhook:/gone:evt-4: dead_lettered (discarded)
webhook:/later:evt-5: succeeded (succeeded)
"""

FIRST: Final = f"""\
evt-1 to /fine: accepted
evt-2 to /flaky: accepted
evt-3 to /busy: accepted
evt-4 to /gone: accepted
evt-5 to /later: accepted
evt-1 to /fine: known already
{ENDED}"""

AGAIN: Final = FIRST.replace("accepted", "known already")


def test_the_webhooks_example_delivers_and_remembers(tmp_path: Path) -> None:
    """Each delivery ends as its receiver decides; run again, the program knows them all and delivers none."""
    command = [sys.executable, "-W", "error", str(EXAMPLE)]

    first, again = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False) for _ in range(2)
    ]

    failures = [line for line in first.stderr.splitlines() if line.startswith("run ")]  # records of the log
    assert (0, FIRST, failures) == (first.returncode, first.stdout, first.stderr.splitlines())
    assert (0, AGAIN, "") == (again.returncode, again.stdout, again.stderr)


def test_the_example_is_short() -> None:
    """What is to be copied fits two screens."""
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 120
