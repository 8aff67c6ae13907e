"""`callsheet doctor`: what is wrong with a database is found, told in a sentence, and left as it is."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw
import pytest
import trio

from callsheet import Owner, open_runtime
from callsheet.commands import statuses
from callsheet.store.records import Now
from callsheet.store.sqlite import SqliteStore, holders, schema
from callsheet.store.sqlite.books import counters, history
from callsheet.store.sqlite.doctor import examine
from callsheet.store.sqlite.onlooker import is_shared

from . import callboard
from .shell import Done, call, process, started

NOTHING = "Nothing wrong was found"


def state(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Every file of a folder, its rights, its time, what is in it."""
    return {
        path.name: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.iterdir())
    }


def looked_at(path: Path) -> Done:
    """What the doctor says; all is as it was afterwards."""
    before = state(path.parent)

    done = call("doctor", "--store", path)

    assert before == state(path.parent)
    return done


def edited(path: Path, *statements: str) -> Path:
    """Somebody changed rows by hand."""
    db = apsw.Connection(str(path))
    for each in statements:
        db.execute(each).fetchall()
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
    db.close()
    return path


def one_left_by_a_kill(path: Path, *, shared: bool = True) -> Path:
    """What is on the disk while a runtime works, without the runtime: its log is not copied, its lock file is there."""

    async def work() -> None:
        async with open_runtime(path, callboard.jobs, grace=0):
            await callboard.jobs.enqueue("sleep", 1_000, run_id="asleep")
            with trio.fail_after(10):
                while not (await callboard.jobs.runs.get("asleep")).run.attempt:
                    await trio.lowlevel.checkpoint()
            for end in ("", "-wal", *(["-shm"] if shared else []), ".lock"):
                shutil.copy(f"{path}{end}", f"{left}{end}")

    left = path.parent / "left" / "jobs.db"
    left.parent.mkdir()
    trio.run(work)
    return left


def test_a_database_in_order(store: Path) -> None:
    """It says that nothing is wrong, what was looked at, and how long that took."""
    done = looked_at(store)

    *lines, last = done.out.splitlines()
    assert (0, "") == (done.status, done.err)
    assert {"ok"} == {line.split()[0] for line in lines}
    assert last.startswith(f"{NOTHING}: {len(lines)} checks in ")
    assert ["place", "space", "rights", "file", "SQLite", "schema", "integrity", "log", "counters", "history"] == [
        line.split()[1].rstrip(":") for line in lines[:10]
    ]
    assert "the counters say what there is: 8 runs" in done.out
    assert "clients without the code find app/board" in done.out


def test_what_programs_are_given(store: Path) -> None:
    """One document: each check with its state."""
    found = call("doctor", "--store", store, "--json").json

    assert (str(store), {"ok"}, {"check", "state", "text", "remedy"}) == (
        found["store"],
        {each["state"] for each in found["findings"]},
        {name for each in found["findings"] for name in each},
    )


def test_it_looks_beside_a_runtime_that_works(store: Path) -> None:
    """It sees what is in the log, who holds the lock, that the socket is heard, and is in nobody's way."""

    async def work() -> Done:
        async with open_runtime(store, callboard.jobs):
            await callboard.jobs.enqueue("echo", 1)
            done = await trio.to_thread.run_sync(lambda: process("doctor", "--store", store))
            await callboard.jobs.enqueue("echo", 2)
        return done

    done = trio.run(work)

    assert (0, "") == (done.status, done.err)
    assert NOTHING in done.out
    assert "9 runs" in done.out
    assert f"process {os.getpid()} holds it since" in done.out
    assert f"(process {os.getpid()} on " in done.out
    assert "hears at once of what other programs write" in done.out
    assert ["jobs.db"] == [path.name for path in store.parent.iterdir()]


@pytest.mark.parametrize("shared", [True, False])
def test_what_a_killed_runtime_left(store: Path, shared: bool) -> None:
    """The log is read, with its index beside it or without; the run that nobody runs any more is told. Nothing is broken."""
    left = one_left_by_a_kill(store, shared=shared)
    lock = Path(f"{left}.lock")
    lock.write_text(lock.read_text().replace(str(os.getpid()), "999999999"))
    edited_pid = edited_log(left)

    done = looked_at(left)

    assert 0 == done.status
    assert "9 runs" in done.out
    assert "warning  lock: process 999999999, which held it since" in done.out
    assert f"warning  runtimes: 1 run is running under runtime {edited_pid}" in done.out
    assert "2 warnings: " in done.out


def edited_log(left: Path) -> str:
    """The boot id of the runtime that was there."""
    found: dict[str, Any] = __import__("json").loads(Path(f"{left}.lock").read_text())
    return str(found["boot_id"])


