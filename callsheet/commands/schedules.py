"""
`callsheet schedules`: what is requested by the clock; make, pause, trigger and forget it.

Rule: payloads are shown where they are asked for. All times are UTC; beside them stands what the clocks of the schedule show.
Not here: which times a schedule has (`callsheet.schedules.cadence`), declaring one in code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from . import shapes
from .asked import (
    JobsOption,
    JsonOption,
    StoreOption,
    SubjectOption,
    TracebackOption,
    duration,
    refuse_early,
    wrong,
)
from .enqueue import payload_of
from .paper import Paper, as_json, note
from .reach import client_of
from .text import at, counted, us_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..schedules.plan import ScheduleOptions
    from ..schedules.schedules import ScheduleState

COLUMNS: Final = ("schedule", "state", "task", "next", "last", "runs", "skipped", "cadence")
SPARE: Final = ("skipped", "last", "task", "runs")
LOCAL: Final = "local"
"""A column beside `next`, where a schedule is read on other clocks than UTC; a narrow terminal does without it first."""

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key of a schedule.")]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The name of a task.")]
PayloadArgument = Annotated[
    str | None,
    typer.Argument(metavar="[PAYLOAD]", help="JSON; - reads it from stdin, @FILE from a file.", show_default="null"),
]
FirstOption = Annotated[
    str | None, typer.Option("--first", metavar="WHEN", help="The first time: next or now.", show_default="next")
]
StartOption = Annotated[
    str | None, typer.Option("--start", metavar="WHEN", help="No time before it: 2026-07-01T08:00Z.")
]
EndOption = Annotated[str | None, typer.Option("--end", metavar="WHEN", help="No time after it.")]
JitterOption = Annotated[
    str | None, typer.Option("--jitter", metavar="TIME", help="Scatter the runs by up to so much: 90, 15m.")
]
MisfireOption = Annotated[
    str | None,
    typer.Option(
        "--misfire", metavar="POLICY", help="Of times that were missed: skip, latest or all.", show_default="latest"
    ),
]
CapOption = Annotated[
    int | None,
    typer.Option("--misfire-cap", help="With --misfire all: no more than the last so many.", show_default="100"),
]
OverlapOption = Annotated[
    str | None,
    typer.Option(
        "--overlap",
        metavar="POLICY",
        help="While the run before has not ended: skip, queue (one waits) or allow.",
        show_default="skip",
    ),
]
QueueOption = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Another queue than the task's.")]
PriorityOption = Annotated[int | None, typer.Option("--priority", help="0 (first) to 9.", show_default="5")]
TimeoutOption = Annotated[str | None, typer.Option("--timeout", metavar="TIME", help="For each attempt: 90, 15m, 2h.")]
AttemptsOption = Annotated[int | None, typer.Option("--max-attempts", help="Tries in all.")]


def show_list(
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """List all schedules: when each comes next, and what became of the times before."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        found = client.schedules.list()
    if paper.programs:
        paper.document({"schedules": [shapes.schedule(each) for each in found]})
    elif found:
        tell_schedules(paper, found)
    else:
        note("there are no schedules")


def at_once(
    context: typer.Context,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Look at what is requested by the clock; make, steer and forget it."""
    if context.invoked_subcommand is None:
        show_list(store=store, jobs=jobs, as_programs_want=as_programs_want, subject=subject, traceback=traceback)
        return
    refuse_early(context)


def tell_schedules(paper: Paper, found: Sequence[ScheduleState]) -> None:
    """The table of schedules."""
    rows = [_row(each) for each in found]
    there = [_local(each, each.next_at) for each in found]
    if not any(there):
        paper.table(COLUMNS, rows, spare=SPARE)
        return
    after = COLUMNS.index("next") + 1
    columns = (*COLUMNS[:after], LOCAL, *COLUMNS[after:])
    beside = [(*row[:after], local, *row[after:]) for row, local in zip(rows, there, strict=True)]
    paper.table(columns, beside, spare=(LOCAL, *SPARE))


def _local(state: ScheduleState, when: datetime | None) -> str:
    """What the clocks of a schedule show then, where they are not those of UTC."""
    from ..schedules.cadence import local

    return "" if when is None else local(state.cadence, us_of(when) or 0) or ""


def _both(state: ScheduleState, when: datetime | None) -> str:
    """A time in UTC, and by the clocks of the schedule where those are others."""
    there = _local(state, when)
    return f"{at(us_of(when))} ({there})" if there else at(us_of(when))


def _row(state: ScheduleState) -> tuple[object, ...]:
    return (
        state.key,
        shapes.standing(state),
        state.task,
        at(us_of(state.next_at)),
        at(us_of(state.last_at)),
        state.fired,
        state.skipped,
        state.cadence,
    )


def show(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload too.")] = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show one schedule: what was said of it, and where it stands."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        state = client.schedules.get(key)
    if paper.programs:
        paper.document(shapes.schedule(state) | ({"payload": state.payload} if payload else {}))
        return
    facts = _facts(state, payload=payload)
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        paper.say(f"{name:{width}}  {value}")


def _facts(state: ScheduleState, *, payload: bool) -> list[tuple[str, str]]:
    standing = shapes.standing(state)
    cap = f", at most {state.misfire_cap}" if state.misfire == "all" else ""
    facts: list[tuple[str, object]] = [
        ("schedule", state.key),
        ("state", "orphaned: its code declares it no more" if standing == "orphaned" else standing),
        ("said by", "the code" if state.origin == "code" else "a call"),
        ("task", state.task),
        ("queue", state.queue),
        ("payload", as_json(state.payload) if payload else None),
        ("cadence", state.cadence),
        ("start", _both(state, state.start)),
        ("end", _both(state, state.end)),
        ("jitter", f"up to {state.jitter:g} s" if state.jitter else None),
        ("missed", f"{state.misfire}{cap}"),
        ("overlap", state.overlap),
        ("next", _both(state, state.next_at)),
        ("requested", _both(state, state.due_at) if state.due_at != state.next_at else None),
        ("waiting", _both(state, state.waiting_at)),
        ("last", _both(state, state.last_at)),
        ("so far", f"{counted(state.fired, 'run')}, {counted(state.skipped, 'time')} skipped"),
        ("changed", at(us_of(state.updated_at))),
    ]
    return [(name, str(value)) for name, value in facts if value]


def preview(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    n: Annotated[int, typer.Option("-n", "--times", help="So many, 0 to 1000.")] = 5,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show the next times of a schedule, whether it is paused or not."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        times = client.schedules.preview(key, n)
        state = None if paper.programs else client.schedules.get(key)
    if state is None:
        paper.document({"key": key, "times": [shapes.moment(each) for each in times]})
        return
    for each in times:
        paper.say(_both(state, each))


def history(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, 1 to 100.")] = 50,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show what was done about the last times of a schedule, newest first."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        fired = client.schedules.history(key, limit=limit)
    if paper.programs:
        paper.document({"key": key, "history": [shapes.fired(each) for each in fired]})
    else:
        rows = [(at(us_of(each.nominal)), at(us_of(each.at)), each.did, each.times, each.run_id) for each in fired]
        paper.table(("time", "at", "done", "times", "run"), rows, spare=("times", "at"))
    if not fired and not paper.programs:
        note("none of its times has come yet")


def pause(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Request nothing more by a schedule, in any process."""
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.schedules.pause(key))


