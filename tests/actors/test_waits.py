"""How a task waits for a time: on the wheel, and without it while nobody pumps it."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from callsheet.actors.scheduler import Scheduler
from callsheet.actors.timers import TICKS_PER_S
from callsheet.actors.waits import Waits

from .world import World, open_world, settle


async def waited_s(waits: Waits, seconds: float) -> float:
    """How long a wait of so many seconds took, in virtual time."""
    began_s = trio.current_time()
    await waits.sleep(seconds, owner="me")
    return trio.current_time() - began_s


async def test_a_wait_is_a_timer_of_the_wheel(autojump_clock: trio.abc.Clock) -> None:
    """While it lasts it is one timer, in the name of whoever waits, and no deadline of trio's; then it is gone."""
    async with open_world() as world:
        stage = world.stage
        with stage.waits.move_on_after(5, owner="me") as scope:
            assert {"me": 1} == stage.timers.counts()
            assert math.inf == scope.deadline
            await trio.sleep_forever()

        assert scope.cancelled_caught
        assert 5 == trio.current_time()
        assert (0, 0, {}) == (len(stage.timers), len(stage.waits), stage.timers.counts())


@pytest.mark.parametrize("pumped", [True, False])
@pytest.mark.parametrize("seconds", [1e-9, 0.0001, 0.1, 0.25, 1.0005, 1.001, math.nextafter(1, 2), 3600.0])
async def test_a_wait_is_never_early(autojump_clock: trio.abc.Clock, seconds: float, pumped: bool) -> None:
    """It ends at its time, or within the tick after it."""
    async with open_world() as world:
        if not pumped:
            await world.stop(world.stage.registry["/scheduler"])
        await trio.sleep(1 / 3)
        began_s = trio.current_time()

        with trio.fail_after(10_000):
            await world.stage.waits.sleep(seconds, owner="me")

        assert trio.current_time() >= began_s + seconds
        assert trio.current_time() <= began_s + seconds + 1 / TICKS_PER_S


@pytest.mark.parametrize("seconds", [0, -1, -math.inf])
async def test_a_wait_of_nothing_is_a_checkpoint(autojump_clock: trio.abc.Clock, seconds: float) -> None:
    """It takes no time and no timer; others have their turn, and a cancellation is noticed."""
    async with open_world() as world:
        await trio.sleep(1)
        with trio.testing.assert_checkpoints():
            assert 0 == await waited_s(world.stage.waits, seconds)
        with trio.CancelScope() as scope:
            scope.cancel()
            await world.stage.waits.sleep(seconds, owner="me")

        assert scope.cancelled_caught
        assert (0, 0) == (len(world.stage.timers), len(world.stage.waits))


async def test_a_time_that_has_passed_is_not_waited_for(autojump_clock: trio.abc.Clock) -> None:
    """A block whose time is over is cancelled at its first wait, as with trio's own."""
    async with open_world() as world:
        await trio.sleep(10)
        with world.stage.waits.move_on_at(9, owner="me") as scope:
            await trio.sleep_forever()
        await world.stage.waits.sleep_until(9, owner="me")

        assert scope.cancelled_caught
        assert 10 == trio.current_time()


async def test_a_wait_without_an_end_has_no_timer(autojump_clock: trio.abc.Clock) -> None:
    """Infinity waits for ever, or until something else happens; what is no number is refused and leaves nothing."""
    async with open_world() as world:
        waits, timers = world.stage.waits, world.stage.timers
        happened = trio.Event()
        world.stage.nursery.start_soon(happened.wait)

        with waits.move_on_after(math.inf, owner="me") as scope:
            assert (0, 0) == (len(timers), len(waits))
            happened.set()
            await happened.wait()
        with pytest.raises(ValueError, match="finite"):
            await waits.sleep(math.nan, owner="me")

        assert not scope.cancelled_caught
        assert (0, 0, {}) == (len(timers), len(waits), timers.counts())


async def test_a_cancelled_wait_leaves_no_timer(autojump_clock: trio.abc.Clock) -> None:
    """Whoever is cancelled while it waits leaves at once, and neither a timer nor an account stays behind."""
    async with open_world() as world:
        with trio.CancelScope() as scope:
            world.stage.timers.at(2, scope.cancel)
            await world.stage.waits.sleep(100, owner="me")

        assert scope.cancelled_caught
        assert 2 == trio.current_time()
        assert (0, 0, {}) == (len(world.stage.timers), len(world.stage.waits), world.stage.timers.counts())


