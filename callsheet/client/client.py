"""
A client: requests, reads and steers the runs of one Jobs instance from any thread of any program, without an event loop.

Rule: every call does what the call of the same name on `Jobs` does, by the same code, and returns when it is durable.
Not here: how the store is reached (`direct`), the same for event loops (`aio`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, overload

from attrs import define, field

from .. import requests
from ..config import Definition, JobsConfig
from ..enqueue import EnqueueOptions, EnqueueResult, Entry
from ..errors import NotPublished, PolicyDenied
from ..guard import Action, acting_as
from ..jobs import Jobs, at
from ..queues import Queues
from ..runs import Runs
from ..schedules.schedules import Schedules
from ..snapshot import JobsSnapshot, Stats
from ..store.contract import Answer, Command
from ..store.records import Owner
from ..stores import sqlite_path
from .direct import Direct
from .drive import drive, driven
from .published import PublishedJobs, as_known_now, declared_by, is_guarded

if TYPE_CHECKING:
    from ..job import Job
    from ..task import Task

P = TypeVar("P")

FRESH_S: Final = 5.0
"""How old a definition may be that a client without the code goes by."""


class Client:
    """
    Reaches the runs of one Jobs instance in a store that other processes work on; made by `jobs.client(url)`, or from what
    a runtime has published of its Jobs.

    url: path of the database or `sqlite:///…`. jobs: `namespace/name`; None: the only one that is published there. subject: on
    whose behalf, for the policy of guarded Jobs.

    Nothing is opened before the first call. One client serves all threads of a process, and goes on working in a forked child.
    A call waits up to 5 s for others that write, and raises StoreBusy then. Without the code, payloads are checked to be JSON
    of the size that is allowed, task and queue by name; their type is checked before the attempt, by whoever runs it.

    Calls raise NoStore, NotPublished, PolicyDenied for guarded Jobs, and what the same calls of `Jobs` raise.
    """

    def __init__(self, url: str | os.PathLike[str], jobs: str | None = None, *, subject: object = None) -> None:
        if jobs is not None and not isinstance(jobs, str):
            raise TypeError(
                f"jobs is named by its namespace/name, not by {type(jobs).__name__}; or use jobs.client(url)"
            )
        self._wanted = jobs
        self._declared: Jobs | None = None
        self._published: PublishedJobs | None = None
        self._read_s = 0.0
        self._is_set_up = False
        self._subject = subject
        self._direct = Direct(sqlite_path(url), create=False)
        self._direct.told.append(self._tell)
        self.runs = ClientRuns(self)
        self.queues = ClientQueues(self)
        self.schedules = ClientSchedules(self)

    @classmethod
    def of(cls, jobs: Jobs, url: str | os.PathLike[str], *, subject: object = None) -> Self:
        """See `Jobs.client`."""
        client = cls(url, jobs.identity, subject=subject)
        client._declared = jobs
        client._direct.create = True
        return client

    def __repr__(self) -> str:
        return f"<Client of {self._wanted or 'the published Jobs'} in {self._direct.where}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; twice does nothing. Calls that follow raise StoreClosed."""
        self._direct.close()

    # -- what it reaches

    @property
    def port(self) -> Direct:
        """The way to the store; for the calls of this client."""
        return self._direct

    @property
    def jobs(self) -> Jobs:
        """The declaration that calls go by: the code's, or what is published. Raises NoStore, NotPublished."""
        if self._declared is not None:
            if not self._is_set_up:
                self._is_set_up = True
                self._declared.bus.set_up()
            return self._declared
        now_s = self._direct.seams.clock.mono_s()
        if self._published is None or now_s - self._read_s > FRESH_S:
            self._published, self._read_s = drive(self._find()), now_s
            self._published.bus.set_up()
        return self._published

    async def _find(self) -> PublishedJobs:
        found = await self._direct.read(lambda reader: reader.published())
        store, known = self._direct.where, ", ".join(each.jobs for each in found)
        mine = [each for each in found if self._wanted in (None, each.jobs)]
        if not mine:
            raise NotPublished(store, self._wanted, f"published are {known}" if known else "nothing is published yet")
        if len(mine) > 1:
            raise NotPublished(store, None, f"say one of {known}")
        declared = declared_by(mine[0], store)
        if is_guarded(mine[0]):
            why = "its policy is in its code, and this client has none: use jobs.client(url)"
            raise PolicyDenied(self._subject, Action.READ, mine[0].jobs, why)
        return declared

    def _tell(self, commands: Sequence[Command], answers: Sequence[Answer], at_us: int) -> None:
        jobs = self._declared or self._published
        if jobs is not None:
            jobs.bus.told(commands, answers, at_us, boot_id=None)

    def entered(self) -> AbstractContextManager[object]:
        """A context for one call: on behalf of the client's subject; without one, of whoever the caller acts for."""
        return nullcontext() if self._subject is None else acting_as(self._subject)

    # -- looking

    @property
    def config(self) -> JobsConfig:
        """As `Jobs.config`."""
        return self.jobs.config

    def definitions(self) -> tuple[Definition, ...]:
        """As `Jobs.definitions`: the tasks, by name."""
        return self.jobs.definitions()

    def snapshot(self) -> JobsSnapshot:
        """As `Jobs.snapshot`: everything at a glance, from one reading of the store."""
        with self.entered():
            return drive(requests.snapshot(self.jobs, self._direct))

    def stats(self) -> Stats:
        """As `Jobs.stats`: how many runs there are, by status, task and queue."""
        with self.entered():
            return drive(requests.stats(self.jobs, self._direct))

    def runtimes(self) -> tuple[Owner, ...]:
        """As `Jobs.runtimes`: who runs what is in the store."""
        with self.entered():
            return drive(requests.runtimes(self.jobs, self._direct))

    # -- requesting

    @overload
    def enqueue(self, task: str, payload: object = None, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    @overload
    def enqueue(self, task: Task[P, Any], payload: P, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    @overload
    def enqueue(self, task: Job, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    def enqueue(
        self, task: str | Task[Any, Any] | Job, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult:
        """
        As `Jobs.enqueue`: request one run; returns when that is durable.

        After StoreBusy or another refusal nothing was stored; after OutcomeUnknown that is not known, and repeating the call
        with the same `idempotency_key` or `run_id` is safe.
        """
        return self._request(task, payload, options)

    @overload
    def enqueue_in(
        self, task: str, seconds: float | timedelta, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    def enqueue_in(
        self, task: Task[P, Any], seconds: float | timedelta, payload: P, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    def enqueue_in(self, task: Job, seconds: float | timedelta, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    def enqueue_in(
        self,
        task: str | Task[Any, Any] | Job,
        seconds: float | timedelta,
        payload: object = None,
        **options: Unpack[EnqueueOptions],
    ) -> EnqueueResult:
        """`enqueue` with `delay=seconds`, on the wall clock of whoever runs it."""
        return self._request(task, payload, at(options, {"delay": seconds}))

    @overload
    def enqueue_at(
        self, task: str, when: datetime | str, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    def enqueue_at(
        self, task: Task[P, Any], when: datetime | str, payload: P, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    def enqueue_at(self, task: Job, when: datetime | str, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    def enqueue_at(
        self,
        task: str | Task[Any, Any] | Job,
        when: datetime | str,
        payload: object = None,
        **options: Unpack[EnqueueOptions],
    ) -> EnqueueResult:
        """`enqueue` with `run_at=when`."""
        return self._request(task, payload, at(options, {"run_at": when}))

    @overload
    def entry(self, task: str, payload: object = None, **options: Unpack[EnqueueOptions]) -> Entry: ...
    @overload
    def entry(self, task: Task[P, Any], payload: P, **options: Unpack[EnqueueOptions]) -> Entry: ...
    @overload
    def entry(self, task: Job, **options: Unpack[EnqueueOptions]) -> Entry: ...
    def entry(
        self, task: str | Task[Any, Any] | Job, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> Entry:
        """One run for `enqueue_many`. Raises UnknownTask or NotRegistered."""
        return Entry(*self.jobs.wanted(task, payload), options)

    def enqueue_many(self, entries: Iterable[Entry]) -> list[EnqueueResult]:
        """As `Jobs.enqueue_many`: several runs in one transaction, all or none; at most 10,000."""
        with self.entered():
            jobs, listed = self.jobs, [entries] if isinstance(entries, Entry) else entries
            known = [as_known_now(jobs, each) if isinstance(each, Entry) else each for each in listed]
            return drive(requests.request_many(jobs, self._direct, known))

    def _request(self, task: str | Task[Any, Any] | Job, payload: object, options: EnqueueOptions) -> EnqueueResult:
        with self.entered():
            return drive(requests.request(self.jobs, self._direct, task, payload, options))


@define(eq=False)
class ClientRuns:
    """`client.runs`: what `jobs.runs` does, returning when it is done."""

    _client: Client = field(repr=False)

    @property
    def behind(self) -> Runs:
        """Whose calls these are."""
        return Runs(self._client.jobs, lambda: self._client.port)

    def entered(self) -> AbstractContextManager[object]:
        """See `Client.entered`."""
        return self._client.entered()

    get = driven(Runs.get)
    list = driven(Runs.list)
    result = driven(Runs.result)
    explain = driven(Runs.explain)
    wait = driven(Runs.wait)
    cancel = driven(Runs.cancel)
    replay = driven(Runs.replay)
    cancel_all = driven(Runs.cancel_all)
    replay_all = driven(Runs.replay_all)


@define(eq=False)
class ClientQueues:
    """`client.queues`: what `jobs.queues` does, returning when it is done."""

    _client: Client = field(repr=False)

    @property
    def behind(self) -> Queues:
        """Whose calls these are."""
        return Queues(self._client.jobs, lambda: self._client.port)

    def entered(self) -> AbstractContextManager[object]:
        """See `Client.entered`."""
        return self._client.entered()

    pause = driven(Queues.pause)
    resume = driven(Queues.resume)
    set = driven(Queues.set)
    reset = driven(Queues.reset)
    get = driven(Queues.get)
    list = driven(Queues.list)


@define(eq=False)
class ClientSchedules:
    """`client.schedules`: what `jobs.schedules` does, returning when it is done. Runtimes that are open see it at once."""

    _client: Client = field(repr=False)

    @property
    def behind(self) -> Schedules:
        """Whose calls these are."""
        jobs = self._client.jobs
        return Schedules(jobs, lambda: self._client.port, jobs.schedules.declared)

    def entered(self) -> AbstractContextManager[object]:
        """See `Client.entered`."""
        return self._client.entered()

    every = driven(Schedules.every)
    cron = driven(Schedules.cron)
    get = driven(Schedules.get)
    list = driven(Schedules.list)
    history = driven(Schedules.history)
    preview = driven(Schedules.preview)
    pause = driven(Schedules.pause)
    resume = driven(Schedules.resume)
    trigger = driven(Schedules.trigger)
    delete = driven(Schedules.delete)
