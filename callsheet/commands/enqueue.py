"""
`callsheet enqueue`: request a run from a shell.

Rule: the id of the run is all that stands on stdout, unless it is waited for or JSON is asked for: scripts take it.
Not here: what may be requested (`callsheet.enqueue`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from . import shapes
from .asked import (
    DelayOption,
    JobsOption,
    JsonOption,
    RunAtOption,
    StoreOption,
    SubjectOption,
    TracebackOption,
    duration,
    wrong,
)
from .paper import Paper, note
from .reach import client_of
from .runs import tell_ended
from .statuses import OK

if TYPE_CHECKING:
    from ..enqueue import EnqueueOptions, EnqueueResult

MAX_TEXT: Final = 16 * 1024 * 1024
"""Bytes of JSON text that are read: more than any payload may have, white space included."""


def enqueue(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The name of a task.")],
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="[PAYLOAD]", help="JSON; - reads it from stdin, @FILE from a file.", show_default="null"
        ),
    ] = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    delay: DelayOption = None,
    run_at: RunAtOption = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Idempotency key: the same key is the same run.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a key or id whose run has another task or payload.")
    ] = False,
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Another queue than the task's.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="0 (first) to 9.", show_default="5")] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="For each attempt: 90, 15m, 2h.")
    ] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts", help="Tries in all.")] = None,
    trace_id: Annotated[str | None, typer.Option("--trace-id", metavar="ID", help="Handed to every attempt.")] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="ID", help="An id of your own.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    wait_for: Annotated[
        str | None, typer.Option("--wait-for", metavar="TIME", help="Wait until it has ended, but no longer: 90, 15m.")
    ] = None,
    result: Annotated[bool, typer.Option("--result", help="Show what it returned; waits for it.")] = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> int:
    """
    Request one run, and print its id.

    When it is waited for: status 0 when it succeeded, 1 when it did not, 75 when the time was over; it goes on then.
    """
    paper = Paper(as_programs_want)
    given: dict[str, Any] = {
        "delay": duration(delay, "--delay"),
        "run_at": run_at,
        "idempotency_key": key,
        "on_conflict": "raise" if strict else None,
        "queue": queue,
        "priority": priority,
        "timeout": duration(timeout, "--timeout"),
        "max_attempts": max_attempts,
        "trace_id": trace_id,
        "run_id": run_id,
    }
    wait_s = duration(wait_for, "--wait-for")
    waits = wait or result or wait_s is not None
    body = payload_of(payload)
    options: EnqueueOptions = {name: value for name, value in given.items() if value is not None}  # type: ignore[assignment]
    with client_of(store, jobs, subject, traceback=traceback) as client:
        made = client.enqueue(task, body, **options)
        _tell(paper, made, waits=waits)
        if not waits:
            return OK
        return tell_ended(paper, client.runs.wait(made.run_id, timeout=wait_s), result=result)


def _tell(paper: Paper, made: EnqueueResult, *, waits: bool) -> None:
    if made.deduped:
        differs = "" if made.payload_matches else ", with another task or payload"
        note(f"it was requested before{differs}: it is {made.run.status}")
    if not paper.programs:
        paper.say(made.run_id)
    elif not waits:
        paper.document(shapes.requested(made))
    paper.flush()


def payload_of(typed: str | None) -> Any:
    """The JSON value that was meant. Raises PayloadInvalid, or OSError where there is nothing to read it from."""
    if typed is None:
        return None
    text = _text(typed)
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _refuse(f"is no JSON: {error.msg} at line {error.lineno}, column {error.colno}{_hint(typed)}")
    except (ValueError, RecursionError) as error:  # a number of too many digits, a depth that nothing has
        _refuse(f"is no JSON that can be used: {error}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value of JSON")


def _refuse(why: str) -> NoReturn:
    from ..store.errors import PayloadInvalid

    raise PayloadInvalid("$", why)


def _hint(typed: str) -> str:
    if typed[:1].isalpha():
        return "; a text needs its quotes too, as in '\"hello\"'"
    return ""


def _text(typed: str) -> str:
    if typed == "-":
        if sys.stdin is None:
            raise wrong("PAYLOAD", "there is no stdin to read it from")
        body = sys.stdin.buffer.read(MAX_TEXT + 1)
    elif typed.startswith("@"):
        path = Path(typed[1:])
        if path.is_file() and path.stat().st_size > MAX_TEXT:
            _refuse(f"{path} is larger than any payload may be")
        body = path.read_bytes()
    else:
        return typed
    if len(body) > MAX_TEXT:
        _refuse("it is larger than any payload may be")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(f"is no UTF-8: byte {error.start:,} cannot be read")
