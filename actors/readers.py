"""
Reads that bypass the journal: a few read-only connections, each used by one thread at a time.

Rule: what is read is what is committed; a read never waits for the writer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio
from attrs import define, field

from ..store.contract import Reader, Store

T = TypeVar("T")

MAX_READERS: Final = 4
"""Connections, and threads, that read at the same time; more would only fight for the same cores and pages."""


@define(eq=False)
class Readers:
    """The readers of one store. `inline`: read in the task that asks, for simulations."""

    store: Store
    inline: bool = False
    _free: list[Reader] = field(factory=list, init=False)
    _limit: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(MAX_READERS), init=False)
    _threads: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(MAX_READERS), init=False)

    async def read(self, what: Callable[[Reader], T]) -> T:
        """What `what(reader)` returns. Cancelling waits for the read under way."""
        async with self._limit:
            free = self._free.pop() if self._free else None
            if self.inline:
                await trio.lowlevel.checkpoint()
                reader, value = self._do(free, what)
            else:
                reader, value = await trio.to_thread.run_sync(self._do, free, what, limiter=self._threads)
            self._free.append(reader)
            return value

    def _do(self, reader: Reader | None, what: Callable[[Reader], T]) -> tuple[Reader, T]:
        reader = reader or self.store.reader()
        try:
            return reader, what(reader)
        except BaseException:
            reader.close()  # whatever state it is in, the next read begins with a new one
            raise

    def close(self) -> None:
        """Close what is free; call it when nobody reads any more."""
        for reader in self._free:
            reader.close()
        self._free.clear()