async def test_a_block_that_ends_before_its_time_leaves_no_timer(autojump_clock: trio.abc.Clock) -> None:
    """What the block waited for has come, or it raised: its time means nothing any more."""
    async with open_world() as world:
        waits = world.stage.waits
        with waits.move_on_after(5, owner="me") as scope:
            await trio.sleep(1)
        with pytest.raises(KeyError), waits.move_on_after(5, owner="me"):
            raise KeyError
        assert (0, 0) == (len(world.stage.timers), len(waits))
        await trio.sleep(10)

        assert not scope.cancelled_caught
        assert not scope.cancel_called


async def test_many_wait_each_for_its_own_time(autojump_clock: trio.abc.Clock) -> None:
    """A shorter wait that begins later ends first; those of one moment all end in it."""
    async with open_world() as world:
        ended: list[tuple[float, str]] = []

        async def wait(name: str, when_s: float) -> None:
            await world.stage.waits.sleep_until(when_s, owner=name)
            ended.append((trio.current_time(), name))

        async with trio.open_nursery() as nursery:
            for name, when_s in (("c", 30.0), ("b", 20.0), ("a", 10.0), ("d", 30.0)):
                nursery.start_soon(wait, name, when_s)
                await settle()

        assert [(10, "a"), (20, "b"), (30, "c"), (30, "d")] == sorted(ended)


# ---------------------------------------------------------------- while nobody pumps the wheel


async def end_scheduler(world: World, how: str) -> None:
    scheduler = world.stage.registry["/scheduler"]
    if how == "told to stop":
        scheduler.request_stop()
    elif how == "killed":
        scheduler.kill()
    elif how == "crashed":
        scheduler.ref.tell("poison")
    else:

        def interrupt() -> None:
            raise KeyboardInterrupt

        world.stage.timers.at(0, interrupt)
    await scheduler.wait_gone()


ENDS = ["told to stop", "killed", "crashed", "crashed over a timer"]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("back_after_s", [0, 5, 50, None])
async def test_no_wait_hangs_on_the_scheduler(
    autojump_clock: trio.abc.Clock, how: str, back_after_s: float | None
) -> None:
    """It ends in its time though the scheduler ends before it: comes back at once, meanwhile, afterwards, or never."""
    async with open_world() as world:
        stage = world.stage

        async def trouble() -> None:
            await trio.sleep(2)
            await end_scheduler(world, how)
            if back_after_s is not None:
                await trio.sleep(back_after_s)
                await stage.registry["/scheduler"].start()

        stage.nursery.start_soon(trouble)
        with trio.fail_after(100):
            assert 10 == await waited_s(stage.waits, 10)

        assert (0, 0, {}) == (len(stage.timers), len(stage.waits), stage.timers.counts())
        await trio.sleep(100)  # whoever comes back finds nothing of it


@pytest.mark.parametrize("back_after_s", [5, 50])
async def test_a_wait_that_begins_while_nobody_pumps_ends_in_its_time(
    autojump_clock: trio.abc.Clock, back_after_s: float
) -> None:
    """Before the first scheduler, and between two, waiting works as ever; and the next one may take over."""
    async with open_world() as world:
        stage = world.stage
        await end_scheduler(world, "crashed")

        async def come_back() -> None:
            await trio.sleep(back_after_s)
            await stage.registry["/scheduler"].start()

        stage.nursery.start_soon(come_back)
        with trio.fail_after(100):
            assert 10 == await waited_s(stage.waits, 10)
        await trio.sleep(100)

        with stage.waits.move_on_after(5, owner="me") as scope:
            assert math.inf == scope.deadline
            assert {"me": 1} == stage.timers.counts()
        assert (0, 0) == (len(stage.timers), len(stage.waits))


async def test_a_cancelled_wait_without_a_scheduler_leaves_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Nor does it find something to end when the scheduler comes back."""
    async with open_world() as world:
        await end_scheduler(world, "killed")
        with trio.move_on_after(1) as scope:
            await world.stage.waits.sleep(10, owner="me")
        assert (0, 0) == (len(world.stage.timers), len(world.stage.waits))
        await world.stage.registry["/scheduler"].start()

        assert scope.cancelled_caught
        assert 1 == trio.current_time()
        assert isinstance(world.stage.registry["/scheduler"].actor, Scheduler)


async def test_a_wait_is_not_refused_when_there_are_too_many_timers(autojump_clock: trio.abc.Clock) -> None:
    """The journal must be able to try again, whoever made so many timers."""
    async with open_world() as world:
        world.stage.timers.limit = 0

        assert 3 == await waited_s(world.stage.waits, 3)
