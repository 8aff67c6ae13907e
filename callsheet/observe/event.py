"""
One step of a run, as everybody who watches is told of it.

Rule: one shape for all of them, every field always there, None where it does not apply; and nothing in it that may be secret or
large: no payload, no result, no key.
Not here: which step makes which event (`told`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from attrs import frozen

from ..store.records import Error, Status, instant


class EventKind(StrEnum):
    """What happened. In the order in which a run may meet them."""

    ENQUEUED = "enqueued"
    REPLAYED = "replayed"
    """A new run that replays another one: instead of `enqueued`."""
    DEDUPED = "deduped"
    """A request found its run there already, by its key or its id. Nothing changed."""
    STARTED = "started"
    """An attempt was claimed: its handler is about to begin."""
    STUCK = "stuck"
    """The attempt goes on although it was told to stop, `stuck_after` ago."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DISCARDED = "discarded"
    """The handler raised `Discard`."""
    SNOOZED = "snoozed"
    UNREADABLE = "unreadable"
    """The type of its task refuses the stored payload: it waits for somebody who can read it."""
    INTERRUPTED = "interrupted"
    """It was stopped because the runtime, or its supervisor, was: it waits again."""
    CRASHED = "crashed"
    """The process died under it."""
    LEASE_LOST = "lease_lost"
    CANCELED = "canceled"
    RETRYING = "retrying"
    """What became of the run after an attempt that ended badly: there is a next one."""
    DEAD_LETTERED = "dead_lettered"
    """What became of it: there is none."""


@frozen
class Event:
    """One durable step of one run."""

    kind: EventKind
    at_us: int
    """When, in microseconds UTC: the time that the store has for it."""
    jobs: str
    """`namespace/name`."""
    queue: str
    """The name, without the namespace."""
    task: str
    """The name that the run is stored under."""
    run_id: str
    attempt: int
    """The ordinal of the current or last attempt; 0 before the first."""
    status: Status
    """Of the run, after the step."""
    trace_id: str | None
    cause: str | None = None
    """Why, in a word or a sentence, as the run's history has it."""
    error: Error | None = None
    """What the attempt raised, as it is kept: bounded text. With the end of an attempt, and with what became of its run."""
    waited_us: int | None = None
    """With `started`: since the run was due, or was requested where that was later; never below 0."""
    took_us: int | None = None
    """With the end of an attempt: since it was claimed."""
    due_us: int | None = None
    """When a run that waits is due; None where that is now."""
    replay_of: str | None = None
    """With `replayed`: the run that it replays."""
    boot_id: str | None = None
    """The runtime that made the step durable; None for a client."""

    @property
    def at(self) -> datetime:
        """When."""
        return instant(self.at_us)

    def as_dict(self) -> dict[str, str | int | None]:
        """The same as plain values, for JSON; of an error its `error_type` and `error`, without the traceback."""
        error = self.error
        return {
            "kind": str(self.kind),
            "at": self.at.isoformat(timespec="microseconds"),
            "jobs": self.jobs,
            "queue": self.queue,
            "task": self.task,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "status": str(self.status),
            "trace_id": self.trace_id,
            "cause": self.cause,
            "error_type": None if error is None else error.type,
            "error": None if error is None else error.message,
            "waited_us": self.waited_us,
            "took_us": self.took_us,
            "due_us": self.due_us,
            "replay_of": self.replay_of,
            "boot_id": self.boot_id,
        }
