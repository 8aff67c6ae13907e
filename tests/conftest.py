"""What all tests share: how hypothesis behaves."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline: a test never asserts on a duration. Derandomized: a test that passed once passes again.
settings.register_profile(
    "callsheet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("callsheet")
