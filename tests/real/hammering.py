"""
A process that calls through a client as fast as it can, for the proofs with real processes.

    python hammering.py FOLDER NAME < one line of JSON (`Orders`)

It writes down what it was told (`caller-NAME.jsonl`), and may stop inside one of its transactions until it is let go.

Not here: what is called for (`calling`), who runs it (`anvil`), who starts, kills and stops processes (`test_hammer`).
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import apsw
from acting import jobs
from attrs import define, frozen
from calling import Books, Caller
from ledger import Ledger, now_ns

from callsheet import CallsheetError, Client
from callsheet.client import direct
from callsheet.client.drive import drive
from callsheet.store.sqlite import SqliteStore

LOOK_EVERY = 40
"""Calls between two looks at what others called for, so that processes cancel and replay each other's runs."""


@frozen
class Orders:
    """What one process is to do."""

    seed: int
    until_ns: int
    inside_ns: int = 0
    """From then on its next transaction is held before its commit, until the file `go` is there; 0: none."""
    busy_s: float = 5.0


@define(eq=False)
class Desk:
    """A client, as those who call know the Jobs."""

    client: Client

    @property
    def runs(self) -> Any:
        """Cancel and replay."""
        return _Runs(self.client)

    async def enqueue(self, *arguments: Any, **options: Any) -> Any:
        """See `Client.enqueue`."""
        return self.client.enqueue(*arguments, **options)

    async def enqueue_many(self, entries: Any) -> Any:
        """See `Client.enqueue_many`."""
        return self.client.enqueue_many(entries)


@define(eq=False)
class _Runs:
    client: Client

    async def cancel(self, run_id: str) -> Any:
        return self.client.runs.cancel(run_id)

    async def replay(self, run_id: str, *, reason: str) -> Any:
        return self.client.runs.replay(run_id, reason=reason)


def hold_inside(name: int, inside_ns: int, folder: Path, stage: Ledger) -> None:
    """Hold one transaction, when its time has come."""
    commit, held = SqliteStore._commit, []

    def hold(self: SqliteStore, db: apsw.Connection) -> None:
        if not held and now_ns() >= inside_ns:
            held.append(True)
            stage.say("inside", name=name)
            while not (folder / "go").exists():
                time.sleep(0.005)
        commit(self, db)

    SqliteStore._commit = hold  # type: ignore[method-assign]


def call(books: Books, caller: Caller, client: Client, until_ns: int) -> None:
    """As fast as it can."""
    while now_ns() < until_ns:
        drive(caller.step())
        if books.asked % LOOK_EVERY == 0:
            try:
                books.runs.extend(run.id for run in client.runs.list(limit=20, status="running").runs)
                books.runs.extend(run.id for run in client.runs.list(limit=20, status="succeeded").runs)
            except CallsheetError as error:
                books.stage.say("unreadable", name=books.life, why=str(error))


def main() -> None:
    """See the module."""
    folder, name = Path(sys.argv[1]), int(sys.argv[2])
    stage = Ledger(folder / "stage.jsonl")
    stage.say("awake", name=name)
    line = sys.stdin.readline()
    if not line:
        return
    orders = Orders(**json.loads(line))
    direct.BUSY_S = orders.busy_s  # type: ignore[misc]
    if orders.inside_ns:
        hold_inside(name, orders.inside_ns, folder, stage)
    with jobs.client(folder / "jobs.db") as client:
        books = Books(name, Ledger(folder / f"caller-{name}.jsonl"), stage, desk=Desk(client))
        caller = Caller(books, random.Random(f"{orders.seed}/{name}"), str(name), ms=(0, 5))
        call(books, caller, client, orders.until_ns)
    stage.say("done", name=name)


if __name__ == "__main__":
    main()
