"""
Those who come to the monitor in tests: one who speaks raw HTTP, one who speaks raw websocket, and one who is polite.

Raw ones say exactly the bytes they are told to, because a polite library would refuse to be as rude as an attacker.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio.testing
from attrs import define, field
from trio_websocket import WebSocketConnection, open_websocket_url

from callsheet import Runtime

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
PARTS: Final = ("stats", "queues", "tree", "schedules")


def port_of(runtime: Runtime) -> int:
    """Where its monitor listens."""
    assert runtime.monitor_url is not None
    return int(runtime.monitor_url.partition("/#")[0].rpartition(":")[2])


def token_of(runtime: Runtime) -> str:
    """The secret of its link."""
    assert runtime.monitor_url is not None
    return runtime.monitor_url.partition("#token=")[2]


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition()` holds. It looks all the time, so it does not care which clock there is."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def settled() -> None:
    """Return when nothing moves any more, on the sockets either."""
    for _ in range(10):
        await trio.testing.wait_all_tasks_blocked(0.01)


async def pass_time(clock: trio.testing.MockClock, condition: Callable[[], object]) -> None:
    """Let time pass, a second at a time, until `condition()` holds."""
    while not condition():
        clock.jump(1)
        await trio.testing.wait_all_tasks_blocked(0.01)


# ---------------------------------------------------------------- raw HTTP


@define
class Answer:
    """One answer over HTTP; status 0: the connection was closed without one."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""


async def say(port: int, data: bytes) -> Answer:
    """Send these bytes, and read the answer until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        return await hear(stream)


async def hear(stream: trio.SocketStream) -> Answer:
    """What comes, until it ends."""
    heard = b""
    try:
        while data := await stream.receive_some(65_536):
            heard += data
    except trio.BrokenResourceError:
        pass
    head, _, body = heard.partition(b"\r\n\r\n")
    if not head:
        return Answer(0)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines), "no header stands twice"
    return Answer(int(first.split()[1]), headers, body)


async def get(port: int, path: str = "/", *headers: str, method: str = "GET", host: str | None = None) -> Answer:
    """An ordinary request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", *headers, "", ""]
    return await say(port, "\r\n".join(lines).encode("latin-1"))


