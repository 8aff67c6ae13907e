"""
What one runtime makes durable, as its Jobs instances are told of it; and the events of it for tasks that read them.

Rule: it lives as long as its runtime; whoever still reads then comes to the end.
Not here: what is told, and to whom else (`bus`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field

from ..actors.journal import JournalState
from ..actors.stream import Stream
from ..errors import InvalidOption, shown
from ..store.contract import Answer, Command
from .event import Event, EventKind

if TYPE_CHECKING:
    from .bus import Bus

STREAM_LIMIT: Final = 1_000
"""Events that wait for one reader, unless it says otherwise."""
MAX_STREAM: Final = 100_000


@define(eq=False)
class Witness:
    """Of one runtime. Registered with its journal."""

    buses: tuple[Bus, ...] = field(repr=False)
    journal: JournalState = field(repr=False)
    _streams: list[Stream[Event]] = field(factory=list, init=False, repr=False)
    _is_over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        for bus in self.buses:
            bus.set_up()

    @trio.lowlevel.enable_ki_protection  # what a listener raises is held back: a Ctrl-C must not be among it
    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        """Called by the journal after each commit."""
        journal = self.journal
        for bus in self.buses:
            bus.told(commands, answers, journal.committed_us, journal.owner.boot_id)

    @asynccontextmanager
    async def events(
        self, bus: Bus, limit: int = STREAM_LIMIT, kinds: Iterable[EventKind | str] | None = None
    ) -> AsyncIterator[Stream[Event]]:
        """See `Jobs.events`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_STREAM:
            raise InvalidOption("limit", f"must be an int from 1 to {MAX_STREAM:,}, not {shown(limit)}")
        stream: Stream[Event] = Stream(limit)
        end = bus.listen(stream.put, kinds, boot_id=self.journal.owner.boot_id)
        self._streams.append(stream)
        if self._is_over:
            stream.close()
        try:
            yield stream
        finally:
            end()
            self._streams.remove(stream)
            stream.close()

    def close(self) -> None:
        """Nothing will happen any more."""
        self._is_over = True
        for stream in self._streams:
            stream.close()
