"""
What a Jobs instance was declared with, nothing left open: for people and programs that look at it.

Rule: frozen values, made anew each time; nothing here is read by what runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from .observe.observability import Observability
from .options import OnCrash
from .queue import Queue
from .retention import Retention
from .store.policy import SECOND_US, RetryPolicy

if TYPE_CHECKING:
    from .jobs import Jobs
    from .task import Task


@frozen
class JobsConfig:
    """`Jobs.config`: what was given, and the defaults for what was not."""

    name: str
    namespace: str
    queues: tuple[Queue, ...]
    """With their names; the default queue is the first."""
    retry: RetryPolicy
    """Of every task that says nothing else."""
    timeout: float | None
    """Seconds for one attempt."""
    max_payload: int
    """Bytes of JSON."""
    stuck_after: float
    """Seconds."""
    retention: Retention
    observability: Observability
    """What is recorded of runs without anybody asking."""
    guarded: bool
    """Whether a policy decides who may do what."""

    @property
    def identity(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def queue(self) -> Queue:
        """The default queue."""
        return self.queues[0]


@frozen
class Definition:
    """One row of `Jobs.definitions()`: a task as it was declared, with what it takes over from its instance."""

    name: str
    """Of a Job class: its kind."""
    handler: Literal["async", "sync"]
    """Whether it runs in the event loop or in a thread."""
    is_job: bool
    """Whether it is a Job class, whose instances are the payloads."""
    payload_type: str | None
    """Name of the payload's type; None for any JSON value."""
    queue: str
    """The name, without the namespace."""
    schema: str
    accepts: tuple[str, ...]
    aliases: tuple[str, ...]
    retry: RetryPolicy
    timeout: float | None
    """Seconds for one attempt."""
    on_crash: OnCrash
    stuck_after: float
    """Seconds."""

    @property
    def max_attempts(self) -> int:
        """Tries in all, the first one included."""
        return self.retry.attempts


def config_of(jobs: Jobs) -> JobsConfig:
    """See `JobsConfig`."""
    queues = [evolve(queue, name=identity.partition("/")[2]) for identity, queue in jobs.declared_queues.items()]
    timeout = _seconds(jobs.timeout_us)
    return JobsConfig(
        jobs.name,
        jobs.namespace,
        tuple(queues),
        jobs.retry_policy,
        timeout,
        jobs.max_payload,
        jobs.stuck_after_s,
        jobs.retention,
        jobs.observability,
        jobs.policy is not None,
    )


def definition_of(task: Task[Any, Any]) -> Definition:
    """See `Definition`."""
    plan = task.declared
    return Definition(
        name=plan.name,
        handler=task.form.kind,
        is_job=task.is_job,
        payload_type=_name_of(task.payload_type),
        queue=plan.queue.partition("/")[2],
        schema=plan.schema,
        accepts=plan.accepts,
        aliases=plan.aliases,
        retry=plan.policy,
        timeout=_seconds(plan.timeout_us),
        on_crash=plan.on_crash,
        stuck_after=plan.stuck_after_s,
    )


def _name_of(kind: Any) -> str | None:
    if kind is None:
        return None
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


def _seconds(us: int | None) -> float | None:
    return None if us is None else us / SECOND_US
