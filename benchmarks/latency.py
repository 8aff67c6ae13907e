"""
Idle latency: from the call of `enqueue` to the first line of the handler, one run at a time on an idle runtime.

Two durable commits lie between the two: the run, and its attempt. The floor is one hop to a thread with one commit.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import trio

from callsheet import Context, Jobs

from .figures import Report, gather, percentile
from .floors import PAYLOAD, hop_floor, scratch

N = 1_000
PAUSE_S = 0.002
"""Between two runs, so that the runtime is idle again."""


async def _latencies(path: str, n: int) -> tuple[list[float], list[float]]:
    jobs, payload = Jobs("bench"), json.loads(PAYLOAD)
    started = trio.Event()
    at = 0.0

    @jobs.task("note")
    async def note(payload: Any, ctx: Context) -> None:
        nonlocal at
        at = time.perf_counter()
        started.set()

    to_handler, to_ack = [], []
    async with jobs.open(path):
        for number in range(n + 20):
            started = trio.Event()
            began = time.perf_counter()
            await note.enqueue(payload)
            acked = time.perf_counter()
            await started.wait()
            if number >= 20:  # the first ones warm caches
                to_handler.append(at - began)
                to_ack.append(acked - began)
            await trio.sleep(PAUSE_S)
    return to_handler, to_ack


def _once(n: int) -> dict[str, float]:
    with scratch() as folder:
        to_handler, to_ack = trio.run(_latencies, str(folder / "latency.db"), n)
    return {
        "p50_ms": percentile(to_handler, 50) * 1e3,
        "p99_ms": percentile(to_handler, 99) * 1e3,
        "ack_p50_ms": percentile(to_ack, 50) * 1e3,
        "ack_p99_ms": percentile(to_ack, 99) * 1e3,
    }


def _floor(n: int) -> dict[str, float]:
    took = hop_floor(n)
    return {"hop_p50_ms": percentile(took, 50) * 1e3, "hop_p99_ms": percentile(took, 99) * 1e3}


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("latency", n)
    report.floors = gather(repeat, partial(_floor, n), {"hop_p50_ms": "ms", "hop_p99_ms": "ms"})
    names = ("p50_ms", "p99_ms", "ack_p50_ms", "ack_p99_ms")
    report.figures = gather(repeat, partial(_once, n), dict.fromkeys(names, "ms"))
    report.ratios = {"p50_ms / hop_p50_ms": ("p50_ms", "hop_p50_ms")}
    return report
