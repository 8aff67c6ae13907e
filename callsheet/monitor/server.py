"""
The actor that serves the monitor: it takes the port, accepts, and ends with everything it started.

Rule: it can never take anything else down: its connections and its feed live in a nursery of its own, inside its one
task of the tree; it is restarted behind the same door, and parked when it cannot stay up.
Not here: one connection (`connection`), what clients are told (`feed`).
"""

from __future__ import annotations

import errno
import logging
import os
from functools import partial
from typing import Never

import trio
from attrs import define, field

from ..actors.actor import Actor
from ..actors.seams import Seams
from ..runtime import Runtime
from . import CannotListen, Monitor
from .connection import Site
from .feed import Feed
from .guard import Guard
from .respond import resources

_log = logging.getLogger("callsheet.monitor")


@define(eq=False)
class Door:
    """Where the monitor is found: it outlives its incarnations, so that a link stays good."""

    monitor: Monitor
    port: int = field(init=False)
    token: str | None = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.port, self.token = self.monitor.port, self.monitor.token

    def token_from(self, seams: Seams) -> str:
        """The secret; made when it is first needed, unless it was given."""
        if self.token is None:
            self.token = seams.ids.token()
        return self.token

    @property
    def url(self) -> str:
        """The page's link. The secret is in the fragment, which browsers send to nobody."""
        return f"http://{self.monitor.authority}:{self.port}/#token={self.token}"


class MonitorServer(Actor[Never]):
    """Serves the page and the feed of one runtime."""

    def __init__(self, door: Door, runtime: Runtime) -> None:
        self._door = door
        self._runtime = runtime

    async def on_start(self) -> None:
        """Take the port. Raises CannotListen."""
        door, runtime = self._door, self._runtime
        self._listeners = await _listen(door.monitor.address, door.port)
        door.port = self._listeners[0].socket.getsockname()[1]
        self._feed = Feed(runtime)
        self._site = Site(Guard(door.port), resources(), self._feed, door.token_from(runtime.seams))
        runtime.journal.on_committed.append(self._feed)
        runtime.journal.on_neighbours_seldom.append(self._feed.others_wrote)
        runtime.monitor_url = door.url

    async def run(self) -> None:
        """Serve until we are told to stop."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed.run)
            nursery.start_soon(
                partial(trio.serve_listeners, self._site.serve, self._listeners, handler_nursery=nursery)
            )
            while not self.cell.stopping:
                await self.cell.mailbox.wait()
                self.cell.mailbox.take_now()
            nursery.cancel_scope.cancel()

    async def on_stop(self) -> None:
        """Leave no listener behind, neither on the port nor at the journal."""
        self._runtime.journal.on_committed.remove(self._feed)
        self._runtime.journal.on_neighbours_seldom.remove(self._feed.others_wrote)
        self._runtime.monitor_url = None
        for listener in self._listeners:
            await trio.aclose_forcefully(listener)


async def _listen(address: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=address)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        why = "it is in use" if in_use else os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(address, port, why) from error
