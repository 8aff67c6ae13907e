"""What a supervisor decides, as pure functions over every case."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.actors.actor import Actor
from callsheet.actors.exits import Crashed, Exit, Killed, Normal, Shutdown, StartFailed
from callsheet.actors.mailbox import Mail, Overflow
from callsheet.supervisor.decide import (
    GiveUp,
    Leave,
    Park,
    RestartThese,
    ShutDown,
    admit,
    affected,
    decide,
    is_calm,
    wait_s,
    wants_restart,
)
from callsheet.supervisor.pool import PoolSpec
from callsheet.supervisor.spec import AutoShutdown, Backoff, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.subtree import subtree

ABNORMAL: list[Exit] = [Crashed(ValueError()), StartFailed(ValueError()), Killed()]
FINAL: list[Exit] = [Crashed(SystemExit(3)), StartFailed(BaseExceptionGroup("in a nursery", [KeyboardInterrupt()]))]
"""Of somebody who wants the program to end."""
ORDER = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("restart", "exit_", "expected"),
    [
        (Restart.PERMANENT, Normal(), True),
        (Restart.PERMANENT, Shutdown(), True),
        (Restart.TRANSIENT, Normal(), False),
        (Restart.TRANSIENT, Shutdown(), False),
        (Restart.TEMPORARY, Normal(), False),
        (Restart.TEMPORARY, Shutdown(), False),
        *[(Restart.PERMANENT, exit_, True) for exit_ in ABNORMAL],
        *[(Restart.TRANSIENT, exit_, True) for exit_ in ABNORMAL],
        *[(Restart.TEMPORARY, exit_, False) for exit_ in ABNORMAL],
        *[(restart, exit_, False) for restart in Restart for exit_ in FINAL],
    ],
)
def test_the_nine_cases(restart: Restart, exit_: Exit, expected: bool) -> None:
    """Permanent children are always restarted, transient ones after abnormal ends, temporary ones never; none after Ctrl-C."""
    assert expected == wants_restart(restart, exit_)


@pytest.mark.parametrize(
    ("strategy", "name", "expected"),
    [
        (Strategy.ONE_FOR_ONE, "b", ("b",)),
        (Strategy.ONE_FOR_ALL, "b", ORDER),
        (Strategy.REST_FOR_ONE, "a", ORDER),
        (Strategy.REST_FOR_ONE, "b", ("b", "c", "d")),
        (Strategy.REST_FOR_ONE, "d", ("d",)),
    ],
)
def test_a_strategy_says_who_is_restarted_too(strategy: Strategy, name: str, expected: tuple[str, ...]) -> None:
    """Only it, all of them, or it and everything that was started after it: always in start order."""
    assert expected == affected(strategy, ORDER, name)


def test_as_many_restarts_as_allowed_are_admitted() -> None:
    """Exactly `restarts` within the period pass; one more does not."""
    intensity = Intensity(3, 5.0)
    times: tuple[float, ...] = ()
    answers = []

    for now_s in (0.0, 1.0, 2.0, 3.0):
        times, admitted = admit(times, now_s, intensity)
        answers.append(admitted)

    assert [True, True, True, False] == answers


def test_the_window_slides_and_includes_its_edge() -> None:
    """A restart exactly one period ago still counts; one just before that does not."""
    intensity = Intensity(1, 5.0)

    _, on_the_edge = admit((10.0,), 15.0, intensity)
    _, beyond = admit((10.0,), math.nextafter(15.0, 16.0), intensity)

    assert not on_the_edge
    assert beyond


def test_an_intensity_of_zero_admits_nothing() -> None:
    """`Intensity(0)` gives up at the first end."""
    assert not admit((), 0.0, Intensity(0, 5.0))[1]


@given(
    st.lists(st.floats(0, 10), max_size=60).map(lambda waits: [sum(waits[: n + 1]) for n in range(len(waits))]),
    st.integers(0, 5),
    st.floats(0.5, 20),
)
def test_admit_counts_what_a_plain_list_counts(times_s: list[float], restarts: int, period_s: float) -> None:
    """At any time: admitted when no more than `restarts` lie within the last period; what is kept is bounded."""
    kept: tuple[float, ...] = ()
    intensity = Intensity(restarts, period_s)
    for n, now_s in enumerate(times_s):
        kept, admitted = admit(kept, now_s, intensity)
        recent = [each for each in times_s[: n + 1] if each >= now_s - period_s]
        assert (len(recent) <= restarts) == admitted
        assert len(kept) <= restarts + 1


@pytest.mark.parametrize(("admitted", "parks"), list(product([True, False], repeat=2)))
def test_what_follows_from_an_end(admitted: bool, parks: bool) -> None:
    """Restart while the intensity lasts; then park where that is asked for, else give up."""
    child = ChildSpec("b", Actor)

    decision = decide(child, ABNORMAL[0], strategy=Strategy.REST_FOR_ONE, order=ORDER, admitted=admitted, parks=parks)

    expected = RestartThese(("b", "c", "d")) if admitted else Park() if parks else GiveUp()
    assert expected == decision


def test_a_child_that_is_not_restarted_spends_nothing() -> None:
    """The end of a temporary child is left alone even when the intensity is spent."""
    child = ChildSpec("b", Actor, Restart.TEMPORARY)

    decision = decide(child, ABNORMAL[0], strategy=Strategy.ONE_FOR_ALL, order=ORDER, admitted=False, parks=False)

    assert Leave() == decision


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_child_apart_is_restarted_alone(strategy: Strategy) -> None:
    """Whatever the strategy, and although it is not in the order of those that go down together."""
    child = ChildSpec("apart", Actor, apart=True)

    decision = decide(child, ABNORMAL[0], strategy=strategy, order=ORDER, admitted=True, parks=False)

    assert RestartThese(("apart",)) == decision


@pytest.mark.parametrize(
    ("auto", "significant", "left", "expected"),
    [
        (AutoShutdown.NEVER, False, 0, Leave()),
        (AutoShutdown.ANY_SIGNIFICANT, False, 0, Leave()),
        (AutoShutdown.ANY_SIGNIFICANT, True, 5, ShutDown()),
        (AutoShutdown.ALL_SIGNIFICANT, True, 1, Leave()),
        (AutoShutdown.ALL_SIGNIFICANT, True, 0, ShutDown()),
        (AutoShutdown.ALL_SIGNIFICANT, False, 0, Leave()),
    ],
)
def test_when_the_end_of_a_child_ends_its_supervisor(
    auto: AutoShutdown, significant: bool, left: int, expected: object
) -> None:
    """Any significant child, or the last of them; never one that is not."""
    child = ChildSpec("b", Actor, Restart.TRANSIENT, significant=significant)

    decision = decide(
        child,
        Normal(),
        strategy=Strategy.ONE_FOR_ONE,
        order=ORDER,
        admitted=True,
        parks=False,
        auto_shutdown=auto,
        significant_left=left,
    )

    assert expected == decision


def test_a_significant_child_that_is_restarted_ends_nobody() -> None:
    """Only an end that nothing follows counts."""
    child = ChildSpec("b", Actor, Restart.TRANSIENT, significant=True)

    decision = decide(
        child,
        ABNORMAL[0],
        strategy=Strategy.ONE_FOR_ONE,
        order=ORDER,
        admitted=True,
        parks=False,
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
    )

    assert RestartThese(("b",)) == decision


backoffs = st.builds(
    lambda first, more, factor, jitter: Backoff(first, first + more, factor, jitter),
    st.floats(0, 100),
    st.floats(0, 1_000),
    st.floats(1, 1e300),
    st.floats(0, 1),
)


@given(backoffs, st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_no_delay_leaves_its_bounds(backoff: Backoff, step: int, draw: float) -> None:
    """However many in a row and whatever the factor: at most `max_s`, and at least the part that jitter leaves."""
    delay_s = wait_s(backoff, step, draw)

    assert 0 <= delay_s <= backoff.max_s
    assert delay_s >= wait_s(backoff, step, 0.0) * (1 - backoff.jitter)


@given(backoffs, st.integers(0, 10_000))
def test_delays_in_a_row_never_shrink(backoff: Backoff, step: int) -> None:
    """Without jitter each is at least as long as the one before; the first is `first_s`."""
    assert backoff.first_s == wait_s(backoff, 0, 0.0)
    assert wait_s(backoff, step, 0.0) <= wait_s(backoff, step + 1, 0.0)


def test_delays_are_those_of_the_formula() -> None:
    """`first_s` times `factor` to the number of restarts before, then `max_s`; jitter takes its fraction off."""
    backoff = Backoff(0.5, 20, 3)

    assert [0.5, 1.5, 4.5, 13.5, 20, 20] == pytest.approx([wait_s(backoff, step, 0.0) for step in range(6)])
    assert 15 == wait_s(Backoff(20, 20, jitter=0.5), 0, 0.5)
    assert 0 == wait_s(None, 3, 0.0)


@pytest.mark.parametrize(
    ("reset_after_s", "lived_s", "healthy", "expected"),
    [
        (None, 4.999, False, False),
        (None, 5.0, False, True),
        (1.0, 0.999, False, False),
        (1.0, 1.0, False, True),
        (60.0, 0.0, True, True),
        (0.0, 0.0, False, True),
    ],
)
def test_what_makes_the_delays_begin_anew(
    reset_after_s: float | None, lived_s: float, healthy: bool, expected: bool
) -> None:
    """A life of `reset_after_s`, or else of `max_s`; or the actor's own word."""
    assert expected is is_calm(Backoff(1, 5, reset_after_s=reset_after_s), lived_s, healthy=healthy)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Intensity(-1), r"Intensity\(-1, 5.0\): restarts must be 0 or more"),
        (lambda: Intensity(1, 0), r"Intensity\(1, 0\): period_s must be more than 0"),
        (lambda: Intensity(1, math.nan), r"Intensity\(1, nan\): period_s must be more than 0"),
        (lambda: ChildSpec("", Actor), "ChildSpec '': name must have 1 … 200 characters"),
        (lambda: ChildSpec("a", Actor, stop_budget_s=-1), "ChildSpec 'a': stop_budget_s must be 0 or more"),
        (lambda: ChildSpec("a", Actor, stop_budget_s=math.nan), "ChildSpec 'a': stop_budget_s must be 0 or more"),
        (
            lambda: ChildSpec("", Actor, stop_budget_s=-1, start_budget_s=0, significant=True),
            "name must .*; stop_budget_s must .*; start_budget_s must .*; significant needs restart transient or temporary",
        ),
        (lambda: ChildSpec("a", Actor, Restart.TEMPORARY, backoff=Backoff()), "a temporary child is never restarted"),
        (
            lambda: ChildSpec("a", Actor, Restart.TEMPORARY, intensity=Intensity()),
            "a temporary child is never restarted",
        ),
        (lambda: ChildSpec("a", Actor, Restart.TEMPORARY, parks=True), "a temporary child is never restarted"),
        (lambda: ChildSpec("a" * 201, Actor), "name must have 1 … 200 characters"),
        (lambda: ChildSpec("a", "Actor"), "make must be something to call for each incarnation, not 'Actor'"),
        (lambda: ChildSpec("a", Actor, start_budget_s=math.nan), "start_budget_s must be more than 0, not nan"),
        (lambda: Intensity(0.5), "restarts must be a whole number, not 0.5"),
        (lambda: Backoff(math.nan), "first_s must be 0 or more, and finite, not nan"),
        (lambda: PoolSpec(Actor, Restart.TEMPORARY, backoff=Backoff()), "of_all and backoff mean nothing for them"),
        (lambda: PoolSpec(Actor, Restart.TEMPORARY, of_all=Intensity()), "of_all and backoff mean nothing for them"),
        (lambda: PoolSpec(Actor, max_children=1_000_001), "max_children must be 1 … 1,000,000, not 1000001"),
        (lambda: ChildSpec("a", Actor, drain=True, stop_budget_s=0), "drain needs a stop_budget_s of more than 0"),
        (lambda: SupervisorSpec((ChildSpec("a", Actor), ChildSpec("a", Actor))), "used twice: a"),
        (
            lambda: SupervisorSpec((ChildSpec("a", Actor, Restart.TEMPORARY, significant=True),)),
            r"significant children \(a\) need an auto_shutdown",
        ),
        (
            lambda: Backoff(-1, math.inf, 0.5, 2, reset_after_s=-1),
            "first_s .* max_s .* factor .* jitter .* reset_after_s",
        ),
        (lambda: Intensity(True, "5"), "restarts must be a whole number, not True; period_s must be a number, not '5'"),
        (lambda: Backoff("1", jitter=None), "first_s must be a number, not '1'; jitter must be a number, not None"),
        (
            lambda: ChildSpec("a", Actor, "permanent", backoff=5, mail=None, parks=1),
            (
                "restart must be a Restart, not 'permanent'; parks must be True or False, not 1; "
                "backoff must be a Backoff or None, not 5; mail must be a Mail, not None"
            ),
        ),
        (lambda: ChildSpec("a", Actor, stop_budget_s="5"), "stop_budget_s must be a number, not '5'"),
        (lambda: SupervisorSpec((), "one_for_noone"), "strategy must be a Strategy, not 'one_for_noone'"),
        (
            lambda: PoolSpec(Actor, of_all=3, max_children=1.5),
            "of_all must be an Intensity or None, not 3; max_children must",
        ),
        (
            lambda: Mail(capacity=1.5, overflow="reject"),
            "capacity must be a whole number or None, not 1.5; overflow must be an",
        ),
        (lambda: subtree("a", 5), "subtree 'a': spec must be a SupervisorSpec or a PoolSpec, not 5"),
        (lambda: Mail(capacity=0), "capacity must be 1 or more, not 0"),
        (lambda: Mail(overflow=Overflow.DROP_OLDEST, redeliver=-1), "needs a capacity.*; redeliver must be"),
        (lambda: PoolSpec(Actor, max_children=0, stop_budget_s=-1), "stop_budget_s must .*; max_children must be 1"),
    ],
)
def test_a_wrong_spec_is_refused_when_it_is_made(make: object, sentence: str) -> None:
    """What cannot be meant is refused with a sentence, before anything starts."""
    assert callable(make)

    with pytest.raises(ValueError, match=sentence):
        make()
