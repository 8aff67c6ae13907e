"""What a SQLite store is willing to open; whatever it refuses it leaves as it was."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from callsheet.store.contract import Insert
from callsheet.store.errors import (
    CannotOpen,
    DamagedStore,
    ForeignDatabase,
    NewerSchema,
    SettingRefused,
    StoreClosed,
    StoreError,
    StoreHeld,
)
from callsheet.store.records import Lane, NewRun, Now, Owner, RunFilter
from callsheet.store.sqlite import SqliteStore, connection, schema

OWNER = Owner("boot-a", 7, "host", 1_700_000_000_000_000)
NOW = Now(1, 1)
RUN = NewRun("01J", Lane("app/main", "app/main-jobs", "mail", "1"), b"{}", 1)


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file: its mode and a hash of its bytes."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def refused(name: str | Path, error: type[StoreError], folder: Path, *, exclusive: bool = True) -> str:
    """What the refusal says; the folder is the same afterwards."""
    before = contents(folder)

    with pytest.raises(error) as refusal:
        SqliteStore(name, exclusive=exclusive).open(OWNER)

    assert contents(folder) == before
    return str(refusal.value)


def made(path: Path) -> Path:
    """A store with one run, closed."""
    store = SqliteStore(path)
    store.open(OWNER)
    store.write([Insert((RUN,))], NOW)
    store.close()
    return path


def opened(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    store.open(OWNER)
    return store


def sql(path: Path, *statements: str) -> None:
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(statement).fetchall()
    db.close()


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("prefix", ["", "sqlite:///"])
def test_a_path_or_a_url(tmp_path: Path, prefix: str) -> None:
    """`sqlite:///` and an absolute path make four slashes."""
    store = SqliteStore(f"{prefix}{tmp_path}/jobs.db")
    store.open(OWNER)

    assert store.name == str(tmp_path / "jobs.db")
    store.close()
    assert list(contents(tmp_path)) == ["jobs.db"]


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the folder at open; changing the folder later does no harm."""
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("sqlite:///jobs.db")
    store.open(OWNER)
    monkeypatch.chdir("/")

    store.write([Insert((RUN,))], NOW)
    reader = store.reader()

    assert reader.get("01J") is not None
    reader.close()
    store.close()
    assert list(contents(tmp_path)) == ["jobs.db"]


