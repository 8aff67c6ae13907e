"""
Looks after the schedules of one runtime: says in the store what the code declares, and requests a run when a time comes.

Rule 1: what it holds in memory only says when to look; each step is one command that the store does only if the schedule
still is what it is believed to be. Two of it, here or in another process, request each run once.
Rule 2: times are those of the wall clock, and that may be set: it looks once a second while there are schedules.
Not here: what follows from a time (`decide`), what users call (`schedules`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

import trio
from attrs import define, evolve, field, frozen

from ..actors.actor import Actor
from ..actors.errors import ActorDown
from ..actors.journal import write
from ..actors.timers import Timer
from ..store.contract import Answer, Cancel, Command, Rescue, ScheduleSet, SetSchedule, Settle
from ..store.errors import CallsheetError
from ..store.records import Clock, Lane, NewRun, Schedule
from ..supervisor import paths
from . import decide
from .plan import Plan, plan_said

if TYPE_CHECKING:
    from ..jobs import Jobs
    from ..port import Port
    from ..runtime import Runtime

_log = logging.getLogger("callsheet.schedules")

LOOK_S: Final = 1.0
"""How often the wall clock is looked at while there are schedules: bounds how late a time is seen after that was set."""
RETRY_S: Final = 1.0
"""Wait after a look that the store refused."""
STEPS: Final = 100
"""Schedules that are looked after before others have a turn."""


@frozen
class Look:
    """Something may be due. Many at once are one."""


@frozen
class Ended:
    """A run has ended, one perhaps that a time waits for."""


@frozen
class Reread:
    """Somebody changed a schedule."""


PlannerMessage: TypeAlias = Look | Ended | Reread


@define(eq=False)
class Planned:
    """What outlives an incarnation of the planner: who tells it of commits, and what it is known to wait for."""

    tell: Callable[[PlannerMessage], object] = lambda _message: None
    waits: bool = False
    """Whether a time waits for the end of a run."""
    said: set[str] = field(factory=set)
    """Jobs whose declarations are in the store: said once for each open, so that two releases do not take turns."""
    own: SetSchedule | None = None
    """The planner's own command under way: of that nobody need tell it."""

    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        """Called by the journal after each commit."""
        for command in commands:
            kind = type(command)
            if kind is SetSchedule and command is not self.own:
                self.tell(Reread())
            elif self.waits and (kind is Settle or kind is Cancel or kind is Rescue):
                self.tell(Ended())

    def look(self) -> None:
        """The wall clock was set, or so: look at it now."""
        self.tell(Look())

    def others_wrote(self) -> None:
        """Another process wrote to the store: a schedule, perhaps."""
        self.tell(Reread())


@define(eq=False)
class _Known:
    """A schedule as it was read or written last."""

    schedule: Schedule
    plan: Plan | None
    """None where this release cannot read it."""
    jobs: Jobs
    told: set[str] = field(factory=set)
    """What was said of it in the log."""


