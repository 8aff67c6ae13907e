"""
A wall clock that several processes read and one of them sets: the monotonic clock, and an offset in a file.

Rule 1: it is exactly the clock of the ledgers plus what was set last, so any reading can be told back to a moment of those.
Rule 2: the offset is one aligned word in shared memory: nobody reads half of it.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Final

from attrs import define, field

WORD: Final = 8


def us_of(t_ns: int) -> int:
    """Nanoseconds of a ledger in microseconds, as the product counts."""
    return t_ns // 1000


@define(eq=False)
class SharedWall:
    """Every process of the story has one on the same file."""

    path: Path
    _word: memoryview = field(init=False)

    def __attrs_post_init__(self) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, WORD)
            self._word = memoryview(mmap.mmap(fd, WORD)).cast("q")
        finally:
            os.close(fd)

    @property
    def offset_ns(self) -> int:
        """By how much it differs from CLOCK_MONOTONIC."""
        return self._word[0]

    @offset_ns.setter
    def offset_ns(self, value: int) -> None:
        self._word[0] = value

    def now_ns(self) -> int:
        """The time it shows, in nanoseconds UTC."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) + self._word[0]
