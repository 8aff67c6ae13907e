"""
What is no store of ours, through `jobs.open`: a sentence each, and nothing on disk is different afterwards.

Not here: what the SQLite store does file by file (`tests/store`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw
import pytest
import trio

import callsheet
from callsheet import CallsheetError, CannotOpen, DamagedStore, ForeignDatabase, Jobs, NewerSchema, StoreHeld

from .lives import ROOT

OPENER: Final = Path(__file__).with_name("opener.py")
NOBODY: Final = 65534
CHANGE: Final = """
import apsw, os, sys
db = apsw.Connection(sys.argv[1])
for each in sys.argv[2:]:
    db.execute(each)
os.kill(os.getpid(), 9)
"""
HEADER: Final = 100
"""Bytes of a SQLite file before its first table."""

jobs: Final = Jobs("proof", namespace="real")


@jobs.task("work")
async def work(payload: object, ctx: object) -> None:
    """Does nothing."""


# ---------------------------------------------------------------- what is found on disk


def ours(path: Path, runs: int = 300) -> None:
    """A store that was used and closed."""

    async def use() -> None:
        async with jobs.open(str(path)):
            await jobs.enqueue_many([jobs.tasks["work"].entry("x" * 200) for _ in range(runs)])

    trio.run(use)


def database(path: Path, *statements: str) -> None:
    """A SQLite database of somebody else."""
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(statement)
    db.close()


def changed(path: Path, *statements: str) -> None:
    """A store of ours that somebody has changed."""
    ours(path)
    database(path, *statements)


def killed(path: Path, *statements: str) -> None:
    """The same, by a process that was killed: the change stands in the log only."""
    ours(path)
    done = subprocess.run([sys.executable, "-c", CHANGE, path, *statements], check=False)
    assert done.returncode == -signal.SIGKILL
    assert Path(f"{path}-wal").stat().st_size > 0


def spoilt(path: Path, at: int, what: bytes) -> None:
    """A store of ours with other bytes at one place."""
    ours(path)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(what)


def truncated(path: Path, keep: float, within: int = 0) -> None:
    """The first part of a store of ours, in whole pages and `within` bytes more."""
    ours(path)
    pages = int(path.stat().st_size * keep) // 4096
    os.truncate(path, pages * 4096 + within)


def with_log_of_another(path: Path) -> None:
    """The log of another store beside a file that is gone."""
    killed(path, "create table more(x)")
    path.unlink()


def a_socket(path: Path) -> None:
    """What a server leaves behind."""
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path is short
        server.bind(path.name)
        os.chdir(ROOT)


NEWER: Final = "update meta set value = value + 9"
FOUND: Final[dict[str, tuple[Callable[[Path], object], type[CallsheetError], str]]] = {
    "another program's database": (
        lambda path: database(path, "pragma application_id = 252006674", "create table geometry(x)"),
        ForeignDatabase,
        "not a callsheet database .*application id",
    ),
    "a database with other tables": (
        lambda path: database(path, "create table jobs(id)"),
        ForeignDatabase,
        "not a callsheet database .*other tables",
    ),
    "another program's database, its log not copied": (
        lambda path: (database(path, "pragma journal_mode = wal", "create table jobs(id)")),
        ForeignDatabase,
        "not a callsheet database .*other tables",
    ),
    "a text": (lambda path: path.write_text("these are my notes\n" * 100), ForeignDatabase, "not a SQLite database"),
    "one byte": (lambda path: path.write_bytes(b"x"), ForeignDatabase, "not a SQLite database"),
    "zeros": (lambda path: path.write_bytes(bytes(40_960)), ForeignDatabase, "not a SQLite database"),
    "a newer schema": (lambda path: changed(path, NEWER), NewerSchema, r"schema \d+, .* knows \d+: upgrade callsheet"),
    "a newer schema, written by a process that was killed": (
        lambda path: killed(path, NEWER),
        NewerSchema,
        r"schema \d+, .* knows \d+: upgrade callsheet",
    ),
    "one that does not say its schema": (
        lambda path: changed(path, "delete from meta"),
        DamagedStore,
        "does not say which schema",
    ),
    "half of it": (lambda path: truncated(path, 0.5), DamagedStore, "is damaged .*restore a backup"),
    "all but the last page": (lambda path: truncated(path, 0.99), DamagedStore, "is damaged .*restore a backup"),
    "one page of it": (lambda path: truncated(path, 0, 4096), DamagedStore, "is damaged .*restore a backup"),
    "a part of its first page": (lambda path: truncated(path, 0, 700), DamagedStore, "is damaged .*restore a backup"),
    "a part of its header": (lambda path: truncated(path, 0, 50), DamagedStore, "is damaged .*restore a backup"),
    "all but a part of its last page": (
        lambda path: truncated(path, 0.99, 1000),
        DamagedStore,
        "is damaged .*restore a backup",
    ),
    "a header that begins otherwise": (lambda path: spoilt(path, 0, b"\0" * 16), ForeignDatabase, "not a SQLite database"),
    "a header of nonsense": (lambda path: spoilt(path, 16, b"\xff" * 84), DamagedStore, "is damaged .*header"),
    "a header without our mark": (lambda path: spoilt(path, 68, bytes(4)), ForeignDatabase, "other tables"),
    "tables of nonsense": (lambda path: spoilt(path, HEADER, b"\xff" * 3000), DamagedStore, "is damaged"),
    "a log without its database": (with_log_of_another, DamagedStore, "is damaged .*log"),
    "a folder": (lambda path: path.mkdir(), CannotOpen, "it is a folder"),
    "a socket": (a_socket, CannotOpen, "not a regular file"),
    "a pipe": (os.mkfifo, CannotOpen, "not a regular file"),
    "a link to nowhere": (lambda path: path.symlink_to(path.parent / "gone" / "x.db"), CannotOpen, "there is no folder"),
    "a link in a circle": (lambda path: path.symlink_to(path), CannotOpen, "cannot open"),
    "a read-only file": (lambda path: (ours(path), path.chmod(0o444)), CannotOpen, "it is read-only"),
    "a read-only folder": (lambda path: path.parent.chmod(0o555), CannotOpen, "its folder is read-only"),
    "a read-only folder with a store": (
        lambda path: (ours(path), path.parent.chmod(0o555)),
        CannotOpen,
        "its folder is read-only",
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for one database, which may be made read-only."""
    found = tmp_path / "place"
    found.mkdir()
    yield found
    found.chmod(0o755)


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every file of a folder: its name, kind, rights, time, and what is in it."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[path.name] = (about.st_mode, about.st_size, about.st_mtime_ns, content)
    return found


