"""
The strict converter: JSON values into typed ones, and back. The only file that knows cattrs.

Rule 1: nothing is coerced: an object is an object, a list is a list, `true` is no 1, "5" is no 5, 1.9 is no 1.
Rule 2: a problem is told with the path to it, and with types; never with values: a payload may hold secrets.
Not here: what may be a payload at all (`codec`).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from types import UnionType
from typing import Any, Final, Literal, TypeAlias, Union, get_args, get_origin, is_typeddict

import attrs
import cattrs
from cattrs.cols import mapping_structure_factory
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.preconf.json import make_converter

from .errors import PayloadInvalid

Check: TypeAlias = Any
"""A function of (value, kind) that raises _WrongType when the value has the wrong JSON type for the kind."""


class _WrongType(TypeError):
    """A value is of another JSON type than its annotation says."""


def unstructure(value: object) -> Any:
    """A typed value as what JSON has for it. Raises whatever cattrs does."""
    return _CONVERTER.unstructure(value)


def structure(value: object, into: Any) -> Any:
    """
    A JSON value as type `into`.

    Raises PayloadInvalid.
    """
    try:
        return _CONVERTER.structure(value, into)
    except Exception as error:
        path, why = _first_problem(error, "$")
        raise PayloadInvalid(path, why) from error


def unreadable(into: Any) -> str | None:
    """What of type `into` can be made from no JSON value; None where there is nothing of the kind, or it cannot be told yet."""
    try:
        _CONVERTER.get_structure_hook(into)
    except StructureHandlerNotFoundError as error:
        return _type_name(error.type_)
    except Exception:  # noqa: BLE001 -- a name in it is not bound yet, say: the first payload will tell
        return None
    return None


# ---------------------------------------------------------------- strictness


def _exactly(*kinds: type) -> Check:
    def check(value: object, _kind: Any) -> None:
        if type(value) not in kinds:
            wanted = " or ".join(_NAMES[kind] for kind in kinds)
            raise _WrongType(f"it is {named(value)}, not {wanted}")

    return check


_NAMES: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def named(value: object) -> str:
    """What kind of thing a value is, in words of JSON where there are some."""
    kind = type(value)
    name = kind.__name__
    return _NAMES.get(kind) or f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _one_of_its_literals(value: object, kind: Any) -> None:
    if not any(type(each) is type(value) or isinstance(each, Enum) for each in get_args(kind)):
        raise _WrongType(f"it is {named(value)}, of which none is allowed")


def _one_of_its_types(value: object, kind: Any) -> None:
    if type(value) is bool and bool not in get_args(kind):  # cattrs takes it for an int
        raise _WrongType("it is a boolean, which is not allowed")


def _check_for(kind: Any) -> Check:
    """How to look at a value before cattrs, which is more lenient, structures it as `kind`; None: not at all."""
    origin = get_origin(kind) or kind
    if origin is Literal:
        return _one_of_its_literals
    if origin is Union or origin is UnionType:
        return _one_of_its_types
    if not isinstance(origin, type):
        return None
    if issubclass(origin, Enum):
        return _exactly(*{type(each.value) for each in origin})
    if attrs.has(origin) or dataclasses.is_dataclass(origin) or is_typeddict(origin) or issubclass(origin, Mapping):
        return _exactly(dict)
    if issubclass(origin, Sequence | AbstractSet | deque) and not issubclass(origin, str | bytes | bytearray):
        return _exactly(list)
    return None


def _make_converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(str, _leaf(str))
    converter.register_structure_hook(int, _leaf(int))
    converter.register_structure_hook(bool, _leaf(bool))
    converter.register_structure_hook(type(None), _leaf(type(None)))
    converter.register_structure_hook(float, _leaf(float, int, make=float))
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    looking: list[Any] = []
    """Kinds whose own hook is being looked up: the check stands before it, not before itself."""

    def is_checked(kind: Any) -> bool:
        return not any(kind is each for each in looking) and _check_for(kind) is not None

    def checked(kind: Any) -> Any:
        check = _check_for(kind)
        if (get_origin(kind) or kind) in (dict, Mapping, MutableMapping):
            # the hook that cattrs itself makes for these puts itself before this one
            inner: Any = mapping_structure_factory(kind, converter, dict)
        else:
            looking.append(kind)
            try:
                inner = converter.get_structure_hook(kind, cache_result=False)
            finally:
                looking.pop()

        def hook(value: object, into: Any) -> Any:
            check(value, kind)
            return inner(value, into)

        return hook

    converter.register_structure_hook_factory(is_checked, checked)
    return converter


def _leaf(*kinds: type, make: type | None = None) -> Any:
    check = _exactly(*kinds)

    def hook(value: object, kind: Any) -> Any:
        check(value, kind)
        return value if make is None else make(value)

    return hook


_CONVERTER: Final = _make_converter()


# ---------------------------------------------------------------- problems


def _first_problem(error: BaseException, path: str) -> tuple[str, str]:
    if isinstance(error, ForbiddenExtraKeysError):
        return path, f"unknown key {min(map(str, error.extra_fields))[:80]!a}"
    if isinstance(error, BaseValidationError) and error.exceptions:
        first = error.exceptions[0]
        return _first_problem(first, path + _step(first))
    if isinstance(error, _WrongType):
        return path, str(error)
    if isinstance(error, KeyError) and error.args:
        return path, f"key {str(error.args[0])[:80]!a} is missing"
    if isinstance(error, StructureHandlerNotFoundError):
        return path, f"its type has {_type_name(error.type_)}, which nothing in JSON becomes"
    return path, f"it does not fit its type ({type(error).__name__})"


def _type_name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind)


def _step(error: BaseException) -> str:
    """From a value into the part of it where the error is: cattrs says so in notes."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]" if isinstance(note.index, int) else f".{note.index}"
        if isinstance(note, AttributeValidationNote) and not isinstance(error, KeyError):
            return f".{note.name}"
    return ""
