"""
A task: a named handler with its own policy.

Rule: made by a declaration, and checked by then. Not here: what may be a handler (`handler`), its options (`options`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, Unpack

from attrs import define, field

from .enqueue import EnqueueOptions, EnqueueResult, Entry
from .handler import Form
from .options import Declared, OnCrash
from .store.policy import RetryPolicy
from .store.records import Lane

if TYPE_CHECKING:
    from .jobs import Jobs

P = TypeVar("P")
R = TypeVar("R")

NO_HOOKS: Final = frozenset[str]()


@define(eq=False)
class Task(Generic[P, R]):
    """A declared task. Made by `@jobs.task(name, ...)` and `@jobs.register`."""

    jobs: Jobs
    handler: Callable[[P, Any], Any]
    """The undecorated function: call it in a plain unit test. Of a Job class: its `work`."""
    declared: Declared
    form: Form
    is_job: bool = False
    """Whether its payload is an instance of a registered Job class."""
    hooks: frozenset[str] = NO_HOOKS
    """Which of the methods that decide for one job only (`job_queue`, …) that class has."""
    name: str = field(init=False)
    policy: RetryPolicy = field(init=False)
    """The task's retry policy over the instance's, nothing left open."""
    timeout_us: int | None = field(init=False)
    """Of one attempt."""
    at_most_once: bool = field(init=False)
    """Whether its new runs end when the process dies under them, as `on_crash` says."""
    lane: Lane = field(init=False)
    """Where its new runs wait, unless their queue is named."""
    payload_type: Any = field(init=False)
    """The annotation of the handler's first parameter, or the Job class; None accepts any JSON value."""

    def __attrs_post_init__(self) -> None:
        declared = self.declared
        self.name, self.policy, self.timeout_us = declared.name, declared.policy, declared.timeout_us
        self.at_most_once = declared.on_crash == "dead_letter"
        self.lane = Lane(self.jobs.identity, declared.queue, declared.name, declared.schema)
        self.payload_type = self.form.payload_type

    @property
    def is_sync(self) -> bool:
        """Whether its handler runs in a thread."""
        return self.form.kind == "sync"

    @property
    def names(self) -> tuple[str, ...]:
        """The name, and those it had before."""
        return (self.name, *self.declared.aliases)

    @property
    def first_name(self) -> str:
        """The oldest of them. The hashes of payloads go by it, so that a task that was renamed is still the same one."""
        return self.names[-1]

    @property
    def schemas(self) -> tuple[str, ...]:
        """The schema of new payloads, and the older ones that the handler can read."""
        return (self.declared.schema, *self.declared.accepts)

    @property
    def on_crash(self) -> OnCrash:
        """What becomes of a run when the process dies under it."""
        return self.declared.on_crash

    @property
    def stuck_after_s(self) -> float:
        """How long a handler may go on after it was told to stop, before its run is shown as stuck."""
        return self.declared.stuck_after_s

    def __call__(self, *_arguments: object, **_options: object) -> NoReturn:
        """A task is requested, not called. Raises TypeError that says how."""
        raise TypeError(
            f"task {self.name!r} is not called: `await task.enqueue(payload)` requests a run of it, and "
            "`task.handler(payload, ctx)` is the function"
        )

    async def enqueue(self, payload: P, **options: Unpack[EnqueueOptions]) -> EnqueueResult:
        """As `Jobs.enqueue`, for this task, with the payload's type checked."""
        return await self.jobs.request(self, payload, options)

    def entry(self, payload: P, **options: Unpack[EnqueueOptions]) -> Entry:
        """One run for `Jobs.enqueue_many`."""
        return Entry(self, payload, options)
