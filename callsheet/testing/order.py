"""
The order in which trio runs tasks that are ready together: shuffled by a random source, which is seeded here.

Rule: this is the one place that knows trio's private names. Where they are missing, all goes on, and only the order of
what happens in the same moment does not follow from the seed; a test of ours says so.
Source: trio's own plug-in for hypothesis does the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trio._core import _run

SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """While the block runs, the order follows from `seed`; afterwards all is as before."""
    source = getattr(_run, "_r", None)
    before = getattr(_run, SWITCH, None)
    if source is None or before is None:
        yield
        return
    state = source.getstate()
    setattr(_run, SWITCH, True)
    source.seed(seed)
    try:
        yield
    finally:
        setattr(_run, SWITCH, before)
        source.setstate(state)
