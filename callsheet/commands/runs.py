"""
`callsheet runs`: list runs, wait for them, and ask why they wait.

Rule: reading only. Payloads and results are shown where they are asked for.
Not here: one run with its history (`details`), cancel and replay (`steering`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..store.records import Status
from . import shapes
from .asked import (
    BeforeFilter,
    JobsOption,
    JsonOption,
    KeyFilter,
    Misuse,
    OriginFilter,
    QueueFilter,
    ScheduleFilter,
    SinceFilter,
    StatusFilter,
    StoreOption,
    SubjectOption,
    TaskFilter,
    TracebackOption,
    TraceFilter,
    duration,
)
from .paper import Paper, as_json, note
from .reach import client_of, query, run_id
from .statuses import NOT_SO, OK
from .text import age, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..client.client import Client
    from ..runs import RunQuery
    from ..store.records import Run

PAGE: Final = 500
"""Runs that are read at a time."""
COLUMNS: Final = ("id", "status", "task", "queue", "attempt", "spent", "age", "due", "cause")
SPARE: Final = ("spent", "queue", "due", "attempt", "task", "cause")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Its id, or as much of its beginning as is clear.")]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Their ids, or as much of the beginning of each as is clear.")
]


def show_list(
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    task: TaskFilter = None,
    queue: QueueFilter = None,
    status: StatusFilter = None,
    key: KeyFilter = None,
    trace_id: TraceFilter = None,
    replay_of: OriginFilter = None,
    schedule: ScheduleFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    after: Annotated[
        str | None, typer.Option("--after", metavar="RUN", help="Go on below this run: the last one shown before.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="However many there are.")] = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """
    List runs, newest first.

    With --json, each line is one run. Pages follow one another with --after.
    """
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        where = query(
            client,
            task=task,
            queue=queue,
            status=status,
            key=key,
            trace_id=trace_id,
            replay_of=replay_of,
            schedule=schedule,
            since=since,
            before=before,
        )
        follows, last, now_us = False, None, client.port.seams.clock.wall_us()
        for page, more in pages(client, where, None if every else limit, after):
            if paper.programs:
                paper.lines(shapes.run(each) for each in page)
            else:
                paper.table(COLUMNS, [row(each, now_us) for each in page], spare=SPARE, follows=follows)
            paper.flush()
            if not paper.is_open:
                return
            follows, last = True, more
    if not follows and not paper.programs:
        note("no runs match")
    if last is not None:
        note(f"there are more: --after {last}")


def pages(
    client: Client, where: RunQuery, most: int | None, after: str | None = None
) -> Iterator[tuple[Sequence[Run], str | None]]:
    """Runs that match, in pages that are not empty, newest first; and below which run there are more."""
    left = most
    while left is None or left > 0:
        page = client.runs.list(limit=PAGE if left is None else min(PAGE, left), after=after, **where)
        if page.runs:
            yield page.runs, page.next
        if page.next is None:
            return
        after, left = page.next, None if left is None else left - len(page.runs)


def row(run: Run, now_us: int) -> tuple[object, ...]:
    """A line of the table."""
    cause = "" if run.cause is None else first_line(run.cause)
    if run.stuck_since_us is not None:
        cause = f"told to stop {age(now_us - run.stuck_since_us)} ago, goes on"
    due_us = shapes.due_us(run)
    return (
        run.id,
        run.status,
        run.task,
        shapes.short(run.lane.queue),
        run.attempt,
        f"{run.spent}/{run.max_attempts}",
        age(now_us - run.created_us),
        "" if due_us is None else "now" if due_us <= now_us else f"in {age(due_us - now_us)}",
        cause,
    )


def wait(
    runs: RunsArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Give up after so long: 90, 15m.", show_default="never"),
    ] = None,
    result: Annotated[bool, typer.Option("--result", help="Show what the runs returned.")] = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> int:
    """
    Wait until runs have ended.

    Status 0 when all of them succeeded, 1 when one did not, 75 when the time was over.
    """
    paper, status = Paper(as_programs_want), OK
    timeout_s = duration(timeout, "--timeout")
    with client_of(store, jobs, subject, traceback=traceback) as client:
        clock = client.port.seams.clock
        until_s = None if timeout_s is None else clock.mono_s() + timeout_s
        for each in [run_id(client, each) for each in runs]:
            left_s = None if until_s is None else max(0.0, until_s - clock.mono_s())
            status = max(status, tell_ended(paper, client.runs.wait(each, timeout=left_s), result=result))
    return status


def tell_ended(paper: Paper, run: Run, *, result: bool) -> int:
    """Say how a run ended. Returns OK or NOT_SO."""
    if paper.programs:
        paper.lines([shapes.ended(run, result=result)])
    else:
        cause = "" if run.cause is None or run.status is Status.SUCCEEDED else f" ({first_line(run.cause)})"
        paper.say(f"{run.id} {run.status}{cause}")
        if result and run.result is not None:
            paper.say(as_json(shapes.ended(run, result=True)["result"]))
    paper.flush()
    return OK if run.status is Status.SUCCEEDED else NOT_SO


def why(
    run: RunArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """
    Say why a run is where it is, and what holds it up.

    What holds up the slots and tasks of a runtime is known to that runtime only; its page tells.
    """
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        found = client.runs.explain(run_id(client, run))
    if paper.programs:
        paper.document(shapes.explanation(found))
    else:
        paper.say(f"{found.run_id}: {found.text}")


def check_one_way(ids: Sequence[str] | None, every: bool, where: dict[str, Any]) -> None:
    """Raises a usage error unless either ids or `--all` were given, and filters with `--all` only."""
    filters = [f"--{name.replace('_', '-')}" for name, value in where.items() if value is not None]
    if ids and every:
        raise Misuse("runs are named, and --all is said: which of them is meant?")
    if ids and filters:
        raise Misuse(f"{filters[0]} goes with --all, not with runs that are named")
    if not ids and not every:
        raise Misuse("no run is named: name some, or say --all, with filters that say which")
