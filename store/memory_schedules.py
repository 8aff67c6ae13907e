"""
SetSchedule, in memory: the plainest way to say what every store does with it.

Rule: as everywhere, whatever it puts can be taken back; a malformed one raises, and the write that holds it takes back all.
Not here: the dicts (`memory_tables`), requesting runs (`memory`).
"""

from __future__ import annotations

from collections.abc import Callable

from .arithmetic import changes_nothing, is_believed, schedule_after
from .contract import Conflict, Insert, Inserted, ScheduleSet, SetSchedule
from .errors import MalformedCommand
from .memory_tables import Tables
from .records import FIRES_KEPT, Did, Fired, Now, Schedule, Status


def set_schedule(
    tables: Tables, command: SetSchedule, now: Now, insert: Callable[[Insert], Inserted | Conflict]
) -> ScheduleSet:
    """Change a schedule, and request the runs that go with that."""
    said = command.schedule
    place = said.jobs, said.key
    was = tables.schedules.get(place)
    if not is_believed(was, command):
        return ScheduleSet(done=False, schedule=was)
    if command.delete:
        tables.drop(tables.schedules, place)
        tables.drop(tables.fires, place)
        return ScheduleSet(done=True, schedule=None)
    active = command.if_active is not None and _is_active(tables, said)
    doing = command.if_active if active and command.if_active is not None else command
    if changes_nothing(was, doing):
        return ScheduleSet(done=True, schedule=was, active=active)
    answer = insert(Insert(doing.runs))
    if not isinstance(answer, Inserted) or any(run is not None for run in answer.existing):
        raise MalformedCommand(f"a run of schedule {said.key!r} is there already")
    if doing.fired:
        tables.put(tables.fires, place, _noted(tables.fires.get(place, ()), doing.fired, said.key))
    schedule = schedule_after(was, doing.schedule, now)
    tables.put(tables.schedules, place, schedule)
    return ScheduleSet(done=True, schedule=schedule, active=active)


def _is_active(tables: Tables, said: Schedule) -> bool:
    unfinished = (run for status in Status if not status.is_final for run in tables.of_status(status))
    return any(run.schedule_key == said.key and run.lane.jobs == said.jobs for run in unfinished)


def _noted(before: tuple[Fired, ...], fired: tuple[Fired, ...], key: str) -> tuple[Fired, ...]:
    every = sorted([*before, *fired], key=lambda each: (each.nominal_us, each.did is Did.TRIGGERED))
    times = [each.nominal_us for each in every if each.did is not Did.TRIGGERED]
    if len(set(times)) < len(times):
        raise MalformedCommand(f"a time of schedule {key!r} was noted before")
    return tuple(every[-FIRES_KEPT:])
