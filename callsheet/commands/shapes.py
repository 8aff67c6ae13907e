"""
What programs are given: the JSON of runs, queues, schedules, runtimes.

Rule 1: a name once given stays; new ones may come. What is not known is null, never left out.
Rule 2: payloads and results are in it only where they were asked for; their sizes always are.
Not here: how it is written (`paper`); docs/cli.md describes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ..store import codec
from ..store.records import Clock, Status
from .text import rfc3339, us_of

if TYPE_CHECKING:
    from datetime import datetime

    from ..config import Definition
    from ..enqueue import EnqueueResult
    from ..explain import Explanation
    from ..queues import QueueState
    from ..runs import RunDetails
    from ..schedules.schedules import FiredTime, ScheduleState
    from ..snapshot import JobsSnapshot, Stats
    from ..store.records import Attempt, Owner, Run, Transition

Shape: TypeAlias = dict[str, Any]


def short(queue: str) -> str:
    """A queue's name without its namespace."""
    return queue.partition("/")[2]


def due_us(run: Run) -> int | None:
    """When a run that waits for its time may start."""
    return run.due_us if run.status.is_waiting and run.clock is not Clock.AT_ONCE else None


def run(stored: Run) -> Shape:
    """A line of a list."""
    return {
        "id": stored.id,
        "jobs": stored.lane.jobs,
        "task": stored.task,
        "queue": short(stored.lane.queue),
        "status": str(stored.status),
        "priority": stored.priority,
        "attempt": stored.attempt,
        "spent": stored.spent,
        "max_attempts": stored.max_attempts,
        "created_at": rfc3339(stored.created_us),
        "updated_at": rfc3339(stored.updated_us),
        "due_at": rfc3339(due_us(stored)),
        "started_at": rfc3339(stored.started_us),
        "ended_at": rfc3339(stored.ended_us),
        "stuck_since": rfc3339(stored.stuck_since_us),
        "cause": stored.cause,
        "idempotency_key": stored.idempotency_key,
        "trace_id": stored.trace_id,
        "replay_of": stored.replay_of,
        "schedule": stored.schedule_key,
        "nominal_at": rfc3339(stored.nominal_us),
        "reason": stored.reason,
    }


def details(found: RunDetails, *, payload: bool) -> Shape:
    """Everything of one run."""
    stored = found.run
    shape = run(stored) | {
        "schema": stored.lane.schema,
        "timeout": None if stored.timeout_us is None else stored.timeout_us / 1_000_000,
        "owner": stored.owner,
        "waiting_for": found.waiting_for,
        "progress": found.progress,
        "payload_bytes": _size(stored.payload),
        "result_bytes": _size(stored.result),
        "result_error": stored.result_error,
        "replays": list(found.replays),
        "attempts": [attempt(each) for each in found.attempts],
        "transitions": [transition(each) for each in found.transitions],
    }
    if payload:
        shape |= {"payload": found.payload, "result": found.result}
    return shape


def _size(body: bytes | None) -> int | None:
    return None if body is None else len(body)


def attempt(each: Attempt) -> Shape:
    """One try at a run."""
    error = each.error
    return {
        "n": each.n,
        "started_at": rfc3339(each.started_us),
        "ended_at": rfc3339(each.ended_us),
        "outcome": None if each.outcome is None else str(each.outcome),
        "error": None
        if error is None
        else {"type": error.type, "message": error.message, "traceback": error.traceback},
        "owner": each.owner,
        "late_outcome": each.late_outcome,
    }


def transition(each: Transition) -> Shape:
    """One change of a run's status."""
    return {
        "seq": each.seq,
        "was": None if each.was is None else str(each.was),
        "now": str(each.now),
        "move": str(each.move),
        "at": rfc3339(each.at_us),
        "attempt": each.attempt,
        "cause": each.cause,
    }


def ended(stored: Run, *, result: bool) -> Shape:
    """A run that was waited for, with what it returned where that was asked for."""
    shape = run(stored) | {"result_bytes": _size(stored.result), "result_error": stored.result_error}
    if result:
        shape["result"] = None if stored.result is None else codec.decode(stored.result, None)
    return shape


def requested(result: EnqueueResult) -> Shape:
    """What `enqueue` acknowledges."""
    return {
        "run_id": result.run_id,
        "deduped": result.deduped,
        "payload_matches": result.payload_matches,
        "run": run(result.run),
    }


