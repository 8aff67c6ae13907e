"""What follows from a failure: every boundary of `Retry`, `RetryPolicy` and `judge`."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from callsheet.store.lifecycle import MOVES
from callsheet.store.policy import (
    DEFAULT_RETRY,
    MAX_ATTEMPTS,
    MAX_DELAY_S,
    SECOND_US,
    Custom,
    Retry,
    RetryPolicy,
    check_attempts,
    judge,
    seconds,
)
from callsheet.store.records import SPENDING, Clock, Error, Move, Outcome, OutcomeKind, Status, Verdict

NOW = 1_700_000_000 * SECOND_US
BOOM = Error("ValueError", "boom")


@frozen
class Run:
    spent: int = 0
    deaths: int = 0
    max_attempts: int = 5


# ---------------------------------------------------------------- Retry


@pytest.mark.parametrize(
    ("fields", "error", "sentence"),
    [
        ({"attempts": 0}, ValueError, r"Retry\(attempts\) must be 1 to 10,000, not 0"),
        ({"attempts": 10_001}, ValueError, r"Retry\(attempts\) must be 1 to 10,000, not 10001"),
        ({"attempts": -1}, ValueError, "not -1"),
        ({"attempts": True}, TypeError, r"Retry\(attempts\) must be an int, not bool"),
        ({"attempts": 2.0}, TypeError, "not float"),
        ({"backoff": "linear"}, ValueError, r'Retry\(backoff\) must be "fixed", "exponential" or Custom'),
        ({"initial_delay": -0.001}, ValueError, r"Retry\(initial_delay\) must be at least 0 seconds"),
        ({"initial_delay": 86_400.001}, ValueError, r"Retry\(initial_delay\) must be at most 86400 seconds"),
        ({"initial_delay": math.nan}, ValueError, "must be finite, not nan"),
        ({"initial_delay": math.inf}, ValueError, "must be finite, not inf"),
        ({"initial_delay": 10**400}, ValueError, "must be finite, not inf"),
        ({"initial_delay": "5"}, TypeError, "must be a number of seconds or a timedelta, not str"),
        ({"initial_delay": True}, TypeError, "not bool"),
        ({"initial_delay": timedelta(days=-1)}, ValueError, "at least 0"),
        ({"max_delay": -1}, ValueError, r"Retry\(max_delay\)"),
        ({"max_delay": timedelta(days=1, microseconds=1)}, ValueError, r"Retry\(max_delay\) must be at most 86400"),
        ({"jitter": -0.1}, ValueError, r"Retry\(jitter\)"),
        ({"jitter": 1.01}, ValueError, r"Retry\(jitter\)"),
        ({"on": "ValueError"}, TypeError, "takes exception classes, not 'ValueError'"),
        ({"never": (ValueError, int)}, TypeError, "takes exception classes"),
        ({"never": ValueError()}, TypeError, "takes exception classes"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(fields: dict[str, Any], error: type[Exception], sentence: str) -> None:
    """The error names the field and what it may be."""
    with pytest.raises(error, match=sentence):
        Retry(**fields)


def test_a_retry_at_its_limits() -> None:
    """The bounds themselves are allowed; seconds may be a timedelta; one class may stand for a tuple."""
    retry = Retry(
        attempts=MAX_ATTEMPTS, initial_delay=timedelta(hours=24), max_delay=MAX_DELAY_S, jitter=1, on=OSError, never=[]
    )

    assert (retry.initial_delay, retry.max_delay) == (86_400.0, 86_400.0)
    assert (retry.on, retry.never) == ((OSError,), ())
    assert Retry(attempts=1, initial_delay=0, max_delay=0, jitter=0).initial_delay == 0.0


@pytest.mark.parametrize("delays", [[], "123", 5, [1, -1], [math.nan], [86_401], ["1"]])
def test_custom_delays_that_make_no_sense(delays: Any) -> None:
    """An empty list, a string, and each entry that is no delay."""
    with pytest.raises((TypeError, ValueError)):
        Custom(delays)


def test_custom_delays_are_seconds() -> None:
    """Numbers and timedeltas."""
    assert Custom([1, timedelta(minutes=1), 0.5]).delays == (1.0, 60.0, 0.5)


def test_seconds_names_what_it_is_about() -> None:
    """It is used for every delay that users type."""
    assert seconds(3, "x") == 3.0
    with pytest.raises(ValueError, match=r"timeout must be at least 1 seconds, not 0.5"):
        seconds(0.5, "timeout", least=1)


def test_check_attempts() -> None:
    """Also used for `max_attempts` of one run."""
    assert check_attempts(1, "max_attempts") == 1
    with pytest.raises(ValueError, match="max_attempts must be 1 to 10,000"):
        check_attempts(0, "max_attempts")


# ---------------------------------------------------------------- merging


def test_the_default() -> None:
    """5 attempts, exponential, 5 s, at most 300 s, no jitter."""
    assert Retry() == Retry(None, None, None, None, None, None, None)
    assert DEFAULT_RETRY.over(None) is DEFAULT_RETRY
    assert DEFAULT_RETRY.over(Retry()) == DEFAULT_RETRY
    assert RetryPolicy(5, "exponential", 5.0, 300.0, bounded=False, jitter=0.0, on=None, never=()) == DEFAULT_RETRY


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 8),
        ("backoff", "fixed"),
        ("backoff", Custom([1])),
        ("initial_delay", 0.0),
        ("max_delay", 0.0),
        ("jitter", 0.5),
        ("jitter", 0),
        ("on", (OSError,)),
        ("never", (KeyError,)),
    ],
)
def test_a_task_overrides_field_by_field(name: str, value: Any) -> None:
    """What the task leaves out stays its instance's; a zero is not left out."""
    instance = RetryPolicy(3, "exponential", 7.0, 70.0, jitter=0.25, on=(ValueError,), never=(TypeError,))

    merged = instance.over(Retry(**{name: value}))

    assert merged == evolve(instance, **{name: value})


