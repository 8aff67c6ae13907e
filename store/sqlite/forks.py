"""
Forks: no connection is taken along into a child.

Rule: before the process forks every connection of it is closed, between two transactions; each side opens its own when it next
    needs one. SQLite remembers in the process which locks it holds. A child inherits what is remembered, but not the locks:
    even a connection that it opens itself would take none, and whoever closed the database elsewhere would take the log away
    from under it, with all that it had committed.
Not here: programs that are started anew (`subprocess`, "spawn"): those inherit nothing.
"""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Final, Protocol

from ..errors import CannotOpen

PATIENCE_S: Final = 10.0
"""How long a fork waits for a transaction: longer than one waits for others and then takes. After that it takes it along."""


class Rests(Protocol):
    """Somebody who has a connection."""

    turn: threading.Lock
    """Held by whichever thread uses the connection."""

    @property
    def name(self) -> str:
        """The path of the database."""

    def rest(self) -> None:
        """Close the connection, until it is needed again."""


_all: Final[weakref.WeakSet[Rests]] = weakref.WeakSet()
_counting: Final = threading.Lock()
"""Held while one is added, and from before a fork until after it."""
_resting: Final[list[Rests]] = []
_taken: Final[list[Rests]] = []
"""In a child: what was in use when it was forked. To close it here would harm the parent's database: it is kept to the end."""
_unusable: Final[set[tuple[int, int]]] = set()
"""In a child: the databases (device, file) that it cannot open any more."""


def watch(one: Rests) -> None:
    """Have it rest at every fork. To be called before it opens anything, and not while it has its turn."""
    with _counting:
        _all.add(one)


def check(path: str) -> None:
    """Raise CannotOpen when this process was forked while a transaction on that database was under way."""
    if _unusable and _file(path) in _unusable:
        why = "this process was forked in the middle of a transaction on it, and shares its locks; start it anew ('spawn')"
        raise CannotOpen(path, why)


def _file(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _before() -> None:
    _counting.acquire()
    for one in list(_all):
        if one.turn.acquire(timeout=PATIENCE_S):
            _resting.append(one)
            one.rest()


def _in_parent() -> None:
    for one in _resting:
        one.turn.release()
    _resting.clear()
    _counting.release()


def _in_child() -> None:
    for one in set(_all).difference(_resting):  # whoever used it does not exist here
        one.turn = threading.Lock()
        _taken.append(one)
        file = _file(one.name)
        if file is not None:
            _unusable.add(file)
    _in_parent()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