@pytest.mark.parametrize(
    "name", ["", "sqlite:///", "a\x00b", ":memory:", "file:jobs.db", "sqlite://jobs.db", "mysql://x/y"]
)
def test_names_that_are_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No file is made for them."""
    monkeypatch.chdir(tmp_path)

    assert refused(name, CannotOpen, tmp_path).startswith("cannot open ")


def test_strange_but_good_names(tmp_path: Path) -> None:
    """Characters that mean something in a URI or in SQL."""
    for name in ("a b?mode=memory&x=%41#z.db", "it's;--.db", "café 🎭.db"):
        store = SqliteStore(tmp_path / name)
        store.open(OWNER)
        store.close()
        store.open(OWNER)
        store.close()
        assert list(contents(tmp_path)) == [name]
        (tmp_path / name).unlink()


def test_a_link_is_followed(tmp_path: Path) -> None:
    """Two names of one database share its lock and its log."""
    (tmp_path / "real").mkdir()
    path = made(tmp_path / "real" / "jobs.db")
    (tmp_path / "link.db").symlink_to(path)
    store = SqliteStore(path)
    store.open(OWNER)

    with pytest.raises(StoreHeld):
        SqliteStore(tmp_path / "link.db").open(OWNER)

    store.close()


# ---------------------------------------------------------------- places


def test_a_missing_folder(tmp_path: Path) -> None:
    """It is named, not made."""
    said = refused(tmp_path / "no" / "jobs.db", CannotOpen, tmp_path)

    assert said.endswith(f"there is no folder {tmp_path}/no")


def test_a_folder(tmp_path: Path) -> None:
    """A directory is no database."""
    (tmp_path / "jobs.db").mkdir()

    assert refused(tmp_path / "jobs.db", CannotOpen, tmp_path).endswith("it is a folder")


def test_a_pipe(tmp_path: Path) -> None:
    """Opening a FIFO would wait for ever."""
    os.mkfifo(tmp_path / "jobs.db")

    assert refused(tmp_path / "jobs.db", CannotOpen, tmp_path).endswith("it is not a regular file")


def test_a_read_only_file(tmp_path: Path) -> None:
    """Also for root, who could write it."""
    made(tmp_path / "jobs.db").chmod(0o400)

    assert refused(tmp_path / "jobs.db", CannotOpen, tmp_path).endswith("it is read-only")


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    made(folder / "jobs.db")
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize("name", ["jobs.db", "new.db"])
def test_a_read_only_folder(closed_folder: Path, name: str) -> None:
    """The log and the lock could not be made there."""
    assert refused(closed_folder / name, CannotOpen, closed_folder).endswith("its folder is read-only")


def test_a_hard_link(tmp_path: Path) -> None:
    """Two logs for one database would damage it."""
    made(tmp_path / "jobs.db")
    (tmp_path / "other.db").hardlink_to(tmp_path / "jobs.db")

    assert "second name" in refused(tmp_path / "other.db", CannotOpen, tmp_path)


def test_no_database_where_none_may_be_made(tmp_path: Path) -> None:
    """A Client never creates a store."""
    with pytest.raises(CannotOpen, match="there is no database"):
        SqliteStore(tmp_path / "jobs.db", exclusive=False, create=False).open(OWNER)

    assert contents(tmp_path) == {}


# ---------------------------------------------------------------- files


def test_a_new_database_is_private(tmp_path: Path) -> None:
    """Under the most careless umask, all files of it are its owner's alone."""
    before = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "jobs.db")
        store.open(OWNER)
        store.write([Insert((RUN,))], NOW)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)

    assert modes == dict.fromkeys(["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock"], 0o600)
    assert list(contents(tmp_path)) == ["jobs.db"]


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_empty_file_is_a_new_database(tmp_path: Path, exclusive: bool) -> None:
    """As `touch` or a temporary file makes it."""
    (tmp_path / "jobs.db").touch()
    store = SqliteStore(tmp_path / "jobs.db", exclusive=exclusive)

    store.open(OWNER)

    store.write([Insert((RUN,))], NOW)
    store.close()
    assert list(contents(tmp_path)) == ["jobs.db"]


def test_a_sqlite_database_with_nothing_in_it_is_a_new_one(tmp_path: Path) -> None:
    """As another tool may have made it for us."""
    sql(tmp_path / "jobs.db", "pragma user_version = 1", "vacuum")
    assert (tmp_path / "jobs.db").stat().st_size > 0

    made(tmp_path / "jobs.db")

    assert list(contents(tmp_path)) == ["jobs.db"]


def test_a_half_made_database_is_made_again(tmp_path: Path) -> None:
    """A database appears whole or not at all; what a crash left of the making is in nobody's way."""
    (tmp_path / "jobs.db.new").write_bytes(b"half")

    made(tmp_path / "jobs.db")

    assert list(contents(tmp_path)) == ["jobs.db"]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize(
    "body", [b"x", b"y" * 511, b"hello world\n" * 1000, b"\x00" * 8192, b"SQLite format 2\x00" + b"\x00" * 5000]
)
def test_a_file_that_is_no_database(tmp_path: Path, body: bytes, exclusive: bool) -> None:
    """Somebody's letter is not overwritten."""
    (tmp_path / "jobs.db").write_bytes(body)

    said = refused(tmp_path / "jobs.db", ForeignDatabase, tmp_path, exclusive=exclusive)

    assert "it is not a SQLite database" in said


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_database_of_another_program(tmp_path: Path, mode: str, exclusive: bool) -> None:
    """Tables without our mark, or somebody else's mark."""
    sql(tmp_path / "a.db", f"pragma journal_mode = {mode}", "create table t(x)", "insert into t values (1)")
    sql(tmp_path / "b.db", f"pragma journal_mode = {mode}", "pragma application_id = 42", "create table runs(x)")

    assert "it has other tables" in refused(tmp_path / "a.db", ForeignDatabase, tmp_path, exclusive=exclusive)
    assert "application id is 0x2a" in refused(tmp_path / "b.db", ForeignDatabase, tmp_path, exclusive=exclusive)


