"""
Reading and steering runs: get, list, wait, result, explain, cancel, replay; the last two in bulk too.

Rule: reads go past the journal and see what is committed; every change is one guarded write of the journal. Of guarded Jobs,
the policy is asked before anything is done or told, also before anything is said of the run's state.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypedDict, Unpack

from attrs import evolve, frozen

from . import bulk, guard
from . import enqueue as enqueueing
from .bulk import BulkResult
from .enqueue import EnqueueResult
from .errors import InvalidOption, NotOpen, ResultNotKept, RunFailed, RunNotFinished, RunNotFound, WaitTimeout, shown
from .explain import Explanation, Facts, QueueFacts, explain
from .guard import Action
from .names import MAX_KEY, check_name
from .store import codec
from .store.arithmetic import is_due
from .store.contract import Cancel, CancelAnswer, Insert, Inserted
from .store.errors import OutcomeUnknown, StoreClosed
from .store.policy import seconds
from .store.records import Attempt, Clock, History, NewRun, Now, Run, RunFilter, Snapshot, Status, Transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from .jobs import Jobs
    from .port import Port

MAX_PAGE: Final = 500
MAX_LOOKED: Final = 10_000
"""Runs that a list looks at, where a policy leaves few of them; then its page is shorter, and `next` goes on from there."""
MAX_REASON: Final = 1_000
"""Bytes of a replay's or a cancel's reason."""


@frozen
class RunDetails:
    """
    A run with its history, oldest first: the first 10 and the last 90 attempts, the transitions that go with them, and the
    runs that replay it.
    """

    run: Run
    attempts: tuple[Attempt, ...]
    transitions: tuple[Transition, ...]
    replays: tuple[str, ...]
    """Ids of up to 50 runs that replay this one; `run.replay_of` is the one that it replays."""
    due: bool
    """Whether its time had come when this was read. A waiting run past its time keeps its status until it starts."""

    @property
    def waiting_for(self) -> Literal["time", "slot"] | None:
        """What a run that has neither started nor ended waits for; `runs.explain` says why it does not get it."""
        if not self.run.status.is_waiting:
            return None
        return "slot" if self.due else "time"

    @property
    def payload(self) -> object:
        """What the run was requested with, as JSON values."""
        return codec.decode(self.run.payload or b"null", None)

    @property
    def result(self) -> object:
        """What the handler returned, as JSON values; None when there is nothing."""
        return None if self.run.result is None else codec.decode(self.run.result, None)

    @property
    def progress(self) -> object:
        """What the handler told last with `ctx.progress`, as JSON values; None when it told nothing."""
        return None if self.run.progress is None else codec.decode(self.run.progress, None)


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


class RunQuery(TypedDict, total=False):
    """Which runs: everything given must match."""

    task: str | None
    """The name of a declared task stands for its older names too; one that is not declared (any more) can be asked for."""
    queue: str | None
    status: Status | str | None
    idempotency_key: str | None
    trace_id: str | None
    replay_of: str | None
    """The id of the run that they replay."""
    schedule_key: str | None
    """Of the schedule that requested them."""
    created_from: datetime | None
    """Created then or later; an aware datetime."""
    created_before: datetime | None
    """Created earlier than that; an aware datetime."""


class Runs:
    """
    The runs of one Jobs instance.

    Every call raises PolicyDenied for what the policy of guarded Jobs does not allow; nothing was changed then.
    """

    def __init__(self, jobs: Jobs, reach: Callable[[], Port]) -> None:
        self._jobs = jobs
        self._reach = reach

    async def get(self, run_id: str) -> RunDetails:
        """The run with payload, attempts, transitions and replays. Raises RunNotFound."""
        return details_of(await self._find(Action.READ, run_id), self._reach().seams.now())

    async def list(self, *, limit: int = 50, after: str | None = None, **where: Unpack[RunQuery]) -> Page:
        """
        Runs that match everything given (`RunQuery`), newest first.

        limit: 1 … 500. after: the `next` of the page before. A task that is not declared (any more) can be asked for too. Of
        guarded Jobs, runs that may not be read are left out; where 10,000 were looked at the page is shorter. Raises
        InvalidOption, InvalidName or TypeError.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE:
            raise InvalidOption("limit", f"must be an int from 1 to {MAX_PAGE}, not {shown(limit)}")
        asked, before = self._filter(where), _named(after, "after")
        guard.require(self._jobs, Action.READ, task=asked.task)
        port, found, looked, size = self._reach(), list[Run](), 0, limit + 1
        while True:  # once, where nothing is left out
            runs = await port.read(partial(bulk.page, asked, limit=size, before=before))
            found += [run for run in runs if guard.may_read(self._jobs, run)]
            looked += len(runs)
            if len(found) > limit:
                return Page(tuple(found[:limit]), found[limit - 1].id)
            if len(runs) < size:
                return Page(tuple(found), None)
            if looked >= MAX_LOOKED:
                return Page(tuple(found), runs[-1].id)
            before, size = runs[-1].id, MAX_PAGE

    async def result(self, run_id: str) -> object:
        """
        What the handler returned, as JSON values. Does not wait; `wait` does.

        Raises RunNotFinished, RunFailed when it did not succeed, ResultNotKept, RunNotFound.
        """
        history = await self._find(Action.READ, run_id)
        run = history.run
        if not run.status.is_final:
            raise RunNotFinished(run_id, run.status, "has a result")
        if run.status is not Status.SUCCEEDED:
            raise RunFailed(run_id, run.status, run.cause, history.attempts[-1].error if history.attempts else None)
        if run.result_error is not None:
            raise ResultNotKept(run_id, run.result_error)
        return None if run.result is None else codec.decode(run.result, None)

    async def explain(self, run_id: str) -> Explanation:
        """
        Why the run is where it is: everything that holds it up, as this runtime sees it. Raises RunNotFound.

        What holds up the store, the slots and the tasks of other processes is not seen from here.
        """
        port = self._reach()
        history, snapshot = await port.read(lambda reader: (reader.get(_text(run_id)), reader.snapshot(limit=0)))
        own = self._own(Action.READ, run_id, history)
        return explain(own.run, facts_of(self._jobs, port, own, snapshot))

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """
        The run once it has ended, at once if it has already.

        timeout: seconds, None waits for ever. Raises WaitTimeout (the run goes on), RunNotFound, or NotOpen when the
        runtime closes meanwhile.
        """
        timeout_s = None if timeout is None else seconds(timeout, "timeout")
        asked, port = _text(run_id), self._reach()
        clock = port.seams.clock
        until_s = math.inf if timeout_s is None else clock.mono_s() + timeout_s
        with port.watch(run_id) as until:
            while True:
                try:  # of this runtime: another one that opens meanwhile would tell us nothing
                    history = await port.read(lambda reader: reader.get(asked))
                except (StoreClosed, OutcomeUnknown) as error:
                    raise NotOpen(self._jobs.identity) from error
                run = self._own(Action.READ, asked, history).run
                if run.status.is_final:
                    return run
                if not port.is_open:
                    raise NotOpen(self._jobs.identity)
                if clock.mono_s() >= until_s:
                    raise WaitTimeout(run_id, run.status, timeout_s or 0.0)
                await until(until_s)

    async def cancel(self, run_id: str, reason: str | None = None) -> CancelResult:
        """
        Cancel a run in any state; final when this returns: it will never be succeeded, and never be retried.

        A running handler is cancelled; its slot frees when it has ended. A run that has ended already is left as it is, and
        its status is returned. Raises RunNotFound.
        """
        await self._find(Action.CANCEL, run_id)  # also refuses a run of another instance
        cause = "canceled" if reason is None else f"canceled: {_reason(reason)}"
        answer = await self._reach().write(Cancel(run_id, cause))
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
        old = (await self._find(Action.REPLAY, run_id)).run
        if not old.status.is_final:
            raise RunNotFinished(run_id, old.status)
        port = self._reach()
        now_us = port.seams.clock.steady_us()
        told = None if reason is None else _reason(reason)
        run = _again(self._jobs, old, port.seams.ids.run_id(now_us), now_us, told)
        run = enqueueing.scheduled(run, delay, run_at, port.seams, by=port.delays_by)
        insert, answer = await self._jobs.bus.write(port, Insert((run,)), replayed=old.trace_context)
        assert isinstance(answer, Inserted)
        return enqueueing.results(self._jobs, insert.runs, answer.existing)[0]

    async def cancel_all(
        self, *, reason: str | None = None, limit: int = bulk.DEFAULT_LIMIT, **where: Unpack[RunQuery]
    ) -> BulkResult:
        """
        Cancel all runs that match everything given; without a status, all that have not ended. Answered per run.

        limit: 1 … 10,000 runs; when `more` are left, call again. Raises InvalidOption, InvalidName or TypeError: nothing was
        changed then. Runs that are enqueued meanwhile may be missed. Of guarded Jobs, the policy is asked for all, then for
        each: those that it denies are answered so, up to `limit` of them, and do not count as left; those that may not even be
        read are left out.
        """
        cause = "canceled" if reason is None else f"canceled: {_reason(reason)}"
        _refuse_none(where)
        asked, most = self._filter(where), bulk.check_limit(limit)
        guard.require(self._jobs, Action.CANCEL, task=asked.task)
        sift = bulk.sifting(self._jobs, Action.CANCEL)
        return await bulk.cancel_all(self._reach(), asked, cause, most, sift)

    async def replay_all(
        self,
        *,
        reason: str | None = None,
        delay: float | timedelta | None = None,
        run_at: datetime | str | None = None,
        repeat: bool = False,
        limit: int = bulk.DEFAULT_LIMIT,
        after: str | None = None,
        **where: Unpack[RunQuery],
    ) -> BulkResult:
        """
        Replay all runs that match everything given; without a status, what is dead-lettered. Answered per run.

        A run that was replayed before is passed over, and its last replay named, so that the call may be made again, also by
        two people at the same time; `repeat` replays it once more. limit: 1 … 10,000 runs; when there are `more`, call again
        with `after=result.next`. Raises InvalidOption (also for a status that is not final), InvalidSchedule, InvalidName or
        TypeError: nothing was stored then. Of guarded Jobs, the policy is asked for all, then for each: those that it denies
        are answered so, and those that may not even be read are left out.
        """
        _refuse_none(where)
        port, asked = self._reach(), self._filter(where)
        status = asked.status or Status.DEAD_LETTERED
        if not status.is_final:
            raise InvalidOption("status", f"a run that is {status} cannot be replayed: it has not ended")
        told = None if reason is None else _reason(reason)
        seams, by = port.seams, port.delays_by
        context = self._jobs.bus.trace_context()

        def again(old: Run) -> NewRun:
            now_us = seams.clock.steady_us()
            run = _again(self._jobs, old, seams.ids.run_id(now_us), now_us, told)
            run = run if context is None else evolve(run, trace_context=context)
            return enqueueing.scheduled(run, delay, run_at, seams, by=by)

        enqueueing.check_times(delay, run_at, seams)
        asked = evolve(asked, status=status)
        below, most = _named(after, "after"), bulk.check_limit(limit)
        guard.require(self._jobs, Action.REPLAY, task=asked.task)
        sift = bulk.sifting(self._jobs, Action.REPLAY)
        return await bulk.replay_all(port, asked, again, most, sift, repeat=bool(repeat), after=below)

    def _filter(self, where: RunQuery) -> RunFilter:
        unknown = where.keys() - RunQuery.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"runs have no {min(unknown)!r} to ask for; they have {', '.join(RunQuery.__annotations__)}"
            )
        queue, name = where.get("queue"), _named(where.get("task"), "task")
        task = None if name is None else self._jobs.tasks.get(name)
        return RunFilter(
            jobs=self._jobs.identity,
            task=name,
            also_tasks=() if task is None else task.declared.aliases,
            queue=None if queue is None else f"{self._jobs.namespace}/{check_name(queue, 'queue')}",
            status=_status(where.get("status")),
            idempotency_key=_named(where.get("idempotency_key"), "idempotency_key", most=MAX_KEY),
            trace_id=_named(where.get("trace_id"), "trace_id"),
            replay_of=_named(where.get("replay_of"), "replay_of"),
            schedule_key=_named(where.get("schedule_key"), "schedule_key"),
            created_from_us=_us(where.get("created_from"), "created_from"),
            created_before_us=_us(where.get("created_before"), "created_before"),
        )

    async def _find(self, action: Action, run_id: str) -> History:
        asked = _text(run_id)
        return self._own(action, asked, await self._reach().read(lambda reader: reader.get(asked)))

    def _own(self, action: Action, run_id: str, history: History | None) -> History:
        """What was read, if it is ours, and if we may."""
        if history is None or history.run.lane.jobs != self._jobs.identity:
            guard.require(self._jobs, action, run_id=run_id)  # who may do nothing is not told what there is not
            raise RunNotFound(run_id)
        guard.require(self._jobs, action, run=history.run, run_id=run_id)
        return history


