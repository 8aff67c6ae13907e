"""
What a handler tells of itself while it runs: the latest value, written a few times a second at most.

Rule 1: telling waits for nothing and never fails for the store's sake. Whatever is not written yet when the attempt ends is
written with its end.
Rule 2: one write of an attempt at a time; while the journal has too much to do, or the store refuses, the latest value waits.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import define, field

from .actors.journal import MAX_WAITING, send
from .actors.reply import Forward
from .actors.run import RunActor
from .store.contract import Noted, NoteRunning
from .supervisor import paths

MAX_PROGRESS: Final = 16 * 1024
"""Bytes of JSON: it is a sign of life, read by people, and not a place for data."""
INTERVAL_S: Final = 0.25
"""Between two writes of one attempt."""


@define(eq=False)
class Progress:
    """Of one attempt. Everything here happens in the event loop."""

    _actor: RunActor
    _next_s: float = field(default=-math.inf, init=False)
    _is_busy: bool = field(default=False, init=False)
    """Whether a write is under way, or a timer will see to the next one."""

    def tell(self, body: bytes) -> None:
        """This is the latest value."""
        self._actor.progress = body
        if not self._is_busy:
            self._go_on()

    def _go_on(self) -> None:
        """Write what is to be written, now or as soon as it may be."""
        self._is_busy = self._actor.progress is not None
        if self._is_busy:
            stage = self._actor.stage
            if stage.seams.clock.mono_s() >= self._next_s:
                self._write()
            else:
                stage.timers.at(self._next_s, self._go_on)

    def _write(self) -> None:
        run, body, stage = self._actor.claimed, self._actor.progress, self._actor.stage
        self._next_s = stage.seams.clock.mono_s() + INTERVAL_S
        journal = stage.whereis(paths.JOURNAL)
        if journal is None or journal.waiting > MAX_WAITING:
            self._go_on()
            return
        note = NoteRunning(run.run_id, run.attempt, run.claim_id, run.fence, progress=body)
        reply: Forward[Noted] = Forward(lambda _: self._written(body), lambda _: self._go_on())
        send(journal, note, reply)

    def _written(self, body: bytes | None) -> None:
        if self._actor.progress is body:
            self._actor.progress = None
        self._go_on()
