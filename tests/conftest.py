"""What all tests share: how hypothesis behaves, that a Ctrl-C is heard, and what would be done again and again for nothing."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a test never asserts on a duration. Derandomized: a test that passed once passes again.
settings.register_profile(
    "callsheet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("callsheet")

# Whoever starts a program in the background lets it ignore SIGINT, and with it all programs that it starts: then no test of
# a Ctrl-C could end, or prove anything.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tests start hundreds of processes, and each would compile the whole package first where no bytecode may be kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


FIRST: Final = (
    "real/test_kill.py",
    "real/test_signals.py",
    "real/test_page.py",
    "real/test_demo.py",
    "real/test_hammer.py",
    "real/",
    "examples/",
    "cli/test_processes.py",
    "cli/test_terminal.py",
    "monitor/test_feed.py",
)
"""Those that wait most, the longest first: what others do meanwhile costs no time, and none of them is left for the end."""


@pytest.hookimpl(optionalhook=True)  # without xdist there is no such hook
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: a test that waits for a process or a browser needs none."""
    mine = os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1)
    return len(mine) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these before all others."""
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return next((n for n, each in enumerate(FIRST) if name.startswith(each)), len(FIRST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """
    Leave what was collected out of all collections of garbage: it stays until the end, and `test_random_deaths` spent a fifth
    of its processor time on looking through it again and again.
    """
    gc.collect()
    gc.freeze()