def _again(jobs: Jobs, old: Run, run_id: str, now_us: int, reason: str | None) -> NewRun:
    assert old.payload is not None, "get reads payloads"
    task = jobs.tasks.get(old.task) or jobs.aliases.get(old.task)
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
        trace_context=old.trace_context,
        replay_of=old.id,
        reason=reason,
        at_most_once=old.at_most_once if task is None else task.at_most_once,
    )


def details_of(history: History, now: Now) -> RunDetails:
    """A run as it was read, at this time."""
    run = history.run
    due = run.status.is_waiting and is_due(run.due_us, run.clock, now)
    return RunDetails(run, history.attempts, history.transitions, history.replays, due)


def facts_of(jobs: Jobs, port: Port, history: History, snapshot: Snapshot) -> Facts:
    """What decides about a run, from one reading of the store and what the port knows of itself."""
    run, last = history.run, history.attempts[-1] if history.attempts else None
    task = jobs.tasks.get(run.lane.task) or jobs.aliases.get(run.lane.task)
    slots = port.slots.get(run.lane.queue)
    declared = jobs.declared_queues.get(run.lane.queue)
    override = next((each for each in snapshot.queues if each.queue == run.lane.queue), None)
    queue = None
    if declared is not None:
        queue = QueueFacts(
            paused=override is not None and override.paused,
            limits=declared.limits.under(override),
            on_stage=None if slots is None else len(slots.on_stage),
            room=None if slots is None or slots.room.limit is None else slots.room.free,
        )
    return Facts(
        now=port.seams.now(),
        counts=snapshot.counts,
        owners=snapshot.owners,
        boot_id=port.boot_id,
        queue=queue,
        schemas=None if task is None else task.schemas,
        parked=task is not None and port.is_parked(jobs.identity, task.name),
        suspect_on_stage=None if slots is None else slots.quarantine.run_id,
        trouble=port.trouble,
        raised=None if last is None or last.error is None else last.error.type,
        lingers=slots is not None and run.id in slots.on_stage,
    )


def _refuse_none(where: RunQuery) -> None:
    """A filter that turned out to be None must not come to mean everything."""
    for name, value in where.items():
        if value is None:
            raise InvalidOption(name, "is None; leave it out to mean any")


def _text(run_id: object) -> str:
    if not isinstance(run_id, str):
        raise TypeError(f"run_id must be a str, not {type(run_id).__name__}")
    return run_id


def _named(value: str | None, what: str, *, most: int = 128) -> str | None:
    return None if value is None else check_name(value, what, most=most, slash=True)


def _status(value: Status | str | None) -> Status | None:
    try:
        return None if value is None else Status(value)
    except ValueError:
        raise InvalidOption("status", f"{shown(value)} is none of {', '.join(Status)}") from None


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
