"""
What happens from now on, for one task that reads it with `async for`.

Rule: whoever puts something in never waits and is never refused; what a reader is too slow for is lost, the oldest first, and
counted.
Not here: what is put in (`events`, and the events of runs).
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio
from attrs import define, field

T = TypeVar("T")


@define(eq=False)
class Stream(Generic[T]):
    """What was put in since it was made; what is left when it is closed still comes."""

    limit: int
    lost: int = field(default=0, init=False)
    """How many were dropped, the oldest first, because `limit` others waited."""
    _waiting: deque[T] = field(factory=deque, init=False)
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _closed: bool = field(default=False, init=False)

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._waiting:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            await self._readers.park()
        thing = self._waiting.popleft()
        await trio.lowlevel.cancel_shielded_checkpoint()  # a cancellation now would lose what was taken
        return thing

    def put(self, thing: T) -> None:
        """Let it wait for a reader."""
        if len(self._waiting) >= self.limit:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(thing)
        self._readers.unpark()

    def close(self) -> None:
        """Nothing will follow: whoever reads comes to the end after what waits."""
        self._closed = True
        self._readers.unpark_all()
