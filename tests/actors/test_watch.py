"""
Being told what becomes of another actor.

Not here: what supervisors know of their children (`tests/supervisor`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.cell import Cell
from callsheet.actors.exits import Crashed, Exit, Killed, Normal, Shutdown, StartFailed
from callsheet.actors.mailbox import Mail, Overflow
from callsheet.actors.undelivered import Why
from callsheet.actors.watch import Down, Monitor, Restarted
from callsheet.supervisor.spec import ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.system import ActorSystem

from .roles import BOTH_KINDS, Kind, Role, Tasked
from .world import World, open_world, settle


class Watcher(Role):
    """Monitors what it is given, in its `on_start`; writes news down in short."""

    def __init__(self, log: list[Any], *watched: Cell[Any], incarnation: bool = False) -> None:
        super().__init__(log)
        self.watched, self.incarnation = watched, incarnation
        self.monitors: list[Monitor] = []

    def on_start(self) -> None:
        self.monitors = [self.monitor(each.ref, incarnation=self.incarnation) for each in self.watched]

    def on_stop(self) -> None:
        """Nothing to write down."""

    def receive(self, message: Any) -> Any:
        return super().receive(short(message))


class TaskedWatcher(Watcher):
    """The same with a task of its own."""

    async def on_start(self) -> None:  # type: ignore[override]  # as `Actor.on_start` allows
        super().on_start()

    async def receive(self, message: Any) -> None:
        super().receive(message)


BOTH_WATCHERS = pytest.mark.parametrize("watcher", [Watcher, TaskedWatcher], ids=["plain", "with a task"])


def short(message: Any) -> Any:
    match message:
        case Restarted(generation=generation, exit=exit_):
            return f"{message.ref.path} restarted as {generation}: {exit_}"
        case Down(exit=exit_):
            return f"{message.ref.path} down: {exit_}"
        case _:
            return message


async def crash(cell: Cell[Any]) -> None:
    cell.ref.tell(ValueError("boom"))
    await settle()


async def end(world: World, cell: Cell[Any]) -> None:
    await world.stop(cell)
    await settle()


# ---------------------------------------------------------------- what is told


@BOTH_WATCHERS
@BOTH_KINDS
async def test_a_monitor_hears_of_every_restart_and_once_of_the_end(
    autojump_clock: trio.abc.Clock, kind: Kind, watcher: type[Watcher]
) -> None:
    """Restarted with the number of the incarnation that lives now and how the former ended; then Down, once."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, []))
        await world.start("w", partial(watcher, log, cell))

        for _ in range(2):
            await crash(cell)
            await cell.start()
        await end(world, cell)

        assert [
            "/a restarted as 2: crashed: ValueError: boom",
            "/a restarted as 3: crashed: ValueError: boom",
            "/a down: shutdown (shutdown)",
        ] == log


@BOTH_WATCHERS
async def test_a_monitor_of_an_actor_that_has_ended_tells_so_at_once(
    autojump_clock: trio.abc.Clock, watcher: type[Watcher]
) -> None:
    """As if it had been there before: Down, with the exit."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        await crash(cell)
        cell.end()

        await world.start("w", partial(watcher, log, cell))
        await settle()

        assert ["/a down: crashed: ValueError: boom"] == log


@BOTH_KINDS
async def test_a_monitor_of_one_incarnation_hears_of_its_end_alone(autojump_clock: trio.abc.Clock, kind: Kind) -> None:
    """incarnation=True: Down when it ends, restart or not, and then nothing more."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(kind, []))
        await world.start("w", partial(Watcher, log, cell, incarnation=True))

        await crash(cell)
        await cell.start()
        await end(world, cell)

        assert ["/a down: crashed: ValueError: boom"] == log


