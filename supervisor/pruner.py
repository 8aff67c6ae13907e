"""
The pruner: has runs forgotten that ended long ago, a few at a time, between what everybody else writes.

Rule 1: one command is under way at a time, a small one, and then a pause that is long against it: nobody waits for this.
Rule 2: it keeps nothing that matters. A pass begins with the first run again; whoever dies in one loses nothing.
Not here: how long runs are kept (`callsheet.retention`), which of them a command looks at (the store).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final, TypeAlias, assert_never

from attrs import define, frozen

from ..actors.actor import Actor
from ..actors.journal import send
from ..actors.reply import Forward
from ..store.contract import Prune, Pruned
from ..store.records import Status
from . import paths

_log = logging.getLogger("callsheet.retention")

FIRST_S: Final = 10.0
"""After opening there is more urgent work to do."""
EVERY_S: Final = 60.0
"""Between two passes: about as long after its time a run may still be there."""
BATCH: Final = 100
"""Runs that one command looks at: they take 2 to 3 ms, which is what somebody else's commit may have to wait for it."""
PAUSE_S: Final = 0.02
"""
Between two commands, or as long as the one before took: a tenth of the journal's time, and never more than half of it on a
disk that is slow. That forgets 3,000 to 4,000 runs in a second: as many as can be run, for hours, with something to spare.
"""


@frozen
class Kept:
    """Runs of one Jobs instance that ended like this are kept so long."""

    jobs: str
    status: Status
    keep_us: int


@frozen
class Turn:
    """It is time for a pass, or for the next command of one."""


@frozen
class Done:
    """The answer to a command."""

    command: Prune
    pruned: Pruned


@frozen
class Refused:
    """A command failed."""

    command: Prune
    error: BaseException


PrunerMessage: TypeAlias = Turn | Done | Refused


@define(eq=False)
class _Walk:
    """Where a pass is with the runs of one kind."""

    kept: Kept
    before_us: int
    after: str = ""


class Pruner(Actor[PrunerMessage]):
    """Makes a pass over everything that is not kept for ever, and sleeps until the next."""

    def __init__(self, kept: Iterable[Kept]) -> None:
        self._kept = tuple(kept)
        self._walks: list[_Walk] = []
        """What is left of this pass."""
        self._forgot: Counter[Kept] = Counter()
        """In this pass."""
        self._asked: Prune | None = None
        """The command under way. An answer to any other is one that an incarnation before us asked for."""
        self._asked_s = 0.0

    def on_start(self) -> None:
        """Wait until others have begun."""
        self.alarms.after(FIRST_S, Turn())

    def receive(self, message: PrunerMessage) -> None:
        """See the messages."""
        match message:
            case Turn():
                self._go_on()
            case Done(command, pruned) if command is self._asked:
                self._done(pruned)
            case Refused(command, error) if command is self._asked:
                _log.debug("could not forget old runs: %s", error)  # the journal says what is wrong with the store
                self._walks.clear()
                self._end()
            case Done() | Refused():
                pass
            case _:
                assert_never(message)

    def _go_on(self) -> None:
        clock = self.stage.seams.clock
        if not self._walks:
            now_us = clock.steady_us()
            self._walks = [_Walk(kept, now_us - kept.keep_us) for kept in self._kept]
        walk = self._walks[0]
        command = Prune(walk.kept.jobs, walk.kept.status, walk.before_us, BATCH, walk.after)
        self._asked, self._asked_s = command, clock.mono_s()
        reply = Forward(partial(self._tell, Done, command), partial(self._tell, Refused, command))
        send(self.stage.registry[paths.JOURNAL].ref, command, reply)

    def _tell(self, kind: type[Done | Refused], command: Prune, outcome: object) -> None:
        if self.cell.is_alive:  # else whoever comes after us begins anew
            self.ref.tell(kind(command, outcome))  # type: ignore[arg-type]  # each kind is given what it is made of

    def _done(self, pruned: Pruned) -> None:
        walk = self._walks[0]
        self._forgot[walk.kept] += pruned.n
        if pruned.next is None:
            self._walks.pop(0)
        else:
            walk.after = pruned.next
        if self._walks:
            took_s = self.stage.seams.clock.mono_s() - self._asked_s
            self.alarms.after(max(PAUSE_S, took_s), Turn())
        else:
            self._end()

    def _end(self) -> None:
        if self._forgot.total():
            parts = [f"{n:,} {kept.status} of {kept.jobs}" for kept, n in self._forgot.items() if n]
            _log.info("forgot %d runs that ended long ago: %s", self._forgot.total(), ", ".join(parts))
        self._forgot.clear()
        self._asked = None
        self.alarms.after(EVERY_S, Turn())
