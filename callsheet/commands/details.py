"""
`callsheet runs show`: everything of one run.

Rule: payload and result are shown where they are asked for, what was raised in a line, and whole where that is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import shapes
from .asked import JobsOption, JsonOption, StoreOption, SubjectOption, TracebackOption
from .paper import Paper, as_json
from .reach import client_of, run_id
from .runs import RunArgument
from .text import at, counted, first_line, lasting

if TYPE_CHECKING:
    from ..runs import RunDetails
    from ..store.records import Attempt


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
        ("schedule", None if run.schedule_key is None else f"{run.schedule_key}, {at(run.nominal_us)}"),
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
