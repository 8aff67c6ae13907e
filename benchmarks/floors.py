"""
What trio and SQLite allow on this machine when nothing else is done.

Rule: no callsheet in here; the same promises (a durable commit), none of the features.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import trio

PAYLOAD = b'{"url":"https://example.com/webhook","event":"evt_123","body":{"a":1,"b":"hello world, hello"}}'
"""About 100 bytes, as a small webhook has."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk that temporary files live on, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="callsheet-bench-") as folder:
        yield Path(folder)


def database(path: Path) -> apsw.Connection:
    """A new one that writes as durably as ours."""
    db = apsw.Connection(str(path))
    for pragma in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=0"):
        db.execute(f"pragma {pragma}")
    db.execute("create table t(id text primary key, a int, b int, payload blob) without rowid")
    return db


def insert_one(db: apsw.Connection, key: str) -> None:
    """One durable commit of one row."""
    db.execute("begin immediate")
    db.execute("insert into t values(?, 1, 2, ?)", (key, PAYLOAD))
    db.execute("commit")


def sqlite_floor(commits: int = 500, rows: int = 100_000) -> dict[str, float]:
    """Durable commits of one row a second, and rows a second in transactions of 10,000."""
    with scratch() as folder:
        db = database(folder / "floor.db")
        began = time.perf_counter()
        for n in range(commits):
            insert_one(db, f"a{n:09}")
        commits_per_s = commits / (time.perf_counter() - began)
        began = time.perf_counter()
        for first in range(0, rows, 10_000):
            db.execute("begin immediate")
            db.executemany("insert into t values(?, 1, 2, ?)", ((f"b{first + k:09}", PAYLOAD) for k in range(10_000)))
            db.execute("commit")
        rows_per_s = rows / (time.perf_counter() - began)
        db.close()
    return {"commits_per_s": commits_per_s, "rows_per_s": rows_per_s}


def trio_floor(tasks: int = 50_000) -> dict[str, float]:
    """Tasks with a cancel scope of their own, started and ended, a second."""

    async def nothing() -> None:
        pass

    async def one() -> None:
        with trio.CancelScope():
            await nothing()

    async def main() -> float:
        began = time.perf_counter()
        for _ in range(0, tasks, 500):
            async with trio.open_nursery() as nursery:
                for _ in range(500):
                    nursery.start_soon(one)
        return tasks / (time.perf_counter() - began)

    return {"tasks_per_s": trio.run(main)}


def hop_floor(n: int = 500) -> list[float]:
    """Seconds for one hop to a thread and back with a durable commit of one row in it, `n` times."""

    async def main(db: apsw.Connection) -> list[float]:
        took = []
        for number in range(n):
            began = time.perf_counter()
            await trio.to_thread.run_sync(insert_one, db, f"a{number:09}")
            took.append(time.perf_counter() - began)
        return took

    with scratch() as folder:
        db = database(folder / "floor.db")
        try:
            return trio.run(main, db)
        finally:
            db.close()