RUN: Final = "where id = 'dead-1'"
OF: Final = "where run = (select rid from runs where id = 'dead-1')"
BOOKS: Final[dict[str, tuple[str, str, str]]] = {
    "a status": (f"update runs set status = 4 {RUN}", "history", "run dead-1 is not what its last transition made of it"),
    "an attempt": (f"update runs set attempt = 3 {RUN}", "history", "run dead-1 is not what its last transition"),
    "tries": (f"update runs set spent = 1 {RUN}", "history", "run dead-1 has not the attempts that it says it had"),
    "an end": (f"update runs set ended_us = null {RUN}", "history", "run dead-1 is not what its last transition"),
    "a cause": (f"update runs set cause = 'fixed' {RUN}", "history", "run dead-1 is not what its last transition"),
    "a claim": (f"update runs set owner = 1 {RUN}", "history", "run dead-1 is running without an owner, or has one"),
    "a payload": (f"update runs set payload = null {RUN}", "history", "run dead-1 has lost its payload"),
    "an attempt that is gone": (f"delete from attempts {OF} and n = 1", "history", "run dead-1 has not the attempts"),
    "a transition that is gone": (
        f"delete from transitions {OF} and seq = 3",
        "history",
        "run dead-1 has transitions that do not follow from one another",
    ),
    "all transitions": (f"delete from transitions {OF}", "history", "run dead-1 is not what its last transition"),
    "a move": (f"update transitions set move = 4 {OF} and seq = 2", "history", "run dead-1 made a move that no run can"),
    "an unknown move": (f"update transitions set move = 77 {OF} and seq = 2", "history", "run dead-1 made a move"),
    "a status before": (f"update transitions set was = 3 {OF} and seq = 2", "history", "run dead-1 has transitions"),
    "life after its end": (f"update transitions set now = 4 {OF} and seq = 3", "history", "run dead-1 has transitions"),
    "a run that is gone": ("delete from runs where id = 'later'", "history", "is gone, and part of its history is still there"),
    "a counter": (
        "update counters set n = n + 2 where status = 5",
        "counters",
        "4 runs of fail on app/board-jobs are said to be dead_lettered, and 2 are",
    ),
    "a counter that is gone": ("delete from counters where status = 4", "counters", "0 runs of echo on app/board-jobs"),
    "a lane": ("delete from lanes where task = 'fail'", "history", ""),
    "a definition": (
        "update definitions set body = x'7b'",
        "published",
        "the definition of app/board is no JSON; open the store with their code",
    ),
    "an index": ("drop index ready", "tables", "it lacks index ready"),
    "a table": ("drop table queues", "tables", "it lacks column queues.batch_size"),
    "a column": ("alter table runs drop column trace_context", "tables", "it lacks column runs.trace_context"),
}  # fmt: skip
del BOOKS["a lane"]


@pytest.mark.parametrize(("change", "check", "told"), BOOKS.values(), ids=BOOKS)
def test_rows_that_somebody_edited(store: Path, change: str, check: str, told: str) -> None:
    """I4 and S8: each is found, with the run, and with what would do; status 1."""
    edited(store, change)

    done = looked_at(store)

    assert statuses.NOT_SO == done.status
    (line,) = [each for each in done.out.splitlines() if each.startswith(f"broken   {check}: ") and told in each]
    assert "; restore a backup" in line or check == "published"
    assert " broken" in done.out.splitlines()[-1]


def test_many_runs_that_are_wrong_are_counted(store: Path) -> None:
    """Some are named, the others counted."""
    edited(store, "update runs set cause = 'x' where status = 4 or status = 5")

    done = looked_at(store)

    assert "(and 2 more) is not what its last transition made of it" in done.out


def truncated(path: Path) -> None:
    """Half of it, in whole pages."""
    os.truncate(path, path.stat().st_size // 8192 * 4096)


def page_of_nonsense(path: Path) -> None:
    """Not the first one, which says what it is."""
    body = bytearray(path.read_bytes())
    body[-4096 * 3 :] = b"\xa5" * 4096 * 3
    path.write_bytes(body)


def another_programs(path: Path) -> None:
    path.unlink()
    edited(path, "create table notes(x)")


FILES: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "truncated": (truncated, "is damaged"),
    "nonsense in it": (page_of_nonsense, "is damaged ("),
    "another program's": (another_programs, "is not a callsheet database (it has other tables)"),
    "a letter": (lambda path: path.write_text("Dear Sir or Madam\n" * 99), "it is not a SQLite database"),
    "a newer release's": (lambda path: edited(path, "update meta set value = 99"), "upgrade callsheet"),
    "without a schema": (lambda path: edited(path, "delete from meta"), "does not say which schema"),
}


