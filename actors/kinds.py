"""
Whether what somebody gave is of the kind that is meant.

Rule: annotations bind nobody at run time; a value of another kind is named with its field, all of them at once, before
anything compares it.
"""

from __future__ import annotations

from types import NoneType
from typing import Final, TypeAlias

Kinds: TypeAlias = type | tuple[type, ...]

NUMBER: Final = (int, float)
_WORDS: Final = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}


def wrong_kinds(**fields: tuple[object, Kinds]) -> list[str]:
    """A sentence for each field whose value is of none of its kinds. True and False are no numbers here."""
    return [
        f"{name} must be {_told(_each(kinds))}, not {value!r}"
        for name, (value, kinds) in fields.items()
        if not _is(value, _each(kinds))
    ]


def _each(kinds: Kinds) -> tuple[type, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    return bool in kinds if isinstance(value, bool) else isinstance(value, kinds)


def _told(kinds: tuple[type, ...]) -> str:
    return " or ".join(_word(kind) for kind in kinds if not (kind is int and float in kinds))


def _word(kind: type) -> str:
    name = kind.__name__
    return _WORDS.get(kind, f"{'an' if name[0] in 'AEIO' else 'a'} {name}")
