"""What an actor asks to be told later: once, at a fixed rate, with a fixed delay; and never after it was cancelled."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field

from callsheet.actors.alarms import ALL_LIMIT, Alarms, Missed, Tick
from callsheet.actors.timers import Timers, TooManyTimers

from .world import open_world, settle

ENOUGH = 1_000_000_000


@define(eq=False)
class Desk:
    """A clock, timers, alarms and the mailbox that their ticks wait in."""

    now_s: float = 0
    timers: Timers = field(factory=Timers)
    queued: list[Tick[str]] = field(factory=list)
    alarms: Alarms[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.alarms = Alarms(self.timers, self, self.queued.append, "/me")

    def mono_s(self) -> float:
        return self.now_s

    def go_to(self, now_s: float) -> None:
        """Let time pass without a break: the event loop is never late."""
        while self.timers.next_s() <= now_s:
            self.stall_until(max(self.now_s, self.timers.next_s()))
        self.now_s = now_s

    def stall_until(self, now_s: float) -> None:
        """Let time pass in one leap, as when the event loop hangs."""
        self.now_s = now_s
        self.timers.advance(now_s, ENOUGH, lambda call: call())

    def take(self) -> list[str]:
        """Open what is queued, as an actor does."""
        ticks = self.queued[:]
        self.queued.clear()
        return [tick.message for tick in ticks if tick.live]


# ---------------------------------------------------------------- once


def test_a_message_comes_once_after_its_delay() -> None:
    """`after` sends at its time, not before, and not again; then nothing of it is left."""
    desk = Desk(now_s=10)
    desk.alarms.after(5, "x")

    desk.go_to(14.999)
    assert [] == desk.take()

    desk.go_to(15)
    assert [15.0] == [tick.due_s for tick in desk.queued]
    assert ["x"] == desk.take()
    desk.go_to(100)
    assert [] == desk.take()
    assert 0 == len(desk.alarms)
    assert 0 == len(desk.timers)


def test_a_delay_of_nothing_is_not_delivered_at_once() -> None:
    """`after(0, …)` is sent with the scheduler's next look, never from inside the call."""
    desk = Desk()

    desk.alarms.after(0, "x")
    assert [] == desk.take()

    desk.go_to(0)
    assert ["x"] == desk.take()


def test_a_cancelled_alarm_sends_nothing() -> None:
    """`cancel` in time tells so, and nothing is sent; a second one, and one of an unknown key, tells that it was over."""
    desk = Desk()
    desk.alarms.after(5, "by key", key="k")
    unnamed = desk.alarms.after(5, "by itself")

    assert desk.alarms.cancel("k")
    assert unnamed.cancel()
    desk.go_to(10)

    assert [] == desk.queued
    assert not desk.alarms.cancel("k")
    assert not desk.alarms.cancel("other")
    assert not unnamed.cancel()
    assert 0 == len(desk.alarms)


def test_a_tick_that_waits_is_dropped_when_its_alarm_is_cancelled() -> None:
    """A tick that was queued before its alarm was cancelled is not live afterwards: `cancel` came in time."""
    desk = Desk()
    desk.alarms.after(5, "x", key="k")
    desk.go_to(5)
    (tick,) = desk.queued
    assert tick.live

    assert desk.alarms.cancel("k")

    assert not tick.live
    assert [] == desk.take()


def test_a_message_that_was_taken_cannot_be_cancelled() -> None:
    """Once the actor has taken the message, `cancel` tells that it is over, and a second reading changes nothing."""
    desk = Desk()
    alarm = desk.alarms.after(5, "x", key="k")
    desk.go_to(5)
    (tick,) = desk.queued

    assert "x" == tick.message

    assert not tick.live
    assert not desk.alarms.cancel("k")
    assert not alarm.cancel()
    assert "x" == tick.message
    assert 0 == len(desk.alarms)


def test_a_key_replaces_its_alarm() -> None:
    """Of two alarms with one key the second counts: pending or queued, the first is not heard of again."""
    desk = Desk()
    first = desk.alarms.after(5, "pending", key="k")
    second = desk.alarms.after(6, "queued", key="k")
    desk.go_to(7)

    desk.alarms.after(5, "third", key="k")

    assert [] == desk.take()
    assert not first.cancel()
    assert not second.cancel()
    desk.go_to(12)
    assert ["third"] == desk.take()
    assert 0 == len(desk.alarms)


def test_alarms_without_a_key_are_each_their_own() -> None:
    """Several alarms without a key do not replace one another, also with the same message."""
    desk = Desk()
    desk.alarms.after(5, "x")
    desk.alarms.after(5, "x")

    desk.go_to(5)

    assert ["x", "x"] == desk.take()


