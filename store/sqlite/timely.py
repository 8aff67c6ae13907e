"""
Which ids tell when their run was created: those that begin with that time, as the ones do that we make (ULIDs).

Rule: only `runs.timely` is trusted, which is set where a row is stored; an id may be anything that a user gives. Nor is a
row that is due before it was created timely, so that a timely one is of no later time than it is due.
That makes a window of time a range of ids, so that a list of it reads its page and nothing beside it. One that is open
to the future ends where the last timely id may be, or it would step over every other id that sorts after them.
Not here: how ids are made (`actors/seams.py`).
"""

from __future__ import annotations

from typing import Final

DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TOLD_BEFORE: Final = "select value from meta where name = 'timely_before_us'"
"""No timely id is of a later time than this; no row: there are none."""
TELL_BEFORE: Final = """
    insert into meta(name, value) values ('timely_before_us', ?) on conflict do update set value = excluded.value
    """
HOUR_US: Final = 3_600_000_000
"""It is set so far ahead that it is rarely written."""
ANY_UNTIMELY: Final = "select 1 from runs indexed by untimely where timely is null limit 1"
_LENGTH: Final = 10
_MOST: Final = 32**_LENGTH - 1


def stamp(created_us: int) -> str | None:
    """The first ten characters of an id that was made at that time; they sort by time. None where they cannot tell it."""
    rest = created_us // 1000
    if not 0 <= rest <= _MOST:
        return None
    return "".join([DIGITS[rest >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)])


def id_range(from_us: int | None, before_us: int | None) -> tuple[str | None, str | None]:
    """(first, end): all timely ids of runs created in the window lie in first <= id < end; None where it is open."""
    first = None if from_us is None else stamp(from_us)
    end = None if before_us is None else stamp(before_us + 999)  # the millisecond after the last one of the window
    return first, end
