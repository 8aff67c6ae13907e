"""What somebody new to actors gets wrong first: each mistake is answered with a sentence, and harms nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import frozen

from callsheet import (
    Actor,
    ActorSystem,
    ChildSpec,
    ChildStartFailed,
    InvalidSpec,
    PoolSpec,
    Ref,
    Request,
    StartChild,
    SupervisorSpec,
    WrongMessage,
    spawn,
    subtree,
)

from .troupe import settle


@frozen(eq=False)
class Ask(Request[str]):
    """Well?"""


class Plain(Actor[Ask]):
    def receive(self, message: Ask) -> None:
        message.reply.answer("yes")


PLAIN = ChildSpec("plain", Plain)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: SupervisorSpec(PLAIN),
            "SupervisorSpec: children must be ChildSpecs in a tuple: (first, second), or (only,)",
        ),
        (
            lambda: SupervisorSpec((Plain,)),
            "SupervisorSpec: children must be ChildSpecs in a tuple: (first, second), or (only,)",
        ),
        (lambda: ActorSystem(None), "ActorSystem needs a SupervisorSpec, not None"),
        (lambda: ActorSystem((PLAIN,)), "ActorSystem needs a SupervisorSpec, not (ChildSpec(name='plain', make="),
        (lambda: StartChild(None), "StartChild needs a ChildSpec, not None: ChildSpec(name, make), or subtree(...)"),
    ],
)
def test_a_declaration_of_the_wrong_kind_is_refused(make: Any, said: str) -> None:
    """Where it is made, not where something is missing later."""
    with pytest.raises((InvalidSpec, TypeError)) as caught:
        make()

    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("make", "said"), [(lambda: None, "not None"), (lambda: Plain, "not <class"), (lambda: "actor", "not 'actor'")]
)
async def test_a_factory_that_makes_no_actor_is_named(autojump_clock: trio.abc.Clock, make: Any, said: str) -> None:
    """A lambda without a result, a class in place of its instance: the start fails and says what came."""
    async with ActorSystem() as system:
        with pytest.raises(
            ChildStartFailed, match=f"/a could not start: TypeError: what makes /a must return an Actor, {said}"
        ):
            await system.start_child(ChildSpec("a", make))


async def test_a_factory_that_raises_is_not_blamed_for_its_result(autojump_clock: trio.abc.Clock) -> None:
    """What it raised is what is told."""

    def make() -> Actor[Any]:
        raise AttributeError("no such thing")

    async with ActorSystem() as system:
        with pytest.raises(ChildStartFailed, match="/a could not start: AttributeError: no such thing"):
            await system.start_child(ChildSpec("a", make))


async def test_what_is_no_request_cannot_be_asked(autojump_clock: trio.abc.Clock) -> None:
    """It has nowhere to put an answer; the actor does not see it."""
    async with ActorSystem(SupervisorSpec((PLAIN,))) as system:
        plain: Ref[Any] | None = system.whereis("/plain")
        assert plain is not None
        with pytest.raises(TypeError, match="/plain was asked a str, which is no Request: tell it instead"):
            await plain.ask("well?", timeout=1)  # type: ignore[arg-type]
        assert "yes" == await plain.ask(Ask(), timeout=1)


async def test_only_a_pool_can_spawn(autojump_clock: trio.abc.Clock) -> None:
    """The Ref of something else is refused by name, and nothing is started."""
    async with ActorSystem(SupervisorSpec((PLAIN,))) as system:
        plain: Ref[Any] | None = system.whereis("/plain")
        assert plain is not None
        with pytest.raises(TypeError, match="spawn needs the Ref of a pool: /plain is a Plain"):
            spawn(plain)
        with pytest.raises(TypeError, match="spawn needs the Ref of a pool: / is a Supervisor"):
            spawn(system.root)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["", "/team", "/pool"])
async def test_a_supervisor_refuses_a_request_that_it_does_not_take(autojump_clock: trio.abc.Clock, path: str) -> None:
    """Such as to start a child, asked of a pool: a crash over it would take all of its children along."""
    team = SupervisorSpec((ChildSpec("child", Plain),))
    async with ActorSystem(SupervisorSpec((subtree("team", team), subtree("pool", PoolSpec(Plain))))) as system:
        pool: Ref[Any] | None = system.whereis("/pool")
        assert pool is not None
        spawn(pool, name="child")
        supervisor: Ref[Any] | None = system.whereis(path)
        assert supervisor is not None

        with pytest.raises(
            WrongMessage, match=rf"^{path or '/'} was sent a .*\.Ask: it takes callsheet\.supervisor\..* or "
        ):
            await supervisor.ask(Ask(), timeout=1)
        await settle()

        assert {1} == {cell.generation for cell in system.stage.registry.values()}


async def test_what_names_no_supervisor_or_child_is_told_so_at_once(autojump_clock: trio.abc.Clock) -> None:
    """Another actor would take the request and never answer it."""
    async with ActorSystem() as system:
        other = await system.start_child(ChildSpec("other", Actor))

        with pytest.raises(TypeError, match=r"under= needs the Ref of a supervisor: Ref\('/other'\) is a Actor"):
            await system.start_child(ChildSpec("a", Actor), under=other)
        with pytest.raises(TypeError, match="under= needs the Ref of a supervisor: 'other' is a str"):
            await system.start_child(ChildSpec("a", Actor), under="other")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a child is named by its name or its Ref, not by None"):
            await system.stop_child(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="spawn needs the Ref of a pool, not None"):
            spawn(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="timeout must be 0 or more seconds, not '1'"):
            await system.stop_child("other", timeout="1")  # type: ignore[arg-type]

        assert ["", "/other", "/scheduler"] == sorted(system.stage.registry)


def test_a_system_is_made_of_what_it_needs() -> None:
    """Every wrong option is named."""
    with pytest.raises(ValueError, match="grace_s must be a number, not 'x'; checked must be True or False, not 1"):
        ActorSystem(grace_s="x", checked=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace_s must be 0 or more seconds, not -1"):
        ActorSystem(grace_s=-1)