def test_a_bound_belongs_to_the_backoff_it_was_given_with() -> None:
    """`max_delay` bounds fixed and custom delays only when the same Retry gives both."""
    both = DEFAULT_RETRY.over(Retry(backoff=Custom([50]), max_delay=10))
    apart = DEFAULT_RETRY.over(Retry(max_delay=10)).over(Retry(backoff=Custom([50])))
    fixed = DEFAULT_RETRY.over(Retry(backoff="fixed", initial_delay=400))
    kept = both.over(Retry(attempts=2))
    replaced = both.over(Retry(backoff="fixed", initial_delay=50))

    assert [policy.delay_s(1) for policy in (both, apart, fixed, kept, replaced)] == [10, 50, 400, 10, 50]


# ---------------------------------------------------------------- delays


def test_exponential() -> None:
    """initial · 2^(n-1) after the n-th spent try, bounded."""
    policy = RetryPolicy(initial_delay=5, max_delay=300)

    assert [policy.delay_s(n) for n in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]


def test_fixed() -> None:
    """The initial delay each time, whatever `max_delay` the default has."""
    policy = RetryPolicy(backoff="fixed", initial_delay=500, max_delay=300)

    assert [policy.delay_s(n) for n in (1, 2, 10_000)] == [500, 500, 500]


def test_custom() -> None:
    """The n-th entry after the n-th spent try; the last repeats."""
    policy = RetryPolicy(backoff=Custom([10, 30, 0, 900]))

    assert [policy.delay_s(n) for n in range(1, 7)] == [10, 30, 0, 900, 900, 900]


def test_jitter_lengthens_by_up_to_its_fraction_and_never_beyond_the_bound() -> None:
    """The draw is given, so that the same seed gives the same delays."""
    policy = RetryPolicy(initial_delay=100, max_delay=125, jitter=0.5)

    assert [policy.delay_s(1, draw) for draw in (0.0, 0.25, 0.5, 1.0)] == [100, 112.5, 125, 125]


