"""
What `@jobs.task(…)` decorates with: a declaration that waits for its handler.

Rule: the overloads are what a type checker knows of handlers; which of them it is, is found out in `handler`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from attrs import frozen

from .context import Context
from .handler import form_of
from .options import Declared
from .task import Task

if TYPE_CHECKING:
    from .jobs import Jobs
    from .sync_context import SyncContext

P = TypeVar("P")
R = TypeVar("R")


@frozen
class Declare:
    """Call it with the handler."""

    _jobs: Jobs
    _declared: Declared

    @overload
    def __call__(self, handler: Callable[[P, Context], Awaitable[R]]) -> Task[P, R]: ...
    @overload
    def __call__(self, handler: Callable[[P, SyncContext], R]) -> Task[P, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> Task[Any, Any]:
        """Declare it. Raises TypeError when it has another form, and AlreadyDeclared."""
        if isinstance(handler, Task):
            raise TypeError(f"task {self._declared.name!r} needs a function: {handler.name!r} is a task already")
        form = form_of(f"task {self._declared.name!r}", handler)
        task: Task[Any, Any] = Task(self._jobs, handler, self._declared, form)
        self._jobs.add(task)
        return task
