"""
A supervisor of many children of one kind that come and go: connections, sessions, runs. OTP's simple_one_for_one.

Rule 1: starting and forgetting a child is one synchronous step, and a child costs one record; nothing here walks all
    children but stopping.
Rule 2: every child has a restart budget of its own: a thousand crashes of a thousand children are a thousand single
    crashes, and one that cannot stay up takes nobody with it.
Not here: children that depend on each other, or on order (`supervisor`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import NoneType
from typing import Any, Final, TypeAlias

import trio
from attrs import define, field, frozen

from ..actors.actor import Actor
from ..actors.cell import Cell
from ..actors.events import BecameZombie, CouldNotStart, Delayed, Ended, GaveUp, Report, StopOverran, Then
from ..actors.exits import Crashed, Exit, Killed, Shutdown, StartFailed, is_abnormal
from ..actors.kinds import NUMBER
from ..actors.mailbox import UNBOUNDED, Mail
from ..actors.ref import Ref
from ..actors.refusal import Internal, refuse_wrong
from ..actors.reply import Request
from ..actors.states import CellState
from ..actors.timers import Timer
from .child import KILL_BUDGET_S
from .decide import wants_restart
from .errors import ChildStartFailed, DuplicateChild, IntensityExceeded, NotMyChild, PoolFull
from .record import Record
from .spec import MAX_NAME, STOP_BUDGET_S, Backoff, Intensity, Restart, is_name, refuse, refuse_kinds

MAX_CHILDREN: Final = 1_000_000
STOP_SLICE: Final = 200
"""Children that are asked to stop before others get their turn."""


@frozen
class PoolSpec:
    """
    Children of one kind.

    make: called with the arguments of `spawn` for every incarnation. restart: transient by default: what ends by itself is
    gone. intensity: per child; one that spends it is given up alone (reported, and forgotten). of_all: a budget for all
    together; when it is spent the pool gives up (default: none, however many there are). backoff: how long the restart of a
    child waits. stop_budget_s: seconds from asking all to stop, at once, until the rest is cancelled; 0 cancels all at
    once. max_children: at most 1,000,000. mail: how the messages of each are kept.
    """

    make: Callable[..., Actor[Any]]
    restart: Restart = Restart.TRANSIENT
    intensity: Intensity = field(factory=Intensity)
    of_all: Intensity | None = None
    backoff: Backoff | None = None
    stop_budget_s: float = STOP_BUDGET_S
    max_children: int = 100_000
    kind: str = "actor"
    mail: Mail = UNBOUNDED

    def __attrs_post_init__(self) -> None:
        temporary = self.restart is Restart.TEMPORARY
        refuse_kinds(
            "PoolSpec",
            restart=(self.restart, Restart),
            intensity=(self.intensity, Intensity),
            of_all=(self.of_all, (Intensity, NoneType)),
            backoff=(self.backoff, (Backoff, NoneType)),
            stop_budget_s=(self.stop_budget_s, NUMBER),
            max_children=(self.max_children, int),
            kind=(self.kind, str),
            mail=(self.mail, Mail),
        )
        refuse(
            "PoolSpec",
            (callable(self.make), f"make must be something to call for each incarnation, not {self.make!r}"),
            (self.stop_budget_s >= 0, f"stop_budget_s must be 0 or more, not {self.stop_budget_s!r}"),
            (
                1 <= self.max_children <= MAX_CHILDREN,
                f"max_children must be 1 … {MAX_CHILDREN:,}, not {self.max_children!r}",
            ),
            (
                not (temporary and (self.of_all or self.backoff)),
                "temporary children are never restarted: of_all and backoff mean nothing for them",
            ),
        )


@frozen(eq=False)
class Spawn(Request[Ref[Any]]):
    """Start a child with these arguments; answered with its Ref when it has started. Fails with ChildStartFailed, PoolFull."""

    arguments: tuple[object, ...] = ()
    name: str | None = None
    """Default: a number."""


@frozen(eq=False)
class StopOne(Request[None]):
    """Stop this child for good, within the stop budget. Fails with NotMyChild."""

    child: Ref[Any]


@frozen
class _Exited(Internal):
    """A child ended in a way that needs a decision."""

    cell: Cell[Any]
    exit: Exit


@frozen
class _Due(Internal):
    """The delayed restart of this child."""

    cell: Cell[Any]


PoolMessage: TypeAlias = Spawn | StopOne | _Exited | _Due


@define(eq=False)
class _Trouble:
    """Of a child that has crashed lately; the others cost nothing."""

    record: Record = field(factory=Record)
    timer: Timer | None = None


class Pool(Actor[PoolMessage]):
    """Keeps the children of a `PoolSpec`; see the rules of this file."""

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.children: dict[str, Cell[Any]] = {}
        self._count = 0
        self._record = Record()
        """Of all together."""
        self._trouble: dict[str, _Trouble] = {}
        self._unwanted: set[Cell[Any]] = set()
        """Asked to stop one by one."""
        self._emptied: trio.Event | None = None
        """While all are stopped: set when the last of them is gone."""
        self._ended_badly: list[Exit] = []

    # -- starting

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C between two of these lines would leave a name that is half registered
    def spawn(self, arguments: tuple[object, ...], name: str | None) -> Cell[Any]:
        """A new child, on its way up. Raises PoolFull, DuplicateChild, NameTaken, InvalidSpec."""
        spec = self.spec
        refuse("spawn", (name is None or is_name(name), f"name must have 1 … {MAX_NAME} characters"))
        if len(self.children) >= spec.max_children:
            raise PoolFull(self.cell.path, spec.max_children)
        if name is None:
            name = self._next_number()
        make = partial(spec.make, *arguments) if arguments else spec.make
        path = f"{self.cell.path}/{name}"
        if name in self.children:
            raise DuplicateChild(path, str(self.children[name].state))
        cell: Cell[Any] = Cell(self.stage, path, name, make, self, spec.kind, spec.mail)
        self.stage.add(cell)
        self.children[name] = cell
        self.stage.run_in_context(cell.begin)
        return cell

    def _next_number(self) -> str:
        """A name that nobody has, also not a zombie of a pool that was here before."""
        while True:
            self._count += 1
            if f"{self.cell.path}/{self._count}" not in self.stage.registry:
                return str(self._count)

    # -- Parent

    def child_exited(self, cell: Cell[Any], exit_: Exit) -> None:
        """See `Parent.child_exited`. The usual end needs no message."""
        if self.cell.actor is not self or self.children.get(cell.name) is not cell:
            cell.end()  # a zombie that outlived us, or our interest in it
        elif self._emptied is not None or cell in self._unwanted:
            if is_abnormal(exit_) and not isinstance(exit_, Killed):  # whoever kills it reports that, where it is news
                self._ended_otherwise(cell, exit_)
            self._forget(cell)
        elif isinstance(exit_, StartFailed) and cell.generation == 1:  # whoever spawned it may try again; we do not
            self._report(CouldNotStart(cell.path, 1, exit_.error))
            self._forget(cell)
        elif wants_restart(self.spec.restart, exit_):
            self.cell.mailbox.put_control(_Exited(cell, exit_))
        else:
            if is_abnormal(exit_):
                self._report(Ended(cell.path, cell.generation, exit_, Then.LEFT))
            self._forget(cell)

    def _ended_otherwise(self, cell: Cell[Any], exit_: Exit) -> None:
        if self._emptied is not None:
            self._ended_badly.append(exit_)
        else:
            self._report(StopOverran(cell.path, self.spec.stop_budget_s, exit_))

    def _forget(self, cell: Cell[Any]) -> None:
        if self.children.get(cell.name) is cell:  # else its name is another's by now
            del self.children[cell.name]
            if self._trouble:
                self._trouble.pop(cell.name, None)
        self._unwanted.discard(cell)
        if cell.state is not CellState.ZOMBIE:
            cell.end()
        if self._emptied is not None and not self.children:
            self._emptied.set()

    # -- Actor

    def receive(self, message: PoolMessage) -> None:
        """See the messages."""
        match message:
            case Spawn():
                self._oblige(message)
            case StopOne(child=ref):
                cell = self.children.get(ref._cell.name)  # noqa: SLF001 -- a Ref and its cell are one thing
                if cell is None or cell.ref is not ref:
                    message.reply.fail(NotMyChild(self.cell.path, ref.path, len(self.children)))
                else:
                    self._unwanted.add(cell)
                    self.stage.spawn(self._stop_one, f"stop {cell.path}", cell, message)
            case _Exited(cell, exit_):
                if self._is_down(cell):
                    self._handle(cell, exit_)
            case _Due(cell):
                if self._is_down(cell):
                    cell.begin()
            case _:
                refuse_wrong(self.cell, message, (Spawn, StopOne))

    def _is_down(self, cell: Cell[Any]) -> bool:
        return self.children.get(cell.name) is cell and cell.state is CellState.DOWN

    def _oblige(self, request: Spawn) -> None:
        try:
            cell = self.spawn(request.arguments, request.name)
        except Exception as error:  # noqa: BLE001 -- whoever asked is told
            request.reply.fail(error)
            return
        if cell.state is CellState.STARTING:
            self.stage.spawn(_tell_when_started, f"start {cell.path}", cell, request)
        else:
            _tell(cell, cell.exit if isinstance(cell.exit, StartFailed) else None, request)

    # -- what follows from an end

    def _handle(self, cell: Cell[Any], exit_: Exit) -> None:
        now_s = self.stage.seams.clock.mono_s()
        trouble = self._trouble.setdefault(cell.name, _Trouble())
        admitted, limit = trouble.record.admits(now_s, self.spec.intensity), self.spec.of_all
        if limit is not None and not self._record.admits(now_s, limit):
            self._report(Ended(cell.path, cell.generation, exit_, Then.GAVE_UP))
            error = IntensityExceeded(self.cell.path, cell.path, exit_, limit.restarts, limit.period_s)
            self._report(GaveUp(self.cell.path, error))
            self.cell.leave(Crashed(error))
            return
        if not admitted:
            self._report(Ended(cell.path, cell.generation, exit_, Then.GIVEN_UP))
            self._forget(cell)
            return
        delay_s = trouble.record.delay_s(self.spec.backoff, cell, exit_)
        if delay_s <= 0:
            self._report(Ended(cell.path, cell.generation, exit_, Then.RESTARTED))
            cell.begin()
            return
        self._report(Ended(cell.path, cell.generation, exit_, Then.RESTARTED_LATER))
        self._report(Delayed(cell.path, delay_s, cell.generation + 1))
        trouble.timer = self.stage.timers.at(now_s + delay_s, lambda: self.cell.mailbox.put_control(_Due(cell)))

    # -- stopping

    async def _stop_one(self, cell: Cell[Any], request: StopOne) -> None:
        try:
            if self.spec.stop_budget_s > 0:
                cell.request_stop()
                with trio.move_on_after(self.spec.stop_budget_s):
                    await cell.wait_gone()
                if cell.is_alive:
                    self._report(StopOverran(cell.path, self.spec.stop_budget_s))
            if cell.is_alive:
                cell.kill()
                with trio.move_on_after(KILL_BUDGET_S):
                    await cell.wait_gone()
            if cell.is_alive:
                cell.leave_behind()
                self._report(BecameZombie(cell.path, cell.generation))
            self._forget(cell)
        finally:
            request.reply.answer(None)

    async def on_stop(self) -> None:
        """Stop all children at once, with one deadline for all of them."""
        self._emptied = trio.Event()
        for trouble in self._trouble.values():
            if trouble.timer is not None:
                trouble.timer.cancel()
        try:
            if self.spec.stop_budget_s > 0:
                with trio.move_on_after(self.spec.stop_budget_s):
                    await self._each(Cell.request_stop)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._kill_all()
            raise
        await self._kill_all()

    async def _kill_all(self) -> None:
        """Whoever is left; then report how many did not end as they should have."""
        budget_s = self.spec.stop_budget_s
        if self.children:
            if budget_s > 0:
                self._report(StopOverran(self.cell.path, budget_s, count=len(self.children)))
            with trio.move_on_after(KILL_BUDGET_S):
                await self._each(Cell.kill)
        if self._ended_badly:
            self._report(StopOverran(self.cell.path, budget_s, self._ended_badly[-1], len(self._ended_badly)))
        for cell in list(self.children.values()):
            cell.leave_behind()
            self._report(BecameZombie(cell.path, cell.generation))
            self._forget(cell)

    async def _each(self, stop: Callable[[Cell[Any]], None]) -> None:
        """Stop all, a slice at a time, so that the loop breathes; return when they are gone."""
        assert self._emptied is not None, "set before anybody is stopped"
        for n, cell in enumerate(list(self.children.values())):
            if cell.state is CellState.DOWN:
                self._forget(cell)
            elif cell.is_alive:
                stop(cell)
            if n % STOP_SLICE == STOP_SLICE - 1:
                await trio.lowlevel.checkpoint()
        if self.children:
            await self._emptied.wait()

    def _report(self, report: Report) -> None:
        self.stage.reports.publish(report)


async def _tell_when_started(cell: Cell[Any], request: Spawn) -> None:
    exit_: Exit | None = Shutdown()
    try:
        exit_ = await cell.wait_settled()
    finally:
        _tell(cell, exit_, request)


def _tell(cell: Cell[Any], exit_: Exit | None, request: Spawn) -> None:
    if exit_ is None:
        request.reply.answer(cell.ref)
        return
    failure = ChildStartFailed(cell.path, exit_)
    request.reply.fail(failure)


def spawn(pool: Ref[Spawn], *arguments: object, name: str | None = None) -> Ref[Any]:
    """
    Start a child of `pool` with these arguments, now; what is told to it waits until it is up. Not a checkpoint.

    To know whether it has started, ask the pool to `Spawn` instead. name: default, a number. Whoever starts thousands in a
    row calls `trio.lowlevel.checkpoint` now and then, or everybody else waits.

    Raises ActorDown when the pool is not up, PoolFull, DuplicateChild; TypeError when it is no pool.
    """
    if not isinstance(pool, Ref):
        raise TypeError(f"spawn needs the Ref of a pool, not {pool!r}")
    cell = pool._cell  # noqa: SLF001 -- a Ref and its cell are one thing
    actor = cell.actor
    if actor is not None and not isinstance(actor, Pool):
        raise TypeError(f"spawn needs the Ref of a pool: {cell.path or '/'} is a {type(actor).__name__}")
    if actor is None or cell.stopping or cell.state is CellState.STOPPING:
        raise cell.down()
    return cell.stage.run_in_context(actor.spawn, arguments, name).ref
