"""What a seed decides."""

from collections import Counter

import pytest

from callsheet.demo.plan import DELAY_S, HANG, LATENCY_S, Plan


def test_a_seed_repeats_the_plan() -> None:
    """The same seed and size give the same calls, answers and latencies; another seed gives others."""
    plan, again, other = Plan.of(7, 300), Plan.of(7, 300), Plan.of(8, 300)

    assert plan == again
    assert plan.latency_s("evt-00001", 1) == again.latency_s("evt-00001", 1)
    assert plan.calls != other.calls
    assert plan.moods != other.moods


@pytest.mark.parametrize("runs", [10, 20, 200, 1_000])
def test_every_delivery_is_requested_and_a_few_twice(runs: int) -> None:
    """Each event is called for, one in twenty a second time and later; calls are numbered in their order."""
    plan = Plan.of(3, runs)
    times = Counter(call.event for call in plan.calls)

    assert runs == len(times)
    assert set(times) == set(plan.moods)
    assert {1, 2} == set(times.values())
    assert max(1, runs // 20) == sum(n == 2 for n in times.values())
    assert list(range(len(plan.calls))) == [call.n for call in plan.calls]


def test_a_tenth_is_delayed_alike_in_both_calls() -> None:
    """Delays are within their bounds, and a call that is repeated asks for the same."""
    plan = Plan.of(5, 1_000)
    delays = {call.event: {each.delay_s for each in plan.calls if each.event == call.event} for call in plan.calls[:50]}
    late = {call.event for call in plan.calls if call.delay_s}

    assert all(len(each) == 1 for each in delays.values())
    assert 100 == len(late)
    assert all(DELAY_S[0] <= call.delay_s <= DELAY_S[1] for call in plan.calls if call.delay_s)


def test_even_a_small_plan_shows_everything() -> None:
    """Refusals, failures that pass, failures that do not, and hanging all occur from 20 deliveries on."""
    moods = set(Plan.of(9, 20).moods.values())

    assert {(200,), (500, 200), (503, 200), (HANG, 200), (410,), (500,)} <= moods


def test_the_last_answer_is_for_ever() -> None:
    """A delivery that is tried again and again is answered in turn, then always alike."""
    plan = Plan(0, (), {"evt-1": (503, 500, 200), "evt-2": (500,)})

    assert [503, 500, 200, 200, 200] == [plan.answer("evt-1", n) for n in range(1, 6)]
    assert [500] * 5 == [plan.answer("evt-2", n) for n in range(1, 6)]
    assert 1 == plan.deliverable


def test_latencies_keep_their_bounds() -> None:
    """The receiver takes its time, and never too much of it."""
    plan = Plan.of(2, 10)
    taken = [plan.latency_s(event, n) for event in plan.moods for n in range(1, 20)]

    assert min(taken) >= LATENCY_S[0]
    assert max(taken) <= LATENCY_S[1]
