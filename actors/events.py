"""
What supervisors report: who started, who ended and what follows, who had to be left behind.

Rule 1: reports are values and the union is closed. They are OTP's five kinds (progress, child terminated, start error,
    shutdown error, intensity reached) and what OTP lacks: delayed, parked, zombie.
Rule 2: publishing is synchronous and never raises, whatever a listener does; nobody who listens can slow a supervisor
    by waiting.
Not here: how a report is shown or logged (`reported`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final, TypeAlias

import trio
from attrs import define, field, frozen

from .exits import Exit
from .stream import Stream

_log = logging.getLogger("callsheet.supervisor")

KEPT: Final = 200
"""Reports that are kept for whoever comes later. Each may hold an error, and that the frames it was raised in."""
STREAM_LIMIT: Final = 1_000
"""Reports that wait for one subscriber; a crash of a pool of actors comes at once, and a subscriber is a task."""


class Then(StrEnum):
    """What a supervisor does about a child that ended."""

    RESTARTED = "restarted"
    RESTARTED_LATER = "restarted_later"
    """After a backoff: a `Delayed` follows."""
    LEFT = "left"
    """Its end was one that calls for nothing."""
    PARKED = "parked"
    GAVE_UP = "gave_up"
    """The supervisor itself ends."""
    GIVEN_UP = "given_up"
    """It spent an intensity of its own, in a pool: it alone is gone."""
    STOPPED = "stopped"
    """It was told to end."""


@frozen
class Started:
    """An incarnation is up: its `on_start` has returned."""

    path: str
    generation: int


@frozen
class Ended:
    """An incarnation ended, cleanup included."""

    path: str
    generation: int
    exit: Exit
    then: Then


@frozen
class CouldNotStart:
    """An incarnation never ran: making it, or its `on_start`, raised."""

    path: str
    generation: int
    error: BaseException


@frozen
class StopOverran:
    """One or `count` children of a pool were told to stop, and did not within their budget or ended in another way."""

    path: str
    budget_s: float
    exit: Exit | None = None
    """How it ended instead; None while it lives."""
    count: int = 1


@frozen
class Delayed:
    """A restart waits for its backoff; `generation` is the one that will start."""

    path: str
    delay_s: float
    generation: int


@frozen
class ChildParked:
    """A child spent its own intensity: it is down until somebody unparks it, and nobody else minds."""

    path: str
    exit: Exit


@frozen
class BecameZombie:
    """An actor ignored its cancellation too: it is left behind, and its name is not used again while it lives."""

    path: str
    generation: int


@frozen
class GaveUp:
    """A supervisor spent its intensity: it stops its children and ends abnormally."""

    path: str
    error: BaseException


Report: TypeAlias = Started | Ended | CouldNotStart | StopOverran | Delayed | ChildParked | BecameZombie | GaveUp
Listener: TypeAlias = Callable[[Report], object]


@define(eq=False)
class Reports:
    """All reports of one system: the last ones, and whoever wants to hear of the next."""

    kept: int = KEPT
    last: int = field(default=0, init=False)
    """The number of the last report; the first is 1."""
    _ring: deque[tuple[int, Report]] = field(init=False)
    _listeners: dict[object, Listener] = field(factory=dict, init=False)
    """By a token of their own, so that one callable may listen twice."""
    _streams: list[Stream[Report]] = field(factory=list, init=False)
    _to_tell: deque[Report] = field(factory=deque, init=False)
    _telling: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._ring = deque(maxlen=self.kept)

    @trio.lowlevel.enable_ki_protection  # what a listener raises is swallowed: a Ctrl-C must not be among it
    def publish(self, report: Report) -> None:
        """Number and keep `report`, and give it to everybody who listens. Never raises."""
        self.last += 1
        self._ring.append((self.last, report))
        for stream in self._streams:
            stream.put(report)
        if self._listeners:
            self._to_tell.append(report)
            self._tell_all()

    def recent(self, after: int = 0) -> tuple[tuple[int, Report], ...]:
        """The reports that are kept and have a number above `after`, oldest first; a gap before the first means loss."""
        return tuple(entry for entry in self._ring if entry[0] > after)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """
        Have `listener` called with every report, in order, from inside `publish`: it must be quick, and must not wait.

        One that raises is dropped, with an error in the log. Returns a function that ends it; calling that twice does
        nothing.
        """
        token = object()
        self._listeners[token] = listener

        def unlisten() -> None:
            self._listeners.pop(token, None)

        return unlisten

    @asynccontextmanager
    async def subscribe(self, limit: int = STREAM_LIMIT) -> AsyncIterator[Stream[Report]]:
        """
        The reports from now on, for a task: `async with reports.subscribe() as stream: async for report in stream: ...`

        limit: how many may wait, 1 or more; then the oldest is dropped and counted in `stream.lost`. The iteration ends
        when the system is closed or the block is left. Raises ValueError.
        """
        if limit < 1:
            raise ValueError(f"subscribe(limit) must be 1 or more, not {limit}")
        stream: Stream[Report] = Stream(limit)
        if self._closed:
            stream.close()
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            stream.close()

    def close(self) -> None:
        """The system has ended: every iteration ends once it has read what waits. What is published later is still kept."""
        self._closed = True
        for stream in self._streams:
            stream.close()

    def _tell_all(self) -> None:
        """A report that a listener publishes waits until everybody has heard the one before it."""
        if self._telling:
            return
        self._telling = True
        while self._to_tell:
            report = self._to_tell.popleft()
            for token, listener in list(self._listeners.items()):
                if token in self._listeners:  # one before it may have ended it
                    self._tell(token, listener, report)
        self._telling = False

    def _tell(self, token: object, listener: Listener, report: Report) -> None:
        try:
            listener(report)
        except BaseException:  # noqa: BLE001 -- a stranger's code, in the middle of a supervisor's
            self._listeners.pop(token, None)
            with suppress(BaseException):  # the handlers of a log are strangers' code too
                _log.exception("a listener to supervision reports raised and is dropped: %s", type(listener).__name__)
