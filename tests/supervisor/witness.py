"""
A witness who writes down what became of every incarnation and every message of a system.

Rule: what must hold of any history, whatever happened in it, is checked here from the written record alone: `Witness.broken`
names each thing that does not hold. What should have happened in one story is the business of its test.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import trio
from attrs import define, evolve, field, frozen

from callsheet.actors.actor import Actor
from callsheet.actors.cell import Cell
from callsheet.actors.events import BecameZombie, Ended, Report, Then
from callsheet.actors.undelivered import Undelivered, Why
from callsheet.actors.watch import Down, Restarted
from callsheet.supervisor.child import Child
from callsheet.supervisor.pool import Pool, PoolSpec
from callsheet.supervisor.spec import ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem

from .players import (
    FAILED,
    GONE,
    STARTING,
    STOPPING,
    TOLD,
    UP,
    Line,
    Part,
    Plain,
    Player,
    Watch,
    WatchedPool,
    WatchedSupervisor,
)

ORDINARY: Final = Part()
AGAIN: Final = (Then.RESTARTED, Then.RESTARTED_LATER)
GIVEN_UP: Final = (Then.PARKED, Then.GAVE_UP, Then.GIVEN_UP)


@frozen(eq=False)
class Moment:
    """One step in the life of an incarnation; `life` tells it from all others."""

    at_s: float
    what: str
    path: str
    life: int
    names: tuple[str, ...] = ()
    """Of a supervisor that stops: its children, in start order."""


Budget: TypeAlias = tuple[str, str]
"""Whose: "shared" or "own", and the path of the supervisor or the child."""


@frozen(eq=False)
class Judged:
    """An end that a supervisor judged, and the budgets that a restart of it is taken from."""

    at_s: float
    ended: Ended
    budgets: tuple[tuple[Budget, Intensity], ...]


@frozen(eq=False)
class Renewed:
    """These budgets are whole again."""

    is_whole: Callable[[Budget], bool]


class Recording(Undelivered):
    """Remembers every message, not only how many."""

    witness: Witness

    def count(self, path: str, message: object, why: Why) -> None:
        super().count(path, message, why)
        if isinstance(message, Line):
            self.witness.undelivered[message.n] += 1
        elif why is not Why.LATE_REPLY and not isinstance(message, Watch | Down | Restarted):
            self.witness.strays.append(f"counted as undelivered: {type(message).__name__} to {path or '/'}: {why}")


@define(eq=False)
class Witness:
    """Whatever happens in one system, in order."""

    moments: list[Moment] = field(factory=list)
    verdicts: list[Judged | Renewed] = field(factory=list)
    judged: set[tuple[Cell[Any], int]] = field(factory=set)
    left: set[str] = field(factory=set)
    """Paths that had a zombie."""
    sent: set[int] = field(factory=set)
    """Lines that were taken."""
    handled: Counter[int] = field(factory=Counter)
    undelivered: Counter[int] = field(factory=Counter)
    strays: list[str] = field(factory=list)
    """What happened and never should have: runtime's own messages that count as undelivered, ends that are no ends."""
    apart: set[str] = field(factory=set)
    """Paths that somebody from outside ends, whenever he likes."""
    killed: set[int] = field(factory=set)
    """Lives that were cancelled."""
    willing: set[int] = field(factory=set)
    """Lives that ended by themselves, whatever their supervisor did meanwhile."""
    failed: set[int] = field(factory=set)
    """Lives that did not get through their start."""
    pools: set[str] = field(factory=set)
    _lives: int = field(default=0, init=False)

    def open(self, spec: SupervisorSpec) -> ActorSystem:
        """A system under this witness's eyes."""

        def prepare(system: ActorSystem) -> None:
            stage, root = system.stage, system._root
            stage.undelivered = Recording(stage.undelivered.now_s)
            stage.undelivered.witness = self
            stage.reports.listen(lambda report: self.hear(report, stage.registry))
            make = root.factory
            root.factory = lambda: WatchedSupervisor(self, make().spec)  # type: ignore[attr-defined]  # it makes a Supervisor

        return ActorSystem(spec, prepare=prepare)

    def hear(self, report: Report, registry: dict[str, Cell[Any]]) -> None:
        """Note what a supervisor did about an end."""
        if isinstance(report, BecameZombie):
            self.left.add(report.path)
        elif isinstance(report, Ended):
            cell = registry[report.path]
            if report.then is not Then.STOPPED and (cell.is_alive or (cell, report.generation) in self.judged):
                self.strays.append(f"the end of {report.path}, generation {report.generation}, that had not come")
            self.judged.add((cell, report.generation))
            self.verdicts.append(Judged(trio.current_time(), report, tuple(_budgets_of(cell))))

    def renew(self, is_whole: Callable[[Budget], bool]) -> None:
        """Note that budgets are whole again."""
        self.verdicts.append(Renewed(is_whole))

    def note(self, what: str, actor: Actor[Any], life: int, names: tuple[str, ...] = ()) -> None:
        """Write a step down."""
        path = actor.cell.path
        if what == STARTING:
            self.renew(lambda budget: budget == ("shared", path) or budget[1].startswith(f"{path}/"))
            if actor.cell.generation == 1:
                self.renew(lambda budget: budget == ("own", path))
        if actor.cell._leaving is not None:
            self.willing.add(life)
        if what in (FAILED, GONE) and actor.cell._killed:
            self.killed.add(life)
        if what == FAILED:
            self.failed.add(life)
        self.moments.append(Moment(trio.current_time(), what, path, life, names))

    def life(self) -> int:
        """A number for a new incarnation."""
        self._lives += 1
        return self._lives

    # -- whom it watches

    def child(self, name: str, part: Part = ORDINARY, **fields: Any) -> ChildSpec:
        """A child that plays `part`."""
        return ChildSpec(name, self.maker(part), **fields)

    def maker(self, part: Part = ORDINARY) -> Callable[[], Actor[Any]]:
        """Makes incarnations that play `part`."""
        kind = Plain if part.plain else Player
        return lambda: kind(self, part)

    def supervisor(self, name: str, spec: SupervisorSpec, **fields: Any) -> ChildSpec:
        """A supervisor as a child."""
        return evolve(subtree(name, spec, **fields), make=lambda: WatchedSupervisor(self, spec))

    def pool(self, name: str, spec: PoolSpec, **fields: Any) -> ChildSpec:
        """A pool as a child."""
        return evolve(subtree(name, spec, **fields), make=lambda: WatchedPool(self, spec))

    # -- what must hold of any history

    def broken(self) -> list[str]:
        """Every promise that this history breaks, as sentences."""
        return [
            *self._lives_apart(),
            *self._one_after_the_other(),
            *self._in_reverse(),
            *self._within_budgets(),
            *self._all_mail(),
        ]

    def _lives_apart(self) -> Iterator[str]:
        """One incarnation of a path at a time, each inside a life of its parent's; what has started is stopped, once."""
        alive: dict[str, int] = {}
        stopping: set[str] = set()
        steps: defaultdict[int, list[str]] = defaultdict(list)
        for each in self.moments:
            if each.what != TOLD:
                steps[each.life].append(each.what)
            if each.what == STARTING:
                if each.path in alive:
                    yield f"{each.path}: incarnation {each.life} began while {alive[each.path]} lived"
                parent = _parent(each.path)
                if each.path and (parent not in alive or parent in stopping):
                    yield f"{each.path} began when its parent had begun to stop"
                alive[each.path] = each.life
            elif each.what in (TOLD, STOPPING):
                stopping.add(each.path)
            elif each.what in (FAILED, GONE):
                alive.pop(each.path, None)
                stopping.discard(each.path)
                outlived = [path for path in alive if path.startswith(f"{each.path}/") and path not in self.left]
                yield from (f"{path} outlived {each.path or '/'}" for path in outlived)
        yield from (f"{path}: incarnation {life} never ended" for path, life in alive.items())
        for life, whats in steps.items():
            if tuple(whats) not in ((STARTING, FAILED), (STARTING, UP, STOPPING, GONE)):
                yield f"incarnation {life} went through {whats}"

    def _one_after_the_other(self) -> Iterator[str]:
        """A supervisor starts a child when the one before it has started."""
        starting: dict[str, str] = {}
        for each in self.moments:
            parent = _parent(each.path)
            if parent in self.pools or not each.path:
                continue
            if each.what == STARTING:
                if parent in starting and starting[parent] not in self.left:
                    yield f"{each.path} began to start while {starting[parent]} was starting"
                starting[parent] = each.path
            elif each.what in (UP, FAILED) and starting.get(parent) == each.path:
                del starting[parent]

    def _in_reverse(self) -> Iterator[str]:
        """A supervisor that stops, and was not killed, stops its children from right to left, one at a time."""
        ends = {each.life: n for n, each in enumerate(self.moments) if each.what == GONE}
        for first, stopping in enumerate(self.moments):
            if not stopping.names or stopping.life in self.killed or stopping.life not in ends:
                continue
            place = {f"{stopping.path}/{name}": n for n, name in enumerate(stopping.names)}
            least = len(place)
            for each in self.moments[first : ends[stopping.life]]:
                at = place.get(each.path)
                if at is None or each.what not in (STOPPING, GONE, FAILED):
                    continue
                if each.path in self.left | self.apart or each.life in self.willing:
                    continue
                if each.what == FAILED and each.life in self.killed:  # perhaps it took too long to start
                    continue
                if at > least:
                    yield f"{each.path} was {each.what} after {stopping.names[least]}, which was started before it"
                least = min(least, at)

    def _within_budgets(self) -> Iterator[str]:
        """No more restarts within a period than allowed; giving up and parking exactly when it would be one more."""
        spent: defaultdict[Budget, list[float]] = defaultdict(list)
        for each in self.verdicts:
            if isinstance(each, Renewed):
                for budget in [budget for budget in spent if each.is_whole(budget)]:
                    del spent[budget]
                continue
            path, then, at_s = each.ended.path, each.ended.then, each.at_s
            rooms: list[int] = []
            for budget, limit in each.budgets:
                recent = [time_s for time_s in spent[budget] if time_s >= at_s - limit.period_s]
                rooms.append(limit.restarts - len(recent))
                if then in AGAIN:
                    spent[budget].append(at_s)
            if then in AGAIN and min(rooms, default=1) < 1:
                yield f"{path} was {then} at {at_s} with {rooms} left of {each.budgets}"
            if then in GIVEN_UP and min(rooms, default=1) != 0:
                yield f"{path} was {then} at {at_s} with {rooms} left of {each.budgets}"

    def _all_mail(self) -> Iterator[str]:
        """Every message was handled or counted as undelivered, once; and nothing else was counted."""
        for n in sorted(self.sent):
            if self.handled[n] + self.undelivered[n] != 1:
                yield f"message {n} was handled {self.handled[n]} times, and counted {self.undelivered[n]} times"
        yield from self.strays


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _budgets_of(cell: Cell[Any]) -> Iterator[tuple[Budget, Intensity]]:
    parent: Any = cell.parent
    if isinstance(parent, Pool):
        yield ("own", cell.path), parent.spec.intensity
        if parent.spec.of_all is not None:
            yield ("shared", parent.cell.path), parent.spec.of_all
        return
    child: Child = parent.children[cell.name]
    if child.spec.intensity is not None or child.spec.parks or parent.spec.parks:
        yield ("own", cell.path), child.spec.intensity or parent.spec.intensity
    else:
        yield ("shared", parent.cell.path), parent.spec.intensity


# ---------------------------------------------------------------- around them


def tasks() -> Iterator[trio.lowlevel.Task]:
    """All tasks of this run."""
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [each for nursery in task.child_nurseries for each in nursery.child_tasks]


async def end_it(after_s: float, faults: list[str]) -> None:
    """Break every shield of a story that does not end by itself, so that it fails instead of holding the tests up."""
    await trio.sleep(after_s)
    for task in tasks():
        faults.append(f"{task.name} never ended")
        status: Any = task._cancel_status
        while status is not None:
            status._scope.shield = False
            status = status._parent
    raise AssertionError(faults)
