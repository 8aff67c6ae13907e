"""Who gets its turn, and when, among actors without a task and between them and everybody else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing
from attrs import define, field

from callsheet.actors.actor import BATCH, Actor
from callsheet.actors.cell import Cell
from callsheet.actors.dispatcher import LOOK_EVERY, SLICE_PUMPS, Dispatcher

from .roles import BOTH_KINDS, Kind, Role, Tasked
from .world import Ask, open_world, settle


@define(eq=False)
class Turn:
    """Takes its turn so often, and an amount of time for each."""

    dispatcher: Dispatcher
    times: int
    on_turn: Callable[[], object]
    taken: int = field(default=0, init=False)

    def pump(self) -> None:
        self.taken += 1
        self.on_turn()
        if self.taken < self.times:
            self.dispatcher.add(cast("Cell[Any]", self))


@define(eq=False)
class Hands:
    """A clock that is moved by hand."""

    now_s: float = 0.0

    def read(self) -> float:
        return self.now_s

    def move(self) -> None:
        self.now_s += 0.010


async def turns_between_checkpoints(times: int, on_turn: Callable[[], object], clock: Hands) -> list[int]:
    """How many turns a dispatcher gives each time that it runs."""
    dispatcher = Dispatcher(clock.read)
    turn = Turn(dispatcher, times, on_turn)
    seen: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.run)
        await settle()
        dispatcher.add(cast("Cell[Any]", turn))
        while turn.taken < times:
            before = turn.taken
            await trio.lowlevel.checkpoint()
            seen.append(turn.taken - before)
        nursery.cancel_scope.cancel()
    return seen


async def test_others_get_their_turn_after_so_many_batches(autojump_clock: trio.abc.Clock) -> None:
    """Also when the clock stands still: at most SLICE_PUMPS batches in a row (twice in a row, as trio shuffles tasks)."""
    seen = await turns_between_checkpoints(10_000, lambda: None, Hands())

    assert 10_000 == sum(seen)
    assert max(seen) <= 2 * SLICE_PUMPS


async def test_others_get_their_turn_after_a_slice_of_time(autojump_clock: trio.abc.Clock) -> None:
    """Batches that take long end the slice sooner: after the first look at the clock that shows it."""
    clock = Hands()

    seen = await turns_between_checkpoints(100, clock.move, clock)

    assert 100 == sum(seen)
    assert max(seen) <= 2 * LOOK_EVERY


@BOTH_KINDS
async def test_a_batch_of_slow_messages_ends_early(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """An actor whose handlers burn time hands over before its 64 messages are done."""
    clock = cast("trio.testing.MockClock", autojump_clock)

    async with open_world() as world:
        log: list[Any] = []
        in_a_row: list[int] = []
        slow = await world.start("slow", partial(kind, log))
        for _ in range(10 * BATCH):
            slow.ref.tell(lambda role: role.log.append(clock.jump(0.010)))

        while len(log) < 1 + 10 * BATCH:
            before = len(log)
            await trio.lowlevel.checkpoint()
            in_a_row.append(len(log) - before)

        assert max(in_a_row) <= (2 * BATCH if kind is Role else BATCH)


@BOTH_KINDS
async def test_nobody_waits_for_an_actor_that_always_has_more_to_do(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """Two actors with work without end, and a third with one message: the third is not kept waiting, nor is a task."""

    def again(role: Role) -> None:
        role.ref.tell(again)

    async with open_world() as world:
        log: list[Any] = []
        for name in ("a", "b"):
            cell = await world.start(name, partial(kind, []))
            cell.ref.tell(again)
        third = await world.start("third", partial(kind, log))

        third.ref.tell("one")
        for _ in range(20):
            await trio.lowlevel.checkpoint()

        assert ["start 1", "one"] == log


async def test_an_actor_without_a_task_gets_one_when_it_has_to_wait(autojump_clock: trio.abc.Clock) -> None:
    """And keeps it: what waited behind that message is handled after it, in order, and the actor goes on as before."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, log))

        async def wait(role: Role) -> None:
            await trio.sleep(10)
            role.log.append("waited")

        for message in (1, wait, 2, wait, 3):
            cell.ref.tell(message)
        await settle()
        assert ["start 1", 1] == log
        assert cell.task is not None
        await trio.sleep(21)

        assert "yes" == await cell.ref.ask(Ask(), timeout=1)
        assert ["start 1", 1, "waited", 2, "waited", 3] == log


async def test_actors_without_a_task_have_none(autojump_clock: trio.abc.Clock) -> None:
    """A thousand of them are a thousand records; all their turns are given by one task."""
    async with open_world() as world:
        before = trio.lowlevel.current_statistics().tasks_living
        log: list[Any] = []
        cells = [await world.start(str(n), partial(Role, log)) for n in range(1_000)]
        for cell in cells:
            cell.ref.tell("told")
        await settle()

        assert 1_000 == log.count("told")
        assert trio.lowlevel.current_statistics().tasks_living <= before + 1


@pytest.mark.parametrize("moment", ["on_start", "receive", "on_stop"])
async def test_whatever_an_actor_without_a_task_raises_is_its_own_end(
    autojump_clock: trio.abc.Clock, moment: str
) -> None:
    """The dispatcher and its other actors go on."""

    class Faulty(Actor[Any]):
        def on_start(self) -> None:
            self.fail("on_start")

        def receive(self, message: Any) -> None:
            self.fail("receive")

        def on_stop(self) -> None:
            self.fail("on_stop")

        def fail(self, here: str) -> None:
            if here == moment:
                raise BaseExceptionGroup("boom", [ValueError(), GeneratorExit()])

    async with open_world() as world:
        log: list[Any] = []
        neighbour = await world.start("neighbour", partial(Role, log))
        cell = world.cell("a", Faulty)
        await cell.start()
        cell.ref.tell("now")
        neighbour.ref.tell("well?")
        await settle()
        cell.kill()
        await cell.wait_gone()
        neighbour.ref.tell("still?")
        await settle()

        assert ["start 1", "well?", "still?"] == log
        assert ["a"] == [name for name, _ in world.exits]


async def test_messages_to_many_actors_keep_the_order_of_their_sender(autojump_clock: trio.abc.Clock) -> None:
    """Actors that were idle take their turns in the order in which they were told."""
    async with open_world() as world:
        log: list[Any] = []
        cells = [await world.start(str(n), partial(Role, log)) for n in range(10)]
        del log[:]

        for cell in reversed(cells):
            cell.ref.tell(cell.name)
        await settle()

        assert [str(n) for n in reversed(range(10))] == log


async def test_an_actor_with_a_task_lets_others_run_between_batches(autojump_clock: trio.abc.Clock) -> None:
    """A long queue of quick messages does not hold the loop: at most BATCH are handled between two checkpoints."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Tasked, log))
        for n in range(1_000):
            cell.ref.tell(n)
        most = 0

        while len(log) < 1_001:
            before = len(log)
            await trio.lowlevel.checkpoint()
            most = max(most, len(log) - before)

        assert most <= 2 * BATCH