def test_cancel_all_ends_everything() -> None:
    """After `cancel_all` nothing is sent, what waits is dropped, and no timer is left."""
    desk = Desk()
    desk.alarms.after(1, "queued")
    desk.alarms.after(5, "pending", key="k")
    desk.alarms.every(1, "again")
    desk.alarms.repeat(1, "later")
    desk.go_to(1)
    assert 3 == len(desk.queued)

    desk.alarms.cancel_all()

    assert [] == desk.take()
    assert 0 == len(desk.timers)
    assert 0 == len(desk.alarms)
    desk.go_to(100)
    assert [] == desk.queued


def test_timers_are_counted_for_the_owner() -> None:
    """The monitor can tell whose timers they are."""
    desk = Desk()

    desk.alarms.after(5, "x", key="k")
    desk.alarms.every(5, "x")
    assert {"/me": 2} == desk.timers.counts()

    desk.alarms.cancel_all()
    assert {} == desk.timers.counts()


# ---------------------------------------------------------------- at a fixed rate


def test_a_period_does_not_drift() -> None:
    """`every` keeps to the multiples of its period from the start, whatever each tick was late."""
    desk = Desk(now_s=100)
    desk.alarms.every(0.1, "x")
    due: list[float] = []

    for n in range(1, 1_001):
        desk.go_to(100 + n * 0.1 + 0.03)
        due += [tick.due_s for tick in desk.queued]
        assert ["x"] == desk.take()

    assert 1_000 == len(due)
    assert all(math.isclose(100 + n * 0.1, each) for n, each in enumerate(due, 1))
    assert 1 == len(desk.alarms)


def test_a_cancelled_period_ends() -> None:
    """`cancel` of a period drops what waits and sends no more."""
    desk = Desk()
    desk.alarms.every(1, "x", key="k")
    desk.go_to(2.5)

    assert desk.alarms.cancel("k")

    assert [] == desk.take()
    desk.go_to(10)
    assert [] == desk.queued
    assert 0 == len(desk.timers)


@pytest.mark.parametrize(
    ("missed", "sent", "counts"),
    [("one", [4.0], [3]), ("skip", [], []), ("all", [1.0, 2.0, 3.0, 4.0], [0, 0, 0, 0])],
)
def test_a_stall_is_made_up_for_as_was_asked(missed: Missed, sent: list[float], counts: list[int]) -> None:
    """Four times that pass in one stall are one tick, none, or four; then the rhythm goes on as it was."""
    desk = Desk()
    desk.alarms.every(1, "x", missed=missed)

    desk.stall_until(4.5)

    assert sent == [tick.due_s for tick in desk.queued]
    assert counts == [tick.missed for tick in desk.queued]
    desk.take()
    desk.go_to(5)
    assert [5.0] == [tick.due_s for tick in desk.queued]
    assert [4 if missed == "skip" else 0] == [tick.missed for tick in desk.queued]


def test_no_time_of_a_period_is_early() -> None:
    """A time that is after the clock by the last bit of a float is not over: it comes with the next tick."""
    desk = Desk()
    desk.alarms.every(0.1, "x", missed="all")
    assert 1.8 < 0.1 + 17 * 0.1

    desk.stall_until(1.8)

    assert 17 == len(desk.queued)
    assert all(tick.due_s <= 1.8 for tick in desk.queued)
    desk.stall_until(1.801)
    assert 18 == len(desk.queued)


@pytest.mark.parametrize("missed", ["one", "skip"])
def test_ticks_do_not_pile_up_before_a_slow_actor(missed: Missed) -> None:
    """While a tick waits no other is queued; the next one tells how many times got none."""
    desk = Desk()
    desk.alarms.every(1, "x", missed=missed)

    desk.go_to(10.5)
    assert [1.0] == [tick.due_s for tick in desk.queued]
    assert ["x"] == desk.take()
    desk.go_to(11)

    assert [(11.0, 9)] == [(tick.due_s, tick.missed) for tick in desk.queued]


def test_asking_for_all_has_a_limit() -> None:
    """`all` queues each time that passed, until the limit is reached; the rest is counted, in a stall or one by one."""
    desk = Desk()
    desk.alarms.every(1, "x", missed="all")

    desk.stall_until(ALL_LIMIT + 50)
    assert [*range(51, ALL_LIMIT + 51)] == [tick.due_s for tick in desk.queued]
    assert [50] + [0] * (ALL_LIMIT - 1) == [tick.missed for tick in desk.queued]
    desk.go_to(ALL_LIMIT + 60)
    assert ALL_LIMIT == len(desk.queued)
    assert ["x"] * ALL_LIMIT == desk.take()
    desk.go_to(ALL_LIMIT + 61)

    assert [(ALL_LIMIT + 61, 10)] == [(tick.due_s, tick.missed) for tick in desk.queued]


