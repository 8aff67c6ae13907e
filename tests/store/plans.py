"""
How SQLite goes about a statement: which plans may grow with what a store keeps.

Statements are overheard on every connection that is made, so that a new one is judged without being named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import apsw

from callsheet.store.sqlite.schema import CREATE

SMALL: Final = {
    "meta": "a row for each fact",
    "lanes": "a row for each task",
    "counters": "a row for each task and status",
    "boots": "a row for each open, kept in mind by writers and readers",
    "queues": "a row for each queue that was steered",
    "owners": "a row for each runtime",
    "definitions": "a row for each Jobs instance",
    "pruned": "a row for each task and final status",
}
"""Tables that may be read whole, and why; every other one grows with what is enqueued."""
SORTED: Final = {
    "indexed by untimely": "fewer than SHORT_WINDOW rows",
    "clock = 0 and": "queued rows of a lane whose ids tell nothing, of the index alone",
    "from runs where rid in (select value from json_each(?)) order by id desc": "a page",
    "from owners": "as many as there are runtimes",
}
"""Statements that may sort what they found, and why that is little."""
READ_ON: Final = {
    "from schedules order by jobs, key": "all of them are asked for",
    "where true and true order by id desc limit ?": "no row is passed over",
    "select 1 from runs indexed by suspects where status in (0, 1, 3) and deaths >= 3 limit 1": "the first row will do",
    "select 1 from runs indexed by untimely where timely is null limit 1": "the first row will do",
    "where true and timely is null and created_us": "more than SHORT_WINDOW rows with ids of their own, in a long window",
}
"""Statements that may go through a growing table from an end of it, and why that does not grow."""
_plans: Final[dict[tuple[str, str], tuple[str, ...]]] = {}
_PLANNED: Final = ("select", "with", "insert", "update", "delete", "replace")


@contextmanager
def overheard(monkeypatch: Any) -> Iterator[dict[str, Any]]:
    """What is said to SQLite meanwhile on connections that are made meanwhile: {statement: what was bound first}."""
    said: dict[str, Any] = {}

    def listen(db: apsw.Connection) -> None:
        db.exec_trace = hear

    def hear(_cursor: apsw.Cursor, statement: str, bound: Any) -> bool:
        said.setdefault(" ".join(statement.split()), bound)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, listen])
        yield said


def faults(said: dict[str, Any], create: str = CREATE) -> list[str]:
    """What is wrong with how these statements are gone about, a sentence for each; none may be left."""
    return [
        f"{statement}: {line}"
        for statement, bound in said.items()
        if statement.lower().startswith(_PLANNED)
        for line in _bad_lines(statement, _plan(statement, bound, create))
    ]


def _plan(statement: str, bound: Any, create: str) -> tuple[str, ...]:
    """The lines of SQLite's plan; it does not depend on what is bound, so it is asked for once."""
    key = (statement, create)
    if key not in _plans:
        explained = _database(create).execute(f"explain query plan {statement}", bound)
        _plans[key] = tuple([line for _, _, _, line in explained])
    return _plans[key]


@cache
def _database(create: str) -> apsw.Connection:
    db = apsw.Connection(":memory:")
    db.exec_trace = None  # what is asked here is not to be judged
    db.execute(create)
    return db


def _bad_lines(statement: str, plan: tuple[str, ...]) -> list[str]:
    growing = _growing(statement)
    scans = {f"SCAN {name}" for name in growing}
    bad = [line for line in plan if "AUTOMATIC" in line]
    bad += [line for line in plan if line.startswith("USE TEMP B-TREE") and not _any(SORTED, statement)]
    bad += [line for line in plan if " ".join(line.split()[:2]) in scans and not _any(READ_ON, statement)]
    return bad


def _any(excuses: dict[str, str], statement: str) -> bool:
    return any(excuse in statement for excuse in excuses)


def _growing(statement: str) -> set[str]:
    """What a plan calls the tables that grow."""
    tables = {name for (name,) in _database(CREATE).execute("select name from sqlite_schema where type = 'table'")}
    names: set[str] = set()
    for table in tables - SMALL.keys():
        for alias in re.findall(rf"\b{table}\b(?: as (\w+))?", statement):
            names.add(alias or table)
    return names