async def test_a_monitor_of_one_incarnation_tells_at_once_when_there_is_none(autojump_clock: trio.abc.Clock) -> None:
    """Between two incarnations there is nobody to monitor: Down, with the exit of the last one."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        await crash(cell)

        await world.start("w", partial(Watcher, log, cell, incarnation=True))
        await settle()

        assert ["/a down: crashed: ValueError: boom"] == log


async def test_a_monitor_made_between_two_incarnations_hears_of_the_restart(autojump_clock: trio.abc.Clock) -> None:
    """The logical actor is there all the time."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        await crash(cell)
        await world.start("w", partial(Watcher, log, cell))

        await cell.start()
        await settle()

        assert ["/a restarted as 2: crashed: ValueError: boom"] == log


async def test_a_start_that_fails_is_no_restart(autojump_clock: trio.abc.Clock) -> None:
    """Nobody lives, so nobody is told; the next start that succeeds tells of its own number."""

    class Moody(Role):
        def on_start(self) -> None:
            if self.cell.generation == 2:
                raise OSError("port in use")

    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Moody, []))
        await world.start("w", partial(Watcher, log, cell))
        await crash(cell)

        assert isinstance(await cell.start(), StartFailed)
        await settle()
        assert [] == log
        await cell.start()
        await settle()

        assert ["/a restarted as 3: could not start: OSError: port in use"] == log


@pytest.mark.parametrize("incarnation", [False, True])
async def test_a_first_start_is_no_restart(autojump_clock: trio.abc.Clock, incarnation: bool) -> None:
    """Whoever monitors an actor from before its first start, or on its way up, hears of its end only."""

    class Slow(Tasked):
        async def on_start(self) -> None:
            await trio.sleep(10)

    async with open_world() as world, trio.open_nursery() as nursery:
        log: list[Any] = []
        cell = world.cell("a", partial(Slow, []))
        nursery.start_soon(cell.start)
        await settle()
        await world.start("w", partial(Watcher, log, cell, incarnation=incarnation))
        await trio.sleep(11)
        assert [] == log

        await end(world, cell)

        assert ["/a down: shutdown (shutdown)"] == log


async def test_a_monitor_of_an_incarnation_on_its_way_up_is_about_that_one(autojump_clock: trio.abc.Clock) -> None:
    """Made while a restart is under way: no Restarted, since it never knew another one; Down when this one ends."""

    class Slow(Tasked):
        async def on_start(self) -> None:
            await trio.sleep(10)

    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Slow, []))
        await crash(cell)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cell.start)
            await settle()
            await world.start("w", partial(Watcher, log, cell, incarnation=True))
        await settle()
        assert [] == log

        await crash(cell)

        assert ["/a down: crashed: ValueError: boom"] == log


