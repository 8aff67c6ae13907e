"""
`callsheet runs`: look at runs, wait for them, and ask why they wait.

Rule: reading only. Payloads and results are shown where they are asked for.
Not here: cancel and replay (`steering`).
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
from .text import age, at, counted, first_line, lasting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..client.client import Client
    from ..runs import RunDetails, RunQuery
    from ..store.records import Attempt, Run

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


def show(
    run: RunArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload and the result too.")] = False,
    errors: Annotated[bool, typer.Option("--errors", help="Show what attempts raised with its traceback.")] = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show one run with its attempts and transitions."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        found = client.runs.get(run_id(client, run))
    if paper.programs:
        paper.document(shapes.details(found, payload=payload))
        return
    width = max(len(name) for name, _ in _facts(found, payload=payload))
    for name, value in _facts(found, payload=payload):
        paper.say(f"{name:{width}}  {value}")
    if found.attempts:
        paper.say()
        paper.heading(_attempts_heading(found))
        paper.table(
            ("attempt", "started", "took", "outcome", "raised"), [_attempt_row(each) for each in found.attempts]
        )
    paper.say()
    paper.heading("Transitions")
    paper.table(
        ("at", "status", "by", "attempt", "cause"),
        [
            (at(each.at_us), each.now, each.move, each.attempt or "", first_line(each.cause or ""))
            for each in found.transitions
        ],
    )
    for each in found.attempts if errors else ():
        if each.error is not None:
            paper.say()
            paper.heading(f"What attempt {each.n} raised")
            paper.say(each.error.traceback or f"{each.error.type}: {each.error.message}")


def _facts(found: RunDetails, *, payload: bool) -> list[tuple[str, str]]:
    run = found.run
    waits = {"time": "; it waits for its time", "slot": "; it waits for a slot", None: ""}[found.waiting_for]
    facts: list[tuple[str, object]] = [
        ("run", run.id),
        ("status", f"{run.status}{waits}"),
        ("cause", run.cause),
        ("jobs", run.lane.jobs),
        ("task", f"{run.task} (schema {run.lane.schema})"),
        ("queue", f"{shapes.short(run.lane.queue)}, priority {run.priority}"),
        ("tries", f"{run.spent} of {run.max_attempts} spent"),
        ("timeout", None if run.timeout_us is None else lasting(run.timeout_us)),
        ("requested", at(run.created_us)),
        ("due", at(shapes.due_us(run))),
        ("ended", at(run.ended_us)),
        ("stuck since", at(run.stuck_since_us)),
        ("runtime", run.owner),
        ("key", run.idempotency_key),
        ("trace", run.trace_id),
        ("replay of", run.replay_of),
        ("reason", run.reason),
        ("replayed by", ", ".join(found.replays)),
        ("progress", None if run.progress is None else as_json(found.progress)),
        ("payload", as_json(found.payload) if payload else _size(run.payload)),
        ("result", as_json(found.result) if payload and run.result is not None else _size(run.result)),
        ("no result", run.result_error),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _size(body: bytes | None) -> str | None:
    return None if body is None else f"{counted(len(body), 'byte')} (--payload shows it)"


def _attempts_heading(found: RunDetails) -> str:
    told, n = len(found.attempts), found.run.attempt
    return "Attempts" if told == n else f"Attempts (the first and the last of {n:,})"


def _attempt_row(each: Attempt) -> tuple[object, ...]:
    took = "" if each.ended_us is None else lasting(each.ended_us - each.started_us)
    raised = "" if each.error is None else f"{each.error.type}: {first_line(each.error.message)}"
    if each.late_outcome is not None:
        raised = f"{raised} (later it {each.late_outcome})".strip()
    return each.n, at(each.started_us), took, each.outcome or "running", raised


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
