"""
A TCP echo server: every connection is an actor in a pool. One crashes, the others do not notice. To be copied.

    pip install .
    python examples/supervised_echo.py          # a server, and three clients that show what it does
    python examples/supervised_echo.py 7000     # the server alone, until Ctrl-C: try it with `nc 127.0.0.1 7000`

A client that sends "crash" makes its connection's actor raise.
"""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Never

import trio

from callsheet import (
    Actor,
    ActorSystem,
    ChildSpec,
    Ended,
    PoolSpec,
    Ref,
    Restart,
    Spawn,
    Strategy,
    SupervisorSpec,
    spawn,
    subtree,
)


class Connection(Actor[Never]):
    """One client. It takes no messages: what it waits for is its socket, so it overrides `run`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def run(self) -> None:
        """Until the client hangs up. Whatever is raised here ends this connection, and nothing else."""
        async with self.stream:
            async for received in self.stream:
                if received.startswith(b"crash"):
                    raise RuntimeError("the client asked for it")
                await self.stream.send_all(received)


class Acceptor(Actor[Never]):
    """Gives every client an actor. The socket is not its own: should it be restarted, clients only wait."""

    def __init__(self, listener: trio.SocketListener, connections: Ref[Spawn]) -> None:
        self.listener, self.connections = listener, connections

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            spawn(self.connections, await self.listener.accept())


@asynccontextmanager
async def echo_server(port: int) -> AsyncIterator[tuple[ActorSystem, int]]:
    """Serve as long as the block lasts; gives the system, and the port (for 0: a free one)."""
    # Started in this order and stopped in reverse. Should the pool give up, what was started after it is restarted too.
    root = SupervisorSpec(strategy=Strategy.REST_FOR_ONE)
    [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
    async with listener, ActorSystem(root) as system:
        # A connection that crashed is not restarted: its client is gone. To stop, it is cancelled at once.
        pool = PoolSpec(Connection, restart=Restart.TEMPORARY, stop_budget_s=0)
        connections: Ref[Spawn] = await system.start_child(subtree("connections", pool))
        await system.start_child(ChildSpec("acceptor", lambda: Acceptor(listener, connections), stop_budget_s=0))
        yield system, listener.socket.getsockname()[1]


async def serve(port: int) -> None:
    """The server alone. Crashes are in the log, with their tracebacks."""
    async with echo_server(port) as (_, at):
        print(f"listening on port {at}", flush=True)
        await trio.sleep_forever()


# Everything below plays the clients.


async def say(name: str, client: trio.SocketStream, text: str) -> None:
    """Send a text, and print what comes back."""
    await client.send_all(text.encode())
    print(f"{name} said {text!r} and heard {(await client.receive_some()).decode()!r}")


async def demonstrate() -> None:
    """Three clients; the second one makes its connection crash."""
    logging.getLogger("callsheet").setLevel(logging.ERROR)  # the one crash is printed here
    async with echo_server(0) as (system, port), system.reports.subscribe() as reports:
        anna, ben, carla = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
        await say("anna", anna, "hello")
        await say("ben", ben, "good morning")
        await ben.send_all(b"crash")
        async for report in reports:  # what supervisors see and do, as it happens
            if isinstance(report, Ended):
                print(f"{report.path} {report.exit}")
                break
        print(f"ben hears {(await ben.receive_some()).decode()!r}: his connection is closed")
        await say("anna", anna, "are you still there?")
        await say("carla", carla, "what happened?")
        for client in (anna, ben, carla):
            await client.aclose()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(serve, int(sys.argv[1])) if len(sys.argv) > 1 else trio.run(demonstrate)
