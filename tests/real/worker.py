"""
One life of a runtime, for the proofs with real processes: it opens the store, calls, and runs what was called.

    python worker.py FOLDER < one line of JSON (`Orders`)

It writes down what it was told (`caller.jsonl`) and what its handlers did (`stage.jsonl`), and knows nothing of how it
will end. It may be started ahead of time: until the line comes it touches nothing.

Not here: what its runs do (`acting`), who calls (`calling`), who kills it (`lives`), what must hold (`oracle`).
"""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path
from typing import Final

import trio
from acting import jobs
from attrs import evolve, frozen
from calling import Books, Caller
from ledger import Ledger, LedgerReader
from mutants import MUTANTS

from callsheet import Runtime, open_runtime
from callsheet.store.sqlite import SqliteStore

CALLERS: Final = 3
ENOUGH: Final = 80
"""Unfinished runs that callers keep in the store: more than the slots, so that the handlers in flight stay many."""
TAIL: Final = 200_000
"""Bytes of the caller's ledger that a new life reads to know what earlier ones did."""


@frozen
class Orders:
    """What one life is to do."""

    life: int
    seed: int
    finish: bool = False
    """Only repeat what was left unanswered, and run everything to its end."""
    crowd: int = 0
    """So many runs are called for at once."""
    slots: int = 0
    """Of the main queue, where it is to be another number."""
    signals: bool = False
    grace: float = 0.1
    patience: float = 40.0
    """How long a life that is to finish waits for the last run."""
    mutant: str | None = None


async def play(runtime: Runtime, books: Books, orders: Orders) -> None:
    """Call until somebody ends it."""
    load = 0

    async def weigh() -> None:
        nonlocal load
        while True:
            load = await unfinished(runtime)
            await trio.sleep(0.005)

    async def call(number: int) -> None:
        seed = f"{orders.seed}/{orders.life}/{number}"
        caller = Caller(books, random.Random(seed), f"{orders.life}.{number}")
        for ask in books.unanswered[number::CALLERS][-3:]:
            await books.repeat(ask)
        if orders.crowd:
            await caller.enqueue_many(orders.crowd // CALLERS, ms=2_000)
        while True:
            if load < ENOUGH:
                await caller.step()
            else:
                await trio.sleep(0.005)

    load = await unfinished(runtime)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(weigh)
        for number in range(CALLERS):
            nursery.start_soon(call, number)


async def finish(runtime: Runtime, books: Books, patience_s: float) -> None:
    """Learn what became of every unanswered call by making it again, and run everything to its end."""
    for ask in books.unanswered:
        await books.repeat(ask)
    with trio.move_on_after(patience_s):
        while await unfinished(runtime):  # noqa: ASYNC110 -- as anybody would who may only ask
            await trio.sleep(0.02)


async def unfinished(runtime: Runtime) -> int:
    """How many runs have not ended."""
    counts = await runtime.read(lambda reader: reader.counts())
    return sum(count.n for count in counts if not count.status.is_final)


async def live(folder: Path, orders: Orders) -> None:
    """From open to close."""
    store = SqliteStore if orders.mutant is None else MUTANTS[orders.mutant]
    books = Books(orders.life, Ledger(folder / "caller.jsonl"), Ledger(folder / "stage.jsonl"))
    books.stage.say("awake")
    if orders.slots:
        identity = jobs.queue_named("proof-jobs")
        jobs.declared_queues[identity] = evolve(
            jobs.declared_queues[identity], concurrency=orders.slots, batch_size=500
        )
    tail = TAIL if not orders.finish else sys.maxsize
    books.recall(LedgerReader(folder / "caller.jsonl").tail(tail))
    async with open_runtime(
        store(str(folder / "jobs.db")), jobs, app=books, signals=orders.signals, grace=orders.grace
    ) as runtime:
        books.stage.say("open", life=orders.life, boot=runtime.boot_id)
        await (finish(runtime, books, orders.patience) if orders.finish else play(runtime, books, orders))
    books.stage.say("closed", life=orders.life)


def main() -> None:
    """See the module."""
    folder = Path(sys.argv[1])
    line = sys.stdin.readline()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # before a runtime is open, and after: that is not what is tried
    if line:  # else whoever started us ahead of time does not need us
        trio.run(live, folder, Orders(**json.loads(line)))


if __name__ == "__main__":
    main()
