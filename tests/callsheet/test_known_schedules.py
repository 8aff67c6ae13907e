"""Which schedules are due, and which wait, as they are changed meanwhile."""

from __future__ import annotations

from typing import Any

from callsheet import Jobs
from callsheet.schedules.known import Expected, Known, by_due
from callsheet.store.records import Schedule

JOBS = Jobs("j")


def known(key: str, due_us: int | None, **fields: Any) -> Known:
    each = Known(JOBS, key)
    now(each, due_us, **fields)
    return each


def now(each: Known, due_us: int | None, **fields: Any) -> None:
    each.stands(Schedule("default/j", each.key, b"{}", **{"next_us": due_us, "due_us": due_us} | fields))


def keys(those: list[Known]) -> list[str]:
    return [each.key for each in those]


def test_what_is_due_is_taken_in_order() -> None:
    """By time, then by key; once, until somebody expects it again."""
    expected = Expected()
    some = [known("c", 5), known("a", 7), known("b", 5), known("later", 9), known("never", None)]
    for each in some:
        expected.expect(each)
        expected.expect(each)

    assert 5 == expected.next_us
    assert ["b", "c", "a"] == keys(expected.take_due(8))
    assert [] == expected.take_due(8)
    expected.expect(some[0])
    assert ["c", "later"] == keys(expected.take_due(9))
    assert expected.next_us is None


def test_what_was_changed_is_due_when_it_says_now() -> None:
    """Earlier, later, as it was before, or not at all any more."""
    expected = Expected()
    some = {key: known(key, 5) for key in ("earlier", "later", "back", "forgotten", "no time", "as it was")}
    for each in some.values():
        expected.expect(each)
    for key, due_us in (("earlier", 3), ("later", 8), ("back", 7), ("back", 5)):
        now(some[key], due_us)
        expected.expect(some[key])
    expected.forget(some["forgotten"])
    now(some["no time"], 5, next_us=None)
    expected.expect(some["no time"])

    assert ["earlier"] == keys(expected.take_due(4))
    assert ["as it was", "back"] == keys(expected.take_due(5))
    assert ["later"] == keys(expected.take_due(100))


def test_what_waits_is_known_until_it_does_not() -> None:
    """Whether it is due or not."""
    expected = Expected()
    one, two = known("one", None, waiting_us=3), known("two", 5, waiting_us=3)
    expected.expect(one)
    expected.expect(two)
    assert {one.place, two.place} == expected.waiting.keys()

    now(one, None)
    expected.expect(one)
    expected.forget(two)

    assert {} == expected.waiting


def test_what_nobody_expects_any_more_is_let_go() -> None:
    """However often a schedule is changed, it is held once."""
    expected, each, other = Expected(), known("a", 1), known("b", 2_000)
    expected.expect(other)
    for due_us in range(1, 1001):
        now(each, due_us)
        expected.expect(each)

    expected.tidy()

    assert 2 == len(expected._dues)
    assert ["a", "b"] == keys(expected.take_due(2_000))


def test_those_without_a_time_come_last() -> None:
    """Nothing but the order."""
    assert ["b", "a", "c", "unsaid"] == keys(
        sorted([Known(JOBS, "unsaid"), known("c", None), known("b", 1), known("a", 2)], key=by_due)
    )
