"""
Why a run is where it is, in a word for programs and in a sentence for people.

Rule: pure. Everything that may hold it up is looked at, so that nobody mends one thing to find the next.
Not here: gathering the facts (`runs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from attrs import frozen

from .store.arithmetic import is_due
from .store.errors import StoreFull
from .store.policy import DEATHS_BEFORE_SUSPECT
from .store.records import Count, Now, Owner, Run, Status, instant
from .supervisor.limits import QueueLimits


class Reason(StrEnum):
    """What `runs.explain` answers."""

    ENDED = "ended"
    RUNNING = "running"
    STUCK = "stuck"
    """It was told to stop, and its handler goes on."""
    NEXT = "next"
    """Nothing holds it up: it starts as soon as those before it have."""
    STORE_FULL = "store_full"
    STORE_BUSY = "store_busy"
    """The store refuses writes for another reason: somebody's transaction, a disk that fails."""
    NOT_DUE = "not_due"
    UNREADABLE = "unreadable"
    """Its payload was not of its task's type; it waits for code that can read it."""
    NO_RUNTIME_WATCHES = "no_runtime_watches"
    UNKNOWN_TASK = "unknown_task"
    UNKNOWN_SCHEMA = "unknown_schema"
    TASK_PARKED = "task_parked"
    QUEUE_PAUSED = "queue_paused"
    QUARANTINE = "quarantine"
    """The process died under it time and again; such runs go one at a time."""
    GLOBAL_LIMIT = "global_limit"
    QUEUE_FULL = "queue_full"


@frozen
class Explanation:
    """Why a run is where it is. `reason` is the first of `reasons`; `text` tells them all."""

    run_id: str
    status: Status
    reason: Reason
    text: str
    reasons: tuple[Reason, ...]
    due: datetime | None
    """When it may start, while it waits for that."""


@frozen
class QueueFacts:
    """The queue of the run, as this runtime sees it."""

    paused: bool
    limits: QueueLimits
    on_stage: int | None
    """Slots taken here; None where it is not watched here."""
    room: int | None = None
    """How many more `max_running` allows; None without that."""


@frozen
class Facts:
    """What decides, beside the run itself."""

    now: Now
    counts: Sequence[Count]
    owners: Sequence[Owner]
    boot_id: str
    """Of the runtime that is asked."""
    queue: QueueFacts | None
    """None: no queue of this name is declared."""
    schemas: tuple[str, ...] | None
    """Those that the declared task reads; None: no task of this name is declared."""
    parked: bool = False
    suspect_on_stage: str | None = None
    trouble: Exception | None = None
    """What the store refuses writes with."""
    raised: str | None = None
    """The type of what its last attempt raised."""
    lingers: bool = False
    """Whether a handler of the run is still on stage although the run has ended."""


SEEN_US: Final = 60_000_000
"""A runtime that has not been seen for so long is not counted on: it says that it is there four times as often."""

Because: TypeAlias = tuple[Reason, str]


def explain(run: Run, facts: Facts) -> Explanation:
    """Why `run` is where it is."""
    if run.status.is_final:
        because = [_ended(run, facts)]
    elif run.status is Status.RUNNING:
        because = [_running(run, facts)]
    else:
        because = list(_waiting(run, facts)) or [_next(run)]
    due = instant(run.due_us) if run.status.is_waiting and not is_due(run.due_us, run.clock, facts.now) else None
    return Explanation(
        run.id,
        run.status,
        because[0][0],
        " ".join(text for _, text in because),
        tuple([reason for reason, _ in because]),
        due,
    )


def _ended(run: Run, facts: Facts) -> Because:
    assert run.ended_us is not None
    why = "" if run.cause is None else f" ({run.cause})"
    lingers = " Its handler has not ended yet, and keeps its slot." if facts.lingers else ""
    tries = "1 attempt" if run.attempt == 1 else f"{run.attempt} attempts"
    return Reason.ENDED, f"It is {run.status}{why} since {_at(run.ended_us)}, after {tries}.{lingers}"


def _running(run: Run, facts: Facts) -> Because:
    assert run.started_us is not None
    where = f"attempt {run.attempt}, since {_at(run.started_us)}, in runtime {run.owner}{_last_seen(run.owner, facts)}"
    if run.stuck_since_us is None:
        return Reason.RUNNING, f"It is running: {where}."
    return Reason.STUCK, f"It was told to stop at {_at(run.stuck_since_us)}, and its handler goes on: {where}."


