"""
When schedules fire: exact, in every zone, over every change of the clocks, and cheap after a long silence.

The model is a walk over every minute; it knows neither cronsim nor how `cadence` finds its times.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet import InvalidOption, InvalidSchedule
from callsheet.schedules import cadence as module
from callsheet.schedules.cadence import (
    MAX_EVERY_DAYS,
    Cadence,
    Cron,
    Every,
    cadence_of,
    last_before,
    last_n,
    next_after,
    preview,
)

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
DAY: Final = 86_400 * SECOND
YEAR_9999: Final = 253_370_764_800 * SECOND
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def us_of(when: datetime) -> int:
    return (when - EPOCH) // timedelta(microseconds=1)


def at(text: str, tz: str = "UTC") -> int:
    """RFC 3339 text without an offset, in the zone; the first of two."""
    return us_of(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)))


def read(times: tuple[int, ...], tz: str) -> list[str]:
    """As the zone's clocks show them: `31 03:00+0200`."""
    return [(EPOCH + timedelta(microseconds=us)).astimezone(ZoneInfo(tz)).strftime("%d %H:%M%z") for us in times]


# The model: every minute of some days around a change of the clocks

CHANGES: Final = [
    ("UTC", "2024-03-31"),
    ("Europe/Berlin", "2024-03-31"),
    ("Europe/Berlin", "2024-10-27"),
    ("America/New_York", "2024-03-10"),
    ("America/New_York", "2024-11-03"),
    ("Australia/Lord_Howe", "2024-10-06"),  # half an hour
    ("Australia/Lord_Howe", "2024-04-07"),
    ("Asia/Kathmandu", "1986-01-01"),  # a quarter of an hour, at midnight
    ("Pacific/Apia", "2011-12-30"),  # a whole day
    ("Pacific/Apia", "2012-04-01"),
    ("America/Sao_Paulo", "2018-11-04"),  # no midnight
    ("America/Sao_Paulo", "2018-02-18"),  # the end of a Saturday twice
    ("America/Havana", "2024-11-03"),  # the beginning of a Sunday twice
    ("Antarctica/Troll", "2024-03-31"),  # two hours
    ("Antarctica/Troll", "2024-10-27"),
]


