"""
The task of an incarnation that needs one: from its start, or from the first thing it had to wait for, to its end.

Rule: whatever the actor raises becomes an Exit; only a cancellation passes, and the cell is told of the end in any case.
Not here: an incarnation without a task, and everything that outlives one (`cell`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import trio
from attrs import define

from .actor import Actor
from .cancellation import is_cancellation
from .exits import NORMAL, Crashed, Exit, Shutdown, StartFailed, error_of

if TYPE_CHECKING:
    from .cell import Cell


@define(eq=False)
class First:
    """What the task begins with: at most one of the three."""

    starting: Awaitable[None] | None = None
    handling: Awaitable[None] | None = None
    cleaning: Awaitable[None] | None = None
    message: Any = None
    """What is handled."""
    exit_: Exit = NORMAL
    """How it ends, once it has cleaned up."""


@trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task, whatever runs when it comes
async def live(cell: Cell[Any], scope: trio.CancelScope, actor: Actor[Any], first: First) -> None:
    """One incarnation of `cell`, inside `scope`."""
    exit_: Exit = Shutdown("the scope around it was cancelled")
    cell.task = trio.lowlevel.current_task()
    try:
        with scope:
            exit_ = await _until_its_end(cell, actor, first)
    except BaseException as error:
        if is_cancellation(error):
            raise
        exit_ = Crashed(error)  # of a scope or a nursery that the actor opened within ours, and held on to
    finally:  # also when a scope around us was cancelled: the bookkeeping is synchronous
        cell.finish(exit_)


async def _until_its_end(cell: Cell[Any], actor: Actor[Any], first: First) -> Exit:
    try:
        if first.starting is not None:
            await first.starting
    except BaseException as error:
        if is_cancellation(error):
            raise
        return StartFailed(error)  # its supervisor judges it
    if first.cleaning is not None:
        return await _clean_up(first.cleaning, first.exit_)
    try:
        if first.handling is None:
            await trio.lowlevel.checkpoint_if_cancelled()  # killed while it started, whatever it made of that
            cell.has_started()
        else:
            await _handle(cell, first.handling, first.message)
        await actor.run()
        exit_ = cell.own_exit()
    except BaseException as error:
        if is_cancellation(error):
            ended = await _clean_up(actor, Shutdown())
            if is_cancellation(error):
                raise
            # what was cancelled is a nursery of its own, closed by now: let out, it would cancel every actor in silence
            return ended if isinstance(ended, Crashed) else Crashed(error)
        exit_ = Crashed(error)  # its supervisor judges it
    cell.is_stopping()
    return await _clean_up(actor, exit_)


async def _handle(cell: Cell[Any], handling: Awaitable[None], message: Any) -> None:
    try:
        await handling
    except BaseException as error:
        cell.crashed_over(message, error)
        raise


async def _clean_up(what: Actor[Any] | Awaitable[None], exit_: Exit) -> Exit:
    """Run `on_stop`, or what it returned, after an end like `exit_`."""
    try:
        cleaning = what.on_stop() if isinstance(what, Actor) else what
        if cleaning is not None:
            await cleaning
    except BaseException as error:
        if is_cancellation(error):
            raise
        return crashed_after(exit_, error)  # its supervisor judges it
    return exit_


def crashed_after(exit_: Exit, error: BaseException) -> Crashed:
    """`on_stop` raised `error`; what the actor had crashed over before is its context, as in a `finally`."""
    former = error_of(exit_)
    if former is not error and error.__context__ is None:
        error.__context__ = former
    return Crashed(error)
