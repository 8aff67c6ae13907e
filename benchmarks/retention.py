"""
What retention costs those who enqueue meanwhile, and how fast it forgets.

A store holds 100,000 runs (`--n`) that ended long ago. One caller, then 32 at once, enqueue to a runtime that forgets them,
first before it begins, then while it does; every run is run. The floors are the same calls while nothing is forgotten.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from callsheet import Context, Jobs, Queue, Retention
from callsheet.store.contract import Answer, Claim, ClaimedRuns, Command, Insert, Prune, Pruned, Settle, Settlement
from callsheet.store.records import Lane, Move, NewRun, Now, OutcomeKind, Owner, Status, Verdict
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite.timely import stamp
from callsheet.supervisor.pruner import BATCH, FIRST_S

from .figures import Report, gather, percentile
from .floors import PAYLOAD, scratch

N: Final = 100_000
KEEP_S: Final = 3_600
PAGE: Final = 1_000
COMMANDS: Final = 200
"""Pages that are forgotten one after the other, to time one."""
PAUSE_S: Final = 0.002
CALLERS: Final = 32
SUCCEED: Final = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)
LANE: Final = Lane("default/bench", "default/bench-jobs", "note", "1")


def _opened(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    store.open(Owner("filler", 1, "here", 1))
    return store


def _fill(store: SqliteStore, n: int) -> None:
    """Runs that were enqueued and ended long ago, one after the other."""
    began_us = time.time_ns() // 1000 - 2 * KEEP_S * 1_000_000
    for first in range(0, n, PAGE):
        now = Now(began_us + first * 1000, began_us + first * 1000)
        ids = [f"{stamp(now.steady_us)}{first + k:016d}" for k in range(min(PAGE, n - first))]
        new = tuple([NewRun(each, LANE, PAYLOAD, now.steady_us, due_us=now.steady_us) for each in ids])
        store.write([Insert(new)], now)
        (claimed,) = store.write([Claim("filler", b"c" * 16, (LANE,), PAGE, 1)], now)
        assert isinstance(claimed, ClaimedRuns)
        ends = [Settlement(run.run_id, run.attempt, run.claim_id, run.fence, SUCCEED) for run in claimed.runs]
        store.write([Settle(tuple(ends))], now)
        store.idle()


def _page_ms() -> float:
    """One command, its commit included."""
    with scratch() as folder:
        store = _opened(folder / "page.db")
        _fill(store, COMMANDS * BATCH)
        now_us = time.time_ns() // 1000
        took = []
        for _ in range(COMMANDS):
            began = time.perf_counter()
            (pruned,) = store.write([Prune(LANE.jobs, Status.SUCCEEDED, now_us, BATCH)], Now(now_us, now_us))
            took.append(time.perf_counter() - began)
            assert isinstance(pruned, Pruned)
            assert pruned.n == BATCH
            store.idle()
        store.close()
    return percentile(took, 50) * 1e3


async def _calls(path: Path, callers: int, n: int) -> tuple[list[float], list[float], float]:
    """Seconds that calls took before it began to forget, and while it did; runs that it forgot in a second."""
    jobs, payload = (
        Jobs("bench", queue=Queue(concurrency=100), retention=Retention(succeeded=KEEP_S)),
        json.loads(PAYLOAD),
    )

    @jobs.task("note")
    async def note(payload: Any, ctx: Context) -> None:
        pass

    quiet: list[float] = []
    meanwhile: list[float] = []
    forgot, first_s, last_s = 0, 0.0, 0.0

    def count(_commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        nonlocal forgot, first_s, last_s
        for each in answers:
            if isinstance(each, Pruned):
                forgot, last_s = forgot + each.n, time.perf_counter()
                first_s = first_s or last_s

    async def call() -> None:
        while forgot < n:
            took = quiet if not first_s else meanwhile
            began = time.perf_counter()
            await note.enqueue(payload)
            took.append(time.perf_counter() - began)
            await trio.sleep(PAUSE_S)

    async with jobs.open(path) as runtime:
        runtime.journal.on_committed.append(count)
        await trio.sleep(FIRST_S / 4)
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(call)
    return quiet, meanwhile, forgot / (last_s - first_s)


def _once(n: int) -> dict[str, float]:
    figures = {"page_ms": _page_ms()}
    for name, callers in (("one", 1), ("many", CALLERS)):
        with scratch() as folder:
            store = _opened(folder / "retention.db")
            _fill(store, n)
            store.close()
            quiet, meanwhile, per_s = trio.run(_calls, folder / "retention.db", callers, n)
        for percent in (50, 99):
            figures[f"{name}_p{percent}_ms"] = percentile(meanwhile, percent) * 1e3
            figures[f"{name}_quiet_p{percent}_ms"] = percentile(quiet, percent) * 1e3
        figures[f"{name}_forgot_per_s"] = per_s
        figures[f"{name}_enqueue_per_s"] = len(meanwhile) / (n / per_s)
    return figures


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("retention", n)
    calls = [
        f"{name}_{quiet}p{percent}_ms" for name in ("one", "many") for quiet in ("", "quiet_") for percent in (50, 99)
    ]
    units = dict.fromkeys(["page_ms", *calls], "ms")
    units |= {f"{name}_{what}_per_s": "runs/s" for name in ("one", "many") for what in ("forgot", "enqueue")}
    found = gather(repeat, lambda: _once(n), units)
    report.floors = {name: found[name] for name in found if "quiet" in name}
    report.figures = {name: found[name] for name in found if "quiet" not in name}
    report.ratios = {
        f"{each} / quiet": (each, each.replace("_p", "_quiet_p"))
        for each in report.figures
        if "_p50" in each or "_p99" in each
    }
    return report