async def test_several_monitors_of_one_actor_are_independent(autojump_clock: trio.abc.Clock) -> None:
    """Each hears for itself; cancelling one leaves the others."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        watcher = await world.start("w", partial(Watcher, log, cell, cell, cell))
        actor = watcher.actor
        assert isinstance(actor, Watcher)

        actor.monitors[1].cancel()
        await end(world, cell)

        assert 2 * ["/a down: shutdown (shutdown)"] == log
        assert {} == cell.watchers


@pytest.mark.parametrize(
    ("how", "expected"), [("leave", Normal), ("crash", Crashed), ("stop", Shutdown), ("kill", Killed)]
)
async def test_down_says_how_it_ended(autojump_clock: trio.abc.Clock, how: str, expected: type[Exit]) -> None:
    """Normal, crashed, told to stop, or killed."""
    async with open_world() as world:
        news: list[Any] = []

        class Plain(Watcher):
            def receive(self, message: Any) -> None:
                news.append(message)

        cell = await world.start("a", partial(Role, []))
        await world.start("w", partial(Plain, [], cell))

        match how:
            case "leave":
                cell.ref.tell(Role.leave)
            case "crash":
                cell.ref.tell(ValueError("boom"))
            case "stop":
                cell.request_stop()
            case "kill":
                cell.kill()
        await cell.wait_gone()
        cell.end()
        await settle()

        [down] = news
        assert isinstance(down, Down)
        assert expected is type(down.exit)
        assert cell.ref is down.ref


# ---------------------------------------------------------------- its place among other messages


@BOTH_KINDS
async def test_what_an_actor_sent_before_its_end_arrives_before_the_news_of_it(
    autojump_clock: trio.abc.Clock, kind: Kind
) -> None:
    """Also what it sent in its `on_stop`, and over a restart; the watcher may be busy all the while."""
    async with open_world() as world:
        log: list[Any] = []

        class Talker(kind):  # type: ignore[misc,valid-type]  # a test is given its base
            def on_stop(self) -> Any:
                watcher.ref.tell(f"goodbye {self.cell.generation}")
                return super().on_stop()

        free = trio.Event()

        async def wait(_role: Role) -> None:
            await free.wait()

        cell = world.cell("a", partial(Talker, []))
        watcher = await world.start("w", partial(Tasked, log))
        await cell.start()
        watcher.ref.tell(lambda role: role.monitor(cell.ref) and None)
        watcher.ref.tell(wait)
        await settle()
        cell.ref.tell(lambda _role: watcher.ref.tell("hello"))
        await crash(cell)
        await cell.start()
        await world.stop(cell)

        free.set()
        await settle()

        assert ["hello", "goodbye 1", Restarted, "goodbye 2", Down] == [
            type(each) if isinstance(each, Restarted | Down) else each for each in log[1:]
        ]


@pytest.mark.parametrize("overflow", list(Overflow))
async def test_news_is_outside_the_capacity_and_never_dropped(
    autojump_clock: trio.abc.Clock, overflow: Overflow
) -> None:
    """A full mailbox takes it, it takes no room from others, and no policy drops it."""
    async with open_world() as world:
        log: list[Any] = []
        cells = [await world.start(f"a{n}", partial(Role, [])) for n in range(3)]
        free = trio.Event()

        async def wait(_role: Role) -> None:
            await free.wait()

        mail = Mail(capacity=2, overflow=overflow)
        watcher = await world.start("w", partial(Tasked, log), mail)
        watcher.ref.tell(lambda role: [role.monitor(each.ref) for each in cells] and None)
        watcher.ref.tell(wait)
        await settle()
        for cell in cells:
            await end(world, cell)
        watcher.ref.tell(1)
        watcher.ref.tell(2)
        if overflow is not Overflow.REJECT:
            watcher.ref.tell(3)

        free.set()
        await settle()

        left = {Overflow.REJECT: [1, 2], Overflow.DROP_NEWEST: [1, 2], Overflow.DROP_OLDEST: [2, 3]}[overflow]
        down = [f"/a{n} down: shutdown (shutdown)" for n in range(3)]
        assert ["start 1", *down, *left] == [short(each) for each in log]


# ---------------------------------------------------------------- the end of a monitor


@BOTH_WATCHERS
async def test_a_cancelled_monitor_is_not_heard_of_again(
    autojump_clock: trio.abc.Clock, watcher: type[Watcher]
) -> None:
    """Also when its news waits in the mailbox, or is next in the batch that the watcher has in hand; the rest stays."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        other = await world.start("b", partial(Role, []))
        watching = await world.start("w", partial(watcher, log, cell, other))
        actor = watching.actor
        assert isinstance(actor, Watcher)

        watching.ref.tell("before")
        watching.ref.tell(lambda role: role.monitors[0].cancel())
        cell.kill()
        cell.end()
        other.kill()
        other.end()
        watching.ref.tell("after")
        assert 5 == watching.ref.waiting
        await settle()
        actor.monitors[0].cancel()

        assert ["before", "/b down: killed (stop budget spent)", "after"] == log


@BOTH_WATCHERS
async def test_the_monitors_of_an_incarnation_end_with_it(
    autojump_clock: trio.abc.Clock, watcher: type[Watcher]
) -> None:
    """The next one hears what it asks for in its own `on_start`, and hears it once; what waited for the old one is gone."""
    async with open_world() as world:
        log: list[Any] = []
        cell = await world.start("a", partial(Role, []))
        watching = await world.start("w", partial(watcher, log, cell))
        watching.ref.tell(ValueError("boom"))
        cell.kill()
        cell.end()
        watching.ref.tell("message")
        await settle()
        assert {} == watching.watching

        await watching.start()
        await settle()

        assert ["message", "/a down: killed (stop budget spent)"] == log
        assert {Why.CRASHED_OVER: 1} == dict(world.stage.undelivered.by_why())


