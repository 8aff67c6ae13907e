"""
What follows from the end of an attempt: retry policies, and `judge`, which applies one.

Rule: pure. `now` and the random draw are arguments, so a test can try every boundary.
Not here: which exception means what (`actors/run.py`); which change is legal (`lifecycle`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, Protocol, TypeAlias

from attrs import field, frozen

from .records import Clock, Move, Outcome, OutcomeKind, Verdict

SECOND_US: Final = 1_000_000
MAX_DELAY_S: Final = 86_400.0
"""No wait between attempts is longer than a day, whatever a policy says."""
MAX_ATTEMPTS: Final = 10_000
"""Limit of `Retry.attempts`; beyond it a run is not retried but kept for ever."""
UNREADABLE_WAIT_S: Final = 60
"""How long a run whose payload nobody here can read waits for somebody who can."""
DEATHS_BEFORE_SUSPECT: Final = 3
"""
Deaths of the process in a row under a run that put it under quarantine: at most one such run is on stage at a
time.
"""
DEATHS_BEFORE_POISON: Final = 5
"""
Deaths of the process in a row, with no attempt ended between, that dead-letter a run: 3 make a suspect, 2
more end it.
"""

Seconds: TypeAlias = "float | int | timedelta"
BackoffName: TypeAlias = Literal["fixed", "exponential"]


def seconds(value: object, what: str, *, least: float = 0.0, most: float = math.inf) -> float:
    """
    `value` (a number of seconds or a timedelta) as a float.

    Raises TypeError for anything else, and ValueError when it is not finite or outside `least` … `most`; both
    name `what`.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds or a timedelta, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, not {number}")
    if not least <= number <= most:
        bound = (
            f"at least {least:.15g}" if number < least else f"at most {most:.15g}"
        )  # all digits: it may lack one second
        raise ValueError(f"{what} must be {bound} seconds, not {number:.15g}")
    return number


def microseconds(value_s: float) -> int:
    """Rounded, not cut: 2.3 s are 2,300,000 us, though 2.3 * 1e6 is a little less, and nothing is to be early."""
    return round(value_s * SECOND_US)


def _delays(value: Sequence[Seconds]) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"Custom(delays) must be a sequence of seconds, not {type(value).__name__}")
    if not value:
        raise ValueError("Custom(delays) needs at least one delay")
    return tuple(seconds(each, f"Custom delay {i + 1}", most=MAX_DELAY_S) for i, each in enumerate(value))


@frozen
class Custom:
    """
    Backoff by a list: the n-th entry is the delay after the n-th spent try; the last repeats. In seconds, at
    most a day.
    """

    delays: tuple[float, ...] = field(converter=_delays)


Backoff: TypeAlias = "BackoffName | Custom"


def _initial_delay(value: Seconds | None) -> float | None:
    return None if value is None else seconds(value, "Retry(initial_delay)", most=MAX_DELAY_S)


def _max_delay(value: Seconds | None) -> float | None:
    return None if value is None else seconds(value, "Retry(max_delay)", most=MAX_DELAY_S)


def _kinds(value: object) -> tuple[type[BaseException], ...] | None:
    if value is None:
        return None
    kinds = value if isinstance(value, tuple | list) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"Retry(on=…, never=…) takes exception classes, not {kind!r}")
    return tuple(kinds)


@frozen
class Retry:
    """
    How failed attempts of a run are followed by others.

    Every field may be left out (None); a task's policy is merged over its instance's field by field, and what
    both leave out comes from `DEFAULT_RETRY`: 5 attempts, exponential, 5 s, at most 300 s, no jitter.

    attempts: tries in all, the first one included (1 … 10,000).
    backoff: "fixed" (the initial delay each time), "exponential" (initial · 2^(n-1) after the n-th spent try)
        or `Custom([…])`.
    initial_delay: seconds before the second try (0 … 86,400).
    max_delay: upper bound in seconds (0 … 86,400). It bounds fixed and custom delays only when it is given
        together with `backoff` in the same Retry.
    jitter: a fraction (0 … 1): the delay is lengthened at random by up to this part of it, never beyond the
        bound.
    on: retry only these exception classes; a timeout matches TimeoutError.
    never: do not retry these.

    Raises TypeError or ValueError that names the field.
    """

    attempts: int | None = None
    backoff: Backoff | None = None
    initial_delay: float | None = field(default=None, converter=_initial_delay)
    max_delay: float | None = field(default=None, converter=_max_delay)
    jitter: float | None = None
    on: tuple[type[BaseException], ...] | None = field(default=None, converter=_kinds)
    never: tuple[type[BaseException], ...] | None = field(default=None, converter=_kinds)

    def __attrs_post_init__(self) -> None:
        if self.attempts is not None:
            check_attempts(self.attempts, "Retry(attempts)")
        if not (self.backoff is None or isinstance(self.backoff, Custom) or self.backoff in ("fixed", "exponential")):
            raise ValueError(f'Retry(backoff) must be "fixed", "exponential" or Custom([…]), not {self.backoff!r}')
        if self.jitter is not None:
            _check_part(self.jitter, "Retry(jitter)")


