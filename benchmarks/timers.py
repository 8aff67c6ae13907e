"""
What a pending timer costs: to add, to cancel, to fire, to keep.

1,000,000 timers, uniform over a minute and over an hour (`_hour`); half are cancelled in random order, the rest fires in
steps of 50 ms. `add_us` is with the default garbage collection, whose full collections go through everything that is
pending; `add_alone_us` is without it, for what the timers themselves cost. Firing includes the call of an empty function.
All of it is processor time: on a machine that does other things too, the longest advance would else be theirs.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from callsheet.actors.scheduler import BUDGET
from callsheet.actors.timers import Timer, Timers

from .figures import Report, gather

N = 1_000_000
SPREADS_S = {"": 60, "_hour": 3600}
"""{suffix of the figure: seconds that the timers are spread over}."""
BEGAN_S = 100_000.0
"""What the clock shows at the start: a day after the machine was booted."""
STEP_S = 0.05
CHURN = 100_000
"""Timeouts of half a minute that are made and cancelled at once, while the others are pending."""
UNITS = {
    "add_us": "us",
    "add_alone_us": "us",
    "cancel_us": "us",
    "churn_us": "us",
    "fire_us": "us",
    "bytes_per_timer": "B",
    "worst_advance_ms": "ms",
}
FLOORS = {
    "heapq_add_us": "us",
    "heapq_add_alone_us": "us",
    "heapq_cancel_us": "us",
    "heapq_fire_us": "us",
    "heapq_bytes": "B",
    "asyncio_add_us": "us",
    "asyncio_add_alone_us": "us",
    "asyncio_cancel_us": "us",
}


def nothing() -> None:
    """What every timer calls."""


def times(n: int, spread_s: float) -> list[float]:
    """When the timers are due."""
    source = random.Random(1)
    return [BEGAN_S + source.random() * spread_s for _ in range(n)]


def fresh() -> Timers:
    """Timers that know what time it is."""
    timers = Timers()
    timers.advance(BEGAN_S, BUDGET, run)
    return timers


def run(call: Callable[[], object]) -> None:
    """Make the call."""
    call()


@contextmanager
def paused_gc() -> Iterator[None]:
    """Without garbage collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


Add: TypeAlias = Callable[[Sequence[float]], list[Any]]
"""Makes a timer for each time, in a loop of its own."""


def added(add: Add, whens: Sequence[float]) -> tuple[float, list[Any]]:
    """Microseconds for each, and what was made."""
    gc.collect()
    began = time.thread_time()
    made = add(whens)
    return (time.thread_time() - began) / len(whens) * 1e6, made


def added_alone(add: Add, whens: Sequence[float]) -> float:
    """Microseconds for each, without garbage collection."""
    with paused_gc():
        return added(add, whens)[0]


