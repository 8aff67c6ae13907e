"""
The schedules that clients see: read when one was changed, and never for what runs do.

Rule 1: of what was said of a schedule a few short texts are kept, and a digest: so a change of one costs the others neither
    JSON nor cron, and no payload stays here or goes out.
Rule 2: bounded: MAX_SCHEDULES rows of at most MAX_BYTES together, the soonest first; what is left out is counted.
Rule 3: times are on the wall clock, and go out with how far that is ahead of the clock that a client counts ages by.
Not here: which of them may be seen (`sight`), when to look (`feed`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final

from attrs import define, evolve, field, frozen

from ..schedules.cadence import local
from ..schedules.plan import Plan, plan_said
from ..store.contract import Reader
from ..store.records import Fired, Schedule
from .rows import Row, clip

MAX_SCHEDULES: Final = 200
MAX_BYTES: Final = 96 * 1024
"""Of a frame's 256 KiB: runs need the rest. Enough for 200 schedules whose names are of a usual length."""
MAX_CADENCE: Final = 120
"""Characters of a cron expression; longer ones are shown whole in the details."""
MAX_COMING: Final = 5
"""Times to come in a schedule's details."""
MAX_GONE: Final = 10
"""Times that came in a schedule's details: the last ones."""
STEP_US: Final = 500_000
"""The wall clock was set when it is found so far from where it was: less nobody sees, and each news of it is a frame."""


@frozen
class Said:
    """What is shown of what was said of a schedule."""

    task: str
    cadence: str


@frozen
class Posted:
    """A schedule as it stands."""

    schedule: Schedule
    """Without its body."""
    digest: bytes
    said: Said | None
    """None where this release cannot read it."""


@frozen
class Rights:
    """What the monitor may do with a schedule that it may see."""

    steer: bool = False
    trigger: bool = False


@define(eq=False)
class Timetable:
    """As it was read last."""

    is_stale: bool = True
    """Whether a schedule was changed since."""
    posted: tuple[Posted, ...] = ()
    ahead_us: int = 0
    """How far the wall clock is ahead of the one that clients count by."""
    _shown: tuple[object, ...] | None = field(default=None, init=False)
    """What the part was made of that clients have."""

    def begin(self) -> bool:
        """Whether it is to be read now. What is changed from here on makes it stale again."""
        was, self.is_stale = self.is_stale, False
        return was

    def read(self, reader: Reader) -> tuple[Posted, ...]:
        """All of them. Called in a thread: changes nothing."""
        before = {(each.schedule.jobs, each.schedule.key): each for each in self.posted}
        return tuple([posted(each, before.get((each.jobs, each.key))) for each in reader.schedules()])

    def is_news(self, hidden: frozenset[str], ahead_us: int) -> bool:
        """Whether clients have something else. hidden: Jobs that may not be seen. ahead_us: see there."""
        if abs(ahead_us - self.ahead_us) >= STEP_US:
            self.ahead_us = ahead_us
        shown = (self.posted, hidden, self.ahead_us)
        was, self._shown = self._shown, shown
        return was is None or was[0] is not shown[0] or was[1:] != shown[1:]


def posted(schedule: Schedule, before: Posted | None = None) -> Posted:
    """This one. before: as it was read last."""
    if before is not None and _written(schedule) == _written(before.schedule):
        return before
    digest = blake2b(schedule.body, digest_size=16).digest()
    if before is not None and before.digest == digest:  # it moved on, and says what it said
        return Posted(evolve(schedule, body=b""), digest, before.said)
    plan = plan_said(schedule)
    return Posted(evolve(schedule, body=b""), digest, None if plan is None else Said(plan.task, str(plan.cadence)))


def _written(schedule: Schedule) -> tuple[int, int, int]:
    """When it was written; of one that was deleted and made again the version begins anew."""
    return schedule.version, schedule.created_us, schedule.updated_us


def soonest_first(each: Posted) -> tuple[bool, int, str, str]:
    """The order of the list; last those that have no time to come."""
    next_us = _next_us(each.schedule)
    return next_us is None, next_us or 0, each.schedule.jobs, each.schedule.key


def schedules_part(rows: Iterable[Callable[[], Row]], ahead_us: int) -> Row:
    """What goes out: as many rows as may, from the first; no others are made."""
    shown: list[Row] = []
    more, room = 0, MAX_BYTES
    for make in rows:
        if not more and len(shown) < MAX_SCHEDULES:
            row = make()
            room -= len(json.dumps(row))
            if room >= 0:
                shown.append(row)
                continue
        more += 1
    return {"ahead_us": ahead_us, "more": more, "rows": shown}


def schedule_row(each: Posted, rights: Rights, *, is_here: bool) -> Row:
    """One line of the list. is_here: whether the code has its task, as far as that is known here."""
    schedule, said = each.schedule, each.said
    next_us = _next_us(schedule)
    cadence = "" if said is None else said.cadence
    is_zoned = bool(cadence) and not cadence.startswith("every ")
    return {
        "jobs": schedule.jobs,
        "key": schedule.key,
        "version": schedule.version,
        "task": None if said is None else said.task,
        "cadence": None if said is None else clip(cadence.rpartition(" ")[0] if is_zoned else cadence, MAX_CADENCE),
        "zone": cadence.rpartition(" ")[2] if is_zoned else None,
        "state": standing(schedule, is_here=is_here, is_read=said is not None),
        "paused": schedule.paused,
        "next_us": next_us,
        "next_local": _local(said, next_us),
        "due_us": None if next_us is None else schedule.due_us,
        "last_us": schedule.last_us,
        "last_local": _local(said, schedule.last_us),
        "fired": schedule.fired,
        "skipped": schedule.skipped,
        "may_steer": rights.steer,
        "may_trigger": rights.trigger,
    }


def standing(schedule: Schedule, *, is_here: bool, is_read: bool = True) -> str:
    """In one word: `on`, or why it requests nothing; the first that holds."""
    words = {
        "unreadable": not is_read,
        "orphaned": schedule.orphaned,
        "paused": schedule.paused,
        "no_task": not is_here,
        "waits": schedule.waiting_us is not None,
        "over": schedule.next_us is None,
    }
    return next((word for word, holds in words.items() if holds), "on")


def schedule_details(row: Row, schedule: Schedule, plan: Plan, coming: Sequence[int], gone: Sequence[Fired]) -> Row:
    """What is shown of one that is looked at, beside its row."""
    said = Said(plan.task, str(plan.cadence))
    return row | {
        "cadence": said.cadence.rpartition(" ")[0] if row["zone"] else said.cadence,
        "queue": plan.queue,
        "origin": plan.origin,
        "misfire": str(plan.misfire),
        "misfire_cap": plan.misfire_cap,
        "overlap": str(plan.overlap),
        "jitter_us": plan.jitter_us,
        "start_us": plan.start_us,
        "end_us": plan.end_us,
        "waiting_us": schedule.waiting_us,
        "payload_bytes": len(plan.payload),
        "created_us": schedule.created_us,
        "updated_us": schedule.updated_us,
        "coming": [{"us": us, "local": _local(said, us)} for us in coming],
        "gone": [
            {
                "us": each.nominal_us,
                "local": _local(said, each.nominal_us),
                "at_us": each.at_us,
                "did": str(each.did),
                "times": each.times,
                "run_id": each.run_id,
            }
            for each in gone
        ],
    }


def _next_us(schedule: Schedule) -> int | None:
    return None if schedule.paused or schedule.orphaned else schedule.next_us


def _local(said: Said | None, us: int | None) -> str | None:
    return None if said is None or us is None else local(said.cadence, us)
