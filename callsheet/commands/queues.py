"""
`callsheet queues`: how the queues stand, and how they shall work from now on, in all processes.

Rule: what is said here is kept in the store, over what the code declares; `reset` takes it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..store.records import Status
from . import shapes
from .asked import (
    JobsOption,
    JsonOption,
    StoreOption,
    SubjectOption,
    TracebackOption,
    duration,
    refuse_early,
)
from .paper import Paper
from .reach import client_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..queues import QueueState

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of a queue.")]
COLUMNS = (
    "queue",
    "state",
    "running",
    "queued",
    "scheduled",
    "retrying",
    "concurrency",
    "batch",
    "global limit",
    "said",
)


def show_queues(
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show all queues: what runs, what waits, which limits hold."""
    paper = Paper(as_programs_want)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        states = client.queues.list()
    if paper.programs:
        paper.document({"queues": [shapes.queue(each) for each in states]})
    else:
        tell_queues(paper, states)


def at_once(
    context: typer.Context,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Show queues; pause them, and change their limits."""
    if context.invoked_subcommand is None:
        show_queues(store=store, jobs=jobs, as_programs_want=as_programs_want, subject=subject, traceback=traceback)
        return
    refuse_early(context)


def tell_queues(paper: Paper, states: Sequence[QueueState]) -> None:
    """The table of queues."""
    paper.table(COLUMNS, [_row(each) for each in states], spare=("batch", "global limit", "said"))


def _row(state: QueueState) -> tuple[object, ...]:
    return (
        state.name,
        "paused" if state.paused else "open",
        state.running,
        *(state.waiting[each] for each in (Status.QUEUED, Status.SCHEDULED, Status.RETRYING)),
        state.concurrency,
        state.batch_size,
        "none" if state.global_limit is None else state.global_limit,
        ", ".join(shapes.queue(state)["overridden"]),
    )


def pause(
    name: NameArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Start nothing more of a queue; what runs goes on."""
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.queues.pause(name))


def resume(
    name: NameArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """End a pause."""
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.queues.resume(name))


def set_limits(
    name: NameArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Slots in each runtime.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Runs per claim, at most.")] = None,
    global_limit: Annotated[
        int | None, typer.Option("--global-limit", help="Runs that may be running in the whole store; 0: any number.")
    ] = None,
    visibility_timeout: Annotated[
        str | None, typer.Option("--visibility-timeout", metavar="TIME", help="The lease of what is claimed: 15, 2m.")
    ] = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Put other limits over the declared ones, until `reset`."""
    limits: dict[str, Any] = {
        "concurrency": concurrency,
        "batch_size": batch_size,
        "global_limit": global_limit,
        "visibility_timeout": duration(visibility_timeout, "--visibility-timeout"),
    }
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.queues.set(name, **limits))


def reset(
    name: NameArgument,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Let the declared limits hold again; a pause stays."""
    with client_of(store, jobs, subject, traceback=traceback) as client:
        _tell(as_programs_want, client.queues.reset(name))


def _tell(as_programs_want: bool, state: QueueState) -> None:
    paper = Paper(as_programs_want)
    if paper.programs:
        paper.document(shapes.queue(state))
    else:
        tell_queues(paper, [state])
