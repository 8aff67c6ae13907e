"""What a supervisor decides, as pure functions over every case."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.actors.actor import Actor
from callsheet.actors.exits import Crashed, Exit, Killed, Normal, Shutdown, StartFailed
from callsheet.supervisor.decide import (
    GiveUp,
    Leave,
    Park,
    RestartThese,
    admit,
    affected,
    decide,
    wants_restart,
)
from callsheet.supervisor.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec

ABNORMAL: list[Exit] = [Crashed(ValueError()), StartFailed(ValueError()), Killed()]
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
    ],
)
def test_the_nine_cases(restart: Restart, exit_: Exit, expected: bool) -> None:
    """Permanent children are always restarted, transient ones after abnormal ends, temporary ones never."""
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


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Intensity(-1), r"Intensity\(restarts\) must be 0 or more, not -1"),
        (lambda: Intensity(1, 0), r"Intensity\(period_s\) must be more than 0"),
        (lambda: Intensity(1, math.nan), r"Intensity\(period_s\) must be more than 0"),
        (lambda: ChildSpec("", Actor), "a child's name must not be empty"),
        (lambda: ChildSpec("a", Actor, stop_budget_s=-1), "stop_budget_s of a must be 0 or more"),
        (lambda: ChildSpec("a", Actor, stop_budget_s=math.nan), "stop_budget_s of a must be 0 or more"),
        (lambda: SupervisorSpec((ChildSpec("a", Actor), ChildSpec("a", Actor))), "used twice: a"),
    ],
)
def test_a_wrong_spec_is_refused_when_it_is_made(make: object, sentence: str) -> None:
    """What cannot be meant is refused with a sentence, before anything starts."""
    assert callable(make)

    with pytest.raises(ValueError, match=sentence):
        make()
