"""
A client for event loops, trio's and asyncio's: the same calls, each in a thread, so that the loop never waits for a disk.

Rule 1: what a call means is in `client`; here is only who waits where.
Rule 2: a call that is cancelled ends when its transaction has: never half done, and its outcome is unknown to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from attrs import define, evolve, field

from ..config import JobsConfig
from ..enqueue import EnqueueOptions, EnqueueResult, Entry
from ..errors import WaitTimeout
from ..store.policy import seconds
from ..store.records import Run
from .client import Client, ClientQueues, ClientRuns, ClientSchedules
from .direct import FIRST_LOOK_S, LAST_LOOK_S

try:
    import anyio
    import anyio.to_thread
except ImportError as error:
    raise ImportError(
        "AsyncClient needs anyio, which the extra 'anyio' brings: pip install 'callsheet[anyio]'"
    ) from error

if TYPE_CHECKING:
    from ..job import Job
    from ..task import Task

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)
Payload = TypeVar("Payload")


class InThreads(Protocol[W_co]):
    """Stands before something whose calls block."""

    @property
    def behind(self) -> W_co:
        """What it stands before."""


def threaded(call: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[InThreads[W], P], Awaitable[T]]:
    """The method that does in a thread what this method of what it stands before does."""

    @wraps(call)
    async def method(self: InThreads[W], /, *arguments: P.args, **options: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(call, self.behind, *arguments, **options))

    return method


class AsyncClient:
    """
    A Client for an event loop: `AsyncClient(jobs.client("jobs.db"))`, or over a `Client("jobs.db", jobs="app/background")`.

    Every call of the client is a coroutine here, with the same arguments, results and errors; `entry` and `config` too, since
    what is published must be read first. It needs the extra `anyio`, and runs under trio and asyncio. As many calls go on at
    once as anyio's default limiter has threads (40). Cancelling a call other than `runs.wait` waits until it is done.
    """

    def __init__(self, client: Client) -> None:
        if not isinstance(client, Client):
            raise TypeError(
                f"AsyncClient is made of a Client, as in AsyncClient(jobs.client(url)), not of {type(client).__name__}"
            )
        self.behind = client
        self.runs = AsyncRuns(client.runs)
        self.queues = AsyncQueues(client.queues)
        self.schedules = AsyncSchedules(client.schedules)

    def __repr__(self) -> str:
        return f"<Async{repr(self.behind).removeprefix('<')}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()

    close = threaded(Client.close)
    snapshot = threaded(Client.snapshot)
    stats = threaded(Client.stats)
    runtimes = threaded(Client.runtimes)
    definitions = threaded(Client.definitions)

    async def config(self) -> JobsConfig:
        """As `Client.config`."""
        return await anyio.to_thread.run_sync(lambda: self.behind.config)

    @overload
    async def enqueue(self, task: str, payload: object = None, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    @overload
    async def enqueue(
        self, task: Task[Payload, Any], payload: Payload, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue(self, task: Job, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    async def enqueue(self, task: Any, *payload: Any, **options: Any) -> EnqueueResult:
        """As `Client.enqueue`."""
        return await anyio.to_thread.run_sync(partial(self.behind.enqueue, task, *payload, **options))

    @overload
    async def enqueue_in(
        self, task: str, seconds: float | timedelta, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_in(
        self, task: Task[Payload, Any], seconds: float | timedelta, payload: Payload, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_in(
        self, task: Job, seconds: float | timedelta, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    async def enqueue_in(self, task: Any, seconds: Any, *payload: Any, **options: Any) -> EnqueueResult:
        """As `Client.enqueue_in`."""
        return await anyio.to_thread.run_sync(partial(self.behind.enqueue_in, task, seconds, *payload, **options))

    @overload
    async def enqueue_at(
        self, task: str, when: datetime | str, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_at(
        self, task: Task[Payload, Any], when: datetime | str, payload: Payload, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult: ...
    @overload
    async def enqueue_at(self, task: Job, when: datetime | str, **options: Unpack[EnqueueOptions]) -> EnqueueResult: ...
    async def enqueue_at(self, task: Any, when: Any, *payload: Any, **options: Any) -> EnqueueResult:
        """As `Client.enqueue_at`."""
        return await anyio.to_thread.run_sync(partial(self.behind.enqueue_at, task, when, *payload, **options))

    @overload
    async def entry(self, task: str, payload: object = None, **options: Unpack[EnqueueOptions]) -> Entry: ...
    @overload
    async def entry(self, task: Task[Payload, Any], payload: Payload, **options: Unpack[EnqueueOptions]) -> Entry: ...
    @overload
    async def entry(self, task: Job, **options: Unpack[EnqueueOptions]) -> Entry: ...
    async def entry(self, task: Any, *payload: Any, **options: Any) -> Entry:
        """As `Client.entry`."""
        return await anyio.to_thread.run_sync(partial(self.behind.entry, task, *payload, **options))

    async def enqueue_many(self, entries: Iterable[Entry]) -> list[EnqueueResult]:
        """As `Client.enqueue_many`."""
        return await anyio.to_thread.run_sync(partial(self.behind.enqueue_many, entries))


@define(eq=False)
class AsyncRuns:
    """`client.runs` of an AsyncClient."""

    behind: ClientRuns = field(repr=False)

    get = threaded(ClientRuns.get)
    list = threaded(ClientRuns.list)
    result = threaded(ClientRuns.result)
    explain = threaded(ClientRuns.explain)
    cancel = threaded(ClientRuns.cancel)
    replay = threaded(ClientRuns.replay)
    cancel_all = threaded(ClientRuns.cancel_all)
    replay_all = threaded(ClientRuns.replay_all)

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """As `Runs.wait`: the run once it has ended. Nothing is held, and no thread waits, between two looks."""
        timeout_s = None if timeout is None else seconds(timeout, "timeout")
        until_s, look_s = math.inf if timeout_s is None else anyio.current_time() + timeout_s, FIRST_LOOK_S
        while True:
            try:
                return await anyio.to_thread.run_sync(partial(self.behind.wait, run_id, timeout=0))
            except WaitTimeout as error:
                left_s = until_s - anyio.current_time()
                if left_s <= 0:
                    raise evolve(error, timeout_s=timeout_s or 0.0) from None
            await anyio.sleep(min(look_s, left_s))
            look_s = min(look_s * 1.5, LAST_LOOK_S)


@define(eq=False)
class AsyncQueues:
    """`client.queues` of an AsyncClient."""

    behind: ClientQueues = field(repr=False)

    pause = threaded(ClientQueues.pause)
    resume = threaded(ClientQueues.resume)
    set = threaded(ClientQueues.set)
    reset = threaded(ClientQueues.reset)
    get = threaded(ClientQueues.get)
    list = threaded(ClientQueues.list)


@define(eq=False)
class AsyncSchedules:
    """`client.schedules` of an AsyncClient."""

    behind: ClientSchedules = field(repr=False)

    every = threaded(ClientSchedules.every)
    cron = threaded(ClientSchedules.cron)
    get = threaded(ClientSchedules.get)
    list = threaded(ClientSchedules.list)
    history = threaded(ClientSchedules.history)
    preview = threaded(ClientSchedules.preview)
    pause = threaded(ClientSchedules.pause)
    resume = threaded(ClientSchedules.resume)
    trigger = threaded(ClientSchedules.trigger)
    delete = threaded(ClientSchedules.delete)