def _last_seen(boot_id: str | None, facts: Facts) -> str:
    """Nothing where the runtime is there, as far as can be seen."""
    if any(each.boot_id == boot_id for each in _present(facts)):
        return ""
    seen = [_at(each.seen_us) for each in facts.owners if each.boot_id == boot_id]
    last = f"was last seen at {seen[0]}" if seen else "is not registered"
    return f", which {last}: if it has died, the next one that works on this store takes the run back"


def _present(facts: Facts) -> list[Owner]:
    """The runtimes that can be counted on, ourselves among them."""
    since_us = facts.now.steady_us - SEEN_US
    return [each for each in facts.owners if each.boot_id == facts.boot_id or each.seen_us > since_us]


def _next(run: Run) -> Because:
    return Reason.NEXT, f"It is due, with priority {run.priority}, and starts after those before it."


def _waiting(run: Run, facts: Facts) -> Iterator[Because]:
    due = is_due(run.due_us, run.clock, facts.now)
    if facts.trouble is not None:
        reason = Reason.STORE_FULL if isinstance(facts.trouble, StoreFull) else Reason.STORE_BUSY
        yield reason, f"The store takes no writes now: {facts.trouble}."
    if not due:
        yield _not_due(run, facts)
    yield from _nobody(run, facts)
    if facts.parked:
        yield (
            Reason.TASK_PARKED,
            f"Task {run.lane.task} is parked: its supervisor gave up; runtime.unpark starts it again.",
        )
    if facts.queue is not None:
        yield from _queue(run, facts, facts.queue, due=due)


def _not_due(run: Run, facts: Facts) -> Because:
    when = _at(run.due_us)
    if run.cause == "unreadable":
        return Reason.UNREADABLE, f"Its payload is not of its task's type; it is tried again at {when}."
    if run.status is Status.RETRYING:
        raised = "" if facts.raised is None else f": {facts.raised}"
        return Reason.NOT_DUE, f"Attempt {run.attempt} ended ({run.cause}{raised}); the next one is due at {when}."
    return Reason.NOT_DUE, f"It is due at {when}."


def _nobody(run: Run, facts: Facts) -> Iterator[Because]:
    """Whether there is anybody who could run it."""
    lane = run.lane
    owners = _present(facts)
    if not any(lane.queue in owner.queues for owner in owners):
        yield Reason.NO_RUNTIME_WATCHES, f"No runtime that is open watches queue {lane.queue}."
    if not any(f"{lane.jobs}/{lane.task}" in owner.tasks for owner in owners) and facts.schemas is None:
        yield Reason.UNKNOWN_TASK, f"No runtime that is open, and not this code, knows task {lane.task} of {lane.jobs}."
    elif facts.schemas is not None and lane.schema not in facts.schemas:
        reads = ", ".join(facts.schemas)
        yield (
            Reason.UNKNOWN_SCHEMA,
            f"Task {lane.task} reads payloads of schema {reads} here; this one is of {lane.schema}.",
        )


def _queue(run: Run, facts: Facts, queue: QueueFacts, *, due: bool) -> Iterator[Because]:
    name, limits = run.lane.queue, queue.limits
    if queue.paused:
        yield Reason.QUEUE_PAUSED, f"Queue {name} is paused."
    if not due:
        return
    if run.deaths >= DEATHS_BEFORE_SUSPECT and facts.suspect_on_stage not in (None, run.id):
        yield (
            Reason.QUARANTINE,
            (
                f"The process died under it {run.deaths} times in a row; such runs go one at a time, and "
                f"{facts.suspect_on_stage} is on stage."
            ),
        )
    running = sum(each.n for each in facts.counts if each.lane.queue == name and each.status is Status.RUNNING)
    if limits.global_limit is not None and running >= limits.global_limit:
        yield (
            Reason.GLOBAL_LIMIT,
            f"{running} runs of queue {name} are running; its global limit is {limits.global_limit}.",
        )
    if queue.on_stage is not None and queue.on_stage >= limits.concurrency:
        yield Reason.QUEUE_FULL, f"{queue.on_stage} of {limits.concurrency} slots of queue {name} are taken."
    elif queue.room is not None and queue.room <= 0:
        yield Reason.QUEUE_FULL, "As many runs are on stage here as max_running allows."


def _at(us: int) -> str:
    return instant(us).isoformat(sep=" ", timespec="milliseconds")
