"""A system inside somebody's program: opened, left, cancelled, interrupted like any other block."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.seams import Seams
from callsheet.supervisor.spec import ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.supervisor import Supervisor
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Player, Troupe, settle, states, tell


def spec(*children: ChildSpec, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, **fields)


class Slow(Player):
    """Needs a second to stop."""

    async def on_stop(self) -> None:
        await trio.sleep(1)
        await super().on_stop()


# ---------------------------------------------------------------- how a block ends


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        KeyboardInterrupt(),
        SystemExit(3),
        StopIteration("odd"),
        StopAsyncIteration("odd"),
        ExceptionGroup("mine", [ValueError(), KeyError()]),
        ExceptionGroup("of one", [ValueError()]),
        BaseExceptionGroup("mine", [SystemExit(), KeyError()]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_body_raises_comes_out_as_it_was(autojump_clock: trio.abc.Clock, error: BaseException) -> None:
    """The same object, in no group of ours, with the cause, context and notes that it had; the tree stops in reverse."""
    troupe = Troupe()
    cause = LookupError("why")
    context = KeyError("meanwhile")
    error.__context__ = context
    error.__cause__ = cause

    with pytest.raises(type(error)) as caught:
        async with ActorSystem(spec(troupe.child("a", Slow), troupe.child("b"))):
            raise error

    assert error is caught.value
    assert (cause, context) == (error.__cause__, error.__context__)
    assert ["+a", "+b", "-b", "-a"] == troupe.log


async def test_an_exception_raised_while_another_is_handled_keeps_that_context(
    autojump_clock: trio.abc.Clock,
) -> None:
    """`raise` inside an `except` inside the block: the chain is the one that Python made."""
    with pytest.raises(ValueError, match="second") as caught:
        async with ActorSystem(spec()):
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second")  # noqa: B904 -- its context is what the test is about

    assert isinstance(caught.value.__context__, KeyError)
    assert None is caught.value.__context__.__context__


async def test_a_host_that_is_cancelled_still_sees_the_order_kept(autojump_clock: trio.abc.Clock) -> None:
    """Children stop right to left, each within its budget, although the host's cancellation reaches everything."""
    troupe = Troupe()
    began_s = trio.current_time()

    with trio.move_on_after(10) as host:
        async with ActorSystem(spec(troupe.child("a", Slow), troupe.child("b", Slow), troupe.child("c", Slow))):
            await trio.sleep_forever()

    assert host.cancelled_caught
    assert ["+a", "+b", "+c", "-c", "-b", "-a"] == troupe.log
    assert 13 == trio.current_time() - began_s


async def test_a_body_that_fails_while_it_is_cancelled_raises_its_own_error(autojump_clock: trio.abc.Clock) -> None:
    """When cleanup of a cancelled body raises, that is what comes out, alone."""
    troupe = Troupe()
    error = ValueError("cleanup failed")

    async def outlive() -> None:
        await trio.sleep_forever()

    with trio.move_on_after(1), pytest.raises(ValueError, match="cleanup") as caught:
        async with ActorSystem(spec(troupe.child("a", Slow))) as system:
            system.stage.spawn(outlive, "somebody who is still there at the end")
            try:
                await trio.sleep_forever()
            finally:
                raise error

    assert error is caught.value
    assert ["+a", "-a"] == troupe.log


async def test_the_body_may_swallow_its_cancellation(autojump_clock: trio.abc.Clock) -> None:
    """A body that the root's end cancelled and that returns all the same: leaving the block says what happened."""
    troupe = Troupe()

    with pytest.raises(SystemGaveUp):
        async with ActorSystem(spec(troupe.child("a"), intensity=Intensity(0))) as system:
            tell(system, "/a", ValueError("boom"))
            with suppress(trio.Cancelled):  # what nobody should do
                await trio.sleep_forever()


async def test_a_cancelled_opening_stops_what_was_started(autojump_clock: trio.abc.Clock) -> None:
    """A host that gives up while a child takes too long to start is not held: what runs already stops in reverse."""
    troupe = Troupe()

    class Stuck(Player):
        async def on_start(self) -> None:
            await trio.sleep_forever()

    inner = spec(troupe.child("x"), troupe.child("stuck", Stuck, stop_budget_s=2))
    began_s = trio.current_time()

    with trio.move_on_after(10) as host:
        async with ActorSystem(
            spec(
                troupe.child("a", Slow),
                ChildSpec("inner", lambda: Supervisor(inner), stop_budget_s=float("inf")),
                troupe.child("z"),
            )
        ):
            pytest.fail("it never opens")

    assert host.cancelled_caught
    assert ["+a", "+x", "-x", "-a"] == troupe.log
    assert 10 + 2 + 1 == trio.current_time() - began_s


async def test_nothing_is_left_when_the_block_has_ended(autojump_clock: trio.abc.Clock) -> None:
    """No actor, no name, no task."""
    troupe = Troupe()
    before = trio.lowlevel.current_statistics().tasks_living

    async with ActorSystem(spec(troupe.child("a"), troupe.child("b"))) as system:
        assert {"": "running", "/a": "running", "/b": "running"} == states(system)

    assert {} == system.stage.registry
    assert before == trio.lowlevel.current_statistics().tasks_living


async def test_a_prepare_that_fails_starts_nothing(autojump_clock: trio.abc.Clock) -> None:
    """What `prepare` raises comes out of opening, and no actor was started."""
    troupe = Troupe()
    error = ValueError("not ready")

    def prepare(_system: object) -> None:
        raise error

    with pytest.raises(ValueError, match="not ready") as caught:
        async with ActorSystem(spec(troupe.child("a")), prepare=prepare):
            pytest.fail("it never opens")

    assert error is caught.value
    assert [] == troupe.log


