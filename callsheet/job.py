"""
Typed jobs: a class whose instances are their own payload and do their own work.

Rule: a class keeps the keywords it was made with, and is nothing else until `@jobs.register` declares it. attrs and dataclasses
build a slotted class twice, the second time without keywords, so nothing is registered while a class is made.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Unpack

from attrs import evolve, frozen

from .errors import InvalidOption
from .handler import check_readable, form_of
from .options import TaskOptions, check_known, declared
from .task import Task

if TYPE_CHECKING:
    from .jobs import Jobs

HOOKS: Final = ("job_queue", "job_max_attempts", "job_retry_delay")
"""Methods that decide for one job; a class that leaves them as they are here is never asked."""

INHERITED: Final = ("queue", "retry", "timeout", "on_crash", "stuck_after")
"""Keywords that a class hands down; what belongs to a kind (its schemas, its old names) it keeps."""


@frozen
class Keywords:
    """What stands in the brackets of a class, and what it was handed down."""

    kind: str | None
    options: Mapping[str, Any]


class Job(ABC):
    """
    Base of typed jobs: the instance is the payload, and `work` is the handler.

        @jobs.register
        @frozen
        class WelcomeEmail(Job, kind="mail.welcome", queue="mail"):
            user_id: str

            async def work(self, ctx: Context) -> None: ...

        await jobs.enqueue(WelcomeEmail("u1"))

    kind: the name of the task, stored with every run; required, and never inherited. The other keywords are `TaskOptions`. The
    class is an attrs class or a dataclass. `@jobs.register` stands on top, and gives the class back.
    """

    __slots__ = ()
    declared_with: ClassVar[Keywords] = Keywords(None, {})

    def __init_subclass__(cls, *, kind: str | None = None, **options: Unpack[TaskOptions]) -> None:
        """Keep the keywords. Raises TypeError for one that no task has."""
        super().__init_subclass__()
        if kind is None and not options and "declared_with" in cls.__dict__:
            return  # built anew with slots: what was said the first time still holds
        check_known(options)
        above = next(each.declared_with.options for each in cls.__mro__[1:] if issubclass(each, Job))
        cls.declared_with = Keywords(kind, {key: above[key] for key in INHERITED if key in above} | options)

    @abstractmethod
    def work(self, ctx: Any) -> Any:
        """
        Do it: `async def work(self, ctx: Context)`, or `def work(self, ctx: SyncContext)`, which runs in a thread.

        What it returns, and what it raises, mean what they mean for every handler.
        """

    def job_queue(self) -> str | None:
        """The declared name of the queue of this job; None: that of the class. Asked by `enqueue`, unless `queue=` is given."""
        return None

    def job_max_attempts(self) -> int | None:
        """
        How many tries this job has in all; None: as many as the class says.

        Asked by `enqueue`, unless `max_attempts=` is given, and stored with the run.
        """
        return None

    def job_retry_delay(self, attempt: int, error: BaseException) -> float | timedelta | None:
        """
        Seconds until the next try after one that failed or timed out; None: what the retry policy says; 0: now.

        attempt: tries spent, this one included. More than a day is a day. What raises, or is no such number, is logged, and the
        policy decides. Asked in the event loop: it must not block. Not asked after Discard, Snooze or RetryAfter, nor when
        nothing is left to try.
        """
        return None


def make_task(jobs: Jobs, job: type[Job], options: Mapping[str, Any]) -> Task[Any, Any]:
    """
    The task that a Job class is; `options`, the decorator's arguments, win over the keywords of the class.

    Raises TypeError, InvalidName, InvalidOption or UnknownQueue.
    """
    if not (isinstance(job, type) and issubclass(job, Job)):
        raise TypeError(f"@jobs.register takes a class derived from Job, not {job!r}")
    name = job.__qualname__
    if not {"__attrs_attrs__", "__dataclass_fields__"} & job.__dict__.keys():  # its own: a base may be one too
        raise TypeError(
            f"{name} must be an attrs class or a dataclass: write @frozen, or @dataclass, below @jobs.register"
        )
    if inspect.isabstract(job):
        raise TypeError(f"{name} has no `work`: write `async def work(self, ctx: Context)`")
    given = {key: value for key, value in options.items() if value is not None}
    kind = given.pop("kind", job.declared_with.kind)
    if kind is None:
        raise InvalidOption("kind", _no_kind(job))
    plan = declared(jobs, kind, {**job.declared_with.options, **given}, what="kind")
    form = form_of(f"job {kind!r}", job.work, "(self, ctx)")
    check_readable(f"job {kind!r}", job)
    hooks = frozenset(hook for hook in HOOKS if getattr(job, hook) is not getattr(Job, hook))
    return Task(jobs, job.work, plan, evolve(form, payload_type=job), is_job=True, hooks=hooks)


def _no_kind(job: type[Job]) -> str:
    name = job.__qualname__
    for each in job.__mro__[1:]:
        if issubclass(each, Job) and each.declared_with.kind is not None:
            theirs = each.declared_with.kind
            return (
                f"{name} inherits {theirs!r} of {each.__qualname__}, whose runs it would take: give it one of its own"
            )
    return f'{name} has none: write `class {name}(Job, kind="…")`'
