"""What becomes of a SQLite store when its disk, its neighbours or its caller misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from callsheet.store.contract import Claim, ClaimedRuns, Command, Insert, Inserted, Settle, Settlement
from callsheet.store.errors import (
    DamagedStore,
    MalformedCommand,
    OutcomeUnknown,
    StoreBusy,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
)
from callsheet.store.records import Lane, Move, NewRun, Now, OutcomeKind, Owner, RunFilter, Status, Verdict
from callsheet.store.sqlite import SqliteStore, log
from callsheet.store.sqlite.connection import translate

OWNER = Owner("boot-a", 7, "host", 1_700_000_000_000_000)
NOW = Now(1, 1)
LANE = Lane("app/main", "app/main-jobs", "mail", "1")
HOOK = Lane("app/main", "app/main-jobs", "hook", "1")
SUCCEED = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)


def insert(*ids: str, lane: Lane = LANE) -> Insert:
    return Insert(tuple(NewRun(each, lane, b"{}", 1) for each in ids))


def stored(store: SqliteStore) -> list[str]:
    reader = store.reader()
    try:
        return [run.id for run in reader.list(RunFilter(), limit=99)]
    finally:
        reader.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "jobs.db", busy_s=0)
    store.open(OWNER)
    yield store
    store.close()


@pytest.fixture
def other(store: SqliteStore) -> Iterator[apsw.Connection]:
    """Somebody else's connection to the same database."""
    db = apsw.Connection(store.name)
    yield db
    db.close()


# ---------------------------------------------------------------- before and after the commit


class Flaky(SqliteStore):
    """Fails around the commit, as often as it is told."""

    fail: Callable[[apsw.Connection], None] | None = None

    def _commit(self, db: apsw.Connection) -> None:
        if self.fail is not None:
            fail, self.fail = self.fail, None
            fail(db)
        super()._commit(db)


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[Flaky]:
    store = Flaky(tmp_path / "flaky.db")
    store.open(OWNER)
    yield store
    store.close()


def raising(error: BaseException, *, after: bool = False) -> Callable[[apsw.Connection], None]:
    def fail(db: apsw.Connection) -> None:
        if after:
            db.execute("commit")
        raise error

    return fail


@pytest.mark.parametrize("after", [False, True])
def test_i6_a_failed_commit_is_an_unknown_outcome(flaky: Flaky, after: bool) -> None:
    """Whether it is durable is not guessed; the next write opens anew and finds the truth."""
    flaky.write([insert("01J")], NOW)
    flaky.fail = raising(apsw.IOError("disk I/O error"), after=after)

    with pytest.raises(OutcomeUnknown, match="whether the last commit is durable is unknown") as unknown:
        flaky.write([insert("02J", lane=HOOK)], NOW)

    assert isinstance(unknown.value.__cause__, apsw.IOError)
    assert stored(flaky) == (["02J", "01J"] if after else ["01J"])
    (answer,) = flaky.write([insert("02J", lane=HOOK)], NOW)
    assert isinstance(answer, Inserted)
    assert (answer.existing[0] is not None) == after
    assert stored(flaky) == ["02J", "01J"]


def test_a_full_disk_at_the_commit_is_no_unknown_outcome(flaky: Flaky) -> None:
    """SQLite refuses before anything is durable: nothing was stored, and the store goes on."""
    flaky.fail = raising(apsw.FullError("database or disk is full"))

    with pytest.raises(StoreFull):
        flaky.write([insert("01J", lane=HOOK)], NOW)

    flaky.write([insert("02J", lane=HOOK)], NOW)
    assert stored(flaky) == ["02J"]


