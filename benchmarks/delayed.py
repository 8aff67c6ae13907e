"""
How late a delayed run is: from the time it was asked for to the first line of its handler, in real time.

20,000 runs (`--n`), a thousand a second at random moments, half of them with `delay` (the steady clock), half with `run_at`
(the wall clock). Each is durable, and so is its attempt before its handler starts. The floor is the same with nothing of ours:
sleep until the next time, hop to a thread, commit a row for all that is due by then. `calm_…`: a tenth as many, 200 a second.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from callsheet import Context, Jobs, Queue
from callsheet.store.records import Clock, RunFilter, Status

from .figures import Report, gather, percentile
from .floors import PAYLOAD, database, scratch

N: Final = 20_000
PER_S: Final = 1_000
CALM_PER_S: Final = 200
BEGIN_S: Final = 3.0
"""Until the first one is due: all are stored by then."""
BATCH: Final = 10_000
SLOTS: Final = 1_000


async def _runs(path: Path, n: int, per_s: int) -> dict[Clock, list[float]]:
    """By clock, seconds from due to started."""
    jobs = Jobs("bench", queue=Queue(concurrency=SLOTS))
    started: dict[str, tuple[int, int]] = {}

    @jobs.task("note")
    async def note(payload: Any, ctx: Context) -> None:
        started[ctx.run_id] = clock.steady_us(), clock.wall_us()

    chance, payload = random.Random(1), PAYLOAD.decode()
    async with jobs.open(path) as runtime:
        clock = runtime.seams.clock
        began = datetime.now(UTC) + timedelta(seconds=BEGIN_S)
        for first in range(0, n, BATCH):
            entries = []
            for k in range(min(BATCH, n - first)):
                in_s = chance.uniform(0, n / per_s)
                when: dict[str, Any] = {"run_at": began + timedelta(seconds=in_s)}
                if k % 2:
                    when = {"delay": BEGIN_S + in_s}
                entries.append(note.entry(payload, **when))
            await jobs.enqueue_many(entries)
        stored = await runtime.read(lambda reader: reader.list(RunFilter(status=Status.SCHEDULED), limit=n))
        assert len(stored) == n, f"{n - len(stored)} runs were due before all were stored"
        await trio.sleep(BEGIN_S + n / per_s)
        await runtime.until_idle()
    late: dict[Clock, list[float]] = {Clock.STEADY: [], Clock.WALL: []}
    for run in stored:
        steady_us, wall_us = started.pop(run.id)
        assert run.due_us is not None
        late[run.clock].append(((wall_us if run.clock is Clock.WALL else steady_us) - run.due_us) / 1e6)
    assert min(map(min, late.values())) >= 0, "a run was early"
    return late


def _once(n: int) -> dict[str, float]:
    with scratch() as folder:
        late = trio.run(_runs, folder / "delayed.db", n, PER_S)
        calm = trio.run(_runs, folder / "calm.db", max(1, n // 10), CALM_PER_S)
    both = [each for some in late.values() for each in some]
    few = [each for some in calm.values() for each in some]
    return {
        "p50_ms": percentile(both, 50) * 1e3,
        "p99_ms": percentile(both, 99) * 1e3,
        "max_ms": max(both) * 1e3,
        "delay_p99_ms": percentile(late[Clock.STEADY], 99) * 1e3,
        "run_at_p99_ms": percentile(late[Clock.WALL], 99) * 1e3,
        "calm_p50_ms": percentile(few, 50) * 1e3,
        "calm_p99_ms": percentile(few, 99) * 1e3,
    }


async def _bare(path: Path, n: int) -> list[float]:
    """The floor."""
    chance, late, db = random.Random(1), list[float](), database(path)
    began = time.perf_counter() + 0.1
    dues = sorted([began + chance.uniform(0, n / PER_S) for _ in range(n)], reverse=True)
    made = 0

    def commit(rows: int) -> None:
        db.execute("begin immediate")
        db.executemany("insert into t values(?, 1, 2, ?)", ((f"a{made + k:09}", PAYLOAD) for k in range(rows)))
        db.execute("commit")

    while dues:
        await trio.sleep(max(0.0, dues[-1] - time.perf_counter()))
        now, due = time.perf_counter(), []
        while dues and dues[-1] <= now:
            due.append(dues.pop())
        await trio.to_thread.run_sync(commit, len(due))
        made += len(due)
        now = time.perf_counter()
        late += [now - each for each in due]
    db.close()
    return late


def _floor(n: int) -> dict[str, float]:
    with scratch() as folder:
        late = trio.run(_bare, folder / "floor.db", n)
    return {
        "floor_p50_ms": percentile(late, 50) * 1e3,
        "floor_p99_ms": percentile(late, 99) * 1e3,
        "floor_max_ms": max(late) * 1e3,
    }


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("delayed", n)
    floors = ("floor_p50_ms", "floor_p99_ms", "floor_max_ms")
    report.floors = gather(repeat, partial(_floor, n), dict.fromkeys(floors, "ms"))
    figures = ("p50_ms", "p99_ms", "max_ms", "delay_p99_ms", "run_at_p99_ms", "calm_p50_ms", "calm_p99_ms")
    report.figures = gather(repeat, partial(_once, n), dict.fromkeys(figures, "ms"))
    report.ratios = {"p99_ms / floor_p99_ms": ("p99_ms", "floor_p99_ms")}
    return report
