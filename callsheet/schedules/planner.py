"""
Looks after the schedules of one runtime: says in the store what the code declares, and requests a run when a time comes.

Rule 1: what it holds in memory only says when to look; each step is one command that the store does only if the schedule
still is what it is believed to be. Two of it, here or in another process, request each run once.
Rule 2: what many schedules do next goes to the journal together, in the order in which they are due; of one schedule, the next
step follows from the answer to the last. One that cannot be done is set aside for a second, and holds nobody up.
Rule 3: it wakes when something is due. Times are those of the wall clock, and that may be set: the calendar, which looks at it
once a second, says so.
Not here: what it is told (`planned`), what it holds of them (`known`), what follows from a time (`decide`), what users call
(`schedules`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, assert_never

import trio
from attrs import evolve

from ..actors.actor import SLICE_S, Actor
from ..actors.errors import ActorDown
from ..actors.journal import MAX_WAITING, Overloaded, send
from ..actors.reply import Reply
from ..actors.timers import Timer
from ..store.arithmetic import AHEAD_US, ahead, is_ahead
from ..store.contract import ScheduleSet, SetSchedule
from ..store.errors import CallsheetError, IllegalMove, MalformedCommand
from ..store.records import Clock, Lane, NewRun, Schedule
from ..supervisor import paths
from . import decide
from .known import Expected, Known, by_due
from .plan import Plan
from .planned import Ended, Look, PlannerMessage, Reread

if TYPE_CHECKING:
    from ..port import Port
    from ..runtime import Runtime

_log = logging.getLogger("callsheet.schedules")

RETRY_S: Final = 1.0
"""Wait before what the store refused, or what failed alone, is tried again."""
READ_SHARE: Final = 0.1
"""Part of the time that may go into reading schedules again: others may write all the time, and there may be very many."""
READ_LATE_S: Final = 1.0
"""And how long that may put off the next reading, at most."""
STEPS: Final = 200
"""Steps that are under way at once: enough that a commit costs each next to nothing, and nobody else waits long for it."""
STEPS_BYTES: Final = 4 * 1024 * 1024
"""What they may weigh, all in all; one that is heavier goes alone."""
ROW_BYTES: Final = 1_000
"""What a row weighs beside its payload, about."""


class Planner(Actor[PlannerMessage]):
    """See the rules of this file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[tuple[str, str], Known] = {}
        self._expected = Expected()
        self._ailing: dict[tuple[str, str], Known] = {}
        """Those that failed alone, and are let be until `_retry_s`."""
        self._retry_s = math.inf
        self._is_stale = True
        self._read_s = -math.inf
        """Not read again before."""
        self._may_release = True
        """Whether a run may have ended that a time waits for."""
        self._timer: Timer | None = None
        self._failing = False
        self._seen_us = 0
        """What the wall clock said at the last look."""
        self._turn_s = 0.0
        """Since when nobody else has had a turn, about."""

    async def on_start(self) -> None:
        """Read what there is, and say what the code declares; for what is due nobody who opens needs to wait."""
        self._runtime.planned.tell = self._tell_self
        await self._look(turns=False)

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

    async def _look(self, *, turns: bool = True) -> None:
        self._turn_s = self.stage.seams.clock.mono_s()
        was_us, self._seen_us = self._seen_us, self._now_us
        try:
            if self._seen_us < was_us - AHEAD_US:  # set back: some may have been there
                for each in self._known.values():
                    self._expect(each)
            if self._is_stale and self._turn_s >= self._read_s:
                await self._read()
                self._is_stale, self._may_release = False, True
            again = self._take_ailing()
            await self._say()
            if turns:
                await self._release_and_turn(again)
            elif not self._expected.waiting:
                self._runtime.planned.ends_seen = self._runtime.planned.ends
            self._failing = False
        except Exception as error:  # noqa: BLE001 -- logged once; the next look may do better, and nothing is lost
            self._may_release = True
            self._say_trouble(error)
            self._arm(
                self.stage.seams.clock.mono_s() + RETRY_S
            )  # what is due stays due, and is no reason to ask at once again
        else:
            self._arm(self._next_s())

    def _say_trouble(self, error: Exception) -> None:
        if isinstance(error, ActorDown):  # the journal ends before us only when all of it ends
            return
        if not self._failing:
            cause = None if isinstance(error, CallsheetError) else error
            _log.warning("schedules cannot be looked after, trying again: %s", error, exc_info=cause)
        self._failing = True

    def _next_s(self) -> float:
        """When something is to be done."""
        clock, due_us = self.stage.seams.clock, self._expected.next_us
        if self._may_release and self._expected.waiting:
            return clock.mono_s()
        due_s = math.inf if due_us is None else clock.mono_s() + max(0, due_us - clock.wall_us()) / 1e6
        return min(due_s, self._retry_s, self._read_s if self._is_stale else math.inf)

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._runtime.planned.waits = bool(self._expected.waiting)
        if math.isfinite(when_s):
            self._timer = self.stage.timers.at(when_s, lambda: self._tell_self(Look()), owner=self.cell.path)

    async def _let_others(self) -> None:
        """There may be very many schedules: others have a turn between them."""
        clock = self.stage.seams.clock
        if clock.mono_s() - self._turn_s > SLICE_S:
            await trio.lowlevel.checkpoint()
            self._turn_s = clock.mono_s()

    @property
    def _now_us(self) -> int:
        return self.stage.seams.clock.wall_us()

    # -- what there is

    async def _read(self) -> None:
        began_s = self.stage.seams.clock.mono_s()
        for jobs in self._runtime.jobs:
            found = await self._runtime.read(lambda reader, name=jobs.identity: reader.schedules(name))  # type: ignore[misc]
            stored = {each.key: each for each in found}
            keys = stored.keys() | jobs.schedules.declared.keys()
            unsaid = self._runtime.planned.unsaid.setdefault(jobs.identity, set(keys))
            unsaid &= keys
            for name, key in [place for place in self._known if place[0] == jobs.identity]:
                if key not in stored and key not in unsaid:
                    self._forget(self._known[name, key])
            for key in sorted(stored.keys() | unsaid):
                known = self._known.get((jobs.identity, key)) or Known(jobs, key)
                self._known[known.place] = known
                self._keep(known, stored.get(key))
                await self._let_others()
        self._expected.tidy()
        now_s = self.stage.seams.clock.mono_s()
        self._read_s = now_s + min(READ_LATE_S, (now_s - began_s) * (1 / READ_SHARE - 1))

    def _keep(self, each: Known, schedule: Schedule | None) -> None:
        """So it stands now; nowhere, if somebody has deleted it and the code says nothing of it."""
        each.stands(schedule)
        if schedule is None and not self._is_unsaid(each):
            self._forget(each)
        else:
            self._expect(each)

    def _forget(self, each: Known) -> None:
        self._known.pop(each.place, None)
        self._ailing.pop(each.place, None)
        self._expected.forget(each)

    def _expect(self, each: Known) -> None:
        if self._is_on(each) and each.place not in self._ailing:
            self._expected.expect(each)
        else:
            self._expected.forget(each)

    def _is_on(self, each: Known) -> bool:
        plan, schedule = each.plan, each.schedule
        if schedule is None:
            return False
        if plan is None:
            self._warn_once(each, "was said to another release: it is left alone")
            return False
        if schedule.paused or schedule.orphaned:
            return False
        if is_ahead(schedule, self._now_us):
            self._warn_once(each, f"waits: {ahead(schedule)}")
        # whether the code still has the task; else its times are missed until it has
        if not isinstance(plan.task, str) or not (plan.task in each.jobs.tasks or plan.task in each.jobs.aliases):
            self._warn_once(each, f"waits: there is no task {plan.task} here")
            return False
        return True

    def _warn_once(self, each: Known, what: str) -> None:
        if what not in each.told:
            each.told.add(what)
            _log.warning("schedule %s of %s %s", each.key, each.jobs.identity, what)

    # -- what the code says

    def _is_unsaid(self, each: Known) -> bool:
        return each.key in self._runtime.planned.unsaid.get(each.jobs.identity, ())

    async def _say(self) -> None:
        """What the code declares holds from now on; what it declares no more is stopped. Again where somebody was faster."""
        while unsaid := [each for each in self._unsaid() if each.place not in self._ailing]:
            for each in await self._do(unsaid, self._saying):
                self._said(each)
                if each.schedule is not None and each.schedule.orphaned:
                    text = "schedule %s of %s is declared no more: it is stopped, and kept"
                    _log.warning(text, each.key, each.jobs.identity)
            if self.cell.stopping:
                return

    def _unsaid(self) -> Iterator[Known]:
        for identity, keys in self._runtime.planned.unsaid.items():
            for key in sorted(keys):
                yield self._known[identity, key]

    def _saying(self, each: Known) -> SetSchedule | None:
        plan, was, now_us = each.jobs.schedules.declared.get(each.key), each.schedule, self._now_us
        after = was
        if plan is not None:
            if plan.start_us is None:  # by which clock it was declared is of no account: its grid begins now
                plan = evolve(plan, anchor_us=now_us)
            if was is None:
                after = decide.born(plan, each.jobs.identity, now_us)
            else:
                after, _ = decide.said_again(was, each.plan, plan, now_us)
        elif was is not None and each.plan is not None and each.plan.origin == "code":
            after = evolve(was, orphaned=True)
        if after is None or after == was:
            self._said(each)
            return None
        return SetSchedule(None if was is None else was.version, after)

    def _said(self, each: Known) -> None:
        self._runtime.planned.unsaid[each.jobs.identity].discard(each.key)
        if each.schedule is None:
            self._forget(each)

    # -- what is due

    async def _release_and_turn(self, again: dict[tuple[str, str], Known]) -> None:
        ends, may_release, self._may_release = self._runtime.planned.ends, self._may_release, False
        await self._release(self._expected.waiting if may_release else again)
        if may_release or not self._expected.waiting:
            self._runtime.planned.ends_seen = ends
        await self._turn()

    async def _release(self, those: dict[tuple[str, str], Known]) -> None:
        """What waits is requested, where the run before it has ended."""
        waiting = [each for place, each in self._expected.waiting.items() if place in those]
        await self._do(sorted(waiting, key=by_due), self._releasing)

    async def _turn(self) -> None:
        """What is due is requested, or whatever follows from it."""
        due = self._expected.take_due(self._now_us)
        try:
            await self._do(due, self._turning)
        finally:  # whatever became of it: it is expected as it stands
            for each in due:
                if each.place in self._known:
                    self._expect(each)

    def _releasing(self, each: Known) -> SetSchedule | None:
        plan, schedule = each.plan, each.schedule
        if plan is None or schedule is None or not self._is_on(each):
            return None
        return decide.release(schedule, self._now_us, lambda us: run_of(each.jobs.identity, plan, us, self._runtime))

    def _turning(self, each: Known) -> SetSchedule | None:
        plan, schedule = each.plan, each.schedule
        if plan is None or schedule is None or not self._is_on(each):
            return None
        return decide.turn(schedule, plan, self._now_us, lambda us: run_of(each.jobs.identity, plan, us, self._runtime))

    # -- one step of each

    async def _do(self, those: Iterable[Known], step: Callable[[Known], SetSchedule | None]) -> list[Known]:
        """
        Have each of them take this step, in order and many together. Returns those that did.

        One that fails alone is set aside. Raises what is wrong with the store, once the answers of all under way are taken.
        """
        did: list[Known] = []
        left = iter(those)
        while group := await self._group(left, step):
            trouble: Exception | None = None
            for (each, _), answer in zip(group, await self._write_all(group), strict=True):
                if isinstance(answer, ScheduleSet):
                    if self._took(each, answer):
                        did.append(each)
                elif _concerns_one(answer):
                    self._set_aside(each, answer)
                else:
                    trouble = answer
                await self._let_others()
            if trouble is not None:
                raise trouble
        return did

    async def _group(
        self, left: Iterator[Known], step: Callable[[Known], SetSchedule | None]
    ) -> list[tuple[Known, SetSchedule]]:
        """The steps of the next ones, as many as may be under way together; none when we are to stop."""
        group: list[tuple[Known, SetSchedule]] = []
        size = 0
        while len(group) < STEPS and size < STEPS_BYTES and not self.cell.stopping:
            each = next(left, None)
            if each is None:
                break
            try:
                command = step(each)
            except Exception as error:  # noqa: BLE001 -- logged; the others go on
                self._set_aside(each, error)
                continue
            if command is None:
                each.told.discard("failed")
            else:
                group.append((each, command))
                size += _weight(command)
            await self._let_others()
        return group

    async def _write_all(self, group: Sequence[tuple[Known, SetSchedule]]) -> list[ScheduleSet | Exception]:
        """Have the journal do them, each for itself, in as few commits as it takes."""
        journal, planned = self.stage.registry[paths.JOURNAL].ref, self._runtime.planned
        if journal.waiting > MAX_WAITING:
            raise Overloaded
        replies: list[Reply[ScheduleSet]] = [Reply() for _ in group]
        answers: list[ScheduleSet | Exception] = []
        planned.own = frozenset([id(command) for _, command in group])
        try:
            for (_, command), reply in zip(group, replies, strict=True):
                if command.if_active is not None and command.if_active.schedule.waiting_us is not None:
                    planned.waits = True  # the run may end before the answer is here
                send(journal, command, reply)
            for reply in replies:
                try:
                    answers.append(await reply.wait() if reply.is_open else reply.value)
                except Exception as error:  # noqa: BLE001 -- it stands where the answer would
                    answers.append(error)
        finally:
            planned.own = frozenset()
        self._turn_s = self.stage.seams.clock.mono_s()
        return answers

    def _took(self, each: Known, answer: ScheduleSet) -> bool:
        """How it stands now; whether that is our doing."""
        each.told.discard("failed")
        if not answer.done:
            self._may_release = True  # somebody was faster: a time may wait that was not there before
        self._keep(each, answer.schedule)
        return answer.done

    def _set_aside(self, each: Known, error: Exception) -> None:
        """It failed, and alone: let it be for a moment."""
        if not self._ailing:
            self._retry_s = self.stage.seams.clock.mono_s() + RETRY_S
        self._ailing[each.place] = each
        self._expect(each)
        if "failed" not in each.told:
            each.told.add("failed")
            _log.error(
                "schedule %s of %s failed, trying again: %s", each.key, each.jobs.identity, error, exc_info=error
            )

    def _take_ailing(self) -> dict[tuple[str, str], Known]:
        """Those that failed, when it is time to try again."""
        if self.stage.seams.clock.mono_s() < self._retry_s:
            return {}
        again, self._ailing, self._retry_s = self._ailing, {}, math.inf
        for each in again.values():
            self._expect(each)
        return again


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


def _weight(command: SetSchedule) -> int:
    return ROW_BYTES + len(command.schedule.body) + sum([ROW_BYTES + len(run.payload) for run in command.runs])


def _concerns_one(error: Exception) -> bool:
    """Whether one schedule is to blame; else it is the store, or we are to end."""
    if isinstance(error, CallsheetError):
        return isinstance(error, IllegalMove | MalformedCommand)
    return not isinstance(error, MemoryError | OSError)
