"""
The doctor: what is wrong with a database, or may soon be, in sentences.

Rule 1: it only looks. Nothing is made, nothing is written, not even beside the database; and no lock is taken that could keep a
runtime from opening it.
Rule 2: it looks at anything: what nobody can open is explained, not refused.
Not here: how it is opened (`onlooker`), whether its tables agree (`books`), who has it open (`holders`), how it is shown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import apsw

from ..errors import CannotOpen, NoStore, StoreError
from . import place
from .books import counters, history
from .connection import check_version, rows, translated, value
from .findings import Finding, State, broken, fine, unusable, warning
from .holders import holders
from .onlooker import BUSY_S, explained, is_shared, log_of, opened, strange_log
from .schema import SCHEMA, create, versions
from .timetable import schedules

FILES: Final = ("", "-wal", "-shm", ".lock", ".wake")
"""What belongs to a database, by what is put after its name."""
LITTLE_SPACE: Final = 64 * 1024 * 1024
"""Bytes left on the disk: less than one copy of a long log."""

Tell = Callable[[str, int, int], object]
"""Told what is looked at, how much of it is done, and how much there is; 0 where that is not known."""


def examine(
    name: str | os.PathLike[str], now_us: int, tell: Tell = lambda _what, _done, _all: None
) -> Iterator[Finding]:
    """
    Everything there is to say about a database, check by check, while it is found.

    now_us: the wall clock. Raises NoStore, or CannotOpen for what is no file, or may not be read by us.
    """
    path = place.resolve(name)
    for found in _place(path):
        yield found
        if found.is_unusable:
            return
    yield from _files(path)
    found = _looked_at(path)
    yield found
    if found.state is not State.OK:
        return
    try:
        with translated(path, BUSY_S), closing(opened(path)) as db:
            yield from _inside(path, db, now_us, tell)
    except StoreError as error:
        if isinstance(error, CannotOpen):
            raise
        yield explained(path, unusable("file", str(error)))


# ---------------------------------------------------------------- around it


def _place(path: str) -> Iterator[Finding]:
    """Whether a runtime would take a database at this place."""
    try:
        place.check(path, make=False)
    except NoStore:
        raise
    except CannotOpen as error:
        if not Path(path).is_file():
            raise
        yield broken(
            "place", f"no runtime can open it where it is: {error.why}", "change that, or move it, with its log"
        )
    except StoreError as error:
        yield unusable("place", str(error), "restore the database that the log belongs to")
    else:
        yield fine("place", f"{path} is where a database can be")
    with suppress(OSError):
        disk = os.statvfs(Path(path).parent)
        free = disk.f_bavail * disk.f_frsize
        if free < LITTLE_SPACE:
            yield warning(
                "space", f"{free // 1024:,} KiB are left on its disk", "make room: without any, nothing new is stored"
            )
        else:
            yield fine("space", f"{free // 1024**2:,} MiB are left on its disk")


def _files(path: str) -> Iterator[Finding]:
    """Whether others may read what is stored."""
    about = {f"{path}{end}": Path(f"{path}{end}").stat() for end in FILES if Path(f"{path}{end}").exists()}
    open_to = [each for each, found in about.items() if stat.S_IMODE(found.st_mode) & 0o077]
    if open_to:
        yield warning("rights", f"others may use {', '.join(open_to)}", f"chmod 600 {' '.join(open_to)}")
    elif len({found.st_uid for found in about.values()}) > 1:
        yield warning("rights", "its files belong to different users", "give all of them to whoever runs the jobs")
    else:
        yield fine("rights", "its files are their owner's alone")


def _looked_at(path: str) -> Finding:
    """Whether it is ours at all."""
    try:
        with translated(path, BUSY_S):
            ours = place.look(path)
    except CannotOpen:
        raise
    except StoreError as error:
        return explained(path, unusable("file", str(error)))
    if not ours:
        return warning("file", f"{path} is an empty database", "the first runtime that opens it makes the tables")
    return fine("file", f"{path} is a callsheet database")


# ---------------------------------------------------------------- inside it


def _inside(path: str, db: apsw.Connection, now_us: int, tell: Tell) -> Iterator[Finding]:
    alone = not is_shared(path)
    schema, min_reader = versions(db)
    yield _version(path)
    yield _schema(schema, min_reader)
    missing = [] if schema < SCHEMA else _missing(db)
    if missing:
        yield broken("tables", f"it lacks {', '.join(missing)}", "restore a backup: nobody can work with what is left")
    tell("integrity", 0, 0)
    wrong = [str(each) for (each,) in rows(db, "pragma quick_check(5)")]
    if wrong != ["ok"]:
        yield explained(path, unusable("integrity", f"its pages are damaged: {wrong[0]}", "restore a backup"))
        return
    if (stranger := strange_log(path, db)) is not None:
        yield stranger
        return
    yield fine("integrity", f"its {value(db, 'pragma page_count'):,} pages are as they should be")
    yield log_of(path)
    if not missing:
        yield counters(db, tell)
        yield from history(db, tell)
        if schema >= SCHEMA:
            yield _published(db)
        yield from holders(path, db, now_us)
        yield from schedules(db, now_us)
    if alone and is_shared(path):
        yield warning(
            "watch", "somebody opened it while it was looked at: what is said of its books may be wrong", "look again"
        )


def _version(path: str) -> Finding:
    try:
        check_version(path)
    except StoreError as error:
        return broken(
            "SQLite", str(error), "upgrade apsw: older ones can damage a database that several programs write"
        )
    return fine("SQLite", f"SQLite {apsw.sqlite_lib_version()} is used here")


def _schema(schema: int, min_reader: int) -> Finding:
    if schema < SCHEMA:
        return warning(
            "schema",
            f"it has schema {schema}, this release {SCHEMA}",
            "the next program of this release that opens it brings it up to date",
        )
    if schema > SCHEMA:
        return warning(
            "schema",
            f"a newer release made its schema {schema}, which this one can use ({min_reader} is enough)",
            "upgrade callsheet here too",
        )
    return fine("schema", f"it has schema {schema}, as this release")


def _published(db: apsw.Connection) -> Finding:
    """Whether clients without the code can read what runtimes said of their jobs."""
    found = rows(db, "select jobs, json_valid(cast(body as text)) from definitions order by jobs")
    odd = [jobs for jobs, is_json in found if not is_json]
    if odd:
        anew = "open the store with their code: the runtime publishes them anew"
        return broken("published", f"the definition of {', '.join(odd)} is no JSON", anew)
    names = ", ".join(jobs for jobs, _ in found)
    return fine("published", f"clients without the code find {names}" if names else "nothing is published yet")


def _missing(db: apsw.Connection) -> list[str]:
    """Tables, indexes and columns that should be there."""
    with closing(apsw.Connection(":memory:")) as whole:
        create(whole)
        return sorted(_parts(whole) - _parts(db))


def _parts(db: apsw.Connection) -> set[str]:
    found = {
        f"{kind} {name}"
        for kind, name in rows(db, "select type, name from sqlite_schema where name not like 'sqlite_%'")
    }
    for (table,) in rows(db, "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'"):
        found |= {
            f"column {table}.{column}" for (column,) in rows(db, "select name from pragma_table_info(?)", (table,))
        }
    return found
