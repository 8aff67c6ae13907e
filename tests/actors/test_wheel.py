"""The timer wheel against a sorted list, and at every boundary that other wheels fell over."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from callsheet.actors.wheel import BITS, EXACT, FIRE_COST, MOVE_COST, SLACK, SLOT_COST, SPAN, Entry, Far, Wheel

PLENTY = 1_000_000_000
"""A budget that never runs out."""
YEARS = 10 * 365 * 86_400 * 1_000
LATE = 2**36
"""Two years after the first tick: where a wheel with a top level has wrapped around."""


class Named(Entry):
    """An entry that a test can tell from others, that does something when fired, and whose end can be seen."""

    __slots__ = ("__weakref__", "do", "name")

    def __init__(self, name: int, do: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.do = do


def add(wheel: Wheel, name: int, tick: int, do: Callable[[], object] = lambda: None) -> Named:
    entry = Named(name, do)
    wheel.add(entry, tick)
    return entry


def fired(wheel: Wheel, now: int, budget: int = PLENTY) -> list[int]:
    """What one advance fires, by name."""
    names: list[int] = []

    def fire(entry: Named) -> None:
        names.append(entry.name)
        entry.do()

    wheel.advance(now, budget, fire)
    return names


def is_empty(wheel: Wheel) -> bool:
    """Whether it holds nothing that it would hold for ever."""
    return not wheel.pending and wheel.next_tick() is None and not wheel._near and not wheel._far


# ---------------------------------------------------------------- boundaries

STARTS = pytest.mark.parametrize("now", [0, 1, SPAN - 1, SPAN, 5 * SPAN + 3, LATE - 1, LATE])
EDGES = [1, 2, SPAN - 1, SPAN, SPAN + 1, 2 * SPAN - 1, 2 * SPAN, 2 * SPAN + 1, 3 * SPAN, 2**31, YEARS]


@STARTS
@pytest.mark.parametrize("delta", EDGES)
def test_an_entry_fires_at_its_tick_and_not_one_before(now: int, delta: int) -> None:
    """At every edge of a slot, a tier and a wheel that runs for years: not at the tick before, and at its own."""
    wheel = Wheel(now)
    add(wheel, 1, now + delta)

    assert [] == fired(wheel, now + delta - 1)
    assert now + delta == wheel.next_tick()
    assert [1] == fired(wheel, now + delta)
    assert is_empty(wheel)


@STARTS
@pytest.mark.parametrize("delta", EDGES)
def test_going_from_next_tick_to_next_tick_ends_at_the_entry(now: int, delta: int) -> None:
    """Whoever sleeps from one `next_tick` to the next is there in time, in a few steps, each of them forward."""
    wheel = Wheel(now)
    for name in range(EXACT + 1):
        add(wheel, name, now + delta)
    names: list[int] = []

    for _ in range(3):
        tick = wheel.next_tick()
        if tick is not None:
            assert wheel.now < tick
            names += fired(wheel, tick)

    assert now + delta == wheel.now
    assert [*range(EXACT + 1)] == names


@STARTS
@pytest.mark.parametrize("delta", [0, -1, -SPAN, -(2**40)])
def test_what_is_due_already_fires_with_the_next_advance(now: int, delta: int) -> None:
    """An entry for now or for the past is not fired inside `add`; it is due at once, and needs no time to pass."""
    wheel = Wheel(now)

    add(wheel, 1, now + delta)

    assert now == wheel.next_tick()
    assert [1] == fired(wheel, now)
    assert is_empty(wheel)


def test_what_is_added_in_a_callback_for_now_waits_for_the_next_advance() -> None:
    """A callback that adds itself again and again cannot keep an advance from ending."""
    wheel = Wheel()

    def again() -> None:
        add(wheel, 2, 5, again)

    add(wheel, 1, 5, again)

    assert [1] == fired(wheel, 5)
    assert [2] == fired(wheel, 5)
    assert [2] == fired(wheel, 5)
    assert 5 == wheel.next_tick()


def test_an_advance_that_oversleeps_fires_all_once_in_order() -> None:
    """However many slots were slept through: what became due fires once, by tick, then in the order of adding."""
    wheel = Wheel(7)
    ticks = [9 * SPAN, 8, 3 * SPAN, 8, 9 * SPAN, 2 * SPAN, 100 * SPAN, 3 * SPAN - 1]
    for name, tick in enumerate(ticks):
        add(wheel, name, tick)

    assert [1, 3, 5, 7, 2, 0, 4] == fired(wheel, 50 * SPAN)
    assert [] == fired(wheel, 50 * SPAN)
    assert [6] == fired(wheel, 2**50)


@pytest.mark.parametrize("period", [1, SPAN - 1, SPAN, 2 * SPAN, 1_000])
def test_what_comes_again_at_every_multiple_of_a_period_misses_none(period: int) -> None:
    """An entry that adds the next one when it fires is fired at each multiple, and leaves nothing behind."""
    wheel = Wheel(LATE)
    times: list[int] = []

    def again() -> None:
        times.append(wheel.now)
        add(wheel, 1, wheel.now + period, again)

    add(wheel, 1, LATE + period, again)
    for _ in range(20):
        tick = wheel.next_tick()
        assert tick is not None
        fired(wheel, tick)

    assert [LATE + n * period for n in range(1, 21)] == times
    assert 1 == wheel.pending


def test_moving_an_entry_to_and_fro_leaves_no_copy_that_fires() -> None:
    """An entry that left its slot and came back to it is fired once, and counted once."""
    wheel = Wheel()
    entry = add(wheel, 1, 10)

    for _ in range(3 * SLACK):
        assert wheel.reschedule(entry, 5)
        assert wheel.reschedule(entry, 10)
        assert [] == fired(wheel, wheel.now)
    assert 1 == wheel.pending

    assert [] == fired(wheel, 9)
    assert [1] == fired(wheel, 10)
    assert [] == fired(wheel, 11)
    assert is_empty(wheel)


def test_an_entry_that_came_back_often_is_swept_to_one() -> None:
    """The places that an entry left and took again in one slot count as dead, and are gone after a sweep."""
    wheel = Wheel()
    entry = add(wheel, 1, SPAN)
    for tick in range(1, SLACK + 1):
        assert wheel.reschedule(entry, tick)
        assert wheel.reschedule(entry, SPAN)
        assert [] == fired(wheel, tick)
    assert SLACK + 1 == len(wheel._near[SPAN])

    for name in (2, 3):
        wheel.cancel(add(wheel, name, SPAN))

    assert [entry] == wheel._near[SPAN]
    assert SPAN == wheel.next_tick()
    assert wheel.cancel(entry)
    assert wheel.next_tick() is None


@pytest.mark.parametrize("delta", [1, SPAN, 5 * SPAN])
def test_putting_off_again_and_again_costs_no_memory(delta: int) -> None:
    """A heartbeat that puts its deadline off keeps one entry, filed once, and fires when the beats end."""
    wheel = Wheel()
    entry = add(wheel, 1, delta)

    for now in range(1, 10 * SPAN, 7):
        assert wheel.reschedule(entry, wheel.now + delta)
        assert [] == fired(wheel, min(now, wheel.now + delta - 1))
        assert 1 >= sum(len(near) - near.dead for near in wheel._near.values()) + sum(map(len, wheel._far.values()))

    assert [1] == fired(wheel, wheel.now + 2 * delta)
    assert is_empty(wheel)


def test_the_count_is_right_when_entries_are_cancelled_in_the_tick_they_are_due() -> None:
    """Cancelling in the moment of firing, before and after the entry's own turn, counts each entry once."""
    wheel = Wheel()
    entries: list[Named] = []
    answers: list[bool] = []
    entries.append(add(wheel, 0, 5))
    entries.append(add(wheel, 1, 5, lambda: answers.extend(wheel.cancel(each) for each in entries)))
    entries.append(add(wheel, 2, 5))
    add(wheel, 3, 5)

    assert [0, 1, 3] == fired(wheel, 5)

    assert [False, False, True] == answers
    assert is_empty(wheel)


