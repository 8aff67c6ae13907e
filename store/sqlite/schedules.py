"""
SetSchedule: one row of each schedule, one of each of the last times that it came.

Rule: whoever changes a schedule says what it believes of it, and the runs that go with the change are stored in the same
transaction: so each time of a schedule leads to one run at most, whoever looks after it, and however often.
Not here: what a schedule's next state is (whoever changes it), what its body says.
"""

from __future__ import annotations

from typing import Any, Final

from ..arithmetic import changes_nothing, is_believed, schedule_after
from ..contract import Insert, Inserted, ScheduleSet, SetSchedule
from ..errors import MalformedCommand
from ..records import FIRES_KEPT, Did, Now, Schedule
from .codes import DID_CODE, FIRED_COLUMNS, SCHEDULE_COLUMNS, schedule_of
from .connection import value
from .insert import insert
from .ledger import Ledger

_FIND: Final = f"select {SCHEDULE_COLUMNS} from schedules where jobs = ? and key = ?"  # noqa: S608
_WRITE: Final = f"""
    insert or replace into schedules({SCHEDULE_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    """  # noqa: S608
_ACTIVE: Final = """
    select 1 from runs indexed by scheduled_active where schedule_key = ? and status < 4 and schedule_key is not null
    and lane in (select id from lanes where jobs = ?) limit 1
    """
_NOTE: Final = f"insert into fires(jobs, key, seq, {FIRED_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_TRIM: Final = """
    delete from fires where jobs = ?1 and key = ?2 and (nominal_us, seq) <= (select nominal_us, seq from fires
        where jobs = ?1 and key = ?2 order by nominal_us desc, seq desc limit 1 offset ?3)
    """


def set_schedule(ledger: Ledger, command: SetSchedule, now: Now) -> ScheduleSet:
    """Change a schedule, and request the runs that go with that."""
    said = command.schedule
    found = ledger.db.execute(_FIND, (said.jobs, said.key)).fetchone()
    was = None if found is None else schedule_of(found)
    if not is_believed(was, command):
        return ScheduleSet(done=False, schedule=was)
    if command.delete:
        for table in ("schedules", "fires"):
            ledger.db.execute(f"delete from {table} where jobs = ? and key = ?", (said.jobs, said.key))  # noqa: S608
        return ScheduleSet(done=True, schedule=None)
    active = command.if_active is not None and _is_active(ledger, said)
    doing = command.if_active if active and command.if_active is not None else command
    if changes_nothing(was, doing):
        return ScheduleSet(done=True, schedule=was, active=active)
    schedule = schedule_after(was, doing.schedule, now)
    _request(ledger, doing)
    _note(ledger, doing, schedule.version)
    ledger.db.execute(_WRITE, _values(schedule))
    return ScheduleSet(done=True, schedule=schedule, active=active)


def _is_active(ledger: Ledger, said: Schedule) -> bool:
    return value(ledger.db, _ACTIVE, (said.key, said.jobs)) is not None


def _request(ledger: Ledger, command: SetSchedule) -> None:
    if not command.runs:
        return
    (answer,) = insert(ledger, [Insert(command.runs)])
    if not isinstance(answer, Inserted) or any(run is not None for run in answer.existing):
        raise MalformedCommand(f"a run of schedule {command.schedule.key!r} is there already")


def _note(ledger: Ledger, command: SetSchedule, version: int) -> None:
    if command.fired:
        jobs, key = command.schedule.jobs, command.schedule.key
        rows = [
            (
                *(jobs, key, version + n if each.did is Did.TRIGGERED else 0),
                *(each.nominal_us, each.at_us, DID_CODE[each.did], each.run_id, each.times),
            )
            for n, each in enumerate(command.fired)
        ]
        ledger.db.executemany(_NOTE, rows)
        ledger.db.execute(_TRIM, (jobs, key, FIRES_KEPT))


def _values(schedule: Schedule) -> tuple[Any, ...]:
    return (
        schedule.jobs, schedule.key, schedule.body, schedule.next_us, schedule.due_us, schedule.paused, schedule.orphaned,
        schedule.waiting_us, schedule.last_us, schedule.fired, schedule.skipped, schedule.version, schedule.created_us,
        schedule.updated_us,
    )  # fmt: skip
