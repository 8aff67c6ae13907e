"""
What a doctor says: one sentence for each check, and what would do.

Rule: frozen values; nothing here looks at anything.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    BROKEN = "broken"


@frozen
class Finding:
    """What one check found."""

    check: str
    state: State
    text: str
    remedy: str | None = None
    """What would do; None where nothing has to be done."""
    is_unusable: bool = False
    """Whether it is no database that can be used at all: another program's, or damaged."""


def fine(check: str, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, State.OK, text)


def warning(check: str, text: str, remedy: str | None = None) -> Finding:
    """It works, and somebody should know."""
    return Finding(check, State.WARNING, text, remedy)


def broken(check: str, text: str, remedy: str) -> Finding:
    """Something is not as it must be."""
    return Finding(check, State.BROKEN, text, remedy)


def unusable(check: str, text: str, remedy: str | None = None) -> Finding:
    """Nobody can use it as a database of callsheet."""
    return Finding(check, State.BROKEN, text, remedy, is_unusable=True)
