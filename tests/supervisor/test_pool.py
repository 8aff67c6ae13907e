"""Pools: children of one kind that come and go, and never take each other along."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.actors.actor import Actor
from callsheet.actors.errors import ActorDown, NameTaken
from callsheet.actors.exits import Crashed, Killed, Normal, Shutdown
from callsheet.actors.mailbox import Mail
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.actors.states import CellState
from callsheet.supervisor.child import KILL_BUDGET_S
from callsheet.supervisor.errors import (
    ChildStartFailed,
    DuplicateChild,
    IntensityExceeded,
    InvalidSpec,
    NotMyChild,
    PoolFull,
)
from callsheet.supervisor.pool import Pool, PoolSpec, Spawn, StopOne, spawn
from callsheet.supervisor.spec import Backoff, ChildSpec, Intensity, Restart, SupervisorSpec
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Plain, Tasked, Troupe, buggy, settle, states, story, tell


def system_of(pool: PoolSpec, *others: ChildSpec, **fields: Any) -> ActorSystem:
    return ActorSystem(SupervisorSpec((buggy("pool", pool), *others), **fields))


def pool_of(system: ActorSystem) -> Ref[Any]:
    ref = system.whereis("/pool")
    assert ref is not None
    return ref


def members(troupe: Troupe, kind: type[Plain] = Plain, **fields: Any) -> PoolSpec:
    return PoolSpec(lambda name: kind(name, troupe.log), **fields)


def reported(system: ActorSystem) -> list[str]:
    """Of the pool and its children, but not that the pool started."""
    return [each for each in story(system) if "/pool" in each and not each.endswith("started (1)")]


# ---------------------------------------------------------------- starting


async def test_a_child_is_spawned_in_one_step_with_its_arguments(autojump_clock: trio.abc.Clock) -> None:
    """`spawn` is no checkpoint: the Ref is good at once; without a name, children are numbered."""
    troupe = Troupe()

    async with system_of(members(troupe)) as system:
        one, two = spawn(pool_of(system), "ann"), spawn(pool_of(system), "bob", name="two")

        assert ("/pool/1", "/pool/two") == (one.path, two.path)
        assert ["+ann", "+bob"] == troupe.since()
        assert {"": "running", "/pool": "running", "/pool/1": "running", "/pool/two": "running"} == states(system)


async def test_what_is_told_to_a_child_on_its_way_up_waits(autojump_clock: trio.abc.Clock) -> None:
    """A child that needs time to start handles what it was told meanwhile, in order."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_start(self) -> None:
            await trio.sleep(1)
            super().on_start()

    async with system_of(members(troupe, Slow)) as system:
        ref = spawn(pool_of(system), "a")
        ref.tell(1)
        ref.tell(2)
        assert [] == troupe.since()
        await trio.sleep(2)

        assert ["+a", "a:1", "a:2"] == troupe.since()


@pytest.mark.parametrize("kind", [Plain, Tasked])
async def test_asking_for_a_child_waits_until_it_has_started(autojump_clock: trio.abc.Clock, kind: type[Plain]) -> None:
    """`Spawn` is answered with the Ref of a child that is up."""
    troupe = Troupe()

    async with system_of(members(troupe, kind)) as system:
        ref = await pool_of(system).ask(Spawn(("a",)), timeout=1)

        assert ["+a"] == troupe.since()
        assert ("/pool/1", "running") == (ref.path, states(system)["/pool/1"])


async def test_a_child_that_has_started_and_left_at_once_did_start(autojump_clock: trio.abc.Clock) -> None:
    """A child whose whole work is done in its start is no failed start."""
    troupe = Troupe()

    class Brief(Plain):
        def on_start(self) -> None:
            super().on_start()
            self.leave()

    async with system_of(members(troupe, Brief)) as system:
        ref = await pool_of(system).ask(Spawn(("a",)), timeout=1)

        assert Normal() == await ref.stopped()
        assert ["+a", "-a"] == troupe.since()


async def test_numbers_step_over_names_that_are_taken(autojump_clock: trio.abc.Clock) -> None:
    """Whoever gives no name never hears that it is taken: not by a child of that name, not by a zombie."""
    troupe = Troupe()

    async with system_of(members(troupe)) as system:
        spawn(pool_of(system), "named", name="1")
        ref = spawn(pool_of(system), "numbered")

        assert "/pool/2" == ref.path


