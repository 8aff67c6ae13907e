"""A stage with a scheduler and nobody who restarts anything: what tests of single actors stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio
from attrs import define, field, frozen

from callsheet.actors.actor import Actor
from callsheet.actors.cell import Cell
from callsheet.actors.exits import Exit
from callsheet.actors.mailbox import UNBOUNDED, Mail
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.actors.scheduler import Scheduler
from callsheet.actors.seams import Seams
from callsheet.actors.stage import Stage

R = TypeVar("R")


@define(eq=False)
class World:
    """The parent of every actor that a test starts: it keeps their exits."""

    stage: Stage
    exits: list[tuple[str, Exit]] = field(factory=list)

    def child_exited(self, cell: Cell[Any], exit_: Exit) -> None:
        self.exits.append((cell.name, exit_))

    def cell(self, name: str, make: Callable[[], Actor[Any]], mail: Mail = UNBOUNDED) -> Cell[Any]:
        """Registered, and not started."""
        cell: Cell[Any] = Cell(self.stage, f"/{name}", name, make, parent=self, mail=mail)
        self.stage.add(cell)
        return cell

    async def start(self, name: str, make: Callable[[], Actor[Any]], mail: Mail = UNBOUNDED) -> Cell[Any]:
        cell = self.cell(name, make, mail)
        assert None is await cell.start()
        return cell

    async def stop(self, cell: Cell[Any]) -> Exit:
        """Stop it for good."""
        cell.request_stop()
        await cell.wait_gone()
        cell.end()
        assert cell.exit is not None
        return cell.exit


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        world = World(Stage(nursery, Seams.seeded(1)))
        await world.start("scheduler", Scheduler)
        try:
            yield world
        except trio.Cancelled:  # the nursery would swallow it, and the rest of the test with it
            assert not nursery.cancel_scope.cancel_called, f"the stage fell: {world.exits}"
            raise
        nursery.cancel_scope.cancel()


@frozen(eq=False, kw_only=True)
class Ask(Request[str]):
    """Answered with what it holds, unless that is an exception."""

    what: str | BaseException = "yes"


class Recorder(Actor[Any]):
    """Writes down what happens to it; raises what it is told if that is an exception; answers an Ask."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    async def on_start(self) -> None:
        self.log.append(f"start {self.cell.generation}")

    async def on_stop(self) -> None:
        self.log.append(f"stop {self.cell.generation}")

    def receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, Ask):
            if isinstance(message.what, BaseException):
                raise message.what
            message.reply.answer(message.what)
            return
        self.log.append(message)


class Hanging(Actor[Any]):
    """Handles a message by waiting for ever, or until it is cancelled."""

    async def receive(self, message: Any) -> None:
        await trio.sleep_forever()


class Silent(Actor[Any]):
    """Takes requests and answers none; keeps them for a later answer."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def receive_all(self, messages: Sequence[Any]) -> None:
        self.got += messages


async def ask(ref: Ref[Any], request: Request[R], timeout: float = 5) -> R:
    return await ref.ask(request, timeout=timeout)


async def settle() -> None:
    """Let everything happen that needs no time."""
    await trio.testing.wait_all_tasks_blocked()


async def together(*calls: Callable[[], Any]) -> list[Any]:
    """What each of the calls returned or raised, all made in one moment and in this order."""
    results: list[Any] = [None] * len(calls)

    async def one(n: int, call: Callable[[], Any]) -> None:
        try:
            results[n] = await call()
        except Exception as error:  # noqa: BLE001 -- it is what the test asks for
            results[n] = error

    async with trio.open_nursery() as nursery:
        for n, call in enumerate(calls):
            nursery.start_soon(one, n, call)
    return results