def test_a_large_far_slot_moves_in_portions_and_loses_nothing() -> None:
    """Entries cancelled, added and put off while their slot is half moved are each treated as what they are."""
    wheel = Wheel()
    entries = [add(wheel, name, 10 * SPAN + name % SPAN) for name in range(1_000)]

    assert [] == fired(wheel, 9 * SPAN, budget=100)
    assert wheel._moving is not None
    moved, unmoved = entries[0], entries[-1]
    assert wheel.cancel(moved)
    assert wheel.cancel(unmoved)
    assert wheel.reschedule(entries[1], 20 * SPAN)
    assert wheel.reschedule(entries[-2], 20 * SPAN)
    assert wheel.reschedule(entries[-3], 9 * SPAN + 1)
    add(wheel, 1_000, 10 * SPAN)
    first = fired(wheel, 9 * SPAN + 1)
    names: set[int] = set(first)
    while wheel.now < 19 * SPAN:
        names.update(fired(wheel, min(wheel.now + 50, 19 * SPAN), budget=500))

    assert [997] == first
    assert {*range(1, 1_001)} - {1, 998, 999} == names
    assert {1, 998} == {*fired(wheel, 20 * SPAN)}


def test_due_entries_do_not_wait_for_what_moves_ahead_of_time() -> None:
    """A flood that is due in the slot after this one is moved after what is due now is fired."""
    wheel = Wheel()
    for name in range(1_000):
        add(wheel, name, 10 * SPAN)
    fired(wheel, 8 * SPAN)
    add(wheel, 1_000, 9 * SPAN)

    assert [1_000] == fired(wheel, 9 * SPAN, budget=2 * FIRE_COST)
    assert wheel._moving is not None

    add(wheel, 1_001, 9 * SPAN + 1)

    assert [1_001] == fired(wheel, 9 * SPAN + 1, budget=2 * FIRE_COST)


