"""
A tree that is cancelled, fails or is killed at every moment of its life: starting, restarting, stopping, being changed.

A moment is a step of trio's scheduler: what lies between two steps is one piece, and nothing can happen inside it. A story is
played once to count its steps; then once for each step, with a stroke right before it. A failure names story, stroke, step
and seed, and `play` repeats it.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Any, Final

import pytest
import trio
import trio.testing
from attrs import define, field, frozen

from callsheet.actors.cell import Cell
from callsheet.actors.errors import ActorError
from callsheet.actors.ref import Ref
from callsheet.actors.states import CellState
from callsheet.supervisor.errors import ChildStartFailed
from callsheet.supervisor.pool import PoolSpec, StopOne, spawn
from callsheet.supervisor.requests import RemoveChild, ReplaceChild, RestartChild, StartChild, StopChild
from callsheet.supervisor.spec import Backoff, Restart, Strategy, SupervisorSpec
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .players import FAILED, GONE, STARTING, STOPPING, TOLD, UP, Line, Part
from .witness import Witness, end_it, tasks

LIMIT_S: Final = 10_000.0
"""Virtual seconds after which a story that has not ended never will."""


ROOT: Final = 1
"""The first life of all."""


class Stroke(StrEnum):
    """What befalls a story."""

    NOTHING = "nothing"
    CANCEL = "the host is cancelled"
    ERROR = "the body raises an error"
    CTRL_C = "the body raises a KeyboardInterrupt"
    KILL_ROOT = "the root is killed"
    KILL_INNER = "a supervisor below it is killed"


class Bang(Exception):
    """What the body raises."""


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and makes one call before the n-th."""

    def __init__(self, n: int, call: Callable[[], object]) -> None:
        self.taken, self.n, self.call = 0, n, call

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += 1
        if self.taken == self.n:
            self.call()


@frozen
class Story:
    """A tree, and what is done with it once it is up."""

    spec: Callable[[Witness], SupervisorSpec]
    act: Callable[[ActorSystem, Witness], Awaitable[object]]


@define(eq=False)
class Play:
    """One performance of a story, and what came out of it."""

    story: Story
    stroke: Stroke
    witness: Witness = field(factory=Witness)
    system: ActorSystem = field(init=False)
    host: trio.CancelScope = field(factory=trio.CancelScope)
    body: trio.CancelScope = field(factory=trio.CancelScope)
    struck: bool = False
    late: bool = False
    """It was struck when the tree had ended already."""
    thrown: BaseException | None = None
    """By the body."""
    raised: BaseException | None = None
    """Out of the system."""
    steps: int = 0
    faults: list[str] = field(factory=list)

    async def run(self, n: int) -> None:
        before = set(tasks())
        self.system = self.witness.open(self.story.spec(self.witness))
        steps = Steps(n, self.strike)
        async with trio.open_nursery() as around:
            around.start_soon(end_it, LIMIT_S, self.faults)
            async with trio.open_nursery() as waiters:
                trio.lowlevel.add_instrument(steps)
                try:
                    with self.host:
                        await self._open(waiters)
                except (Bang, KeyboardInterrupt, SystemGaveUp, ChildStartFailed) as error:
                    self.raised = error
                finally:
                    trio.lowlevel.remove_instrument(steps)
            around.cancel_scope.cancel()
        self.steps = steps.taken
        self.faults += [f"{task.name} was left" for task in tasks() if task not in before]
        self.faults += [f"{path or '/'} is registered" for path in self.system.stage.registry]
        self.faults += self.witness.broken()
        self.faults += self._outside()

    async def _open(self, waiters: trio.Nursery) -> None:
        async with self.system as system:
            waiters.start_soon(system.root.stopped)
            with self.body, suppress(ActorError):  # what it asks for may be gone
                await self.story.act(system, self.witness)
            if self.struck and self.stroke in (Stroke.ERROR, Stroke.CTRL_C):
                self.thrown = Bang() if self.stroke is Stroke.ERROR else KeyboardInterrupt()
                raise self.thrown

    def strike(self) -> None:
        """Do it, now."""
        self.struck = True
        root = getattr(self.system, "_root", None)
        self.late = root is not None and root.state is CellState.ENDED
        match self.stroke:
            case Stroke.NOTHING:
                pass
            case Stroke.CANCEL:
                self.host.cancel()
            case Stroke.ERROR | Stroke.CTRL_C:
                self.body.cancel()
            case Stroke.KILL_ROOT:
                self._kill("")
            case Stroke.KILL_INNER:
                self.witness.apart.add("/inner")
                self._kill("/inner")

    def _kill(self, path: str) -> None:
        stage = getattr(self.system, "stage", None)
        cell: Cell[Any] | None = stage.registry.get(path) if stage is not None else None
        if cell is not None:
            cell.kill()

    def _outside(self) -> Iterator[str]:
        """What whoever opened the system got to see."""
        if self.stroke is Stroke.CANCEL and self.struck and not self.late and not self.host.cancelled_caught:
            yield "the host did not see its own cancellation"
        expected: type[BaseException] | None = type(self.thrown) if self.thrown is not None else None
        if self.stroke is Stroke.KILL_ROOT and ROOT in self.witness.killed:
            expected = SystemGaveUp
        if self.stroke is Stroke.KILL_INNER and ROOT in self.witness.failed:
            expected = ChildStartFailed
        if type(self.raised) is not (expected or type(None)) or (
            self.thrown is not None and self.raised is not self.thrown
        ):
            yield f"out came {self.raised!r}, not {expected}"


