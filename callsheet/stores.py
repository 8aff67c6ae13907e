"""
From what users call a store to the store.

Rule: a URL says which; nothing is opened or made here.
"""

from __future__ import annotations

import os
from pathlib import Path

from .store.contract import Store
from .store.errors import CannotOpen
from .store.memory import MemoryStore


def store_at(where: str | os.PathLike[str] | Store, *, exclusive: bool = True) -> Store:
    """
    The store that `where` names: a path or `sqlite:///…`, ":memory:", or a Store itself.

    exclusive: whether it is to be opened by one who runs what is in it.

    Raises CannotOpen for a URL of another kind, TypeError for another type.
    """
    if isinstance(where, os.PathLike):
        where = os.fspath(where)
    if not isinstance(where, str):
        if not callable(getattr(where, "open", None)):
            raise TypeError(f"a store is a path, a URL or a Store, not {type(where).__name__}")
        return where
    if where == ":memory:":
        return MemoryStore()
    scheme, separator, _ = where.partition("://")
    if separator and scheme != "sqlite":
        raise CannotOpen(f"{scheme}://…", f"this release has no store for {scheme}: URLs")  # it may carry a password
    from .store.sqlite import SqliteStore

    return SqliteStore(where, exclusive=exclusive)


def sqlite_path(where: str | os.PathLike[str]) -> str:
    """
    The database that a client names, from the folder that is the current one now: a client opens it later, and again in forked
    children, which often go elsewhere. Raises CannotOpen for what no client can reach, TypeError for another type.
    """
    if not isinstance(where, str | os.PathLike):
        raise TypeError(f"a client names its store by a path or a URL, not by {type(where).__name__}")
    path = os.fspath(where)
    if path == ":memory:":
        raise CannotOpen(path, "a store in memory is seen by its own process only: use jobs.open there")
    scheme, separator, _ = path.partition("://")
    if separator and scheme != "sqlite":
        raise CannotOpen(f"{scheme}://…", f"this release has no store for {scheme}: URLs")
    path = path.removeprefix("sqlite:///")
    if not path or path.startswith("file:"):  # refused when it is opened
        return path
    return str(Path(path).absolute())