async def test_a_full_pool_starts_nothing_until_one_has_ended(autojump_clock: trio.abc.Clock) -> None:
    """`max_children` bounds a pool; both ways to spawn say so in a sentence."""
    troupe = Troupe()
    sentence = "pool /pool has its 2 children: nothing was started, try again when one has ended"

    async with system_of(members(troupe, max_children=2)) as system:
        pool = pool_of(system)
        first = spawn(pool, "a")
        spawn(pool, "b")
        with pytest.raises(PoolFull) as told:
            spawn(pool, "c")
        with pytest.raises(PoolFull) as answered:
            await pool.ask(Spawn(("c",)), timeout=1)

        assert (sentence, sentence) == (str(told.value), str(answered.value))
        first.tell(Normal())
        await settle()
        spawn(pool, "c")
        assert ["+a", "+b", "-a", "+c"] == troupe.since()


async def test_a_name_is_used_once_at_a_time(autojump_clock: trio.abc.Clock) -> None:
    """A second child of the same name is refused while the first lives, and welcome when it has ended."""
    troupe = Troupe()

    async with system_of(members(troupe)) as system:
        pool = pool_of(system)
        first = spawn(pool, "a", name="x")
        with pytest.raises(DuplicateChild, match=r"/pool/x is there already \(running\)"):
            spawn(pool, "b", name="x")
        with pytest.raises(DuplicateChild, match="/pool/x"):
            await pool.ask(Spawn(("b",), "x"), timeout=1)
        first.tell(Normal())
        await first.stopped()

        assert "/pool/x" == spawn(pool, "c", name="x").path
        assert ["+a", "-a", "+c"] == troupe.since()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_first_start_that_fails_is_told_and_not_retried(
    autojump_clock: trio.abc.Clock, asynchronous: bool
) -> None:
    """Whoever asked hears why; the name is free; no budget of anybody is spent."""
    error = OSError("no route")
    tries: list[str] = []

    class Failing(Plain):
        def on_start(self) -> Any:
            tries.append(self.name)
            if asynchronous:
                return self.later()
            raise error

        async def later(self) -> None:
            await trio.sleep(1)
            raise error

    async with system_of(PoolSpec(lambda name: Failing(name, []), of_all=Intensity(0))) as system:
        with pytest.raises(ChildStartFailed, match="/pool/x could not start: OSError: no route") as caught:
            await pool_of(system).ask(Spawn(("a",), "x"), timeout=10)
        await trio.sleep(60)

        assert error is caught.value.__cause__
        assert ["a"] == tries
        assert {"": "running", "/pool": "running"} == states(system)
        assert ["/pool/x could not start (1) OSError('no route')"] == reported(system)


async def test_a_constructor_that_fails_is_a_failed_start(autojump_clock: trio.abc.Clock) -> None:
    """A wrong argument ends nobody but the child that it was for."""
    async with system_of(PoolSpec(Actor)) as system:
        with pytest.raises(ChildStartFailed, match="TypeError"):
            await pool_of(system).ask(Spawn(("one too many",)), timeout=1)
        ref = spawn(pool_of(system), "one too many")

        assert not ref.is_alive
        assert {"": "running", "/pool": "running"} == states(system)


