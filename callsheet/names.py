"""
What may be a name: checked once, where it enters.

Rule: a name is shown in logs, terminals and pages, so it holds nothing that could hide what it is.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from .errors import InvalidName

MAX_NAME: Final = 128
"""Bytes of a task's, queue's or instance's name, and of a run or trace id."""
MAX_KEY: Final = 255
"""Bytes of an idempotency key."""

RESERVED: Final = "callsheet"
"""A namespace that no Jobs instance may have: it is kept for what this package itself may store one day."""

HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories without a glyph of their own: controls, bidi marks, surrogates, line separators."""


def check_name(value: object, what: str, *, most: int = MAX_NAME, slash: bool = False) -> str:
    """
    `value` as a name. `what` names it in errors; `slash`: whether "/" is allowed (it separates namespace and name).

    Raises TypeError when it is no text, InvalidName otherwise.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not value or value.isspace():
        raise InvalidName(what, value, "it is empty")
    if not value.isascii() or not value.isprintable():
        hidden = next((char for char in value if unicodedata.category(char) in HIDDEN), None)
        if hidden is not None:
            raise InvalidName(what, value, f"it contains the invisible character U+{ord(hidden):04X}")
    size = len(value.encode())
    if size > most:
        raise InvalidName(what, value, f"it has {size} bytes, the limit is {most}")
    if not slash and "/" in value:
        raise InvalidName(what, value, 'it contains "/", which separates namespace and name')
    return value


def check_namespace(value: object) -> str:
    """`value` as a namespace. Raises TypeError or InvalidName."""
    name = check_name(value, "namespace")
    if name == RESERVED:
        raise InvalidName("namespace", name, "it is reserved")
    return name
