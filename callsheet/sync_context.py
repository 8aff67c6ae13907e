"""
What a handler that is a plain function is given beside its payload. It runs in a thread, and so may every method here.

Rule: nothing can interrupt a thread: it asks, by `check`, or by anything here that waits, whether it was told to stop.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Unpack

import trio
from attrs import define, field

from .actors.control import AttemptStopped
from .context import Facts
from .enqueue import EnqueueOptions, EnqueueResult
from .errors import ShuttingDown
from .guard import as_task, is_acting
from .jobs import current_runtime
from .progress import MAX_PROGRESS
from .store import codec
from .store.policy import seconds

if TYPE_CHECKING:
    from .job import Job
    from .runtime import Runtime
    from .task import Task


@define(eq=False)
class SyncContext(Facts):
    """One attempt, as a handler in a thread sees it. Threads that the handler starts itself may use it too."""

    _runtime: Runtime
    _latest: bytes = field(default=b"null", init=False)

    def check(self) -> None:
        """
        Raise AttemptStopped once this attempt was told to stop: it timed out, was canceled, or the runtime stops.

        Call it between steps. The attempt lasts until the handler has ended, whatever it does.
        """
        reason = self._actor.stop_reason
        if reason is not None:
            raise AttemptStopped(str(reason))

    def sleep(self, delay: float | timedelta) -> None:
        """
        Wait for so many seconds, less when the attempt is told to stop: then raise AttemptStopped.

        In a simulation this is how a plain function lets time pass.
        """
        delay_s = seconds(delay, "sleep")
        self.check()
        self._call(self._sleep, delay_s)
        self.check()

    def progress(self, value: object) -> None:
        """As `Context.progress`; from any thread. It waits for nothing, so it does not raise AttemptStopped."""
        self._latest = codec.encode(value, limit=MAX_PROGRESS, what="progress")
        with suppress(trio.RunFinishedError):  # nobody is left to write it
            self._runtime.token.run_sync_soon(self._tell_latest, idempotent=True)

    def _tell_latest(self) -> None:
        self._tell(self._latest)

    def enqueue(
        self, task: str | Task[Any, Any] | Job, payload: object = None, **options: Unpack[EnqueueOptions]
    ) -> EnqueueResult:
        """
        As `Jobs.enqueue`: waits until the new run is durable. It takes over this one's trace id unless another one is given.

        Raises AttemptStopped, and requests nothing, once this attempt was told to stop.
        """
        self.check()
        if self.trace_id is not None:
            options.setdefault("trace_id", self.trace_id)
        result: EnqueueResult = self._call(self._enqueue, task, payload, options)
        return result

    def _call(self, function: Any, *arguments: object) -> Any:
        """In the event loop, also from a thread that trio knows nothing of."""
        try:
            return trio.from_thread.run(function, *arguments, trio_token=self._runtime.token)
        except trio.RunFinishedError:
            raise ShuttingDown(self.jobs.identity) from None

    async def _sleep(self, delay_s: float) -> None:
        actor, stage = self._actor, self._actor.stage
        with self._runtime.threads.waits(stage), stage.waits.move_on_after(delay_s, owner="ctx.sleep"):
            await actor.told_to_stop().wait()

    async def _enqueue(
        self, task: str | Task[Any, Any] | Job, payload: object, options: EnqueueOptions
    ) -> EnqueueResult:
        current_runtime.set(self._runtime)  # of this call: a thread that the handler started has no context of ours
        acting = nullcontext() if is_acting() else as_task(self._task)
        with acting, self._runtime.threads.waits(self._actor.stage):
            return await self.jobs.request(task, payload, options)
