"""
The owner lock: one runtime at a time runs the jobs of a SQLite store.

Rule: the kernel's lock on `<database>.lock` is the truth, so it ends with its process, however that ends;
    what is written in the file is only for people. The database file itself is never opened here: closing it
    would drop SQLite's own locks.
Not here: writers that run nothing (Clients) need no lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..errors import CannotOpen, StoreHeld
from ..records import Owner

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class OwnerLock:
    """A held lock. `release` lets go of it, and takes its file away."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd: int | None = fd
        _held.add(self)

    @classmethod
    def take(cls, database: str, owner: Owner) -> OwnerLock:
        """Lock the database for `owner`. Raises StoreHeld, or CannotOpen when there is no way to lock."""
        path = f"{database}.lock"
        while True:
            fd = _open(database, path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid, started = _read(fd)
                os.close(fd)
                raise StoreHeld(database, pid, started) from None
            if _is_there(fd, path):
                break
            os.close(fd)  # its holder took the file away as we opened it
        started = datetime.fromtimestamp(owner.started_us / 1e6, UTC).isoformat(timespec="seconds")
        told = {"pid": owner.pid, "boot_id": owner.boot_id, "started": started}
        with contextlib.suppress(OSError):  # a full disk: what stands there is for people only
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(told).encode(), 0)
        return cls(path, fd)

    def release(self) -> None:
        """Let go; twice does nothing."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                Path(self._path).unlink()
            self.abandon()

    def abandon(self) -> None:
        """
        Close our descriptor, as a forked child must: while it has one, the lock would outlive the parent.
        """
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            _held.discard(self)


_held: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _abandon_all() -> None:
    for lock in list(_held):
        lock.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _open(database: str, path: str) -> int:
    try:
        return os.open(path, _FLAGS, 0o600)
    except OSError as error:
        raise CannotOpen(database, f"cannot make the lock file {path}: {error.strerror}") from error


def _is_there(fd: int, path: str) -> bool:
    try:
        there = Path(path).stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _read(fd: int) -> tuple[int | None, str | None]:
    try:
        told = json.loads(os.pread(fd, 4096, 0))
        return int(told["pid"]), str(told["started"])
    except (ValueError, KeyError, TypeError):
        return None, None  # it is being written just now
