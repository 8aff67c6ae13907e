"""
What a runtime costs while nothing is to be done: memory, processor time, wake-ups, with 1,000,000 scheduled runs (`--n`).

The runs are due in the course of a year that begins in an hour. Each figure is of a fresh process that opens the store, and
rests; another one wrote it. The floors are the same runtime over an empty store, and a trio program with the same imports that
sleeps. `…_schedules`: with 50 schedules beside the runs, the next of which fires in an hour, or later.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define

import callsheet.store.sqlite  # noqa: F401 -- the floor has our imports too
from callsheet import Context, Jobs
from callsheet.store.contract import Insert, Register
from callsheet.store.records import Clock, Lane, NewRun, Now, Owner, Status
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite.timely import stamp

from .figures import Report, gather
from .floors import PAYLOAD, scratch
from .process import fresh, resident_bytes

N: Final = 1_000_000
PAGE: Final = 10_000
SETTLE_S: Final = 3.0
"""After opening, before it counts as being at rest."""
REST_S: Final = 30.0
HOUR_US: Final = 3_600_000_000
YEAR_US: Final = 365 * 24 * HOUR_US
SCHEDULES: Final = 50
LANE: Final = Lane("default/bench", "default/bench-jobs", "note", "1")


def fill(path: str, n: int) -> dict[str, float]:
    """A store with `n` scheduled runs, half of them by either clock."""
    store, owner = SqliteStore(Path(path)), Owner("filler", 1, "here", 1)
    store.open(owner)
    now_us = time.time_ns() // 1000
    now = Now(now_us, now_us)
    store.write([Register(owner)], now)
    for first in range(0, n, PAGE):
        runs = []
        for k in range(first, min(first + PAGE, n)):
            due_us = now_us + HOUR_US + YEAR_US * (k * 7_919 % n) // n  # not in the order in which they were enqueued
            clock = Clock.WALL if k % 2 else Clock.STEADY
            new = NewRun(
                f"{stamp(now_us)}{k:016d}", LANE, PAYLOAD, now_us, due_us=due_us, clock=clock, status=Status.SCHEDULED
            )
            runs.append(new)
        store.write([Insert(tuple(runs))], now)
        store.idle()
    store.close()
    return {}


@define(eq=False)
class Steps(trio.abc.Instrument):
    """How often the event loop woke up."""

    wakes: int = 0

    def after_io_wait(self, timeout: float) -> None:
        """Trio has looked for what to do, and waited for it unless `timeout` is nothing."""
        self.wakes += timeout > 0


@asynccontextmanager
async def _runtime(path: str, schedules: int) -> AsyncIterator[None]:
    jobs = Jobs("bench")

    @jobs.task("note")
    async def note(payload: Any, ctx: Context) -> None:
        raise AssertionError("nothing is due")

    for n in range(schedules):
        jobs.every(f"schedule-{n}", 3_600 + n, note, "x")
    async with jobs.open(path):
        yield


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


async def _rest(path: str | None, schedules: int, rest_s: float) -> dict[str, float]:
    steps = Steps()
    async with _nothing() if path is None else _runtime(path, schedules):
        await trio.sleep(SETTLE_S)
        gc.collect()
        trio.lowlevel.add_instrument(steps)
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        await trio.sleep(rest_s)
        after, took_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
        trio.lowlevel.remove_instrument(steps)
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "rss_mb": resident_bytes() / 1e6,
            "cpu_percent": 100 * used_s / took_s,
            "wakes_per_min": steps.wakes * 60 / took_s,
            "switches_per_min": (after.ru_nvcsw - before.ru_nvcsw) * 60 / took_s,
        }


def rest(path: str | None, schedules: int, rest_s: float) -> dict[str, float]:
    """In a fresh process: what it holds, and uses in that time. Without a path: a program that sleeps."""
    return trio.run(_rest, path, schedules, rest_s)


UNITS: Final = {"rss_mb": "MB", "cpu_percent": "%", "wakes_per_min": "1/min", "switches_per_min": "1/min"}
"""Resident memory; processor time of all threads; how often the event loop woke, and any thread gave up the processor."""


def _named(units: dict[str, str], prefix: str = "", suffix: str = "") -> dict[str, str]:
    return {f"{prefix}{name}{suffix}": unit for name, unit in units.items()}


def _once(path: str, schedules: int, prefix: str = "", suffix: str = "") -> dict[str, float]:
    found = fresh(rest, path or None, schedules, REST_S)
    return {f"{prefix}{name}{suffix}": value for name, value in found.items()}


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("rest", n)
    with scratch() as folder:
        full, empty = str(folder / "full.db"), str(folder / "empty.db")
        fresh(fill, full, n)
        fresh(fill, empty, 0)
        report.floors = {
            **gather(repeat, lambda: _once("", 0, "sleeping_"), _named(UNITS, "sleeping_")),
            **gather(repeat, lambda: _once(empty, 0, "empty_"), _named(UNITS, "empty_")),
        }
        report.figures = {
            **gather(repeat, lambda: _once(full, 0), UNITS),
            **gather(repeat, lambda: _once(full, SCHEDULES, suffix="_schedules"), _named(UNITS, suffix="_schedules")),
        }
    report.ratios = {
        "rss_mb / empty_rss_mb": ("rss_mb", "empty_rss_mb"),
        "cpu_percent / empty_cpu_percent": ("cpu_percent", "empty_cpu_percent"),
        "wakes_per_min / empty_wakes_per_min": ("wakes_per_min", "empty_wakes_per_min"),
    }
    return report