def resume(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """End a pause; what would have come meanwhile is not made up for."""
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.schedules.resume(key))


def trigger(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Request a run of a schedule now, and print its id; its times stay as they are."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        run_id = client.schedules.trigger(key)
    if paper.programs:
        paper.document({"key": key, "run_id": run_id})
    else:
        paper.say(run_id)


def delete(
    key: KeyArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Forget a schedule with its history; its runs stay. One that the code declares comes back."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        client.schedules.delete(key)
    if paper.programs:
        paper.document({"key": key, "deleted": True})
    else:
        paper.say(f"{key} deleted")


def every(
    key: KeyArgument,
    interval: Annotated[str, typer.Argument(metavar="TIME", help="How often: 90, 15m, 2h, 1d.")],
    task: TaskArgument,
    payload: PayloadArgument = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    first: FirstOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    misfire: MisfireOption = None,
    misfire_cap: CapOption = None,
    overlap: OverlapOption = None,
    queue: QueueOption = None,
    priority: PriorityOption = None,
    timeout: TimeoutOption = None,
    max_attempts: AttemptsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Request a run every so often, on a grid that does not drift; a key that is there already is changed."""
    seconds = duration(interval, "TIME")
    assert seconds is not None
    options = _options(
        first=first, start=start, end=end, jitter=duration(jitter, "--jitter"), misfire=misfire,
        misfire_cap=misfire_cap, overlap=overlap, queue=queue, priority=priority, timeout=duration(timeout, "--timeout"),
        max_attempts=max_attempts,
    )  # fmt: skip
    body = payload_of(payload)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.schedules.every(key, seconds, task, body, **options))


def cron(
    key: KeyArgument,
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Minute, hour, day, month, day of week: '0 9 * * mon-fri'.")
    ],
    task: TaskArgument,
    payload: PayloadArgument = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    tz: Annotated[str, typer.Option("--tz", metavar="ZONE", help="On whose clocks: Europe/Berlin.")] = "UTC",
    first: FirstOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    misfire: MisfireOption = None,
    misfire_cap: CapOption = None,
    overlap: OverlapOption = None,
    queue: QueueOption = None,
    priority: PriorityOption = None,
    timeout: TimeoutOption = None,
    max_attempts: AttemptsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Request a run whenever the clocks of a zone show what a cron expression names; needs the extra cron."""
    options = _options(
        first=first, start=start, end=end, jitter=duration(jitter, "--jitter"), misfire=misfire,
        misfire_cap=misfire_cap, overlap=overlap, queue=queue, priority=priority, timeout=duration(timeout, "--timeout"),
        max_attempts=max_attempts,
    )  # fmt: skip
    body = payload_of(payload)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.schedules.cron(key, expression, task, body, tz=tz, **options))


def _options(**typed: Any) -> ScheduleOptions:
    if typed["misfire_cap"] is not None and typed["misfire"] != "all":
        raise wrong("--misfire-cap", "it goes with --misfire all")
    given: Any = {name: value for name, value in typed.items() if value is not None}
    return given  # type: ignore[no-any-return] # its keys are those of ScheduleOptions


def _tell(as_programs_want: bool, state: ScheduleState) -> None:
    paper = Paper(as_programs_want)
    if paper.programs:
        paper.document(shapes.schedule(state))
    else:
        tell_schedules(paper, [state])
