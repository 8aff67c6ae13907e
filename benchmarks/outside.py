"""
Latency from another process: from its call of `enqueue` to the first line of the handler, one run at a time on an idle runtime.

Two durable commits lie between the two, one in each process. With the datagram the runtime is told of the first at once;
without it, it looks four times a second. The floor is the same with nothing of ours: a commit there, a datagram, a hop to a
thread with a commit here. Times of both processes are of one clock (`CLOCK_MONOTONIC`).

    python -m benchmarks.outside PATH client|bare    the other process: one enqueue, or commit, for each line that it reads
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import trio

from callsheet import Context, Jobs

from .figures import Report, gather, percentile
from .floors import PAYLOAD, database, insert_one, scratch

N = 1_000
LOOKED_FOR = 20
"""Runs that a quarter of a second is waited for cost so many times as much: there are so many times fewer."""
WARM = 20
"""The first ones warm caches, and are not counted."""
PAUSE_S = 0.002
"""Between two runs, so that the runtime is idle again."""
LOOK_S = 0.25
"""How often a runtime looks without being told."""

jobs = Jobs("bench")
_started: list[Callable[[float], None]] = []


@jobs.task("note")
async def note(payload: Any, ctx: Context) -> None:
    """Tell when its first line was reached."""
    _started[-1](time.perf_counter())


# ---------------------------------------------------------------- the other process


def main() -> None:
    """See the module."""
    path, kind = sys.argv[1:]
    times = []
    do = _client(path) if kind == "client" else _bare(path)
    for _ in sys.stdin:
        began = time.perf_counter()
        do()
        times.append((began, time.perf_counter()))
    sys.stdout.write(json.dumps(times))


def _client(path: str) -> Callable[[], object]:
    client, payload = jobs.client(path), json.loads(PAYLOAD)
    return lambda: client.enqueue(note, payload)


def _bare(path: str) -> Callable[[], object]:
    db, told, number = apsw.Connection(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), 0
    db.execute("pragma synchronous=full")
    db.execute("pragma wal_autocheckpoint=0")

    def do() -> None:
        nonlocal number
        number += 1
        insert_one(db, f"there{number:09}")
        told.sendto(b".", f"{path}.told")

    return do


@asynccontextmanager
async def _other(path: Path, kind: str) -> AsyncIterator[tuple[trio.Process, list[tuple[float, float]]]]:
    """It; and what it measured, once the block has ended."""
    command = [sys.executable, "-m", "benchmarks.outside", str(path), kind]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    times: list[tuple[float, float]] = []
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        yield process, times
        await process.stdin.aclose()
        told = b"".join([part async for part in process.stdout])
    await process.wait()
    times.extend(json.loads(told))


# ---------------------------------------------------------------- this one


async def _one_by_one(
    path: Path, kind: str, n: int, pause: Callable[[], float], ended: Callable[[], Awaitable[float]]
) -> tuple[list[float], list[float]]:
    """Have the other process do one after the other. Seconds until `ended()`, and until it had its own answer."""
    ends = []
    async with _other(path, kind) as (process, times):
        assert process.stdin is not None
        for _ in range(n + WARM):
            await process.stdin.send_all(b"\n")
            ends.append(await ended())
            await trio.sleep(pause())
    spans = list(zip(times, ends, strict=True))[WARM:]
    return [end - began for (began, _), end in spans], [acked - began for (began, acked), _ in spans]


async def _runs(path: Path, n: int, pause: Callable[[], float]) -> tuple[list[float], list[float]]:
    """To the handler, and to the acknowledgement."""
    send, receive = trio.open_memory_channel[float](1)
    _started.append(send.send_nowait)
    async with jobs.open(path):
        return await _one_by_one(path, "client", n, pause, receive.receive)


async def _commits(path: Path, n: int) -> list[float]:
    """The floor."""
    db, heard, number = database(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), 0
    heard.setblocking(False)
    heard.bind(f"{path}.told")

    async def ended() -> float:
        nonlocal number
        number += 1
        await trio.lowlevel.wait_readable(heard)
        heard.recv(1)
        await trio.to_thread.run_sync(insert_one, db, f"here{number:09}")
        return time.perf_counter()

    took, _ = await _one_by_one(path, "bare", n, lambda: PAUSE_S, ended)
    heard.close()
    db.close()
    return took


def _told(n: int) -> dict[str, float]:
    with scratch() as folder:
        to_handler, to_ack = trio.run(_runs, folder / "latency.db", n, lambda: PAUSE_S)
    return {
        "process_p50_ms": percentile(to_handler, 50) * 1e3,
        "process_p99_ms": percentile(to_handler, 99) * 1e3,
        "process_ack_p50_ms": percentile(to_ack, 50) * 1e3,
        "process_ack_p99_ms": percentile(to_ack, 99) * 1e3,
    }


def _looked_for(n: int) -> dict[str, float]:
    """In a folder whose path is too long for a socket; each at another moment between two looks."""
    chance = random.Random(1)
    with scratch() as folder:
        deep = folder / ("x" * 100)
        deep.mkdir()
        to_handler, _ = trio.run(_runs, deep / "latency.db", max(1, n // LOOKED_FOR), lambda: chance.uniform(0, LOOK_S))
    return {
        "process_nowake_p50_ms": percentile(to_handler, 50) * 1e3,
        "process_nowake_p99_ms": percentile(to_handler, 99) * 1e3,
    }


def _floor(n: int) -> dict[str, float]:
    with scratch() as folder:
        took = trio.run(_commits, folder / "floor.db", n)
    return {"process_floor_p50_ms": percentile(took, 50) * 1e3, "process_floor_p99_ms": percentile(took, 99) * 1e3}


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("latency_from_process", n)
    floors = ("process_floor_p50_ms", "process_floor_p99_ms")
    report.floors = gather(repeat, partial(_floor, n), dict.fromkeys(floors, "ms"))
    told = ("process_p50_ms", "process_p99_ms", "process_ack_p50_ms", "process_ack_p99_ms")
    report.figures = gather(repeat, partial(_told, n), dict.fromkeys(told, "ms"))
    looked_for = ("process_nowake_p50_ms", "process_nowake_p99_ms")
    report.figures |= gather(repeat, partial(_looked_for, n), dict.fromkeys(looked_for, "ms"))
    report.ratios = {"process_p50_ms / process_floor_p50_ms": ("process_p50_ms", "process_floor_p50_ms")}
    return report


if __name__ == "__main__":
    main()
