"""
Connections: every setting that durability rests on is set and read back, every exception of apsw becomes one
of ours.

Rule: this is the seam. No exception of apsw leaves this folder but as the cause of one of ours.
Not here: which file (`place`), who may write (`lock`), how others are waited for (`patience`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

from ..errors import (
    CannotOpen,
    DamagedStore,
    ForeignDatabase,
    MalformedCommand,
    SettingRefused,
    StoreBusy,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from .patience import Patience

SAFE_SQLITE: Final = (3, 51, 3)
"""Older ones can damage a database whose log is reset while another connection writes."""
CACHE_KIB: Final = 16 * 1024
"""Of a writer. A reader has SQLite's default, 2 MiB."""

_SETTINGS: Final = (
    # (what, how it is set, what it must answer)
    ("synchronous", "full", 2),
    ("foreign_keys", "on", 1),
    ("trusted_schema", "off", 0),
    ("cell_size_check", "on", 1),
    ("mmap_size", "0", 0),
    ("temp_store", "memory", 2),
    ("wal_autocheckpoint", "0", 0),
    ("journal_size_limit", "67108864", 67108864),
)
_MAC_SETTINGS: Final = (("fullfsync", "on", 1), ("checkpoint_fullfsync", "on", 1))


def rows(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """Every row that a statement gives."""
    return db.execute(sql, values).fetchall()


def value(db: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> Any:
    """The one value that a statement gives, None where it gives no row."""
    return db.execute(sql, values).get


def writer(path: str, patience: Patience) -> apsw.Connection:
    """A connection that writes durably. Raises SettingRefused."""
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=200)
    try:
        patience.on(db)
        db.execute("pragma schema_version").fetchall()  # has SQLite read the header
        if db.readonly("main"):
            raise CannotOpen(path, "SQLite may only read it: a newer one made it, or its disk is read-only")
        _set(db, path, "journal_mode", "wal", "wal")
        for setting in _SETTINGS + (_MAC_SETTINGS if sys.platform == "darwin" else ()):
            _set(db, path, *setting)
        _set(db, path, "cache_size", str(-CACHE_KIB), -CACHE_KIB)
    except BaseException:
        db.close()
        raise
    return db


def reader(path: str, patience: Patience) -> apsw.Connection:
    """A connection that can only read."""
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        patience.on(db)
        for what, how, answer in (("query_only", "on", 1), ("mmap_size", "0", 0), ("trusted_schema", "off", 0)):
            _set(db, path, what, how, answer)
    except BaseException:
        db.close()
        raise
    return db


def _set(db: apsw.Connection, path: str, what: str, how: str, answer: object) -> None:
    db.execute(f"pragma {what} = {how}").fetchall()
    got = db.execute(f"pragma {what}").get
    if got != answer:
        raise SettingRefused(path, what, str(answer), str(got))


def check_version(path: str) -> None:
    """Raise SettingRefused when this SQLite may damage a database that several connections write."""
    version = apsw.sqlite_lib_version()
    if tuple(map(int, version.split("."))) < SAFE_SQLITE:
        raise SettingRefused(path, "SQLite", ".".join(map(str, SAFE_SQLITE)) + " or newer", version)


@contextmanager
def translated(path: str, busy_s: float) -> Iterator[None]:
    """What apsw raises inside is raised as one of our errors."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path, busy_s) from error


def translate(error: apsw.Error, path: str, busy_s: float) -> StoreError:
    """The error of ours that says what this one means, when nothing was stored."""
    why = str(error) or type(error).__name__
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreBusy(path, busy_s)
    if isinstance(error, apsw.FullError):
        return StoreFull(path)
    if isinstance(error, apsw.CorruptError):
        return DamagedStore(path, why)
    if isinstance(error, apsw.NotADBError):
        return ForeignDatabase(path, "not a SQLite database")
    if isinstance(error, apsw.CantOpenError | apsw.PermissionsError | apsw.ReadOnlyError):
        return CannotOpen(path, why)
    if isinstance(error, apsw.ConnectionClosedError | apsw.CursorClosedError):
        return StoreClosed(path)
    if isinstance(error, apsw.ConstraintError | apsw.MismatchError | apsw.TooBigError | apsw.RangeError):
        return MalformedCommand(why)
    return StoreUnavailable(path, why)