@pytest.mark.parametrize("how", ["stopped", "crashed"])
async def test_nothing_is_spawned_on_a_pool_that_ends(autojump_clock: trio.abc.Clock, how: str) -> None:
    """While a pool stops its children, whether told to or after a crash of its own, it takes no more; then it is down."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(1)
            super().on_stop()

    async with system_of(members(troupe, Slow), intensity=Intensity(0)) as system:
        pool = pool_of(system)
        spawn(pool, "a")
        if how == "stopped":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(system.stop_child, "pool")
                await settle()
                with pytest.raises(ActorDown, match="/pool"):
                    spawn(pool, "late")
        else:
            pool.tell("bug")
            while pool.waiting:
                await trio.lowlevel.checkpoint()
            with pytest.raises(ActorDown, match="/pool"):
                spawn(pool, "late")
            system.stop()
        await trio.sleep(2)

    with pytest.raises(ActorDown, match="/pool"):
        spawn(pool, "too late")
    assert ["+a", "-a"] == troupe.since()


@pytest.mark.parametrize("when", ["on its way up", "not begun"])
async def test_whoever_asks_a_pool_that_ends_is_not_left_waiting(autojump_clock: trio.abc.Clock, when: str) -> None:
    """A child that a stop overtakes is reported as one that did not start; a request that nobody took, as the end."""
    troupe = Troupe()
    answers: list[str] = []

    class Endless(Plain):
        async def on_start(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                if self.name == "the last to end":
                    with trio.move_on_after(1, shield=True):
                        await trio.sleep_forever()

    async def ask(pool: Ref[Any]) -> None:
        try:
            await pool.ask(Spawn(("a",)), timeout=math.inf)
        except (ChildStartFailed, ActorDown) as error:
            answers.append(str(error))

    async with trio.open_nursery() as nursery, system_of(members(troupe, Endless, stop_budget_s=2)) as system:
        pool = pool_of(system)
        spawn(pool, "the last to end")
        if when == "not begun":
            system.request_stop()
            await settle()
        nursery.start_soon(ask, pool)
        await settle()

    expected = {
        "on its way up": "/pool/2 killed (stop budget spent)",
        "not begun": "actor /pool did not answer: shutdown",
    }
    assert [expected[when]] == [each.partition(" (shutdown)")[0] for each in answers]


async def test_a_pool_that_waits_for_its_restart_takes_requests_only(autojump_clock: trio.abc.Clock) -> None:
    """Between two lives of a pool there is nobody who could spawn at once; whoever asks is answered by the next one."""
    troupe = Troupe()
    pool_spec = buggy("pool", members(troupe), backoff=Backoff(10, 10))

    async with ActorSystem(SupervisorSpec((pool_spec,))) as system:
        pool = pool_of(system)
        pool.tell("bug")
        await settle()
        with pytest.raises(ActorDown, match="/pool did not answer: crashed"):
            spawn(pool, "a")
        ref = await pool.ask(Spawn(("b",)), timeout=60)

        assert (10, "/pool/1") == (trio.current_time(), ref.path)
        assert ["+b"] == troupe.since()


# ---------------------------------------------------------------- what follows from an end


@pytest.mark.parametrize(
    ("restart", "end", "again"),
    [
        (Restart.PERMANENT, Normal(), True),
        (Restart.PERMANENT, Shutdown("enough"), True),
        (Restart.PERMANENT, ValueError("boom"), True),
        (Restart.TRANSIENT, Normal(), False),
        (Restart.TRANSIENT, Shutdown("enough"), False),
        (Restart.TRANSIENT, ValueError("boom"), True),
        (Restart.TEMPORARY, Normal(), False),
        (Restart.TEMPORARY, Shutdown("enough"), False),
        (Restart.TEMPORARY, ValueError("boom"), False),
    ],
)
@pytest.mark.parametrize("kind", [Plain, Tasked])
async def test_the_nine_cases(
    autojump_clock: trio.abc.Clock, kind: type[Plain], restart: Restart, end: object, again: bool
) -> None:
    """A child comes back with its arguments, or it is gone and its name free; its sibling never notices."""
    troupe = Troupe()

    async with system_of(members(troupe, kind, restart=restart)) as system:
        ref, _ = spawn(pool_of(system), "a"), spawn(pool_of(system), "b")
        await settle()
        troupe.since()
        ref.tell(end)
        await settle()

        assert (["-a", "+a"] if again else ["-a"]) == troupe.since()
        assert again == ("/pool/1" in states(system))
        tell(system, "/pool/2", "hello")
        await settle()
        assert ["b:hello"] == troupe.since()


async def test_a_child_that_spends_its_budget_is_gone_alone(autojump_clock: trio.abc.Clock) -> None:
    """Exactly `restarts` restarts; the end after that is reported, its name is free, and its siblings stay."""
    troupe = Troupe()

    async with system_of(members(troupe, intensity=Intensity(2, 60))) as system:
        ref, _ = spawn(pool_of(system), "a"), spawn(pool_of(system), "b")
        for n in range(3):
            ref.tell(ValueError(f"boom {n}"))
            await settle()

        assert ["+a", "+b", "-a", "+a", "-a", "+a", "-a"] == troupe.since()
        assert not ref.is_alive
        assert {"": "running", "/pool": "running", "/pool/2": "running"} == states(system)
        assert [
            "/pool/1 ended (1) crashed: ValueError: boom 0 → restarted",
            "/pool/1 ended (2) crashed: ValueError: boom 1 → restarted",
            "/pool/1 ended (3) crashed: ValueError: boom 2 → given_up",
        ] == reported(system)
        assert "/pool/1" == spawn(pool_of(system), "c", name="1").path


async def test_a_restart_whose_start_fails_spends_the_budget_too(autojump_clock: trio.abc.Clock) -> None:
    """A child that once was up and cannot start again is tried as often as its budget allows, then it is gone."""
    troupe = Troupe()

    class Once(Plain):
        def on_start(self) -> None:
            super().on_start()
            if self.cell.generation > 1:
                raise OSError("gone")

    async with system_of(members(troupe, Once, intensity=Intensity(3, 60))) as system:
        ref = spawn(pool_of(system), "a")
        ref.tell(ValueError("boom"))
        await settle()

        assert ["+a", "-a", "+a", "+a", "+a"] == troupe.since()
        assert {"": "running", "/pool": "running"} == states(system)
        assert "/pool/1 ended (4) could not start: OSError: gone → given_up" == reported(system)[-1]


async def test_crashes_of_all_together_may_have_a_bound(autojump_clock: trio.abc.Clock) -> None:
    """With `of_all` a pool gives up when its children crash too often together; its supervisor judges that."""
    troupe = Troupe()
    boom = ValueError("boom 2")

    with pytest.raises(SystemGaveUp) as caught:
        async with system_of(members(troupe, of_all=Intensity(2, 60)), intensity=Intensity(0)) as system:
            refs = [spawn(pool_of(system), name) for name in "abc"]
            for ref, error in zip(refs, [ValueError("boom 0"), ValueError("boom 1"), boom], strict=True):
                ref.tell(error)
                await settle()
            await trio.sleep_forever()

    pool_gave_up = caught.value.__cause__ and caught.value.__cause__.__cause__
    assert isinstance(pool_gave_up, IntensityExceeded)
    assert (
        "supervisor /pool gave up: /pool/3 ended more than 2 times in 60 s; last: crashed: ValueError: boom 2"
        == str(pool_gave_up)
    )
    assert boom is pool_gave_up.__cause__
    assert "/pool" not in system.undelivered.by_path()
    assert sorted(["-a", "-b"]) == sorted(troupe.since()[-2:])


async def test_a_crash_of_the_pool_stops_its_children_and_begins_empty(autojump_clock: trio.abc.Clock) -> None:
    """A pool that is restarted has no children: whoever spawned them spawns them again."""
    troupe = Troupe()

    async with system_of(members(troupe)) as system:
        refs = [spawn(pool_of(system), name) for name in "ab"]
        pool_of(system).tell("bug")
        await settle()

        assert {"": "running", "/pool": "running"} == states(system)
        assert [False, False] == [ref.is_alive for ref in refs]
        assert sorted(["+a", "+b", "-a", "-b"]) == sorted(troupe.since())
        assert "/pool/1" == spawn(pool_of(system), "c").path


async def test_twenty_thousand_children_of_which_one_in_a_hundred_crashes(autojump_clock: trio.abc.Clock) -> None:
    """Two hundred unrelated crashes at once are two hundred single restarts: the pool and the rest stay."""
    n, crashing = 20_000, 200

    class Member(Actor[Any]):
        def receive(self, message: Any) -> None:
            raise ValueError(message)

    async with system_of(PoolSpec(Member), intensity=Intensity(0)) as system:
        pool = pool_of(system)
        refs = []
        for k in range(n):
            refs.append(spawn(pool))
            if k % 500 == 0:
                await trio.lowlevel.checkpoint()
        for ref in refs[:: n // crashing]:
            ref.tell("boom")
        await settle()

        generations = [ref._cell.generation for ref in refs]
        assert (n - crashing, crashing) == (generations.count(1), generations.count(2))
        assert {CellState.RUNNING} == {ref._cell.state for ref in refs}

    assert {} == system.stage.registry


async def test_twenty_thousand_children_that_end_leave_nothing(autojump_clock: trio.abc.Clock) -> None:
    """Children that end by themselves are no news, and nothing of them is kept: no name, no record, no report."""

    class Brief(Actor[Any]):
        def receive(self, message: Any) -> None:
            if message == "crash" and self.cell.generation == 1:
                raise ValueError(message)
            self.leave()

    async with system_of(PoolSpec(Brief), intensity=Intensity(0)) as system:
        pool = pool_of(system)
        for k in range(20_000):
            ref = spawn(pool)
            if k % 1_000 == 0:
                ref.tell("crash")
            ref.tell("leave")
            if k % 500 == 0:
                await trio.lowlevel.checkpoint()
        await settle()

        assert {"": "running", "/pool": "running"} == states(system)
        actor = pool._cell.actor
        assert isinstance(actor, Pool)
        assert ({}, {}) == (actor.children, actor._trouble)
        assert 20 == len(reported(system))


# ---------------------------------------------------------------- backoff


async def test_a_crashed_child_waits_for_its_backoff_alone(autojump_clock: trio.abc.Clock) -> None:
    """Only the child that crashed waits; what it is told meanwhile waits with it; others crash and return on their own."""
    troupe = Troupe()

    async with system_of(members(troupe, backoff=Backoff(2, 60), intensity=Intensity(9, 600))) as system:
        one, two = spawn(pool_of(system), "a"), spawn(pool_of(system), "b")
        one.tell(ValueError("boom"))
        await trio.sleep(1)
        one.tell("waits")
        two.tell(ValueError("boom"))
        await settle()
        assert ["+a", "+b", "-a", "-b"] == troupe.since()

        await trio.sleep(1.01)
        assert ["+a", "a:waits"] == troupe.since()
        await trio.sleep(1)
        assert ["+b"] == troupe.since()
        one.tell(ValueError("again"))
        await settle()
        assert "/pool/1 delayed 4 s (3)" == reported(system)[-1]


@pytest.mark.parametrize("delayed", [True, False])
async def test_a_child_that_is_stopped_before_its_restart_stays_gone(
    autojump_clock: trio.abc.Clock, delayed: bool
) -> None:
    """Whether the restart waits for its backoff or only for its turn: a stop comes first, and the name is free."""
    troupe = Troupe()
    pool_spec = members(troupe, backoff=Backoff(2, 60) if delayed else None)

    async with system_of(pool_spec) as system:
        ref = spawn(pool_of(system), "a", name="x")
        ref.tell(ValueError("boom"))
        if delayed:
            await settle()
        await pool_of(system).ask(StopOne(ref), timeout=10)
        spawn(pool_of(system), "new", name="x")
        troupe.since()
        await trio.sleep(60)

        assert [] == troupe.since()
        assert not ref.is_alive
        assert {"": "running", "/pool": "running", "/pool/x": "running"} == states(system)


async def test_a_stop_during_delays_leaves_no_timer_behind(autojump_clock: trio.abc.Clock) -> None:
    """A pool that stops does not wait for delays, and what they left is gone."""
    troupe = Troupe()

    async with system_of(members(troupe, backoff=Backoff(60, 60))) as system:
        ref = spawn(pool_of(system), "a")
        ref.tell(ValueError("boom"))
        await settle()
        assert 1 == len(system.stage.timers)
        began_s = trio.current_time()
        await system.stop_child("pool")

        assert (began_s, 0) == (trio.current_time(), len(system.stage.timers))
        assert not ref.is_alive

    assert {"/pool/1": 1} == dict(system.undelivered.by_path())  # what it crashed over


# ---------------------------------------------------------------- stopping


async def test_all_children_stop_at_once(autojump_clock: trio.abc.Clock) -> None:
    """A hundred children that need a second each need a second together; nobody is told of it: it is as it should be."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(1)
            super().on_stop()

    async with system_of(members(troupe, Slow)) as system:
        for n in range(100):
            spawn(pool_of(system), str(n))
        troupe.since()
        began_s = trio.current_time()

    assert 1 == trio.current_time() - began_s
    assert {f"-{n}" for n in range(100)} == set(troupe.since())
    assert [] == reported(system)
    assert {} == dict(system.undelivered.by_path())


