"""
What an actor's own code can do wrong, and that it alone pays for it: neither its neighbours nor the system.

Not here: what a crash, a restart and a stop mean (`test_contract`), full mailboxes (`test_policies`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.events import Ended
from callsheet.actors.exits import Crashed, error_of
from callsheet.actors.mailbox import Mail, Overflow
from callsheet.actors.undelivered import Why
from callsheet.actors.watch import Monitor
from callsheet.supervisor.errors import ChildStartFailed
from callsheet.supervisor.spec import ChildSpec
from callsheet.supervisor.system import ActorSystem

from .roles import BOTH_KINDS, Kind, Role, Tasked
from .world import open_world, settle


class Misfit:
    """A message whose `reply` cannot even be looked at."""

    @property
    def reply(self) -> None:
        raise RuntimeError("not now")


@BOTH_KINDS
async def test_thousands_of_monitors_can_be_cancelled_in_one_step(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """However many monitors a handler cancels, what waited behind its message is handled, and the actor lives on."""
    async with open_world() as world:
        log: list[Any] = []
        watched = await world.start("watched", partial(Role, []))
        watcher = await world.start("watcher", partial(kind, log))
        monitors: list[Monitor] = []
        watcher.ref.tell(lambda actor: monitors.extend(actor.monitor(watched.ref) for _ in range(3_000)))
        await settle()
        watched.ref.tell(ValueError("boom"))
        await settle()
        await watched.start()  # each of them has told something, and it waits behind what follows

        watcher.ref.tell(lambda _actor: [each.cancel() for each in monitors] and None)
        watcher.ref.tell("after")
        await settle()

        assert "after" == log[-1]
        assert not watched.watchers
        assert [("watched", "crashed: ValueError: boom")] == [(name, str(exit_)) for name, exit_ in world.exits]


@BOTH_KINDS
async def test_a_sender_whose_message_has_no_key_is_the_one_who_hears_of_it(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """What `coalesce` raises for a message that waited for room is raised to its sender; the actor and the others go on."""

    def key(message: Any) -> Any:
        if message == "no key":
            raise ValueError("no key")
        return None

    async with open_world() as world, trio.open_nursery() as nursery:
        log: list[Any] = []
        errors: list[str] = []
        cell = world.cell("a", partial(kind, log), Mail(capacity=1, coalesce=key))

        async def send(message: str) -> None:
            try:
                await cell.ref.send(message)
            except ValueError as error:
                errors.append(str(error))

        cell.ref.tell("first")
        for message in ("second", "no key", "third"):
            nursery.start_soon(send, message)
            await settle()

        await cell.start()
        await settle()

        assert ["start 1", "first", "second", "third"] == log
        assert ["no key"] == errors
        assert [] == world.exits


async def test_an_alarm_whose_key_cannot_be_one_is_never_set(autojump_clock: trio.abc.Clock) -> None:
    """A key without a hash raises TypeError, and no timer is left that nobody could cancel."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))

        cell.ref.tell(lambda actor: actor.alarms.every(1, "tick", key=[]))
        await settle()

        assert ["crashed: TypeError: unhashable type: 'list'"] == [str(exit_) for _, exit_ in world.exits]
        assert {} == world.stage.timers.counts()
        assert 0 == len(world.stage.timers)


async def test_a_cancel_scope_that_a_handler_leaves_open_is_its_own_crash(autojump_clock: trio.abc.Clock) -> None:
    """It ends the actor as a crash does, and says what is wrong; its neighbours are not touched."""

    async def leave_open(_actor: Role) -> None:
        trio.CancelScope().__enter__()

    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Tasked, []))
        neighbour = await world.start("b", partial(Tasked, log))
        cell.ref.tell(leave_open)
        await settle()

        exit_ = await world.stop(cell)
        neighbour.ref.tell("after")
        await settle()

        assert isinstance(exit_, Crashed)
        assert "Cancel scope stack corrupted" in str(exit_)
        assert ["start 1", "after"] == log


