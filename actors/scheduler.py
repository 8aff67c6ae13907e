"""
The actor that owns all waiting: it sleeps until the next timer and calls what is due.

Rule: one trio deadline, moved only when an earlier timer is added; no wake-ups without a reason. What it calls is
synchronous and short: a `tell`, a cancel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Never

import trio

from .actor import Actor
from .wheel import FIRE_COST

_log = logging.getLogger("callsheet.scheduler")

BUDGET: Final = 500 * FIRE_COST
"""Work between two checkpoints, in the wheel's units: five hundred calls, about a millisecond's worth."""


class Scheduler(Actor[Never]):
    """Pumps the stage's timers. A new incarnation goes on with the timers that the old one left."""

    wakes = 0
    """How often this incarnation was woken from its sleep."""

    async def on_start(self) -> None:
        """See `Actor.on_start`."""
        self._sleep = trio.CancelScope()
        self.stage.timers.on_earlier = self._earlier
        self.stage.waits.on_wheel()

    def _earlier(self, when_s: float) -> None:
        self._sleep.deadline = min(self._sleep.deadline, when_s)

    async def run(self) -> None:
        """See `Actor.run`."""
        timers, clock = self.stage.timers, self.stage.seams.clock
        while not self.cell.stopping:
            if timers.advance(clock.mono_s(), BUDGET, _run) or timers.next_s() <= clock.mono_s():
                await trio.lowlevel.checkpoint()
                continue
            with trio.CancelScope(deadline=timers.arm()) as self._sleep:
                await self.cell.mailbox.wait()
            self.wakes += 1
            await self.receive_all(self.cell.mailbox.take_now())  # nobody has anything to tell us: that is a crash

    async def on_stop(self) -> None:
        """See `Actor.on_stop`."""
        self.stage.timers.on_earlier = _nobody_sleeps
        self.stage.waits.off_wheel()


def _run(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001 -- logged; the loop goes on
        _log.exception("a timer's call failed: %r", call)


def _nobody_sleeps(_when_s: float) -> None:
    """Nobody pumps now; the next incarnation looks at every timer when it starts."""
