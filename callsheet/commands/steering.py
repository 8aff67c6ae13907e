"""
`callsheet runs cancel` and `replay`: named runs one by one, or all that match, after it was said how many those are.

Rule: a run is answered for, whatever becomes of the others; who it was stands in its history.
Not here: all that match (`sweep`), what a cancel or a replay is (`callsheet.runs`, `callsheet.bulk`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import PolicyDenied, RunNotFinished, RunNotFound
from ..store.records import Status
from .asked import (
    BeforeFilter,
    DelayOption,
    EveryOption,
    JobsOption,
    JsonOption,
    KeyFilter,
    OriginFilter,
    QueueFilter,
    ReasonOption,
    RunAtOption,
    ScheduleFilter,
    SinceFilter,
    StatusFilter,
    StoreOption,
    SubjectOption,
    TaskFilter,
    TracebackOption,
    TraceFilter,
    YesOption,
    duration,
)
from .paper import Paper, note
from .reach import client_of, query, run_id, who
from .runs import check_one_way
from .statuses import NOT_SO, OK, status_of
from .sweep import Sweep, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bulk import Answered, BulkResult
    from ..client.client import Client
    from ..runs import RunQuery

STEP: Final = 500
"""Runs that are canceled at a time: what a Ctrl-C waits for."""
REPLAY_STEP: Final = 100
"""The same of runs that are replayed."""

SomeRuns = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]…", help="Their ids, or as much of the beginning of each as is clear."),
]


def cancel(
    runs: SomeRuns = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    every: EveryOption = False,
    task: TaskFilter = None,
    queue: QueueFilter = None,
    status: StatusFilter = None,
    key: KeyFilter = None,
    trace_id: TraceFilter = None,
    replay_of: OriginFilter = None,
    schedule: ScheduleFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> int:
    """
    Cancel runs: those that are named, or --all that match.

    A cancel is final, and stops a running handler wherever it runs. With --all it is said how many runs match, and asked:
    answer with that number, or say --yes. Status 1 when a run was not canceled, because it had ended.
    """
    paper, why = Paper(as_programs_want), f"by {who(subject)}" if reason is None else reason
    typed = {
        "task": task,
        "queue": queue,
        "status": status,
        "key": key,
        "trace_id": trace_id,
        "replay_of": replay_of,
        "schedule": schedule,
        "since": since,
        "before": before,
    }
    check_one_way(runs, every, typed)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        if runs:
            return _one_by_one(paper, client, runs, lambda each: _cancel(client, each, why))
        where = query(client, **typed)
        statuses = [where["status"]] if "status" in where else [each for each in Status if not each.is_final]
        sweep = Sweep(paper, client, "cancel", "canceled", where, statuses)
        return sweep.run(yes=yes, step=lambda bounded: client.runs.cancel_all(reason=why, limit=STEP, **bounded))


def replay(
    runs: SomeRuns = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    every: EveryOption = False,
    task: TaskFilter = None,
    queue: QueueFilter = None,
    status: StatusFilter = None,
    key: KeyFilter = None,
    trace_id: TraceFilter = None,
    replay_of: OriginFilter = None,
    schedule: ScheduleFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    reason: ReasonOption = None,
    delay: DelayOption = None,
    run_at: RunAtOption = None,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="With --all: once more also what was replayed before.")
    ] = False,
    yes: YesOption = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> int:
    """
    Replay runs that have ended: those that are named, or --all that match; without --status, what is dead-lettered.

    Each becomes a new run with the same payload. With --all it is said how many runs match, and asked: answer with that
    number, or say --yes; what was replayed before is passed over. Status 1 when a named run could not be replayed.
    """
    paper, why = Paper(as_programs_want), f"by {who(subject)}" if reason is None else reason
    typed = {
        "task": task,
        "queue": queue,
        "status": status,
        "key": key,
        "trace_id": trace_id,
        "replay_of": replay_of,
        "schedule": schedule,
        "since": since,
        "before": before,
    }
    check_one_way(runs, every, typed)
    times: dict[str, Any] = {"delay": duration(delay, "--delay"), "run_at": run_at}
    with client_of(store, jobs, subject, traceback=traceback) as client:
        if runs:
            return _one_by_one(paper, client, runs, lambda each: _replay(client, each, reason=why, **times))
        where = query(client, **typed)
        below: list[str | None] = [None]

        def step(bounded: RunQuery) -> BulkResult:
            options: dict[str, Any] = {**bounded, **times, "repeat": repeat, "limit": REPLAY_STEP}
            done = client.runs.replay_all(reason=why, after=below[0], **options)
            below[0] = done.next
            return done

        status_asked = where.get("status", Status.DEAD_LETTERED)
        return Sweep(paper, client, "replay", "replayed", where, [status_asked]).run(yes=yes, step=step)


# ---------------------------------------------------------------- named runs


def _cancel(client: Client, run: str, reason: str) -> Answered:
    from ..bulk import Answered

    done = client.runs.cancel(run, reason)
    return Answered(run, done.canceled, done.status, why=None if done.canceled else f"it is {done.status}")


def _replay(client: Client, run: str, **options: Any) -> Answered:
    from ..bulk import Answered

    try:
        made = client.runs.replay(run, **options)
    except RunNotFinished as error:
        return Answered(run, done=False, status=error.status, why=str(error))
    return Answered(run, done=True, status=None, replay_id=made.run_id)


def _one_by_one(paper: Paper, client: Client, runs: Sequence[str], act: Callable[[str], Answered]) -> int:
    status = OK
    for typed in runs:
        try:
            answer = act(run_id(client, typed))
        except (RunNotFound, PolicyDenied) as error:  # the others are not to blame
            note(f"callsheet: {error}")
            status = max(status, status_of(error))
            continue
        tell(paper, [answer])
        status = max(status, OK if answer.done else NOT_SO)
    return status
