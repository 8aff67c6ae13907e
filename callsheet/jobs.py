"""
A Jobs instance: what tasks and queues there are, under which policy. A declaration; `open` runs it.

Rule: declared once, at import; opened any number of times, one after another or on several stores.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload

import trio

from . import enqueue as enqueueing
from . import requests
from .actors.seams import Seams
from .actors.stream import Stream
from .config import Definition, JobsConfig, config_of, definition_of
from .declaring import Declare
from .enqueue import EnqueueOptions, EnqueueResult, Entry
from .errors import (
    AlreadyDeclared,
    AmbiguousRuntime,
    InvalidOption,
    InvalidSchedule,
    NotInHandler,
    NotOpen,
    NotRegistered,
    UnknownQueue,
    UnknownTask,
)
from .guard import Action, Policy, guard_of, require
from .job import Job, make_task
from .names import check_name, check_namespace
from .observe.bus import Bus, DroppedListener, Listener
from .observe.event import Event, EventKind
from .observe.observability import DEFAULT as DEFAULT_OBSERVABILITY
from .observe.observability import Observability
from .observe.witness import STREAM_LIMIT
from .options import DEFAULT_STUCK_S, TaskOptions, declared, stuck_after_s
from .queue import Queue
from .queues import Queues
from .retention import Retention
from .runs import Runs
from .schedules.cadence import Cadence, Cron, Every
from .schedules.plan import ScheduleOptions, plan_of
from .schedules.schedules import Schedules
from .snapshot import JobsSnapshot, Stats
from .store.codec import DEFAULT_LIMIT, HARD_LIMIT
from .store.policy import DEFAULT_RETRY, Retry
from .store.records import Owner
from .task import Task

if TYPE_CHECKING:
    from .client.client import Client
    from .open_options import OpenOptions
    from .runtime import Runtime
    from .store.contract import Store

P = TypeVar("P")
J = TypeVar("J", bound=Job)
K = TypeVar("K")

current_runtime: Final[ContextVar[Runtime]] = ContextVar("callsheet_runtime")
"""The runtime whose block, or whose handler, we are in."""
current_jobs: Final[ContextVar[Jobs]] = ContextVar("callsheet_jobs")
"""The instance whose handler we are in."""


class Jobs:
    """
    A named set of tasks and queues.

    name, namespace: together the identity `namespace/name`; idempotency keys and stored runs belong to it.
    queue: the default queue's settings. queues: further ones, which need names. retry: policy of every task, unless the
    task says otherwise, field by field. timeout: seconds for one attempt of every task, unless the task says otherwise.
    max_payload: bytes of JSON in one payload (1 … 4,194,304, default 262,144). stuck_after: seconds that a handler may go
    on after it was told to stop, before its run is shown as stuck, unless the task says otherwise. retention: how long runs
    are kept once they have ended; None: for ever. observability: what is recorded of runs without anybody asking: see
    `Observability`. policy: who may enqueue, read, cancel, replay and steer: a function of an Access, see `Policy`; without
    one everybody may.

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
        max_payload: int = DEFAULT_LIMIT,
        stuck_after: float = DEFAULT_STUCK_S,
        observability: Observability | None = None,
        policy: Policy | None = None,
        retention: Retention | None = None,
    ) -> None:
        self.name = check_name(name, "name of a Jobs instance")
        self.namespace = check_namespace(namespace)
        self.retry_policy = DEFAULT_RETRY.over(_made_of(Retry, retry, "retry"))
        self.timeout_us = None if timeout is None else enqueueing.timeout_us(timeout)
        self.max_payload = _max_payload(max_payload)
        self.stuck_after_s = stuck_after_s(stuck_after)
        self.observability = _made_of(Observability, observability, "observability") or DEFAULT_OBSERVABILITY
        self.bus = Bus(self.identity, self.observability)
        """Told by whoever makes a step of these jobs durable."""
        self.policy = guard_of(self, policy)
        """What decides who may do what; None: everybody may do everything."""
        self.retention = _made_of(Retention, retention, "retention") or Retention()
        self.tasks: dict[str, Task[Any, Any]] = {}
        self.aliases: dict[str, Task[Any, Any]] = {}
        """By the names that tasks had before."""
        self._job_classes: dict[type, Task[Any, Any]] = {}
        self.declared_queues: dict[str, Queue] = {}
        """By identity, `namespace/queue`; the default queue is the first."""
        self.runs = Runs(self, self.runtime)
        self.queues = Queues(self, self.runtime)
        self.schedules = Schedules(self, self.runtime)
        self._open: list[Runtime] = []
        default = _made_of(Queue, queue, "queue") or Queue()
        self._add_queue(default, default.name or f"{name}-jobs")
        if not isinstance(queues, Sequence) or isinstance(queues, str):
            raise TypeError(f'queues must be a list, as in queues=[Queue("mail")], not {type(queues).__name__}')
        for each in queues:
            if not isinstance(each, Queue):
                raise TypeError(f'queues must hold Queues, as in queues=[Queue("mail")], not {type(each).__name__}')
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

    @property
    def config(self) -> JobsConfig:
        """What it was declared with, and the defaults for what was left out."""
        return config_of(self)

    def definitions(self) -> tuple[Definition, ...]:
        """Its tasks as they were declared, by name."""
        return tuple(definition_of(self.tasks[name]) for name in sorted(self.tasks))

    # -- looking

    async def snapshot(self) -> JobsSnapshot:
        """Everything at a glance, from one reading of the store: see `JobsSnapshot`. Raises PolicyDenied."""
        return await requests.snapshot(self, self.runtime())

    async def stats(self) -> Stats:
        """How many runs there are, by status, task and queue: sums of the store's counters. Raises PolicyDenied."""
        return await requests.stats(self, self.runtime())

    async def runtimes(self) -> tuple[Owner, ...]:
        """The runtimes registered on the store: boot id, host, process, version, tasks, queues. Raises PolicyDenied."""
        return await requests.runtimes(self, self.runtime())

    def events(
        self, limit: int = STREAM_LIMIT, kinds: Iterable[EventKind | str] | None = None
    ) -> AbstractAsyncContextManager[Stream[Event]]:
        """
        What the open runtime does from now on: `async with jobs.events() as events: async for event in events: ...`

        limit: how many may wait for the reader (1 … 100,000); then the oldest is dropped, and counted in `events.lost`. kinds:
        only these. It ends when the runtime has closed. Raises InvalidOption, NotOpen, AmbiguousRuntime, and PolicyDenied
        where a policy does not let whoever calls read.
        """
        require(self, Action.READ)
        return self.runtime().witness.events(self.bus, limit, kinds)

    def on_event(self, listener: Listener, kinds: Iterable[EventKind | str] | None = None) -> Callable[[], None]:
        """
        Have `listener` called with every event of these jobs that this process makes, through whatever runtime or client.

        kinds: only these. It is called after the commit, in the thread that made it, which waits for it: it must be quick,
        and a plain function. One that raises is dropped: see `dropped_listeners`. May be called at any time, open or not.
        Returns a function that ends it. Raises InvalidOption or TypeError.
        """
        return self.bus.listen(listener, kinds)

    @property
    def dropped_listeners(self) -> tuple[DroppedListener, ...]:
        """The listeners that raised and are told nothing more, the last 100, oldest first."""
        return tuple(self.bus.dropped)

    # -- declaring

    def task(self, name: str, **options: Unpack[TaskOptions]) -> Declare:
        """
        Declare the decorated function as the handler of task `name`; for the options see `TaskOptions`.

        `async def handler(payload, ctx: Context)` runs in the event loop; `def handler(payload, ctx: SyncContext)` in a thread.
        The annotation of `payload` is its type: attrs classes, dataclasses, or any type that cattrs structures.

        Raises InvalidName, UnknownQueue, AlreadyDeclared, InvalidOption, or TypeError when the handler has another form.
        """
        if not isinstance(name, str) and callable(name):
            raise TypeError('@jobs.task needs the name of the task: write @jobs.task("send-mail") above the function')
        return Declare(self, declared(self, name, options))

    @overload
    def register(self, job: type[J], /) -> type[J]: ...
    @overload
    def register(
        self, /, *, kind: str | None = None, **options: Unpack[TaskOptions]
    ) -> Callable[[type[J]], type[J]]: ...
    def register(
        self, job: type[Job] | None = None, /, *, kind: str | None = None, **options: Unpack[TaskOptions]
    ) -> Any:
        """
        Declare the decorated Job class; it stands above `@frozen`, bare or with options, which win over the class keywords.

        kind: the name of its task, where the class itself has none. Raises InvalidName, UnknownQueue, AlreadyDeclared,
        InvalidOption, or TypeError when the class is none that can be stored.
        """

        def declare(job: type[J]) -> type[J]:
            task = make_task(self, job, {"kind": kind, **options})
            self.add(task)
            self._job_classes[job] = task
            return job

        return declare if job is None else declare(job)

    def every(
        self,
        key: str,
        seconds: float | timedelta,
        task: str | Task[Any, Any] | Job,
        payload: object = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """
        Declare a schedule: while a runtime runs these jobs, a run of `task` is requested every so many seconds.

        What is declared is stored when a runtime opens; a key that is dropped from the code is stopped then, and shown as
        orphaned. For arguments and errors see `Schedules.every`; AlreadyDeclared for a key that is declared twice.
        """
        self._declare(key, Every(seconds), task, payload, options)

    def cron(
        self,
        key: str,
        expression: str,
        task: str | Task[Any, Any] | Job,
        payload: object = None,
        *,
        tz: str = "UTC",
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Declare a schedule, as `every`, by a cron expression in a time zone: see `Schedules.cron`."""
        self._declare(key, Cron(expression, tz), task, payload, options)

    def _declare(
        self, key: str, when: Cadence, task: str | Task[Any, Any] | Job, payload: object, options: ScheduleOptions
    ) -> None:
        plan = plan_of(key, when, *self.wanted(task, payload), options, seams=Seams.outside(), origin="code")
        if plan.key in self.schedules.declared:
            raise AlreadyDeclared(self.identity, f"schedule {plan.key!r}", "there is one with this key")
        if self._open:
            raise AlreadyDeclared(
                self.identity, f"schedule {plan.key!r}", "a runtime is open; use jobs.schedules there"
            )
        self.schedules.declared[plan.key] = plan

    def add(self, task: Task[Any, Any]) -> None:
        """Take a declared task in. Raises AlreadyDeclared."""
        what = f"task {task.name!r}"
        if self._open:
            raise AlreadyDeclared(self.identity, what, "a runtime is open; declare tasks before opening")
        if task.name in self.tasks:
            raise AlreadyDeclared(self.identity, what, "there is one of this name")
        for name in task.names:
            other = self.aliases.get(name) or self.tasks.get(name)
            if other is not None:
                raise AlreadyDeclared(self.identity, what, f"{name!r} is a name that task {other.name!r} has, or had")
        self.tasks[task.name] = task
        self.aliases |= dict.fromkeys(task.declared.aliases, task)

    def task_named(self, name: str) -> Task[Any, Any]:
        """The declared task of this name, or that had it before. Raises UnknownTask."""
        try:
            return self.tasks.get(name) or self.aliases[name]
        except (KeyError, TypeError):
            raise UnknownTask(self.identity, str(name), tuple(self.tasks)) from None

    # -- running

    @asynccontextmanager
    async def open(
        self, store: str | os.PathLike[str] | Store, **options: Unpack[OpenOptions]
    ) -> AsyncIterator[Runtime]:
        """As `open_runtime(store, self, …)`: run these jobs on `store` while the block runs."""
        from .opening import open_runtime

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

    def client(self, url: str | os.PathLike[str], *, subject: object = None) -> Client:
        """
        A client of these jobs: for programs that do not run them, and have no event loop. See `Client`.

        url: path of the database or `sqlite:///…`; made by the first call where it is not there. subject: on whose behalf calls
        are made, for the policy.
        """
        from .client.client import Client

        return Client.of(self, url, subject=subject)

    def runtime(self) -> Runtime:
        """
        The open runtime that calls on this instance use: the one whose block or handler we are in, else the only one.

        Raises NotOpen or AmbiguousRuntime.
        """
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:  # a thread
            token = None
        current = current_runtime.get(None)
        if current is not None and current.is_open and self in current.jobs and token in (None, current.token):
            return current  # threads inherit it, and so does a trio program that one of them runs: not for that one
        here = [runtime for runtime in self._open if token is not None and runtime.token is token]
        if not here:
            raise NotOpen(self.identity)
        if len(here) > 1:
            raise AmbiguousRuntime(self.identity, len(here))
        return here[0]

    @classmethod
    def current(cls) -> Jobs:
        """The instance whose handler this is called in, in its thread too. Raises NotInHandler."""
        jobs = current_jobs.get(None)
        if jobs is None:
            raise NotInHandler
        return jobs

    @property
    def is_working(self) -> bool:
        """Whether a runtime that is open in this process runs these jobs."""
        return any(runtime.is_open and runtime.works for runtime in self._open)

    # -- requesting

    @overload
    async def enqueue(self, task: str, payload: object = None, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    @overload
    async def enqueue(self, task: Task[P, Any], payload: P, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    @overload
    async def enqueue(self, task: Job, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    async def enqueue(
        self, task: str | Task[Any, Any] | Job, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult:
        """
        Request one run; returns when that is durable.

        task: a declared task, its name (an older one too), or an instance of a registered Job class, which is its own
        payload. payload: any JSON value, or an instance of the task's payload type; at most `max_payload` bytes of JSON.
        delay (seconds) or run_at: when it may first start. idempotency_key: the same key of this instance is the same run, as
        long as that is kept. on_conflict="raise": a key, or an id, whose run has another task or payload is an error. queue:
        another declared queue's name. priority: 0 (first) to 9, default 5. timeout: seconds for each attempt. max_attempts:
        tries in all. trace_id: handed to every attempt. run_id: your own id, unique in the store, for a repeat without a key.

        Raises UnknownTask, NotRegistered, PolicyDenied, UnknownQueue, PayloadInvalid, PayloadTooLarge, InvalidSchedule,
        InvalidName, InvalidOption, IdempotencyConflict, NotOpen, AmbiguousRuntime, ShuttingDown, Overloaded: nothing was
        stored. After a StoreError or a cancelled call the outcome is unknown, and repeating it with the same key or `run_id`
        is safe.
        """
        return await self.request(task, payload, options)

    @overload
    async def enqueue_in(
        self, task: str, seconds: float | timedelta, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_in(
        self, task: Task[P, Any], seconds: float | timedelta, payload: P, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_in(
        self, task: Job, seconds: float | timedelta, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    async def enqueue_in(
        self,
        task: str | Task[Any, Any] | Job,
        seconds: float | timedelta,
        payload: object = None,
        **options: Unpack[EnqueueOptions],
    ) -> EnqueueResult:
        """`enqueue` with `delay=seconds`: what, how long from now, and the payload, unless it is a job."""
        return await self.request(task, payload, at(options, {"delay": seconds}))

    @overload
    async def enqueue_at(
        self, task: str, when: datetime | str, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_at(
        self, task: Task[P, Any], when: datetime | str, payload: P, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_at(self, task: Job, when: datetime | str, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    async def enqueue_at(
        self,
        task: str | Task[Any, Any] | Job,
        when: datetime | str,
        payload: object = None,
        **options: Unpack[EnqueueOptions],
    ) -> EnqueueResult:
        """`enqueue` with `run_at=when`: what, when, and the payload, unless it is a job."""
        return await self.request(task, payload, at(options, {"run_at": when}))

    @overload
    def entry(self, task: str, payload: object = None, **options: Unpack[EnqueueOptions]) -> Entry: ...
    @overload
    def entry(self, task: Task[P, Any], payload: P, **options: Unpack[EnqueueOptions]) -> Entry: ...
    @overload
    def entry(self, task: Job, **options: Unpack[EnqueueOptions]) -> Entry: ...
    def entry(
        self, task: str | Task[Any, Any] | Job, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> Entry:
        """One run for `enqueue_many`, of whatever `enqueue` takes. Raises UnknownTask or NotRegistered."""
        return Entry(*self.wanted(task, payload), options)

    async def request(
        self, task: str | Task[Any, Any] | Job, payload: object, options: EnqueueOptions
    ) -> EnqueueResult:
        """`enqueue`, for those that pass a request on."""
        return await requests.request(self, self.runtime(), task, payload, options)

    async def enqueue_many(self, entries: Iterable[Entry]) -> list[EnqueueResult]:
        """
        Request several runs with one commit, all or none; at most 10,000. Entries come from `task.entry(payload, …)` and
        `jobs.entry(task or job, …)`.

        Returns and raises as `enqueue` does, in the order of the entries, and TooMany. A key repeated among the entries
        dedupes to its first; one entry with on_conflict="raise" makes the whole call strict.
        """
        return await requests.request_many(self, self.runtime(), entries)

    def wanted(self, task: str | Task[Any, Any] | Job, payload: object) -> tuple[Task[Any, Any], object]:
        """Which task of ours a call means, and with what payload. Raises UnknownTask, NotRegistered or TypeError."""
        if type(task) is Task and task.jobs is self and not task.is_job:  # the common case, once a run
            return task, payload
        if isinstance(task, Task):
            if task.jobs is not self:
                raise UnknownTask(self.identity, task.name, tuple(self.tasks))
        elif isinstance(task, str):
            task = self.task_named(task)
        elif isinstance(task, Job):
            if payload is not None:
                raise TypeError("a job is its own payload: enqueue takes no other one with it")
            return self._task_of(task), task
        else:
            raise TypeError(f"enqueue takes a task, its name or a job, not {type(task).__name__}")
        if task.is_job and isinstance(payload, Job) and self._task_of(payload) is not task:
            raise NotRegistered(self.identity, _named(type(payload)), f"it is not the class of kind {task.name!r}")
        return task, payload

    def _task_of(self, job: Job) -> Task[Any, Any]:
        task = self._job_classes.get(type(job))
        if task is not None:
            return task
        kind = type(job).declared_with.kind
        other = self.tasks.get(kind or "")
        why = "put @jobs.register on top of it"
        if other is not None:
            why = f"kind {kind!r} is that of {_named(other.payload_type) if other.is_job else 'another task'}"
        raise NotRegistered(self.identity, _named(type(job)), why)


def at(options: EnqueueOptions, when: EnqueueOptions) -> EnqueueOptions:
    """`options` with the time that another argument gives. Raises InvalidSchedule when they name one too, or TypeError."""
    for name in ("delay", "run_at"):
        if options.get(name) is not None:
            raise InvalidSchedule(name, "the second argument says when")
    if (
        None in when.values()
    ):  # an option that is None is not given, and would mean now: nobody who says when means that
        raise TypeError("the second argument says when: seconds for enqueue_in, a time for enqueue_at, not None")
    return {**options, **when}


def _made_of(kind: type[K], value: object, what: str) -> K | None:
    if value is None or isinstance(value, kind):
        return value
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    raise TypeError(
        f"{what} must be {article} {kind.__name__}, as in {what}={kind.__name__}(…), not {type(value).__name__}"
    )


def _max_payload(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise InvalidOption("max_payload", f"must be an int, not {type(limit).__name__}")
    if not 1 <= limit <= HARD_LIMIT:
        raise InvalidOption("max_payload", f"must be 1 to {HARD_LIMIT:,} bytes, not {limit}")
    return limit


def _named(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
