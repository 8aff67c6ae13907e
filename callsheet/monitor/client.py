"""
One client of the feed, from its first message to its end.

Rule 1: nothing is built for a client that cannot take it: the next frame is made when the last one has gone into the
    socket, and at most two are unacknowledged. So a client that never reads holds at most two frames, whatever happens.
Rule 2: everything that waits for a client has a deadline; past it the transport is closed by force, because half a frame
    may be out and nothing polite can follow it.
Not here: what a frame holds (`board`), carrying out orders (`desk`).
"""

from __future__ import annotations

import hmac
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, assert_never

import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection

from .. import __version__
from ..store.errors import StoreError
from .board import encode
from .desk import carry_out, failure
from .feed import Feed
from .messages import Ack, BadMessage, CancelRun, Hello, Message, Order, ReplayRun, RequestId, ShowRun, parse
from .rows import Row
from .sight import Sight

_log = logging.getLogger("callsheet.monitor")

PROTOCOL: Final = "mon.v0"
HELLO_S: Final = 5.0
"""How long the first message may take."""
SEND_S: Final = 5.0
"""How long a frame may take to go into the socket."""
ACK_S: Final = 30.0
"""How long a frame may stay unacknowledged: whoever is slower is gone, or asleep and will come back."""
RETRY_S: Final = 1.0
"""Before the store is asked again for a snapshot that it could not give."""
CLOSE_S: Final = 0.5
"""How long a polite close may take."""
CREDIT: Final = 2
"""Frames that may be unacknowledged."""
MAX_ORDERS: Final = 8
"""Orders of one client that may be under way."""
MAX_REPLIES: Final = 4
"""Replies that may wait; beyond them its messages are not read."""
MAX_REMEMBERED: Final = 64
"""Orders whose answer is given again when the same one comes again."""
UNAUTHORIZED: Final = 4401


