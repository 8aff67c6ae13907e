"""
Waiting for somebody else's transaction.

Rule: every pause is about as short as a transaction, and no two are equal. SQLite's own handler pauses longer each time, up to
    0.1 s: whoever has waited long is asleep when the turn comes, and who came last goes first. Five processes that wrote
    without a pause did 400 transactions a second like that, and some waited for 2.7 s; like this it is 1,900, and 0.05 s.
Not here: what is told to whoever waited in vain (`connection`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import apsw
from attrs import define, field

SHORT_S: Final = (0.0002, 0.001)
"""The least and the longest pause, while it may be a crowd of short transactions that is waited for."""
LONG_S: Final = (0.001, 0.005)
"""The same once somebody holds on for longer than a crowd lets anybody wait: an idle wait is to cost next to nothing."""
CROWD_S: Final = 0.25
"""Up to then it may be a crowd."""
AGAIN_S: Final = (0.002, 0.02, 0.2)
"""Pauses between two looks at what somebody else may be in the middle of changing."""
_GOLDEN: Final = 0.6180339887498949
"""Its multiples lie as evenly in 0 … 1 as can be, wherever one begins."""

T = TypeVar("T")


def again(look: Callable[[], T], doubtful: type[Exception] | tuple[type[Exception], ...]) -> T:
    """What `look` returns; what is doubtful, it raises only when it was seen several times in a row."""
    for pause_s in AGAIN_S:
        try:
            return look()
        except doubtful:
            time.sleep(pause_s)
    return look()


@define(eq=False)
class Patience:
    """
    The busy handler of connections that one thread uses at a time.

    most_s: how long to wait; then the statement fails with a BusyError.
    """

    most_s: float
    _since_s: float = field(default=0.0, init=False)
    _at: float = field(factory=lambda: os.getpid() * _GOLDEN % 1, init=False)

    def on(self, db: apsw.Connection) -> None:
        """Wait so for whoever keeps `db` from going on."""
        db.set_busy_handler(self._wait)

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Another limit, while this is entered."""
        before, self.most_s = self.most_s, seconds
        try:
            yield
        finally:
            self.most_s = before

    def _wait(self, tries: int) -> bool:
        now_s = time.monotonic()
        if tries == 0:
            self._since_s = now_s
        waited_s = now_s - self._since_s
        if waited_s >= self.most_s:
            return False
        self._at = (self._at + _GOLDEN) % 1
        least_s, longest_s = SHORT_S if waited_s < CROWD_S else LONG_S
        time.sleep(min(least_s + self._at * (longest_s - least_s), self.most_s - waited_s))
        return True
