"""
Everything that comes from outside the program's own logic: time, chance, ids, the end of the process.

Rule: nothing else in the package reads a clock, draws a random number, makes an id or ends the process; a test walks
the source and keeps it so. That is what makes a run of the whole runtime repeatable from one seed.
Not here: the store and the network, which are passed in by whoever opens them.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

import trio
from attrs import define, field

from ..store.records import Now
from .writer import Writer

SECOND_US: Final = 1_000_000
pause: Final = time.sleep
"""Wait so many seconds in a thread that has no event loop."""
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = tuple(a + b for a in _CROCKFORD for b in _CROCKFORD)


class Clock(Protocol):
    """Two clocks that start together at open, and may part when somebody sets the wall clock."""

    def mono_s(self) -> float:
        """Seconds on trio's clock: what timers and deadlines are made of."""

    def steady_us(self) -> int:
        """The wall time read once at open plus trio's clock since, in microseconds."""

    def wall_us(self) -> int:
        """The wall clock, microseconds UTC."""


@define(eq=False)
class SystemClock:
    """The real clocks. Make it inside `trio.run`."""

    _wall_ns: Callable[[], int] = time.time_ns
    _base_us: int = field(init=False)
    _base_s: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._base_s = trio.current_time()  # first: steady is not behind wall, so no run of another process seems early
        self._base_us = self._wall_ns() // 1000

    def mono_s(self) -> float:
        """See `Clock.mono_s`."""
        return trio.current_time()

    def steady_us(self) -> int:
        """See `Clock.steady_us`."""
        return self._base_us + int((trio.current_time() - self._base_s) * SECOND_US)

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return self._wall_ns() // 1000


@define(eq=False)
class WallClock:
    """The clock of code that runs in no event loop, and keeps nothing from one call to the next: the wall clock is both."""

    def mono_s(self) -> float:
        """See `Clock.mono_s`; here it is the system's."""
        return time.monotonic()

    def steady_us(self) -> int:
        """The wall clock: what is written is written now, however long the process has lived."""
        return self.wall_us()

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return time.time_ns() // 1000


class Ids(Protocol):
    """Names for what is new."""

    def run_id(self, at_us: int) -> str:
        """A new id that sorts after every earlier one of this process."""

    def claim_id(self) -> bytes:
        """16 random bytes."""

    def boot_id(self) -> str:
        """Who we are, until close."""

    def token(self) -> str:
        """A secret of 256 bits, as text for a URL."""


def crockford(number: int) -> str:
    """130 bits as 26 characters that sort like the number (the alphabet of ULIDs)."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


@define(eq=False)
class RandomIds:
    """
    ULIDs: 48 bits of milliseconds and 80 random bits, counted up within a millisecond (https://github.com/ulid/spec).

    Counting up keeps them in order also when the clock stands still or goes back.
    """

    _bits: Callable[[int], int] = secrets.randbits
    _last: int = field(default=0, init=False)
    _high: int = field(default=-1, init=False)
    """The upper 110 bits of the id before; they rarely change, and their text is kept."""
    _begins: str = field(default="", init=False)

    def run_id(self, at_us: int) -> str:
        """See `Ids.run_id`."""
        stamp = at_us // 1000 << 80
        # the top bit of the random part stays free, so that counting up never reaches the next millisecond
        number = self._last = self._last + 1 if self._last >= stamp else stamp | self._bits(79)
        if number >> 20 != self._high:
            self._high = number >> 20
            self._begins = crockford(number)[:22]
        return self._begins + _PAIRS[number >> 10 & 1023] + _PAIRS[number & 1023]

    def claim_id(self) -> bytes:
        """See `Ids.claim_id`."""
        return self._bits(128).to_bytes(16)

    def boot_id(self) -> str:
        """See `Ids.boot_id`."""
        return f"{self._bits(64):016x}"

    def token(self) -> str:
        """See `Ids.token`."""
        return f"{self._bits(256):064x}"


@define(eq=False)
class SharedIds(RandomIds):
    """The same for code of several threads: no two of them are given one id."""

    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def run_id(self, at_us: int) -> str:
        """See `Ids.run_id`."""
        with self._lock:
            return super().run_id(at_us)


@define(eq=False)
class Seams:
    """The set that one runtime is given; `Seams.real()` in production, seeded ones in a simulation."""

    clock: Clock
    ids: Ids
    draw: Callable[[], float]
    """A random number 0 <= x < 1, for jitter."""
    exit: Callable[[int], NoReturn]
    """Ends the process at once with this status."""
    threads: bool = True
    """Whether blocking calls get threads; not in a simulation, where the mock clock would jump while one is in flight."""
    look_s: float | None = None
    """Seconds between looks at what a lost wake-up would have told of (at most 30); None: as those who look see fit."""
    writer: Writer | None = None
    """The hand that writes to the store; None: a thread, or the caller's own, as `threads` says."""
    attend: Callable[[Any], object] = lambda _runtime: None
    """Called with each runtime that these are given to, before its first actor starts."""

    @classmethod
    def real(cls) -> Seams:
        """The real ones. Make it inside `trio.run`."""
        return cls(SystemClock(), RandomIds(), random.Random().random, os._exit)  # noqa: S311 -- jitter is no secret

    @classmethod
    def outside(cls) -> Seams:
        """Real ones for code that runs in no event loop, in any thread."""
        return cls(WallClock(), SharedIds(), random.Random().random, os._exit)  # noqa: S311 -- jitter is no secret

    @classmethod
    def seeded(cls, seed: int, *, wall_ns: Callable[[], int] | None = None) -> Seams:
        """Ids and jitter that follow from `seed`, the wall clock from `wall_ns`, and no threads. For simulations."""
        source = random.Random(seed)  # noqa: S311 -- repeatable on purpose
        return cls(
            SystemClock(wall_ns or time.time_ns), RandomIds(source.getrandbits), source.random, os._exit, threads=False
        )

    def now(self) -> Now:
        """One reading of both clocks; the steady one last, so that nothing that is due on the wall clock seems early on it."""
        wall_us = self.clock.wall_us()
        return Now(self.clock.steady_us(), wall_us)