def test_what_a_budget_left_of_a_tick_is_still_due_after_others_were_cancelled() -> None:
    """Dead entries that were passed over in a half-fired tick do not hide the living ones behind them."""
    wheel = Wheel()
    entries = [add(wheel, name, 5) for name in range(40)]
    for entry in entries[:30]:
        wheel.cancel(entry)

    first = fired(wheel, 5, budget=30 * MOVE_COST + FIRE_COST + SLOT_COST)

    assert [30] == first
    assert 5 == wheel.next_tick()
    assert [*range(31, 40)] == fired(wheel, 5)


def test_late_entries_join_what_a_budget_left_of_their_tick() -> None:
    """What is added for now while now is half fired comes after it; what was cancelled of it does not come back."""
    wheel = Wheel()
    for name in range(3):
        add(wheel, name, 4)
        add(wheel, 10 + name, 5)
    assert [0] == fired(wheel, 5, budget=1)

    cancelled = add(wheel, 20, 5)
    add(wheel, 21, 3)
    assert wheel.cancel(cancelled)

    assert [1, 2, 10, 11, 12, 21] == fired(wheel, 6)
    assert is_empty(wheel)


def test_a_due_entry_that_is_moved_to_the_past_is_due_now() -> None:
    """Moving what a budget left over to a time that is over keeps the order: it counts as due at this moment."""
    wheel = Wheel()
    first, second = add(wheel, 1, 4), add(wheel, 2, 4)
    add(wheel, 3, 6)
    assert [1] == fired(wheel, 7, budget=1)
    assert not wheel.reschedule(first, 5)

    assert wheel.reschedule(second, 5)

    assert [3, 2] == fired(wheel, 7)
    assert is_empty(wheel)


def test_every_advance_gets_on_however_small_its_budget() -> None:
    """A budget of one unit fires everything in the end, and says each time that there is more."""
    wheel = Wheel()
    for name in range(100):
        add(wheel, name, 5 * SPAN + name)
    names: list[int] = []

    for _ in range(1_000):
        if not wheel.advance(10 * SPAN, 1, lambda entry: names.append(entry.name)):
            break

    assert [*range(100)] == names


