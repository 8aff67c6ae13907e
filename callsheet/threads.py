"""
Where plain functions run: worker threads of one runtime.

Rule 1: no limit of its own: each thread belongs to a run that holds a slot already.
Rule 2: in a simulation time stands still while a thread computes, as it does while a task does, and passes while every thread
waits for the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
from attrs import define, field

from .actors.stage import Stage

T = TypeVar("T")


@define(eq=False)
class Threads:
    """One per runtime."""

    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(math.inf))
    _computing: int = field(default=0, init=False)
    """Threads that wait for nothing that we know of; counted in a simulation only."""
    _is_held: bool = field(default=False, init=False)

    async def run(self, call: Callable[[], T], stage: Stage) -> T:
        """Call it in a thread, in our context; returns and raises as it does, once it has ended, also when cancelled."""
        if stage.seams.threads:
            return await trio.to_thread.run_sync(call, limiter=self._limiter)
        with self._counted(stage, 1):
            return await trio.to_thread.run_sync(call, limiter=self._limiter)

    @contextmanager
    def waits(self, stage: Stage) -> Iterator[None]:
        """A thread waits for what happens in the event loop inside this block."""
        if stage.seams.threads:
            yield
        else:
            with self._counted(stage, -1):
                yield

    @contextmanager
    def _counted(self, stage: Stage, n: int) -> Iterator[None]:
        self._count(stage, n)
        try:
            yield
        finally:
            self._count(stage, -n)

    def _count(self, stage: Stage, n: int) -> None:
        self._computing += n
        if self._computing > 0 and not self._is_held:
            self._is_held = True
            stage.spawn(self._hold_time, "threads")

    async def _hold_time(self) -> None:
        """A clock that jumps when nothing happens does not see threads: be what happens."""
        with trio.CancelScope(shield=True):
            while self._computing > 0:
                await trio.lowlevel.checkpoint()
        self._is_held = False
