"""
Where a SQLite store is: which names are accepted, and whether what is there may be touched.

Rule: looking changes nothing. A file is read through SQLite's own file layer only, because closing a
    descriptor of our own would drop the locks that SQLite holds in this process.
Not here: connections that are used (`connection`), the tables (`schema`).
"""

from __future__ import annotations

import os
import stat
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from ..errors import CannotOpen, DamagedStore, ForeignDatabase, NewerSchema, NoStore, StoreBusy
from .patience import Patience, again
from .schema import APPLICATION_ID, SCHEMA, create, versions
from .whereabouts import check_folder

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER: Final = 100
SMALLEST: Final = 512
"""Bytes: no page of SQLite is smaller."""
BUSY_S: Final = 5.0
"""How long somebody is waited for who copies or reads its log alone: whoever closed it last, or opens it first."""
_READ: Final = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY


def resolve(name: str | os.PathLike[str]) -> str:
    """
    The absolute path of a database, links followed.

    `name`: a path, or `sqlite:///path` (four slashes for an absolute one). Raises CannotOpen for what can be
    no path of a database that lasts.
    """
    text = os.fspath(name)
    path = text.removeprefix("sqlite:///")
    if not path or "\x00" in path:
        raise CannotOpen(repr(text), "that is no name of a file")
    if path.startswith(("file:", ":memory:")):
        raise CannotOpen(text, "give a path or sqlite:///path; for a store that keeps nothing use MemoryStore")
    if "://" in path:
        raise CannotOpen(text, "a URL of SQLite begins with sqlite:///")
    return os.path.realpath(path)


def check(path: str, *, make: bool, anywhere: bool = False) -> bool:
    """
    Whether there is a database at `path` (False: it has to be made). anywhere: whatever folder it is in.

    Raises CannotOpen when a database cannot live there, DamagedStore when its parts do not fit.
    """
    folder = Path(path).parent
    try:
        if not folder.is_dir():
            raise CannotOpen(path, f"there is no folder {folder}")
        _check_writable(path, folder, "its folder is read-only")
        if not anywhere:
            check_folder(path, folder)
        there = Path(path).stat()
    except FileNotFoundError:
        there = None
    except OSError as error:  # a folder above that may not be entered, a name that is too long, …
        raise CannotOpen(path, str(error.strerror)) from error
    if there is None or (stat.S_ISREG(there.st_mode) and there.st_size == 0):
        if _size(f"{path}-wal") > 0:
            raise DamagedStore(path, f"it is {'empty' if there else 'not there'}, but its log {path}-wal is")
        if not make:
            raise NoStore(path)
        return False
    if not stat.S_ISREG(there.st_mode):
        kind = "a folder" if stat.S_ISDIR(there.st_mode) else "not a regular file"
        raise CannotOpen(path, f"it is {kind}")
    if there.st_nlink > 1:
        raise CannotOpen(path, "it has a second name (a hard link), where it would have another log and lock")
    _check_writable(path, Path(path), "it is read-only")
    return True


def _check_writable(path: str, what: Path, why: str) -> None:
    try:
        mode = what.stat().st_mode
    except FileNotFoundError:
        return
    if not mode & 0o222 or not os.access(what, os.W_OK | os.R_OK):  # also for root, who could
        raise CannotOpen(path, why)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def look(path: str) -> bool:
    """
    Look at the file without touching it: True when it is ours, False when it is a SQLite database with nothing in it.

    Raises ForeignDatabase, NewerSchema, DamagedStore; StoreBusy when somebody has it alone for longer than 5 s.
    """
    # a file into which somebody copies its log looks damaged, and whoever closes it last takes the log away as we look
    return again(partial(_look, path), (DamagedStore, ForeignDatabase, CannotOpen))


