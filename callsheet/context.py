"""
What a handler is given beside its payload.

Rule: facts of this attempt, and the few things a handler may do through it; nothing here outlives the attempt.
Not here: what only a plain function needs (`sync_context`).
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from attrs import define, field

from .actors.run import RunActor
from .enqueue import EnqueueOptions, EnqueueResult
from .progress import MAX_PROGRESS, Progress
from .store import codec
from .store.records import instant

if TYPE_CHECKING:
    from .job import Job
    from .jobs import Jobs
    from .task import Task

_log = logging.getLogger("callsheet.run")


@define(eq=False)
class Facts:
    """One attempt, as any handler sees it."""

    _task: Task[Any, Any]
    app: Any
    """What the host passed at `open(app=…)`."""
    _actor: RunActor
    _progress: Progress | None = field(default=None, init=False)

    @property
    def jobs(self) -> Jobs:
        """The instance whose task this is."""
        return self._task.jobs

    @property
    def run_id(self) -> str:
        """Stable over all attempts: the key for making your own side effects idempotent."""
        return self._actor.claimed.run_id

    @property
    def attempt(self) -> int:
        """Ordinal of this attempt: 1, 2, …, without gaps; attempts that did not count against the limit included."""
        return self._actor.claimed.attempt

    @property
    def spent(self) -> int:
        """How many tries earlier attempts used up."""
        return self._actor.claimed.spent

    @property
    def tries_left(self) -> int:
        """How many tries there are, this one included."""
        return max(1, self._actor.claimed.max_attempts - self._actor.claimed.spent)

    @property
    def task(self) -> str:
        """The name of the task; also for a run that was stored under an older one."""
        return self._task.name

    @property
    def schema(self) -> str:
        """The schema that the payload was stored in: the task's own, or one that it accepts."""
        return self._actor.claimed.lane.schema

    @property
    def trace_id(self) -> str | None:
        """As given to `enqueue`."""
        return self._actor.claimed.trace_id

    @property
    def deadline(self) -> datetime | None:
        """When this attempt times out; None without a timeout."""
        return None if self._actor.deadline_us is None else instant(self._actor.deadline_us)

    @property
    def claim_id(self) -> bytes:
        """16 random bytes that name this claim: pass it, or the fence, to systems that can refuse a stale writer."""
        return self._actor.claimed.claim_id

    @property
    def fence(self) -> int:
        """Counts up with every claim of this run."""
        return self._actor.claimed.fence

    @property
    def nominal_time(self) -> datetime | None:
        """For a scheduled run, the time it was meant for."""
        return None if self._actor.claimed.nominal_us is None else instant(self._actor.claimed.nominal_us)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records carry `run_id`, `attempt`, `task` and `trace_id`."""
        extra = {"run_id": self.run_id, "attempt": self.attempt, "task": self.task, "trace_id": self.trace_id}
        return logging.LoggerAdapter(_log, extra)

    def _tell(self, body: bytes) -> None:
        """In the event loop: this is the latest progress."""
        if self._progress is None:
            self._progress = Progress(self._actor)
        self._progress.tell(body)


@define(eq=False)
class Context(Facts):
    """One attempt, as an async handler sees it."""

    def progress(self, value: object) -> None:
        """
        Keep this as `run.progress`: any JSON value of at most 16 KiB.

        The latest one wins. It is written at most four times a second, and the last one with the end of the attempt; this call
        waits for nothing. Raises PayloadInvalid or PayloadTooLarge.
        """
        self._tell(codec.encode(value, limit=MAX_PROGRESS, what="progress"))

    async def enqueue(
        self, task: str | Task[Any, Any] | Job, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult:
        """As `Jobs.enqueue`; the new run takes over this one's trace id unless another one is given."""
        if self.trace_id is not None:
            options.setdefault("trace_id", self.trace_id)
        return await self.jobs.request(task, payload, options)