def test_an_alarm_goes_on_when_its_tick_cannot_be_delivered() -> None:
    """A `deliver` that raises costs one tick, not the alarm."""
    desk = Desk()
    desk.alarms.every(1, "x", missed="all")
    desk.alarms.deliver = lambda _tick: 1 / 0
    with pytest.raises(ZeroDivisionError):
        desk.go_to(1)

    desk.alarms.deliver = desk.queued.append
    desk.go_to(2)

    assert ["x"] == desk.take()


# ---------------------------------------------------------------- with a fixed delay


def test_a_fixed_delay_begins_when_the_message_is_taken() -> None:
    """`repeat` counts from the moment its message was taken; until then nothing more is queued."""
    desk = Desk()
    desk.alarms.repeat(2, "x", key="k")

    desk.go_to(7)
    assert [2.0] == [tick.due_s for tick in desk.queued]
    assert ["x"] == desk.take()
    desk.go_to(8.999)
    assert [] == desk.queued
    desk.go_to(9)
    assert ["x"] == desk.take()

    assert desk.alarms.cancel("k")
    desk.go_to(100)
    assert [] == desk.queued


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, -math.inf, "1", None])
def test_a_wrong_time_is_refused(wrong: Any) -> None:
    """What is no time gets a sentence with its name and value, and leaves the alarm that has the key as it was."""
    desk = Desk()
    desk.alarms.after(5, "x", key="k")

    with pytest.raises(ValueError, match=r"delay_s must be a finite number of seconds, 0 or more, not "):
        desk.alarms.after(wrong, "y", key="k")
    with pytest.raises(ValueError, match=r"period_s must be a finite number of seconds, 0\.001 or more, not "):
        desk.alarms.every(wrong, "y", key="k")
    with pytest.raises(ValueError, match=r"delay_s must be a finite number of seconds, 0\.001 or more, not "):
        desk.alarms.repeat(wrong, "y", key="k")

    desk.go_to(5)
    assert ["x"] == desk.take()


def test_a_period_of_nothing_is_refused() -> None:
    """A period below a tick of the wheel would never let time pass."""
    desk = Desk()

    with pytest.raises(ValueError, match="not 0"):
        desk.alarms.every(0, "x")
    with pytest.raises(ValueError, match=r"not 0\.0009"):
        desk.alarms.repeat(0.0009, "x")

    desk.alarms.every(0.001, "x")


def test_an_unknown_policy_is_refused() -> None:
    """The sentence names the policies there are."""
    wrong: Any = "some"

    with pytest.raises(ValueError, match="missed must be one of one, skip, all, not 'some'"):
        Desk().alarms.every(1, "x", missed=wrong)


def test_an_alarm_that_finds_no_room_replaces_nothing() -> None:
    """When there are too many timers, the alarm that has the key stays."""
    desk = Desk(timers=Timers(limit=1))
    desk.alarms.after(5, "x", key="k")

    with pytest.raises(TooManyTimers):
        desk.alarms.after(6, "y", key="k")

    desk.go_to(10)
    assert ["x"] == desk.take()


# ---------------------------------------------------------------- with the scheduler


async def test_a_stall_of_the_event_loop_is_one_tick(mock_clock: trio.testing.MockClock) -> None:
    """After two seconds without the event loop a period of 100 ms sends one tick, which tells how many it stands for."""
    async with open_world() as world:
        queued: list[Tick[str]] = []
        alarms = Alarms(world.stage.timers, world.stage.seams.clock, queued.append, "/me")
        alarms.every(0.125, "x")
        alarms.after(1, "once")
        await settle()

        mock_clock.jump(2)
        await settle()

        assert [("x", 15), ("once", 0)] == sorted(((t.message, t.missed) for t in queued), reverse=True)
        mock_clock.jump(0.125)
        await settle()
        assert ["x"] == [tick.message for tick in queued[2:]]


async def test_periods_wake_the_scheduler_once_each(autojump_clock: trio.abc.Clock) -> None:
    """Alarms keep virtual time to the millisecond, and end with `cancel_all`: the program can then come to rest."""
    async with open_world() as world:
        heard: list[tuple[str, float]] = []
        clock = world.stage.seams.clock
        began_s = clock.mono_s()

        def deliver(tick: Tick[str]) -> None:
            heard.append((tick.message, clock.mono_s() - began_s))

        alarms = Alarms(world.stage.timers, clock, deliver, "/me")
        alarms.every(0.5, "every")
        alarms.repeat(0.75, "repeat")
        await trio.sleep(2.001)  # past the tick at 2

        alarms.cancel_all()
        await trio.sleep(10)

        times = {name: [at_s for each, at_s in heard if each == name] for name in ("every", "repeat")}
        assert {"every": [0.5, 1.0, 1.5, 2.0], "repeat": [0.75, 1.5]} == times