@pytest.mark.parametrize("backoff", ["fixed", "exponential", Custom([1, 86_400])])
def test_i32_nothing_overflows_at_attempt_10_000(backoff: Any) -> None:
    """However often it failed, the wait is a number of at most a day."""
    policy = RetryPolicy(backoff=backoff, initial_delay=86_400, max_delay=86_400, jitter=1)

    for spent in (1, 1023, 1024, 1025, 10_000, 10**9):
        assert policy.delay_s(spent, 1.0) == (86_400 if spent > 1 or backoff != Custom([1, 86_400]) else 2)


delays = st.floats(0, MAX_DELAY_S)


@given(
    retry=st.builds(
        Retry,
        backoff=st.none() | st.sampled_from(["fixed", "exponential"]) | st.builds(Custom, st.lists(delays, min_size=1)),
        initial_delay=st.none() | delays,
        max_delay=st.none() | delays,
        jitter=st.none() | st.floats(0, 1),
    ),
    spent=st.integers(1, 20_000),
    draw=st.floats(0, 1),
)
def test_i32_every_delay_is_within_its_bound(retry: Retry, spent: int, draw: float) -> None:
    """0 … bound, finite, and jitter never shortens it."""
    policy = DEFAULT_RETRY.over(retry)
    bounded = policy.backoff == "exponential" or (retry.backoff is not None and retry.max_delay is not None)

    delay = policy.delay_s(spent, draw)

    assert 0 <= policy.delay_s(spent, 0.0) <= delay <= (policy.max_delay if bounded else MAX_DELAY_S)


# ---------------------------------------------------------------- judge


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (Outcome(OutcomeKind.SUCCEEDED), Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)),
        (
            Outcome(OutcomeKind.SUCCEEDED, result=b"1"),
            Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result=b"1"),
        ),
        (
            Outcome(OutcomeKind.SUCCEEDED, result_error="too large"),
            Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result_error="too large"),
        ),
        (
            Outcome(OutcomeKind.FAILED, BOOM),
            Verdict(Move.RETRY, OutcomeKind.FAILED, NOW + 5 * SECOND_US, Clock.STEADY, BOOM, cause="failed"),
        ),
        (
            Outcome(OutcomeKind.TIMED_OUT, BOOM),
            Verdict(Move.RETRY, OutcomeKind.TIMED_OUT, NOW + 5 * SECOND_US, Clock.STEADY, BOOM, cause="timed_out"),
        ),
        (
            Outcome(OutcomeKind.FAILED, delay_us=7, cause="busy"),
            Verdict(Move.RETRY, OutcomeKind.FAILED, NOW + 7, Clock.STEADY, cause="busy"),
        ),
        (
            Outcome(OutcomeKind.FAILED, delay_us=0),
            Verdict(Move.RETRY, OutcomeKind.FAILED, NOW, Clock.STEADY, cause="failed"),
        ),
        (
            Outcome(OutcomeKind.FAILED, BOOM, retryable=False),
            Verdict(Move.DISCARD, OutcomeKind.FAILED, error=BOOM, cause="not_retryable"),
        ),
        (
            Outcome(OutcomeKind.DISCARDED, BOOM, cause="gone"),
            Verdict(Move.DISCARD, OutcomeKind.DISCARDED, error=BOOM, cause="gone"),
        ),
        (Outcome(OutcomeKind.DISCARDED), Verdict(Move.DISCARD, OutcomeKind.DISCARDED, cause="discarded")),
        (
            Outcome(OutcomeKind.SNOOZED, delay_us=9),
            Verdict(Move.SNOOZE, OutcomeKind.SNOOZED, NOW + 9, Clock.STEADY, cause="snoozed"),
        ),
        (
            Outcome(OutcomeKind.SNOOZED),
            Verdict(Move.SNOOZE, OutcomeKind.SNOOZED, NOW, Clock.STEADY, cause="snoozed"),
        ),
        (
            Outcome(OutcomeKind.UNREADABLE, BOOM),
            Verdict(Move.SNOOZE, OutcomeKind.UNREADABLE, NOW + 60 * SECOND_US, Clock.STEADY, BOOM, cause="unreadable"),
        ),
        (
            Outcome(OutcomeKind.INTERRUPTED),
            Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED, cause="interrupted"),
        ),
        (Outcome(OutcomeKind.CANCELED), Verdict(Move.CANCEL, OutcomeKind.CANCELED, cause="canceled")),
        (
            Outcome(OutcomeKind.CRASHED),
            Verdict(Move.RESCUE, OutcomeKind.CRASHED, cause="crashed"),
        ),
        (
            Outcome(OutcomeKind.LEASE_LOST),
            Verdict(Move.RESCUE, OutcomeKind.LEASE_LOST, cause="lease_lost"),
        ),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Outcome) else "",
)
def test_every_kind_of_outcome(outcome: Outcome, verdict: Verdict) -> None:
    """What a first attempt leads to, with the default policy."""
    assert judge(Run(), outcome, DEFAULT_RETRY, NOW) == verdict


