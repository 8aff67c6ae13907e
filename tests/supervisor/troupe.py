"""Actors that do as they are told, and a log of what happened to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_never

import trio
import trio.testing
from attrs import define, evolve, field

from callsheet.actors.actor import Actor
from callsheet.actors.events import (
    BecameZombie,
    ChildParked,
    CouldNotStart,
    Delayed,
    Ended,
    GaveUp,
    Report,
    Started,
    StopOverran,
)
from callsheet.actors.exits import Normal, Shutdown
from callsheet.supervisor.pool import Pool, PoolSpec
from callsheet.supervisor.spec import ChildSpec, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.supervisor import Supervisor
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


class Plain(Actor[Any]):
    """As Player, without a task of its own; ends as it is told when that is an Exit."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def on_start(self) -> Awaitable[None] | None:
        self.log.append(f"+{self.name}")
        return None

    def on_stop(self) -> Awaitable[None] | None:
        self.log.append(f"-{self.name}")
        return None

    def receive(self, message: Any) -> None:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, Normal | Shutdown):
            self.cell.leave(message)
        else:
            self.log.append(f"{self.name}:{message}")


class Tasked(Plain):
    """As Plain, with a task of its own."""

    async def on_start(self) -> None:
        super().on_start()

    async def on_stop(self) -> None:
        super().on_stop()


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


def told(report: Report) -> str:
    """A report as one short line with all its facts."""
    where = report.path or "/"
    match report:
        case Started(generation=generation):
            return f"{where} started ({generation})"
        case Ended(generation=generation, exit=exit_, then=then):
            return f"{where} ended ({generation}) {exit_} → {then}"
        case CouldNotStart(generation=generation, error=error):
            return f"{where} could not start ({generation}) {error!r}"
        case StopOverran(budget_s=budget_s, exit=exit_, count=count):
            return f"{where} overran {budget_s:g} s: {exit_}" + (f" ({count})" if count > 1 else "")
        case Delayed(delay_s=delay_s, generation=generation):
            return f"{where} delayed {delay_s:g} s ({generation})"
        case ChildParked(exit=exit_):
            return f"{where} parked {exit_}"
        case BecameZombie(generation=generation):
            return f"{where} zombie ({generation})"
        case GaveUp(error=error):
            return f"{where} gave up {type(error).__name__}"
        case _:
            assert_never(report)


def story(system: ActorSystem, after: int = 0) -> list[str]:
    """What supervisors reported since report number `after`, of everybody but the scheduler."""
    return [told(report) for _, report in system.reports.recent(after) if report.path != "/scheduler"]


class BuggySupervisor(Supervisor):
    """Has a bug in its code when it is told "bug"."""

    async def receive(self, message: Any) -> None:
        assert message != "bug", "a bug"
        await super().receive(message)


class BuggyPool(Pool):
    """Has a bug in its code when it is told "bug"."""

    def receive(self, message: Any) -> None:
        assert message != "bug", "a bug"
        super().receive(message)


def buggy(name: str, spec: SupervisorSpec | PoolSpec, **fields: Any) -> ChildSpec:
    """As `subtree`, of a supervisor (or pool) that crashes when it is told "bug"."""
    made = subtree(name, spec, **fields)
    return evolve(made, make=lambda: BuggyPool(spec) if isinstance(spec, PoolSpec) else BuggySupervisor(spec))
