"""
Actors that do as their part says, and tell a witness of every step of their lives; supervisors and pools that do so too.

Rule: what they do is in their part and in what they are told; nothing is decided here, and nothing checked (`witness`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import AttrsInstance, fields, frozen

from callsheet.actors.actor import Actor
from callsheet.actors.ref import Ref
from callsheet.actors.reply import Request
from callsheet.actors.states import CellState
from callsheet.actors.watch import Down, Restarted
from callsheet.supervisor.pool import Pool, PoolSpec
from callsheet.supervisor.requests import RestartChild
from callsheet.supervisor.spec import SupervisorSpec
from callsheet.supervisor.supervisor import Supervisor, SupervisorMessage

if TYPE_CHECKING:
    from .witness import Witness

STARTING: Final = "starting"
UP: Final = "up"
FAILED: Final = "failed"
TOLD: Final = "told"
"""A supervisor was asked to stop; it may be busy."""
STOPPING: Final = "stopping"
GONE: Final = "gone"


class Trouble(Exception):
    """What a part raises."""


def briefly(value: AttrsInstance) -> str:
    """Only what is not as usual: trees in failures shall be readable."""
    usual = type(value)(*(["?"] if hasattr(value, "name") else []))
    told = [f"{each.name}={getattr(value, each.name)!r}" for each in fields(type(value))]
    known = {f"{each.name}={getattr(usual, each.name)!r}" for each in fields(type(value))}
    return f"{type(value).__name__}({', '.join(each for each in told if each not in known)})"


@frozen(repr=False)
class Part:
    """What one child does. Times are seconds."""

    start_s: float = 0.0
    stop_s: float = 0.0
    """How long `on_stop` takes; more than its budget, and it is killed."""
    work_s: float = 0.0
    """How long a message takes."""
    fails: frozenset[int] = frozenset()
    """Generations that cannot start."""
    deaf_s: float = 0.0
    """How long `on_stop` goes on after it was cancelled."""
    plain: bool = False
    """Plain functions only: it needs no task. All times must be 0."""

    def __repr__(self) -> str:
        return briefly(self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would spell every field out


@frozen(eq=False)
class Line:
    """A message; `what`: "say", "crash" (it raises) or "leave"."""

    n: int
    what: str = "say"


@frozen(eq=False, kw_only=True)
class Question(Request[int]):
    """Answered with its number."""

    n: int


@frozen(eq=False)
class Watch:
    """Monitor this actor."""

    ref: Ref[Any]


class Player(Actor[Any]):
    """Does as its part says, in a task of its own."""

    def __init__(self, witness: Witness, part: Part) -> None:
        self.witness, self.part = witness, part
        self.life = witness.life()

    def on_start(self) -> Awaitable[None]:
        self.witness.note(STARTING, self, self.life)  # now: the task may get its first turn later
        return self._start()

    async def _start(self) -> None:
        try:
            await self._take(self.part.start_s)
            if self.cell.generation in self.part.fails:
                self.witness.willing.add(self.life)
                raise Trouble("cannot start")
        except BaseException:
            self.witness.note(FAILED, self, self.life)
            raise
        self.witness.note(UP, self, self.life)

    async def on_stop(self) -> None:
        self.witness.note(STOPPING, self, self.life)
        try:
            await self._take(self.part.stop_s)
        finally:
            self.witness.note(GONE, self, self.life)

    async def _take(self, seconds: float) -> None:
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.part.deaf_s)
            raise

    def receive(self, message: Any) -> Awaitable[None] | None:
        if self.part.work_s:
            return self._work(message)
        self._handle(message)
        return None

    async def _work(self, message: Any) -> None:
        await trio.sleep(self.part.work_s)
        self._handle(message)

    def _handle(self, message: Any) -> None:
        act(self, self.witness, message)


class Plain(Actor[Any]):
    """The same in plain functions: it has no task."""

    def __init__(self, witness: Witness, part: Part) -> None:
        self.witness, self.part = witness, part
        self.life = witness.life()

    def on_start(self) -> None:
        self.witness.note(STARTING, self, self.life)
        if self.cell.generation in self.part.fails:
            self.witness.note(FAILED, self, self.life)
            raise Trouble("cannot start")
        self.witness.note(UP, self, self.life)

    def on_stop(self) -> None:
        self.witness.note(STOPPING, self, self.life)
        self.witness.note(GONE, self, self.life)

    def receive(self, message: Any) -> None:
        act(self, self.witness, message)


def act(actor: Player | Plain, witness: Witness, message: Any) -> None:
    """Do what `message` says."""
    if isinstance(message, Question):
        message.reply.answer(message.n)
        return
    if message.what == "crash":
        witness.willing.add(actor.life)
        raise Trouble(f"told to, by {message.n}")
    if message.what == "leave":
        actor.leave()
    witness.handled[message.n] += 1


class WatchedSupervisor(Supervisor):
    """Writes its own life down too."""

    def __init__(self, witness: Witness, spec: SupervisorSpec) -> None:
        super().__init__(spec)
        self.witness, self.life = witness, witness.life()

    def on_start(self) -> Coroutine[Any, Any, None]:
        self.witness.note(STARTING, self, self.life)
        return self._start()

    async def _start(self) -> None:
        try:
            await super().on_start()
        except BaseException:
            self.witness.note(FAILED, self, self.life)
            raise
        self.witness.note(UP, self, self.life)

    def told_to_stop(self) -> None:
        self.witness.note(TOLD, self, self.life)
        super().told_to_stop()

    async def on_stop(self) -> None:
        self.witness.note(STOPPING, self, self.life, tuple(self.children))
        try:
            await super().on_stop()
        finally:
            self.witness.note(GONE, self, self.life)

    async def receive(self, message: SupervisorMessage) -> None:
        if isinstance(message, RestartChild):
            child = self.children.get(str(message.child))
            if child is not None and not child.is_up and child.cell.state is CellState.DOWN:
                path = child.cell.path
                self.witness.renew(lambda budget: budget == ("own", path))
        await super().receive(message)


class WatchedPool(Pool):
    """Writes its own life down too."""

    def __init__(self, witness: Witness, spec: PoolSpec) -> None:
        super().__init__(spec)
        self.witness, self.life = witness, witness.life()

    def on_start(self) -> None:
        self.witness.pools.add(self.cell.path)
        self.witness.note(STARTING, self, self.life)
        self.witness.note(UP, self, self.life)

    async def on_stop(self) -> None:
        self.witness.note(STOPPING, self, self.life)
        try:
            await super().on_stop()
        finally:
            self.witness.note(GONE, self, self.life)


class Watcher(Actor[Any]):
    """Writes down what monitors tell."""

    def __init__(self, news: list[tuple[str, str]]) -> None:
        self.news = news

    def receive(self, message: Watch | Down | Restarted) -> None:
        if isinstance(message, Watch):
            self.monitor(message.ref)
        else:
            self.news.append((type(message).__name__, message.ref.path))
