"""
Coroutines that never wait, run to their end by whoever calls: so that the calls of users are written once.

Rule: what is driven reaches its store through `direct`, whose functions do what they do before they return.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)


class Fronts(Protocol[W_co]):
    """Stands before something whose calls are coroutines."""

    @property
    def behind(self) -> W_co:
        """What it stands before."""

    def entered(self) -> Any:
        """A context for the time of one call."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, or raises. It must not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise AssertionError("a call of a client waited for an event loop")


def driven(call: Callable[Concatenate[W, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Fronts[W], P], T]:
    """The method of a front that does what this method of what it stands before does, and returns when it is done."""

    @wraps(call)
    def method(self: Fronts[W], /, *arguments: P.args, **options: P.kwargs) -> T:
        with self.entered():
            return drive(call(self.behind, *arguments, **options))

    return method