def test_a_database_of_another_program_that_is_in_use(tmp_path: Path) -> None:
    """All it has may still be in its log."""
    other = apsw.Connection(str(tmp_path / "jobs.db"))
    other.execute("pragma journal_mode = wal").fetchall()
    other.execute("create table t(x)")

    refused(tmp_path / "jobs.db", ForeignDatabase, tmp_path)

    other.close()


def test_a_newer_schema(tmp_path: Path) -> None:
    """One that demands a newer reader is refused, with the numbers."""
    path = made(tmp_path / "jobs.db")
    sql(path, f"update meta set value = {schema.SCHEMA + 2} where name = 'schema'")
    sql(path, f"update meta set value = {schema.SCHEMA + 1} where name = 'min_reader'")

    said = refused(path, NewerSchema, tmp_path)

    assert said == (
        f"{path} has schema 7, which needs a release that reads schema 6 or newer; this one knows 5: upgrade callsheet"
    )


def test_a_newer_schema_that_we_can_still_read(tmp_path: Path) -> None:
    """The release before goes on working during a deploy."""
    path = made(tmp_path / "jobs.db")
    sql(
        path,
        f"update meta set value = {schema.SCHEMA + 1} where name = 'schema'",
        "alter table runs add column new int",
    )

    store = SqliteStore(path)
    store.open(OWNER)
    store.write([Insert((NewRun("02J", RUN.lane, b"{}", 1),))], NOW)
    reader = store.reader()

    assert reader.get("02J") is not None
    reader.close()
    store.close()
    assert schema.versions(apsw.Connection(str(path))) == (schema.SCHEMA + 1, schema.MIN_READER)


def test_a_newer_schema_that_is_still_in_the_log(tmp_path: Path) -> None:
    """The newer release was killed: what it wrote is seen before anything of ours is."""
    path = made(tmp_path / "jobs.db")
    newer = apsw.Connection(str(path))
    newer.execute("pragma wal_autocheckpoint = 0").fetchall()
    newer.execute("update meta set value = 9")
    database = path.read_bytes()

    with pytest.raises(NewerSchema):
        SqliteStore(path).open(OWNER)

    assert path.read_bytes() == database
    assert newer.execute("select max(value) from meta").get == 9
    newer.close()
    assert list(contents(tmp_path)) == ["jobs.db"]


@pytest.mark.parametrize("left", [50, 512, 4096, 5000, -4096, -1])
def test_a_truncated_file(tmp_path: Path, left: int) -> None:
    """Nothing is read from half a database."""
    path = made(tmp_path / "jobs.db")
    path.write_bytes(path.read_bytes()[:left])

    assert "is damaged" in refused(path, DamagedStore, tmp_path)


@pytest.mark.parametrize("at", [16, 18, 21, 100])
def test_a_damaged_header(tmp_path: Path, at: int) -> None:
    """Its page size, format versions, payload fractions, the first page's kind."""
    path = made(tmp_path / "jobs.db")
    body = bytearray(path.read_bytes())
    body[at : at + 2] = b"\xff\xff"
    path.write_bytes(body)

    assert "is damaged" in refused(path, DamagedStore, tmp_path)


def test_a_database_that_does_not_say_its_schema(tmp_path: Path) -> None:
    """Our mark, but not our tables."""
    sql(tmp_path / "jobs.db", f"pragma application_id = {schema.APPLICATION_ID}", "create table t(x)")

    assert "does not say which schema" in refused(tmp_path / "jobs.db", DamagedStore, tmp_path)


@pytest.mark.parametrize("there", [True, False])
def test_a_log_without_its_database(tmp_path: Path, there: bool) -> None:
    """Somebody moved the database away: SQLite would throw the log away, and with it what was acknowledged."""
    (tmp_path / "jobs.db-wal").write_bytes(b"\x37\x7f\x06\x82" + b"x" * 8192)
    if there:
        (tmp_path / "jobs.db").touch()

    assert "jobs.db-wal is" in refused(tmp_path / "jobs.db", DamagedStore, tmp_path)


