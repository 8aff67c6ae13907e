"""What an actor system promises to the program that it stands in: its context, its signals, its other systems."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

from callsheet import (
    Actor,
    ActorSystem,
    ChildSpec,
    PoolSpec,
    Ref,
    Request,
    Spawn,
    SupervisorSpec,
    spawn,
    subtree,
)

request: ContextVar[str] = ContextVar("request", default="none")


# ---------------------------------------------------------------- context variables


@frozen(eq=False)
class Look(Request[str]):
    """What is the value of the variable?"""


class Plain(Actor[Look]):
    """Needs no task: the dispatcher gives it its turn, or whoever asks it."""

    def __init__(self) -> None:
        self.at_start = ""

    def on_start(self) -> None:
        self.at_start = request.get()

    def receive(self, message: Look) -> None:
        message.reply.answer(f"{self.at_start}, {request.get()}")


class Waiting(Plain):
    """Has a task from its second message on."""

    def receive(self, message: Look) -> Any:
        return self.answer(message)

    async def answer(self, message: Look) -> None:
        await trio.lowlevel.checkpoint()
        message.reply.answer(f"{self.at_start}, {request.get()}")


class Tasked(Plain):
    """Has a task from its start on."""

    async def on_start(self) -> None:  # type: ignore[override]
        self.at_start = request.get()


@pytest.mark.parametrize("kind", [Plain, Waiting, Tasked])
@pytest.mark.parametrize("how", ["declared", "started", "asked of a pool", "spawned"])
async def test_every_actor_sees_the_context_of_the_opening(
    autojump_clock: trio.abc.Clock, kind: type[Plain], how: str
) -> None:
    """With or without a task, however and by whomever it is started, told or asked: never the caller's own variables."""
    request.set("opening")
    declared = (ChildSpec("declared", kind), subtree("pool", PoolSpec(kind)))
    async with ActorSystem(SupervisorSpec(declared)) as system:
        request.set("body")
        pool: Ref[Spawn] = system.stage.registry["/pool"].ref
        match how:
            case "declared":
                ref: Ref[Look] = system.stage.registry["/declared"].ref
            case "started":
                ref = await system.start_child(ChildSpec("started", kind))
            case "asked of a pool":
                ref = await pool.ask(Spawn(), timeout=1)
            case _:
                ref = spawn(pool)

        told, idle = Look(), Look()
        ref.tell(told)
        seen = [await told.reply.wait(), await ref.ask(idle, timeout=1)]

    assert ["opening, opening"] * 2 == seen


class Grower(Actor[Look]):
    """Starts another actor while it answers."""

    def __init__(self, pool: Ref[Spawn]) -> None:
        self.pool = pool

    def receive(self, message: Look) -> None:
        child: Ref[Look] = spawn(self.pool)
        child.tell(message)


async def test_an_actor_that_starts_another_while_it_is_asked_keeps_the_context(
    autojump_clock: trio.abc.Clock,
) -> None:
    """From inside the turn that an asker gave it: nothing is entered twice, and nothing leaks."""
    request.set("opening")
    async with ActorSystem() as system:
        request.set("body")
        pool: Ref[Spawn] = await system.start_child(subtree("pool", PoolSpec(Waiting)))
        grower: Ref[Look] = await system.start_child(ChildSpec("grower", lambda: Grower(pool)))

        seen = await grower.ask(Look(), timeout=1)

    assert "opening, opening" == seen
