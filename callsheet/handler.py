"""
What may be a handler: found out when it is declared, not when a run fails.

Rule: a callable of (payload, ctx) that is an `async def`, or a plain function, which then runs in a thread. What would hand
back something else than its result (a generator, a coroutine out of a plain function) is refused.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, Literal, TypeAlias

from attrs import frozen

from .store.converter import unreadable

HandlerKind: TypeAlias = Literal["async", "sync"]

_CONTEXTS: Final = {"async": "Context", "sync": "SyncContext"}


@frozen
class Form:
    """What a handler turned out to be."""

    kind: HandlerKind
    payload_type: Any
    """The annotation of its first parameter; None accepts any JSON value."""


def form_of(what: str, handler: Callable[..., object], takes: str = "(payload, ctx)") -> Form:
    """
    The form of a handler, a function, a `functools.partial`, a bound method or a callable object.

    what: whose it is, for errors. takes: its two parameters as its author should write them. Raises TypeError.
    """
    owner, what = what, f"the handler of {what}"
    kind = _kind_of(what, handler, takes)
    first, second = _parameters(what, handler, takes)
    wrong = _CONTEXTS["sync" if kind == "async" else "async"]
    if _last_name(second.annotation) == wrong:
        raise TypeError(
            f"{what} must take a {_CONTEXTS[kind]}, not a {wrong}: "
            f"it is {'an async' if kind == 'async' else 'a plain'} function"
        )
    return Form(kind, _type_of(owner, handler, first.annotation))


def _kind_of(what: str, handler: Callable[..., object], takes: str) -> HandlerKind:
    if isinstance(handler, type) or not callable(handler):
        shown = f"the class {handler.__name__}" if isinstance(handler, type) else type(handler).__name__
        raise TypeError(f"{what} must be a function of {takes}, not {shown}")
    called = function_of(handler)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(f"{what} must return its result, not yield: it is a generator function")
    if inspect.iscoroutinefunction(called):
        return "async"
    if inspect.iscoroutinefunction(inspect.unwrap(called)):
        raise TypeError(
            f"{what} must be awaitable as a whole: it is a plain function around an async one; make it async"
        )
    return "sync"


def function_of(handler: Callable[..., object]) -> Callable[..., object]:
    """The function that runs when it is called: what a partial is of, what an object's `__call__` is."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isroutine(handler):
        return handler
    return typing.cast("Callable[..., object]", type(handler).__call__)


def _parameters(what: str, handler: Callable[..., object], takes: str) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must take {takes}: what it takes cannot be seen") from error
    parameters = list(signature.parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(positional) < 2 or len(required) > 2 or any(p not in positional[:2] for p in required):
        raise TypeError(f"{what} must take {takes}, not {signature}")
    return positional[:2]


def _type_of(owner: str, handler: Callable[..., object], annotation: object) -> Any:
    if annotation is inspect.Parameter.empty:
        return None
    names = getattr(inspect.unwrap(function_of(handler)), "__globals__", {})
    try:  # of this one only: the others may well be imported for type checkers alone
        hint = typing.get_type_hints(SimpleNamespace(__annotations__={"payload": annotation}), globalns=names)[
            "payload"
        ]
    except NameError as error:
        raise TypeError(f"the type of the payload of {owner} cannot be resolved: {error}") from error
    if hint in (Any, object):
        return None
    check_readable(owner, hint)
    return hint


def check_readable(owner: str, payload_type: Any) -> None:
    """Raise TypeError when no payload could be of this type, as far as it can be told by now."""
    what = unreadable(payload_type)
    if what is not None:
        raise TypeError(
            f"the type of the payload of {owner} has {what}, which nothing in JSON becomes: "
            "use what JSON knows, attrs classes, dataclasses, enums or datetimes"
        )


def _last_name(annotation: object) -> str:
    """`Context` for the class, and for its name as text, however it is reached."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return str(name).rpartition(".")[2]
