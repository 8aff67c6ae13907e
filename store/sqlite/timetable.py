"""
What the doctor says of schedules: whether they can be read, and whether somebody looks after them.

Rule: nobody is blamed for times that pass while no runtime is open.
Not here: what their bodies say (`callsheet.schedules.plan`), who has the database open (`holders`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import apsw

from ..arithmetic import ahead, is_ahead
from ..records import Schedule, instant
from .codes import SCHEDULE_COLUMNS, schedule_of
from .connection import rows, value
from .findings import Finding, broken, fine, warning
from .holders import SEEN_US

LATE_US: Final = 60_000_000
"""A runtime looks once a second; one that was opened just now, or is hard at work, may take longer."""
SOME: Final = 3
"""That are named."""
_IS_THERE: Final = "select 1 from sqlite_schema where name = 'schedules'"
_ALL: Final = f"select {SCHEDULE_COLUMNS} from schedules order by jobs, key"  # noqa: S608
_OPEN: Final = "select count(*) from owners where not closed and seen_us > ?"


def schedules(db: apsw.Connection, now_us: int) -> Iterator[Finding]:
    """Each is readable; of those that are due, somebody knows."""
    if value(db, _IS_THERE) is None:  # made by an older release
        return
    n, unreadable, late, before = 0, list[str](), list[str](), list[str]()
    for row in rows(db, _ALL):
        each = schedule_of(row)
        n += 1
        if not _is_readable(each):
            unreadable.append(_named(each))
        elif _is_late(each, now_us):
            late.append(f"{_named(each)} (since {instant(each.due_us or 0)})")
        elif is_ahead(each, now_us):
            before.append(f"{_named(each)}: {ahead(each)}")
    if unreadable:
        yield broken(
            "schedules", f"what was said of {_some(unreadable)} cannot be read", "say it again, with the same key"
        )
    elif late and value(db, _OPEN, (now_us - SEEN_US,)):
        why = f"{_some(late)} should have been looked at, and a runtime is open"
        yield warning("schedules", why, "let a runtime run these jobs, with the task of the schedule")
    elif before:
        yield warning("schedules", _some(before), "if the clock is right now: delete the schedule, and say it again")
    else:
        yield fine("schedules", f"all can be read: there are {n:,}" if n else "there are none")


def _is_readable(schedule: Schedule) -> bool:
    try:
        told: Any = json.loads(schedule.body)
    except ValueError:
        return False
    return isinstance(told, dict) and "v" in told


def _is_late(schedule: Schedule, now_us: int) -> bool:
    is_on = not schedule.paused and not schedule.orphaned
    return is_on and schedule.due_us is not None and schedule.due_us < now_us - LATE_US


def _named(schedule: Schedule) -> str:
    return f"schedule {schedule.key} of {schedule.jobs}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SOME:,} more" if len(names) > SOME else ""
    return f"{', '.join(names[:SOME])}{more}"
