"""
The write-ahead log: how long it is, and when it is copied into the database.

Rule: SQLite never does it by itself, because it would do it within a commit that somebody waits for. We do it when there is
    nothing else to do, and before a write once the log is long.
Not here: that a closed store leaves no log (`store`).
"""

from __future__ import annotations

import contextlib
from typing import Final

import apsw

from .patience import Patience

TIDY_PAGES: Final = 1024
"""Pages (4 KiB) from which on a moment without work is used: 4 MiB."""
FORCED_PAGES: Final = 8192
"""Pages from which on a write copies first: 32 MiB."""
PAUSE_PAGES: Final = 16384
"""Pages from which on it waits for readers that still look into the log, so that the log can begin anew: 64 MiB."""
PAUSE_S: Final = 0.25
"""How long it waits for them."""


class Log:
    """The log behind one writing connection."""

    def __init__(self, db: apsw.Connection, patience: Patience) -> None:
        self._db = db
        self._patience = patience
        self._pages = 0
        self._tried = 0
        db.set_wal_hook(self._note)

    @property
    def is_worth_copying(self) -> bool:
        """Whether a moment without work should be used."""
        return self._pages >= TIDY_PAGES

    @property
    def is_long(self) -> bool:
        """Whether the next write should copy it first."""
        return self._pages >= FORCED_PAGES

    def copy(self) -> None:
        """
        Copy what can be copied; a reader that holds on to a long log is waited for, briefly.

        A disk that cannot take it now keeps nobody from writing: what is in the log is durable there.
        """
        if self._pages < self._tried + TIDY_PAGES:
            return  # nothing to gain yet
        self._tried = self._pages
        pause = self._pages >= PAUSE_PAGES
        mode = apsw.SQLITE_CHECKPOINT_RESTART if pause else apsw.SQLITE_CHECKPOINT_PASSIVE
        with self._patience.at_most(PAUSE_S), contextlib.suppress(apsw.BusyError, apsw.FullError, apsw.IOError):
            self._db.wal_checkpoint(mode=mode)

    def _note(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self._pages:  # it began anew
            self._tried = 0
        self._pages = pages
        return apsw.SQLITE_OK
