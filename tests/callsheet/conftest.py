"""One suite over every store that runs in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.sqlite import SqliteStore

from .house import Place


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Makes a store over the same data each time."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "jobs.db")
    tables = Tables()
    return lambda: MemoryStore(tables)


@pytest.fixture
def memory() -> Place:
    """As `place`, in memory only: for what has nothing to do with the store."""
    tables = Tables()
    return lambda: MemoryStore(tables)