def test_the_time_does_not_go_back() -> None:
    """An advance to an earlier tick is one to the last: nothing fires early, and nothing that is added is lost."""
    wheel = Wheel(LATE)
    add(wheel, 1, LATE + 10)

    assert [] == fired(wheel, 3)
    add(wheel, 2, LATE)

    assert LATE == wheel.now
    assert [2] == fired(wheel, 4)
    assert [1] == fired(wheel, LATE + 10)


def test_an_emptied_far_slot_keeps_no_memory() -> None:
    """A minute's worth of timeouts that were all cancelled leaves slots without tables, and few of them."""
    wheel = Wheel()
    entries = [add(wheel, name, 10 * SPAN + name) for name in range(100 * SPAN)]

    for entry in entries:
        wheel.cancel(entry)

    assert all(sys.getsizeof(far) <= sys.getsizeof(Far(0)) for far in wheel._far.values())
    assert len(wheel._far) <= SLACK + 36
    assert wheel.next_tick() is None
    assert is_empty(wheel)


def test_the_wheel_refuses_to_be_advanced_by_what_it_fires() -> None:
    """A callback that pumps is a mistake that shows at once, and the wheel goes on after it."""
    wheel = Wheel()
    add(wheel, 1, 1, lambda: fired(wheel, 2))
    add(wheel, 2, 1)

    with pytest.raises(AssertionError, match="advanced by what it fired"):
        fired(wheel, 1)

    assert [2] == fired(wheel, 1)


# ---------------------------------------------------------------- against a model

START = st.sampled_from([0, 1, SPAN - 1, SPAN, LATE - 1, LATE, LATE + 77])
DELTAS = st.one_of(
    st.sampled_from([-SPAN, -1, 0, 1, 2, SPAN - 1, SPAN, SPAN + 1, 2 * SPAN - 1, 2 * SPAN, 3 * SPAN, 2**31, YEARS]),
    st.integers(-5, 3 * SPAN),
)
STEPS = st.one_of(
    st.sampled_from([-1_000, 0, 1, SPAN - 1, SPAN, 10 * SPAN, 2**31, 2 * YEARS]), st.integers(0, 3 * SPAN)
)
SMALL = st.integers(1, 3 * FIRE_COST)


