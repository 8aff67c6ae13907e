"""
The one hand that writes to a store: a dedicated thread, or the caller's own in a simulation.

Rule: a call that has begun is waited for, whatever is cancelled meanwhile: a commit in flight always has an outcome
that somebody learns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

import trio
from attrs import define, field

T = TypeVar("T")


class Writer(Protocol):
    """Runs blocking calls, one at a time, in order."""

    async def call(self, what: Callable[[], T]) -> T:
        """What `what()` returns, or raises."""

    def close(self) -> None:
        """End the thread, if there is one, once it has nothing to do."""


class InlineWriter:
    """Calls in the task that asks: for simulations, where a thread in flight would let the mock clock jump."""

    async def call(self, what: Callable[[], T]) -> T:
        """See `Writer.call`."""
        await trio.lowlevel.cancel_shielded_checkpoint()
        return what()

    def close(self) -> None:
        """See `Writer.close`."""


@define(eq=False)
class _Job(Generic[T]):
    what: Callable[[], T]
    values: list[T] = field(factory=list)
    error: BaseException | None = None
    done: bool = False
    waiter: trio.lowlevel.Task | None = None

    def run(self) -> None:
        try:
            self.values.append(self.what())
        except BaseException as error:  # noqa: BLE001 -- it belongs to whoever asked
            self.error = error

    def finish(self) -> None:
        self.done = True
        if self.waiter is not None:
            waiter, self.waiter = self.waiter, None
            trio.lowlevel.reschedule(waiter)


class ThreadWriter:
    """A thread of its own: half the price of a pooled hop, and never behind somebody else's work. Make it in `trio.run`."""

    def __init__(self, name: str) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def call(self, what: Callable[[], T]) -> T:
        """See `Writer.call`."""
        job = _Job(what)
        self._jobs.put(job)  # type: ignore[arg-type]  # what it returns is only handed on
        job.waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if job.error is not None:
            raise job.error
        return job.values[0]

    def close(self) -> None:
        """See `Writer.close`."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            try:
                self._token.run_sync_soon(job.finish)
            except trio.RunFinishedError:
                return  # nobody is left to tell; what was committed is committed
