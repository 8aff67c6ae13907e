"""
Whether a Cancelled is meant for this task, and what came out of a nursery beside it.

Rule: a Cancelled that is raised where nothing is cancelled has strayed from the scope it belongs to (somebody kept it, and
raised it later). It is an error like any other: let into the nursery, it would cancel every actor in silence.
"""

from __future__ import annotations

import math
from typing import NoReturn

import trio


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` is trio's way of telling the current task, here and now, to stop."""
    return trio.current_effective_deadline() == -math.inf and _only_cancelled(error)


def _only_cancelled(error: BaseException) -> bool:
    """Whether `error` is a Cancelled, or a group of nothing else (`split` would recurse: a group may be very deep)."""
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        elif not isinstance(each, trio.Cancelled):
            return False
    return True


def without_cancelled(error: BaseException) -> BaseException | None:
    """What is left of `error` when every Cancelled is taken out of it."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def single(error: BaseException) -> BaseException:
    """The one exception in groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def raise_as_it_was(error: BaseException) -> NoReturn:
    """Raise again what was kept, with the context it had."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