@define(eq=False)
class Client:
    """A websocket, and what it has been sent."""

    ws: WebSocketConnection
    feed: Feed
    token: str
    peer: str
    """For the log."""
    hungry: bool = False
    rev: int | None = None
    """What it has been sent; None: no snapshot yet."""
    unacked: deque[tuple[int, float]] = field(factory=deque)
    """Revision and time of each frame it has not acknowledged."""
    _stirred: trio.Event = field(factory=trio.Event)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _under_way: set[RequestId] = field(factory=set)
    _done: OrderedDict[RequestId, tuple[Order, Row]] = field(factory=OrderedDict)
    _outbox: trio.MemorySendChannel[str] = field(init=False)
    _replies: trio.MemoryReceiveChannel[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._outbox, self._replies = trio.open_memory_channel[str](MAX_REPLIES)

    async def serve(self, welcomed: Callable[[], object]) -> None:
        """Serve it until it leaves. `welcomed` is called once it has proven who it is."""
        if not await self._has_token():
            with trio.move_on_after(CLOSE_S):
                await self.ws.aclose(UNAUTHORIZED, "the first message must be a hello with the token")
            return
        welcomed()
        with self._scope, self.feed.watching(self):
            await self._send(encode(self._welcome()))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read(nursery)
                nursery.cancel_scope.cancel()

    def stir(self) -> None:
        """There is something to do for us."""
        self._stirred.set()

    async def _has_token(self) -> bool:
        with trio.move_on_after(HELLO_S):
            try:
                message = parse(await self.ws.get_message())
            except BadMessage:
                return False
            if isinstance(message, Hello) and _same(message.token, self.token):
                return True
            _log.warning("refused a monitor client from %s: no or a wrong token", self.peer)
        return False

    def _welcome(self) -> Row:
        runtime = self.feed.runtime
        hidden = Sight(runtime.jobs, frozenset()).hidden
        return {
            "type": "welcome",
            "proto": PROTOCOL,
            "boot": runtime.boot_id,
            "version": __version__,
            "jobs": [jobs.identity for jobs in runtime.jobs if jobs.identity not in hidden],
            "store": runtime.store.name,
            "host": runtime.owner.host,
            "pid": runtime.owner.pid,
            "started_us": runtime.owner.started_us,
            "now_us": self.feed.now_us,
        }

    # -- what it says

    async def _read(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                message = parse(await self.ws.get_message())
                await self._receive(message, nursery)
            except BadMessage as bad:
                await self._reply(failure(bad.request_id, bad.code, bad.message))
            except ConnectionClosed:
                return

    async def _receive(self, message: Message, nursery: trio.Nursery) -> None:
        match message:
            case Hello():
                raise BadMessage("unexpected", "hello comes once")
            case Ack(rev):
                self._acknowledge(rev)
            case CancelRun() | ReplayRun() | ShowRun():
                await self._order(message, nursery)
            case _:
                assert_never(message)

    def _acknowledge(self, rev: int) -> None:
        if self.rev is None or rev > self.rev:
            raise BadMessage("bad_ack", f"revision {rev} was not sent yet")
        while self.unacked and self.unacked[0][0] <= rev:
            self.unacked.popleft()
        self.stir()

    async def _order(self, order: Order, nursery: trio.Nursery) -> None:
        """The same order again, by its id, is not done again; its answer is."""
        known, answer = self._done.get(order.id, (None, None))
        if answer is not None and known == order:
            await self._reply(answer)
        elif known is not None or order.id in self._under_way:
            raise BadMessage("id_reused", "another order had this id", order.id)
        elif len(self._under_way) >= MAX_ORDERS:
            raise BadMessage("busy", f"{MAX_ORDERS} orders are under way", order.id)
        else:
            self._under_way.add(order.id)
            nursery.start_soon(self._carry_out, order)

    async def _carry_out(self, order: Order) -> None:
        answer = await carry_out(self.feed.runtime, order, self.peer)
        self._under_way.discard(order.id)
        if not isinstance(order, ShowRun):  # looking again is harmless, and its answer is long
            self._done[order.id] = (order, answer)
            if len(self._done) > MAX_REMEMBERED:
                self._done.popitem(last=False)
        await self._reply(answer)

    async def _reply(self, answer: Row) -> None:
        await self._outbox.send(encode(answer))
        self.stir()

    # -- what it is told

    async def _write(self) -> None:
        while True:
            self._stirred = stirred = trio.Event()
            if self._replies.statistics().current_buffer_used:
                await self._send(self._replies.receive_nowait())
            elif self._has_credit and (self.rev is None or self.feed.board.rev > self.rev):
                await self._send_news()
            else:
                await self._rest(stirred)

    @property
    def _has_credit(self) -> bool:
        return len(self.unacked) < CREDIT

    async def _send_news(self) -> None:
        frame = None if self.rev is None else self.feed.delta(self.rev)
        if frame is None:
            if self.rev is not None:
                await self._send(
                    encode({"type": "reset", "why": "more changed than is kept for a client that is behind"})
                )
            try:
                frame = await self.feed.snapshot()
            except StoreError as error:
                await self._send(encode(failure(None, "store", str(error))))
                await self.feed.runtime.system.stage.waits.sleep(RETRY_S, owner="monitor")
                return
        self.rev = frame.rev
        self.unacked.append((frame.rev, self._now_s))
        await self._send(frame.text)

    async def _rest(self, stirred: trio.Event) -> None:
        self.hungry = self._has_credit
        if self.hungry:
            self.feed.ask()
        patience_s = self.unacked[0][1] + ACK_S - self._now_s if self.unacked else float("inf")
        try:
            with trio.move_on_after(max(0.0, patience_s)) as patience:
                await stirred.wait()
        finally:
            self.hungry = False
        if patience.cancelled_caught:
            self._drop(f"it acknowledged nothing for {ACK_S:g} s")

    async def _send(self, text: str) -> None:
        with trio.move_on_after(SEND_S) as patience:
            try:
                await self.ws.send_message(text)
            except ConnectionClosed:
                self._scope.cancel()
        if patience.cancelled_caught:
            self._drop(f"it took no bytes for {SEND_S:g} s")

    def _drop(self, why: str) -> None:
        _log.info("monitor client %s is dropped: %s", self.peer, why)
        self._scope.cancel()

    @property
    def _now_s(self) -> float:
        return self.feed.runtime.seams.clock.mono_s()


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())