async def test_a_watcher_that_has_ended_is_forgotten(autojump_clock: trio.abc.Clock) -> None:
    """News for nobody is no message: it is neither kept nor counted."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        watching = await world.start("w", partial(Watcher, [], cell))

        await world.stop(watching)
        assert {} == cell.watchers
        await end(world, cell)

        assert 0 == world.stage.undelivered.total


async def test_news_that_waits_when_its_watcher_ends_is_not_undelivered(autojump_clock: trio.abc.Clock) -> None:
    """It is the runtime's own: nobody lost a message."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        watching = await world.start("w", partial(Watcher, [], cell))
        cell.kill()
        cell.end()
        assert 1 == watching.ref.waiting

        watching.kill()
        await watching.wait_gone()
        watching.end()

        assert 0 == world.stage.undelivered.total


async def test_news_that_its_watcher_crashes_over_is_not_undelivered(autojump_clock: trio.abc.Clock) -> None:
    """The crash is reported; no message of anybody's was lost."""

    class Brittle(Watcher):
        def receive(self, message: Any) -> None:
            raise ValueError("cannot bear it")

    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        await world.start("w", partial(Brittle, [], cell))

        await end(world, cell)

        assert ["a", "w"] == [name for name, _ in world.exits]
        assert 0 == world.stage.undelivered.total


async def test_a_parked_actor_is_not_down(autojump_clock: trio.abc.Clock) -> None:
    """Its supervisor gave up on it, and may be asked to restart it: then its watchers hear Restarted."""
    log: list[Any] = []
    spec = SupervisorSpec((ChildSpec("a", partial(Role, []), parks=True, intensity=Intensity(0)),))
    async with ActorSystem(spec) as system:
        cell = system.stage.registry["/a"]
        await system.start_child(ChildSpec("w", partial(Watcher, log, cell)))
        await crash(cell)
        assert [] == log

        await system.restart_child("a")
        await settle()

        assert ["/a restarted as 2: crashed: ValueError: boom"] == log


# ---------------------------------------------------------------- waiting from outside


@pytest.mark.parametrize("waiters", [0, 1, 10])
@BOTH_KINDS
async def test_any_number_of_tasks_can_wait_for_the_end(
    autojump_clock: trio.abc.Clock, kind: Kind, waiters: int
) -> None:
    """`stopped` returns the exit to each that waited, after all cleanup, with the name free; and at once to who comes later."""
    async with open_world() as world:
        log: list[Any] = []
        exits: list[tuple[Exit, list[Any], bool]] = []

        class Slow(kind):  # type: ignore[misc,valid-type]  # a test is given its base
            async def on_stop(self) -> None:
                await trio.sleep(10)
                self.log.append("cleaned up")

        cell = await world.start("a", partial(Slow, log))

        async def wait() -> None:
            exit_ = await cell.ref.stopped()
            exits.append((exit_, list(log), world.stage.whereis("/a") is None))

        async with trio.open_nursery() as nursery:
            for _ in range(waiters):
                nursery.start_soon(wait)
            await settle()
            await world.stop(cell)
        await wait()

        assert (waiters + 1) * [(Shutdown(), ["start 1", "cleaned up"], True)] == exits


async def test_a_restart_is_no_end(autojump_clock: trio.abc.Clock) -> None:
    """`stopped` waits for the end of the logical actor; whoever gives up waiting disturbs nobody."""
    async with open_world() as world:
        cell = await world.start("a", partial(Role, []))
        exits: list[Exit] = []

        async def wait() -> None:
            exits.append(await cell.ref.stopped())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            with trio.move_on_after(1) as scope:
                await cell.ref.stopped()
            await crash(cell)
            await cell.start()
            assert [] == exits
            await world.stop(cell)

        assert scope.cancelled_caught
        assert [Shutdown()] == exits
