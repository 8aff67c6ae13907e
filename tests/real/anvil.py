"""
The one worker that others hammer at: it runs what they call for, and writes down how it fares.

    python anvil.py FOLDER < one line of JSON (`Orders`)

Into `stage.jsonl` go what its handlers did, each change of what the store refuses it (`trouble`), and once a second how large
it is (`state`). When the file `finish` is there it runs everything to its end and says on stdout what became of its actors.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import trio
from acting import Plan, jobs
from attrs import evolve, frozen
from calling import Books
from ledger import Ledger

from callsheet import Runtime, open_runtime
from callsheet.store.sqlite import SqliteStore
from callsheet.tree import Node

SOMEDAY_S = 86_400.0
"""The delay of a run that only waits: what is asked why."""


@frozen
class Orders:
    """How it works."""

    slots: int = 200
    busy_s: float = 5.0


async def watch(runtime: Runtime, books: Books, waits: str) -> None:
    """Write down what the store refuses, as users are shown it, and that it takes writes again."""
    before, number = "", 0
    while True:
        trouble = runtime.trouble
        if str(trouble) != before:
            before = str(trouble)
            because = await jobs.runs.explain(waits)
            shown = (await jobs.snapshot()).trouble
            books.stage.say("trouble", trouble=shown, reason=str(because.reason), text=because.text)
        if number % 50 == 0:
            books.stage.say("state", rss_kib=rss_kib(), on_stage=runtime.on_stage, commits=runtime.journal.commits)
        number += 1
        await trio.sleep(0.02)


def rss_kib() -> int:
    """Resident memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def restarted(node: Node) -> Iterator[str]:
    """Actors that were restarted, or do not run."""
    if node.restarts or node.state != "running":
        yield f"{node.path}: {node.state}, {node.restarts} restarts: {node.why}"
    for each in node.children:
        yield from restarted(each)


async def unfinished(runtime: Runtime) -> int:
    """How many runs have not ended."""
    counts = await runtime.read(lambda reader: reader.counts())
    return sum(count.n for count in counts if not count.status.is_final)


async def live(folder: Path, orders: Orders) -> None:
    """From open to close."""
    books = Books(1, Ledger(folder / "caller-1.jsonl"), Ledger(folder / "stage.jsonl"))
    identity = jobs.queue_named("proof-jobs")
    jobs.declared_queues[identity] = evolve(jobs.declared_queues[identity], concurrency=orders.slots, batch_size=100)
    store = SqliteStore(str(folder / "jobs.db"), busy_s=orders.busy_s)
    async with open_runtime(store, jobs, app=books) as runtime:
        await books.enqueue("work", Plan("someday", 0), {"delay": SOMEDAY_S})
        waits = books.runs[-1]
        books.stage.say("open", life=1, boot=runtime.boot_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, runtime, books, waits)
            while not (folder / "finish").exists() or await unfinished(runtime) > 1:  # noqa: ASYNC110 -- as anybody would
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        told = {"boot": runtime.boot_id, "restarted": list(restarted(runtime.tree())), "trouble": str(runtime.trouble)}
        await books.ask("cancel", lambda _: cancel(waits), of=waits)
    sys.stdout.write(json.dumps(told) + "\n")


async def cancel(run_id: str) -> dict[str, object]:
    """As those who call do."""
    result = await jobs.runs.cancel(run_id)
    return {"canceled": result.canceled, "status": str(result.status)}


def main() -> None:
    """See the module."""
    line = sys.stdin.readline()
    if line:
        logging.basicConfig()
        logging.getLogger("callsheet.journal").setLevel(logging.INFO)
        trio.run(live, Path(sys.argv[1]), Orders(**json.loads(line)))


if __name__ == "__main__":
    main()