def refused(where: str) -> CallsheetError:
    """The error that `jobs.open` raises."""

    async def use() -> None:
        async with jobs.open(where):
            raise AssertionError("it was opened")

    with pytest.raises(CallsheetError) as caught:
        trio.run(use)
    return caught.value


def outcome(use: Callable[[], Awaitable[None]]) -> tuple[str, str] | None:
    """The error that `use` raised, and what it says; None when there was none."""
    try:
        trio.run(use)
    except CallsheetError as error:
        return type(error).__name__, str(error)
    return None


def is_sentence(error: str, said: str) -> bool:
    """Whether it is told in one line of its own, by an error that users can name, and speaks of nothing inside."""
    return error in callsheet.__all__ and "\n" not in said and "apsw" not in said and "Error" not in said


@pytest.mark.parametrize("what", FOUND)
def test_what_is_no_store_of_ours_is_refused_in_a_sentence_and_left_alone(what: str, folder: Path) -> None:
    """I9: the error says which file, what it is and what would do; every byte and every name on disk is as before."""
    make, kind, sentence = FOUND[what]
    make(folder / "jobs.db")
    before = state(folder)

    error = refused(str(folder / "jobs.db"))

    assert kind is type(error)
    assert str(folder) in str(error)
    assert is_sentence(type(error).__name__, str(error)), str(error)
    assert re.search(sentence, str(error)), str(error)
    assert before == state(folder)


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("missing/jobs.db", "there is no folder"),
        ("file.txt/jobs.db", "there is no folder"),
        ("x" * 300, "ame too long"),
        ("x" * 252, "ame too long"),
        ("", "no name of a file"),
        ("jobs\0.db", "no name of a file"),
        ("file:jobs.db?mode=memory", "give a path"),
        ("http://localhost/jobs.db", "no store for http: URLs"),
        ("postgresql://localhost/jobs", "no store for postgresql: URLs"),
    ],
)
def test_a_place_where_no_store_can_be_is_refused_in_a_sentence(
    where: str, sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is not there, a name that is too long, a URL of another kind: nothing is made."""
    (folder / "file.txt").write_text("notes")
    monkeypatch.chdir(folder)
    before = state(folder)

    error = refused(where)

    assert CannotOpen is type(error)
    assert sentence in str(error)
    assert is_sentence(type(error).__name__, str(error)), str(error)
    assert before == state(folder)


@pytest.mark.parametrize("at", [0, 15, *range(16, 72), 72, 92, 96])
def test_no_byte_of_a_header_leads_to_anything_but_a_store_or_a_sentence(at: int, folder: Path, spare: Path) -> None:
    """Whichever field of the header is wrong: it is refused untouched, or SQLite has no use for that field."""
    path = folder / "jobs.db"
    shutil.copy(spare, path)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))
    before = state(folder)

    async def use() -> None:
        async with jobs.open(str(path)):
            assert 3 == len((await jobs.runs.list()).runs)

    said = outcome(use)

    if said is not None:
        assert is_sentence(*said), said
        assert before == state(folder)


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy."""
    path = tmp_path_factory.mktemp("spare") / "jobs.db"
    ours(path, runs=3)
    return path


# ---------------------------------------------------------------- other people, other processes


@contextmanager
def opener(path: Path, who: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that opens it."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", OPENER, path, who],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter."""
    found = Path("/tmp") / f"callsheet-{os.getpid()}-{os.urandom(4).hex()}"
    found.mkdir(mode=0o755)
    yield found
    shutil.rmtree(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
@pytest.mark.parametrize(
    ("where", "file", "folder_mode", "sentence"),
    [
        ("jobs.db", 0o644, 0o1777, "it is read-only"),
        ("jobs.db", 0o600, 0o1777, "it is read-only"),
        ("jobs.db", 0o666, 0o777, "everybody may replace files in"),
        ("jobs.db", 0o666, 0o755, "its folder is read-only"),
        ("jobs.db", None, 0o755, "its folder is read-only"),
        ("jobs.db", 0o666, 0o700, "its folder is read-only"),
        ("inner/jobs.db", 0o666, 0o700, "Permission denied"),
        ("inner/jobs.db", None, 0o700, "Permission denied"),
    ],
)
def test_what_belongs_to_somebody_else_is_refused_in_a_sentence(
    where: str, file: int | None, folder_mode: int, sentence: str, public: Path
) -> None:
    """Without the right to write the file, to make its log beside it, or to enter its folder, nothing is changed."""
    place = public / "place"
    (place / where).parent.mkdir(parents=True)
    if file is not None:
        ours(place / where)
        (place / where).chmod(file)
    place.chmod(folder_mode)
    before = state(public)

    with opener(place / where, str(NOBODY)) as process:
        said, _ = process.communicate(timeout=60)

    answer = json.loads(said)
    assert "CannotOpen" == answer["error"]
    assert sentence in answer["said"]
    assert is_sentence(answer["error"], answer["said"])
    assert before == state(public)


def test_a_store_that_another_process_has_open_is_refused_in_a_sentence(folder: Path) -> None:
    """The error names the process that runs its jobs; nothing is changed, and the other goes on."""
    path = folder / "jobs.db"
    with opener(path, "hold") as process:
        assert process.stdout is not None
        assert "{}\n" == process.stdout.readline()
        before = state(folder)

        error = refused(str(path))

        assert StoreHeld is type(error)
        assert f"is held by process {process.pid} (since " in str(error)
        assert is_sentence("StoreHeld", str(error))
        assert before == state(folder)
        said, _ = process.communicate("", timeout=60)
        assert "{}\n" == said
    assert {"jobs.db"} == set(state(folder))


def test_a_store_that_this_process_has_open_is_refused_in_a_sentence(folder: Path) -> None:
    """The same file twice in one program is a mistake that is named."""
    path = str(folder / "jobs.db")

    async def use() -> None:
        async with jobs.open(path), jobs.open(path):
            raise AssertionError("it was opened twice")

    with pytest.raises(StoreHeld, match=f"is held by process {os.getpid()} "):
        trio.run(use)


def test_the_death_of_its_process_frees_a_store(folder: Path) -> None:
    """The lock ends with its holder, however that ends: the next one opens at once."""
    with opener(folder / "jobs.db", "hold") as process:
        assert process.stdout is not None
        assert "{}\n" == process.stdout.readline()
        process.kill()
        process.wait()

    with opener(folder / "jobs.db", "") as process:
        said, _ = process.communicate(timeout=60)

    assert {} == json.loads(said)
