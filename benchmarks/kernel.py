"""
What the kernel costs: `tell`, `ask`, starting and stopping an actor, and 100,000 actors at once.

Rule: as a program would do it (`ActorSystem`, `Pool`, `Ref`), with default settings and default garbage collection.
Not here: very many actors at once (`crowd`), what trio, asyncio and Pykka need for the same (`peers`), timers (`timers`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio
import trio.testing
from attrs import define, frozen

from callsheet.actors.actor import Actor
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.supervisor.pool import Pool, PoolSpec, spawn
from callsheet.supervisor.spec import ChildSpec, Restart
from callsheet.supervisor.system import ActorSystem

from . import crowd, peers
from .figures import Report, gather

N: Final = 100_000
"""Actors at once. Messages are five times as many, asks and spawns half."""
PAIRS: Final = 500
BURST: Final = 10_000
"""Messages told in a row: the sender is a task like any other."""
UNITS: Final = {
    "tell_us": "us",
    "drained_per_s": "messages/s",
    "drained_async_per_s": "messages/s",
    "ask_us": "us",
    "ask_async_us": "us",
    "pingpong_per_s": "trips/s",
    "pingpong_async_per_s": "trips/s",
    "spawn_us": "us",
    "spawn_async_us": "us",
    "bytes_per_idle": "bytes",
    "bytes_per_live": "bytes",
    "up_s": "s",
    "down_s": "s",
    "lag_max_ms": "ms",
    "rare_gc_up_s": "s",
    "rare_gc_down_s": "s",
    "rare_gc_lag_max_ms": "ms",
    "idle_up_s": "s",
    "idle_down_s": "s",
    "idle_lag_max_ms": "ms",
}
"""`async`: the handler is a coroutine function, so the actor gets a task. live: an actor whose handler waits."""


@define(eq=False)
class Countdown:
    """Something that is done after so many steps."""

    left: int
    done: trio.Event

    def step(self) -> None:
        """One more."""
        self.left -= 1
        if not self.left:
            self.done.set()


def countdown(steps: int) -> Countdown:
    """Make it inside `trio.run`."""
    return Countdown(steps, trio.Event())


class Sink(Actor[Countdown]):
    """Counts what it is told."""

    def receive(self, message: Countdown) -> None:
        """See `Actor.receive`."""
        message.step()


class AsyncSink(Actor[Countdown]):
    """The same with a coroutine function."""

    async def receive(self, message: Countdown) -> None:
        """See `Actor.receive`."""
        message.step()


@frozen(eq=False, kw_only=True)
class Question(Request[int]):
    """Any."""


class Answerer(Actor[Question]):
    """Answers at once."""

    def receive(self, message: Question) -> None:
        """See `Actor.receive`."""
        message.reply.answer(1)


class AsyncAnswerer(Actor[Question]):
    """The same with a coroutine function."""

    async def receive(self, message: Question) -> None:
        """See `Actor.receive`."""
        message.reply.answer(1)


@frozen(eq=False)
class Ball:
    """Goes back and forth; `back` is who threw it."""

    back: Ref[Any]
    left: int
    game: Countdown


class Player(Actor[Ball]):
    """Throws the ball back until it has been thrown often enough."""

    def receive(self, message: Ball) -> Awaitable[None] | None:
        """See `Actor.receive`."""
        if message.left:
            message.back.tell(Ball(self.ref, message.left - 1, message.game))
        else:
            message.game.step()
        return None


class AsyncPlayer(Player):
    """The same with a coroutine function."""

    async def receive(self, message: Ball) -> None:
        """See `Actor.receive`."""
        super().receive(message)


class Leaver(Actor[object]):
    """Ends when it is told anything."""

    def receive(self, message: object) -> None:
        """See `Actor.receive`."""
        self.leave()


class AsyncLeaver(Leaver):
    """The same with a task from the start."""

    async def on_start(self) -> None:
        """See `Actor.on_start`."""


# -- one by one


def _child(make: Callable[[], Actor[Any]]) -> ChildSpec:
    return ChildSpec("it", make, Restart.TEMPORARY, stop_budget_s=0)


async def _tell(n: int) -> dict[str, float]:
    """Into the mailbox of an actor that is busy."""
    logging.getLogger("callsheet.undelivered").disabled = True  # it never handles them, and that is no news
    async with ActorSystem() as system:
        busy = await system.start_child(_child(crowd.Sleeper))
        busy.tell("wait")
        await trio.testing.wait_all_tasks_blocked()
        tell, message = busy.tell, object()
        began = time.perf_counter()
        for _ in range(n):
            tell(message)
        return {"tell_us": (time.perf_counter() - began) / n * 1e6}


async def _drain(make: Callable[[], Actor[Countdown]], n: int) -> float:
    """Messages a second, from the first `tell` to the last one handled."""
    async with ActorSystem() as system:
        sink = await system.start_child(_child(make))
        began = time.perf_counter()
        for first in range(0, n, BURST):
            burst = countdown(min(BURST, n - first))
            for _ in range(burst.left):
                sink.tell(burst)
            await burst.done.wait()
        return n / (time.perf_counter() - began)


async def _ask(make: Callable[[], Actor[Question]], n: int) -> float:
    """Seconds for a round trip with a timeout."""
    async with ActorSystem() as system:
        answerer = await system.start_child(_child(make))
        began = time.perf_counter()
        for _ in range(n):
            await answerer.ask(Question(), timeout=5)
        return (time.perf_counter() - began) / n


async def _pingpong(make: Callable[[], Actor[Ball]], n: int) -> float:
    """Round trips a second between pairs of actors, all playing at once."""
    throws = max(1, n // PAIRS) * 2
    async with ActorSystem() as system:
        pool = await system.start_child(ChildSpec("pool", partial(Pool, PoolSpec(make))))
        players = [spawn(pool) for _ in range(2 * PAIRS)]
        await trio.testing.wait_all_tasks_blocked()
        games = countdown(PAIRS)
        began = time.perf_counter()
        for one, other in zip(players[::2], players[1::2], strict=True):
            one.tell(Ball(other, throws - 1, games))
        await games.done.wait()
        return PAIRS * throws / 2 / (time.perf_counter() - began)


async def _spawn(make: Callable[[], Actor[object]], n: int) -> float:
    """Seconds from spawning to registered, started, told to leave, ended and forgotten; a chunk at a time."""
    async with ActorSystem() as system:
        pool = await system.start_child(ChildSpec("pool", partial(Pool, PoolSpec(make, Restart.TEMPORARY))))
        others = len(system.stage.registry)
        began = time.perf_counter()
        for _ in range(0, n, crowd.CHUNK):
            for _ in range(crowd.CHUNK):
                spawn(pool).tell("leave")
            while len(system.stage.registry) > others:
                await trio.lowlevel.checkpoint()
        return (time.perf_counter() - began) / (-(-n // crowd.CHUNK) * crowd.CHUNK)


def _once(n: int) -> dict[str, float]:
    return {
        **trio.run(_tell, 5 * n),
        "drained_per_s": trio.run(_drain, Sink, 5 * n),
        "drained_async_per_s": trio.run(_drain, AsyncSink, 5 * n),
        "ask_us": trio.run(_ask, Answerer, max(1, n // 2)) * 1e6,
        "ask_async_us": trio.run(_ask, AsyncAnswerer, max(1, n // 2)) * 1e6,
        "pingpong_per_s": trio.run(_pingpong, Player, n),
        "pingpong_async_per_s": trio.run(_pingpong, AsyncPlayer, n),
        "spawn_us": trio.run(_spawn, Leaver, max(1, n // 2)) * 1e6,
        "spawn_async_us": trio.run(_spawn, AsyncLeaver, max(1, n // 2)) * 1e6,
        **crowd.measure(n),
    }


def measure(n: int | None, repeat: int) -> Report:
    """The benchmark."""
    n = n or N
    report = Report("kernel", n, durability="nothing is stored")
    units = {**peers.units(), **UNITS}
    both = gather(
        repeat, lambda: {**peers.once(n), **_once(n)}, units
    )  # in turn: a machine has better and worse minutes
    report.floors = {name: both[name] for name in peers.units()}
    report.figures = {name: both[name] for name in UNITS}
    report.ratios = {
        f"{figure} / {peer}": (figure, peer)
        for figure, peer in peers.COMPARED
        if peer in report.floors and report.floors[peer].median  # the memory of a few is too little to see
    }
    return report