def test_an_interruption_at_the_commit_is_passed_on(flaky: Flaky) -> None:
    """What is no error of the database is not ours to rename; the connection is not trusted further."""
    flaky.fail = raising(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        flaky.write([insert("01J")], NOW)

    flaky.write([insert("02J")], NOW)
    assert stored(flaky) == ["02J"]


@pytest.mark.parametrize("at", ["first", "last"])
def test_what_is_kept_in_mind_is_right_after_a_rollback(store: SqliteStore, at: str) -> None:
    """Lanes, boots and counters of a batch that failed are forgotten with it."""
    bad: Any = object()
    claim = Claim("boot-b", b"c", (LANE, HOOK), 9, 1)
    store.write([insert("01J")], NOW)
    batch: list[Command] = [insert("02J", lane=HOOK), claim]

    with pytest.raises(AssertionError):
        store.write([bad, *batch] if at == "first" else [*batch, bad], NOW)

    _, answer = store.write([insert("03J", lane=HOOK), claim], NOW)
    assert isinstance(answer, ClaimedRuns)
    assert [(each.run_id, each.lane) for each in answer.runs] == [("01J", LANE), ("03J", HOOK)]
    reader = store.reader()
    assert [(each.lane, each.status, each.n) for each in reader.counts()] == [
        (HOOK, Status.RUNNING, 1),
        (LANE, Status.RUNNING, 1),
    ]
    reader.close()


def test_the_scope_of_keys_is_right_after_a_rollback(store: SqliteStore) -> None:
    """The number that a Jobs instance had in a batch that failed may be another's in the next."""
    bad: Any = object()
    others = Lane("app/other", "app/other-jobs", "mail", "1")

    def keyed(run: str, lane: Lane) -> Insert:
        return Insert((NewRun(run, lane, b"{}", 1, idempotency_key="k"),))

    with pytest.raises(AssertionError):
        store.write([keyed("01J", LANE), bad], NOW)

    answers = store.write([keyed("02J", others), keyed("03J", LANE)], NOW)
    assert answers == [Inserted((None,)), Inserted((None,))]


@pytest.mark.parametrize(
    "bad",
    [
        {"id": None},
        {"id": "\ud800"},
        {"payload": "text"},
        {"priority": 1 << 70},
        {"created_us": "soon"},
        {"lane": Lane("a", "b", "c", None)},  # type: ignore[arg-type]
    ],
)
def test_values_that_no_column_takes(store: SqliteStore, bad: dict[str, Any]) -> None:
    """They refuse their batch, and nothing else."""
    fields: dict[str, Any] = {"id": "02J", "lane": LANE, "payload": b"{}", "created_us": 1, **bad}

    with pytest.raises((MalformedCommand, TypeError, ValueError, OverflowError)):
        store.write([insert("01J"), Insert((NewRun(**fields),))], NOW)

    assert stored(store) == []
    assert store.write([insert("01J")], NOW) == [Inserted((None,))]


# ---------------------------------------------------------------- neighbours


def test_a_busy_store_says_so(store: SqliteStore, other: apsw.Connection) -> None:
    """Nothing was stored; when the other is done, it goes on."""
    other.execute("begin immediate")

    with pytest.raises(StoreBusy, match="was locked by another transaction for 0 s: nothing was stored") as busy:
        store.write([insert("01J")], NOW)

    assert isinstance(busy.value.__cause__, apsw.BusyError)
    other.execute("rollback")
    store.write([insert("01J")], NOW)
    assert stored(store) == ["01J"]


def test_a_busy_store_can_be_read(store: SqliteStore, other: apsw.Connection) -> None:
    """Readers see what was committed before."""
    store.write([insert("01J")], NOW)
    other.execute("begin immediate")
    other.execute("delete from runs")

    assert stored(store) == ["01J"]

    other.execute("rollback")


def test_counters_follow_what_somebody_else_wrote(store: SqliteStore) -> None:
    """A lane and runs of a Client are claimed without reopening."""
    client = SqliteStore(store.name, exclusive=False)
    client.open(OWNER)
    store.write([insert("01J", "04J"), Claim("boot-a", b"c", (LANE, HOOK), 1, 1)], NOW)

    client.write([insert("02J", lane=HOOK), Insert((NewRun("03J", LANE, b"{}", 1, priority=1),))], NOW)
    (answer,) = store.write([Claim("boot-a", b"c", (LANE, HOOK), 9, 1)], NOW)

    assert isinstance(answer, ClaimedRuns)
    assert [each.run_id for each in answer.runs] == ["03J", "02J", "04J"]
    client.close()


def test_a_damaged_page_is_reported_when_it_is_met(tmp_path: Path) -> None:
    """Not taken for an empty table."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    store.write([insert(*(f"{n:05}" for n in range(3000)))], NOW)
    store.close()
    body = bytearray((tmp_path / "jobs.db").read_bytes())
    body[40 * 4096 : -4096] = b"\xaa" * (len(body) - 41 * 4096)
    (tmp_path / "jobs.db").write_bytes(body)
    store.open(OWNER)

    with pytest.raises(DamagedStore) as damaged:
        store.write([Claim("boot-a", b"c", (LANE,), 3000, 1)], NOW)

    assert isinstance(damaged.value.__cause__, apsw.CorruptError)
    store.close()


def test_what_else_may_happen_is_named(tmp_path: Path) -> None:
    """Every error of the database that is not foreseen is a StoreError all the same."""
    for error in (apsw.IOError("x"), apsw.NoMemError("x"), apsw.SQLError("x"), apsw.InternalError("x")):
        assert isinstance(translate(error, "p", 1), StoreUnavailable)
    assert str(translate(apsw.IOError("disk I/O error"), "p", 1)) == "p: disk I/O error: nothing was stored"
    assert isinstance(translate(apsw.ConnectionClosedError(), "p", 1), StoreClosed)


# ---------------------------------------------------------------- a disk that fails


class FaultyDisk(apsw.VFS):
    """The usual file layer, failing where it is told. While it exists it is the one that is used."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.failed = 0
        """How often the log was flushed, or written, in vain."""
        super().__init__("faulty", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return FaultyFile(self, name, flags)


class FaultyFile(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        self.is_database = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self.is_log and "full" in self.disk.failing:
            raise apsw.FullError("database or disk is full")
        if self.is_database and "database" in self.disk.failing:
            raise apsw.FullError("database or disk is full")
        if self.is_log and "write" in self.disk.failing:
            self.disk.failed += 1
            raise apsw.IOError("disk I/O error")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.is_log and "sync" in self.disk.failing:
            self.disk.failed += 1
            raise apsw.IOError("disk I/O error")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    disk = FaultyDisk()
    yield disk
    disk.unregister()


def test_p10_a_full_disk_refuses_and_heals(disk: FaultyDisk, tmp_path: Path) -> None:
    """Nothing acknowledged is lost; when there is space again the same store goes on."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    store.write([insert("01J")], NOW)
    disk.failing.add("full")

    for _ in range(2):
        with pytest.raises(StoreFull):
            store.write([insert("02J", lane=HOOK)], NOW)

    assert stored(store) == ["01J"]
    disk.failing.clear()
    store.write([insert("02J", lane=HOOK)], NOW)
    assert stored(store) == ["02J", "01J"]
    store.close()


@pytest.mark.parametrize("fault", ["sync", "write"])
def test_i6_a_failing_flush_is_an_unknown_outcome(disk: FaultyDisk, tmp_path: Path, fault: str) -> None:
    """The flush is not repeated; whatever the answer turns out to be, nothing is half there."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    store.write([insert("01J")], NOW)
    disk.failing.add(fault)

    with pytest.raises(OutcomeUnknown):
        store.write([insert("02J", "03J", lane=HOOK)], NOW)

    assert disk.failed == 1
    disk.failing.clear()
    (answer,) = store.write([insert("02J", "03J", lane=HOOK)], NOW)
    assert isinstance(answer, Inserted)
    assert len({each is None for each in answer.existing}) == 1
    assert stored(store) == ["03J", "02J", "01J"]
    store.close()


# ---------------------------------------------------------------- the log


def log_size(store: SqliteStore) -> int:
    return Path(f"{store.name}-wal").stat().st_size


def fill(store: SqliteStore, first: int) -> None:
    runs = tuple(NewRun(f"{first}-{n:05}", LANE, b"x" * 4000, 1) for n in range(200))
    store.write([Insert(runs)], NOW)


def test_an_idle_store_copies_a_long_log(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the next writes begin it again, and it grows no further."""
    monkeypatch.setattr(log, "TIDY_PAGES", 300)
    for n in range(2):
        fill(store, n)
    size = log_size(store)

    for n in range(2, 20):
        store.idle()
        fill(store, n)

    assert log_size(store) <= 2 * size
    assert len(stored(store)) == 99


def test_a_short_log_is_left_alone(store: SqliteStore) -> None:
    """Copying costs a flush."""
    store.write([insert("01J")], NOW)
    database = Path(store.name).stat()

    store.idle()

    assert Path(store.name).stat().st_mtime_ns == database.st_mtime_ns


def test_a_store_that_is_never_idle_copies_its_log_too(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a size on, a write does it first."""
    monkeypatch.setattr(log, "TIDY_PAGES", 10)
    monkeypatch.setattr(log, "FORCED_PAGES", 300)
    for n in range(2):
        fill(store, n)
    size = log_size(store)

    for n in range(2, 20):
        fill(store, n)

    assert log_size(store) <= 2 * size


def test_a_reader_that_holds_on_to_the_log_does_not_stop_writes(
    store: SqliteStore, other: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows meanwhile, and is copied when the reader is gone."""
    for name, value in (("TIDY_PAGES", 10), ("FORCED_PAGES", 300), ("PAUSE_PAGES", 600), ("PAUSE_S", 0)):
        monkeypatch.setattr(log, name, value)
    other.execute("begin")
    other.execute("select count(*) from runs").fetchall()
    for n in range(8):
        fill(store, n)
    grown = log_size(store)
    other.execute("rollback")

    for n in range(8, 30):
        fill(store, n)

    assert log_size(store) <= grown * 2
    reader = store.reader()
    assert [each.n for each in reader.counts()] == [6000]
    reader.close()


def test_a_log_that_cannot_be_copied_keeps_nobody_from_writing(
    disk: FaultyDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it is durable there; it is copied when the disk takes it."""
    monkeypatch.setattr(log, "TIDY_PAGES", 10)
    monkeypatch.setattr(log, "FORCED_PAGES", 300)
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    size = Path(store.name).stat().st_size
    disk.failing.add("database")
    for n in range(4):
        fill(store, n)
        store.idle()
    grown = Path(store.name).stat().st_size

    disk.failing.clear()
    for n in range(4, 8):
        fill(store, n)

    assert grown == size
    assert Path(store.name).stat().st_size > size
    store.close()
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.db"]


def test_closing_leaves_one_file(store: SqliteStore) -> None:
    """Everything is in the database; log, index and lock are gone."""
    store.write([insert("01J")], NOW)
    path = Path(store.name)

    store.close()

    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert apsw.Connection(str(path)).execute("select count(*) from runs").get == 1


# ---------------------------------------------------------------- threads


def test_opened_in_one_thread_and_written_from_another(store: SqliteStore) -> None:
    """One at a time, as the journal does."""
    answers: list[object] = []

    def work() -> None:
        answers.extend(store.write([insert("01J")], NOW))
        (claim,) = store.write([Claim("boot-a", b"c", (LANE,), 9, 1)], NOW)
        assert isinstance(claim, ClaimedRuns)
        ends = tuple(Settlement(run.run_id, 1, b"c", 1, SUCCEED) for run in claim.runs)
        answers.extend(store.write([Settle(ends)], NOW))
        store.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert answers[0] == Inserted((None,))
    assert len(answers) == 2
