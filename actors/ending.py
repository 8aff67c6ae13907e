"""
From what a handler did to an Outcome: which exception means what.

Rule: pure, and total: anything that can be raised has an outcome, out of exception groups too (their leaves decide).
Not here: what follows from an outcome (`store.policy.judge`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..store.codec import describe, encode
from ..store.errors import PayloadInvalid, PayloadTooLarge
from ..store.policy import RetryPolicy, microseconds
from ..store.records import Error, Outcome, OutcomeKind
from .control import Discard, RetryAfter, Snooze

MAX_LEAVES: Final = 1_000
"""Leaves of an exception group that are looked at; more only cost time."""

_SUCCEEDED: Final = Outcome(OutcomeKind.SUCCEEDED)


def of_value(value: object) -> Outcome:
    """The outcome of a handler that returned; a value that cannot be kept leaves it succeeded, with a `result_error`."""
    if value is None:
        return _SUCCEEDED
    try:
        return Outcome(OutcomeKind.SUCCEEDED, result=encode(value, what="result"))
    except (PayloadInvalid, PayloadTooLarge) as error:
        return Outcome(OutcomeKind.SUCCEEDED, result_error=str(error))


def of_exception(error: BaseException, policy: RetryPolicy) -> Outcome:
    """The outcome of a handler that raised."""
    leaves = list(_leaves(error))
    snoozes = [leaf for leaf in leaves if isinstance(leaf, Snooze)]
    if snoozes and len(snoozes) == len(leaves):
        return Outcome(OutcomeKind.SNOOZED, delay_us=microseconds(max(each.delay_s for each in snoozes)))
    for leaf in leaves:
        if isinstance(leaf, Discard):
            return Outcome(OutcomeKind.DISCARDED, error=describe(error), cause=leaf.reason)
    waits = [leaf.delay_s for leaf in leaves if isinstance(leaf, RetryAfter)]
    if waits:
        return Outcome(OutcomeKind.FAILED, error=describe(error), delay_us=microseconds(max(waits)))
    return Outcome(OutcomeKind.FAILED, error=describe(error), retryable=_retryable(leaves, policy))


def of_timeout(timeout_s: float, policy: RetryPolicy) -> Outcome:
    """The outcome of a handler that was told to stop when its time was over, and has ended."""
    error = TimeoutError(f"the attempt took longer than its timeout of {timeout_s:g} s")
    return Outcome(
        OutcomeKind.TIMED_OUT, error=Error("TimeoutError", str(error)), retryable=_retryable([error], policy)
    )


def of_unreadable(error: BaseException) -> Outcome:
    """The outcome of an attempt whose payload its task's type refuses."""
    return Outcome(OutcomeKind.UNREADABLE, error=describe(error), cause="unreadable")


def _retryable(leaves: list[BaseException], policy: RetryPolicy) -> bool:
    if policy.never and any(isinstance(leaf, policy.never) for leaf in leaves):
        return False
    return policy.on is None or all(isinstance(leaf, policy.on) for leaf in leaves)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], 0
    while waiting and seen < MAX_LEAVES:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))
        else:
            seen += 1
            yield each
