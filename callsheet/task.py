"""
A task: a named handler with its own policy.

Rule: everything that can be wrong with a handler or an option is found when it is declared, not when a run fails.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, Unpack

from attrs import define, field

from .context import Context
from .enqueue import EnqueueOptions, EnqueueResult, Entry
from .store.policy import RetryPolicy
from .store.records import Lane

if TYPE_CHECKING:
    from .jobs import Jobs

P = TypeVar("P")
R = TypeVar("R")

DEFAULT_SCHEMA: Final = "1"


@define(eq=False)
class Task(Generic[P, R]):
    """A declared task. Made by `@jobs.task(name, ...)`."""

    jobs: Jobs
    name: str
    handler: Callable[[P, Context], Awaitable[R]]
    """The undecorated function: call it in a plain unit test."""
    policy: RetryPolicy
    """The task's retry policy over the instance's, nothing left open."""
    timeout_us: int | None
    """Of one attempt."""
    lane: Lane
    payload_type: Any = field(init=False)
    """The annotation of the handler's first parameter; None accepts any JSON value."""

    def __attrs_post_init__(self) -> None:
        self.payload_type = _payload_type(self.name, self.handler)

    async def enqueue(self, payload: P, **options: Unpack[EnqueueOptions]) -> EnqueueResult:
        """As `Jobs.enqueue`, for this task, with the payload's type checked."""
        return await self.jobs.enqueue(self, payload, **options)

    def entry(self, payload: P, **options: Unpack[EnqueueOptions]) -> Entry:
        """One run for `Jobs.enqueue_many`."""
        return Entry(self, payload, options)


def _payload_type(name: str, handler: Callable[..., object]) -> Any:
    if not callable(handler):
        raise TypeError(f"the handler of task {name!r} must be an async function, not {type(handler).__name__}")
    if not inspect.iscoroutinefunction(handler):
        shown = getattr(handler, "__name__", "handler")
        raise TypeError(f"the handler of task {name!r} must be an async function: `async def {shown}(payload, ctx)`")
    parameters = list(inspect.signature(handler).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(positional) < 2 or len(required) > 2:
        raise TypeError(f"the handler of task {name!r} must take (payload, ctx), not {inspect.signature(handler)}")
    first = positional[0].annotation
    if first is inspect.Parameter.empty:
        return None
    try:  # of this one only: the others may well be imported for type checkers alone
        bare = SimpleNamespace(__annotations__={"payload": first})
        hint = typing.get_type_hints(bare, globalns=getattr(inspect.unwrap(handler), "__globals__", {}))["payload"]
    except NameError as error:
        raise TypeError(f"the type of the payload of task {name!r} cannot be resolved: {error}") from error
    return None if hint in (Any, object) else hint
