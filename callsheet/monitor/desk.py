"""
Where orders of clients are carried out: through the same calls that a program uses, with their guards.

Rule: every order is answered, with what happened or with a code and a sentence; what changes something is logged. Of guarded
Jobs the policy is asked first, as the subject "monitor".
Not here: what an order may look like (`messages`), who may give one (`client`), what is shown unasked (`sight`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, assert_never

from ..actors.journal import Overloaded
from ..errors import InvalidOption, PolicyDenied, RunNotFinished, RunNotFound, ScheduleNotFound, ShuttingDown, shown
from ..guard import Action, acting_as, require
from ..jobs import Jobs
from ..runtime import Runtime
from ..schedules.plan import plan_said
from ..schedules.schedules import ScheduleState, to_come
from ..store.contract import Reader
from ..store.errors import CallsheetError, StoreError
from ..store.records import Fired, History, Schedule, Status
from .messages import (
    CancelRun,
    Order,
    PauseSchedule,
    ReplayRun,
    RequestId,
    ResumeSchedule,
    RunOrder,
    ScheduleOrder,
    ShowRun,
    ShowSchedule,
    TriggerSchedule,
)
from .rows import Row, details
from .sight import SUBJECT, guarded_elsewhere, has_task, rights_of
from .timetable import MAX_COMING, MAX_GONE, posted, schedule_details, schedule_row

_log = logging.getLogger("callsheet.monitor")

# {error: the code a client can act on}; the first that fits
CODES: Final[dict[type[Exception], str]] = {
    PolicyDenied: "denied",
    RunNotFound: "not_found",
    ScheduleNotFound: "not_found",
    RunNotFinished: "not_finished",
    ShuttingDown: "shutting_down",
    Overloaded: "overloaded",
    InvalidOption: "bad_field",
    StoreError: "store",
    CallsheetError: "refused",
}

ACTIONS: Final[dict[type[Order], Action]] = {
    ShowRun: Action.READ,
    CancelRun: Action.CANCEL,
    ReplayRun: Action.REPLAY,
    ShowSchedule: Action.READ,
    PauseSchedule: Action.STEER,
    ResumeSchedule: Action.STEER,
    TriggerSchedule: Action.STEER,
}


class NotHere(CallsheetError):
    """It belongs to a Jobs instance that this runtime does not run."""

    def __init__(self, what: str, jobs: str) -> None:
        super().__init__(f"{what} belongs to {jobs}, which this runtime does not run: steer it where it runs")


async def carry_out(runtime: Runtime, order: Order, peer: str) -> Row:
    """The answer to `order`. Never raises but for cancellation."""
    try:
        with acting_as(SUBJECT):
            return {"type": "done", "id": order.id, "result": await _do(runtime, order, peer)}
    except NotHere as error:
        return failure(order.id, "not_here", str(error))
    except Exception as error:  # noqa: BLE001 -- the client is told; an unexpected one is logged
        for kind, code in CODES.items():
            if isinstance(error, kind):
                if code == "denied":
                    _log.info("monitor client %s: %s", peer, error)
                return failure(order.id, code, str(error))
        _log.exception("the monitor could not do %r", order)
        return failure(order.id, "internal", "that failed; the log says why")


def failure(request_id: RequestId | None, code: str, message: str) -> Row:
    """The answer to what could not be done."""
    return {"type": "error", "id": request_id, "code": code, "message": message}


async def _do(runtime: Runtime, order: Order, peer: str) -> dict[str, Any]:
    if isinstance(order, RunOrder):
        return await _do_with_run(runtime, order, peer)
    return await _do_with_schedule(runtime, order, peer)


# -- runs


async def _do_with_run(runtime: Runtime, order: RunOrder, peer: str) -> dict[str, Any]:
    history = await runtime.read(partial(_find, order.run_id, runtime.jobs))
    if history is None:
        for each in runtime.jobs:  # it could be of any of them: who may do nothing is not told what there is not
            require(each, ACTIONS[type(order)], run_id=order.run_id)
        raise RunNotFound(order.run_id)
    match order:
        case ShowRun(run_id=run_id):
            for each in runtime.jobs:
                if each.identity == history.run.lane.jobs:
                    require(each, Action.READ, run=history.run, run_id=run_id)
            return details(history)
        case CancelRun(run_id=run_id):
            _log.info("monitor client %s cancels run %s", peer, run_id)
            canceled = await _jobs_of(runtime, history).runs.cancel(run_id, "by the monitor")
            return {"run_id": run_id, "canceled": canceled.canceled, "status": str(canceled.status)}
        case ReplayRun(run_id=run_id, reason=reason):
            _log.info("monitor client %s replays run %s", peer, run_id)
            replayed = await _jobs_of(runtime, history).runs.replay(run_id, reason=reason or "by the monitor")
            return {"run_id": replayed.run_id, "replay_of": run_id, "status": str(Status.QUEUED)}
        case _:
            assert_never(order)


def _find(run_id: str, ours: Sequence[Jobs], reader: Reader) -> History | None:
    """The run, unless there is none for us."""
    history = reader.get(run_id)
    if history is None or guarded_elsewhere(reader, (history.run.lane.jobs,), ours):
        return None
    return history


def _jobs_of(runtime: Runtime, history: History) -> Jobs:
    identity = history.run.lane.jobs
    for jobs in runtime.jobs:
        if jobs.identity == identity:
            return jobs
    raise NotHere(f"run {history.run.id}", identity)


# -- schedules


async def _do_with_schedule(runtime: Runtime, order: ScheduleOrder, peer: str) -> dict[str, Any]:
    found = await runtime.read(partial(_find_schedule, order.jobs, order.key, runtime.jobs))
    schedule, gone = (None, ()) if found is None else found
    plan = None if schedule is None else plan_said(schedule)
    jobs = next((each for each in runtime.jobs if each.identity == order.jobs), None)
    if jobs is not None:
        task = None if plan is None else plan.task
        require(jobs, ACTIONS[type(order)], task=task, schedule=order.key)
    elif schedule is None:
        for each in runtime.jobs:  # as if it were of any of them: who may do nothing is not told which Jobs there are
            require(each, ACTIONS[type(order)], schedule=order.key)
    if schedule is None or plan is None:
        raise ScheduleNotFound(order.jobs, order.key)
    if isinstance(order, ShowSchedule):
        rights = rights_of(jobs, plan.task)
        row = schedule_row(posted(schedule), rights, is_here=has_task(jobs, plan.task))
        coming = to_come(schedule, plan, runtime.seams.clock.wall_us(), MAX_COMING)
        return schedule_details(row, schedule, plan, coming, gone)
    if jobs is None:
        raise NotHere(f"schedule {shown(order.key)}", order.jobs)
    match order:
        case PauseSchedule():
            _log.info("monitor client %s pauses schedule %s of %s", peer, order.key, order.jobs)
            return _steered(order, await jobs.schedules.pause(order.key))
        case ResumeSchedule():
            _log.info("monitor client %s resumes schedule %s of %s", peer, order.key, order.jobs)
            return _steered(order, await jobs.schedules.resume(order.key))
        case TriggerSchedule():
            _log.info("monitor client %s triggers schedule %s of %s", peer, order.key, order.jobs)
            run_id = await jobs.schedules.trigger(order.key)
            return {"jobs": order.jobs, "key": order.key, "run_id": run_id}
        case _:
            assert_never(order)


def _steered(order: ScheduleOrder, state: ScheduleState) -> dict[str, Any]:
    return {"jobs": order.jobs, "key": order.key, "paused": state.paused}


def _find_schedule(
    identity: str, key: str, ours: Sequence[Jobs], reader: Reader
) -> tuple[Schedule, tuple[Fired, ...]] | None:
    """The schedule and what was done about its last times, unless there is none for us."""
    if guarded_elsewhere(reader, (identity,), ours):
        return None
    found = reader.schedule(identity, key)
    return None if found is None else (found, reader.fires(identity, key, MAX_GONE))