class Planner(Actor[PlannerMessage]):
    """See the rules of this file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[tuple[str, str], _Known] = {}
        self._is_stale = True
        self._may_release = True
        """Whether a run may have ended that a time waits for."""
        self._timer: Timer | None = None
        self._failing = False

    async def on_start(self) -> None:
        """Say what the code declares, and read what there is; a store that refuses is tried again later."""
        self._runtime.planned.tell = self._tell_self
        await self._look()

    def on_stop(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()

    async def receive_all(self, messages: Sequence[PlannerMessage]) -> None:
        """Many at once are one look."""
        for message in messages:
            match message:
                case Reread():
                    self._is_stale = True
                case Ended():
                    self._may_release = True
                case Look():
                    pass
                case _:
                    assert_never(message)
        await self._look()

    def _tell_self(self, message: PlannerMessage) -> None:
        if self.cell.is_alive:
            self.ref.tell_control(message)

    async def _look(self) -> None:
        try:
            if self._is_stale:
                self._is_stale, self._may_release = False, True
                await self._read()
            may_release, self._may_release = self._may_release, False
            await self._turn_all(may_release=may_release)
            self._failing = False
        except ActorDown:  # the journal ends before us only when all of it ends
            self._is_stale = True
        except CallsheetError as error:
            self._is_stale = True
            if not self._failing:
                _log.warning("schedules cannot be looked after, trying again: %s", error)
            self._failing = True
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._runtime.planned.waits = any(each.schedule.waiting_us is not None for each in self._known.values())
        now_us = self._now_us
        if self._failing or self._is_stale:  # what is due stays due, and is no reason to ask at once again
            waits_s = [RETRY_S]
        else:
            look_s = LOOK_S if self.stage.seams.look_s is None else self.stage.seams.look_s
            dues = [each.schedule.due_us for each in self._known.values() if self._is_on(each)]
            waits_s = [min(look_s, max(0, due_us - now_us) / 1e6) for due_us in dues if due_us is not None]
        if waits_s:
            when_s = self.stage.seams.clock.mono_s() + min(waits_s)
            self._timer = self.stage.timers.at(when_s, lambda: self._tell_self(Look()), owner=self.cell.path)

    @property
    def _now_us(self) -> int:
        return self.stage.seams.clock.wall_us()

    def _is_on(self, each: _Known) -> bool:
        return (
            each.plan is not None and not each.schedule.paused and not each.schedule.orphaned and self._has_task(each)
        )

    def _has_task(self, each: _Known) -> bool:
        """Whether the code still has the task; else its times are missed until it has."""
        plan = each.plan
        return plan is not None and (plan.task in each.jobs.tasks or plan.task in each.jobs.aliases)

    # -- what is said, and what is there

    async def _read(self) -> None:
        for jobs in self._runtime.jobs:
            found = await self._runtime.read(lambda reader, name=jobs.identity: reader.schedules(name))  # type: ignore[misc]
            stored = {each.key: each for each in found}
            for place in [place for place in self._known if place[0] == jobs.identity and place[1] not in stored]:
                del self._known[place]
            if jobs.identity not in self._runtime.planned.said:
                for key, plan in jobs.schedules.declared.items():
                    await self._declare(jobs, plan, stored.pop(key, None))
                for each in stored.values():
                    await self._adopt(jobs, each)
                self._runtime.planned.said.add(jobs.identity)
                continue
            for each in stored.values():
                self._keep(jobs, each, plan_said(each))

    async def _declare(self, jobs: Jobs, plan: Plan, was: Schedule | None) -> None:
        """What the code declares holds from now on."""
        while True:
            now_us = self._now_us
            if plan.start_us is None:  # by which clock it was declared is of no account: its grid begins now
                plan = evolve(plan, anchor_us=now_us)
            if was is None:
                after, holds = decide.born(plan, jobs.identity, now_us), plan
            else:
                after, holds = decide.said_again(was, plan_said(was), plan, now_us)
            if was is not None and after == was:
                self._keep(jobs, was, holds)
                return
            answer = await self._write(SetSchedule(None if was is None else was.version, after))
            if answer.done and answer.schedule is not None:
                self._keep(jobs, answer.schedule, holds)
                return
            was = answer.schedule

    async def _adopt(self, jobs: Jobs, each: Schedule) -> None:
        """One that the code does not declare: made by a call, or declared no more."""
        plan = plan_said(each)
        if plan is not None and plan.origin == "code" and not each.orphaned:
            answer = await self._write(SetSchedule(each.version, evolve(each, orphaned=True)))
            if answer.schedule is None:
                return
            each = answer.schedule
            _log.warning("schedule %s of %s is declared no more: it is stopped, and kept", each.key, jobs.identity)
        self._keep(jobs, each, plan)

    def _keep(self, jobs: Jobs, schedule: Schedule, plan: Plan | None) -> None:
        known = self._known.get((jobs.identity, schedule.key))
        if known is None:
            self._known[jobs.identity, schedule.key] = _Known(schedule, plan, jobs)
        else:
            known.schedule, known.plan = schedule, plan

    # -- what is due

    async def _turn_all(self, *, may_release: bool) -> None:
        for n, each in enumerate(sorted(self._known.values(), key=_by_due)):
            if n % STEPS == STEPS - 1:
                await trio.lowlevel.checkpoint()
            await self._turn(each, may_release=may_release)

    async def _turn(self, each: _Known, *, may_release: bool) -> None:
        plan = each.plan
        if plan is None or not self._is_on(each):
            self._say_why_not(each)
            return

        def new_run(nominal_us: int) -> NewRun:
            return run_of(each.jobs.identity, plan, nominal_us, self._runtime)

        if not may_release or await self._step(each, decide.release(each.schedule, self._now_us, new_run)):
            await self._step(each, decide.turn(each.schedule, plan, self._now_us, new_run))

    async def _step(self, each: _Known, command: SetSchedule | None) -> bool:
        """Whether it is still known how the schedule stands, and by which plan."""
        if command is None:
            return True
        if command.if_active is not None and command.if_active.schedule.waiting_us is not None:
            self._runtime.planned.waits = True  # the run may end before the answer is here
        answer = await self._write(command)
        if answer.schedule is not None and answer.done:
            each.schedule = answer.schedule
            return True
        self._known.pop((each.schedule.jobs, each.schedule.key), None)
        self._is_stale = True  # somebody was faster: what they made of it, the plan perhaps, is read and looked at next
        return False

    def _say_why_not(self, each: _Known) -> None:
        plan, schedule = each.plan, each.schedule
        if plan is None and "unreadable" not in each.told:
            each.told.add("unreadable")
            _log.warning("schedule %s of %s was said to another release: it is left alone", schedule.key, schedule.jobs)
        elif plan is not None and not self._has_task(each) and "no task" not in each.told:
            each.told.add("no task")
            _log.warning("schedule %s of %s waits: there is no task %s here", schedule.key, schedule.jobs, plan.task)

    async def _write(self, command: SetSchedule) -> ScheduleSet:
        planned = self._runtime.planned
        planned.own = command
        try:
            answer = await write(self.stage.registry[paths.JOURNAL].ref, command)
        finally:
            planned.own = None
        assert isinstance(answer, ScheduleSet)
        return answer


def run_of(jobs: str, plan: Plan, nominal_us: int, port: Port) -> NewRun:
    """The run of one time of a schedule, requested now."""
    now_us = port.seams.clock.steady_us()
    return NewRun(
        id=port.seams.ids.run_id(now_us),
        lane=Lane(jobs, plan.queue, plan.task, plan.schema),
        payload=plan.payload,
        created_us=now_us,
        due_us=now_us,
        clock=Clock.AT_ONCE,
        priority=plan.priority,
        max_attempts=plan.max_attempts,
        timeout_us=plan.timeout_us,
        trace_id=plan.trace_id,
        schedule_key=plan.key,
        nominal_us=nominal_us,
        at_most_once=plan.at_most_once,
    )


def _by_due(each: _Known) -> tuple[int, str]:
    schedule = each.schedule
    return (1 << 62 if schedule.due_us is None else schedule.due_us, schedule.key)
