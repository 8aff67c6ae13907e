"""
Between processes: "somebody wrote", as an empty datagram to `<database>.wake`.

Rule 1: it carries nothing, may be lost or doubled, and costs whoever sends it one system call that cannot wait. Losing one
costs a quarter of a second, never a run.
Rule 2: only the runtime that holds the owner lock listens; what another one left behind is its to take away.
Not here: what the journal does about it (`actors.journal.LookAround`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field

if TYPE_CHECKING:
    from .actors.waits import Waits

_log = logging.getLogger("callsheet")

MAX_PATH: Final = 100
"""Bytes of a socket's path: what every system takes."""
GAP_S: Final = 0.002
"""Between two looks that datagrams ask for: others may write thousands of times a second."""
MODE: Final = 0o600
_MANY: Final = 1_000
"""Datagrams that are taken at a time; a socket holds fewer."""


def path_of(database: str) -> str | None:
    """Where the runtime that runs what is in `database` may listen; None where no socket can be."""
    path = f"{database}.wake"
    if not hasattr(socket, "AF_UNIX") or not Path(database).is_absolute() or len(os.fsencode(path)) > MAX_PATH:
        return None
    return path


@define(eq=False)
class Bell:
    """Tells the runtime of one database that somebody wrote. One thread at a time; not across a fork."""

    path: str | None
    _socket: socket.socket | None = field(default=None, init=False)

    def ring(self) -> None:
        """Tell it, if it is there and can be told without waiting."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):  # nobody listens, or it was told so often that it looks anyway
            if self._socket is None:
                self._socket = _datagrams()
                weakref.finalize(self, self._socket.close)  # clients that are never closed are no mistake
            self._socket.sendto(b".", self.path)

    @property
    def heard_at(self) -> str | None:
        """Its path, while somebody listens there."""
        if self.path is not None:
            with contextlib.suppress(OSError), _datagrams() as asking:
                asking.connect(self.path)
                return self.path
        return None

    def close(self) -> None:
        """Twice does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@define(eq=False)
class Ear:
    """A bound socket: hears bells."""

    path: str
    _socket: socket.socket

    def __attrs_post_init__(self) -> None:
        _ears.add(self)

    @classmethod
    def at(cls, path: str | None) -> Ear | None:
        """
        Bind it, in place of what a dead process left there; None where that cannot be. Only the holder of the owner lock may.
        """
        if path is None:
            return None
        ear = _datagrams()
        try:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            os.fchmod(
                ear.fileno(), MODE
            )  # Linux makes the file with it: there is no moment at which others may write to it
            ear.bind(path)
            Path(path).chmod(MODE)
        except OSError:
            ear.close()
            return None
        return cls(path, ear)

    async def listen(self, waits: Waits, on_wake: Callable[[], object], then: Callable[[], object]) -> None:
        """
        Call `on_wake` for each datagram, or for many at once, and `then` a moment later, until cancelled. Never raises anything
        else.
        """
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                self._drain()
                on_wake()
                await waits.sleep(GAP_S, owner="wake")
                then()
        except OSError:
            _log.exception("nothing is heard any more at %s: the store is looked at four times a second", self.path)

    def _drain(self) -> None:
        with contextlib.suppress(OSError):  # nothing is left
            for _ in range(_MANY):
                self._socket.recv(1)

    def close(self) -> None:
        """Take it away; twice does nothing."""
        if self._socket.fileno() >= 0:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()
            self.let_go()

    def let_go(self) -> None:
        """Close the socket, and leave the path to whoever else has it."""
        self._socket.close()


_ears: Final[weakref.WeakSet[Ear]] = weakref.WeakSet()


def _hear_nothing() -> None:
    """In a forked child, which must not seem to listen when its parent has ended."""
    for ear in list(_ears):
        ear.let_go()


os.register_at_fork(after_in_child=_hear_nothing)


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
