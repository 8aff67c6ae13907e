"""
`callsheet run`: work on the jobs of a module until a signal comes.

Rule: everything that can be wrong with what was typed is told before the store is touched.
Not here: from opening to the end (`serving`), what a module:attribute names (`target`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .asked import JOBS_VARIABLE, StoreOption, TracebackOption, duration, wrong
from .reach import where
from .text import listed

if TYPE_CHECKING:
    from ..monitor import Monitor

TOKEN_VARIABLE: Final = "CALLSHEET_MONITOR_TOKEN"  # noqa: S105 -- where the secret is looked for, not the secret
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def run(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:ATTRIBUTE…",
            envvar=JOBS_VARIABLE,
            help="The Jobs to run, as in app:jobs: an instance, a list, a function that returns one; a module: all in it.",
        ),
    ],
    *,
    store: StoreOption = None,
    queues: Annotated[
        str | None, typer.Option("--queues", metavar="A,B", help="Run only what waits in these.", show_default="all")
    ] = None,
    max_running: Annotated[
        int | None, typer.Option("--max-running", help="Runs on stage at once, in all queues together.")
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace", metavar="TIME", help="What handlers are given to end after a signal.", show_default="8"
        ),
    ] = None,
    monitor: Annotated[bool, typer.Option("--monitor", help="Serve the monitor's page on this machine.")] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Of the monitor; implies --monitor.", show_default="any that is free"),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:ATTRIBUTE",
            help="What handlers find as ctx.app; a function is called for it, and a context manager entered.",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", metavar="LEVEL", help=f"{', '.join(LEVELS)}.")] = "info",
    traceback: TracebackOption = False,
) -> int:
    """
    Run the jobs of a module until SIGTERM or Ctrl-C.

    The first signal lets handlers end within the grace, then cancels them and hands their runs back; a second one cancels
    at once. Status 0 then; 70 when a handler goes on for ever although it was cancelled: its run is named, and taken back
    by the next runtime that opens the store.
    """
    from . import serving, target

    path = where(store)
    if log_level.lower() not in LEVELS:
        raise wrong("--log-level", f"{log_level!a} is none of {', '.join(LEVELS)}")
    options: dict[str, Any] = {
        "queues": None if queues is None else [each.strip() for each in queues.split(",") if each.strip()],
        "max_running": max_running,
        "grace": duration(grace, "--grace"),
        "monitor": _monitor(port or 0) if monitor or port is not None else None,
    }
    jobs = [each for one in targets for each in target.load_jobs(one, show_traceback=traceback)]
    named = list(dict.fromkeys(jobs))
    twice = {each.identity for each in named if sum(other.identity == each.identity for other in named) > 1}
    if twice:
        raise target.CannotLoad(" ".join(targets), f"there are several Jobs named {listed(sorted(twice))}")
    stage = serving.Stage(path, named, {name: value for name, value in options.items() if value is not None})
    stage.app = None if app is None else lambda: _app(app, traceback)
    return serving.serve(stage, log_level.upper())


def _monitor(port: int) -> Monitor:
    from ..monitor import Monitor

    return Monitor(port=port, token=os.environ.get(TOKEN_VARIABLE))


def _app(app: str, traceback: bool) -> Any:
    from . import target

    found = target.load(app, show_traceback=traceback)
    is_made = callable(found) and (isinstance(found, type) or hasattr(found, "__code__"))
    return target.called(app, found, show_traceback=traceback) if is_made else found
