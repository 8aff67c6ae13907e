"""
Nurseries that a handler opened and did not leave: trio would end the task, and the nursery it stands in, with an error.

Rule: they are closed where they were left, innermost first, their children cancelled: then it is one attempt that fails.
Not here: cancel scopes that were left open; trio itself raises for these, in the attempt.
"""

from __future__ import annotations

from typing import Any

import trio

from ..store.errors import CallsheetError


class NurseryLeftOpen(CallsheetError):
    """The handler opened a nursery and ended without leaving it; the cause: the errors of its children. Its attempt failed."""

    def __str__(self) -> str:
        return "the handler opened a nursery and did not leave it: use `async with trio.open_nursery() as nursery`"


async def close_nurseries(task: trio.lowlevel.Task) -> None:
    """
    Close the nurseries that `task`, which is the current one, has opened and not left. Raises NurseryLeftOpen afterwards.

    Their children are cancelled and waited for, like those of a block that is cancelled. There is no public way to leave a
    nursery without what opened it, so this is what `NurseryManager.__aexit__` of trio does.
    """
    cause: BaseException | None = None
    while task.child_nurseries:
        nursery: Any = task.child_nurseries[-1]
        nursery.cancel_scope.cancel()
        raised = await nursery._nested_child_finished(None)  # noqa: SLF001 -- see above; a test notices when it is gone
        cause = nursery.cancel_scope._close(raised) or cause  # noqa: SLF001
    raise NurseryLeftOpen from cause
