"""Actors that do as they are told, and a log of what happened to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from attrs import define, field

from callsheet.actors.actor import Actor
from callsheet.supervisor.spec import ChildSpec
from callsheet.supervisor.system import ActorSystem


class Player(Actor[Any]):
    """Raises what it is told when that is an exception, returns when told "leave"."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log
        self.leaving = False

    async def on_start(self) -> None:
        self.log.append(f"+{self.name}")

    async def on_stop(self) -> None:
        self.log.append(f"-{self.name}")

    def receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        self.log.append(f"{self.name}:{message}")

    async def run(self) -> None:
        while not self.cell.stopping and not self.leaving:
            await self.cell.mailbox.wait()
            for message in self.cell.mailbox.take_now():
                if message == "leave":
                    return
                self.receive(message)


@define(eq=False)
class Troupe:
    """Makes children that write into one log."""

    log: list[str] = field(factory=list)

    def child(self, name: str, kind: Callable[[str, list[str]], Actor[Any]] = Player, **spec: Any) -> ChildSpec:
        return ChildSpec(name, lambda: kind(name, self.log), **spec)

    def since(self) -> list[str]:
        """What happened since this was last asked."""
        seen, self.log[:] = list(self.log), []
        return seen


def tell(system: ActorSystem, path: str, message: object) -> None:
    system.stage.registry[path].ref.tell(message)


def states(system: ActorSystem) -> dict[str, str]:
    """Of everybody but the scheduler."""
    return {path: str(cell.state) for path, cell in system.stage.registry.items() if path != "/scheduler"}


async def settle() -> None:
    """Let everything happen that needs no time."""
    await trio.testing.wait_all_tasks_blocked()