def explanation(why: Explanation) -> Shape:
    """Why a run is where it is."""
    due = why.due
    return {
        "run_id": why.run_id,
        "status": str(why.status),
        "reason": str(why.reason),
        "reasons": [str(each) for each in why.reasons],
        "text": why.text,
        "due_at": None if due is None else due.isoformat().replace("+00:00", "Z"),
    }


def queue(state: QueueState) -> Shape:
    """A queue as it works now."""
    said = state.override
    return {
        "name": state.name,
        "paused": state.paused,
        "concurrency": state.concurrency,
        "batch_size": state.batch_size,
        "global_limit": state.global_limit,
        "visibility_timeout": state.visibility_timeout,
        "running": state.running,
        "waiting": {str(status): n for status, n in state.waiting.items()},
        "declared": {
            "concurrency": state.declared.concurrency,
            "batch_size": state.declared.batch_size,
            "global_limit": state.declared.global_limit,
            "visibility_timeout": state.declared.visibility_timeout,
        },
        "overridden": []
        if said is None
        else [
            name
            for name, value in (
                ("concurrency", said.concurrency),
                ("batch_size", said.batch_size),
                ("global_limit", said.global_limit),
                ("visibility_timeout", said.visibility_us),
            )
            if value is not None
        ],
    }


def moment(when: datetime | None) -> str | None:
    """A time."""
    return rfc3339(us_of(when))


def standing(state: ScheduleState) -> str:
    """`on`, or why no time of it is to come: `paused`, `orphaned`, `over`."""
    if state.orphaned:
        return "orphaned"
    return "paused" if state.paused else "over" if state.next_at is None else "on"


def schedule(state: ScheduleState) -> Shape:
    """A schedule, without its payload."""
    return {
        "key": state.key,
        "state": standing(state),
        "task": state.task,
        "queue": state.queue,
        "cadence": state.cadence,
        "origin": state.origin,
        "next_at": moment(state.next_at),
        "due_at": moment(state.due_at),
        "waiting_at": moment(state.waiting_at),
        "last_at": moment(state.last_at),
        "fired": state.fired,
        "skipped": state.skipped,
        "misfire": str(state.misfire),
        "misfire_cap": state.misfire_cap,
        "overlap": str(state.overlap),
        "jitter": state.jitter,
        "start": moment(state.start),
        "end": moment(state.end),
        "created_at": moment(state.created_at),
        "updated_at": moment(state.updated_at),
    }


def fired(each: FiredTime) -> Shape:
    """What was done about one time of a schedule."""
    return {
        "nominal_at": moment(each.nominal),
        "at": moment(each.at),
        "did": str(each.did),
        "run_id": each.run_id,
        "times": each.times,
    }


def runtime(owner: Owner) -> Shape:
    """A runtime that is registered on the store."""
    return {
        "boot_id": owner.boot_id,
        "pid": owner.pid,
        "host": owner.host,
        "version": owner.version,
        "started_at": rfc3339(owner.started_us),
        "seen_at": rfc3339(owner.seen_us),
        "tasks": list(owner.tasks),
        "queues": list(owner.queues),
    }


def definition(each: Definition) -> Shape:
    """A task as it is declared."""
    return {
        "name": each.name,
        "queue": each.queue,
        "handler": each.handler,
        "payload_type": each.payload_type,
        "schema": each.schema,
        "accepts": list(each.accepts),
        "aliases": list(each.aliases),
        "max_attempts": each.max_attempts,
        "timeout": each.timeout,
        "on_crash": each.on_crash,
    }


def stats(found: Stats) -> Shape:
    """How many runs there are."""
    return {
        "total": found.total,
        "by_status": {str(status): found.by_status.get(status, 0) for status in Status},
        "by_task": dict(found.by_task),
        "by_queue": {
            name: {str(status): n for status, n in counts.items()} for name, counts in found.by_queue_status.items()
        },
    }


def snapshot(taken: JobsSnapshot) -> Shape:
    """Everything at a glance."""
    return {
        "jobs": taken.jobs,
        "taken_at": taken.taken_at.isoformat().replace("+00:00", "Z"),
        "stats": stats(taken.stats),
        "queues": [queue(each) for each in taken.queues],
        "schedules": [schedule(each) for each in taken.schedules],
        "runtimes": [runtime(each) for each in taken.runtimes],
        "tasks": [definition(each) for each in taken.definitions],
        "wake_path": taken.wake_path,
        "recent": [run(each) for each in taken.recent],
    }
