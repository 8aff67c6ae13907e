"""
Whether a Cancelled is meant for this task.

Rule: a Cancelled that is raised where nothing is cancelled has strayed from the scope it belongs to (somebody kept it, and
raised it later). It is an error like any other: let into the nursery, it would cancel every actor in silence.
"""

from __future__ import annotations

import math

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
