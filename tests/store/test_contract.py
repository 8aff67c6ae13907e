"""The contract suite over each store that we have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    "tests.store.contract_suite",
    "tests.store.queue_suite",
    "tests.store.telling_suite",
    "tests.store.pruning_suite",
    "tests.store.schedule_suite",
)

from callsheet.store.memory import MemoryStore  # noqa: E402
from callsheet.store.memory_tables import Tables  # noqa: E402
from callsheet.store.sqlite import SqliteStore  # noqa: E402

from .contract_suite import Place, StoreContract  # noqa: E402
from .plans import faults, overheard  # noqa: E402
from .pruning_suite import PruningContract  # noqa: E402
from .queue_suite import QueueContract  # noqa: E402
from .schedule_suite import ScheduleContract  # noqa: E402
from .telling_suite import TellingContract  # noqa: E402


class TestMemory(StoreContract, QueueContract, TellingContract, PruningContract, ScheduleContract):
    @pytest.fixture
    def place(self) -> Place:
        tables = Tables()
        return lambda: MemoryStore(tables)

    @pytest.fixture
    def shared_place(self) -> Place:
        tables = Tables()
        return lambda: MemoryStore(tables, exclusive=False)


class TestSqlite(StoreContract, QueueContract, TellingContract, PruningContract, ScheduleContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return lambda: SqliteStore(tmp_path / "jobs.db")

    @pytest.fixture
    def shared_place(self, tmp_path: Path) -> Place:
        return lambda: SqliteStore(tmp_path / "jobs.db", exclusive=False)

    @pytest.fixture(autouse=True)
    def through_indexes(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Whatever a test has the store do: it goes through no table that grows."""
        with overheard(monkeypatch) as said:
            yield
        assert faults(said) == []