@pytest.mark.parametrize(("spoil", "told"), FILES.values(), ids=FILES)
def test_a_file_that_nobody_could_use_is_explained(store: Path, spoil: Callable[[Path], object], told: str) -> None:
    """S4: foreign, damaged, of a newer release: status 65, the reason, and the file as it was."""
    spoil(store)
    store.chmod(0o600)

    done = looked_at(store)

    assert (statuses.DATA, "") == (done.status, done.err)
    assert told in next(line for line in done.out.splitlines() if line.startswith("broken"))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("whose", ["another store", "another program"])
def test_the_log_of_another_database_is_told_apart(store: Path, tmp_path: Path, whose: str, shared: bool) -> None:
    """S4: beside a good database lies a log that is not its own: it says so, and what to do with it."""
    other = tmp_path / "other"
    other.mkdir()
    if whose == "another store":
        from .shell import work

        work(other / "jobs.db", ("echo", 1, {}))
        strange = one_left_by_a_kill(other / "jobs.db", shared=shared)
    else:
        strange = other / "notes.db"
        db = apsw.Connection(str(strange))
        db.execute("pragma journal_mode = wal; create table notes(x); insert into notes values (1)").fetchall()
    for end in ("-wal", "-shm") if shared else ("-wal",):
        shutil.copy(f"{strange}{end}", f"{store}{end}")
        Path(f"{store}{end}").chmod(0o600)

    done = looked_at(store)

    assert statuses.DATA == done.status
    assert f"the log {store}-wal does not belong to the database beside it, which is whole without it" in done.out
    assert f"move {store}-wal and {store}-shm away" in done.out


def test_a_log_without_its_database(store: Path) -> None:
    """What is left when somebody moved only one of the two."""
    left = one_left_by_a_kill(store)
    left.unlink()

    done = looked_at(left)

    assert statuses.DATA == done.status
    assert "it is not there, but its log" in done.out


def test_nothing_to_look_at(tmp_path: Path) -> None:
    """No database: status 69; an empty file: a warning, since a runtime would take it."""
    (tmp_path / "empty.db").touch(0o600)

    nowhere, empty = (call("doctor", "--store", tmp_path / name) for name in ("nowhere.db", "empty.db"))

    assert (69, "") == (nowhere.status, nowhere.out)
    assert (69, "") == (empty.status, empty.out)
    assert ["empty.db"] == [path.name for path in tmp_path.iterdir()]


def test_rights_that_are_too_wide(store: Path) -> None:
    """What others may read is a warning, with the command that mends it."""
    store.chmod(0o644)

    done = looked_at(store)

    assert 0 == done.status
    assert f"warning  rights: others may use {store}; chmod 600 {store}" in done.out


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.chmod(0o400), "it is read-only"),
        (lambda path: path.parent.chmod(0o777), "everybody may replace files"),
        (lambda path: Path(f"{path}.twin").hardlink_to(path), "it has a second name (a hard link)"),
        (lambda path: path.parent.chmod(0o500), "its folder is read-only"),
    ],
)
def test_a_place_where_no_runtime_would_open_it(store: Path, spoil: Callable[[Path], object], told: str) -> None:
    """It is said, and the database is looked at nevertheless; status 1."""
    spoil(store)
    try:
        done = looked_at(store)
    finally:
        store.parent.chmod(0o700)

    assert 1 == done.status
    assert f"broken   place: no runtime can open it where it is: {told}" in done.out
    assert "ok       history" in done.out


