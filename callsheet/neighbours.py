"""
What others wrote to the store, as far as it concerns what is at work here: limits and pauses of queues, and cancels.

Rule 1: nobody tells us what they wrote, and nobody tells us twice that they did: we look until a look has succeeded that began
after the last news. A paused queue claims nothing, so nothing else would tell it that it goes on.
Rule 2: a look costs one read of counters. Only where runs were canceled since the last one are the claims here compared, all
of them: whatever is not ours any more is told to stop.
Not here: when to look (`actors.journal`), what is due meanwhile (`actors.calendar`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, field

from .store.contract import Reader, Renew, Renewed
from .store.records import Claimed, QueueOverride, Status

if TYPE_CHECKING:
    from .runtime import Runtime
    from .supervisor.slots import Slots

_log = logging.getLogger("callsheet")

RETRY_S: Final = 1.0
"""Wait before a look that failed is tried again."""
PAGE: Final = 1_000
"""Claims that are compared with one command, so that no commit takes long."""
MOMENT_S: Final = 0.01


@define(eq=False)
class Neighbours:
    """Of one runtime."""

    _runtime: Runtime
    _has_news: bool = field(default=False, init=False)
    _is_looking: bool = field(default=False, init=False)
    _canceled: int = field(default=0, init=False)
    """How many runs of the queues here were canceled, by whomever, when the claims here were compared last."""

    async def first_look(self) -> None:
        """Before the first claim: let hold what was said of queues at run time. Raises StoreError."""
        self._canceled = await self._adopt()

    def wrote(self) -> None:
        """They have: look, as soon as that may be."""
        self._has_news = True
        if not self._is_looking and self._runtime.slots:
            self._is_looking = True
            self._runtime.system.stage.spawn(self._look, "neighbours")

    async def _look(self) -> None:
        failing = False
        while self._has_news:
            self._has_news = False
            try:
                await self._catch_up()
                failing = False
            except Exception as error:  # noqa: BLE001 -- logged once; tried again until it succeeds
                if not failing:
                    _log.warning("could not read what others wrote, trying again: %s", error)
                failing = self._has_news = True
                await self._sleep(RETRY_S)
        self._is_looking = False

    async def _catch_up(self) -> None:
        canceled = await self._adopt()
        if canceled == self._canceled:
            return
        if any(None in slots.on_stage.values() for slots in self._runtime.slots.values()):
            self._has_news = True  # claimed, and without its actor for a moment
            await self._sleep(MOMENT_S)
            return
        for slots in self._runtime.slots.values():
            await self._compare(slots)
        self._canceled = canceled

    async def _sleep(self, seconds: float) -> None:
        await self._runtime.system.stage.waits.sleep(seconds, owner="neighbours")

    async def _adopt(self) -> int:
        """What was said of queues holds from now on. Returns how many of their runs were canceled."""
        slots = self._runtime.slots
        stored: tuple[QueueOverride, ...] = ()
        canceled, changes = 0, -1
        while changes != sum(each.changes for each in slots.values()):  # else it may be older than what is known
            changes = sum(each.changes for each in slots.values())
            stored, canceled = await self._runtime.read(self._read)
        for override in stored:
            if override.queue in slots:
                slots[override.queue].adopt(override)
        return canceled

    def _read(self, reader: Reader) -> tuple[tuple[QueueOverride, ...], int]:
        counts = reader.counts()
        canceled = sum(n.n for n in counts if n.status is Status.CANCELED and n.lane.queue in self._runtime.slots)
        return reader.queues(), canceled

    async def _compare(self, slots: Slots) -> None:
        """Stop what somebody else ended; it keeps its slot until its handler has ended."""
        for some in _pages([actor.claimed for actor in slots.on_stage.values() if actor is not None]):
            claims = tuple([(run.run_id, run.claim_id, run.fence) for run in some])
            answer = await self._runtime.write(Renew(self._runtime.boot_id, claims, slots.limits.lease_us))
            assert isinstance(answer, Renewed)
            for run in some:
                if run.run_id not in answer.held:
                    slots.cancel(run.run_id, run.claim_id)


def _pages(runs: Sequence[Claimed]) -> Iterator[Sequence[Claimed]]:
    return (runs[n : n + PAGE] for n in range(0, len(runs), PAGE))
