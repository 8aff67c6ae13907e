"""
A store reached without a runtime: short guarded transactions in the caller's own thread.

Rule 1: its coroutines never wait for an event loop, so they are driven to their end by one call (`drive`).
Rule 2: one connection writes, one thread at a time; readers are lent, one a thread. Nothing is opened before it is used.
Rule 3: a forked child begins anew: it uses no connection (`store.sqlite.forks`), lock, or next id of its parent.
Rule 4: after each commit the running runtime is told, if it can be.
Not here: what is asked (`callsheet.runs`, …), who may ask (`client`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, field

from ..actors.batch import concerns_one
from ..actors.seams import Seams, pause
from ..port import Until
from ..store.contract import Answer, Command, Reader
from ..store.errors import CallsheetError, StoreBusy, StoreClosed
from ..store.records import Clock, Owner
from ..store.sqlite import SqliteStore
from ..wake import Bell, path_of

if TYPE_CHECKING:
    from ..supervisor.slots import Slots

T = TypeVar("T")

BUSY_S: Final = 5.0
"""How long a call waits for others that write, in this process and elsewhere."""
MAX_IDLE_READERS: Final = 4
"""Connections that are kept for the next read; as many are open as threads read at the same time."""
FIRST_LOOK_S: Final = 0.005
LAST_LOOK_S: Final = 0.25
"""Between two looks at a run that is waited for: from often to as seldom as a runtime looks at what others wrote."""


@define(eq=False)
class _Open:
    """What is open in one process."""

    store: SqliteStore
    seams: Seams
    bell: Bell
    free: list[Reader] = field(factory=list)


@define(eq=False, slots=False)  # not slotted: a weak set knows it
class Direct:
    """
    One way to one database, for every thread of this process.

    where: path or `sqlite:///…`. create: make the database where there is none.
    """

    where: str
    create: bool
    is_open: bool = True
    works: bool = field(default=False, init=False)
    delays_by: Clock = field(default=Clock.WALL, init=False)
    """Whoever runs it knows nothing of our steady clock."""
    boot_id: str = field(default="", init=False)
    slots: Mapping[str, Slots] = field(factory=dict, init=False)
    trouble: Exception | None = field(default=None, init=False)
    """A client is told of it by the call that met it."""
    told: list[Callable[[Sequence[Command], Sequence[Answer], int], object]] = field(factory=list, init=False)
    """Called with what was committed, and when, after each commit."""
    _inside: _Open | None = field(default=None, init=False)
    _opening: threading.Lock = field(factory=threading.Lock, init=False)
    _writing: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        _all.add(self)

    @property
    def seams(self) -> Seams:
        """See `Port.seams`."""
        return self._opened().seams

    @property
    def wake_path(self) -> str | None:
        """See `Port.wake_path`."""
        return self._opened().bell.heard_at

    def is_parked(self, jobs: str, task: str) -> bool:
        """See `Port.is_parked`."""
        return False

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Until]:
        """See `Port.watch`."""
        look_s = FIRST_LOOK_S

        async def until(until_s: float) -> None:
            nonlocal look_s
            pause(max(0.0, min(look_s, until_s - self.seams.clock.mono_s())))
            look_s = min(look_s * 1.5, LAST_LOOK_S)

        yield until

    async def write(self, command: Command) -> Answer:
        """See `Port.write`. Raises StoreBusy after 5 s, and what the store raises."""
        (answer,) = self._write((command,))
        return answer

    async def write_all(self, commands: Sequence[Command]) -> list[Answer | Exception]:
        """See `Port.write_all`: one transaction, unless one of them is to blame; then each has its own."""
        try:
            return list(self._write(commands))
        except CallsheetError as error:
            if len(commands) == 1 or not concerns_one(error):
                return [error] * len(commands)
        answers: list[Answer | Exception] = []
        for command in commands:
            answers += await self.write_all((command,))
        return answers

    async def read(self, what: Callable[[Reader], T]) -> T:
        """See `Port.read`."""
        inside = self._opened()
        try:
            reader = inside.free.pop()
        except IndexError:
            reader = inside.store.reader()
        try:
            value = what(reader)
        except BaseException:
            reader.close()  # whatever state it is in, the next read begins with another
            raise
        inside.free.append(reader)
        if (
            len(inside.free) > MAX_IDLE_READERS or self._inside is not inside
        ):  # closed meanwhile: nobody else will do it
            _close_one(inside.free)
        return value

    def close(self) -> None:
        """Close every connection. Calls under way in other threads fail; twice does nothing."""
        with self._opening, self._writing:
            self.is_open = False
            inside, self._inside = self._inside, None
            if inside is not None:
                while inside.free:
                    _close_one(inside.free)
                inside.store.close()  # the last connection takes the log away, and only one that writes can
                inside.bell.close()

    def _write(self, commands: Sequence[Command]) -> Sequence[Answer]:
        inside = self._opened()
        clock = inside.seams.clock
        until_s = clock.mono_s() + BUSY_S
        if not self._writing.acquire(timeout=BUSY_S):
            raise StoreBusy(inside.store.name, BUSY_S)
        try:
            inside.store.busy_s = max(0.0, until_s - clock.mono_s())
            now = inside.seams.now()
            answers = inside.store.write(commands, now)
            inside.bell.ring()
        except StoreBusy as error:
            raise StoreBusy(error.path, BUSY_S) from error.__cause__
        finally:
            self._writing.release()
        for each in self.told:
            each(commands, answers, now.steady_us)
        return answers

    def _opened(self) -> _Open:
        inside = self._inside
        if inside is not None:
            return inside
        if not self._opening.acquire(timeout=BUSY_S):  # another thread waits for who keeps us all from opening it
            raise StoreBusy(self.where, BUSY_S)
        try:
            if not self.is_open:
                raise StoreClosed(self.where)
            if self._inside is None:
                store = SqliteStore(self.where, exclusive=False, create=self.create, busy_s=BUSY_S)
                seams = Seams.outside()
                store.open(_nobody(seams))
                self._inside = _Open(store, seams, Bell(path_of(store.name)))
            return self._inside
        finally:
            self._opening.release()

    def begin_anew(self) -> None:
        """In a forked child."""
        if self._inside is not None:
            self._inside.bell.close()
        self._inside = None
        self._opening, self._writing = threading.Lock(), threading.Lock()


def _close_one(readers: list[Reader]) -> None:
    with contextlib.suppress(IndexError):  # another thread was faster
        readers.pop().close()


def _nobody(seams: Seams) -> Owner:
    """Who holds the lock while the database is made or migrated; it is registered nowhere."""
    return Owner(seams.ids.boot_id(), os.getpid(), socket.gethostname(), seams.clock.wall_us())


_all: Final[weakref.WeakSet[Direct]] = weakref.WeakSet()


def _begin_anew() -> None:
    for each in list(_all):
        each.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
