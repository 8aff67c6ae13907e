"""
What bare trio needs for what the kernel does: memory channels, tasks with a cancel scope, two tasks that wake each other.

Rule: no callsheet in here; what one would write by hand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

import trio
import trio.testing

from .process import Lag, fresh, resident_bytes

PAIRS: Final = 500
CHUNK: Final = 500
BURST: Final = 10_000
UNITS: Final = {
    "channel_drained_per_s": "messages/s",
    "channel_pingpong_per_s": "trips/s",
    "channel_ask_us": "us",
    "two_hops_us": "us",
    "task_us": "us",
    "bytes_per_task": "bytes",
    "tasks_up_s": "s",
    "tasks_down_s": "s",
    "tasks_lag_max_ms": "ms",
    "bytes_per_channel": "bytes",
}


def measure(n: int) -> dict[str, float]:
    """Every figure; `n` tasks at once, and in proportion messages, trips and spawns."""
    return {
        "channel_drained_per_s": trio.run(_drain, 5 * n),
        "channel_pingpong_per_s": trio.run(_pingpong, n),
        "channel_ask_us": trio.run(_ask, max(1, n // 2)) * 1e6,
        "two_hops_us": trio.run(_two_hops, max(1, n // 2)) * 1e6,
        "task_us": trio.run(_tasks, n) * 1e6,
        **fresh(all_tasks, n),
        **fresh(all_channels, n),
    }


async def _drain(n: int) -> float:
    send, receive = trio.open_memory_channel[int](math.inf)
    left = 0
    done = trio.Event()

    async def read() -> None:
        nonlocal left
        async for _ in receive:
            left -= 1
            if not left:
                done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        began = time.perf_counter()
        for first in range(0, n, BURST):
            left, done = min(BURST, n - first), trio.Event()
            for number in range(left):
                send.send_nowait(number)
            await done.wait()
        took_s = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return n / took_s


async def _pingpong(n: int) -> float:
    trips = max(1, n // PAIRS)

    async def serve(receive: trio.MemoryReceiveChannel[int], send: trio.MemorySendChannel[int]) -> None:
        for _ in range(trips):
            send.send_nowait(await receive.receive())

    async def play(send: trio.MemorySendChannel[int], receive: trio.MemoryReceiveChannel[int]) -> None:
        for number in range(trips):
            send.send_nowait(number)
            await receive.receive()

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(PAIRS):
            ping, pong = trio.open_memory_channel[int](math.inf), trio.open_memory_channel[int](math.inf)
            nursery.start_soon(serve, ping[1], pong[0])
            nursery.start_soon(play, ping[0], pong[1])
    return PAIRS * trips / (time.perf_counter() - began)


async def _ask(n: int) -> float:
    """A channel for each answer, and `fail_after` around the wait: what one writes without actors."""
    send, receive = trio.open_memory_channel[trio.MemorySendChannel[int]](math.inf)

    async def serve() -> None:
        async for answer in receive:
            answer.send_nowait(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        began = time.perf_counter()
        for _ in range(n):
            answer = trio.open_memory_channel[int](1)
            send.send_nowait(answer[0])
            with trio.fail_after(5):
                await answer[1].receive()
        took_s = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return took_s / n


async def _two_hops(n: int) -> float:
    """Wake another task and be woken by it: nothing that two tasks do together is faster."""
    me, park, wake = trio.lowlevel.current_task(), trio.lowlevel.wait_task_rescheduled, trio.lowlevel.reschedule

    def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.SUCCEEDED

    async def serve() -> None:
        while True:
            await park(abort)
            wake(me)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        (server,) = nursery.child_tasks
        began = time.perf_counter()
        for _ in range(n):
            wake(server)
            await park(abort)
        took_s = time.perf_counter() - began
        nursery.cancel_scope.cancel()
    return took_s / n


async def _tasks(n: int) -> float:
    """Tasks with a cancel scope of their own, started and ended."""

    async def nothing() -> None:
        pass

    async def one() -> None:
        with trio.CancelScope():
            await nothing()

    async with trio.open_nursery() as nursery:
        began = time.perf_counter()
        for _ in range(0, n, CHUNK):
            for _ in range(CHUNK):
                nursery.start_soon(one, name="task")
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()
        return (time.perf_counter() - began) / (-(-n // CHUNK) * CHUNK)


def all_tasks(n: int) -> dict[str, float]:
    """`n` tasks at once, each asleep in a cancel scope of its own; in a fresh process."""

    async def sleep() -> None:
        with trio.CancelScope():
            await trio.sleep_forever()

    up_s, down_s, lag_s, each = trio.run(_many_tasks, n, lambda: sleep)
    return {"tasks_up_s": up_s, "tasks_down_s": down_s, "tasks_lag_max_ms": lag_s * 1e3, "bytes_per_task": each}


def all_channels(n: int) -> dict[str, float]:
    """`n` tasks at once, each waiting at a memory channel of its own; in a fresh process."""
    ends: list[trio.MemorySendChannel[int]] = []

    def make() -> Callable[[], Awaitable[object]]:
        send, receive = trio.open_memory_channel[int](math.inf)
        ends.append(send)
        return receive.receive

    return {"bytes_per_channel": trio.run(_many_tasks, n, make)[3]}


async def _many_tasks(n: int, make: Callable[[], Callable[[], Awaitable[object]]]) -> tuple[float, float, float, float]:
    lag = Lag()
    async with trio.open_nursery() as watching:
        watching.start_soon(lag.watch)
        before = resident_bytes()
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(n):
                nursery.start_soon(make(), name="task")
                if number % CHUNK == 0:
                    await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            up, lag_up_s = time.perf_counter(), lag.most_s
            each = (resident_bytes() - before) / n
            await lag.forget()
            leaving = time.perf_counter()
            nursery.cancel_scope.cancel()
        down = time.perf_counter()
        watching.cancel_scope.cancel()
    return up - began, down - leaving, max(lag_up_s, lag.most_s), each
