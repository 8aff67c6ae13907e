"""What all tests share: how hypothesis behaves, that a Ctrl-C is heard, and what would be done again and again for nothing."""

from __future__ import annotations

import gc
import os
import signal
import sys

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


def pytest_collection_finish() -> None:
    """What was collected stays until the end: looking through it at each collection of garbage took a fifth of the tests' time."""
    gc.collect()
    gc.freeze()
