"""
A runtime as a process of its own: from opening to the end, signals and handlers that never end included.

Rule 1: once it is asked to stop it ends, whatever a handler does: what ignores its cancellation is waited for a while longer,
then named and left. By then everything acknowledged is durable.
Rule 2: the monitor's secret is shown to a person only: what is not a terminal is a log.
Not here: what was typed (`run`), how a runtime stops (`callsheet.opening`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from inspect import isawaitable
from typing import Any, Final

import trio
from attrs import define

from ..actors.cancellation import raise_as_it_was, single
from ..actors.seams import Seams
from ..jobs import Jobs
from ..opening import open_runtime
from ..runtime import Runtime
from .paper import Paper, is_terminal
from .statuses import OK, SOFTWARE
from .text import counted, escaped, listed

_log = logging.getLogger("callsheet.run")

LAST_WAIT_S: Final = 2.0
"""How much longer handlers are waited for that ignore their cancellation, once all else has stopped."""
ROOT: Final = ""
"""The path of whatever all else stands under."""
LOOK_S: Final = 0.1
"""Between two looks at whether all else has stopped."""


@define(eq=False)
class Stage:
    """What is to be run, and how."""

    store: str
    jobs: Sequence[Jobs]
    options: dict[str, Any]
    """Of `open_runtime`."""
    app: Callable[[], Any] | None = None
    """Makes what handlers find as `ctx.app`."""


def serve(stage: Stage, log_level: str) -> int:
    """Run until a signal ends it. Returns the exit status."""
    log_to_stderr(log_level)
    try:
        trio.run(partial(play, stage))
    except BaseExceptionGroup as group:
        raise_as_it_was(single(group))
    return OK


async def play(stage: Stage, seams: Seams | None = None) -> None:
    """The same inside an event loop that is there already."""
    paper, seams = Paper(), seams or Seams.real()
    async with (
        _made(stage.app) as app,
        open_runtime(stage.store, *stage.jobs, app=app, signals=True, seams=seams, **stage.options) as runtime,
    ):
        try:
            paper.say(up(runtime, show_secret=is_terminal(sys.stdout)))
            paper.flush()
            await runtime.forever()
        finally:
            trio.lowlevel.spawn_system_task(_give_up, runtime, name="callsheet run")


@asynccontextmanager
async def _made(make: Callable[[], Any] | None) -> AsyncIterator[Any]:
    """What handlers are given: as it is, awaited, or entered for as long as they may need it."""
    made: Any = None if make is None else make()
    if isawaitable(made):
        made = await made
    if hasattr(made, "__aenter__"):
        async with made as entered:
            yield entered
    elif hasattr(made, "__enter__"):
        with made as entered:
            yield entered
    else:
        yield made


def up(runtime: Runtime, *, show_secret: bool) -> str:
    """The line that says what works where."""
    tasks = sum(len(each.tasks) for each in runtime.jobs)
    names = listed(each.identity for each in runtime.jobs)
    queues = listed((each.partition("/")[2] for each in runtime.watched), most=10)
    said = f"{names}: {counted(tasks, 'task')} on {runtime.store.name}, queues {queues}, process {runtime.owner.pid}"
    if runtime.monitor_url is None:
        return said
    link, _, _ = runtime.monitor_url.partition("#")
    return (
        f"{said}, monitor {runtime.monitor_url if show_secret else f'{link} (its secret is shown on a terminal only)'}"
    )


async def _give_up(runtime: Runtime) -> None:
    """End the process, once only handlers are left that ignore their cancellation, and have had time enough."""
    while runtime.system.whereis(ROOT) is not None:  # noqa: ASYNC110 -- looked at while it stops, and by nobody else
        await trio.sleep(LOOK_S)
    await trio.sleep(LAST_WAIT_S)
    if runtime.on_stage or runtime.system.stage.registry:
        for line in left(runtime):
            _log.critical("%s", line)
        _end(runtime.seams)


def left(runtime: Runtime) -> list[str]:
    """Who does not end."""
    said = []
    for slots in runtime.slots.values():
        for run_id, actor in slots.on_stage.items():
            task = "?" if actor is None else actor.claimed.lane.task
            said.append(
                f"gave up waiting for run {run_id} of task {task}: its handler ignores its cancellation. It stays running in "
                "the store, and the next runtime that opens it takes it back"
            )
    return said or [f"gave up waiting for {listed(runtime.system.stage.registry)}"]


def _end(seams: Seams) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    seams.exit(SOFTWARE)


# ---------------------------------------------------------------- the log


class OneLine(logging.Formatter):
    """A line for each record, whatever is in its message; only a traceback goes on over several."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- named by logging
        """See `logging.Formatter`."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- named by logging
        """See `logging.Formatter`."""
        return escaped(super().formatException(ei), keep="\n")


def log_to_stderr(level: str) -> None:
    """As the module set it up, if it did; else everything of that level and above, on stderr."""
    root = logging.getLogger()
    if root.handlers:
        logging.getLogger("callsheet").setLevel(level)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    root.addHandler(handler)
    root.setLevel(level)