def handshake(port: int, *headers: str, path: str = "/feed", host: str | None = None) -> bytes:
    """The opening of a websocket, with further headers."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host or f'127.0.0.1:{port}'}",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


# ---------------------------------------------------------------- raw websocket


def framed(payload: bytes, opcode: int = 1, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """One frame of a client."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, mask_bit | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, size)
    if not masked:
        return head + payload
    mask = b"\x01\x02\x03\x04"
    stretched = mask * (size // 4 + 1)
    return head + mask + bytes(a ^ b for a, b in zip(payload, stretched, strict=False))


@define(eq=False)
class Rude:
    """A raw websocket client; it reads only when it is told to."""

    stream: trio.SocketStream
    _heard: bytearray = field(factory=bytearray)

    async def send(self, data: bytes) -> None:
        """These bytes."""
        await self.stream.send_all(data)

    async def say(self, value: object) -> None:
        """This value as a message."""
        await self.send(framed(json.dumps(value).encode()))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Close and end of stream are (8, code) and (-1, b"")."""
        head = await self._take(2)
        if head is None:
            return -1, b""
        size = head[1] & 0x7F
        if size > 125:
            more = await self._take(2 if size == 126 else 8)
            assert more is not None
            size = int.from_bytes(more)
        payload = await self._take(size)
        assert payload is not None
        return head[0] & 0x0F, payload

    async def message(self) -> dict[str, Any]:
        """The next text frame."""
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        found: dict[str, Any] = json.loads(payload)
        return found

    async def answer(self) -> dict[str, Any]:
        """The next answer to something it said; what the feed tells meanwhile is passed over."""
        while (message := await self.message())["type"] not in ("done", "error"):
            pass
        return message

    async def closing(self) -> int | None:
        """Read to the end: the code of the close frame, None when there was none."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2])
            if opcode == -1:
                return None

    async def _take(self, n: int) -> bytes | None:
        while len(self._heard) < n:
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            self._heard += data
        taken = bytes(self._heard[:n])
        del self._heard[:n]
        return taken


@asynccontextmanager
async def rude(runtime: Runtime, *headers: str, receive_buffer: int | None = None) -> AsyncIterator[Rude]:
    """A raw client whose handshake was accepted."""
    port = port_of(runtime)
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", port))
    async with trio.SocketStream(sock) as stream:
        await stream.send_all(handshake(port, *headers))
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            data = await stream.receive_some(1)
            assert data, head
            head += data
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"extensions" not in head.lower()
        yield Rude(stream)


# ---------------------------------------------------------------- the polite one


@define(eq=False)
class Watcher:
    """A client that does what the page does: folds what it is told, and acknowledges it."""

    ws: WebSocketConnection
    welcome: dict[str, Any] = field(factory=dict)
    state: dict[str, Any] = field(factory=dict)
    runs: dict[str, dict[str, Any]] = field(factory=dict)
    answers: dict[Any, dict[str, Any]] = field(factory=dict)
    rev: int = -1
    frames: int = 0
    resets: int = 0
    texts: list[str] = field(factory=list)
    """Everything it was sent."""
    _moved: trio.Event = field(factory=trio.Event)

    async def next(self, *, ack: bool = True) -> dict[str, Any]:
        """The next message, folded in."""
        text = await self.ws.get_message()
        assert isinstance(text, str)
        self.texts.append(text)
        message: dict[str, Any] = json.loads(text)
        match message["type"]:
            case "welcome":
                self.welcome = message
            case "reset":
                self.resets += 1
            case "done" | "error":
                self.answers[message["id"]] = message
            case "snapshot" | "delta":
                self._fold(message)
                if ack:
                    await self.say({"type": "ack", "rev": message["rev"]})
        moved, self._moved = self._moved, trio.Event()
        moved.set()
        return message

    def _fold(self, message: dict[str, Any]) -> None:
        assert message["rev"] > self.rev or message["type"] == "snapshot"
        if message["type"] == "snapshot":
            self.runs.clear()
        self.frames += 1
        self.rev = message["rev"]
        self.runs.update({run["id"]: run for run in message["runs"]})
        self.state.update({part: message[part] for part in PARTS if part in message})

    @property
    def schedules(self) -> dict[str, dict[str, Any]]:
        """Those that it was told of, by key."""
        return {each["key"]: each for each in self.state["schedules"]["rows"]}

    async def listen(self) -> None:
        """Fold everything, until cancelled."""
        while True:
            await self.next()

    async def until(self, condition: Any) -> None:
        """Return when `condition()` holds, while `listen` runs."""
        while not condition():
            await self._moved.wait()

    async def say(self, value: object) -> None:
        """This value as a message."""
        await self.ws.send_message(json.dumps(value))

    async def order(self, request_id: Any, kind: str, **fields: object) -> dict[str, Any]:
        """Ask for something and wait for the answer; without `listen`."""
        self.answers.pop(request_id, None)
        await self.say({"type": kind, "id": request_id, **fields})
        while request_id not in self.answers:
            await self.next()
        return self.answers[request_id]


@asynccontextmanager
async def watching(runtime: Runtime, *, snapshot: bool = True) -> AsyncIterator[Watcher]:
    """A client that was let in; `snapshot`: and has its first snapshot."""
    async with open_websocket_url(f"ws://127.0.0.1:{port_of(runtime)}/feed") as ws:
        watcher = Watcher(ws)
        try:
            await watcher.say({"type": "hello", "token": token_of(runtime)})
            await watcher.next()
            while snapshot and watcher.frames == 0:
                await watcher.next()
            yield watcher
        finally:  # the library leaves the socket open when the server went first
            await trio.aclose_forcefully(ws._stream)
