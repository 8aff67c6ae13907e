"""
What users call: `jobs.schedules`.

Rule: each call is one guarded change of one schedule, made again when somebody else was faster.
Not here: declaring one in code (`Jobs.every`, `Jobs.cron`), looking after them (`planner`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Unpack

from attrs import evolve, frozen

from .. import guard
from ..errors import InvalidOption, ScheduleNotFound, shown
from ..guard import Action
from ..names import check_name
from ..store import codec
from ..store.contract import ScheduleSet, SetSchedule
from ..store.records import FIRES_KEPT, Did, Fired, Schedule, instant
from . import cadence, decide
from .cadence import Cadence, Cron, Every
from .plan import Misfire, Overlap, Plan, ScheduleOptions, plan_of, plan_said
from .planner import run_of

if TYPE_CHECKING:
    from ..job import Job
    from ..jobs import Jobs
    from ..port import Port
    from ..task import Task


@frozen
class ScheduleState:
    """A schedule: what was said, and where it stands."""

    key: str
    task: str
    queue: str
    """The name, without the namespace."""
    payload: object
    """As JSON values; None in a snapshot."""
    cadence: str
    """`every 90 s`, or the expression and its zone."""
    origin: Literal["code", "call"]
    paused: bool
    orphaned: bool
    """Whether the code declared it, and declares it no more: it is stopped, until it is declared again or deleted."""
    next_at: datetime | None
    """Its next time; None: there is none any more, or it is paused or orphaned."""
    due_at: datetime | None
    """When the run of that time is requested: later by its part of the jitter."""
    waiting_at: datetime | None
    """A time that waits for the run before it to end."""
    last_at: datetime | None
    """The last time that anything was done about."""
    fired: int
    """Runs that it requested."""
    skipped: int
    """Times that came to nothing."""
    misfire: Misfire
    misfire_cap: int
    overlap: Overlap
    jitter: float
    """Seconds."""
    start: datetime | None
    end: datetime | None
    created_at: datetime
    updated_at: datetime


@frozen
class FiredTime:
    """What was done about one time of a schedule."""

    nominal: datetime
    """The time; of several that were missed together, the last one."""
    at: datetime
    """When that was done."""
    did: Did
    run_id: str | None
    times: int
    """How many times this is about."""


class Schedules:
    """
    The schedules of one Jobs instance.

    Every call raises PolicyDenied for what the policy of guarded Jobs does not allow; nothing was changed then.
    """

    def __init__(self, jobs: Jobs, reach: Callable[[], Port], declared: dict[str, Plan] | None = None) -> None:
        self._jobs = jobs
        self._reach = reach
        self.declared: dict[str, Plan] = {} if declared is None else declared
        """By the code, as far as it is here."""

    async def every(
        self,
        key: str,
        seconds: float | timedelta,
        task: str | Task[Any, Any] | Job,
        payload: object = None,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleState:
        """
        Request a run of `task` every so many seconds (1 … 366 days), on a grid that does not drift. See `ScheduleOptions`.

        A key that is there already is changed: its next time stays, unless its times are other ones now. The payload is that of
        this moment. One that the code declares is changed there; one that it declared once is deleted first (InvalidOption).
        Raises InvalidSchedule, InvalidName, InvalidOption, UnknownTask, UnknownQueue, PayloadInvalid, PayloadTooLarge or
        TypeError: nothing was stored then.
        """
        return await self._say(key, Every(seconds), task, payload, options)

    async def cron(
        self,
        key: str,
        expression: str,
        task: str | Task[Any, Any] | Job,
        payload: object = None,
        *,
        tz: str = "UTC",
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleState:
        """
        Request a run of `task` whenever the clocks of a zone show what the expression names; needs the extra `cron`.

        expression: minute, hour, day of month, month, day of week. tz: a name of the IANA database. Else as `every`.
        """
        return await self._say(key, Cron(expression, tz), task, payload, options)

    async def get(self, key: str) -> ScheduleState:
        """As it stands. Raises ScheduleNotFound."""
        return state_of(*await self._find(Action.READ, key))

    async def list(self) -> tuple[ScheduleState, ...]:
        """
        All of them, by key. One that another release said, and this one cannot read, is left out; of guarded Jobs also those
        of tasks that may not be read.
        """
        guard.require(self._jobs, Action.READ)
        found = await self._reach().read(lambda reader: reader.schedules(self._jobs.identity))
        return states(self._jobs, found)

    async def history(self, key: str, *, limit: int = 50) -> tuple[FiredTime, ...]:
        """What was done about its last times, newest first. limit: 1 … 100, as many as are kept. Raises ScheduleNotFound."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= FIRES_KEPT:
            raise InvalidOption("limit", f"must be an int from 1 to {FIRES_KEPT}, not {shown(limit)}")
        await self._find(Action.READ, key)
        fired = await self._reach().read(lambda reader: reader.fires(self._jobs.identity, key, limit))
        return tuple([_told(each) for each in fired])

    async def preview(self, key: str, n: int = 5) -> tuple[datetime, ...]:
        """Its next `n` (0 … 1,000) times, whether it is paused or not; fewer where it ends. Raises ScheduleNotFound."""
        schedule, plan = await self._find(Action.READ, key)
        return tuple(map(instant, to_come(schedule, plan, self._reach().seams.clock.wall_us(), n)))

    async def pause(self, key: str) -> ScheduleState:
        """Request nothing more, in any process, until `resume`. Raises ScheduleNotFound."""
        return await self._change(key, lambda was, _plan, _now_us: SetSchedule(was.version, evolve(was, paused=True)))

    async def resume(self, key: str) -> ScheduleState:
        """End a pause: it goes on with its next time. What came meanwhile is not made up for. Raises ScheduleNotFound."""
        return await self._change(
            key,
            lambda was, plan, now_us: SetSchedule(
                was.version, decide.going_on(was, plan, now_us) if was.paused else was
            ),
        )

    async def trigger(self, key: str) -> str:
        """
        Request a run of it now; its times stay as they are. Returns the id.

        Raises ScheduleNotFound; UnknownTask where its task is declared no more: nobody would run it.
        """
        made: list[str] = []

        def change(was: Schedule, plan: Plan, now_us: int) -> SetSchedule:
            self._jobs.task_named(plan.task)
            command = decide.triggered(was, now_us, lambda us: run_of(self._jobs.identity, plan, us, self._reach()))
            made[:] = [run.id for run in command.runs]
            return command

        await self._change(key, change, enqueues=True)
        return made[0]

    async def delete(self, key: str) -> None:
        """
        Forget it with its history; its runs stay. One that the code declares comes back when it is opened next.

        Raises ScheduleNotFound.
        """
        await self._change(key, lambda was, _plan, _now_us: SetSchedule(was.version, was, delete=True))

    # ----

    async def _say(
        self,
        key: str,
        when: Cadence,
        task: str | Task[Any, Any] | Job,
        payload: object,
        options: ScheduleOptions,
    ) -> ScheduleState:
        jobs, port = self._jobs, self._reach()
        wanted, body = jobs.wanted(task, payload)
        guard.require(jobs, Action.STEER, task=wanted.name)
        guard.require(jobs, Action.ENQUEUE, task=wanted.name)
        plan = plan_of(key, when, wanted, body, options, seams=port.seams)
        if plan.key in self.declared:
            raise _declared(key)
        while True:
            was = await self._stored(plan.key)
            before = None if was is None else plan_said(was)
            now_us = port.seams.clock.wall_us()
            if was is None:
                after, holds = decide.born(plan, jobs.identity, now_us), plan
            else:
                if before is not None:
                    guard.require(jobs, Action.STEER, task=before.task, schedule=plan.key)
                if before is not None and before.origin == "code":  # all that a client without the code knows of it
                    raise _declared(key, orphaned=was.orphaned)
                after, holds = decide.said_again(was, before, plan, now_us)
            answer = await port.write(SetSchedule(None if was is None else was.version, after))
            assert isinstance(answer, ScheduleSet)
            if answer.done and answer.schedule is not None:
                return state_of(answer.schedule, holds)

    async def _change(
        self, key: str, change: Callable[[Schedule, Plan, int], SetSchedule], *, enqueues: bool = False
    ) -> ScheduleState:
        port = self._reach()
        while True:
            was, plan = await self._find(Action.STEER, key)
            if enqueues:
                guard.require(self._jobs, Action.ENQUEUE, task=plan.task, schedule=key)
            answer = await port.write(change(was, plan, port.seams.clock.wall_us()))
            assert isinstance(answer, ScheduleSet)
            if answer.done:
                return state_of(was if answer.schedule is None else answer.schedule, plan)

    async def _stored(self, key: str) -> Schedule | None:
        return await self._reach().read(lambda reader: reader.schedule(self._jobs.identity, key))

    async def _find(self, action: Action, key: str) -> tuple[Schedule, Plan]:
        found = await self._stored(check_name(key, "schedule key", slash=True))
        plan = None if found is None else plan_said(found)
        task = None if plan is None else plan.task
        guard.require(self._jobs, action, task=task, schedule=key)  # before it is told what there is
        if found is None or plan is None:
            raise ScheduleNotFound(self._jobs.identity, key)
        return found, plan


