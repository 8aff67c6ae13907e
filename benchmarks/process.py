"""
A process of its own for what leaves memory or threads behind; what a process holds, and how late its loop is.

Rule: memory is measured in a fresh process, once: what was freed before would be used again, and not be seen.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define

_PAGES: Final = Path("/proc/self/statm")


def fresh(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Call `measure`, a function of a module, in a new process, and return what it returned."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(measure, *arguments).result()


def resident_bytes() -> int:
    """What this process holds in memory, without garbage; where the system does not tell, the most it ever held."""
    gc.collect()
    if _PAGES.exists():
        return int(_PAGES.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


@define(eq=False)
class Lag:
    """How late the loop was at most."""

    most_s: float = 0.0

    async def watch(self) -> None:
        """Look every millisecond, until cancelled."""
        while True:
            began = time.perf_counter()
            await trio.sleep(0.001)
            self.most_s = max(self.most_s, time.perf_counter() - began - 0.001)

    async def forget(self) -> None:
        """Begin anew, after whatever kept the loop until now has been seen."""
        await trio.sleep(0.01)
        self.most_s = 0.0
