"""
Which times a schedule has: `Every` so many seconds, or as a `Cron` expression says in a time zone.

An expression whose hour does not start with `*` names local times, and each of them fires once: one that a change of the clocks
skips fires at the first instant after the gap (several of them as one fire), one that they show twice fires the first time.
An expression whose hour starts with `*` (as `*` and `*/2` do) follows real time: it fires whenever the zone's clock shows a
minute that it names, so never for minutes that are skipped, and again for minutes that are shown again. `Every` knows no zone:
its times are exactly as far apart as it says, whatever the clocks on the wall do.

Rule: pure, and integers throughout. What an answer costs depends neither on how long ago the last time was nor on how many were
missed; all times are microseconds UTC of the wall clock, in the years 1970 to 9998.
Not here: which of the times are made up, jitter, start and end; reading a cron expression (cronsim, the extra `cron`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Final, TypeAlias

from attrs import field, frozen

from ..errors import InvalidOption, InvalidSchedule, shown
from ..store.policy import SECOND_US, Seconds, seconds
from ..store.records import instant

MIN_EVERY_S: Final = 1.0
"""What recurs more often is a loop inside one run, not a row in the store each time."""
MAX_EVERY_DAYS: Final = 366
MAX_EXPRESSION: Final = 500
"""Characters of a cron expression: enough for one that lists every minute, hour, day and month."""
MAX_ZONE: Final = 100
_NO_PLACE: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Files among those of the zones that name none: what `localtime` is differs from machine to machine."""
MAX_TIMES: Final = 1_000
"""Times that one call returns: nothing else happens while it looks for them, 0.01 to 0.1 ms for each, 1 ms for a rare one."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 -- what a clock on a wall shows has no zone
_US: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_END_US: Final = (datetime(9999, 1, 1) - _EPOCH) // _US  # noqa: DTZ001 -- as above; a year before the calendar of Python ends
_TRIAL: Final = datetime(2000, 1, 1)  # noqa: DTZ001 -- as above; within the 50 years after it each date meets each weekday
_FIELDS: Final = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31, L, LW"),
    ("month", "1-12, JAN-DEC"),
    ("day of week", "0-7, SUN-SAT, 5L, MON#1"),
)


def _interval_us(value: Seconds) -> int:
    try:
        interval_s = seconds(value, "every", least=MIN_EVERY_S)
    except ValueError as error:
        raise InvalidSchedule("every", str(error).removeprefix("every ")) from None
    if interval_s > MAX_EVERY_DAYS * 86_400:
        raise InvalidSchedule("every", f"must be at most {MAX_EVERY_DAYS} days, not {interval_s / 86_400:g}")
    return round(interval_s * SECOND_US)  # exact for a timedelta: a float has room for a year of microseconds


@frozen
class Every:
    """
    Every so many seconds (a number or a timedelta, 1 second to 366 days, kept to the microsecond).

    Its times are `anchor + k · interval` for every integer k, before the anchor too. As text: `every 90 s`.
    Raises TypeError, or InvalidSchedule when it is out of bounds or not finite.
    """

    interval_us: int = field(converter=_interval_us, alias="seconds")

    def __str__(self) -> str:
        whole, rest = divmod(self.interval_us, SECOND_US)
        return f"every {whole}{f'.{rest:06}'.rstrip('0') if rest else ''} s"


def _canonical(value: str) -> str:
    """The expression with single blanks and names in capitals, if it has five fields."""
    if not isinstance(value, str):
        raise TypeError(f"a cron expression must be a str, not {type(value).__name__}")
    if len(value) > MAX_EXPRESSION:
        raise InvalidSchedule("cron", f"has {len(value):,} characters, the limit is {MAX_EXPRESSION}")
    parts = value.upper().split()
    if len(parts) != len(_FIELDS):
        names = ", ".join(name for name, _ in _FIELDS)
        raise InvalidSchedule("cron", f"needs {len(_FIELDS)} fields ({names}), and {shown(value)} has {len(parts)}")
    return " ".join(parts)


def _zone_name(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"tz must be the name of a time zone, as in tz='Europe/Berlin', not {type(value).__name__}")
    if not value or len(value) > MAX_ZONE:
        raise InvalidSchedule("tz", f"must have 1 to {MAX_ZONE} characters, not {len(value):,}")
    return value


@frozen
class Cron:
    """
    The minutes that a cron expression names, on the clocks of a time zone.

    expression: five fields (minute, hour, day of month, month, day of week) as cronsim and Debian's cron read them, at most 500
    characters; when neither of the day fields starts with `*`, either of them is enough. tz: a name of the IANA database.
    Needs the extra `cron`. As text: the expression in capitals, and the zone: `0 9 * * MON-FRI Europe/Berlin`.

    Raises TypeError, or InvalidSchedule: not five fields, a value that cron does not have, an expression that never fires, a
    zone that is not known here, or the extra is missing.
    """

    expression: str = field(converter=_canonical)
    tz: str = field(default="UTC", converter=_zone_name)
    _zone: tzinfo = field(init=False, repr=False, eq=False)

    @_zone.default
    def _find_zone(self) -> tzinfo:
        if self.tz == "UTC":
            return UTC  # known without a database
        from zoneinfo import ZoneInfo

        try:
            if self.tz in _NO_PLACE or self.tz.startswith(("posix/", "right/")):
                raise LookupError(self.tz)
            return ZoneInfo(self.tz)
        except (LookupError, ValueError, OSError):  # no such file, no name of one, a folder or another file
            why = f"{shown(self.tz)} is no time zone that is known here; they have names like 'Europe/Berlin'"
            raise InvalidSchedule("tz", f"{why} (the extra 'cron' brings them all)") from None

    def __attrs_post_init__(self) -> None:
        if wrong := _what_is_wrong(self.expression):
            raise InvalidSchedule("cron", wrong)

    def __str__(self) -> str:
        return f"{self.expression} {self.tz}"

    @property
    def follows_real_time(self) -> bool:
        """Whether it fires for each minute of a changed night as it comes, and not once for each local time."""
        return self.expression.split()[1].startswith("*")

    def times(self, from_us: int, *, back: bool = False) -> Iterator[int]:
        """Its times after `from_us`, in order; or, `back`, those until `from_us`, the last one first."""
        at = _EPOCH + timedelta(microseconds=from_us)
        at += _offset_at(self._zone, at)
        both = _instants(self._zone, at, all_of_them=True)
        # Within an hour that is shown twice, what comes next may have an earlier reading, and what came before a later one.
        fold = timedelta(microseconds=both[-1] - both[0]) if both else timedelta()
        start = (at + fold).replace(second=0, microsecond=0) + _MINUTE if back else at - fold
        last_us = from_us + 1 if back else from_us
        for us in self._in_order(_readings(self.expression, start, back=back), back=back):
            if us < 0 if back else us >= _END_US:
                return
            if (us < last_us) if back else (us > last_us):  # neither beside the point, nor the same end of a gap again
                last_us = us
                yield us

    def _in_order(self, readings: Iterator[datetime], *, back: bool) -> Iterator[int]:
        """When they are shown. All of an hour is shown once before any of it is shown again: that waits in `again`."""
        real = self.follows_real_time
        again: list[int] = []
        for reading in readings:
            instants = _instants(self._zone, reading, all_of_them=real)
            if len(instants) == 2:
                yield instants[-1 if back else 0]
                again.append(instants[0 if back else -1])
            else:
                yield from again
                again.clear()
                yield from instants
        yield from again


Cadence: TypeAlias = "Every | Cron"


def cadence_of(text: str) -> Cadence:
    """What `str(cadence)` wrote. Raises InvalidSchedule."""
    if found := re.fullmatch(r"every ([0-9]{1,8})(?:\.([0-9]{1,6}))? s", text):
        return Every(timedelta(seconds=int(found[1]), microseconds=int((found[2] or "").ljust(6, "0"))))
    expression, blank, tz = text.rpartition(" ")
    if not blank:
        raise InvalidSchedule("cadence", f"{shown(text)} is neither 'every … s' nor a cron expression and a time zone")
    return Cron(expression, tz)


def local(text: str, us: int) -> str | None:
    """
    What the clocks of a cadence show at `us`, where they are not those of UTC: `2027-01-15 09:02:00+01:00`.

    text: what `str(cadence)` wrote; `every` knows no zone.
    """
    if text.startswith("every ") or text.endswith(" UTC"):
        return None
    from zoneinfo import ZoneInfo

    return instant(us).astimezone(ZoneInfo(text.rpartition(" ")[2])).isoformat(" ", "seconds")


def next_after(cadence: Cadence, anchor_us: int, after_us: int) -> int | None:
    """
    The first time of `cadence` after `after_us`, or None: there is none before the year 9999.

    anchor_us: a point of the grid of an `Every`; a `Cron` has no use for it. So it is in all of these functions.
    """
    return next(_onward(cadence, anchor_us, after_us), None)


def last_before(cadence: Cadence, anchor_us: int, until_us: int, floor_us: int) -> int | None:
    """The last time of `cadence` that is at most `until_us`, or None when that is not after `floor_us`."""
    last_us = next(_backward(cadence, anchor_us, until_us), None)
    return None if last_us is None or last_us <= floor_us else last_us


def last_n(cadence: Cadence, anchor_us: int, after_us: int, until_us: int, n: int) -> tuple[int, ...]:
    """
    The last `n` (0 to 1,000) times of `cadence` after `after_us` and until `until_us`, the oldest first.

    Raises InvalidOption.
    """
    missed = takewhile(lambda us: us > after_us, _backward(cadence, anchor_us, until_us))
    return tuple(islice(missed, _number(n)))[::-1]


def preview(cadence: Cadence, anchor_us: int, after_us: int, n: int) -> tuple[int, ...]:
    """The first `n` (0 to 1,000) times of `cadence` after `after_us`; fewer where it ends. Raises InvalidOption."""
    return tuple(islice(_onward(cadence, anchor_us, after_us), _number(n)))


def _number(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MAX_TIMES:
        raise InvalidOption("n", f"must be an int from 0 to {MAX_TIMES:,}, not {shown(n)}")
    return n


def _onward(cadence: Cadence, anchor_us: int, after_us: int) -> Iterator[int]:
    after_us = min(max(after_us, -1), _END_US)
    if isinstance(cadence, Cron):
        return cadence.times(after_us)
    step_us = cadence.interval_us
    return iter(range(after_us + step_us - (after_us - anchor_us) % step_us, _END_US, step_us))


def _backward(cadence: Cadence, anchor_us: int, until_us: int) -> Iterator[int]:
    until_us = min(max(until_us, -1), _END_US - 1)
    if isinstance(cadence, Cron):
        return cadence.times(until_us, back=True)
    return iter(range(until_us - (until_us - anchor_us) % cadence.interval_us, -1, -cadence.interval_us))


def _what_is_wrong(expression: str) -> str | None:
    """Why nothing can be scheduled by it, or None. That it never fires may take a search of 50 years: at most 0.1 s."""
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError:
        return "needs cronsim, which the extra 'cron' brings: pip install 'callsheet[cron]'"
    try:
        if next(_readings(expression, _TRIAL, back=False), None) is not None:
            return None
    except CronSimError:
        for n, (part, (name, values)) in enumerate(zip(expression.split(), _FIELDS, strict=True)):
            alone = ["*"] * len(_FIELDS)
            alone[n] = part
            try:
                CronSim(" ".join(alone), _TRIAL)
            except CronSimError:
                return f"{shown(part)} is no {name} ({values}; also lists 1,3, ranges 1-5 and steps */2)"
    return f"{shown(expression)} never fires: no such day ever comes"


def _readings(expression: str, start: datetime, *, back: bool) -> Iterator[datetime]:
    """
    What a clock on the wall shows when it should fire, in order, `start` itself left out.

    cronsim is given no zone: with one it leaves times out around changes of the clocks (`0 */3 * * *` has no 03:00 on the days
    on which Australia/Lord_Howe changes by half an hour), and going back it passes over an hour that is shown again.
    """
    from cronsim import CronSim

    try:
        yield from CronSim(expression, start, reverse=back)
    except OverflowError:
        return  # Python's last year


def _offset_at(zone: tzinfo, at: datetime) -> timedelta:
    return at.replace(tzinfo=UTC).astimezone(zone).utcoffset() or timedelta()


def _instants(zone: tzinfo, reading: datetime, *, all_of_them: bool) -> tuple[int, ...]:
    """
    When the clocks of the zone show `reading`, in order: never when it is skipped, twice when it is shown twice.

    Not `all_of_them`: exactly once, at the first of the two or at the end of the gap.
    """
    early = reading - (reading.replace(tzinfo=zone).utcoffset() or timedelta())
    late = reading - (reading.replace(tzinfo=zone, fold=1).utcoffset() or timedelta())
    if early > late:  # PEP 495: in a gap the first is the one after the change
        return () if all_of_them else (_change_us(zone, late, early),)
    early_us = (early - _EPOCH) // _US
    return (early_us, (late - _EPOCH) // _US) if late > early and all_of_them else (early_us,)


def _change_us(zone: tzinfo, before: datetime, after: datetime) -> int:
    """The first second after `before` with another offset: there is one until `after`."""
    old = _offset_at(zone, before)
    start_s = (before - _EPOCH) // timedelta(seconds=1)
    those = range(start_s, (after - _EPOCH) // timedelta(seconds=1))
    changed = bisect_left(those, True, key=lambda s: _offset_at(zone, _EPOCH + timedelta(seconds=s)) != old)
    return (start_s + changed) * SECOND_US