@BOTH_KINDS
async def test_a_message_that_cannot_be_looked_at_harms_nobody(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """One whose properties raise is undelivered like any other when the actor crashes over it, or has ended."""

    class Fragile(kind):  # type: ignore[misc, valid-type]
        def receive(self, message: Any) -> Any:
            if isinstance(message, Misfit):
                raise KeyError("boom")
            return super().receive(message)

    async with ActorSystem() as system:
        log: list[Any] = []
        ref = await system.start_child(ChildSpec("a", partial(Fragile, log)))
        ref.tell(Misfit())
        ref.tell("after")
        await settle()

        await system.stop_child(ref)
        await system.remove_child("a")
        ref.tell(Misfit())

    assert ["start 1", "stop 1", "start 2", "after", "stop 2"] == log
    assert {"/a": 2} == dict(system.undelivered.by_path())


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
async def test_sending_again_what_was_dropped_makes_no_mailbox_larger(
    autojump_clock: trio.abc.Clock, overflow: Overflow
) -> None:
    """A capacity holds, also where `on_undelivered` puts each dropped message back."""
    async with open_world() as world:

        def again(message: Any, why: Why) -> None:
            if why is not Why.ENDED and message < 10:
                sent.append(message + 10)
                cell.ref.tell(message + 10)

        cell = world.cell("a", partial(Role, []), Mail(capacity=4, overflow=overflow, on_undelivered=again))

        sent = list(range(10))
        for n in range(10):
            cell.ref.tell(n)

        assert 4 == cell.ref.waiting
        assert len(sent) == 4 + world.stage.undelivered.total


@BOTH_KINDS
async def test_whatever_on_undelivered_raises_the_system_stands(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """It is called in the middle of others' work, so not even a BaseException comes out of it."""

    def fail(message: Any, _why: Why) -> None:
        raise GeneratorExit

    async with ActorSystem() as system:
        log: list[Any] = []
        ref = await system.start_child(ChildSpec("a", partial(kind, log), mail=Mail(on_undelivered=fail)))
        ref.tell(ValueError("boom"))
        ref.tell("after")
        await settle()
        await system.stop_child(ref)
        await system.remove_child("a")
        ref.tell("too late")

    assert ["start 1", "stop 1", "start 2", "after", "stop 2"] == log
    assert 2 == system.undelivered.total


async def test_an_exit_in_on_undelivered_ends_the_program(autojump_clock: trio.abc.Clock) -> None:
    """A SystemExit ends the system and comes out of it, wherever in an actor it was raised."""

    def leave(message: Any, _why: Why) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        async with ActorSystem() as system:
            ref = await system.start_child(ChildSpec("a", partial(Role, []), mail=Mail(on_undelivered=leave)))
            ref.tell(ValueError("boom"))
            await trio.sleep_forever()

    assert 3 == caught.value.code


class Nursing(Role):
    """Has a nursery of its own, from its start to its end."""

    async def on_start(self) -> None:
        super().on_start()
        self.stack = AsyncExitStack()
        self.nursery = await self.stack.enter_async_context(trio.open_nursery())

    async def on_stop(self) -> None:
        super().on_stop()
        self.nursery.cancel_scope.cancel()
        await self.stack.aclose()


async def test_a_task_that_an_actor_started_and_that_crashes_is_its_own_crash(autojump_clock: trio.abc.Clock) -> None:
    """What cancels the nursery that an actor holds ends this actor, says why, and reaches nobody else."""

    async def fail() -> None:
        raise ValueError("boom")

    async with ActorSystem() as system:
        log: list[Any] = []
        ref = await system.start_child(ChildSpec("a", partial(Nursing, log)))
        ref.tell(lambda actor: actor.nursery.start_soon(fail))
        await settle()
        ref.tell("after")
        await settle()

    assert ["start 1", "stop 1", "start 2", "after", "stop 2"] == log
    (ended,) = [each for _, each in system.reports.recent() if isinstance(each, Ended)]
    error = error_of(ended.exit)
    assert isinstance(error, ExceptionGroup)
    assert ["boom"] == [str(each) for each in error.exceptions]


async def test_an_actor_that_cancels_a_scope_it_holds_ends_alone(autojump_clock: trio.abc.Clock) -> None:
    """It is a crash of that actor; the system, and the block that opened it, go on."""
    async with ActorSystem() as system:
        log: list[Any] = []
        ref = await system.start_child(ChildSpec("a", partial(Nursing, log)))
        ref.tell(lambda actor: actor.nursery.cancel_scope.cancel())
        await settle()
        ref.tell("after")
        await settle()

    assert ["start 1", "stop 1", "start 2", "after", "stop 2"] == log


@BOTH_KINDS
async def test_a_tell_from_a_foreign_thread_stops_nobody(kind: Kind) -> None:
    """It raises in that thread, as everything of trio does; the next one that is right is heard."""
    async with ActorSystem() as system:
        log: list[Any] = []
        ref = await system.start_child(ChildSpec("a", partial(kind, log)))
        ref.tell("before")
        await settle()

        with pytest.raises(RuntimeError, match="must be called from async context"):
            await trio.to_thread.run_sync(ref.tell, "wrong")
        ref.tell("after")
        await settle()

    assert ["start 1", "before", "wrong", "after", "stop 1"] == log


@BOTH_KINDS
async def test_one_actor_object_cannot_live_twice(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """A `make` that returns an actor that lives already is a start failure that says so; the one that lives is untouched."""
    log: list[Any] = []
    only = kind(log)

    async with ActorSystem() as system:
        ref = await system.start_child(ChildSpec("a", lambda: only))
        with pytest.raises(ChildStartFailed, match="must return a new Actor each time: this one lives as /a"):
            await system.start_child(ChildSpec("b", lambda: only))
        ref.tell(ValueError("boom"))
        ref.tell("after")
        await settle()

    assert ["start 1", "stop 1", "start 2", "after", "stop 2"] == log
