"""One runtime at a time: the owner lock of a SQLite store."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callsheet.store.contract import Cancel, CancelAnswer, Insert, Inserted
from callsheet.store.errors import CannotOpen, StoreClosed, StoreHeld
from callsheet.store.records import Lane, NewRun, Now, Owner
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite.lock import OwnerLock

ME = Owner("boot-me", os.getpid(), "host", 1_700_000_000_000_000)
YOU = Owner("boot-you", 1, "host", 1_700_000_000_000_000)
NOW = Now(1, 1)
LANE = Lane("app/main", "app/main-jobs", "mail", "1")

HOLD = """
import os, sys
from callsheet.store.records import Owner, Now, Lane, NewRun
from callsheet.store.contract import Insert
from callsheet.store.sqlite import SqliteStore

store = SqliteStore(sys.argv[1])
store.open(Owner("boot-it", 12345, "host", 1_600_000_000_000_000))
store.write([Insert((NewRun("01J", Lane("app/main", "app/main-jobs", "mail", "1"), b"{}", 1),))], Now(1, 1))
if sys.argv[2] == "with a child" and os.fork() == 0:
    print("held", flush=True)
    sys.stdin.read()  # the child outlives its parent
    os._exit(0)
if sys.argv[2] == "alone":
    print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_process(path: Path, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """One that holds the store, has written to it, and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_p8_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    """While it lives, we are told who holds the store; after kill -9 it is ours at once, with all it wrote."""
    path = tmp_path / "jobs.db"
    store = SqliteStore(path)
    with another_process(path) as process:
        with pytest.raises(StoreHeld) as held:
            store.open(ME)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    store.open(ME)

    assert (held.value.pid, held.value.started) == (12345, "2020-09-13T12:26:40+00:00")
    assert str(held.value) == (
        f"{path} is held by process 12345 (since 2020-09-13T12:26:40+00:00): "
        "one runtime at a time can run the jobs of a SQLite store"
    )
    assert store.write([Cancel("01J")], NOW) != [CancelAnswer("01J", None, canceled=False)]
    store.close()
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.db"]


def test_p8_a_child_of_a_dead_runtime_does_not_hold_its_lock(tmp_path: Path) -> None:
    """Forked while the store was open, and still alive when its parent was killed."""
    store = SqliteStore(tmp_path / "jobs.db")
    with another_process(tmp_path / "jobs.db", "with a child") as process:
        with pytest.raises(StoreHeld):
            store.open(ME)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

        store.open(ME)

    store.close()


def test_a_second_open_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """Also by the same store; the first one goes on."""
    first, second = SqliteStore(tmp_path / "jobs.db"), SqliteStore(tmp_path / "jobs.db")
    first.open(ME)

    for store in (first, second):
        with pytest.raises(StoreHeld) as held:
            store.open(YOU)
        assert held.value.pid in (os.getpid(), YOU.pid)

    assert first.write([], NOW) == []
    first.close()
    second.open(YOU)
    second.close()


def test_a_lock_file_without_a_process_is_no_obstacle(tmp_path: Path) -> None:
    """A stale one, whatever is written in it."""
    (tmp_path / "jobs.db.lock").write_text('{"pid": 1, "boot_id": "gone", "started": "2020-01-01"}' + " " * 999)
    store = SqliteStore(tmp_path / "jobs.db")

    store.open(ME)

    told = json.loads((tmp_path / "jobs.db.lock").read_text())
    assert told == {"pid": os.getpid(), "boot_id": "boot-me", "started": "2023-11-14T22:13:20+00:00"}
    store.close()


def test_a_full_disk_keeps_nobody_from_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds it is written for people only; the next one takes it all the same."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    store = SqliteStore(tmp_path / "jobs.db")

    for _ in range(2):
        store.open(ME)
        store.close()

    assert not (tmp_path / "jobs.db.lock").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "started": 1}', "\xff"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, text: str) -> None:
    """Between taking the lock and writing its name."""
    lock = OwnerLock.take(str(tmp_path / "jobs.db"), YOU)
    (tmp_path / "jobs.db.lock").write_text(text, encoding="latin-1")

    with pytest.raises(StoreHeld) as held:
        SqliteStore(tmp_path / "jobs.db").open(ME)

    assert (held.value.pid, held.value.started) == (None, None)
    assert "is held by another process: one runtime" in str(held.value)
    lock.release()
    lock.release()


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Writing our name must not overwrite what a link points at."""
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "jobs.db.lock").symlink_to(tmp_path / "letter")

    with pytest.raises(CannotOpen, match="cannot make the lock file"):
        SqliteStore(tmp_path / "jobs.db").open(ME)

    assert (tmp_path / "letter").read_text() == "dear"


