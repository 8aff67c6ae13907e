"""
Reading the head of one HTTP request, and the stream that gives its bytes back.

Rule: at most 16 KiB and 64 headers, whatever arrives; the bytes read are kept, because a websocket handshake is read a
second time, by the library that answers it.
Not here: how long it may take (`connection`), what is allowed (`guard`).
"""

from __future__ import annotations

from typing import Final

import h11
import trio
from attrs import define, field, frozen

MAX_HEAD: Final = 16 * 1024
"""Bytes of a request head; h11's default, and far more than a browser sends."""
MAX_HEADERS: Final = 64
CHUNK: Final = 4 * 1024


class Refused(Exception):
    """Answer with this status and close. `why` goes to the log; None: not worth a line."""

    def __init__(self, status: int, why: str | None) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


class Hangup(Exception):
    """The peer went away before it asked anything."""


@frozen
class Head:
    """What was asked, and every byte that was read for it."""

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    raw: bytes = b""

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the header `name`."""
        return [value for each, value in self.headers if each == name]

    def tokens(self, name: bytes) -> list[bytes]:
        """Its comma-separated parts, in lower case."""
        return [part.strip().lower() for value in self.all(name) for part in value.split(b",")]


@define(eq=False)
class HeadReader:
    """Reads one head from `stream`."""

    stream: trio.SocketStream
    raw: bytearray = field(factory=bytearray)

    async def read(self) -> Head:
        """The head. Raises Refused, Hangup, trio.BrokenResourceError."""
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            while (event := parser.next_event()) is h11.NEED_DATA:
                room = MAX_HEAD - len(self.raw)
                if not room:
                    raise Refused(431, f"a head of more than {MAX_HEAD:,} bytes")
                data = await self.stream.receive_some(min(CHUNK, room))
                if not data and not self.raw:
                    raise Hangup
                self.raw += data
                parser.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, "not HTTP as we speak it") from None
        if not isinstance(event, h11.Request):
            raise Hangup
        return self._head(event)

    def _head(self, event: h11.Request) -> Head:
        if event.http_version not in (b"1.0", b"1.1"):
            raise Refused(505, "another version of HTTP")
        if len(event.headers) > MAX_HEADERS:
            raise Refused(431, f"more than {MAX_HEADERS} headers")
        target, method = event.target.decode("ascii"), event.method.decode("ascii")
        return Head(method, target, tuple(event.headers), bytes(self.raw))


@define(eq=False)
class Rewound(trio.abc.HalfCloseableStream):
    """A stream with some of its bytes still, or again, to be read."""

    stream: trio.SocketStream
    again: bytes

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See trio.abc.ReceiveStream."""
        if not self.again:
            return await self.stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        data, self.again = self.again[:max_bytes], self.again[max_bytes or len(self.again) :]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See trio.abc.SendStream."""
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self.stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See trio.abc.HalfCloseableStream."""
        await self.stream.send_eof()

    async def aclose(self) -> None:
        """See trio.abc.AsyncResource."""
        await self.stream.aclose()
