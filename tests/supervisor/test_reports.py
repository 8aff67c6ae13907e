"""What supervisors report, story by story: every kind, in order, with its facts, and nothing besides."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from callsheet.supervisor.child import KILL_BUDGET_S
from callsheet.supervisor.errors import ChildStartFailed
from callsheet.supervisor.pool import PoolSpec, spawn
from callsheet.supervisor.spec import Backoff, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Plain, Troupe, settle, story, tell

BOOM = ValueError("boom")
CRASHED = "crashed: ValueError: boom"


def spec(*children: ChildSpec, **fields: Any) -> SupervisorSpec:
    return SupervisorSpec(children, **fields)


class Shy(Plain):
    """Fails its second start."""

    def on_start(self) -> None:
        if self.cell.generation == 2:
            raise OSError("not yet")


async def test_a_quiet_life(autojump_clock: trio.abc.Clock) -> None:
    """Each start is progress, in start order, a supervisor after its children; a stop that goes well is no news."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"), subtree("inner", spec(troupe.child("x"))))) as system:
        pass

    assert ["/a started (1)", "/inner/x started (1)", "/inner started (1)"] == story(system)


async def test_a_crash_and_a_restart(autojump_clock: trio.abc.Clock) -> None:
    """The end, with what follows from it, comes before the next start."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a"))) as system:
        tell(system, "/a", BOOM)
        await settle()

        assert ["/a started (1)", f"/a ended (1) {CRASHED} → restarted", "/a started (2)"] == story(system)


async def test_ends_that_nobody_mends(autojump_clock: trio.abc.Clock) -> None:
    """A child that is left down was left: normally, or because it is temporary."""
    troupe = Troupe()
    children = [troupe.child("a", restart=Restart.TRANSIENT), troupe.child("b", restart=Restart.TEMPORARY)]

    async with ActorSystem(spec(*children)) as system:
        tell(system, "/a", "leave")
        await settle()
        tell(system, "/b", BOOM)
        await settle()

        assert ["/a ended (1) normal → left", f"/b ended (1) {CRASHED} → left"] == story(system)[2:]


async def test_a_group_that_is_restarted(autojump_clock: trio.abc.Clock) -> None:
    """One end is reported, that of the child that ended; its siblings were stopped as they should be, and start again."""
    troupe = Troupe()

    async with ActorSystem(spec(*map(troupe.child, "abc"), strategy=Strategy.ONE_FOR_ALL)) as system:
        tell(system, "/b", BOOM)
        await settle()

        assert [
            f"/b ended (1) {CRASHED} → restarted",
            "/a started (2)",
            "/b started (2)",
            "/c started (2)",
        ] == story(system)[3:]


async def test_a_restart_that_fails(autojump_clock: trio.abc.Clock) -> None:
    """A failed start is an end, too: first what it raised, then what follows."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", Shy))) as system:
        tell(system, "/a", BOOM)
        await settle()

        assert [
            f"/a ended (1) {CRASHED} → restarted",
            "/a could not start (2) OSError('not yet')",
            "/a ended (2) could not start: OSError: not yet → restarted",
            "/a started (3)",
        ] == story(system)[1:]


async def test_a_delayed_restart(autojump_clock: trio.abc.Clock) -> None:
    """After the end, how long it waits and which generation will start; for a group, the wait of the whole group."""
    troupe = Troupe()
    children = [troupe.child("a", backoff=Backoff(2, 2)), troupe.child("b", backoff=Backoff(9, 9))]

    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE)) as system:
        tell(system, "/b", BOOM)
        await trio.sleep(1)
        tell(system, "/a", BOOM)
        await trio.sleep(20)

        assert [
            f"/b ended (1) {CRASHED} → restarted_later",
            "/b delayed 9 s (2)",
            f"/a ended (1) {CRASHED} → restarted_later",
            "/a delayed 8 s (2)",
            "/a started (2)",
            "/b started (2)",
        ] == story(system)[2:]


async def test_a_start_at_boot_that_fails(autojump_clock: trio.abc.Clock) -> None:
    """What could not start, then the supervisors that could not start because of it, from the inside out."""
    troupe = Troupe()

    class Failing(Plain):
        def on_start(self) -> None:
            raise OSError("no")

    system = ActorSystem(spec(troupe.child("a"), subtree("inner", spec(troupe.child("x"), troupe.child("y", Failing)))))
    with pytest.raises(OSError, match="no"):
        async with system:
            pytest.fail("it never opens")

    cause = ChildStartFailed.__name__
    assert ["/a started (1)", "/inner/x started (1)", "/inner/y could not start (1) OSError('no')"] == story(system)[:3]
    assert [f"/inner could not start (1) {cause}"] == [each.partition("(path")[0] for each in story(system)[3:]]


