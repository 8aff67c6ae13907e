"""
What others need for what the kernel does: bare trio (`bare_trio`), asyncio's queues, Pykka's actors (a thread each).

Rule: no callsheet in here; the same work in the form that each of them offers, in the same run.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Final

from . import bare_trio
from .bare_trio import BURST, PAIRS
from .process import fresh, resident_bytes

PYKKA_CALLS: Final = 20_000
PYKKA_SPAWNS: Final = 2_000
PYKKA_ACTORS: Final = 1_000
"""At once: each is a thread."""

COMPARED: Final = (
    ("drained_per_s", "channel_drained_per_s"),
    ("drained_per_s", "queue_drained_per_s"),
    ("drained_per_s", "pykka_drained_per_s"),
    ("ask_us", "two_hops_us"),
    ("ask_us", "channel_ask_us"),
    ("ask_us", "pykka_ask_us"),
    ("pingpong_per_s", "channel_pingpong_per_s"),
    ("pingpong_per_s", "queue_pingpong_per_s"),
    ("spawn_us", "task_us"),
    ("spawn_async_us", "task_us"),
    ("spawn_us", "pykka_spawn_us"),
    ("bytes_per_live", "bytes_per_task"),
    ("bytes_per_live", "bytes_per_channel"),
    ("bytes_per_live", "pykka_bytes"),
    ("up_s", "tasks_up_s"),
)
"""A figure of ours, and what it is divided by."""

_UNITS: Final = {
    **bare_trio.UNITS,
    "queue_drained_per_s": "messages/s",
    "queue_pingpong_per_s": "trips/s",
}
_PYKKA_UNITS: Final = {
    "pykka_tell_us": "us",
    "pykka_drained_per_s": "messages/s",
    "pykka_ask_us": "us",
    "pykka_spawn_us": "us",
    "pykka_bytes": "bytes",
}


@cache
def _has_pykka() -> bool:
    if find_spec("pykka") is not None:
        return True
    sys.stderr.write("Pykka is not installed, so its rows are left out: pip install pykka\n")
    return False


def units() -> Mapping[str, str]:
    """Of every figure that can be measured here."""
    return {**_UNITS, **_PYKKA_UNITS} if _has_pykka() else _UNITS


def once(n: int) -> dict[str, float]:
    """Every figure; `n` tasks at once, and in proportion messages, trips and spawns."""
    figures = {
        **bare_trio.measure(n),
        "queue_drained_per_s": asyncio.run(_queue_drain(5 * n)),
        "queue_pingpong_per_s": asyncio.run(_queue_pingpong(n)),
    }
    return {**figures, **fresh(pykka)} if _has_pykka() else figures


# -- asyncio


async def _queue_drain(n: int) -> float:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def read() -> None:
        while True:
            await queue.get()
            queue.task_done()

    reader = asyncio.create_task(read())
    began = time.perf_counter()
    for first in range(0, n, BURST):
        for number in range(min(BURST, n - first)):
            queue.put_nowait(number)
        await queue.join()
    took_s = time.perf_counter() - began
    reader.cancel()
    return n / took_s


async def _queue_pingpong(n: int) -> float:
    trips = max(1, n // PAIRS)

    async def serve(ping: asyncio.Queue[int], pong: asyncio.Queue[int]) -> None:
        for _ in range(trips):
            pong.put_nowait(await ping.get())

    async def play(ping: asyncio.Queue[int], pong: asyncio.Queue[int]) -> None:
        for number in range(trips):
            ping.put_nowait(number)
            await pong.get()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(PAIRS):
            ping: asyncio.Queue[int] = asyncio.Queue()
            pong: asyncio.Queue[int] = asyncio.Queue()
            group.create_task(serve(ping, pong))
            group.create_task(play(ping, pong))
    return PAIRS * trips / (time.perf_counter() - began)


# -- Pykka


def pykka() -> dict[str, float]:
    """All of Pykka's figures; in a fresh process, for it leaves threads."""
    import pykka as library

    class Answerer(library.ThreadingActor):
        def on_receive(self, message: object) -> object:
            return message

    answerer = Answerer.start()
    began = time.perf_counter()
    for number in range(PYKKA_CALLS):
        answerer.tell(number)
    told = time.perf_counter()
    answerer.ask(0)
    drained = time.perf_counter()
    for number in range(PYKKA_CALLS):
        answerer.ask(number, timeout=5)
    asked = time.perf_counter()
    answerer.stop()
    spawning = time.perf_counter()
    for _ in range(PYKKA_SPAWNS):
        Answerer.start().stop()
    spawned = time.perf_counter()
    before = resident_bytes()
    many = [Answerer.start() for _ in range(PYKKA_ACTORS)]
    each = (resident_bytes() - before) / len(many)
    library.ActorRegistry.stop_all()
    return {
        "pykka_tell_us": (told - began) / PYKKA_CALLS * 1e6,
        "pykka_drained_per_s": PYKKA_CALLS / (drained - began),
        "pykka_ask_us": (asked - drained) / PYKKA_CALLS * 1e6,
        "pykka_spawn_us": (spawned - spawning) / PYKKA_SPAWNS * 1e6,
        "pykka_bytes": each,
    }