async def test_one_deadline_holds_for_all_children(autojump_clock: trio.abc.Clock) -> None:
    """Whoever has not stopped within the budget is cancelled with the others that have not; they are counted once."""
    troupe = Troupe()

    class Busy(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(1 if self.name == "quick" else 100)
            super().on_stop()

    async with system_of(members(troupe, Busy, stop_budget_s=3)) as system:
        for name in ("quick", "a", "b", "c"):
            spawn(pool_of(system), name)
        troupe.since()
        began_s = trio.current_time()

    assert 3 == trio.current_time() - began_s
    assert ["-quick"] == troupe.since()
    assert ["/pool overran 3 s: None (3)"] == reported(system)
    assert {} == system.stage.registry


async def test_children_that_fail_while_they_stop_are_counted(autojump_clock: trio.abc.Clock) -> None:
    """A bad end during a stop is no restart, but it is not silent either: one report for all of them."""
    troupe = Troupe()

    class Failing(Plain):
        def on_stop(self) -> None:
            raise OSError("could not flush")

    async with system_of(members(troupe, Failing)) as system:
        for name in "abc":
            spawn(pool_of(system), name)

    assert ["/pool overran 5 s: crashed: OSError: could not flush (3)"] == reported(system)


async def test_a_budget_of_zero_cancels_at_once(autojump_clock: trio.abc.Clock) -> None:
    """Nobody is asked and nobody is reported as late: that is what was wanted."""
    troupe = Troupe()

    class Busy(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(100)
            super().on_stop()

    async with system_of(members(troupe, Busy, stop_budget_s=0)) as system:
        ref = spawn(pool_of(system), "a")
        began_s = trio.current_time()

    assert began_s == trio.current_time()
    assert isinstance(await ref.stopped(), Killed)
    assert [] == reported(system)


async def test_a_crash_at_the_moment_of_a_stop_is_no_message_that_was_lost(autojump_clock: trio.abc.Clock) -> None:
    """What a pool would have told itself about a child is nobody's undelivered message."""
    troupe = Troupe()

    class Last(Plain):
        def receive(self, message: Any) -> None:
            pool_of(message)._cell.request_stop()
            self.cell.leave(Crashed(ValueError("in the same step")))

    async with system_of(members(troupe, Last)) as system:
        spawn(pool_of(system), "a").tell(system)
        await settle()

    assert ["+a", "-a"] == troupe.since()
    assert {} == dict(system.undelivered.by_path())


async def test_one_child_is_stopped_for_good(autojump_clock: trio.abc.Clock) -> None:
    """`StopOne` is answered when the child is gone and its name is free; even a permanent one stays gone."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(1)
            super().on_stop()

    async with system_of(members(troupe, Slow, restart=Restart.PERMANENT)) as system:
        one, two = spawn(pool_of(system), "a"), spawn(pool_of(system), "b")
        await pool_of(system).ask(StopOne(one), timeout=10)

        assert ["+a", "+b", "-a"] == troupe.since()
        assert {"": "running", "/pool": "running", "/pool/2": "running"} == states(system)
        assert Shutdown() == await one.stopped()
        assert two.is_alive


async def test_a_child_whose_name_has_a_slash_can_be_stopped(autojump_clock: trio.abc.Clock) -> None:
    """Names are the user's: `eu/west/1` is one name."""
    troupe = Troupe()

    async with system_of(members(troupe)) as system:
        ref = spawn(pool_of(system), "a", name="eu/west/1")
        await pool_of(system).ask(StopOne(ref), timeout=1)

        assert ["+a", "-a"] == troupe.since()


async def test_a_name_that_is_taken_again_at_once_is_another_child(autojump_clock: trio.abc.Clock) -> None:
    """The name that a stop frees may be taken before whoever asked for the stop is told: that child is not forgotten."""
    troupe = Troupe()

    class Slow(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(1)
            super().on_stop()

    def hand_on(message: object, _why: object) -> None:
        spawn(pool, message, name="x")

    async with system_of(members(troupe, Slow, mail=Mail(on_undelivered=hand_on))) as system:
        pool = pool_of(system)
        ref = spawn(pool, "old", name="x")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: pool.ask(StopOne(ref), timeout=10))
            await settle()
            ref._cell.mailbox.put("new")  # it came too late for the old one
        await settle()

        assert ["+old", "-old", "+new"] == troupe.since()
        with pytest.raises(DuplicateChild):
            spawn(pool, "another", name="x")

    assert ["-new"] == troupe.since()


async def test_a_child_of_another_is_not_stopped(autojump_clock: trio.abc.Clock) -> None:
    """A pool stops its own children only, not one that had the name before."""
    troupe = Troupe()
    sentence = r"supervisor /pool has no child /pool/x \(1 others\): ask the one that started it"

    async with system_of(members(troupe), troupe.child("stranger")) as system:
        pool = pool_of(system)
        former = spawn(pool, "a", name="x")
        former.tell(Normal())
        await former.stopped()
        spawn(pool, "b", name="x")
        stranger = system.whereis("/stranger")
        assert stranger is not None
        troupe.since()

        with pytest.raises(NotMyChild, match=sentence):
            await pool.ask(StopOne(former), timeout=1)
        with pytest.raises(NotMyChild, match="/stranger"):
            await pool.ask(StopOne(stranger), timeout=1)
        assert [] == troupe.since()


async def test_a_child_that_ignores_everything_becomes_a_zombie(autojump_clock: trio.abc.Clock) -> None:
    """It is reported and its place in the pool is free; its name is not, until it ends."""
    troupe = Troupe()
    release = trio.Event()

    class Stubborn(Plain):
        async def on_stop(self) -> None:
            with trio.move_on_after(1_000, shield=True):
                await release.wait()

    async with system_of(members(troupe, Stubborn, stop_budget_s=1, max_children=1)) as system:
        pool = pool_of(system)
        ref = spawn(pool, "a", name="x")
        began_s = trio.current_time()
        await pool.ask(StopOne(ref), timeout=math.inf)

        assert 1 + KILL_BUDGET_S == trio.current_time() - began_s
        assert ["/pool/x overran 1 s: None", "/pool/x zombie (1)"] == reported(system)
        with pytest.raises(NameTaken, match="/pool/x"):
            spawn(pool, "b", name="x")
        spawn(pool, "c", name="y")
        release.set()
        await ref.stopped()
        assert "/pool/x" not in states(system)


async def test_a_pool_with_a_zombie_stops_all_the_same(autojump_clock: trio.abc.Clock) -> None:
    """The others are stopped, the pool is down in time and starts anew; only the name of the zombie is not free."""
    troupe = Troupe()
    release = trio.Event()

    class Stubborn(Plain):
        async def on_stop(self) -> None:
            if self.name == "zombie":
                with trio.move_on_after(1_000, shield=True):
                    await release.wait()
            super().on_stop()

    async with system_of(members(troupe, Stubborn, stop_budget_s=1)) as system:
        pool = pool_of(system)
        zombie, other = spawn(pool, "zombie"), spawn(pool, "other")
        await system.stop_child("pool")
        assert ["+zombie", "+other", "-other"] == troupe.since()
        assert not other.is_alive
        await system.restart_child("pool")

        assert {"": "running", "/pool": "running", "/pool/1": "zombie"} == states(system)
        assert "/pool/2" == spawn(pool, "next").path
        release.set()
        await zombie.stopped()
        assert {"": "running", "/pool": "running", "/pool/2": "running"} == states(system)


class _Hello(Request[str]):
    pass


async def test_whoever_asks_a_child_that_is_gone_hears_how_it_ended(autojump_clock: trio.abc.Clock) -> None:
    """A child that was given up answers at once, with its last error."""
    troupe = Troupe()

    async with system_of(members(troupe, restart=Restart.TEMPORARY)) as system:
        ref = spawn(pool_of(system), "a")
        ref.tell(ValueError("boom"))
        await settle()

        with pytest.raises(ActorDown, match="crashed: ValueError: boom"):
            await ref.ask(_Hello(), timeout=60)


@pytest.mark.parametrize("name", ["", "x" * 201, 5])
async def test_a_child_of_a_pool_is_called_by_a_name(autojump_clock: trio.abc.Clock, name: str) -> None:
    """As any other child's, it has 1 to 200 characters; nothing is started under another."""
    async with ActorSystem(SupervisorSpec((ChildSpec("pool", lambda: Pool(PoolSpec(Actor))),))) as system:
        pool = system.whereis("/pool")
        assert pool is not None

        with pytest.raises(InvalidSpec, match="name must have 1 … 200 characters"):
            spawn(pool, name=name)

        assert ["", "/pool", "/scheduler"] == sorted(system.stage.registry)