async def test_a_start_that_somebody_asked_for_and_that_fails(autojump_clock: trio.abc.Clock) -> None:
    """Told to whoever asked, and reported: the others may want to know, too."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", Shy))) as system:
        await system.stop_child("a")
        with pytest.raises(ChildStartFailed):
            await system.restart_child("a")
        await system.restart_child("a")

        assert [
            "/a ended (1) shutdown (shutdown) → stopped",
            "/a could not start (2) OSError('not yet')",
            "/a started (3)",
        ] == story(system)[1:]


async def test_a_child_that_is_stopped_badly(autojump_clock: trio.abc.Clock) -> None:
    """A shutdown error: it overran its budget, or ended in another way; then that it was stopped, once, and how it ended."""
    troupe = Troupe()

    class Failing(Plain):
        def on_stop(self) -> None:
            raise OSError("no")

    class Late(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(60)

    async with ActorSystem(spec(troupe.child("a", Failing), troupe.child("b", Late, stop_budget_s=1))) as system:
        await system.stop_child("a")
        await system.stop_child("b")

        assert [
            "/a overran 5 s: crashed: OSError: no",
            "/a ended (1) crashed: OSError: no → stopped",
            "/b overran 1 s: None",
            "/b ended (1) killed (stop budget spent) → stopped",
        ] == story(system)[2:]


async def test_a_supervisor_that_gives_up_and_comes_back(autojump_clock: trio.abc.Clock) -> None:
    """The last end, that it gave up, and its own end with the chain; then its children, and it, are there again."""
    troupe = Troupe()
    inner = spec(troupe.child("x"), intensity=Intensity(1, 60))

    async with ActorSystem(spec(subtree("inner", inner))) as system:
        for _ in range(2):
            tell(system, "/inner/x", BOOM)
            await settle()

        lines = [each.partition(": supervisor")[0] for each in story(system)[2:]]
        assert [
            f"/inner/x ended (1) {CRASHED} → restarted",
            "/inner/x started (2)",
            f"/inner/x ended (2) {CRASHED} → gave_up",
            "/inner gave up IntensityExceeded",
            "/inner ended (1) crashed: IntensityExceeded",
            "/inner/x started (1)",
            "/inner started (2)",
        ] == lines
        assert story(system)[6].endswith(f"last: {CRASHED} → restarted")


async def test_a_root_that_gives_up(autojump_clock: trio.abc.Clock) -> None:
    """The last two words of a system: who ended once too often, and that the root gave up."""
    troupe = Troupe()
    system = ActorSystem(spec(troupe.child("a"), intensity=Intensity(0)))

    with pytest.raises(SystemGaveUp):
        async with system:
            tell(system, "/a", BOOM)
            await trio.sleep_forever()

    assert [f"/a ended (1) {CRASHED} → gave_up", "/ gave up IntensityExceeded"] == story(system)[1:]


async def test_a_child_that_is_parked_and_comes_back(autojump_clock: trio.abc.Clock) -> None:
    """The end that spent its budget, that it is parked, and nothing more until somebody restarts it."""
    troupe = Troupe()

    async with ActorSystem(spec(troupe.child("a", parks=True, intensity=Intensity(0)))) as system:
        tell(system, "/a", BOOM)
        await trio.sleep(60)
        assert [f"/a ended (1) {CRASHED} → parked", f"/a parked {CRASHED}"] == story(system)[1:]
        await system.restart_child("a")

        assert ["/a started (2)"] == story(system)[3:]


async def test_a_zombie_and_its_return(autojump_clock: trio.abc.Clock) -> None:
    """Late, left behind; when it ends at last, that is an end like any other, and it is restarted."""
    troupe = Troupe()
    release = trio.Event()

    class Deaf(Plain):
        async def on_stop(self) -> None:
            if self.cell.generation == 1:
                with trio.move_on_after(1_000, shield=True):
                    await release.wait()

    children = [troupe.child("a"), troupe.child("b", Deaf, stop_budget_s=1)]
    async with ActorSystem(spec(*children, strategy=Strategy.REST_FOR_ONE)) as system:
        tell(system, "/a", BOOM)
        await trio.sleep(1 + KILL_BUDGET_S + 1)
        release.set()
        await settle()

        assert [
            f"/a ended (1) {CRASHED} → restarted",
            "/b overran 1 s: None",
            "/b zombie (1)",
            "/a started (2)",
            "/b ended (1) killed (stop budget spent) → restarted",
            "/b started (2)",
        ] == story(system)[2:]


async def test_a_pool_reports_what_is_not_as_usual(autojump_clock: trio.abc.Clock) -> None:
    """Children that come and go are no news; crashes are, each by itself, and bad stops are counted together."""
    troupe = Troupe()

    class Late(Plain):
        async def on_stop(self) -> None:
            await trio.sleep(60 if self.name == "late" else 0)

    pool = PoolSpec(lambda name: Late(name, troupe.log), stop_budget_s=1, intensity=Intensity(1, 60))
    async with ActorSystem(spec(subtree("pool", pool))) as system:
        ref = system.whereis("/pool")
        assert ref is not None
        ordinary, crashing = spawn(ref, "ordinary"), spawn(ref, "crashing")
        spawn(ref, "late")
        spawn(ref, "late")
        ordinary._cell.leave()
        for _ in range(2):
            crashing.tell(BOOM)
            await settle()

    assert [
        "/pool started (1)",
        f"/pool/2 ended (1) {CRASHED} → restarted",
        f"/pool/2 ended (2) {CRASHED} → given_up",
        "/pool overran 1 s: None (2)",
    ] == story(system)


async def test_what_happens_is_logged_once(autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A crash is one warning with its traceback, a giving up one error: whoever reads the log reads each once."""
    troupe = Troupe()
    system = ActorSystem(spec(troupe.child("a"), intensity=Intensity(1, 60)))

    with caplog.at_level(logging.WARNING, "callsheet.supervisor"), pytest.raises(SystemGaveUp):
        async with system:
            for _ in range(2):
                tell(system, "/a", BOOM)
                await settle()
            await trio.sleep_forever()

    mine = [each for each in caplog.records if each.name == "callsheet.supervisor"]
    assert ["WARNING", "ERROR"] == [each.levelname for each in mine]
    assert [True, True] == [each.exc_info is not None for each in mine]
