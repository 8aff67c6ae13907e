"""
From records to what the feed carries: plain values of bounded size.

Rule 1: payloads, results and idempotency keys never go out; texts that a handler wrote are clipped.
Rule 2: pure; times are microseconds as they are stored, and the page turns them into ages by the server's clock.
Not here: schedules (`timetable`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from ..store.records import Attempt, Clock, Count, Error, History, Run, Status, Transition
from ..supervisor.slots import Slots
from ..tree import Node

Row: TypeAlias = dict[str, Any]

MAX_TEXT: Final = 240
"""Characters of a cause or an error in a row of the table."""
MAX_LONG_TEXT: Final = 8_000
"""Characters of the last traceback in a run's details."""
MAX_NODES: Final = 300
"""Actors in the picture of the tree; what is left out is counted."""
MAX_QUEUES: Final = 100
MAX_ATTEMPTS: Final = 20
"""Attempts and transitions in a run's details: the last ones."""
MAX_REPLAYS: Final = 5


def run_row(run: Run, error: Error | None) -> Row:
    """One line of the table; `error`: how its last attempt failed, where it did."""
    waits = run.status.is_waiting and run.clock is not Clock.AT_ONCE
    return {
        "id": run.id,
        "jobs": run.lane.jobs,
        "queue": run.lane.queue,
        "task": run.lane.task,
        "status": str(run.status),
        "attempt": run.attempt,
        "spent": run.spent,
        "max": run.max_attempts,
        "created_us": run.created_us,
        "updated_us": run.updated_us,
        "started_us": run.started_us,
        "ended_us": run.ended_us,
        "due_us": run.due_us if waits else None,
        "cause": clip(run.cause),
        "error": None if error is None else clip(f"{error.type}: {error.message}"),
        "replay_of": run.replay_of,
        "stuck": run.stuck_since_us is not None,
    }


def has_error(run: Run) -> bool:
    """Whether the row of `run` shows how its last attempt failed."""
    return run.attempt > 0 and run.status in (Status.RETRYING, Status.DEAD_LETTERED, Status.SCHEDULED)


def row_of(history: History) -> Row:
    """The row of a run that was read with its history."""
    last = history.attempts[-1] if history.attempts else None
    return run_row(history.run, last.error if last is not None and has_error(history.run) else None)


def details(history: History) -> Row:
    """What the drawer shows of one run."""
    run = history.run
    return row_of(history) | {
        "schema": run.lane.schema,
        "priority": run.priority,
        "timeout_us": run.timeout_us,
        "trace_id": run.trace_id,
        "reason": clip(run.reason),
        "replays": list(history.replays[-MAX_REPLAYS:]),
        "progress": None if run.progress is None else clip(run.progress.decode()),
        "payload_bytes": None if run.payload is None else len(run.payload),
        "result_bytes": None if run.result is None else len(run.result),
        "result_error": clip(run.result_error),
        "attempts": [_attempt(each) for each in history.attempts[-MAX_ATTEMPTS:]],
        "traceback": _traceback(history.attempts),
        "transitions": [_transition(each) for each in history.transitions[-2 * MAX_ATTEMPTS :]],
    }


def _attempt(attempt: Attempt) -> Row:
    error = attempt.error
    return {
        "n": attempt.n,
        "started_us": attempt.started_us,
        "ended_us": attempt.ended_us,
        "outcome": None if attempt.outcome is None else str(attempt.outcome),
        "error": None if error is None else clip(f"{error.type}: {error.message}"),
        "late": clip(attempt.late_outcome),
    }


def _transition(each: Transition) -> Row:
    return {
        "was": None if each.was is None else str(each.was),
        "now": str(each.now),
        "at_us": each.at_us,
        "attempt": each.attempt,
        "cause": clip(each.cause),
    }


def _traceback(attempts: Sequence[Attempt]) -> str | None:
    for each in reversed(attempts):
        if each.error is not None and each.error.traceback:
            text = each.error.traceback
            return text if len(text) <= MAX_LONG_TEXT else f"…{text[-MAX_LONG_TEXT:]}"  # the end says what happened
    return None


def stats_row(counts: Sequence[Count]) -> Row:
    """How many runs have each status."""
    totals = dict.fromkeys(map(str, Status), 0)
    for count in counts:
        totals[count.status] += count.n
    return totals


def queue_rows(slots: Mapping[str, Slots], counts: Sequence[Count]) -> list[Row]:
    """The slots of each queue, and how many runs wait in it."""
    waiting: dict[str, dict[str, int]] = {}
    for count in counts:
        of_queue = waiting.setdefault(count.lane.queue, {})
        of_queue[count.status] = of_queue.get(count.status, 0) + count.n
    return [
        {
            "queue": identity,
            "limit": each.limits.concurrency,
            "on_stage": len(each.on_stage),
            "batch": each.limits.batch_size,
            "paused": each.paused,
            **{status: waiting.get(identity, {}).get(status, 0) for status in ("queued", "scheduled", "retrying")},
        }
        for identity, each in list(slots.items())[:MAX_QUEUES]
    ]


def tree_row(root: Node) -> Row:
    """The tree, at most MAX_NODES of it, from the top."""
    left = MAX_NODES

    def row(node: Node) -> Row:
        nonlocal left
        shown = node.children[: max(left, 0)]
        left -= len(shown)
        return {
            "name": node.name,
            "kind": node.kind,
            "state": node.state,
            "restarts": node.restarts,
            "waiting": node.waiting,
            "on_stage": node.on_stage,
            "why": clip(node.why),
            "children": [row(each) for each in shown],
            "hidden": len(node.children) - len(shown),
        }

    return row(root)


def clip(text: str | None, most: int = MAX_TEXT) -> str | None:
    """No more of it than `most` characters."""
    return text if text is None or len(text) <= most else f"{text[: most - 1]}…"