def test_the_lock_is_not_taken_on_a_file_that_was_just_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder released it between our opening and our locking: we look again, and lock what is there."""
    database = str(tmp_path / "jobs.db")
    first = OwnerLock.take(database, YOU)
    real_open = os.open
    opened: list[str] = []

    def open_then_release(path: str, flags: int, mode: int = 0o777) -> int:
        fd = real_open(path, flags, mode)
        if not opened:
            first.release()
        opened.append(path)
        return fd

    monkeypatch.setattr(os, "open", open_then_release)

    lock = OwnerLock.take(database, ME)

    assert len(opened) == 2
    with pytest.raises(StoreHeld):
        OwnerLock.take(database, YOU)
    lock.release()


def test_the_lock_does_not_survive_in_a_forked_child(tmp_path: Path) -> None:
    """A child that was forked while the store was open does not keep it from the next runtime, and cannot write to it."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(ME)
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def child() -> None:
        said = []
        try:
            store.write([], NOW)
        except StoreClosed:
            said.append("closed")
        store.close()
        theirs.send(said)
        theirs.recv()

    process = fork.Process(target=child)
    process.start()
    said = ours.recv()
    store.write([Insert((NewRun("01J", LANE, b"{}", 1),))], NOW)
    store.close()
    again = SqliteStore(tmp_path / "jobs.db")
    again.open(YOU)

    assert said == ["closed"]
    assert again.write([Cancel("01J")], NOW)[0] != CancelAnswer("01J", None, canceled=False)
    ours.send("end")
    process.join()
    assert process.exitcode == 0
    again.close()


def test_clients_write_beside_a_runtime(tmp_path: Path) -> None:
    """Without the lock: both see what the other wrote, and `changed` says so once."""
    runtime, client = SqliteStore(tmp_path / "jobs.db"), SqliteStore(tmp_path / "jobs.db", exclusive=False)
    runtime.open(ME)
    client.open(YOU)
    assert (runtime.exclusive, client.exclusive) == (True, False)
    runtime.changed()

    assert client.write([Insert((NewRun("01J", LANE, b"{}", 1),))], NOW) == [Inserted((None,))]
    seen = [runtime.changed(), runtime.changed()]
    runtime.write([Insert((NewRun("02J", LANE, b"{}", 1),))], NOW)
    client.write([Insert((NewRun("03J", LANE, b"{}", 1),))], NOW)
    runtime.write([Insert((NewRun("04J", LANE, b"{}", 1),))], NOW)

    assert seen == [True, False]
    assert [runtime.changed(), runtime.changed()] == [True, False]
    reader = client.reader()
    assert [each.n for each in reader.counts()] == [4]
    reader.close()
    client.close()
    runtime.close()
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.db"]


def test_a_client_makes_a_store_without_keeping_the_lock(tmp_path: Path) -> None:
    """The lock guards the making only."""
    client, runtime = SqliteStore(tmp_path / "jobs.db", exclusive=False), SqliteStore(tmp_path / "jobs.db")

    client.open(YOU)
    runtime.open(ME)

    runtime.close()
    client.close()
