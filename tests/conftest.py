"""What all tests share: how hypothesis behaves, and that a Ctrl-C is heard."""

from __future__ import annotations

import signal

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
