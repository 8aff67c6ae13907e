"""
Python's garbage collector, while very many runs or actors live.

Rule: it belongs to the whole process, so nothing here happens unless the host asks for it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import InvalidOption


@contextmanager
def calm_gc(rarer: int = 100) -> Iterator[None]:
    """
    Make full collections `rarer` (1 … 1,000,000 times) while the block runs, for the whole process.

    A full collection looks at every object there is, and nothing else runs meanwhile: with 100,000 runs or actors on stage
    that is about half a second, again and again while they are started. Young objects are collected as often as before, and
    what holds no cycle is freed at once as ever; cyclic garbage that has survived two collections waits longer.

    Blocks may overlap in any order only if they nest. Raises InvalidOption.
    """
    if not isinstance(rarer, int) or not 1 <= rarer <= 1_000_000:
        raise InvalidOption("rarer", f"must be a whole number 1 … 1,000,000, not {rarer!r}")
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, old * rarer)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