def test_a_disk_that_is_almost_full(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, before it is too late."""
    true_statvfs = os.statvfs

    def nearly_full(path: Any) -> Any:
        found = list(true_statvfs(path))
        found[1], found[4] = 1024, 1024
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    done = looked_at(store)

    assert 0 == done.status
    assert "warning  space: 1,024 KiB are left on its disk; make room" in done.out


def test_a_log_that_nobody_copies(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has grown long: somebody reads all the time."""
    monkeypatch.setattr("callsheet.store.sqlite.onlooker.LONG_LOG", 4_096)
    left = one_left_by_a_kill(store)

    assert "warning  log: its log has grown to" in looked_at(left).out


def test_an_older_schema_is_brought_up_to_date_by_others(store: Path) -> None:
    """The doctor says who will do it, and looks at what there is."""
    edited(store, "update meta set value = 2 where name = 'schema'", "drop table definitions", "drop table pruned",
           "drop index ended_untimely", "alter table runs drop column trace_context")  # fmt: skip

    done = looked_at(store)

    assert 0 == done.status
    assert f"warning  schema: it has schema 2, this release {schema.SCHEMA}" in done.out
    assert "ok       history" in done.out


def test_a_runtime_that_stands_still_and_a_run_that_is_deaf(store: Path) -> None:
    """It holds the lock, and was not seen for long; a run goes on although it was told to stop."""

    async def work() -> Done:
        async with open_runtime(store, callboard.jobs, grace=0):
            await callboard.jobs.enqueue("sleep", 1_000, run_id="asleep")
            with trio.fail_after(10):
                while not (await callboard.jobs.runs.get("asleep")).run.attempt:
                    await trio.lowlevel.checkpoint()
            db = apsw.Connection(str(store))
            db.set_busy_timeout(5_000)
            db.execute("update owners set seen_us = 1").fetchall()
            db.execute("update runs set stuck_since_us = 1 where id = 'asleep'").fetchall()
            db.close()
            return await trio.to_thread.run_sync(lambda: call("doctor", "--store", store))

    done = trio.run(work)

    assert 0 == done.status
    assert "was last seen at 1970-01-01 00:00:00Z; see whether it stands still" in done.out
    assert "warning  stuck: run asleep goes on although it was told to stop" in done.out


def test_where_the_system_lists_no_locks_the_process_is_looked_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere than on Linux: alive or not is what is known."""
    monkeypatch.setattr(holders, "LOCKS", store.parent / "nothing")
    lock = Path(f"{store}.lock")
    for pid, expected in ((os.getpid(), True), (1, True), (999_999_999, False)):
        lock.write_text(f'{{"pid": {pid}, "boot_id": "b", "started": "then"}}')
        found = holders.holder_of(str(store))
        assert found is not None
        assert (pid, expected) == (found.pid, found.is_there)
    for nonsense in ("", "[]", "{}", '{"pid": "x"}'):
        lock.write_text(nonsense)
        assert holders.holder_of(str(store)) is None


def test_long_histories_and_many_runs_are_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that was cut, runs that were canceled, snoozed, handed back and rescued, over several pages: nothing wrong."""
    from callsheet.store.contract import Cancel, Claim, Insert, Rescue, Settle, Settlement
    from callsheet.store.records import Lane, Move, NewRun, OutcomeKind, Verdict

    monkeypatch.setattr("callsheet.store.sqlite.books.PAGE", 7)
    lane, path = Lane("a/b", "a/q", "t", "1"), tmp_path / "jobs.db"
    store = SqliteStore(path)
    store.open(Owner("boot", 1, "here", 0))
    runs = [NewRun(f"{n:02}", lane, b"x" * (2_000 if n % 2 else 2), 1, max_attempts=500) for n in range(20)]
    store.write([Insert((runs[0],))], Now(1, 1))
    for n in range(1, 131):
        (claimed,) = store.write([Claim("boot", bytes([n]), (lane,), 1, 60)], Now(n, n))
        (run,) = claimed.runs  # type: ignore[union-attr]
        verdict = Verdict(Move.RETRY, OutcomeKind.FAILED) if n % 3 else Verdict(Move.HAND_BACK, OutcomeKind.INTERRUPTED)
        store.write([Settle((Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict),))], Now(n, n))
    store.write([Insert(tuple(runs))], Now(150, 150))
    (claimed,) = store.write([Claim("dead", b"d", (lane,), 3, 60)], Now(200, 200))
    store.write([Cancel(claimed.runs[0].run_id), Cancel("15"), Rescue("boot", "others", 10)], Now(300, 300))  # type: ignore[union-attr]
    store.close()
    most = edited_value(path, "select max(attempt) from runs")

    found = list(examine(path, 400))

    assert most > 100
    assert [] == [each for each in found if each.check in ("counters", "history") and each.state != "ok"]


def edited_value(path: Path, sql: str) -> Any:
    db = apsw.Connection(str(path))
    try:
        return db.execute(sql).get
    finally:
        db.close()


def test_progress_is_told(store: Path) -> None:
    """What is looked at, and how far it is."""
    told: list[tuple[str, int, int]] = []
    db = apsw.Connection(str(store))

    counters(db, lambda *each: told.append(each))
    list(history(db, lambda *each: told.append(each)))

    db.close()
    assert [("counters", 0, 0), ("history", 0, 8)] == told


def test_who_works_on_it_is_joined(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks are heeded while a runtime is there, and where the system does not tell whether one is."""
    left = one_left_by_a_kill(store)

    async def work() -> bool:
        async with open_runtime(store, callboard.jobs, grace=0):
            return is_shared(str(store))

    assert (True, False) == (trio.run(work), is_shared(str(left)))
    monkeypatch.setattr(holders, "LOCKS", store.parent / "nothing")
    assert (False, True) == (is_shared(str(store)), is_shared(str(left)))


def test_the_lock_is_not_touched(store: Path) -> None:
    """While the doctor looks again and again, a runtime can open it each time."""
    import subprocess

    async def open_it() -> None:
        async with open_runtime(store, callboard.jobs):
            pass

    with started("doctor", "--store", store, stdout=subprocess.DEVNULL) as doctor:
        while doctor.poll() is None:
            trio.run(open_it)
        assert (0, "") == (doctor.wait(), doctor.communicate()[1])
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
