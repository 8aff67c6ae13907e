"""What the command line is pointed at: Jobs as a user's module has them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from callsheet import Context, Jobs, Queue, Retry, SyncContext

NASTY = "\x1b]0;owned\x07\x1b[31mred\rback\b\x7f \u202egnirts [bold]markup[/bold]"
"""What a terminal would obey: a title, a colour, a return, a backspace, a change of direction; and what rich would."""

jobs = Jobs("board", namespace="app", queue=Queue(concurrency=10), queues=[Queue("mail")], retry=Retry(initial_delay=0))
others = Jobs("others", namespace="app")
both = [jobs, others]


@jobs.task("echo")
async def echo(payload: object, ctx: Context) -> object:
    """What it was given."""
    return payload


@jobs.task("fail", retry=Retry(attempts=2))
async def fail(payload: str, ctx: Context) -> None:
    """Always."""
    raise ValueError(payload)


@jobs.task("sleep")
async def sleep(payload: float, ctx: Context) -> None:
    """For so long."""
    ctx.progress({"asleep": payload})
    await trio.sleep(payload)


@jobs.task("deaf")
async def deaf(payload: float, ctx: Context) -> None:
    """For so long, whatever it is told."""
    with trio.CancelScope(shield=True):
        await trio.sleep(payload)


@jobs.task("deaf-thread")
def deaf_thread(payload: float, ctx: SyncContext) -> None:
    """The same in a thread."""
    threading.Event().wait(payload)


@jobs.task("send", queue="mail")
async def send(payload: object, ctx: Context) -> None:
    """A mail."""


@jobs.task("services")
async def services(payload: None, ctx: Context) -> str:
    """What the program gives to handlers."""
    return f"{ctx.app}"


def made() -> list[Jobs]:
    """Jobs that a function returns."""
    return [jobs]


def careless() -> Any:
    """A function that raises."""
    raise RuntimeError("not today")


@asynccontextmanager
async def opened() -> AsyncIterator[str]:
    """What handlers find as ctx.app; says when it is closed."""
    yield "services"
    await trio.Path("closed").touch()


number = 5
