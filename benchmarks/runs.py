"""
Durable runs a second: no-op async handler, 100-byte payload, one queue of 1,000 slots, default garbage collection.

`enqueue_many` in calls of 10,000, then drained; `runs_per_s` adds both times. And 200 tasks that enqueue one by one.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import trio
from attrs import evolve

from callsheet import Context, Jobs, Queue, Runtime

from .figures import Report, gather
from .floors import PAYLOAD, scratch, sqlite_floor, trio_floor

N = 100_000
SLOTS = 1_000
BATCH = 500
SINGLES = 20_000
ENQUEUERS = 200
UNITS = {
    "many_per_s": "runs/s",
    "drain_per_s": "runs/s",
    "runs_per_s": "runs/s",
    "enqueue_per_s": "runs/s",
    "many_trio_us": "us/run",
    "many_store_us": "us/run",
    "drain_trio_us": "us/run",
    "drain_store_us": "us/run",
}
"""The last four: processor time of trio's thread and of the journal's, while enqueueing and while draining."""


def declare() -> Jobs:
    """Fresh jobs, so that one measurement leaves nothing to the next."""
    jobs = Jobs("bench", queue=Queue(concurrency=SLOTS, batch_size=BATCH))

    @jobs.task("noop")
    async def noop(payload: Any, ctx: Context) -> None:
        pass

    return jobs


async def _many(path: str, n: int) -> dict[str, float]:
    jobs, payload = declare(), json.loads(PAYLOAD)
    task = jobs.tasks["noop"]
    async with jobs.open(path) as runtime:
        pause(runtime)
        times = [await _spent(runtime)]
        for first in range(0, n, 10_000):
            await jobs.enqueue_many([task.entry(payload) for _ in range(min(10_000, n - first))])
        times.append(await _spent(runtime))
        resume(runtime)
        await runtime.until_idle()
        times.append(await _spent(runtime))
        counts = await runtime.read(lambda reader: reader.counts())
        assert {str(each.status): each.n for each in counts} == {"succeeded": n}, counts
    (began, trio_0, store_0), (stored, trio_1, store_1), (drained, trio_2, store_2) = times
    return {
        "many_per_s": n / (stored - began),
        "drain_per_s": n / (drained - stored),
        "runs_per_s": n / (drained - began),
        "many_trio_us": (trio_1 - trio_0) / n * 1e6,
        "many_store_us": (store_1 - store_0) / n * 1e6,
        "drain_trio_us": (trio_2 - trio_1) / n * 1e6,
        "drain_store_us": (store_2 - store_1) / n * 1e6,
    }


async def _spent(runtime: Runtime) -> tuple[float, float, float]:
    """The time, and the processor time that trio's thread and the journal's have used."""
    store_s = await runtime.journal.writer.call(time.thread_time)
    return time.perf_counter(), time.thread_time(), store_s


async def _singles(path: str, n: int) -> dict[str, float]:
    jobs, payload = declare(), json.loads(PAYLOAD)
    task = jobs.tasks["noop"]

    async def enqueuer() -> None:
        for _ in range(n // ENQUEUERS):
            await task.enqueue(payload)

    async with jobs.open(path) as runtime:
        pause(runtime)
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(ENQUEUERS):
                nursery.start_soon(enqueuer)
        return {"enqueue_per_s": n / (time.perf_counter() - began)}


def pause(runtime: Runtime) -> None:
    """Let nothing be claimed, so that enqueueing is measured alone."""
    for slots in runtime.slots.values():
        slots.limits = evolve(slots.declared, concurrency=0)


def resume(runtime: Runtime) -> None:
    """Let the queues claim."""
    for slots in runtime.slots.values():
        slots.limits = slots.declared
        slots.wake()


def _once(n: int) -> dict[str, float]:
    with scratch() as folder:
        many = trio.run(_many, str(folder / "many.db"), n)
        return many | trio.run(_singles, str(folder / "singles.db"), SINGLES)


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("runs", n)
    report.floors = {
        **gather(repeat, sqlite_floor, {"commits_per_s": "commits/s", "rows_per_s": "rows/s"}),
        **gather(repeat, trio_floor, {"tasks_per_s": "tasks/s"}),
    }
    report.figures = gather(repeat, partial(_once, n), UNITS)
    report.ratios = {
        "many_per_s / rows_per_s": ("many_per_s", "rows_per_s"),
        "drain_per_s / tasks_per_s": ("drain_per_s", "tasks_per_s"),
    }
    return report
