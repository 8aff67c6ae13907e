"""
A Jobs instance: what tasks and queues there are, under which policy. A declaration; `open` runs it.

Rule: declared once, at import; opened any number of times, one after another or on several stores.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

import trio

from . import enqueue as enqueueing
from .context import Context
from .enqueue import EnqueueOptions, EnqueueResult, Entry
from .errors import (
    AlreadyDeclared,
    AmbiguousRuntime,
    IdempotencyConflict,
    NotOpen,
    TooMany,
    UnknownQueue,
    UnknownTask,
)
from .names import check_name
from .queue import Queue
from .runs import Runs
from .store.contract import Conflict, Insert, Inserted
from .store.policy import DEFAULT_RETRY, Retry
from .store.records import Lane
from .task import DEFAULT_SCHEMA, Task

if TYPE_CHECKING:
    from .runtime import OpenOptions, Runtime
    from .store.contract import Store

P = TypeVar("P")
R = TypeVar("R")
Handler = Callable[[P, Context], Awaitable[R]]

current_runtime: Final[ContextVar[Runtime]] = ContextVar("callsheet_runtime")
"""The runtime whose block, or whose handler, we are in."""


class Jobs:
    """
    A named set of tasks and queues.

    name, namespace: together the identity `namespace/name`; idempotency keys and stored runs belong to it.
    queue: the default queue's settings. queues: further ones, which need names. retry: policy of every task, unless the
    task says otherwise, field by field. timeout: seconds for one attempt of every task, unless the task says otherwise.

    Raises InvalidName, InvalidOption, TypeError or ValueError that names what is wrong.
    """

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "default",
        queue: Queue | None = None,
        queues: Sequence[Queue] = (),
        retry: Retry | None = None,
        timeout: float | None = None,
    ) -> None:
        self.name = check_name(name, "name of a Jobs instance")
        self.namespace = check_name(namespace, "namespace")
        self.policy = DEFAULT_RETRY.over(retry)
        self.timeout_us = None if timeout is None else enqueueing.timeout_us(timeout)
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.declared_queues: dict[str, Queue] = {}
        """By identity, `namespace/queue`; the default queue is the first."""
        self.runs = Runs(self)
        self._open: list[Runtime] = []
        default = queue or Queue()
        self._add_queue(default, default.name or f"{name}-jobs")
        for each in queues:
            if each.name is None:
                raise AlreadyDeclared(self.identity, "a queue without a name", "only the default queue may have none")
            self._add_queue(each, each.name)

    @property
    def identity(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def __repr__(self) -> str:
        return f"<Jobs {self.identity}: {len(self.tasks)} tasks>"

    def _add_queue(self, queue: Queue, name: str) -> None:
        identity = f"{self.namespace}/{name}"
        if identity in self.declared_queues:
            raise AlreadyDeclared(self.identity, f"queue {name!r}", "there is one of this name")
        self.declared_queues[identity] = queue

    def queue_named(self, name: str) -> str:
        """The identity of the declared queue `name`. Raises UnknownQueue."""
        identity = f"{self.namespace}/{name}"
        if identity not in self.declared_queues:
            raise UnknownQueue(self.identity, str(name), tuple(each.partition("/")[2] for each in self.declared_queues))
        return identity

    # -- declaring

    def task(
        self,
        name: str,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        queue: str | None = None,
        schema: str = DEFAULT_SCHEMA,
    ) -> Callable[[Handler[P, R]], Task[P, R]]:
        """
        Declare the decorated `async def handler(payload, ctx)` as the handler of task `name`.

        retry: put over the instance's policy, field by field. timeout: seconds for one attempt; None: the instance's.
        queue: name of a declared queue; None: the default one. schema: version of the payload's form, stored with each run.
        The annotation of `payload` is its type: attrs classes, dataclasses, or any type that cattrs structures.

        Raises InvalidName, UnknownQueue, AlreadyDeclared, InvalidOption, or TypeError when the handler has another form.
        """
        check_name(name, "task name")
        check_name(schema, "schema")
        identity = next(iter(self.declared_queues)) if queue is None else self.queue_named(queue)
        timeout_us = self.timeout_us if timeout is None else enqueueing.timeout_us(timeout)

        def declare(handler: Handler[P, R]) -> Task[P, R]:
            if name in self.tasks:
                raise AlreadyDeclared(self.identity, f"task {name!r}", "there is one of this name")
            if self._open:
                raise AlreadyDeclared(
                    self.identity, f"task {name!r}", "a runtime is open; declare tasks before opening"
                )
            lane = Lane(self.identity, identity, name, schema)
            declared: Task[P, R] = Task(self, name, handler, self.policy.over(retry), timeout_us, lane)
            self.tasks[name] = declared
            return declared

        return declare

    def task_named(self, name: str) -> Task[Any, Any]:
        """The declared task. Raises UnknownTask."""
        try:
            return self.tasks[name]
        except (KeyError, TypeError):
            raise UnknownTask(self.identity, str(name), tuple(self.tasks)) from None

    # -- running

    @asynccontextmanager
    async def open(
        self, store: str | os.PathLike[str] | Store, **options: Unpack[OpenOptions]
    ) -> AsyncIterator[Runtime]:
        """As `open_runtime(store, self, …)`: run these jobs on `store` while the block runs."""
        from .runtime import open_runtime

        async with open_runtime(store, self, **options) as runtime:
            yield runtime

    async def serve(
        self,
        store: str | os.PathLike[str] | Store,
        *,
        task_status: trio.TaskStatus[Runtime] = trio.TASK_STATUS_IGNORED,
        **options: Unpack[OpenOptions],
    ) -> None:
        """`open` for `await nursery.start(jobs.serve, store)`: runs until it is cancelled; starts with the Runtime."""
        async with self.open(store, **options) as runtime:
            task_status.started(runtime)
            await runtime.forever()

    def runtime(self) -> Runtime:
        """
        The open runtime that calls on this instance use: the one whose block or handler we are in, else the only one.

        Raises NotOpen or AmbiguousRuntime.
        """
        current = current_runtime.get(None)
        if current is not None and current.is_open and self in current.jobs:
            return current
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            raise NotOpen(self.identity) from None
        here = [runtime for runtime in self._open if runtime.token is token]
        if not here:
            raise NotOpen(self.identity)
        if len(here) > 1:
            raise AmbiguousRuntime(self.identity, len(here))
        return here[0]

    # -- requesting

    async def enqueue(
        self, task: str | Task[Any, Any], payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult:
        """
        Request one run; returns when that is durable.

        task: a declared task or its name. payload: any JSON value, or an instance of the task's payload type; at most
        256 KiB of JSON. delay: seconds or timedelta before the first start; run_at: an aware datetime or RFC 3339 text
        (the past means now; at most 10 years ahead). idempotency_key: at most 255 bytes; while a run with it is stored, it
        is returned with `deduped=True`; on_conflict="raise": unless its task and payload differ. queue: a declared queue's
        name. priority: 0 (first) to 9, default 5. timeout: seconds for each attempt. max_attempts: tries in all. trace_id:
        handed to every attempt. run_id: your own id, for a repeat without a key.

        Raises UnknownTask, UnknownQueue, PayloadInvalid, PayloadTooLarge, InvalidSchedule, InvalidName, InvalidOption,
        IdempotencyConflict, NotOpen, AmbiguousRuntime, ShuttingDown, Overloaded: nothing was stored. After a StoreError or
        a cancelled call the outcome is unknown, and repeating it with the same key or `run_id` is safe.
        """
        runtime = self.runtime()
        run = enqueueing.new_run(self._own(task), payload, options, runtime.seams, by=runtime.delays_by)
        strict = options.get("on_conflict") == "raise"
        answer = await runtime.write(Insert((run,), strict=strict))
        if isinstance(answer, Conflict):
            raise IdempotencyConflict(answer.idempotency_key, answer.existing.id)
        assert isinstance(answer, Inserted)
        return enqueueing.results((run,), answer.existing)[0]

    async def enqueue_many(self, entries: Iterable[Entry]) -> list[EnqueueResult]:
        """
        Request several runs with one commit, all or none; at most 10,000. Make the entries with `task.entry(payload, …)`.

        Returns and raises as `enqueue` does, in the order of the entries, and TooMany. A key repeated among the entries
        dedupes to its first; one entry with on_conflict="raise" makes the whole call strict.
        """
        runtime = self.runtime()
        listed = list(entries)
        if len(listed) > enqueueing.MAX_ENTRIES:
            raise TooMany(len(listed), enqueueing.MAX_ENTRIES)
        if not listed:
            return []
        seams, by = runtime.seams, runtime.delays_by
        runs = tuple(
            enqueueing.new_run(self._own(each.task), each.payload, each.options, seams, by=by) for each in listed
        )
        strict = any(each.options.get("on_conflict") == "raise" for each in listed)
        answer = await runtime.write(Insert(runs, strict=strict))
        if isinstance(answer, Conflict):
            raise IdempotencyConflict(answer.idempotency_key, answer.existing.id)
        assert isinstance(answer, Inserted)
        return enqueueing.results(runs, answer.existing)

    def _own(self, task: str | Task[Any, Any]) -> Task[Any, Any]:
        if isinstance(task, str):
            return self.task_named(task)
        if not isinstance(task, Task):
            raise TypeError(f"enqueue takes a task or its name, not {type(task).__name__}")
        if task.jobs is not self:
            raise UnknownTask(self.identity, task.name, tuple(self.tasks))
        return task
