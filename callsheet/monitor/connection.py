"""
One connection to the monitor, from its first byte to its end: a file of the page, or a client of the feed.

Rule: whatever happens in a connection ends that connection only; and each costs bounded memory for a bounded time until
it has shown the token.
Not here: accepting (`server`), what may be asked (`guard`), what a client of the feed is told (`client`).
"""

from __future__ import annotations

import logging
from typing import Final

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, wrap_server_stream

from .client import Client
from .feed import Feed
from .guard import FEED, Guard
from .messages import MAX_MESSAGE
from .request import Hangup, Head, HeadReader, Refused, Rewound
from .respond import Resource, refusal, response

_log = logging.getLogger("callsheet.monitor")

HEAD_S: Final = 5.0
"""How long a request head may take to arrive, and a handshake to be answered."""
ANSWER_S: Final = 5.0
"""How long an answer may take to be taken."""
LINGER_S: Final = 1.0
"""How long what the peer still sends is read, so that closing does not reset the connection under our answer."""
LINGER_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 64
MAX_STRANGERS: Final = 16
"""Of which so many may be without a token: files of the page, and handshakes."""
MAX_TURNED_AWAY: Final = 32
"""Connections that are being told 503; the next ones are closed without a word."""
SEND_BUFFER: Final = 64 * 1024
"""Bytes the kernel may hold for us (it doubles them): without this it grows to megabytes for a client that never reads."""


@define(eq=False)
class Seats:
    """Who is connected."""

    taken: int = 0
    strangers: int = 0
    turned_away: int = 0

    @property
    def is_free(self) -> bool:
        """Whether one more may connect."""
        return self.taken < MAX_CONNECTIONS and self.strangers < MAX_STRANGERS


@define(eq=False)
class Site:
    """What all connections of a monitor share."""

    guard: Guard
    resources: dict[str, Resource]
    feed: Feed
    token: str = field(repr=False)
    seats: Seats = field(factory=Seats)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end. Raises nothing but Cancelled."""
        try:
            await Connection(self, stream).serve()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed, Hangup):
            pass
        except* Exception as errors:  # noqa: BLE001 -- see the rule of this file
            _log.error("a connection to the monitor failed", exc_info=errors)
        finally:
            await trio.aclose_forcefully(stream)


@define(eq=False)
class Connection:
    """One of them."""

    site: Site
    stream: trio.SocketStream
    peer: str = field(init=False, default="?")
    _known: bool = field(init=False, default=False)

    async def serve(self) -> None:
        """Give it a seat while it lasts."""
        seats = self.site.seats
        if not seats.is_free:
            await self._turn_away(seats)
            return
        seats.taken += 1
        seats.strangers += 1
        try:
            await self._serve()
        finally:
            seats.taken -= 1
            seats.strangers -= not self._known

    async def _turn_away(self, seats: Seats) -> None:
        if seats.turned_away >= MAX_TURNED_AWAY:
            return
        seats.turned_away += 1
        try:
            with trio.move_on_after(LINGER_S):
                await self._answer(refusal(503))
        finally:
            seats.turned_away -= 1

    async def _serve(self) -> None:
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SEND_BUFFER)
        self.peer = _name(self.stream)
        try:
            head = await self._read_head()
            self.site.guard.check(head, self.site.resources)
        except Refused as refused:
            if refused.why is not None:
                _log.warning("refused a request from %s: %s", self.peer, refused.why)
            await self._answer(refusal(refused.status))
            return
        if head.target == FEED:
            await self._serve_feed(head)
        else:
            await self._answer(response(self.site.resources[head.target], head.method))

    async def _read_head(self) -> Head:
        reader = HeadReader(self.stream)
        with trio.move_on_after(HEAD_S):
            return await reader.read()
        if not reader.raw:
            raise Hangup  # a browser's spare connection: an answer would be taken for that to its next request
        raise Refused(408, f"no whole request within {HEAD_S:g} s")

    async def _answer(self, data: bytes) -> None:
        with trio.move_on_after(ANSWER_S):
            await self.stream.send_all(data)
            await self.stream.send_eof()
            with trio.move_on_after(LINGER_S):
                left = LINGER_BYTES
                while left > 0 and (data := await self.stream.receive_some(LINGER_BYTES)):
                    left -= len(data)

    async def _serve_feed(self, head: Head) -> None:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(HEAD_S):
                # no extensions are accepted, so nothing is ever decompressed
                request = await wrap_server_stream(
                    nursery, Rewound(self.stream, head.raw), max_message_size=MAX_MESSAGE
                )
                ws = await request.accept()
            await Client(ws, self.site.feed, self.site.token, self.peer).serve(self._welcomed)
            nursery.cancel_scope.cancel()

    def _welcomed(self) -> None:
        self._known = True
        self.site.seats.strangers -= 1


def _name(stream: trio.SocketStream) -> str:
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:
        return "?"
    return f"{host}:{port}"
