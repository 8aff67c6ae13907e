"""
Looking into a database without a trace: a connection that makes no file, and what its log is worth.

Rule: nothing is written, not even beside the database, and nobody is kept from opening it.
Not here: what is looked for (`doctor`, `books`, `holders`).
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from . import place
from .connection import rows
from .findings import Finding, fine, unusable, warning
from .holders import is_locked
from .schema import versions

LONG_LOG: Final = 128 * 1024 * 1024
"""Bytes of a log that nobody copies: a runtime does it at 32 MiB, and waits for readers at 64."""
BUSY_S: Final = 5.0


def opened(path: str) -> apsw.Connection:
    """
    A connection that makes no file, whoever else has the database open.

    Where somebody has, it is one more of those that share its memory. Where nobody has, no locks are needed: the log is read
    with an index of our own, whatever a killed process left of its; without a log the file says everything.
    """
    if is_shared(path):
        db = _connection(path, "")
    elif size_of(f"{path}-wal"):
        db = _connection(path, "&vfs=unix-none")
        db.execute(
            "pragma locking_mode = exclusive"
        ).fetchall()  # in WAL mode: the index is kept in memory, not in a file
    else:
        db = _connection(path, "&immutable=1")
    db.set_busy_timeout(int(BUSY_S * 1000))
    db.execute("pragma query_only = on; pragma trusted_schema = off; pragma mmap_size = 0").fetchall()
    return db


def _connection(path: str, how: str) -> apsw.Connection:
    uri = f"file:{quote(path)}?mode=ro{how}"
    return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def is_shared(path: str) -> bool:
    """Whether any process has it open; where the system does not tell, whether one had."""
    shared = Path(f"{path}-shm")
    return shared.exists() and is_locked(shared, "POSIX") is not False


def size_of(path: str) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


# ---------------------------------------------------------------- its log


def log_of(path: str) -> Finding:
    """Whether anybody copies the log."""
    size = size_of(f"{path}-wal")
    if size > LONG_LOG:
        return warning(
            "log",
            f"its log has grown to {size // 1024**2:,} MiB",
            "end the program that has been reading from it all the time",
        )
    return fine("log", f"its log has {size // 1024:,} KiB" if size else "its log is empty")


def explained(path: str, found: Finding) -> Finding:
    """A finding of damage, unless it is the log that does not belong to the file."""
    if not size_of(f"{path}-wal"):
        return found
    try:
        with closing(place.as_it_is(path)) as alone:
            good = rows(alone, "pragma quick_check(1)") == [("ok",)] and versions(alone)
    except (apsw.Error, KeyError):
        return found
    return _of_another(path) if good else found


def _of_another(path: str) -> Finding:
    return unusable(
        "log",
        f"the log {path}-wal does not belong to the database beside it, which is whole without it",
        f"find out where it comes from, then move {path}-wal and {path}-shm away while no program has the database open",
    )


def strange_log(path: str, db: apsw.Connection) -> Finding | None:
    """Whether the log tells of another database: the numbers of lanes and runtimes only grow, and never change."""
    if not size_of(f"{path}-wal"):
        return None
    try:
        with closing(place.as_it_is(path)) as alone:
            for known in ("select id, boot_id from boots", "select id, jobs || queue || task || schema from lanes"):
                before, now = dict(rows(alone, known)), dict(rows(db, known))
                if any(now.get(number) != name for number, name in before.items()):
                    return _of_another(path)
    except apsw.Error:  # half of the log was copied into it: then only both together say anything
        return None
    return None
