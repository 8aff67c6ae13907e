"""
What the oracle judges: the ledgers, and all that a store keeps, read through its public contract.

Rule: the store is not open for writing while it is read, and reading changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import apsw
from attrs import frozen

from callsheet.store.contract import Reader
from callsheet.store.records import History, Lane, RunFilter, Status
from callsheet.store.sqlite.reader import SqliteReader

from .ledger import Line, read_all

PAGE = 1_000


@frozen
class Evidence:
    """All that is known after some lives."""

    caller: Sequence[Line]
    stage: Sequence[Line]
    runs: Mapping[str, History]
    counters: Mapping[tuple[Lane, Status], int]
    integrity: str = "ok"
    killed: Collection[str] = ()
    """Boot ids of the lives that were killed: only under these may an attempt have crashed."""
    ended: bool = True
    """Whether every run must have ended by now; else only none may be running."""


def gather(folder: Path, killed: Collection[str], *, ended: bool) -> Evidence:
    """What the lives of `folder` left behind."""
    path = folder / "jobs.db"
    integrity = check_integrity(path)
    reader = SqliteReader(str(path), busy_s=5.0)
    try:
        runs = dict(every_run(reader))
        counters = {(count.lane, count.status): count.n for count in reader.counts()}
    finally:
        reader.close()
    callers = chain.from_iterable(read_all(each) for each in sorted(folder.glob("caller*.jsonl")))
    return Evidence(list(callers), read_all(folder / "stage.jsonl"), runs, counters, integrity, killed, ended)


def check_integrity(path: Path) -> str:
    """What `PRAGMA integrity_check` says of the file and its log: `ok`, or what is wrong."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return "; ".join(str(row[0]) for row in db.execute("pragma integrity_check"))
    finally:
        db.close()


def every_run(reader: Reader) -> Iterator[tuple[str, History]]:
    """Everything that a store holds, by id."""
    before: str | None = None
    while page := reader.list(RunFilter(), limit=PAGE, before=before):
        for run in page:
            history = reader.get(run.id)
            assert history is not None, f"{run.id} is listed, and cannot be read"
            yield run.id, history
        before = page[-1].id
