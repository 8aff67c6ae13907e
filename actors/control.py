"""
What a handler raises to say how its attempt shall end.

Rule: these are control flow, not failures: each says exactly one thing, and its numbers are checked when it is made.
"""

from __future__ import annotations

from typing import Final

from ..store.errors import CallsheetError
from ..store.policy import MAX_DELAY_S, Seconds, seconds

MAX_SNOOZE_S: Final = 10 * 365 * 86_400.0


class Control(CallsheetError):
    """Base of Discard, RetryAfter and Snooze."""


class Discard(Control):
    """Dead-letter this run now: no further attempt would help. `reason` is kept as the cause (at most 1,000 characters)."""

    def __init__(self, reason: str = "discarded") -> None:
        self.reason = str(reason)[:1_000] or "discarded"
        super().__init__(self.reason)


class RetryAfter(Control):
    """This attempt failed and spends a try; the next one comes after `delay` seconds (0 … 86,400), whatever the policy says."""

    def __init__(self, delay: Seconds, reason: str = "") -> None:
        self.delay_s = seconds(delay, "RetryAfter", most=MAX_DELAY_S)
        self.reason = str(reason)[:1_000]
        super().__init__(self.reason or f"retry after {self.delay_s:g} s")


class Snooze(Control):
    """Not yet: run again after `delay` seconds (0 … 10 years) without spending a try."""

    def __init__(self, delay: Seconds) -> None:
        self.delay_s = seconds(delay, "Snooze", most=MAX_SNOOZE_S)
        super().__init__(f"snoozed for {self.delay_s:g} s")


class AttemptStopped(BaseException):
    """
    Raised in a handler that runs in a thread when it asks whether it was told to stop, and it was. Let it through.

    A BaseException, as Cancelled is: whoever catches every Exception must not keep it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        """"timed_out", "canceled", or "interrupted" (the runtime stops)."""
        super().__init__(f"the attempt was told to stop: {reason}")