def play(story: Story, stroke: Stroke = Stroke.NOTHING, n: int = 0, seed: int = 1) -> Play:
    """Play it once, struck before step `n`; `seed` decides in which order tasks take their turns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio._core._run._r", random.Random(seed))
        performance = Play(story, stroke)
        trio.run(performance.run, n, clock=trio.testing.MockClock(autojump_threshold=0))
    return performance


# ---------------------------------------------------------------- the stories


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def tell(system: ActorSystem, witness: Witness, path: str, what: str) -> None:
    """Tell whoever has this path; to nobody, if nobody has."""
    ref = system.whereis(path)
    if ref is not None:
        n = len(witness.sent) + 1
        witness.sent.add(n)
        ref.tell(Line(n, what))


SLOW: Final = Part(start_s=1, stop_s=1, work_s=0.25)
"""It takes its time."""
OVERDUE: Final = Part(stop_s=20)
"""It takes more time to stop than it is given."""


def family(witness: Witness, **fields: Any) -> SupervisorSpec:
    """Three levels, slow and quick children, with and without a task; what matters happens below `/inner`."""
    backoff, strategy = fields.pop("backoff", None), fields.pop("strategy", Strategy.ONE_FOR_ONE)
    children = (
        witness.child("a", SLOW, backoff=backoff),
        witness.child("b", Part(plain=True), backoff=backoff),
        witness.child("t", Part(), restart=Restart.TEMPORARY),
        witness.supervisor("deep", SupervisorSpec((witness.child("d"),)), backoff=backoff),
        witness.child("c", Part(fails=frozenset({2})), backoff=backoff),
    )
    inner = SupervisorSpec(children, strategy)
    outer = (witness.child("x", SLOW), witness.supervisor("inner", inner), witness.child("z", Part(plain=True)))
    return SupervisorSpec(outer, **fields)


def stubborn(witness: Witness) -> SupervisorSpec:
    """Children that must be killed, and one that ignores even that for a while."""
    inner = SupervisorSpec(
        (
            witness.child("a", OVERDUE, stop_budget_s=2),
            witness.child("b", Part(stop_s=20, deaf_s=8), stop_budget_s=1),
            witness.child("c", SLOW),
            witness.child("d", Part(stop_s=1), stop_budget_s=0),
        )
    )
    return SupervisorSpec((witness.supervisor("inner", inner), witness.child("z", SLOW)))


async def look(system: ActorSystem, witness: Witness) -> None:
    """Do nothing but see that messages arrive."""
    for path in list(system.stage.registry):
        if system.stage.registry[path].kind == "actor":
            tell(system, witness, path, "say")
    await trio.sleep(1)


async def crash(system: ActorSystem, witness: Witness, *paths: str) -> None:
    """Crash these, one after the other, with messages before and after; and wait until everything has come up again."""
    for path in paths:
        for what in ("say", "crash", "say"):
            tell(system, witness, path, what)
        await trio.sleep(0.5)
    await trio.sleep(30)


def pool(witness: Witness) -> SupervisorSpec:
    """Fifty children to be, of four kinds."""
    inner = PoolSpec(partial(_member, witness), stop_budget_s=3, backoff=Backoff(1, 2))
    return SupervisorSpec((witness.child("x", SLOW), witness.pool("inner", inner), witness.child("z")))


def _member(witness: Witness, n: int) -> Any:
    return witness.maker((Part(), Part(plain=True), SLOW, Part(fails=frozenset({2})))[n % 4])()


async def use_pool(system: ActorSystem, witness: Witness) -> None:
    """Start fifty, crash some, stop one, and start another of its name."""
    ref = system.whereis("/inner")
    if ref is None:
        return
    members = [spawn(ref, n, name=str(n)) for n in range(50)]
    await settle()
    for n in (1, 2, 3, 4, 40):
        tell(system, witness, f"/inner/{n}", "crash")
    await settle()
    await ref.ask(StopOne(child=members[8]), timeout=60)
    spawn(ref, 8, name="8")
    await trio.sleep(0.5)


async def change(system: ActorSystem, witness: Witness) -> None:
    """Start, replace, stop, restart and remove children while the tree runs."""
    inner: Ref[Any] = system.root
    found = system.whereis("/inner")
    if found is not None:
        inner = found
    for request in (
        StartChild(witness.child("new", SLOW)),
        ReplaceChild(witness.child("new", Part(plain=True))),
        ReplaceChild(witness.child("a", SLOW)),
        ReplaceChild(witness.child("bad", Part(start_s=1, fails=frozenset({1})))),
        StopChild("b"),
        RestartChild("b"),
        StopChild("new"),
        RemoveChild("new"),
        StartChild(witness.child("late", Part(start_s=9), start_budget_s=2)),
        StartChild(witness.supervisor("more", SupervisorSpec((witness.child("m", SLOW), witness.child("n"))))),
    ):
        with suppress(ActorError):
            await inner.ask(request, timeout=60)
    tell(system, witness, "/inner/more/m", "crash")
    await settle()


BACKOFF: Final = Backoff(1, 4)


def crashing(strategy: Strategy, backoff: Backoff | None) -> Story:
    """Restarts of one child, of a group with one that cannot start at once, and two levels below."""
    spec = partial(family, strategy=strategy, backoff=backoff)
    return Story(spec, lambda system, witness: crash(system, witness, "/inner/b", "/inner/c", "/inner/deep/d"))


STORIES: Final = {
    "start and stop": Story(family, look),
    "stubborn children": Story(stubborn, look),
    "a pool of fifty": Story(pool, use_pool),
    "changes": Story(family, change),
    **{
        f"{strategy}{' with backoff' if backoff else ''}": crashing(strategy, backoff)
        for strategy in Strategy
        for backoff in (None, BACKOFF)
    },
}
OTHERS: Final = (Stroke.ERROR, Stroke.CTRL_C, Stroke.KILL_ROOT, Stroke.KILL_INNER)


def sweep(story: Story, stroke: Stroke, *, every: int = 1, seed: int = 1) -> dict[int, list[str]]:
    """What went wrong, by the step before which it was struck; every so many steps, from one that the seed decides."""
    quiet = play(story, seed=seed)
    assert [] == quiet.faults, "it goes wrong by itself"
    faults = {n: play(story, stroke, n, seed).faults for n in range(1 + seed % every, quiet.steps + 1, every)}
    return {n: each for n, each in faults.items() if each}


@pytest.fixture(autouse=True)
def _quietly() -> Iterator[None]:
    """Thousands of crashes are on purpose: nobody reads their tracebacks, and they take longer than all the rest."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("story", STORIES)
