"""
Very many actors at once: up, memory, down, and how late the loop was meanwhile.

Rule: each crowd has a process of its own, since a crowd leaves memory behind. Default settings and default garbage
collection, but for the figures `rare_gc_...`: with so many objects, full collections are nearly all of the lag.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
import trio.testing

from callsheet.actors.actor import Actor
from callsheet.supervisor.pool import Pool, PoolSpec, spawn
from callsheet.supervisor.spec import ChildSpec, Restart
from callsheet.supervisor.system import ActorSystem

from .process import Lag, fresh, resident_bytes

CHUNK: Final = 500
"""Actors started in a row before others get their turn."""
RARE_GC: Final = (700, 10, 1_000)
"""Thresholds of Python's garbage collection: its default, with full collections a hundred times rarer."""


class Sleeper(Actor[object]):
    """Waits in its handler for ever: it has a task."""

    async def receive(self, message: object) -> None:
        """See `Actor.receive`."""
        await trio.sleep_forever()


class Idler(Actor[object]):
    """Waits for a message that never comes."""

    def receive(self, message: object) -> None:
        """See `Actor.receive`."""


def measure(n: int) -> dict[str, float]:
    """`n` actors that sleep in their handlers; then `n` that wait for their first message."""
    live, idle = fresh(one_crowd, Sleeper, "wait", n), fresh(one_crowd, Idler, None, n)
    rare = fresh(one_crowd, Sleeper, "wait", n, RARE_GC)
    return {
        "bytes_per_live": live["bytes"],
        "up_s": live["up_s"],
        "down_s": live["down_s"],
        "lag_max_ms": live["lag_max_ms"],
        "rare_gc_up_s": rare["up_s"],
        "rare_gc_down_s": rare["down_s"],
        "rare_gc_lag_max_ms": rare["lag_max_ms"],
        "bytes_per_idle": idle["bytes"],
        "idle_up_s": idle["up_s"],
        "idle_down_s": idle["down_s"],
        "idle_lag_max_ms": idle["lag_max_ms"],
    }


def one_crowd(
    make: Callable[[], Actor[object]], first: object, n: int, thresholds: tuple[int, int, int] | None = None
) -> dict[str, float]:
    """In a process of its own; `thresholds` of its garbage collection, if not the default."""
    if thresholds is not None:
        gc.set_threshold(*thresholds)
    for name in ("callsheet.supervisor", "callsheet.undelivered"):
        logging.getLogger(name).disabled = True  # so many that are cancelled on purpose are no news
    return trio.run(_crowd, make, first, n)


async def _crowd(make: Callable[[], Actor[Any]], first: object, n: int) -> dict[str, float]:
    """Up with `n` actors, each told `first` (None: nothing), and down again; memory in between."""
    spec = PoolSpec(make, Restart.TEMPORARY, stop_budget_s=0, max_children=n)
    async with trio.open_nursery() as nursery, ActorSystem() as system:
        pool = await system.start_child(ChildSpec("pool", partial(Pool, spec)))
        lag = Lag()
        nursery.start_soon(lag.watch)
        before = resident_bytes()
        began = time.perf_counter()
        for number in range(n):
            ref = spawn(pool)
            if first is not None:
                ref.tell(first)
            if number % CHUNK == 0:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0)
        up_s, lag_up_s = time.perf_counter() - began, lag.most_s
        each = (resident_bytes() - before) / n
        await lag.forget()
        leaving = time.perf_counter()
        await system.stop_child(pool)
        down_s, lag_down_s = time.perf_counter() - leaving, lag.most_s
        nursery.cancel_scope.cancel()
    return {"up_s": up_s, "down_s": down_s, "lag_max_ms": max(lag_up_s, lag_down_s) * 1e3, "bytes": each}
