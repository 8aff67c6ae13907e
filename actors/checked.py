"""
What an actor says that it takes, read from its declaration: `class Mailer(Actor[Send | Flush])`.

Rule: only what `isinstance` can tell is checked; a declaration that says less, or what no `isinstance` can tell, leaves
    the actor unchecked. A message that the type checker lets through is never refused here.
Not here: when to check (a system in checked mode does, at `tell`).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, TypeVar, Union, get_args, get_origin

from .actor import Actor

Kinds: TypeAlias = tuple[type, ...] | None
"""What `isinstance` is asked; None: nothing is."""

MAX_CLASSES: Final = 1_000
"""Classes whose declaration is remembered; a program has a few, a test suite that makes its own has many."""
_PROMOTED: Final[Mapping[object, tuple[type, ...]]] = {float: (float, int), complex: (complex, float, int)}
"""Type checkers take an int for a float."""
_ALIAS: Final = getattr(typing, "TypeAliasType", None)  # `type X = ...`, from Python 3.12 on


@lru_cache(MAX_CLASSES)
def declared(cls: type[Actor[Any]]) -> Kinds:
    """
    The classes of messages that `cls` declared as the parameter of `Actor`, itself or by way of generic bases.

    None when it is unchecked: no declaration, `Any`, a type variable that nobody bound, a forward reference, a protocol
    that is not `runtime_checkable`. Empty for `Never`: it takes nothing. A generic type counts as its origin, a literal
    as the type of its value, `float` as `float | int`. In no order that counts: to `typing`, `A | B` and `B | A` are one.
    """
    for found in _declarations(cls, {}):
        return found
    return None


def _declarations(cls: type, bound: Mapping[object, Kinds]) -> Iterator[Kinds]:
    """What the bases of `cls` declare, nearest first; `bound`: what the type variables of `cls` stand for."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, Actor)):
            continue
        arguments = tuple(_kinds(each, bound) for each in get_args(base))
        if origin is not Actor:
            yield from _declarations(origin, _paired(origin, arguments))
        elif arguments:
            yield arguments[0]


def _paired(origin: type, arguments: tuple[Kinds, ...]) -> Mapping[object, Kinds]:
    """What the type variables of a generic class stand for; nothing where its parameters are not simply one each."""
    parameters = getattr(origin, "__parameters__", ())
    if len(parameters) != len(arguments):
        return {}
    return dict(zip(parameters, arguments, strict=True))


def _kinds(told: Any, bound: Mapping[object, Kinds]) -> Kinds:
    """A type expression as classes for `isinstance`."""
    if isinstance(told, TypeVar):
        return bound.get(told)
    if isinstance(told, NewType):
        return _kinds(told.__supertype__, bound)
    if _ALIAS is not None and isinstance(told, _ALIAS):
        return _kinds(told.__value__, bound)
    if told in (typing.Never, typing.NoReturn):
        return ()
    if told is typing.LiteralString:
        return (str,)
    origin = get_origin(told)
    if origin is Union or origin is types.UnionType:
        return _all_of([_kinds(each, bound) for each in get_args(told)])
    if origin is Annotated:
        return _kinds(told.__origin__, bound)
    if origin is Literal:
        return _all_of([(type(each),) for each in get_args(told)])
    return _told_apart(told if origin is None else origin)


def _all_of(parts: list[Kinds]) -> Kinds:
    """The union; unchecked when one part is."""
    found: dict[type, None] = {}
    for part in parts:
        if part is None:
            return None
        found.update(dict.fromkeys(part))
    return tuple(found)


def _told_apart(kind: Any) -> Kinds:
    """A class that `isinstance` can be asked about; None for everything else."""
    if typing.is_typeddict(kind):
        return (dict,)
    try:
        isinstance(None, kind)
    except TypeError:  # Any, a forward reference, a protocol that is not runtime-checkable
        return None
    promoted = _PROMOTED.get(kind)
    return (kind,) if promoted is None else promoted