def test_a_host_that_is_cancelled_at_any_moment_leaves_nothing(story: str) -> None:
    """No task, no name, no start without its stop; the order is kept, and the cancellation comes out."""
    assert {} == sweep(STORIES[story], Stroke.CANCEL, every=3)


@pytest.mark.parametrize("stroke", OTHERS)
@pytest.mark.parametrize("story", STORIES)
def test_a_body_that_fails_or_a_supervisor_that_is_killed_leaves_nothing(story: str, stroke: Stroke) -> None:
    """The same; what the body raised comes out as it was, and a killed root is a system that gave up."""
    assert {} == sweep(STORIES[story], stroke, every=12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 22))
@pytest.mark.parametrize("stroke", [Stroke.CANCEL, *OTHERS])
@pytest.mark.parametrize("story", STORIES)
def test_at_every_moment_and_in_many_orders(story: str, stroke: Stroke, seed: int) -> None:
    """Whichever way the tasks take turns, and whatever strikes at whichever step."""
    assert {} == sweep(STORIES[story], stroke, seed=seed)


def test_a_sweep_sees_every_part_of_a_life() -> None:
    """The stories are what they claim to be: their steps lie before, in and after each start, restart and stop."""
    quiet = play(STORIES["one_for_all with backoff"])
    counts = Counter(each.what for each in quiet.witness.moments)
    pool_of_fifty = play(STORIES["a pool of fifty"])

    # ten at first; then five but c, that cannot; then all five; and again when c, that was told to meanwhile, crashes
    assert {STARTING: 25, UP: 24, FAILED: 1, TOLD: 6, STOPPING: 24, GONE: 24} == counts
    assert 50 == len({each.path for each in pool_of_fifty.witness.moments if each.path.startswith("/inner/")})
