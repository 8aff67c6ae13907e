"""
From a call of `enqueue` to a run that can be stored: every argument is checked here, before anything is.

Rule: pure but for the ids and clocks it is given; what it returns is valid.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from attrs import define, evolve, field, frozen

from .actors.seams import Seams
from .errors import InvalidOption, InvalidSchedule, PolicyDenied, shown
from .guard import Action
from .names import MAX_KEY, check_name
from .store import codec
from .store.arithmetic import run_of
from .store.policy import SECOND_US, check_attempts, microseconds, seconds
from .store.records import Clock, Lane, NewRun, Run, Status

if TYPE_CHECKING:
    from .jobs import Jobs
    from .task import Task

MAX_AHEAD_S: Final = 10 * 365 * 86_400
"""No run is scheduled further ahead than ten years: beyond that it is a mistake in a unit."""
MAX_TIMEOUT_S: Final = 366 * 86_400.0
MAX_ENTRIES: Final = 10_000
"""Runs of one `enqueue_many`: they share one commit."""
_NOBODY: Final = NewRun("", Lane("", "", "", ""), b"", 0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

OnConflict = Literal["return", "raise"]


class EnqueueOptions(TypedDict, total=False):
    """Everything `enqueue` takes beside the task and its payload."""

    delay: float | timedelta
    """Seconds before the first start."""
    run_at: datetime | str
    """Not before this time: an aware datetime, or RFC 3339 text."""
    idempotency_key: str
    on_conflict: OnConflict
    queue: str
    priority: int
    timeout: float
    max_attempts: int
    trace_id: str
    run_id: str


@frozen
class Entry:
    """One run of an `enqueue_many`; made by `Task.entry` and `Jobs.entry`."""

    task: Task[Any, Any]
    payload: object
    options: EnqueueOptions


@define(eq=False)
class EnqueueResult:
    """
    What `enqueue` acknowledges.

    run_id: of the new run, or of the one that was there. deduped: whether it was there already. denied: why `run` may not be
    looked at; None where it may.
    payload_matches: with a key or an id that was there, whether that run has the same task and payload; else True.
    """

    run_id: str
    deduped: bool
    payload_matches: bool
    _known: NewRun | Run = field(repr=False)
    denied: PolicyDenied | None = field(default=None, init=False, repr=False)

    @property
    def run(self) -> Run:
        """
        The run: as it was born, or as it was found.

        Raises PolicyDenied where it was there before, or replays another one, and may not be read.
        """
        if self.denied is not None:
            raise self.denied.with_traceback(None)
        return self._known if isinstance(self._known, Run) else run_of(self._known)


def new_run(
    task: Task[Any, Any],
    payload: object,
    options: EnqueueOptions,
    seams: Seams,
    *,
    by: Clock = Clock.STEADY,
    now_us: int | None = None,
) -> NewRun:
    """
    The run that a call of `enqueue` asks for. An option that is None counts as not given. by: the clock of a delay. now_us:
    when it is created, where the steady clock was read already.

    Raises InvalidSchedule, InvalidOption, InvalidName, UnknownQueue, PayloadInvalid, PayloadTooLarge, TypeError.
    """
    if options:
        check_known(options)
    if task.payload_type is not None:
        codec.check(payload, task.payload_type)
    body = codec.encode(payload, limit=task.jobs.max_payload)
    if task.hooks:
        options = _asked(task, payload, body, options)
    if now_us is None:
        now_us = seams.clock.steady_us()
    plain = NewRun(
        id=seams.ids.run_id(now_us),
        lane=task.lane,
        payload=body,
        created_us=now_us,
        due_us=now_us,
        max_attempts=task.policy.attempts,
        timeout_us=task.timeout_us,
        at_most_once=task.at_most_once,
    )
    return _with_options(plain, task, options, seams, by) if options else plain


def _asked(task: Task[Any, Any], payload: object, body: bytes, options: EnqueueOptions) -> EnqueueOptions:
    """`options` with what the job itself decides put under them."""
    job = payload if isinstance(payload, task.payload_type) else codec.decode(body, task.payload_type)
    wanted: dict[str, Any] = {}
    if "job_queue" in task.hooks and options.get("queue") is None:
        queue = job.job_queue()
        if not isinstance(queue, str | None):
            raise TypeError(f"job_queue() of {task.name!r} must return a str or None, not {type(queue).__name__}")
        wanted["queue"] = queue
    if "job_max_attempts" in task.hooks and options.get("max_attempts") is None:
        attempts = job.job_max_attempts()
        wanted["max_attempts"] = (
            None if attempts is None else _attempts(attempts, f"job_max_attempts() of {task.name!r}")
        )
    return typing.cast("EnqueueOptions", {**options, **wanted}) if wanted else options


def check_known(options: EnqueueOptions) -> None:
    """Raises TypeError that names an option which `enqueue` does not have."""
    unknown = options.keys() - EnqueueOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"enqueue has no option {min(unknown)!r}; it has {', '.join(EnqueueOptions.__annotations__)}")


def _with_options(run: NewRun, task: Task[Any, Any], options: EnqueueOptions, seams: Seams, by: Clock) -> NewRun:
    """`run` with what `options` say put in; options are rare where speed counts, so each may cost a copy."""
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    changes: dict[str, Any] = {}
    if "run_id" in given:
        changes |= {"id": check_name(given["run_id"], "run_id"), "payload_hash": None}
    if "queue" in given:
        changes["lane"] = evolve(task.lane, queue=task.jobs.queue_named(given["queue"]))
    if "priority" in given:
        changes["priority"] = _priority(given["priority"])
    if "max_attempts" in given:
        changes["max_attempts"] = _attempts(given["max_attempts"])
    if "timeout" in given:
        changes["timeout_us"] = timeout_us(given["timeout"])
    if "trace_id" in given:
        changes["trace_id"] = check_name(given["trace_id"], "trace_id", slash=True)
    if "idempotency_key" in given:
        key = check_name(given["idempotency_key"], "idempotency_key", most=MAX_KEY, slash=True)
        changes |= {"idempotency_key": key, "payload_hash": None}
    if "payload_hash" in changes:  # it can be asked for again
        changes["payload_hash"] = codec.payload_hash(task.first_name, run.payload)
    if given.get("on_conflict", "return") not in ("return", "raise"):
        raise InvalidOption("on_conflict", f'must be "return" or "raise", not {shown(given["on_conflict"])}')
    return scheduled(evolve(run, **changes), given.get("delay"), given.get("run_at"), seams, by=by)


def scheduled(run: NewRun, delay: object, run_at: object, seams: Seams, *, by: Clock = Clock.STEADY) -> NewRun:
    """
    `run` with the time of its first start put in, where `delay` or `run_at` (not both) name one in the future.

    by: the clock of a delay: WALL where another process will run it, which knows nothing of our steady clock.
    """
    if delay is not None and run_at is not None:
        raise InvalidSchedule("delay and run_at", "give one of them, not both")
    now = seams.now()
    if delay is not None:
        now_us = now.wall_us if by is Clock.WALL else now.steady_us
        return _due(run, now_us + microseconds(_delay_s(delay)), by, now_us)
    if run_at is not None:
        due_us = instant_us(run_at, "run_at")
        if due_us > now.wall_us + MAX_AHEAD_S * SECOND_US:
            raise InvalidSchedule("run_at", "is more than 10 years ahead")
        return _due(run, due_us, Clock.WALL, now.wall_us)
    return run


def check_times(delay: object, run_at: object, seams: Seams) -> None:
    """Raise what `scheduled` would, before anything is done."""
    scheduled(_NOBODY, delay, run_at, seams)


def _due(run: NewRun, due_us: int, clock: Clock, now_us: int) -> NewRun:
    if due_us <= now_us:
        return run  # the past means now
    return evolve(run, status=Status.SCHEDULED, due_us=due_us, clock=clock)


def _delay_s(delay: object) -> float:
    try:
        return seconds(delay, "delay", most=MAX_AHEAD_S)
    except ValueError as error:
        raise InvalidSchedule("delay", str(error).removeprefix("delay ")) from None


def instant_us(value: object, what: str) -> int:
    """An aware datetime, or RFC 3339 text, as microseconds UTC. Raises TypeError or InvalidSchedule that names `what`."""
    when = _parsed(value, what) if isinstance(value, str) else value
    if not isinstance(when, datetime):
        raise TypeError(f"{what} must be an aware datetime or RFC 3339 text, not {type(when).__name__}")
    if when.utcoffset() is None:
        raise InvalidSchedule(what, "has no time zone; say which, for example datetime.now(UTC) + timedelta(hours=1)")
    return (when - _EPOCH) // timedelta(microseconds=1)


def _parsed(text: str, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSchedule(what, f"{text[:80]!a} is not a time as RFC 3339 writes it") from None


def _priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 9:
        raise InvalidOption("priority", f"must be an int from 0 (first) to 9, not {shown(priority)}")
    return priority


def _attempts(attempts: object, what: str = "max_attempts") -> int:
    try:
        return check_attempts(attempts, what)
    except ValueError as error:
        raise InvalidOption(what, str(error).removeprefix(f"{what} ")) from None


def timeout_us(timeout: object) -> int:
    """A timeout in seconds (more than 0, at most 366 days) as microseconds. Raises InvalidOption or TypeError."""
    try:
        timeout_s = seconds(timeout, "timeout", most=MAX_TIMEOUT_S)
    except ValueError as error:
        raise InvalidOption("timeout", str(error).removeprefix("timeout ")) from None
    if timeout_s <= 0:
        raise InvalidOption("timeout", "must be more than 0 seconds")
    return max(1, microseconds(timeout_s))


def results(jobs: Jobs, runs: Sequence[NewRun], existing: Sequence[Run | None]) -> list[EnqueueResult]:
    """What was answered to an Insert, for the caller: who may not read what was there is not shown it."""
    answers = [
        EnqueueResult(run.id, False, True, run)
        if found is None
        else EnqueueResult(found.id, True, _matches(run, found), found)
        for run, found in zip(runs, existing, strict=True)
    ]
    if jobs.policy is not None:
        for answer, run, found in zip(answers, runs, existing, strict=True):
            if found is not None or run.replay_of is not None:  # not what the caller knows because it sent it
                answer.denied = jobs.policy.denial(Action.READ, run=found or run_of(run), run_id=answer.run_id)
    return answers


def _matches(run: NewRun, found: Run) -> bool:
    if run.payload_hash is None or found.payload_hash is None:
        return run.lane.task == found.lane.task
    return run.payload_hash == found.payload_hash
