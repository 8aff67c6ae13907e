"""A process that is forked while it has a SQLite store open: parent and child go on, each for itself."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from callsheet.store.contract import Insert
from callsheet.store.errors import CallsheetError, CannotOpen, StoreClosed
from callsheet.store.records import Lane, NewRun, Now, Owner, RunFilter
from callsheet.store.sqlite import SqliteStore, forks

LANE = Lane("app/main", "app/jobs", "mail", "1")
NOW = Now(1, 1)


def opened(path: Path, **options: Any) -> SqliteStore:
    store = SqliteStore(path, exclusive=False, **options)
    store.open(Owner("boot", 1, "here", 1))
    return store


def put(store: SqliteStore, name: str) -> None:
    store.write([Insert((NewRun(name, LANE, b"{}", 1),))], NOW)


def stored(path: Path) -> list[str]:
    store = opened(path)
    reader = store.reader()
    found = sorted(run.id for run in reader.list(RunFilter(), limit=10_000))
    reader.close()
    store.close()
    return found


class Child:
    """A forked child that does one thing after the other when it is told to, and ends without tidying up."""

    def __init__(self, *does: Callable[[], object]) -> None:
        fork = multiprocessing.get_context("fork")
        self._ours, theirs = fork.Pipe()

        def child() -> None:
            for each in does:
                theirs.recv()
                try:
                    theirs.send(each())
                except CallsheetError as error:
                    theirs.send(error)

        self._process = fork.Process(target=child)
        self._process.start()

    def go(self) -> Any:
        """What came of it."""
        self._ours.send("go")
        assert self._ours.poll(20), "the child does not answer"
        return self._ours.recv()

    def end(self) -> None:
        self._process.join(20)
        assert self._process.exitcode == 0
        self._ours.close()


def test_p1_what_a_child_commits_is_kept_when_its_parent_closes_the_store(tmp_path: Path) -> None:
    """Whoever closes last takes the log away: a child whose locks were in its memory only would lose what it wrote there."""
    path = tmp_path / "jobs.db"
    store = opened(path)
    put(store, "parent")
    its_own: list[SqliteStore] = []

    def begin() -> None:
        its_own.append(opened(path))
        put(its_own[0], "child-1")

    child = Child(begin, lambda: put(its_own[0], "child-2"))
    child.go()
    put(store, "parent-2")

    store.close()
    child.go()
    child.end()

    assert ["child-1", "child-2", "parent", "parent-2"] == stored(path)


def test_p1_parent_and_child_write_at_the_same_time(tmp_path: Path) -> None:
    """Forked in the middle of what other threads write and read: it waits for them, and everything is there afterwards."""
    path = tmp_path / "jobs.db"
    store = opened(path)
    stop = threading.Event()
    made: list[str] = []

    def write() -> None:
        for n in itertools.count():
            if stop.is_set():
                return
            put(store, f"parent-{n:05}")
            made.append(f"parent-{n:05}")

    def read() -> None:
        reader = store.reader()
        while not stop.is_set():
            reader.counts()
        reader.close()

    def work(name: int) -> list[str]:
        mine, names = opened(path), [f"child-{name}-{n:02}" for n in range(10)]
        for each in names:
            put(mine, each)
        return names

    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(write), threads.submit(read)]
        for child in [Child(partial(work, n)) for n in range(5)]:
            made += child.go()
            child.end()
        stop.set()
        for each in calls:
            each.result()
    store.close()

    assert sorted(made) == stored(path)


def test_a_child_forked_in_the_middle_of_a_transaction_does_not_open_that_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would share its parent's locks for ever. The parent goes on; another database is none of its concern."""
    monkeypatch.setattr(forks, "PATIENCE_S", 0.01)
    path, other = tmp_path / "jobs.db", tmp_path / "other.db"
    store = opened(path)

    with store.turn:
        child = Child(lambda: (put(opened(other), "child"), opened(path)))

    found = child.go()
    child.end()
    assert isinstance(found, CannotOpen)
    assert "was forked in the middle of a transaction on it" in str(found)
    put(store, "parent")
    store.close()
    assert (["parent"], ["child"]) == (stored(path), stored(other))


def test_what_a_parent_had_open_is_closed_in_the_child_only(tmp_path: Path) -> None:
    """Its stores and readers say so; the parent's open themselves again, and know that they may have missed something."""
    path = tmp_path / "jobs.db"
    store = opened(path)
    reader = store.reader()
    put(store, "parent")
    store.changed()

    def use() -> list[str]:
        said = []
        for call in (reader.counts, lambda: put(store, "child"), store.changed, store.reader):
            try:
                call()
            except StoreClosed:
                said.append("closed")
        reader.close()
        store.close()
        return said

    child = Child(use)

    assert ["closed"] * 4 == child.go()
    child.end()
    assert [1] == [each.n for each in reader.counts()]
    assert [True, False] == [store.changed(), store.changed()]
    put(store, "again")
    reader.close()
    store.close()
    assert ["again", "parent"] == stored(path)