def _check_part(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} must be a number from 0 to 1, not {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{what} must be a number from 0 to 1: a part of the wait, by which it may be longer")


def check_attempts(value: object, what: str) -> int:
    """`value` as a number of attempts. Raises TypeError or ValueError that names `what`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not 1 <= value <= MAX_ATTEMPTS:
        raise ValueError(f"{what} must be 1 to {MAX_ATTEMPTS:,}, not {value}")
    return value


@frozen
class RetryPolicy:
    """A Retry with nothing left open: what `judge` applies, and what `Jobs.config` shows."""

    attempts: int = 5
    backoff: Backoff = "exponential"
    initial_delay: float = 5.0
    max_delay: float = 300.0
    bounded: bool = False
    """Whether `max_delay` bounds fixed and custom delays too."""
    jitter: float = 0.0
    on: tuple[type[BaseException], ...] | None = None
    never: tuple[type[BaseException], ...] = ()

    def over(self, retry: Retry | None) -> RetryPolicy:
        """This policy with the fields that `retry` gives put over it."""
        if retry is None:
            return self
        backoff = self.backoff if retry.backoff is None else retry.backoff
        return RetryPolicy(
            attempts=self.attempts if retry.attempts is None else retry.attempts,
            backoff=backoff,
            initial_delay=self.initial_delay if retry.initial_delay is None else retry.initial_delay,
            max_delay=self.max_delay if retry.max_delay is None else retry.max_delay,
            # a bound said for one backoff is not meant for another one that replaces it
            bounded=self.bounded if retry.backoff is None else retry.max_delay is not None,
            jitter=self.jitter if retry.jitter is None else float(retry.jitter),
            on=self.on if retry.on is None else retry.on,
            never=self.never if retry.never is None else retry.never,
        )

    def delay_s(self, spent: int, draw: float = 0.0) -> float:
        """
        Seconds to wait after the `spent`-th spent try (1, 2, …), with `draw` (0 … 1) for the jitter.

        Always finite, never over a day. Exponential: initial · 2^(n-1), as everywhere; jitter is added, then
        bounded.
        """
        if isinstance(self.backoff, Custom):
            delay = self.backoff.delays[min(spent, len(self.backoff.delays)) - 1]
        elif self.backoff == "exponential":
            delay = self.initial_delay * 2.0 ** min(spent - 1, 1000)  # 2.0**1024 would overflow
        else:
            delay = self.initial_delay
        bound = self.max_delay if self.bounded or self.backoff == "exponential" else MAX_DELAY_S
        return min(delay * (1.0 + self.jitter * draw), bound, MAX_DELAY_S)


DEFAULT_RETRY: Final = RetryPolicy()


class Tried(Protocol):
    """What `judge` needs to know of a run: `Run` and `Claimed` both tell it."""

    @property
    def spent(self) -> int:
        """Tries used up before this attempt."""

    @property
    def deaths(self) -> int:
        """Deaths of the process in a row before this attempt."""

    @property
    def max_attempts(self) -> int:
        """As stored with the run."""


_SUCCEED: Final = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)


def judge(run: Tried, outcome: Outcome, policy: RetryPolicy, now_us: int, draw: float = 0.0) -> Verdict:
    """
    What becomes of `run` after an attempt that ended with `outcome`.

    now_us: the steady clock. draw: a random number 0 … 1 for the jitter. Pure; the store applies the verdict.
    """
    kind = outcome.kind
    if kind is OutcomeKind.SUCCEEDED:
        if outcome.result is None and outcome.result_error is None:
            return _SUCCEED
        return Verdict(Move.SUCCEED, kind, result=outcome.result, result_error=outcome.result_error)
    if kind is OutcomeKind.INTERRUPTED:
        return Verdict(Move.HAND_BACK, kind, error=outcome.error, cause=outcome.cause or "interrupted")
    if kind is OutcomeKind.SNOOZED:
        return _again(Move.SNOOZE, outcome, now_us + (outcome.delay_us or 0), "snoozed")
    if kind is OutcomeKind.UNREADABLE:
        return _again(Move.SNOOZE, outcome, now_us + UNREADABLE_WAIT_S * SECOND_US, "unreadable")
    if kind is OutcomeKind.DISCARDED:
        return Verdict(Move.DISCARD, kind, error=outcome.error, cause=outcome.cause or "discarded")
    if kind is OutcomeKind.CRASHED or kind is OutcomeKind.LEASE_LOST:
        return _rescued(run, outcome)
    if kind is OutcomeKind.CANCELED:
        return Verdict(Move.CANCEL, kind, error=outcome.error, cause=outcome.cause or "canceled")
    return _failed(run, outcome, policy, now_us, draw)


def _failed(run: Tried, outcome: Outcome, policy: RetryPolicy, now_us: int, draw: float) -> Verdict:
    if not outcome.retryable:
        return Verdict(Move.DISCARD, outcome.kind, error=outcome.error, cause="not_retryable")
    spent = run.spent + 1
    if spent >= run.max_attempts:
        return Verdict(
            Move.EXHAUST,
            outcome.kind,
            error=outcome.error,
            cause=f"{spent} of {run.max_attempts} attempts spent",
        )
    wait_us = outcome.delay_us if outcome.delay_us is not None else microseconds(policy.delay_s(spent, draw))
    return _again(Move.RETRY, outcome, now_us + wait_us, str(outcome.kind))


def _rescued(run: Tried, outcome: Outcome) -> Verdict:
    if outcome.kind is OutcomeKind.CRASHED and run.deaths + 1 >= DEATHS_BEFORE_POISON:
        return Verdict(
            Move.POISON,
            outcome.kind,
            error=outcome.error,
            cause=f"poisoned: {run.deaths + 1} crashes in a row",
        )
    return Verdict(Move.RESCUE, outcome.kind, error=outcome.error, cause=outcome.cause or str(outcome.kind))


def _again(move: Move, outcome: Outcome, due_us: int, cause: str) -> Verdict:
    return Verdict(
        move,
        outcome.kind,
        due_us=due_us,
        clock=Clock.STEADY,
        error=outcome.error,
        cause=outcome.cause or cause,
    )