class Story(RuleBasedStateMachine):
    """The wheel beside a dict of what is due when; `due` of an entry in the past is the time at which it was asked for."""

    entries: Bundle[Named] = Bundle("entries")

    @initialize(now=START)
    def begin(self, now: int) -> None:
        self.wheel = Wheel(now)
        self.made = 0
        self.due: dict[int, int] = {}
        self.last = -math.inf
        """The latest time of anything that has fired."""
        self.put_off: set[int] = set()

    def _add(self, delta: int, do: Callable[[], object] = lambda: None) -> Named:
        self.made += 1
        tick = self.wheel.now + delta
        entry = add(self.wheel, self.made, tick, do)
        self.due[self.made] = max(tick, self.wheel.now)
        return entry

    def _cancel(self, entry: Named) -> None:
        assert (self.due.pop(entry.name, None) is not None) == self.wheel.cancel(entry)

    def _reschedule(self, entry: Named, delta: int) -> None:
        tick = self.wheel.now + delta
        pending = entry.name in self.due
        if pending:
            if tick > self.due[entry.name]:
                self.put_off.add(entry.name)
            self.due[entry.name] = max(tick, self.wheel.now)
        assert pending == self.wheel.reschedule(entry, tick)

    @rule(target=entries, delta=DELTAS)
    def add_one(self, delta: int) -> Named:
        return self._add(delta)

    @rule(target=entries, delta=DELTAS, count=st.integers(1, 2 * EXACT))
    def add_many(self, delta: int, count: int) -> object:
        return multiple(*(self._add(delta) for _ in range(count)))

    @rule(entry=entries)
    def cancel(self, entry: Named) -> None:
        self._cancel(entry)

    @rule(delta=DELTAS)
    def cancel_far_and_forget(self, delta: int) -> None:
        """Nothing of a far entry can be reached once it was cancelled: it dies with its last name."""
        entry = self._add(2 * SPAN + abs(delta))
        ref = weakref.ref(entry)
        self._cancel(entry)
        del entry
        assert ref() is None

    @rule(entry=entries, delta=DELTAS)
    def reschedule(self, entry: Named, delta: int) -> None:
        self._reschedule(entry, delta)

    @rule(victim=entries, delta=DELTAS, moved=DELTAS, again=DELTAS)
    def add_one_that_meddles(self, victim: Named, delta: int, moved: int, again: int) -> None:
        """When fired, it cancels one, puts another off, adds two more, and tries to cancel and move itself."""
        others = [victim]

        def do() -> None:
            self._cancel(others[0])
            assert not self.wheel.cancel(itself)
            assert not self.wheel.reschedule(itself, self.wheel.now + 1)
            self._add(again)
            self._reschedule(self._add(again), moved)

        itself = self._add(delta, do)

    @rule(step=STEPS)
    def advance(self, step: int) -> None:
        self._advance(self.wheel.now + step, PLENTY)

    @rule(step=STEPS, budget=SMALL)
    def advance_a_little(self, step: int, budget: int) -> None:
        self._advance(self.wheel.now + step, budget)

    @rule(before=st.booleans(), budget=st.one_of(st.just(PLENTY), SMALL))
    def advance_to_the_next(self, before: bool, budget: int) -> None:
        tick = self.wheel.next_tick()
        if tick is not None:
            self._advance(tick - before, budget)

    def _advance(self, now: int, budget: int) -> None:
        before = self.wheel.now
        count = 0

        def fire(entry: Named) -> None:
            nonlocal count
            count += 1
            due = self.due.pop(entry.name)
            assert due <= max(now, before), "early"
            assert due >= self.last, "out of order"
            self.last = due
            entry.do()

        new = self.made
        more = self.wheel.advance(now, budget, fire)

        assert max(now, before) == self.wheel.now
        due = {name for name, tick in self.due.items() if tick <= self.wheel.now}
        assert more or not due, "there was more to do, and it did not say so"
        if budget == PLENTY:
            assert all(name > new or name in self.put_off for name in due), "it left something that was due"
        assert count <= -(-budget // FIRE_COST)

    @invariant()
    def the_count_is_exact(self) -> None:
        assert len(self.due) == self.wheel.pending

    @invariant()
    def the_next_tick_is_never_late(self) -> None:
        tick, earliest = self.wheel.next_tick(), min(self.due.values(), default=None)
        assert (tick is None) == (earliest is None)
        if tick is not None and earliest is not None:
            assert tick <= earliest

    @invariant()
    def the_heaps_hold_the_keys(self) -> None:
        wheel = self.wheel
        assert sorted(wheel._near) == sorted(wheel._near_ticks)
        assert sorted(wheel._far) == sorted(wheel._far_keys)
        assert all(key << BITS >= wheel._limit for key in wheel._far)
        assert all(tick < wheel._limit or tick <= wheel.now for tick in wheel._near)

    @invariant()
    def dead_entries_do_not_pile_up(self) -> None:
        wheel = self.wheel
        nears = [*wheel._near.values(), wheel._ripe, wheel._at_once]
        assert all(near.dead <= len(near) - near.dead + SLACK for near in nears)
        assert wheel._emptied <= len(wheel._far) // 2 + SLACK

    def teardown(self) -> None:
        """However it went: a few advances to the end of time fire all that is left, and nothing is kept."""
        for _ in range(1_000):
            if not self.due:
                break
            self._advance(max(self.wheel.now, *self.due.values()), PLENTY)
        assert {} == self.due
        assert is_empty(self.wheel)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=100, stateful_step_count=50)


@pytest.mark.slow
class TestStoryOften(Story.TestCase):  # type: ignore[name-defined,misc]  # hypothesis makes it
    """The same for very many."""

    settings = settings(max_examples=3_000, stateful_step_count=50)
