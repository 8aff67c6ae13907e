"""
The receiver of the webhooks, a process of its own: HTTP/1.1 on a loopback port, answers by plan, a ledger of its own.

    python -m callsheet.demo.receiver --folder FOLDER --seed N --runs N [--port PORT]

Rule 1: a request is in the ledger before it is answered, and an answer before it is sent.
Rule 2: who was answered 200 once is answered 200 for ever: a receiver that took an event has it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

import h11
import trio
from attrs import define, field

from .child import orphaned, say
from .ledger import RECEIVER, Answered, Ledger, Received
from .plan import HANG, RETRY_AFTER_S, Plan

MAX_BODY: Final = 64 * 1024
HANG_S: Final = 30.0
"""How long a request is left hanging when its sender does not hang up."""


@define(eq=False)
class Receiver:
    """All connections share it."""

    plan: Plan
    ledger: Ledger
    seen: Counter[str] = field(factory=Counter)
    """Requests by event."""
    taken: set[str] = field(factory=set)
    """Events that were answered 200."""

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, as long as it lives."""
        connection = h11.Connection(h11.SERVER)
        try:
            while (body := await _request(connection, stream)) is not None:
                status = await self._decide(body, stream)
                if status == HANG:
                    break
                await _respond(connection, stream, status)
                if connection.our_state is h11.MUST_CLOSE:
                    break
                connection.start_next_cycle()
        except (h11.ProtocolError, trio.BrokenResourceError, ValueError, KeyError):
            pass  # the sender died in the middle of it, or talks nonsense: either way it is gone
        finally:
            with trio.move_on_after(1, shield=True):
                await stream.aclose()

    async def _decide(self, body: bytes, stream: trio.SocketStream) -> int:
        """Enter the request, take the time that it takes, enter the answer."""
        sent = json.loads(body)
        event = str(sent["event"])
        self.seen[event] += 1
        nth = self.seen[event]
        status = 200 if event in self.taken else self.plan.answer(event, nth)
        self.ledger.append(Received(event, nth, str(sent["run_id"]), int(sent["attempt"])))
        if status == HANG:
            with trio.move_on_after(HANG_S):
                await stream.receive_some(1)  # nothing comes but the end, when the sender's patience does
        else:
            await trio.sleep(self.plan.latency_s(event, nth))
        if status == 200:
            self.taken.add(event)
        self.ledger.append(Answered(event, nth, status))
        return status


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> bytes | None:
    """The body of the next request; None when there is none."""
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                return None
        elif isinstance(event, h11.EndOfMessage):
            return body
        elif isinstance(event, h11.ConnectionClosed):
            return None


async def _respond(connection: h11.Connection, stream: trio.SocketStream, status: int) -> None:
    headers = [("Content-Length", "0")]
    if status == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    parts = [h11.Response(status_code=status, headers=headers), h11.EndOfMessage()]
    await stream.send_all(b"".join([connection.send(part) or b"" for part in parts]))


async def receive(folder: Path, plan: Plan, port: int) -> None:
    """Serve until the process that started this one is gone, or this one is told to end."""
    try:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    except OSError as error:
        raise SystemExit(f"cannot listen on 127.0.0.1 port {port or 'of any number'}: {error.strerror}") from None
    ledger = Ledger(folder / RECEIVER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, Receiver(plan, ledger).serve, listeners))
        say(port=listeners[0].socket.getsockname()[1])
        await orphaned()
        nursery.cancel_scope.cancel()


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m callsheet.demo.receiver")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    trio.run(receive, given.folder, Plan.of(given.seed, given.runs), given.port)


if __name__ == "__main__":
    main()
