"""
A reference model of supervision: a tree as plain data, and what follows from each thing that is done to it.

Rule: written from the words of the contract (OTP's supervisor, and the delays, budgets and parks that are added to it), not
from the code: no task, no clock, nothing of the package but the words of a spec. It knows one thing at a time: a supervisor
that is ended while it is busy raises `Overlap`, and what the outcome must be is then for the history alone to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from attrs import define, field, frozen

from callsheet.supervisor.spec import AutoShutdown, Backoff, Intensity, Restart, Strategy

from .players import Line, Part, Question, briefly

UP: Final = "up"
WAITING: Final = "waiting"
PARKED: Final = "parked"
STOPPED: Final = "stopped"


class Overlap(Exception):
    """Two things happen at once, and the model cannot tell in which order."""


@frozen(repr=False)
class Role:
    """What a child is: an actor, a supervisor (it has children, or none), or a pool of actors."""

    name: str
    part: Part = field(factory=Part)
    restart: Restart = Restart.PERMANENT
    stop_budget_s: float = 5.0
    start_budget_s: float = 30.0
    intensity: Intensity | None = None
    parks: bool = False
    backoff: Backoff | None = None
    significant: bool = False
    apart: bool = False
    kind: str = "actor"
    children: tuple[Role, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    limit: Intensity = field(factory=Intensity)
    """Of a supervisor for its children, of a pool for each of its members."""
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    child_parks: bool = False
    """Of a supervisor: whether each of its children parks."""

    def __repr__(self) -> str:
        return briefly(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would spell every field out


@define(eq=False)
class Node:
    """One logical actor."""

    role: Role
    path: str
    above: Node | None
    state: str = UP
    alive: bool = False
    generation: int = 0
    started_s: float = -math.inf
    restarts_s: list[float] = field(factory=list)
    step: int = 0
    due_s: float = math.inf
    mail: list[Any] = field(factory=list)
    monitors: int = 0
    dying: bool = False
    """It ends by itself, and that takes a while."""
    gone: bool = False
    """It has ended for good."""
    # of a supervisor or pool
    children: dict[str, Node] = field(factory=dict)
    shared_s: list[float] = field(factory=list)
    free_s: float = -math.inf
    """Until then it is busy."""
    ending: str | None = None
    """How it ends by itself: "gave up" or "normal"."""

    def all(self) -> Iterator[Node]:
        """It, and everybody below."""
        yield self
        for each in self.children.values():
            yield from each.all()

    @property
    def shown(self) -> tuple[str, bool, int]:
        """What can be compared with the real one."""
        return (self.state, self.alive, self.generation)


@frozen(eq=False)
class End:
    """A child has ended by itself, and its supervisor is told."""

    at_s: float
    node: Node
    generation: int
    abnormal: bool


@define(eq=False)
class Model:
    """A tree that is up from `now_s` on."""

    role: Role
    now_s: float
    root: Node = field(init=False)
    ends: list[End] = field(factory=list)
    handled: list[int] = field(factory=list)
    undelivered: list[int] = field(factory=list)
    answers: dict[int, str] = field(factory=dict)
    news: list[tuple[str, str]] = field(factory=list)
    """What monitors tell."""
    over: str | None = None
    """How the root ended."""

    def __attrs_post_init__(self) -> None:
        self.root = Node(self.role, "", None)
        self.now_s, up = self._start(self.root, self.now_s)
        assert up, "a story begins with a tree that is up"

    # -- what is done to it

    def find(self, path: str) -> Node | None:
        """Whoever has this path."""
        return next((each for each in self.root.all() if each.path == path), None)

    def tell(self, node: Node, message: Any) -> None:
        """Put it into the mailbox."""
        node.mail.append(message)
        if node.state in (STOPPED, PARKED):
            self._shelve(node, node.state)
        if node.alive and not node.dying and node.role.kind == "actor":
            self._read(node, self.now_s)
        self._settle()

    def advance(self, by_s: float) -> None:
        """Let time pass."""
        self._settle(self.now_s + by_s)

    def start_child(self, above: Node, role: Role) -> str:
        """See `StartChild`; how it was answered."""
        if role.name in above.children:
            return "DuplicateChild"
        return self._answered(above, self._start_more(above, role, self.now_s))

    def stop_child(self, above: Node, name: str) -> str:
        """See `StopChild`."""
        node, at_s = above.children[name], self.now_s
        if node.state not in (STOPPED, PARKED):
            at_s = self._stop(node, at_s)
            self._shelve(node, STOPPED)
            if node.role.restart is Restart.TEMPORARY:
                self._forget(node)
        return self._answered(above, (at_s, True))

    def restart_child(self, above: Node, name: str) -> str:
        """See `RestartChild`."""
        node = above.children[name]
        if node.state == UP or node.alive:
            return "ChildIsUp"
        node.restarts_s, node.step = [], 0
        at_s, up = self._start(node, self.now_s)
        if not up:
            self._shelve(node, STOPPED)
        return self._answered(above, (at_s, up))

    def remove_child(self, above: Node, name: str) -> str:
        """See `RemoveChild`."""
        if above.children[name].state == UP:
            return "ChildIsUp"
        self._forget(above.children[name])
        return self._answered(above, (self.now_s, True))

    def replace_child(self, above: Node, role: Role) -> str:
        """See `ReplaceChild`."""
        order, at_s = list(above.children), self.now_s
        former = above.children.get(role.name)
        if former is not None:
            at_s = self._stop(former, at_s)
            self._forget(former)
        done = self._start_more(above, role, at_s)
        if former is not None and role.name in above.children:
            above.children = {name: above.children[name] for name in order}
        return self._answered(above, done)

    def spawn(self, pool: Node, name: str) -> None:
        """Start a member of a pool."""
        node = pool.children[name] = Node(_member(pool, name), f"{pool.path}/{name}", pool)
        if not self._start(node, self.now_s)[1]:
            self._forget(node)
        self._settle()

    def stop_one(self, pool: Node, name: str) -> None:
        """See `StopOne`."""
        node = pool.children[name]
        self._settle(self._stop(node, self.now_s), before=lambda: self._forget(node))

    # -- what follows, in the order of time

    def _answered(self, above: Node, done: tuple[float, bool]) -> str:
        above.free_s = done[0]
        self._settle()
        return "done" if done[1] else "ChildStartFailed"

    def _settle(self, until_s: float = -math.inf, before: Callable[[], object] | None = None) -> None:
        """Let everything happen that is under way, or due by `until_s`."""
        while True:
            busy_s = max((each.free_s for each in self.root.all() if each.alive), default=-math.inf)
            until_s = max(until_s, self.now_s, busy_s, *(end.at_s for end in self.ends))
            happens = [each for each in self._next() if each[0] <= until_s]
            if self.over is not None or not happens:
                break
            at_s, busy, act = min(happens, key=lambda each: each[0])
            if busy.role.kind != "pool" and sum(each[0] == at_s and each[1] is busy for each in happens) > 1:
                raise Overlap
            act(at_s)
        self.now_s = until_s
        if before is not None:
            before()

    def _next(self) -> Iterator[tuple[float, Node, Callable[[float], object]]]:
        """What will happen: when, to whom, and how."""
        for end in self.ends:
            above = end.node.above or end.node
            yield max(end.at_s, above.free_s), above, partial(self._end, end)
        for node in self.root.all():
            dues = [each.due_s for each in node.children.values() if each.state == WAITING]
            if dues and node.alive and node.ending is None:
                yield max(min(dues), node.free_s), node, partial(self._due, node)

    def _end(self, end: End, at_s: float) -> None:
        self.ends.remove(end)
        node, above = end.node, end.node.above
        node.dying = node.alive = False
        if above is None:
            self.over = "gave up" if end.abnormal else "ended"
            self._forget(node)
        elif above.children.get(node.role.name) is node and node.state == UP and node.generation == end.generation:
            judge = self._judge_member if above.role.kind == "pool" else self._judge
            self._done(above, judge(above, node, at_s, abnormal=end.abnormal)[0])

    def _due(self, node: Node, at_s: float) -> None:
        due = [each for each in node.children.values() if each.state == WAITING and each.due_s <= at_s]
        if node.role.kind == "pool":
            for each in due:
                if not self._start(each, at_s)[1]:
                    self.ends.append(End(at_s, each, each.generation, True))
            return
        self._done(node, self._restart(node, due, at_s))

    def _done(self, node: Node, at_s: float) -> None:
        """A supervisor has done what it had to; if that was to end, it does."""
        node.free_s = at_s
        if node.ending is not None:
            at_s = self._stop_children(node, at_s)
            node.dying = True
            self.ends.append(End(at_s, node, node.generation, node.ending == "gave up"))

    # -- one supervisor

    def _judge(
        self, above: Node, node: Node, at_s: float, *, abnormal: bool, again: bool = False
    ) -> tuple[float, list[Node]]:
        """What follows from an end; `again`: it could not be restarted. When that is done, and who waits."""
        role = node.role
        if role.restart is not Restart.PERMANENT and not (role.restart is Restart.TRANSIENT and abnormal):
            self._forget(node)
            others = [each for each in above.children.values() if each.role.significant and each.state in (UP, WAITING)]
            if role.significant and (above.role.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not others):
                above.ending = above.ending or "normal"
            return at_s, []
        own = role.intensity is not None or role.parks or above.role.child_parks
        limit = (role.intensity or above.role.limit) if own else above.role.limit
        if not _spend(node.restarts_s if own else above.shared_s, at_s, limit):
            if role.parks or above.role.child_parks:
                self._shelve(node, PARKED)
            else:
                above.ending = above.ending or "gave up"
            return at_s, []
        group = [each for each in above.children.values() if each.state in (UP, WAITING) and not each.role.apart]
        if role.apart or above.role.strategy is Strategy.ONE_FOR_ONE:
            group = [node]
        elif above.role.strategy is Strategy.REST_FOR_ONE:
            group = group[group.index(node) :]
        waits_s = _delay_s(node, at_s, lived_s=0.0 if again else at_s - node.started_s)
        waits_s = max([waits_s, *(each.due_s - at_s for each in group if each.state == WAITING)])
        if waits_s <= 0 and not again:
            return self._restart(above, group, at_s), []
        for each in group:
            each.state, each.due_s = WAITING, at_s + waits_s
        return self._take_down(group, at_s), group

    def _restart(self, above: Node, group: list[Node], at_s: float) -> float:
        at_s, wait = self._take_down(group, at_s), []
        for node in group:
            if above.ending is not None:
                break
            if node in wait:
                continue
            if node.role.restart is Restart.TEMPORARY:
                self._forget(node)
                continue
            at_s, up = self._start(node, at_s)
            if not up:
                at_s, more = self._judge(above, node, at_s, abnormal=True, again=True)
                wait += more
        return at_s

    def _take_down(self, group: list[Node], at_s: float) -> float:
        for node in reversed(group):
            at_s = self._stop(node, at_s)
        return at_s

    def _judge_member(self, pool: Node, node: Node, at_s: float, *, abnormal: bool) -> tuple[float, list[Node]]:
        if not abnormal or not _spend(node.restarts_s, at_s, pool.role.limit):
            self._forget(node)
            return at_s, []
        failed = node.started_s == math.inf
        waits_s = _delay_s(node, at_s, lived_s=0.0 if failed else at_s - node.started_s)
        if waits_s > 0:
            node.state, node.due_s = WAITING, at_s + waits_s
        elif not self._start(node, at_s)[1]:
            self.ends.append(End(at_s, node, node.generation, True))
        return at_s, []

    # -- one child

    def _start_more(self, above: Node, role: Role, at_s: float) -> tuple[float, bool]:
        node = above.children[role.name] = Node(role, f"{above.path}/{role.name}", above)
        done = self._start(node, at_s)
        if not done[1]:
            self._forget(node)
        return done

    def _start(self, node: Node, at_s: float) -> tuple[float, bool]:
        node.generation += 1
        node.state, node.due_s, node.ending, node.shared_s = UP, math.inf, None, []
        part = node.role.part if node.role.kind == "actor" else Part()
        budget_s = node.role.start_budget_s
        if part.start_s > budget_s:
            return at_s + budget_s + part.deaf_s, False
        at_s += part.start_s
        if node.generation in part.fails:
            node.started_s = math.inf
            return at_s, False
        for role in node.role.children:
            child = node.children[role.name] = Node(role, f"{node.path}/{role.name}", node)
            at_s, up = self._start(child, at_s)
            if not up:
                return self._stop_children(node, at_s), False
        node.alive, node.started_s, node.free_s = True, at_s, at_s
        if node.generation > 1:
            self.news += [("Restarted", node.path)] * node.monitors
        self._read(node, at_s)
        return at_s, True

    def _stop(self, node: Node, at_s: float) -> float:
        if not node.alive:
            return at_s
        if any(each.dying or each.free_s > at_s for each in node.all()):
            raise Overlap
        below = set(node.all())
        if any(happens_s <= at_s and busy in below for happens_s, busy, _ in self._next()):
            raise Overlap
        node.alive = False
        if node.role.kind == "pool":
            ends_s = [self._stop(each, at_s) for each in node.children.values()]
            for each in list(node.children.values()):
                self._forget(each)
            return max(ends_s, default=at_s)
        if node.role.kind == "supervisor":
            return self._stop_children(node, at_s)
        part, budget_s = node.role.part, node.role.stop_budget_s
        if part.plain or 0 < part.stop_s <= budget_s or (part.stop_s == 0 < budget_s):
            return at_s + part.stop_s
        return at_s + budget_s + part.deaf_s

    def _stop_children(self, node: Node, at_s: float) -> float:
        for each in reversed(list(node.children.values())):
            at_s = self._stop(each, at_s)
            self._forget(each)
        return at_s

    def _shelve(self, node: Node, state: str) -> None:
        """Nobody knows when it comes back: what was told waits, whoever asked is told at once."""
        node.state = state
        for message in [each for each in node.mail if isinstance(each, Question)]:
            node.mail.remove(message)
            self.answers[message.n] = "ActorDown"

    def _forget(self, node: Node) -> None:
        """It has ended for good."""
        node.alive = False
        if node.above is not None:
            node.above.children.pop(node.role.name, None)
        for message in node.mail:
            if isinstance(message, Line):
                self.undelivered.append(message.n)
            else:
                self.answers[message.n] = "ActorDown"
        node.mail = []
        node.gone = True
        self.news += [("Down", node.path)] * node.monitors

    def _read(self, node: Node, at_s: float) -> None:
        """It handles what waits, until it crashes or leaves over it."""
        while node.mail:
            message = node.mail.pop(0)
            if isinstance(message, Question):
                self.answers[message.n] = "answered"
                continue
            (self.undelivered if message.what == "crash" else self.handled).append(message.n)
            if message.what in ("crash", "leave"):
                node.dying = True
                self.ends.append(End(at_s + node.role.part.stop_s, node, node.generation, message.what == "crash"))
                return


def _spend(times_s: list[float], now_s: float, limit: Intensity) -> bool:
    """Whether one restart more is within the limit: then it counts."""
    if sum(each >= now_s - limit.period_s for each in times_s) >= limit.restarts:
        return False
    times_s.append(now_s)
    return True


def _delay_s(node: Node, now_s: float, *, lived_s: float) -> float:
    backoff = node.role.backoff
    if backoff is None:
        return 0.0
    reset_s = backoff.max_s if backoff.reset_after_s is None else backoff.reset_after_s
    node.step = 1 if lived_s >= reset_s else node.step + 1
    delay_s: float = min(backoff.max_s, backoff.first_s * backoff.factor ** (node.step - 1))
    return delay_s


def _member(pool: Node, name: str) -> Role:
    role = pool.role
    return Role(name, role.part, Restart.TRANSIENT, role.stop_budget_s, backoff=role.backoff)