# ---------------------------------------------------------------- several of them


async def test_several_systems_live_side_by_side(autojump_clock: trio.abc.Clock) -> None:
    """Systems of one program share nothing: one may give up, the other does not notice."""
    one, two = Troupe(), Troupe()
    failed: list[BaseException] = []

    async def first() -> None:
        try:
            async with ActorSystem(spec(one.child("a"), intensity=Intensity(0))) as system:
                tell(system, "/a", ValueError("boom"))
                await trio.sleep_forever()
        except SystemGaveUp as error:
            failed.append(error)

    async with trio.open_nursery() as nursery, ActorSystem(spec(two.child("a"))) as system:
        nursery.start_soon(first)
        await trio.sleep(1)
        tell(system, "/a", "hello")
        await settle()

        assert ["+a", "a:hello"] == two.log
        assert 1 == len(failed)


async def test_systems_nest(autojump_clock: trio.abc.Clock) -> None:
    """The inner one has stopped before the outer one begins to; an error goes through both as it is."""
    outer, inner = Troupe(), Troupe()
    error = ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        async with ActorSystem(spec(outer.child("o"))), ActorSystem(spec(inner.child("i", Slow))):
            outer.log.append("working")
            raise error

    assert error is caught.value
    assert None is error.__context__
    assert (["+o", "working", "-o"], ["+i", "-i"]) == (outer.log, inner.log)


async def test_an_actor_sees_the_hosts_context_variables(autojump_clock: trio.abc.Clock) -> None:
    """Actors run in the context that was current when the system was opened; so do their next incarnations."""
    request: ContextVar[str] = ContextVar("request")
    seen: list[str] = []

    class Looking(Player):
        async def on_start(self) -> None:
            seen.append(request.get("none"))

    troupe = Troupe()
    request.set("outer")
    async with ActorSystem(spec(troupe.child("a", Looking))) as system:
        request.set("later")
        tell(system, "/a", ValueError("again"))
        await settle()

    assert ["outer", "outer"] == seen


# ---------------------------------------------------------------- Ctrl-C


def interrupted_by(busy: Callable[[Troupe], Awaitable[None]]) -> Troupe:
    """Run a program whose actor is interrupted while it is busy; the KeyboardInterrupt must come out of the program."""
    troupe = Troupe()
    with pytest.raises(KeyboardInterrupt):
        trio.run(busy, troupe, clock=trio.testing.MockClock(autojump_threshold=0))
    return troupe


def test_ctrl_c_while_an_actor_is_busy_reaches_the_main_task() -> None:
    """The signal that comes while an actor's code runs is no crash of that actor: the program ends, in order."""

    class Busy(Player):
        def receive(self, message: Any) -> None:
            self.log.append("busy")
            signal.raise_signal(signal.SIGINT)
            self.log.append("still busy")

    async def main(troupe: Troupe) -> None:
        async with ActorSystem(spec(troupe.child("a"), troupe.child("b", Busy))) as system:
            tell(system, "/b", "work")
            await trio.sleep_forever()

    troupe = interrupted_by(main)

    assert ["+a", "+b", "busy", "still busy", "-b", "-a"] == troupe.log


def test_ctrl_c_in_the_body_stops_the_tree_in_order() -> None:
    """A KeyboardInterrupt raised in the host's own code goes its way, and the tree stops in reverse."""

    async def main(troupe: Troupe) -> None:
        async with ActorSystem(spec(troupe.child("a", Slow), troupe.child("b", Slow))):
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(1)

    troupe = interrupted_by(main)

    assert ["+a", "+b", "-b", "-a"] == troupe.log


async def test_a_grace_that_is_shortened_counts(autojump_clock: trio.abc.Clock) -> None:
    """Asked to stop twice, the earlier end counts, and whoever waits for it is told."""
    async with ActorSystem(spec(), seams=Seams.seeded(1), grace_s=8) as system:
        hurried: list[float | None] = []
        system.stage.on_hurry.append(lambda: hurried.append(system.stage.stop_by_s))
        now_s = trio.current_time()

        system.request_stop()
        system.request_stop(grace_s=2)
        system.request_stop(grace_s=60)

        assert [now_s + 8, now_s + 2, now_s + 2] == hurried


# ---------------------------------------------------------------- who waits on the wheel


class Patient(Player):
    """Waits on the wheel for a second before it ends."""

    async def on_stop(self) -> None:
        await self.stage.waits.sleep(1, owner=self.cell.path)
        await super().on_stop()


@pytest.mark.parametrize("dies_after_s", [None, 0.0, 0.5])
async def test_nobody_who_waits_hangs_a_system_that_stops(
    autojump_clock: trio.abc.Clock, dies_after_s: float | None
) -> None:
    """The scheduler is stopped last; and when it dies before, whoever waits while it stops goes on in its time."""
    troupe = Troupe()
    children = [troupe.child(name, Patient, stop_budget_s=100) for name in "ab"]
    with trio.fail_after(50):
        async with ActorSystem(spec(*children), seams=Seams.seeded(1)) as system:
            stage = system.stage

            async def die(after_s: float) -> None:
                await trio.sleep(5 + after_s)
                stage.registry["/scheduler"].ref.tell("poison")

            if dies_after_s is not None:
                stage.nursery.start_soon(die, dies_after_s)
            stage.nursery.start_soon(lambda: stage.waits.sleep(1_000, owner="somebody outside of the tree"))
            await trio.sleep(5)
            left_s = trio.current_time()

    assert 2 == trio.current_time() - left_s
    assert ["+a", "+b", "-b", "-a"] == troupe.log
    assert (0, 0) == (len(stage.timers), len(stage.waits))
