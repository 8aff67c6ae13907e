"""
What follows when a time of a schedule has come, and when somebody changes it: the next state, and the runs that go with it.

Rule 1: pure; the wall clock is an argument. What comes out is one command, which the store does only if nobody was faster.
Rule 2: a schedule only goes forward: nothing is ever done about a time that is not later than the last one, wherever the
wall clock goes. So each time leads to one run at most.
Rule 3: what was missed costs no more than what came in time.
Not here: which times there are (`cadence`), when to look (`planner`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import evolve

from ..store.contract import SetSchedule
from ..store.records import Did, Fired, NewRun, Schedule
from .cadence import MAX_TIMES, Every, last_before, last_n, next_after
from .plan import Misfire, Overlap, Plan, to_body

MISSED_US: Final = 60_000_000
"""A time that was seen within a minute came in time: a runtime looks once a second, and a restart takes a few."""

NewRunAt = Callable[[int], NewRun]
"""The run of one time."""


def born(plan: Plan, jobs: str, now_us: int) -> Schedule:
    """A schedule that is said for the first time."""
    return _coming(Schedule(jobs, plan.key, to_body(plan), None, None), plan, _first_us(plan, now_us, None))


def said_again(was: Schedule, before: Plan | None, plan: Plan, now_us: int) -> tuple[Schedule, Plan]:
    """
    A schedule that is said once more: its next time stays, unless its times are other ones now, or it was orphaned meanwhile.

    before: what was said before, as far as it can be read. Returns it with the plan that holds from now on.
    """
    if before is not None and plan.comes_as(before):
        plan = evolve(plan, anchor_us=before.anchor_us)
        after = evolve(was, body=to_body(plan), orphaned=False)
        return (_from_now_on(after, plan, now_us) if was.orphaned else after), plan
    after = evolve(was, body=to_body(plan), orphaned=False)  # a time that waits has come, and still has its run
    return _coming(after, plan, _first_us(plan, now_us, was.last_us)), plan


def going_on(was: Schedule, plan: Plan, now_us: int) -> Schedule:
    """After a pause: what would have come meanwhile was not missed, but not wanted."""
    return _from_now_on(evolve(was, paused=False), plan, now_us)


def _from_now_on(was: Schedule, plan: Plan, now_us: int) -> Schedule:
    if was.next_us is None or was.due_us is None or was.due_us > now_us:
        return was
    return _coming(was, plan, next_after(plan.cadence, plan.anchor_us, _last_due(plan, was.next_us, now_us)))


def _first_us(plan: Plan, now_us: int, last_us: int | None) -> int | None:
    """The first time of what is said now; last_us: one that something was done about, so no other until then."""
    begins_us = now_us if plan.start_us is None else max(now_us, plan.start_us)
    floor_us = begins_us if last_us is None else max(begins_us, last_us + 1)
    if plan.first == "now":
        return floor_us
    after_us = floor_us if floor_us == now_us and plan.start_us != now_us else floor_us - 1
    return next_after(plan.cadence, plan.anchor_us, after_us)


def _coming(was: Schedule, plan: Plan, next_us: int | None) -> Schedule:
    if next_us is None or (plan.end_us is not None and next_us > plan.end_us):
        return evolve(was, next_us=None, due_us=None)
    return evolve(was, next_us=next_us, due_us=plan.due_us(next_us))


# ---------------------------------------------------------------- a time has come


def turn(was: Schedule, plan: Plan, now_us: int, new_run: NewRunAt) -> SetSchedule | None:
    """What follows from the times that have come by now; None while none has."""
    if was.paused or was.orphaned or was.next_us is None or was.due_us is None or was.due_us > now_us:
        return None
    last_us = _last_due(plan, was.next_us, now_us)
    wanted = _wanted(plan, was.next_us, last_us, now_us)
    missed = _count(plan, was.next_us, last_us) - len(wanted)
    after = _coming(evolve(was, last_us=last_us), plan, next_after(plan.cadence, plan.anchor_us, last_us))
    passed = _missed(plan, was.next_us, last_us, wanted, missed=missed, now_us=now_us)
    kept_out = evolve(after, skipped=was.skipped + missed + len(wanted))
    overlapped = SetSchedule(
        was.version, kept_out, fired=(*passed, *[Fired(us, now_us, Did.OVERLAPPED) for us in wanted])
    )
    if plan.overlap is Overlap.QUEUE and wanted:
        if was.waiting_us is not None:  # one waits already, and goes first
            return overlapped
        waits = evolve(after, waiting_us=wanted[-1], skipped=was.skipped + missed)
        overlapped = SetSchedule(was.version, waits, fired=passed)
    runs = tuple([new_run(us) for us in wanted])
    done = [Fired(us, now_us, Did.REQUESTED, run.id) for us, run in zip(wanted, runs, strict=True)]
    return SetSchedule(
        was.version,
        evolve(after, fired=was.fired + len(runs), skipped=was.skipped + missed),
        runs=runs,
        fired=(*passed, *done),
        if_active=None if plan.overlap is Overlap.ALLOW or not runs else overlapped,
    )


def release(was: Schedule, now_us: int, new_run: NewRunAt) -> SetSchedule | None:
    """The one that waits is requested, unless the run before it has still not ended."""
    if was.waiting_us is None or was.paused or was.orphaned:
        return None
    run = new_run(was.waiting_us)
    return SetSchedule(
        was.version,
        evolve(was, waiting_us=None, fired=was.fired + 1),
        runs=(run,),
        fired=(Fired(was.waiting_us, now_us, Did.WAITED, run.id),),
        if_active=SetSchedule(was.version, was),
    )


def triggered(was: Schedule, now_us: int, new_run: NewRunAt) -> SetSchedule:
    """Requested by hand, whatever else goes on; its times stay as they are."""
    run = new_run(now_us)
    fired = Fired(now_us, now_us, Did.TRIGGERED, run.id)
    return SetSchedule(was.version, evolve(was, fired=was.fired + 1), runs=(run,), fired=(fired,))


def _last_due(plan: Plan, first_us: int, now_us: int) -> int:
    """The last time that has come and is due; the first one is."""
    until_us = now_us if plan.end_us is None else min(now_us, plan.end_us)
    last_us = last_before(plan.cadence, plan.anchor_us, until_us, first_us)
    while last_us is not None and plan.due_us(last_us) > now_us:  # one: the jitter ends before the next time
        last_us = last_before(plan.cadence, plan.anchor_us, last_us - 1, first_us)
    return first_us if last_us is None else last_us


def _wanted(plan: Plan, first_us: int, last_us: int, now_us: int) -> tuple[int, ...]:
    """The times that are to have runs; only where they may overlap are there several."""
    in_time = now_us - plan.due_us(last_us) <= MISSED_US
    if plan.misfire is Misfire.SKIP and not in_time:
        return ()
    if plan.misfire is not Misfire.ALL or plan.overlap is not Overlap.ALLOW:
        return (last_us,)
    found = last_n(plan.cadence, plan.anchor_us, first_us, last_us, plan.misfire_cap)
    return (first_us, *found)[-plan.misfire_cap :]


def _count(plan: Plan, first_us: int, last_us: int) -> int:
    """How many times there are from the first to the last one; of a cron expression no more than 1,001 are counted."""
    if isinstance(plan.cadence, Every):
        return 1 + (last_us - first_us + plan.cadence.interval_us - 1) // plan.cadence.interval_us
    return 1 + len(last_n(plan.cadence, plan.anchor_us, first_us, last_us, MAX_TIMES))


def _missed(
    plan: Plan, first_us: int, last_us: int, wanted: tuple[int, ...], *, missed: int, now_us: int
) -> tuple[Fired, ...]:
    """One line for those that come to nothing, at the last of them."""
    if not missed:
        return ()
    if not wanted:
        return (Fired(last_us, now_us, Did.MISSED, times=missed),)
    before = last_before(plan.cadence, plan.anchor_us, wanted[0] - 1, first_us)
    return (Fired(first_us if before is None else before, now_us, Did.MISSED, times=missed),)
