"""
A store that lies: it answers before its commit. It exists to show that the demonstration's check can fail.

Rule: each answer comes a fixed time before the commit that holds it, and each commit is announced in a ledger of its own
before it begins. So whoever stops this process can tell for certain what would be lost.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import apsw
import trio

from ..store.contract import Answer, Command, Insert
from ..store.records import Now
from ..store.sqlite import SqliteStore
from .ledger import COMMITS, Committing, Ledger


class EarlyStore(SqliteStore):
    """
    The database `name` in `folder`; early_s: how many seconds its answers are early.

    One write leaves its transaction open; the next one commits it first, after that time, and so does `commit_late`.
    """

    def __init__(self, folder: Path, name: str, early_s: float) -> None:
        super().__init__(folder / name)
        self._early_s = early_s
        self._announced = Ledger(folder / COMMITS)
        self._hand = threading.Lock()
        self._owed: apsw.Connection | None = None
        self._run_ids: tuple[str, ...] = ()

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """As promised, but for the promise: what it answers is not durable yet."""
        with self._hand:
            if self._owed is not None:
                threading.Event().wait(self._early_s)
                self._pay()
            self._run_ids = tuple(run.id for each in commands if isinstance(each, Insert) for run in each.runs)
            return super().write(commands, now)

    def changed(self) -> bool:
        """As promised."""
        with self._hand:
            return super().changed()

    def idle(self) -> None:
        """Nothing: a log with an open transaction cannot be tidied up."""

    def close(self) -> None:
        """Commit what is owed, and close."""
        with self._hand:
            self._pay()
            super().close()

    async def commit_late(self) -> None:
        """Commit what no further write does."""
        while True:
            await trio.sleep(2 * self._early_s)
            if self._hand.acquire(blocking=False):
                try:
                    self._pay()
                finally:
                    self._hand.release()

    def _commit(self, db: apsw.Connection) -> None:
        self._owed = db

    def _pay(self) -> None:
        if self._owed is not None:
            self._announced.append(Committing(self._run_ids))
            super()._commit(self._owed)
            self._owed = None