def cancelled(made: list[Any], cancel: Callable[[Any], object]) -> float:
    """Microseconds for each of one half, in random order; the other half is no longer held by us."""
    random.Random(2).shuffle(made)
    half = made[: len(made) // 2]
    made.clear()
    began = time.thread_time()
    for each in half:
        cancel(each)
    return (time.thread_time() - began) / len(half) * 1e6


def held(add: Add, whens: Sequence[float]) -> float:
    """Bytes that each leaves allocated: its own object, and what keeps it."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = add(whens)
        after = tracemalloc.get_traced_memory()[0]
        return (after - before - sys.getsizeof(made)) / len(whens)
    finally:
        tracemalloc.stop()


def fired(timers: Timers, spread_s: float) -> dict[str, float]:
    """Go through all the time there is, as the scheduler does: within its budget, and again while there is more."""
    left, total_s, worst_s = len(timers), 0.0, 0.0
    for step in itertools.count(1):
        now_s, more = BEGAN_S + step * STEP_S, True
        while more:
            began = time.thread_time()
            more = timers.advance(now_s, BUDGET, run)
            took_s = time.thread_time() - began
            total_s += took_s
            worst_s = max(worst_s, took_s)
        if now_s > BEGAN_S + spread_s:
            break
    assert not len(timers), f"{len(timers)} timers are left"
    return {"fire_us": total_s / left * 1e6, "worst_advance_ms": worst_s * 1e3}


def of_callsheet(n: int, spread_s: float) -> dict[str, float]:
    """Our own figures."""
    whens = times(n, spread_s)
    figures = {
        "bytes_per_timer": held(_adder(fresh()), whens),
        "add_alone_us": added_alone(_adder(fresh()), whens),
    }
    timers = fresh()
    figures["add_us"], made = added(_adder(timers), whens)
    figures["cancel_us"] = cancelled(made, Timer.cancel)
    began = time.thread_time()
    for _ in range(CHURN):
        timers.at(BEGAN_S + 30, nothing).cancel()
    figures["churn_us"] = (time.thread_time() - began) / CHURN * 1e6
    return figures | fired(timers, spread_s)


def _adder(timers: Timers) -> Add:
    return lambda whens: [timers.at(when_s, nothing) for when_s in whens]


def of_all_spreads(n: int) -> dict[str, float]:
    """Our own figures, for each spread."""
    return {
        name + suffix: value
        for suffix, spread_s in SPREADS_S.items()
        for name, value in of_callsheet(n, spread_s).items()
    }


# ---------------------------------------------------------------- floors


class Entry:
    """The least that a timer must know."""

    __slots__ = ("call", "when_s")

    call: Callable[[], object] | None
    when_s: float


class Heap:
    """What the standard library offers: a heap of tuples, and cancelling by a mark."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Entry]] = []
        self.count = itertools.count().__next__

    def add_all(self, whens: Sequence[float]) -> list[Entry]:
        return [self.add(when_s) for when_s in whens]

    def add(self, when_s: float) -> Entry:
        entry = Entry()
        entry.when_s = when_s
        entry.call = nothing
        heapq.heappush(self.heap, (when_s, self.count(), entry))
        return entry

    def fire(self) -> int:
        fired = 0
        while self.heap:
            call = heapq.heappop(self.heap)[2].call
            if call is not None:
                fired += 1
                call()
        return fired


def cancel_entry(entry: Any) -> None:
    """The mark."""
    entry.call = None


def of_heapq(n: int, spread_s: float) -> dict[str, float]:
    """The floor for one list of timers in one process."""
    whens = times(n, spread_s)
    figures = {"heapq_bytes": held(Heap().add_all, whens), "heapq_add_alone_us": added_alone(Heap().add_all, whens)}
    heap = Heap()
    figures["heapq_add_us"], made = added(heap.add_all, whens)
    figures["heapq_cancel_us"] = cancelled(made, cancel_entry)
    began = time.thread_time()
    fired = heap.fire()
    return figures | {"heapq_fire_us": (time.thread_time() - began) / fired * 1e6}


def of_asyncio(n: int, spread_s: float) -> dict[str, float]:
    """The timers of another event loop, which is never run."""
    whens = [when_s - BEGAN_S + 1e6 for when_s in times(n, spread_s)]
    figures: dict[str, float] = {}
    for name in ("asyncio_add_alone_us", "asyncio_add_us"):
        loop = asyncio.new_event_loop()
        add = partial(_call_all_later, loop)
        if name == "asyncio_add_alone_us":
            figures[name] = added_alone(add, whens)
        else:
            figures[name], made = added(add, whens)
            figures["asyncio_cancel_us"] = cancelled(made, asyncio.TimerHandle.cancel)
        loop.close()
    return figures


def _call_all_later(loop: asyncio.AbstractEventLoop, delays_s: Sequence[float]) -> list[asyncio.TimerHandle]:
    return [loop.call_later(delay_s, nothing) for delay_s in delays_s]


def floors(n: int) -> dict[str, float]:
    """Both, with the first spread."""
    return of_heapq(n, SPREADS_S[""]) | of_asyncio(n, SPREADS_S[""])


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("timers", n, durability="nothing is stored")
    report.floors = gather(repeat, partial(floors, n), FLOORS)
    units = {name + suffix: unit for suffix in SPREADS_S for name, unit in UNITS.items()}
    report.figures = gather(repeat, partial(of_all_spreads, n), units)
    report.ratios = {
        f"{ours} / {theirs}": (ours, theirs)
        for ours, theirs in (
            ("add_us", "heapq_add_us"),
            ("add_us", "asyncio_add_us"),
            ("cancel_us", "heapq_cancel_us"),
            ("cancel_us", "asyncio_cancel_us"),
            ("fire_us", "heapq_fire_us"),
            ("bytes_per_timer", "heapq_bytes"),
        )
    }
    return report