def to_come(schedule: Schedule, plan: Plan, now_us: int, n: int) -> tuple[int, ...]:
    """Its next `n` times, whether it is paused or not."""
    next_us, due_us = schedule.next_us, schedule.due_us
    if next_us is None or due_us is None or due_us <= now_us:
        found = cadence.preview(plan.cadence, plan.anchor_us, now_us, n)
    else:  # that one is still to come, also where its jitter makes it later than now
        found = cadence.preview(plan.cadence, plan.anchor_us, next_us - 1, n)
        if next_us not in found:  # first="now"
            found = (next_us, *found)[:n]
    return tuple([us for us in found if plan.end_us is None or us <= plan.end_us])


def states(jobs: Jobs, found: Iterable[Schedule]) -> tuple[ScheduleState, ...]:
    """What is shown of those of `jobs` that this release can read, and whoever we act for may."""
    mine = [(each, plan) for each in found if each.jobs == jobs.identity and (plan := plan_said(each)) is not None]
    return tuple([state_of(each, plan) for each, plan in mine if guard.may_see(jobs, plan.task)])


def state_of(schedule: Schedule, plan: Plan) -> ScheduleState:
    """What users are shown of it."""
    is_on = not schedule.paused and not schedule.orphaned
    return ScheduleState(
        key=schedule.key,
        task=plan.task,
        queue=plan.queue.partition("/")[2],
        payload=codec.decode(plan.payload, None),
        cadence=str(plan.cadence),
        origin=plan.origin,
        paused=schedule.paused,
        orphaned=schedule.orphaned,
        next_at=_at(schedule.next_us) if is_on else None,
        due_at=_at(schedule.due_us) if is_on else None,
        waiting_at=_at(schedule.waiting_us),
        last_at=_at(schedule.last_us),
        fired=schedule.fired,
        skipped=schedule.skipped,
        misfire=plan.misfire,
        misfire_cap=plan.misfire_cap,
        overlap=plan.overlap,
        jitter=plan.jitter_us / 1e6,
        start=_at(plan.start_us),
        end=_at(plan.end_us),
        created_at=instant(schedule.created_us),
        updated_at=instant(schedule.updated_us),
    )


def _declared(key: str, *, orphaned: bool = False) -> InvalidOption:
    if orphaned:
        return InvalidOption("key", f"{shown(key)} was declared by the code: delete it first, or take another key")
    return InvalidOption("key", f"{shown(key)} is declared by the code: change it there, or take another key")


def _told(each: Fired) -> FiredTime:
    return FiredTime(instant(each.nominal_us), instant(each.at_us), each.did, each.run_id, each.times)


def _at(us: int | None) -> datetime | None:
    return None if us is None else instant(us)
