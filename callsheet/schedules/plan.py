"""
What was said of a schedule: which run, when, and by which policies. Checked whole when it is said, and kept as JSON.

Rule: a plan is a value; the payload and the options of its runs are those of the moment in which it was said.
Not here: which times there are (`cadence`), what follows when one comes (`decide`).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, cast

from attrs import field, frozen

from .. import enqueue as enqueueing
from ..enqueue import EnqueueOptions, instant_us
from ..errors import InvalidOption, InvalidSchedule, shown
from ..names import check_name
from ..store.policy import SECOND_US, seconds
from ..store.records import instant
from .cadence import MAX_TIMES, Cadence, Every, cadence_of, next_after

if TYPE_CHECKING:
    from ..actors.seams import Seams
    from ..store.records import Schedule
    from ..task import Task

V = TypeVar("V", bound=StrEnum)

MAX_CAP: Final = MAX_TIMES
"""Runs that one look may make up for."""
DEFAULT_CAP: Final = 100
MAX_JITTER_S: Final = 86_400.0
_OF_RUNS: Final = ("queue", "priority", "timeout", "max_attempts", "trace_id")


class Misfire(StrEnum):
    """What becomes of times that came while nobody was there to see."""

    SKIP = "skip"
    """Nothing."""
    LATEST = "latest"
    """One run, for the last of them."""
    ALL = "all"
    """A run for each, the last `misfire_cap` of them."""


class Overlap(StrEnum):
    """What becomes of a time that comes while a run of the schedule has not ended, a retrying one included."""

    SKIP = "skip"
    """Nothing."""
    ALLOW = "allow"
    """A run like any other."""
    QUEUE = "queue"
    """One of them waits until that run has ended; further ones come to nothing."""


class ScheduleOptions(TypedDict, total=False):
    """What `every` and `cron` take beside key, times, task and payload."""

    first: Literal["next", "now"]
    """The first time: the next one of the cadence (the default), or at once."""
    start: datetime | str
    """No time before it; the grid of `every` begins there. An aware datetime, or RFC 3339 text."""
    end: datetime | str
    """No time after it."""
    jitter: float | timedelta
    """
    Seconds by which a run may be later than its time, at most a day and half of `every`, and never as late as the next time;
    how much follows from key and time.
    """
    misfire: Misfire | Literal["skip", "latest", "all"]
    misfire_cap: int
    """With misfire="all": 1 … 1,000 runs, default 100."""
    overlap: Overlap | Literal["skip", "allow", "queue"]
    queue: str
    priority: int
    timeout: float
    max_attempts: int
    trace_id: str


@frozen
class Plan:
    """One schedule, as it was said."""

    key: str
    task: str
    queue: str
    """`namespace/queue`."""
    schema: str
    payload: bytes
    priority: int
    max_attempts: int
    timeout_us: int | None
    trace_id: str | None
    at_most_once: bool
    cadence: Cadence
    anchor_us: int
    """A point of the grid of an `Every`."""
    start_us: int | None
    end_us: int | None
    jitter_us: int
    misfire: Misfire
    misfire_cap: int
    overlap: Overlap
    first: Literal["next", "now"] = "next"
    origin: Literal["code", "call"] = field(default="call")
    """Whether the code declares it, or a call made it."""

    def due_us(self, nominal_us: int) -> int:
        """When the run of this time is requested: the same in every process, and before the next time."""
        if not self.jitter_us:
            return nominal_us
        following_us = next_after(self.cadence, self.anchor_us, nominal_us)
        most_us = self.jitter_us if following_us is None else min(self.jitter_us, following_us - nominal_us)
        digest = blake2b(f"{self.key}\n{nominal_us}".encode(), digest_size=8).digest()
        return nominal_us + int.from_bytes(digest) * most_us // 2**64

    def comes_as(self, other: Plan) -> bool:
        """Whether its times are those of the other."""
        mine, theirs = ((p.cadence, p.start_us, p.end_us, p.jitter_us) for p in (self, other))
        return mine == theirs


def plan_of(
    key: object,
    cadence: Cadence,
    task: Task[Any, Any],
    payload: object,
    options: ScheduleOptions,
    *,
    seams: Seams,
    origin: Literal["code", "call"] = "call",
) -> Plan:
    """
    Raises InvalidName, InvalidSchedule, InvalidOption, UnknownTask, UnknownQueue, PayloadInvalid, PayloadTooLarge, TypeError.
    """
    unknown = options.keys() - ScheduleOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(ScheduleOptions.__annotations__)
        raise TypeError(f"a schedule has no option {min(unknown)!r}; it has {known}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    checked = check_name(key, "schedule key", slash=True)
    of_runs = cast("EnqueueOptions", {name: given[name] for name in _OF_RUNS if name in given})
    run = enqueueing.new_run(task, payload, of_runs, seams)
    start_us, end_us = _time(given, "start"), _time(given, "end")
    if start_us is not None and end_us is not None and end_us < start_us:
        raise InvalidSchedule("end", "is before its start: no time would ever come")
    return Plan(
        key=checked,
        task=run.lane.task,
        queue=run.lane.queue,
        schema=run.lane.schema,
        payload=run.payload,
        priority=run.priority,
        max_attempts=run.max_attempts,
        timeout_us=run.timeout_us,
        trace_id=run.trace_id,
        at_most_once=run.at_most_once,
        cadence=cadence,
        anchor_us=seams.clock.wall_us() if start_us is None else start_us,
        start_us=start_us,
        end_us=end_us,
        jitter_us=_jitter_us(given.get("jitter", 0), cadence),
        misfire=_one_of(Misfire, given.get("misfire", Misfire.LATEST), "misfire"),
        misfire_cap=_cap(given.get("misfire_cap", DEFAULT_CAP)),
        overlap=_one_of(Overlap, given.get("overlap", Overlap.SKIP), "overlap"),
        first=_first(given.get("first", "next")),
        origin=origin,
    )


def _time(given: dict[str, Any], name: str) -> int | None:
    if name not in given:
        return None
    us = instant_us(given[name], name)
    try:
        instant(us)
    except (ValueError, OverflowError):  # it had another offset: nobody could be shown it in UTC
        raise InvalidSchedule(name, "is before the year 1 or after the year 9999 in UTC") from None
    return us


def _jitter_us(value: object, cadence: Cadence) -> int:
    most = min(MAX_JITTER_S, cadence.interval_us / SECOND_US / 2) if isinstance(cadence, Every) else MAX_JITTER_S
    try:
        return int(seconds(value, "jitter", most=most) * SECOND_US)
    except ValueError as error:
        raise InvalidSchedule("jitter", str(error).removeprefix("jitter ")) from None


def _one_of(kind: type[V], value: object, what: str) -> V:
    try:
        return kind(value)  # type: ignore[arg-type]  # whatever was given is looked up
    except ValueError:
        raise InvalidOption(what, f"{shown(value)} is none of {', '.join(kind)}") from None


def _cap(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CAP:
        raise InvalidOption("misfire_cap", f"must be an int from 1 to {MAX_CAP:,}, not {shown(value)}")
    return value


def _first(value: object) -> Literal["next", "now"]:
    if value == "next":
        return "next"
    if value == "now":
        return "now"
    raise InvalidOption("first", f'must be "next" or "now", not {shown(value)}')


# ---------------------------------------------------------------- as it is kept

_VERSION: Final = 1
_PLAIN: Final = (
    "key", "task", "queue", "schema", "priority", "max_attempts", "timeout_us", "trace_id", "at_most_once", "anchor_us",
    "start_us", "end_us", "jitter_us", "misfire_cap", "first", "origin",
)  # fmt: skip


def to_body(plan: Plan) -> bytes:
    """As the store keeps it."""
    told: dict[str, Any] = {"v": _VERSION} | {name: getattr(plan, name) for name in _PLAIN}
    told |= {"cadence": str(plan.cadence), "misfire": str(plan.misfire), "overlap": str(plan.overlap)}
    return json.dumps(told | {"payload": plan.payload.decode()}, separators=(",", ":")).encode()


def from_body(body: bytes) -> Plan:
    """The plan that was kept. Raises ValueError for one of another release that this one cannot read."""
    told = json.loads(body)
    if told.get("v") != _VERSION:
        raise ValueError(f"it was said to another release of callsheet (form {told.get('v')})")
    return Plan(
        payload=told["payload"].encode(),
        cadence=cadence_of(told["cadence"]),
        misfire=Misfire(told["misfire"]),
        overlap=Overlap(told["overlap"]),
        **{name: told[name] for name in _PLAIN},
    )


def plan_said(schedule: Schedule) -> Plan | None:
    """What a stored schedule says; None where it was said to another release, and this one cannot read it."""
    try:
        return from_body(schedule.body)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