def _look(path: str) -> bool:
    logged = _size(f"{path}-wal") > 0
    if logged and _is_half_copied(path):
        return True
    try:
        with closing(as_it_is(path)) as db:
            application_id = db.execute("pragma application_id").get
            tables = db.execute("select count(*) from sqlite_schema").get
            page_size = db.execute("pragma page_size").get
            if application_id == APPLICATION_ID:
                refuse_newer(path, db)
        if application_id == APPLICATION_ID and logged and _size(f"{path}-shm"):
            with closing(as_it_is(path, log=True)) as db:  # what a process wrote last that was killed
                refuse_newer(path, db)
    except apsw.CorruptError as error:
        raise DamagedStore(path, str(error)) from error
    except apsw.NotADBError as error:
        raise _no_database(path) from error
    except apsw.BusyError as error:
        raise StoreBusy(path, BUSY_S) from error
    except apsw.Error as error:
        raise CannotOpen(path, str(error)) from error
    size = _size(path)
    if size < SMALLEST:  # SQLite takes it for an empty one
        raise _no_database(path)
    if application_id != APPLICATION_ID and (application_id or tables or logged):
        why = f"its application id is {application_id:#x}" if application_id else "it has other tables"
        raise ForeignDatabase(path, why)
    assert isinstance(page_size, int)
    if size % page_size and not logged:  # with a log, its last page may be on the way
        raise DamagedStore(path, f"it ends within a page of {page_size} bytes")
    return bool(application_id == APPLICATION_ID)


def _is_half_copied(path: str) -> bool:
    """
    Whether it is ours, and a process was killed while it copied its log into it: its first page says how long it will be, and
    it is shorter. Whoever opens it reads the log first, and checks the schema again. Raises NewerSchema.
    """
    header = _beginning(path, _HEADER)
    if len(header) < _HEADER or int.from_bytes(header[68:72]) != APPLICATION_ID:
        return False
    page_size = int.from_bytes(header[16:18])
    page_size = 65_536 if page_size == 1 else page_size  # https://www.sqlite.org/fileformat2.html#the_database_header
    is_told = header[24:28] == header[92:96]
    if not is_told or int.from_bytes(header[28:32]) * page_size <= _size(path):
        return False
    if _size(f"{path}-shm"):
        with suppress(apsw.Error), closing(as_it_is(path, log=True)) as db:
            refuse_newer(path, db)
    return True


def as_it_is(path: str, *, log: bool = False) -> apsw.Connection:
    """A connection that makes nothing: no log, no lock. It sees the file alone, or also the log that is beside it."""
    uri = f"file:{quote(path)}?mode=ro&{'readonly_shm' if log else 'immutable'}=1"
    db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    Patience(BUSY_S).on(db)
    return db


def _no_database(path: str) -> DamagedStore | ForeignDatabase:
    if _MAGIC.startswith(_beginning(path, len(_MAGIC))):
        return DamagedStore(path, "its header makes no sense")
    return ForeignDatabase(path, "it is not a SQLite database")


def _beginning(path: str, n: int) -> bytes:
    file = apsw.VFSFile("", path, [_READ, 0])
    try:
        return file.xRead(min(n, _size(path)), 0)
    finally:
        file.xClose()


def refuse_newer(path: str, db: apsw.Connection) -> None:
    """Raise NewerSchema when this release cannot read the database."""
    try:
        schema, min_reader = versions(db)
    except (apsw.SQLError, KeyError) as error:
        raise DamagedStore(path, "it does not say which schema it has") from error
    if min_reader > SCHEMA:
        raise NewerSchema(path, schema, min_reader, SCHEMA)


def make(path: str) -> None:
    """
    Make a database with our tables and nothing else in it, readable by its owner only.

    It appears whole or not at all: it is made under another name. The caller holds the owner lock.
    """
    draft = f"{path}.new"
    try:
        Path(draft).unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        db = apsw.Connection(draft, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.execute("pragma synchronous = extra")
            create(db)
        finally:
            db.close()
        Path(draft).replace(path)
        _sync_folder(Path(path).parent)
    except (OSError, apsw.Error) as error:
        Path(draft).unlink(missing_ok=True)
        raise CannotOpen(path, f"it cannot be made: {error}") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
