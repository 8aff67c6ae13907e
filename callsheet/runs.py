"""
Reading and steering runs: get, list, wait, cancel, replay.

Rule: reads go past the journal and see what is committed; every change is one guarded write of the journal.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from . import enqueue as enqueueing
from .enqueue import EnqueueResult
from .errors import InvalidOption, RunNotFinished, RunNotFound, WaitTimeout
from .names import MAX_KEY, check_name
from .store import codec
from .store.contract import Cancel, CancelAnswer, Insert, Inserted
from .store.policy import seconds
from .store.records import Attempt, Clock, History, NewRun, Run, RunFilter, Status, Transition

if TYPE_CHECKING:
    from .jobs import Jobs

MAX_PAGE: Final = 500
MAX_REASON: Final = 1_000
"""Bytes of a replay's or a cancel's reason."""


@frozen
class RunDetails:
    """A run with its history: the first 10 and the last 90 attempts, and every transition, oldest first."""

    run: Run
    attempts: tuple[Attempt, ...]
    transitions: tuple[Transition, ...]

    @property
    def payload(self) -> object:
        """What the run was requested with, as JSON values."""
        return codec.decode(self.run.payload or b"null", None)

    @property
    def result(self) -> object:
        """What the handler returned, as JSON values; None when there is nothing."""
        return None if self.run.result is None else codec.decode(self.run.result, None)


@frozen
class Page:
    """Runs, newest first, without payloads. `next`: the cursor for the page after it; None on the last one."""

    runs: tuple[Run, ...]
    next: str | None


@frozen
class CancelResult:
    """`canceled`: whether this call canceled it. `status`: the run's status now."""

    run_id: str
    canceled: bool
    status: Status


class Runs:
    """The runs of one Jobs instance."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def get(self, run_id: str) -> RunDetails:
        """The run with payload, attempts and transitions. Raises RunNotFound."""
        history = await self._find(run_id)
        return RunDetails(history.run, history.attempts, history.transitions)

    async def list(
        self,
        *,
        task: str | None = None,
        queue: str | None = None,
        status: Status | str | None = None,
        idempotency_key: str | None = None,
        trace_id: str | None = None,
        replay_of: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """
        Runs that match everything given, newest first.

        limit: 1 … 500. after: the `next` of the page before. Times are aware datetimes, half-open. A task that is not
        declared (any more) can be asked for too. Raises InvalidOption, InvalidName or TypeError.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
            raise InvalidOption("limit", f"must be an int from 1 to {MAX_PAGE}, not {limit!r}")
        where = RunFilter(
            jobs=self._jobs.identity,
            task=_named(task, "task"),
            queue=None if queue is None else f"{self._jobs.namespace}/{check_name(queue, 'queue')}",
            status=_status(status),
            idempotency_key=_named(idempotency_key, "idempotency_key", most=MAX_KEY),
            trace_id=_named(trace_id, "trace_id"),
            replay_of=_named(replay_of, "replay_of"),
            created_from_us=_us(created_from, "created_from"),
            created_before_us=_us(created_before, "created_before"),
        )
        before = _named(after, "after")
        runs = await self._jobs.runtime().read(lambda reader: reader.list(where, limit=limit + 1, before=before))
        page = runs[:limit]
        return Page(page, page[-1].id if len(runs) > limit else None)

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """
        The run once it has ended, at once if it has already.

        timeout: seconds, None waits for ever. Raises WaitTimeout (the run goes on), RunNotFound, or NotOpen when the
        runtime closes meanwhile.
        """
        timeout_s = None if timeout is None else seconds(timeout, "timeout")
        runtime = self._jobs.runtime()
        clock = runtime.seams.clock
        until_s = math.inf if timeout_s is None else clock.mono_s() + timeout_s
        while True:
            with runtime.hub.watch(run_id) as ended:
                run = (await self._find(run_id)).run
                if run.status.is_final:
                    return run
                if clock.mono_s() >= until_s:
                    raise WaitTimeout(run_id, run.status, timeout_s or 0.0)
                with trio.move_on_at(until_s):
                    await ended.wait()

    async def cancel(self, run_id: str, reason: str | None = None) -> CancelResult:
        """
        Cancel a run in any state; final when this returns: it will never be succeeded, and never be retried.

        A running handler is cancelled; its slot frees when it has ended. A run that has ended already is left as it is, and
        its status is returned. Raises RunNotFound.
        """
        await self._find(run_id)  # also refuses a run of another instance
        cause = "canceled" if reason is None else f"canceled: {_reason(reason)}"
        answer = await self._jobs.runtime().write(Cancel(run_id, cause))
        assert isinstance(answer, CancelAnswer)
        if answer.was is None:
            raise RunNotFound(run_id)
        return CancelResult(run_id, answer.canceled, Status.CANCELED if answer.canceled else answer.was)

    async def replay(
        self,
        run_id: str,
        *,
        reason: str | None = None,
        delay: float | timedelta | None = None,
        run_at: datetime | str | None = None,
    ) -> EnqueueResult:
        """
        Make a new run with the payload and options of one that has ended; it links back to it by `replay_of`.

        The idempotency key is not inherited. Raises RunNotFound, RunNotFinished, InvalidSchedule.
        """
        old = (await self._find(run_id)).run
        if not old.status.is_final:
            raise RunNotFinished(run_id, old.status)
        runtime = self._jobs.runtime()
        now_us = runtime.seams.clock.steady_us()
        run = _again(old, runtime.seams.ids.run_id(now_us), now_us, None if reason is None else _reason(reason))
        run = enqueueing.scheduled(run, delay, run_at, runtime.seams, by=runtime.delays_by)
        answer = await runtime.write(Insert((run,)))
        assert isinstance(answer, Inserted)
        return enqueueing.results((run,), answer.existing)[0]

    async def _find(self, run_id: str) -> History:
        if not isinstance(run_id, str):
            raise TypeError(f"run_id must be a str, not {type(run_id).__name__}")
        history = await self._jobs.runtime().read(lambda reader: reader.get(run_id))
        if history is None or history.run.lane.jobs != self._jobs.identity:
            raise RunNotFound(run_id)
        return history


def _again(old: Run, run_id: str, now_us: int, reason: str | None) -> NewRun:
    assert old.payload is not None, "get reads payloads"
    return NewRun(
        id=run_id,
        lane=old.lane,
        payload=old.payload,
        created_us=now_us,
        due_us=now_us,
        clock=Clock.AT_ONCE,
        priority=old.priority,
        max_attempts=old.max_attempts,
        timeout_us=old.timeout_us,
        trace_id=old.trace_id,
        replay_of=old.id,
        reason=reason,
    )


def _named(value: str | None, what: str, *, most: int = 128) -> str | None:
    return None if value is None else check_name(value, what, most=most, slash=True)


def _status(value: Status | str | None) -> Status | None:
    try:
        return None if value is None else Status(value)
    except ValueError:
        raise InvalidOption("status", f"{value!r} is none of {', '.join(Status)}") from None


def _us(value: datetime | None, what: str) -> int | None:
    return None if value is None else enqueueing.instant_us(value, what)


def _reason(reason: str) -> str:
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise InvalidOption("reason", "contains a lone surrogate, which no UTF-8 text can hold") from None
    if size > MAX_REASON:
        raise InvalidOption("reason", f"has more than {MAX_REASON:,} bytes")
    return reason