def test_a_setting_that_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is read back, not hoped for; the lock is free again."""
    path = made(tmp_path / "jobs.db")
    monkeypatch.setattr(connection, "_SETTINGS", (("synchronous", "normal", 2),))

    with pytest.raises(SettingRefused, match="synchronous should be 2, the database answers 1: nothing was stored"):
        SqliteStore(path).open(OWNER)

    assert list(contents(tmp_path)) == ["jobs.db"]


def test_a_sqlite_that_may_damage_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions before the repair are refused."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")

    with pytest.raises(SettingRefused, match=r"SQLite should be 3\.51\.3 or newer, the database answers 3\.51\.2"):
        SqliteStore(tmp_path / "jobs.db").open(OWNER)

    assert contents(tmp_path) == {}


def test_a_store_that_was_refused_can_be_opened_when_the_reason_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal leaves no half open store behind."""
    store = SqliteStore(made(tmp_path / "jobs.db"))
    with monkeypatch.context() as patch:
        patch.setattr(connection, "_SETTINGS", (("synchronous", "normal", 2),))
        with pytest.raises(SettingRefused):
            store.open(OWNER)
    with pytest.raises(StoreClosed):
        store.write([], NOW)

    store.open(OWNER)

    assert store.write([], NOW) == []
    store.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("mmap_size", 0),
        ("wal_autocheckpoint", 0),
        ("temp_store", 2),
        ("journal_size_limit", 64 * 1024 * 1024),
    ],
)
def test_p1_the_settings_of_the_writer(tmp_path: Path, setting: str, value: object) -> None:
    """A commit is on the disk before it is answered."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    assert store._ledger is not None

    assert store._ledger.db.execute(f"pragma {setting}").get == value
    store.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """Neither by mistake nor by a statement."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    reader = store.reader()
    assert reader._db is not None

    with pytest.raises(apsw.ReadOnlyError):
        reader._db.execute("delete from runs")

    reader.close()
    store.close()


def test_p8_a_kill_while_the_log_is_copied_is_no_damage(tmp_path: Path) -> None:
    """After each page of the copy: its first page may tell of pages that are not there yet, and the log has them all."""
    path, page = tmp_path / "jobs.db", 4096
    store = opened(path)
    lane = Lane("j", "q", "t", "1")
    store.write([Insert(tuple(NewRun(f"{n:010}", lane, b"x" * 900, n) for n in range(100)))], NOW)
    before, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    store.close()  # which copies all of it
    after = path.read_bytes()
    assert len(before) < len(after)
    assert before[:100] != after[:100]

    for copied in range(len(after) // page + 1):
        killed = tmp_path / f"killed-{copied}.db"
        killed.write_bytes(after[: copied * page] + before[copied * page :])
        Path(f"{killed}-wal").write_bytes(log)

        again = opened(killed)
        assert 100 == len(again.reader().list(RunFilter(), limit=1_000))
        again.close()


def test_a_newer_schema_is_refused_also_where_the_log_was_half_copied(tmp_path: Path) -> None:
    """By what the log says, and untouched."""
    path = tmp_path / "jobs.db"
    store = opened(path)
    lane = Lane("j", "q", "t", "1")
    store.write([Insert(tuple(NewRun(f"{n:010}", lane, b"x" * 900, n) for n in range(100)))], NOW)
    newer = apsw.Connection(str(path))
    newer.execute(f"update meta set value = {schema.SCHEMA + 1}")
    copy = tmp_path / "copy.db"
    for end in ("-wal", "-shm"):
        Path(f"{copy}{end}").write_bytes(Path(f"{path}{end}").read_bytes())
    body = bytearray(path.read_bytes())
    body[28:32], body[92:96] = (len(body) // 4096 + 50).to_bytes(4), body[24:28]
    copy.write_bytes(body)
    newer.close()
    store.close()

    refused(copy, NewerSchema, tmp_path)