@cache
def minutes_around(tz: str, day: str) -> list[tuple[int, datetime]]:
    """Each minute from the day before until the day after, as an instant and as a reading of the zone's clocks."""
    middle_us = us_of(datetime.fromisoformat(day).replace(tzinfo=UTC))
    instants = range(middle_us - 3 * DAY // 2, middle_us + 5 * DAY // 2, MINUTE)
    zone = ZoneInfo(tz)
    return [(us, (EPOCH + timedelta(microseconds=us)).astimezone(zone).replace(tzinfo=None)) for us in instants]


@frozen
class Field:
    """One field of an expression, and the values that it names."""

    text: str
    values: frozenset[int]


@frozen
class Fields:
    """An expression whose meaning is known without reading it."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def __str__(self) -> str:
        return " ".join(each.text for each in (self.minute, self.hour, self.day, self.month, self.weekday))

    def names(self, reading: datetime) -> bool:
        if reading.minute not in self.minute.values or reading.hour not in self.hour.values:
            return False
        by_day = reading.day in self.day.values
        by_weekday = bool({reading.isoweekday(), reading.isoweekday() % 7} & self.weekday.values)
        both = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        day = (by_day and by_weekday) if both else (by_day or by_weekday)
        return day and reading.month in self.month.values


def model(fields: Fields, minutes: list[tuple[int, datetime]]) -> list[int]:
    """Its times among the minutes, the first minute left out: by the rule as the docstring of `cadence` has it."""
    if fields.hour.text.startswith("*"):
        return [us for us, reading in minutes[1:] if fields.names(reading)]
    found = []
    latest = minutes[0][1]
    for us, reading in minutes[1:]:
        come = [latest + timedelta(minutes=n + 1) for n in range((reading - latest) // timedelta(minutes=1))]
        if any(fields.names(each) for each in come):  # more than one after a gap, none when shown again
            found.append(us)
        latest = max(latest, reading)
    return found


def a_field(least: int, most: int, near: range, names: dict[int, str] | None = None) -> st.SearchStrategy[Field]:
    """Any form that a field can take; `near`: values that matter around the changes."""
    everything = range(least, most + 1)
    one = st.sampled_from(near) | st.sampled_from(everything)
    called: Callable[[int], str] = lambda n: (names or {}).get(n, str(n))  # noqa: E731

    def joined(fields: list[Field]) -> Field:
        return Field(",".join(each.text for each in fields), frozenset().union(*(each.values for each in fields)))

    def ranged(ends: tuple[int, int]) -> Field:
        low, high = sorted(ends)
        return Field(f"{called(low)}-{called(high)}", frozenset(range(low, high + 1)))

    def stepped(field: Field, step: int) -> Field:
        return Field(f"{field.text}/{step}", frozenset(sorted(field.values)[::step]))

    star = st.just(Field("*", frozenset(everything)))
    single = one.map(lambda n: Field(called(n), frozenset({n})))
    span = st.tuples(one, one).filter(lambda ends: ends[0] != ends[1]).map(ranged)
    steps = st.builds(stepped, star | span, st.integers(1, 40))
    return single | star | span | steps | st.lists(single | span | steps, min_size=2, max_size=3).map(joined)


WEEKDAYS: Final = dict(enumerate(["SUN", "mon", "TUE", "WED", "Thu", "FRI", "SAT"]))
MONTHS: Final = dict(enumerate(["JAN", "FEB", "mar", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "Oct", "NOV", "DEC"], 1))


@st.composite
def expressions(draw: st.DrawFn, day: str) -> Fields:
    middle = date.fromisoformat(day)
    month = draw(st.sampled_from(["*", "near", "any"]))
    near = range(middle.month, middle.month + 1)
    return Fields(
        draw(a_field(0, 59, range(0, 60, 15))),
        draw(a_field(0, 23, range(4))),
        draw(st.just(Field("*", frozenset(range(1, 32)))) | a_field(1, 31, range(middle.day, middle.day + 1))),
        Field("*", frozenset(range(1, 13))) if month == "*" else draw(a_field(1, 12, near, MONTHS)),
        draw(st.just(Field("*", frozenset(range(8)))) | a_field(0, 7, range(8), WEEKDAYS)),
    )


@pytest.mark.parametrize(("tz", "day"), CHANGES)
@settings(max_examples=10)
@given(data=st.data())
def test_every_change_of_the_clocks_is_met_as_the_rule_says(tz: str, day: str, data: st.DataObject) -> None:
    """Whatever the expression: forwards and backwards the same times, those of a walk over every minute, each once."""
    compare(tz, day, data)


@pytest.mark.slow
@pytest.mark.parametrize(("tz", "day"), CHANGES)
@settings(max_examples=250)
@given(data=st.data())
def test_every_change_of_the_clocks_is_met_by_very_many_expressions(tz: str, day: str, data: st.DataObject) -> None:
    """The same for very many."""
    compare(tz, day, data)


def compare(tz: str, day: str, data: st.DataObject) -> None:
    """Some expression, in some nights."""
    minutes = minutes_around(tz, day)
    fields = data.draw(expressions(day))
    try:
        cron = Cron(str(fields), tz)
    except InvalidSchedule as error:
        assert "never fires" in str(error)  # noqa: PT017 -- 31 April: no schedule to compare
        return
    start_us, end_us = minutes[0][0], minutes[-1][0]

    expected = model(fields, minutes)

    some = min(len(expected) + 1, 300)
    assert expected[:some] == [us for us in preview(cron, 0, start_us, some) if us <= end_us]
    assert expected[-some:] == list(last_n(cron, 0, start_us, end_us, some))
    for instant in data.draw(st.lists(st.integers(start_us, end_us), min_size=3, max_size=3)):
        n = bisect_right(expected, instant)
        following = next_after(cron, 0, instant)
        if n < len(expected):
            assert expected[n] == following
        else:
            assert following is None or following > end_us
        assert (expected[n - 1] if n else None) == last_before(cron, 0, instant, start_us)
        assert tuple(expected[max(0, n - 3) : n]) == last_n(cron, 0, start_us, instant, 3)


@pytest.mark.parametrize(("tz", "day"), CHANGES)
def test_from_anywhere_in_a_changed_night_the_next_and_the_last_time_are_right(tz: str, day: str) -> None:
    """Where the question is asked from makes no difference: not within a gap's end, nor in the hour that comes twice."""
    minutes = minutes_around(tz, day)
    quarter = Field("*/15", frozenset(range(0, 60, 15)))
    always = [Field("*", frozenset(range(1, 32))), Field("*", frozenset(range(1, 13))), Field("*", frozenset(range(8)))]
    for hour in (
        Field("*", frozenset(range(24))),
        Field("0-23", frozenset(range(24))),
        Field("23,0-3", frozenset({23, 0, 1, 2, 3})),
    ):
        fields = Fields(quarter, hour, *always)
        cron = Cron(str(fields), tz)

        expected = model(fields, minutes)

        for us, _ in minutes[1440:-1440:13]:
            for instant in (us - 1, us):
                n = bisect_right(expected, instant)
                assert (expected[n], expected[n - 1]) == (
                    next_after(cron, 0, instant),
                    last_before(cron, 0, instant, 0),
                )


# The rule, by example


@pytest.mark.parametrize(
    ("expression", "tz", "start", "expected"),
    [
        # Gaps: what is skipped is made up at once, when the hour is named
        ("30 2 * * *", "Europe/Berlin", "2024-03-30", ["30 02:30+0100", "31 03:00+0200", "01 02:30+0200"]),
        ("*/20 2 * * *", "Europe/Berlin", "2024-03-31", ["31 03:00+0200", "01 02:00+0200", "01 02:20+0200"]),
        ("0 2,3 * * *", "America/New_York", "2024-03-10", ["10 03:00-0400", "11 02:00-0400", "11 03:00-0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2024-10-06", ["06 02:30+1100", "07 02:15+1100"]),
        ("5 0 * * *", "Asia/Kathmandu", "1985-12-31", ["31 00:05+0530", "01 00:15+0545", "02 00:05+0545"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29", ["29 12:00-1000", "31 00:00+1400", "31 12:00+1400"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29", ["31 00:00+1400", "30 12:00+1400"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03", ["04 01:00-0200", "05 00:00-0200"]),
        # Gaps: real time goes on, when it is not
        ("30 * * * *", "Europe/Berlin", "2024-03-31 01:00", ["31 01:30+0100", "31 03:30+0200", "31 04:30+0200"]),
        ("0 */2 * * *", "Europe/Berlin", "2024-03-31", ["31 04:00+0200", "31 06:00+0200"]),
        ("0 */3 * * *", "Australia/Lord_Howe", "2024-10-06", ["06 03:00+1100", "06 06:00+1100"]),
        ("*/30 * * * SUN", "America/Sao_Paulo", "2018-11-03", ["04 01:00-0200", "04 01:30-0200"]),
        # Folds: the first time only, when the hour is named
        ("30 2 * * *", "Europe/Berlin", "2024-10-26 12:00", ["27 02:30+0200", "28 02:30+0100"]),
        ("0 1 * * *", "America/New_York", "2024-11-03", ["03 01:00-0400", "04 01:00-0500"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2024-04-07", ["07 01:45+1100", "08 01:45+1030"]),
        ("30 23 * * SAT", "America/Sao_Paulo", "2018-02-17", ["17 23:30-0200", "24 23:30-0300"]),
        # Folds: both times, when it is not
        ("30 * * * *", "Europe/Berlin", "2024-10-27 02:00", ["27 02:30+0200", "27 02:30+0100", "27 03:30+0100"]),
        ("0 */2 * * *", "Europe/Berlin", "2024-10-27", ["27 02:00+0200", "27 02:00+0100", "27 04:00+0100"]),
        ("0 */3 * * *", "Australia/Lord_Howe", "2024-04-07", ["07 03:00+1030", "07 06:00+1030"]),
        ("30 * * * SAT", "America/Sao_Paulo", "2018-02-17 23:00", ["17 23:30-0200", "17 23:30-0300", "24 00:30-0300"]),
    ],
)
def test_a_changed_night_by_example(expression: str, tz: str, start: str, expected: list[str]) -> None:
    """An hour that is named fires once a day; a `*` in its place follows real time."""
    cron = Cron(expression, tz)
    start_us = at(start, tz)

    times = preview(cron, 0, start_us, len(expected))

    assert expected == read(times, tz)
    assert times == last_n(cron, 0, start_us, times[-1], 10)


def test_an_hour_that_comes_twice_is_told_whole_when_nothing_follows() -> None:
    """What waits for its second showing is not lost where the calendar ends."""
    cron = Cron("30 * * * *", "Europe/Berlin")
    last = datetime.fromisoformat("2024-10-27 02:30")

    both = [at("2024-10-27 00:30"), at("2024-10-27 01:30")]

    assert both == list(cron._in_order(iter([last]), back=False))
    assert both[::-1] == list(cron._in_order(iter([last]), back=True))


def test_a_gap_that_ends_within_a_minute_is_met_to_the_second() -> None:
    """Monrovia left its offset of 44 minutes and 30 seconds at midnight: what that skipped fires at the first second after."""
    cron = Cron("0 0 * * *", "Africa/Monrovia")

    times = preview(cron, 0, at("1972-01-06 12:00"), 2)

    assert (at("1972-01-07 00:44:30"), at("1972-01-08 00:00")) == times


def test_days_that_cron_has_words_for() -> None:
    """The last day, the last weekday, the last Friday and the second Monday of a month."""
    start_us = at("2024-02-01")
    expected = {
        "0 0 L * *": ["29 00:00+0000", "31 00:00+0000"],
        "0 0 LW * *": ["29 00:00+0000", "29 00:00+0000"],
        "0 0 * * 5L": ["23 00:00+0000", "29 00:00+0000"],
        "0 0 * * mon#2": ["12 00:00+0000", "11 00:00+0000"],
        "0 0 13 * FRI": ["02 00:00+0000", "09 00:00+0000"],  # no star: either of the two days is enough
    }

    assert expected == {text: read(preview(Cron(text), 0, start_us, 2), "UTC") for text in expected}


def test_a_time_that_comes_every_forty_years_is_found() -> None:
    """A Sunday that is 29 February is 40 years away when the year 2100 lies between, and is found in both directions."""
    cron = Cron("0 0 29 2 */8")

    assert at("2088-02-29") == last_before(cron, 0, at("2128-02-28"), 0)
    assert at("2128-02-29") == next_after(cron, 0, at("2088-02-29"))


# Every


@given(
    step_us=st.integers(SECOND, MAX_EVERY_DAYS * DAY),
    anchor_us=st.integers(-(2**62), 2**62),
    instant=st.integers(0, YEAR_9999 - 1),
)
def test_every_keeps_to_its_grid_for_ever(step_us: int, anchor_us: int, instant: int) -> None:
    """However far the anchor is: each time is on the grid to the microsecond, the next one after and the last one until."""
    every = Every(timedelta(microseconds=step_us))

    following = next_after(every, anchor_us, instant)
    last = last_before(every, anchor_us, instant, -1)

    assert step_us == every.interval_us
    if following is not None:
        assert 0 == (following - anchor_us) % step_us
        assert instant < following <= instant + step_us
        assert last == last_before(every, anchor_us, following - 1, -1)
    if last is not None:
        assert 0 == (last - anchor_us) % step_us
        assert instant - step_us < last <= instant
        assert following == next_after(every, anchor_us, last)


@given(
    step_us=st.integers(SECOND, 5 * SECOND),
    anchor_us=st.integers(0, 10 * SECOND),
    after_us=st.integers(0, 60 * SECOND),
    length=st.integers(-SECOND, 60 * SECOND),
    n=st.integers(0, 30),
)
def test_the_last_few_of_every_are_those_of_a_count(
    step_us: int, anchor_us: int, after_us: int, length: int, n: int
) -> None:
    """The last n of what fell due in between, the oldest first, as a count over the grid finds them."""
    every = Every(timedelta(microseconds=step_us))
    until_us = after_us + length
    due = [us for k in range(-20, 200) if after_us < (us := anchor_us + k * step_us) <= until_us and us >= 0]

    assert tuple(due[max(0, len(due) - n) :]) == last_n(every, anchor_us, after_us, until_us, n)
    assert due == [us for us in preview(every, anchor_us, after_us, 100) if us <= until_us]


def test_every_second_for_ten_years_does_not_drift() -> None:
    """After ten years without a look, the last three are where they would have been with one each second."""
    anchor_us = at("2016-01-01") + 123_457
    now_us = at("2026-01-01")

    assert tuple(now_us + 123_457 - n * SECOND for n in (3, 2, 1)) == last_n(Every(1), anchor_us, anchor_us, now_us, 3)
    assert now_us + 123_457 == next_after(Every(1), anchor_us, now_us)


@pytest.mark.parametrize("cadence", [Every(3_600), Cron("0 * * * *"), Cron("0 * * * *", "Europe/Berlin")])
def test_the_floor_itself_was_seen_and_the_end_was_not(cadence: Cadence) -> None:
    """Asked once more with the last answer as the floor, nothing is due; a time that is now is due."""
    noon_us = at("2026-06-15 12:00")

    assert noon_us == last_before(cadence, 0, noon_us, noon_us - 1)
    assert None is last_before(cadence, 0, noon_us + MINUTE, noon_us)
    assert () == last_n(cadence, 0, noon_us, noon_us + MINUTE, 3)
    assert (noon_us,) == last_n(cadence, 0, noon_us - 1, noon_us, 3)


# What it costs


@pytest.mark.parametrize(
    ("expression", "tz"), [("* * * * *", "UTC"), ("* * * * *", "Europe/Berlin"), ("30 2 * * *", "Europe/Berlin")]
)
def test_a_year_of_missed_times_costs_no_more_than_one(
    expression: str, tz: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at is what is asked for, however many were missed."""
    looked_at = 0
    readings = module._readings

    def counted(*args: Any, **options: Any) -> Iterator[datetime]:
        nonlocal looked_at
        for reading in readings(*args, **options):
            looked_at += 1
            yield reading

    cron = Cron(expression, tz)
    year_ago, now_us = at("2025-06-15"), at("2026-06-15 00:00:30")
    monkeypatch.setattr(module, "_readings", counted)

    last_before(cron, 0, now_us, year_ago)
    next_after(cron, 0, year_ago)

    assert 2 == looked_at
    assert 50 == len(last_n(cron, 0, year_ago, now_us, 50))
    assert looked_at <= 2 + 51


# Where it ends


def test_after_the_year_9998_nothing_comes() -> None:
    """The calendar ends, for both kinds, and nothing breaks at its end or at numbers that are no times."""
    cron = Cron("59 23 31 12 *", "Pacific/Apia")
    for cadence in (cron, Cron("0 0 29 2 *"), Cron("* * * * *"), Every(timedelta(days=MAX_EVERY_DAYS))):
        assert [None, None] == [next_after(cadence, 0, us) for us in (YEAR_9999 - 1, 2**63)]
        assert None is last_before(cadence, 0, -1, -DAY)
        assert None is last_before(cadence, 1, -(2**63), -(2**64))
        assert next_after(cadence, 0, -(2**63)) == next_after(cadence, 0, -1)
        assert last_before(cadence, 0, 2**63, 0) == last_before(cadence, 0, YEAR_9999 - 1, 0)
        assert () == preview(cadence, 0, YEAR_9999, 3)
        assert () == last_n(cadence, 0, YEAR_9999, 0, 3)
    assert YEAR_9999 - MINUTE == next_after(Cron("59 23 31 12 *"), 0, YEAR_9999 - DAY)
    assert 0 == next_after(Cron("0 0 1 1 *"), 0, -5)


@pytest.mark.parametrize("n", [-1, 1_001, True, 1.0, "1", None])
def test_how_many_is_a_small_number(n: Any) -> None:
    """Nobody asks for a million times at once by mistake."""
    with pytest.raises(InvalidOption, match="n: must be an int from 0 to 1,000"):
        preview(Every(1), 0, 0, n)
    with pytest.raises(InvalidOption, match="n: must be an int from 0 to 1,000"):
        last_n(Every(1), 0, 0, 10, n)


# What is refused


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0, "every: must be at least 1 seconds, not 0"),
        (-5, "every: must be at least 1 seconds, not -5"),
        (0.999, "every: must be at least 1 seconds, not 0.999"),
        (timedelta(microseconds=999_999), "every: must be at least 1 seconds, not 0.999999"),
        (float("nan"), "every: must be finite, not nan"),
        (float("inf"), "every: must be finite, not inf"),
        (10**400, "every: must be finite, not inf"),
        (timedelta.max, "every: must be at most 366 days, not 1e+09"),
        (400 * 86_400, "every: must be at most 366 days, not 400"),
    ],
)
def test_an_interval_that_cannot_be_meant_is_refused(value: Any, sentence: str) -> None:
    """Zero, negative, not finite, too short, too long: a sentence each."""
    with pytest.raises(InvalidSchedule) as refused:
        Every(value)

    assert sentence == str(refused.value)


@pytest.mark.parametrize("value", [True, None, "5", b"5", [5], 1j, Decimal(5)])
def test_an_interval_is_a_number_of_seconds_or_a_timedelta(value: Any) -> None:
    """Everything else is a mistake of the program."""
    with pytest.raises(TypeError, match="every must be a number of seconds or a timedelta, not "):
        Every(value)


FIVE: Final = "needs 5 fields (minute, hour, day of month, month, day of week)"
FORMS: Final = "also lists 1,3, ranges 1-5 and steps */2)"


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("", f"cron: {FIVE}, and '' has 0"),
        (" \t\n", f"cron: {FIVE}, and ' \\t\\n' has 0"),
        ("* * * *", f"cron: {FIVE}, and '* * * *' has 4"),
        ("0 0 0 * * *", f"cron: {FIVE}, and '0 0 0 * * *' has 6"),
        ("@daily", f"cron: {FIVE}, and '@daily' has 1"),
        ("* " * 5_120, "cron: has 10,240 characters, the limit is 500"),
        ("60 * * * *", f"cron: '60' is no minute (0-59; {FORMS}"),
        ("-1 * * * *", f"cron: '-1' is no minute (0-59; {FORMS}"),
        ("*/0 * * * *", f"cron: '*/0' is no minute (0-59; {FORMS}"),
        ("1,,2 * * * *", f"cron: '1,,2' is no minute (0-59; {FORMS}"),
        ("1.5 * * * *", f"cron: '1.5' is no minute (0-59; {FORMS}"),
        ("٣ * * * *", f"cron: '\\u0663' is no minute (0-59; {FORMS}"),
        ("0 24 * * *", f"cron: '24' is no hour (0-23; {FORMS}"),
        ("0 5-3 * * *", f"cron: '5-3' is no hour (0-23; {FORMS}"),
        ("0 0 0 * *", f"cron: '0' is no day of month (1-31, L, LW; {FORMS}"),
        ("0 0 1--100000000 * *", f"cron: '1--100000000' is no day of month (1-31, L, LW; {FORMS}"),
        ("0 0 1-100000000 * *", f"cron: '1-100000000' is no day of month (1-31, L, LW; {FORMS}"),
        ("0 0 1 13 *", f"cron: '13' is no month (1-12, JAN-DEC; {FORMS}"),
        ("0 0 * * 8", f"cron: '8' is no day of week (0-7, SUN-SAT, 5L, MON#1; {FORMS}"),
        ("0 0 * * MON#6", f"cron: 'MON#6' is no day of week (0-7, SUN-SAT, 5L, MON#1; {FORMS}"),
        ("0 0 * * \x00\ud800", f"cron: '\\x00\\ud800' is no day of week (0-7, SUN-SAT, 5L, MON#1; {FORMS}"),
        ("0 0 30 2 *", "cron: '0 0 30 2 *' never fires: no such day ever comes"),
        ("0 0 31 2,4,6,9,11 *", "cron: '0 0 31 2,4,6,9,11 *' never fires: no such day ever comes"),
        ("0 0 */28 * MON#2", "cron: '0 0 */28 * MON#2' never fires: no such day ever comes"),
    ],
)
def test_an_expression_that_cannot_be_meant_is_refused(expression: str, sentence: str) -> None:
    """The field that is wrong is named, and what would do; also when no day is ever right."""
    with pytest.raises(InvalidSchedule) as refused:
        Cron(expression)

    assert sentence == str(refused.value)


@pytest.mark.parametrize(
    "tz",
    [
        "Europe/Berln",
        "Europe",
        "../Europe/Berlin",
        "/etc/localtime",
        "a\x00b",
        "\ud800",
        " UTC",
        "+01:00",
        ".",
        "leapseconds",
        "localtime",
        "posixrules",
        "Factory",
        "right/Europe/Berlin",
        "posix/Europe/Berlin",
    ],
)
def test_a_zone_that_is_not_known_is_refused(tz: str) -> None:
    """
    Misspelled, a folder, a path, or no name at all: one sentence, and no file but a zone's is read. Nor what the machine
    takes for its own zone, which is another one elsewhere, nor zones that count leap seconds, and so are wrong here.
    """
    with pytest.raises(InvalidSchedule) as refused:
        Cron("* * * * *", tz)

    why = "is no time zone that is known here; they have names like 'Europe/Berlin' (the extra 'cron' brings them all)"
    assert f"tz: {tz!a} {why}" == str(refused.value)


@pytest.mark.parametrize("tz", ["", "x" * 101, "x" * 10_240])
def test_the_name_of_a_zone_has_a_length(tz: str) -> None:
    """Empty and overlong names are refused before they are looked for."""
    with pytest.raises(InvalidSchedule, match=f"tz: must have 1 to 100 characters, not {len(tz):,}"):
        Cron("* * * * *", tz)


def test_an_expression_and_a_zone_are_text() -> None:
    """Everything else is a mistake of the program."""
    wrong: Any = b"* * * * *"
    zone: Any = ZoneInfo("Europe/Berlin")

    with pytest.raises(TypeError, match="a cron expression must be a str, not bytes"):
        Cron(wrong)
    with pytest.raises(TypeError, match="tz must be the name of a time zone, as in tz='Europe/Berlin', not ZoneInfo"):
        Cron("* * * * *", zone)


@settings(max_examples=300)
@given(st.lists(st.text("0123456789*/-,#LW?MONJAN ²ß\x00", max_size=8), min_size=5, max_size=5).map(" ".join))
def test_no_expression_breaks_it(expression: str) -> None:
    """Whatever is typed is either taken or refused in a sentence, and what is taken fires and reads back."""
    try:
        cron = Cron(expression)
    except InvalidSchedule as refused:
        assert refused.field == "cron"  # noqa: PT017 -- one of two good ends
        return

    assert cron == cadence_of(str(cron))
    assert None is not next_after(cron, 0, at("2026-01-01"))


def test_without_the_extra_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Every` needs nothing; a `Cron` says what to install."""
    monkeypatch.setitem(sys.modules, "cronsim", None)

    with pytest.raises(
        InvalidSchedule, match=r"cron: needs cronsim, which the extra 'cron' brings: pip install 'callsheet\[cron\]'"
    ):
        Cron("* * * * *")
    assert SECOND == next_after(Every(1), 0, 0)


# As text


@pytest.mark.parametrize(
    ("cadence", "text"),
    [
        (Every(1), "every 1 s"),
        (Every(100), "every 100 s"),
        (Every(1.1), "every 1.1 s"),
        (Every(timedelta(days=366)), "every 31622400 s"),
        (Every(timedelta(seconds=1, microseconds=1)), "every 1.000001 s"),
        (Cron("* * * * *"), "* * * * * UTC"),
        (Cron("  0\t9 * * mon-Fri \n", "Europe/Berlin"), "0 9 * * MON-FRI Europe/Berlin"),
    ],
)
def test_a_cadence_has_one_text_and_reads_back_from_it(cadence: Cadence, text: str) -> None:
    """The same times written the same way: blanks and small letters make no other schedule."""
    assert text == str(cadence)
    assert cadence == cadence_of(text)
    assert hash(cadence) == hash(cadence_of(text))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "cadence"),
        ("hourly", "cadence"),
        ("x" * 10_240, "cadence"),
        ("every 0 s", "every"),
        ("every 99999999 s", "every"),
        ("every 999999999 s", "cron"),
        ("every 1e3 s", "cron"),
        ("every ٣ s", "cron"),
        ("* * * * *", "cron"),
        ("* * * * * Nowhere", "tz"),
    ],
)
def test_a_text_that_is_no_cadence_is_refused(text: str, field: str) -> None:
    """What comes out of a store is checked like everything else."""
    with pytest.raises(InvalidSchedule) as refused:
        cadence_of(text)

    assert field == refused.value.field
