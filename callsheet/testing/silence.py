"""
What a killed process says: nothing.

Rule: a record is dropped by who made it, which is known from the runtime that its task belongs to; nobody else is silenced.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..jobs import current_runtime


@contextmanager
def the_dead_are_silent() -> Iterator[None]:
    """While the block runs, whatever callsheet logs in tasks of a killed runtime is dropped."""

    def lives(_record: logging.LogRecord) -> bool:
        runtime = current_runtime.get(None)
        return runtime is None or not runtime.vanished

    known = logging.getLogger("callsheet").manager.loggerDict.items()
    ours = [each for name, each in known if f"{name}.".startswith("callsheet.") and isinstance(each, logging.Logger)]
    for each in ours:
        each.addFilter(lives)
    try:
        yield
    finally:
        for each in ours:
            each.removeFilter(lives)