def test_every_outcome_is_judged_and_every_verdict_is_possible() -> None:
    """No kind is forgotten; the move is one that a running run has."""
    for kind in OutcomeKind:
        assert judge(Run(), Outcome(kind), DEFAULT_RETRY, NOW).move in MOVES[Status.RUNNING]


def test_plain_successes_share_one_verdict() -> None:
    """A store writes those with the very same verdict as one set."""
    one, two = (judge(Run(), Outcome(OutcomeKind.SUCCEEDED), DEFAULT_RETRY, NOW + n) for n in range(2))

    assert one is two


def test_only_failed_and_timed_out_spend() -> None:
    """Whatever a run is not to blame for costs it nothing."""
    spending = {kind for kind in OutcomeKind if Verdict(Move.RETRY, kind).spends}

    assert spending == SPENDING == {OutcomeKind.FAILED, OutcomeKind.TIMED_OUT}


@pytest.mark.parametrize("kind", [OutcomeKind.FAILED, OutcomeKind.TIMED_OUT])
def test_the_last_attempt_exhausts(kind: OutcomeKind) -> None:
    """`attempts` counts the first try; the stored limit decides, not the policy's."""
    policy = RetryPolicy(attempts=99)
    moves = [judge(Run(spent=spent, max_attempts=3), Outcome(kind), policy, NOW) for spent in range(4)]

    assert [verdict.move for verdict in moves] == [Move.RETRY, Move.RETRY, Move.EXHAUST, Move.EXHAUST]
    assert moves[2].cause == "3 of 3 attempts spent"
    assert judge(Run(max_attempts=1), Outcome(kind, delay_us=5), policy, NOW).move is Move.EXHAUST


def test_the_delay_follows_the_spent_tries() -> None:
    """Not the attempts: snoozes and crashes do not lengthen it."""
    waits = [
        judge(Run(spent=spent, max_attempts=99), Outcome(OutcomeKind.FAILED), DEFAULT_RETRY, NOW).due_us
        for spent in range(4)
    ]

    assert waits == [NOW + n * SECOND_US for n in (5, 10, 20, 40)]


def test_retry_after_ignores_the_bound() -> None:
    """A handler that was told when to come back knows better."""
    verdict = judge(Run(), Outcome(OutcomeKind.FAILED, delay_us=3600 * SECOND_US), DEFAULT_RETRY, NOW)

    assert verdict.due_us == NOW + 3600 * SECOND_US


@pytest.mark.parametrize(("deaths", "move"), [(0, Move.RESCUE), (3, Move.RESCUE), (4, Move.POISON), (5, Move.POISON)])
def test_p4_the_fifth_crash_in_a_row_poisons(deaths: int, move: Move) -> None:
    """A lost lease is nobody's death: it never does."""
    run = Run(deaths=deaths, max_attempts=1)

    assert judge(run, Outcome(OutcomeKind.CRASHED), DEFAULT_RETRY, NOW).move is move
    assert judge(run, Outcome(OutcomeKind.LEASE_LOST), DEFAULT_RETRY, NOW).move is Move.RESCUE
