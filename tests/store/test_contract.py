"""The contract suite over each store that we have."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.store.contract_suite")

from callsheet.store.memory import MemoryStore  # noqa: E402
from callsheet.store.memory_tables import Tables  # noqa: E402
from callsheet.store.sqlite import SqliteStore  # noqa: E402

from .contract_suite import Place, StoreContract  # noqa: E402


class TestMemory(StoreContract):
    @pytest.fixture
    def place(self) -> Place:
        tables = Tables()
        return lambda: MemoryStore(tables)


class TestSqlite(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return lambda: SqliteStore(tmp_path / "jobs.db")
