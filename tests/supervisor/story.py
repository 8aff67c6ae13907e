"""
How a random story is played: each operation is done to a real tree, and to the model as long as that can tell what follows.

Not here: which stories there are, and what they prove (`test_stories`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
import trio
import trio.testing
from attrs import define, evolve, field, frozen

from callsheet.actors.cell import Cell
from callsheet.actors.errors import ActorDown, NameTaken
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.supervisor.errors import SupervisionError
from callsheet.supervisor.pool import Pool, PoolSpec, StopOne, spawn
from callsheet.supervisor.requests import RemoveChild, ReplaceChild, RestartChild, StartChild, StopChild
from callsheet.supervisor.spec import Backoff, ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.supervisor import Supervisor
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .model import Model, Node, Overlap, Role
from .players import Line, Part, Question, Trouble, Watch, Watcher
from .witness import Witness, end_it, tasks

LIMIT_S: Final = 10_000.0
"""Virtual seconds after which a story that has not ended never will."""

PARTS: Final = (
    Part(),
    Part(plain=True),
    Part(start_s=0.5),
    Part(stop_s=0.5),
    Part(stop_s=9),
    Part(stop_s=9, deaf_s=0.25),
    Part(fails=frozenset({2})),
    Part(fails=frozenset({2, 3}), plain=True),
    Part(fails=frozenset({2, 4}), start_s=0.25, stop_s=0.25),
    Part(start_s=3, deaf_s=0.5),
    Part(fails=frozenset({1})),
)
AT_FIRST: Final = 9
"""These can be up when a story begins."""
BACKOFFS: Final = (None, None, Backoff(0.5, 2), Backoff(1, 1, reset_after_s=3))
LIMITS: Final = (Intensity(3, 5), Intensity(1, 2), Intensity(0), Intensity(10, 1))
OPS: Final = (
    *("tell", "tell", "ask", "ask", "crash", "crash", "crash", "leave", "advance", "advance"),
    *("start", "stop", "restart", "remove", "replace", "spawn", "spawn", "stop one", "monitor", "wait"),
)
ENDS: Final = ("close", "cancel", "raise")


ADVANCES_S: Final = (0.25, 0.5, 0.5, 1, 1, 2, 2, 2, 5, 5, 9)
"""Seconds; the periods of budgets are among them, for what happens at their very end."""
NOT_ACTED: Final = ("/scheduler", "/watcher")


@frozen
class Op:
    """One thing that is done: to the `who`-th actor that it can be done to; `how` chooses among ways."""

    kind: str
    who: int
    how: int


@define(eq=False)
class Story:
    """One story, being played."""

    tree: Role
    ops: list[Op]
    end: str
    in_step: bool
    witness: Witness = field(factory=Witness)
    system: ActorSystem = field(init=False)
    waiters: trio.Nursery = field(init=False)
    host: trio.CancelScope = field(factory=trio.CancelScope)
    model: Model | None = field(default=None, init=False)
    """While it can tell what must be."""
    numbers: int = 0
    """Messages, requests and names, so far."""
    requests: dict[int, str] = field(factory=dict)
    """How requests to supervisors were answered, and how they should have been."""
    expected: dict[int, str] = field(factory=dict)
    answers: dict[int, str] = field(factory=dict)
    """How questions to actors were."""
    released: dict[int, bool] = field(factory=dict)
    """Whether whoever waits for the end of an actor was told of it, and whether he should have been."""
    waited: dict[int, Node] = field(factory=dict)
    monitors: Counter[str] = field(factory=Counter)
    news: list[tuple[str, str]] = field(factory=list)
    compared: int = 0
    """Operations after which all was as in the model."""
    finished: bool = False

    # -- the frame

    async def run(self) -> None:
        """From nothing to nothing."""
        before, faults = set(tasks()), list[str]()
        async with trio.open_nursery() as around:
            around.start_soon(end_it, LIMIT_S, faults)
            async with trio.open_nursery() as self.waiters:
                await self._inside()
            around.cancel_scope.cancel()
        faults += [f"{task.name} was left" for task in tasks() if task not in before]
        faults += [f"{path or '/'} is registered" for path in self.system.stage.registry]
        faults += self.witness.broken()
        told = Counter(path for what, path in self.news if what == "Down")
        if told - self.monitors:  # there may be less: the watcher ends before the last of them
            faults.append(f"of the ends of {self.monitors}, monitors told {told}")
        faults += [f"nobody answered {n}" for n, answer in self.answers.items() if answer == "nothing"]
        assert [] == faults

    async def _inside(self) -> None:
        error, began_s = Trouble("the body's own"), trio.current_time()
        self.system = self.witness.open(self._root())
        with self.host:
            try:
                async with self.system:
                    await self._play(began_s)
                    self.finished = True
                    await self._leave(error)
            except Trouble as raised:
                if raised is not error:
                    raise
            except SystemGaveUp:
                assert self.model is None or self.model.over == "gave up", "the root gave up, and the model did not"
            else:
                assert self.model is None or self.finished or self.model.over == "ended", (
                    "it ended, and the model did not"
                )

    async def _leave(self, error: Trouble) -> None:
        if self.end == "cancel":
            self.host.cancel()
            await trio.sleep_forever()
        if self.end == "raise":
            raise error

    async def _play(self, began_s: float) -> None:
        if self.in_step:
            self.model = Model(self.tree, began_s)
            await self._compare()
        for op in self.ops:
            try:
                self._do(op)
            except Overlap:
                self.model = None
            if self.model is not None:
                await self._compare()
                self.compared += 1
            else:
                await trio.sleep(ADVANCES_S[op.how] if op.kind == "advance" else 0)

    async def _compare(self) -> None:
        """When all that follows has followed, the tree is the model's."""
        model = self.model
        assert model is not None, "there is something to compare with"
        await trio.sleep_until(model.now_s)
        await trio.testing.wait_all_tasks_blocked()
        assert None is model.over, f"the model {model.over}, and the root did not"
        assert {each.path: each.shown for each in model.root.all()} == dict(self._shown())
        assert {
            each.path: list(each.children) for each in model.root.all() if each.role.kind == "supervisor" and each.alive
        } == {
            path: [name for name in actor.children if name not in ("scheduler", "watcher")]
            for path, actor in self._supervisors()
        }
        assert Counter(model.handled) == self.witness.handled
        assert Counter(model.undelivered) == self.witness.undelivered
        assert model.answers == {n: each for n, each in self.answers.items() if each != "nothing"}
        assert sorted(model.news) == sorted(self.news)
        assert self.expected == self.requests
        assert {n: node.gone for n, node in self.waited.items()} == self.released

    def _shown(self) -> Iterator[tuple[str, tuple[str, bool, int]]]:
        for cell in self._cells():
            parent = cell.parent
            if isinstance(parent, Supervisor):
                state = str(parent.children[cell.name].state)
            else:
                state = "up" if cell.is_alive or not isinstance(parent, Pool) else "waiting"
            yield cell.path, (state, cell.is_alive, cell.generation)

    def _cells(self) -> list[Cell[Any]]:
        registry = self.system.stage.registry
        return [registry[path] for path in sorted(registry) if path not in NOT_ACTED]

    def _supervisors(self) -> list[tuple[str, Supervisor]]:
        return [(each.path, each.actor) for each in self._cells() if isinstance(each.actor, Supervisor)]

    # -- the tree

    def _root(self) -> SupervisorSpec:
        watcher = ChildSpec("watcher", lambda: Watcher(self.news), apart=True)
        spec = self._supervisor(self.tree)
        return evolve(spec, children=(watcher, *spec.children))

    def _supervisor(self, role: Role) -> SupervisorSpec:
        return SupervisorSpec(
            tuple(map(self._child, role.children)), role.strategy, role.limit, role.child_parks, role.auto_shutdown
        )

    def _child(self, role: Role) -> ChildSpec:
        fields: dict[str, Any] = {
            name: getattr(role, name) for name in ("restart", "intensity", "parks", "backoff", "significant", "apart")
        }
        if role.kind == "supervisor":
            return self.witness.supervisor(role.name, self._supervisor(role), **fields)
        if role.kind == "pool":
            make = self.witness.maker(role.part)
            spec = PoolSpec(make, intensity=role.limit, backoff=role.backoff, stop_budget_s=role.stop_budget_s)
            return self.witness.pool(role.name, spec, **fields)
        fields |= {"stop_budget_s": role.stop_budget_s, "start_budget_s": role.start_budget_s}
        return self.witness.child(role.name, role.part, **fields)

    # -- one operation

    def _do(self, op: Op) -> None:
        cells = [each for each in self._cells() if self._suits(op.kind, each)]
        if not cells and op.kind != "advance":
            return
        self.numbers += 1
        cell = cells[op.who % len(cells)] if cells else None
        node = self.model.find(cell.path) if self.model is not None and cell is not None else None
        match op.kind:
            case "advance":
                if self.model is not None:
                    self.model.advance(ADVANCES_S[op.how])
            case "tell" | "crash" | "leave":
                assert cell is not None
                self._tell(cell, node, "say" if op.kind == "tell" else op.kind)
                if op.kind == "tell" and op.how > 5:
                    self.numbers += 1
                    self._tell(cell, node, "say")
            case "ask":
                assert cell is not None
                self._ask(cell, node)
            case "wait":
                assert cell is not None
                self._wait(cell, node)
            case "monitor":
                assert cell is not None
                self._monitor(cell, node)
            case "spawn":
                assert cell is not None
                self._spawn(cell, node)
            case "kill":
                assert cell is not None
                self.witness.apart.add(cell.path)
                cell.kill()
                raise Overlap
            case _:
                assert cell is not None
                self._request(op, cell, node)

    def _suits(self, kind: str, cell: Cell[Any]) -> bool:
        in_pool = isinstance(cell.parent, Pool)
        match kind:
            case "tell" | "ask" | "crash" | "leave":
                return cell.kind == "actor"
            case "spawn":
                return isinstance(cell.actor, Pool)
            case "start":
                return isinstance(cell.actor, Supervisor)
            case "stop one":
                return in_pool
            case "stop" | "restart" | "remove" | "replace":
                return cell.path != "" and not in_pool
            case _:
                return cell.path != ""

    def _tell(self, cell: Cell[Any], node: Node | None, what: str) -> None:
        message = Line(self.numbers, what)
        self.witness.sent.add(message.n)
        cell.ref.tell(message)
        if self.model is not None and node is not None:
            self.model.tell(node, message)

    def _ask(self, cell: Cell[Any], node: Node | None) -> None:
        question = Question(n=self.numbers)
        self.answers[question.n] = "nothing"

        async def ask() -> None:
            try:
                assert question.n == await cell.ref.ask(question, timeout=LIMIT_S)
                self.answers[question.n] = "answered"
            except ActorDown:
                self.answers[question.n] = "ActorDown"

        self.waiters.start_soon(ask)
        if self.model is not None and node is not None:
            self.model.tell(node, question)

    def _wait(self, cell: Cell[Any], node: Node | None) -> None:
        n = self.numbers
        self.released[n] = False

        async def wait() -> None:
            await cell.ref.stopped()
            self.released[n] = True

        self.waiters.start_soon(wait)
        if node is not None:
            self.waited[n] = node

    def _monitor(self, cell: Cell[Any], node: Node | None) -> None:
        watcher = self.system.whereis("/watcher")
        if watcher is not None:
            self.monitors[cell.path] += 1
            watcher.tell(Watch(cell.ref))
            if node is not None:
                node.monitors += 1

    def _spawn(self, cell: Cell[Any], node: Node | None) -> None:
        name = f"m{self.numbers}"
        try:
            spawn(cell.ref, name=name)
        except ActorDown:
            assert cell.stopping, "it is up"
        if self.model is not None and node is not None:
            self.model.spawn(node, name)

    def _request(self, op: Op, cell: Cell[Any], node: Node | None) -> None:
        """Ask the supervisor (or pool) of `cell`, or for a start `cell` itself, to do something."""
        above = self.model.find(cell.path.rpartition("/")[0]) if self.model is not None else None
        asked = cell if op.kind == "start" else self.system.stage.registry.get(cell.path.rpartition("/")[0])
        if asked is None:
            return
        part = PARTS[op.how % len(PARTS)]
        role = Role(cell.name, part, backoff=BACKOFFS[op.how % len(BACKOFFS)], start_budget_s=1 + 30 * (op.who % 2))
        if op.kind == "start":
            known = [each.name for each in self._cells() if each.path.rpartition("/")[0] == cell.path != each.path]
            role = evolve(role, name=known[0] if known and op.how == 0 else f"n{self.numbers}")
        request: Request[Any] = self._of(op.kind, cell, self._child(role))
        expected = "nothing"
        if self.model is not None and node is not None:
            expected = self._expect(op.kind, above, node, role)
        self._send(asked.ref, request, expected)

    def _of(self, kind: str, cell: Cell[Any], spec: ChildSpec) -> Request[Any]:
        match kind:
            case "start":
                return StartChild(spec)
            case "stop":
                return StopChild(cell.name)
            case "restart":
                return RestartChild(cell.name)
            case "remove":
                return RemoveChild(cell.name)
            case "stop one":
                return StopOne(child=cell.ref)
            case _:
                return ReplaceChild(spec)

    def _expect(self, kind: str, above: Node | None, node: Node, role: Role) -> str:
        model = self.model
        assert model is not None
        if kind == "start":
            return model.start_child(node, role)
        assert above is not None, "whoever has a child is there"
        match kind:
            case "stop":
                return model.stop_child(above, node.role.name)
            case "restart":
                return model.restart_child(above, node.role.name)
            case "remove":
                return model.remove_child(above, node.role.name)
            case "stop one":
                model.stop_one(above, node.role.name)
                return "done"
            case _:
                return model.replace_child(above, role)

    def _send(self, ref: Ref[Any], request: Request[Any], expected: str) -> None:
        n = self.numbers
        self.expected[n], self.requests[n] = expected, "nothing"

        async def ask() -> None:
            try:
                await ref.ask(request, timeout=LIMIT_S)
                self.requests[n] = "done"
            except (SupervisionError, ActorDown, NameTaken) as error:
                self.requests[n] = type(error).__name__

        self.waiters.start_soon(ask)


def play(tree: Role, ops: list[Op], end: str, *, in_step: bool, seed: int = 1) -> Story:
    """Play a story in virtual time; `seed` decides in which order tasks take their turns."""
    story = Story(tree, ops, end, in_step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio._core._run._r", random.Random(seed))
        trio.run(story.run, clock=trio.testing.MockClock(autojump_threshold=0))
    return story
