"""
A system of actors inside a host's own nursery: opened and closed like any other block.

Rule 1: the tasks of the actors hang in one nursery inside a shielded scope, so that a host that is cancelled still
    stops them in reverse order, each within its budget. The shield is bounded: it falls when the budgets are spent.
Rule 2: the host's body stands outside the shield; it is cancelled by the host as ever, and by us when the root gives up.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import trio
from attrs import define, evolve, field

from ..actors.cancellation import raise_as_it_was, single, without_cancelled
from ..actors.cell import Cell
from ..actors.events import Reports
from ..actors.exits import Exit, Shutdown, StartFailed, error_of
from ..actors.kinds import NUMBER, wrong_kinds
from ..actors.ref import Ref
from ..actors.reported import log_report
from ..actors.scheduler import Scheduler
from ..actors.seams import Seams
from ..actors.stage import Stage
from ..actors.undelivered import Undelivered
from ..store.described import bounded
from .errors import SupervisionError
from .requests import RemoveChild, ReplaceChild, RestartChild, StartChild, StopChild
from .spec import Backoff, ChildSpec, Intensity, SupervisorSpec
from .supervisor import Supervisor, SupervisorMessage

CORE_INTENSITY: Final = Intensity(10, 60.0)
"""For what everything else stands on: it gets more chances than others."""
CORE_BACKOFF: Final = Backoff(0.1, 5.0)
SCHEDULER: Final = ChildSpec(
    "scheduler", Scheduler, kind="scheduler", intensity=CORE_INTENSITY, backoff=CORE_BACKOFF, apart=True
)
"""The first child of every root: the wheel outlives it, so nobody needs to go down with it."""


@define(slots=False)
class SystemGaveUp(SupervisionError):
    """The root supervisor gave up, so the host's body was cancelled. The chain of causes follows."""

    exit: Exit

    def __str__(self) -> str:
        return f"the actor system gave up: {self.exit}"


@define(eq=False, repr=False)
class ActorSystem:
    """
    One tree of actors: `async with ActorSystem() as system: ...`, or `await nursery.start(ActorSystem().serve)`.

    spec: the root supervisor's children, strategy and intensity; none to begin with. seams: clock, chance and ids; for
    simulations. grace_s: seconds that work in hand may take once the block is left, for actors that ask for it
    (`stage.stop_by_s`); stop budgets are counted for each child besides. checked: compare every message with what its
    actor declares (`Actor[A | B]`), and raise WrongMessage to whoever sent another. prepare: called with the system before
    its first actor starts.

    Leaving the block (normally, by an exception, or cancelled) stops the tree in reverse order. What the body raised
    comes out as it was, never wrapped in a group. Raises what the first child that could not start raised; SystemGaveUp
    when the root gave up (the body is cancelled then). A SystemExit or KeyboardInterrupt of an actor ends the system and
    comes out too. A system is opened once.
    """

    spec: SupervisorSpec = field(factory=SupervisorSpec)
    _given_seams: Seams | None = field(default=None, kw_only=True, alias="seams")
    grace_s: float = field(default=8.0, kw_only=True)
    checked: bool = field(default=False, kw_only=True)
    _prepare: Callable[[ActorSystem], object] = field(default=lambda _system: None, kw_only=True)
    seams: Seams = field(init=False)
    """Its clock, chance and ids, once it is open."""
    stage: Stage = field(init=False)
    _root: Cell[SupervisorMessage] = field(init=False)
    _block: AbstractAsyncContextManager[None] | None = field(default=None, init=False)
    _body: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _stop: trio.Event = field(factory=trio.Event, init=False)
    _started: trio.Event = field(factory=trio.Event, init=False)
    _ended: Exit | None = field(default=None, init=False)
    _fatal: BaseException | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.spec, SupervisorSpec):
            raise TypeError(f"ActorSystem needs a SupervisorSpec, not {bounded(repr(self.spec), 100)}")
        wrong = wrong_kinds(grace_s=(self.grace_s, NUMBER), checked=(self.checked, bool))
        if not wrong and not self.grace_s >= 0:
            wrong.append(f"grace_s must be 0 or more seconds, not {self.grace_s!r}")
        if wrong:
            raise ValueError(f"ActorSystem: {'; '.join(wrong)}")

    def __repr__(self) -> str:
        if self._block is None:
            return "<ActorSystem, not open yet>"
        return f"<ActorSystem with {len(self.stage.registry):,} actors>"

    async def __aenter__(self) -> Self:
        if self._block is not None:
            raise RuntimeError("an ActorSystem is opened once: make another")
        self.seams = self._given_seams or Seams.real()
        self._block = _opened(self)
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._block is not None, "entered before it is left"
        return await self._block.__aexit__(kind, error, traceback)

    async def serve(self, *, task_status: trio.TaskStatus[ActorSystem] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled, or until `stop`: for `await nursery.start(system.serve)`, which returns the system, started."""
        async with self:
            task_status.started(self)
            await trio.sleep_forever()

    if not TYPE_CHECKING:  # a type checker would accept every misspelt name

        def __getattr__(self, name: str) -> object:
            if name in ("seams", "stage", "_root", "root", "reports", "undelivered"):
                raise AttributeError(
                    "this ActorSystem is not open yet: use it inside `async with ActorSystem() as system`"
                )
            raise AttributeError(f"'ActorSystem' object has no attribute {name!r}", name=name, obj=self)

    # -- what the host does with it

    @property
    def root(self) -> Ref[SupervisorMessage]:
        """The supervisor of everything."""
        return self._root.ref

    @property
    def reports(self) -> Reports:
        """What supervisors report: listen, subscribe, or look at the last ones."""
        return self.stage.reports

    @property
    def undelivered(self) -> Undelivered:
        """Messages that nobody handled."""
        return self.stage.undelivered

    def whereis(self, path: str) -> Ref[Any] | None:
        """The address of the actor with this path (`/pool/17`), if there is one."""
        return self.stage.whereis(path)

    async def start_child(
        self, spec: ChildSpec, *, under: Ref[StartChild] | None = None, timeout: float = math.inf
    ) -> Ref[Any]:
        """Start a child of the root, or of the supervisor `under`; returns when it has started. See `StartChild`."""
        return await self._supervisor(under).ask(StartChild(spec), timeout=timeout)

    async def stop_child(
        self, child: str | Ref[Any], *, under: Ref[StopChild] | None = None, timeout: float = math.inf
    ) -> None:
        """Stop a child by name or Ref; its spec is kept. See `StopChild`."""
        await self._supervisor(under).ask(StopChild(child), timeout=timeout)

    async def restart_child(
        self, child: str | Ref[Any], *, under: Ref[RestartChild] | None = None, timeout: float = math.inf
    ) -> Ref[Any]:
        """Start a child that was stopped, is parked, or waits for its backoff. See `RestartChild`."""
        return await self._supervisor(under).ask(RestartChild(child), timeout=timeout)

    async def remove_child(
        self, child: str | Ref[Any], *, under: Ref[RemoveChild] | None = None, timeout: float = math.inf
    ) -> None:
        """Forget a child that is not up. See `RemoveChild`."""
        await self._supervisor(under).ask(RemoveChild(child), timeout=timeout)

    async def replace_child(
        self, spec: ChildSpec, *, under: Ref[ReplaceChild] | None = None, timeout: float = math.inf
    ) -> Ref[Any]:
        """Stop the child of this name and start this one in its place. See `ReplaceChild`."""
        return await self._supervisor(under).ask(ReplaceChild(spec), timeout=timeout)

    def _supervisor(self, under: Ref[Any] | None) -> Ref[Any]:
        """Whom to ask. Another actor would take the request and never answer."""
        if under is None:
            return self.root
        actor = under._cell.actor if isinstance(under, Ref) else under  # noqa: SLF001 -- a Ref and its cell are one thing
        if actor is not None and not isinstance(actor, Supervisor):
            raise TypeError(f"under= needs the Ref of a supervisor: {under!r} is a {type(actor).__name__}")
        return under

    def stop(self) -> None:
        """End the block: its body is cancelled, and leaving it does what it always does."""
        self.request_stop()
        self.cancel_body()

    def request_stop(self, *, grace_s: float | None = None) -> None:
        """Begin to stop, with `grace_s` (default: the system's) for work in hand. Again: the earlier end counts."""
        by_s = self.seams.clock.mono_s() + (self.grace_s if grace_s is None else grace_s)
        self.stage.stop_by_s = min(by_s, self.stage.stop_by_s if self.stage.stop_by_s is not None else math.inf)
        self.stage.hurry()
        self._stop.set()

    def cancel_body(self) -> None:
        """Cancel the block that opened the system: what leaving it does, follows."""
        self._body.cancel()

    def vanish(self) -> None:
        """End as a killed process does: every task is cancelled at once, and nothing is stopped in order. For simulations."""
        self.stage.nursery.cancel_scope.cancel()
        self._started.set()
        self._stop.set()
        self.cancel_body()

    # -- Parent of the root

    def child_exited(self, _cell: Cell[Any], exit_: Exit) -> None:
        """See `Parent.child_exited`."""
        self._ended = exit_
        if not self._stop.is_set():
            self._body.cancel()
            self._stop.set()

    def _end_with(self, error: BaseException) -> None:
        """An actor wants the program to end."""
        self._fatal = self._fatal or error
        self.request_stop()
        self.cancel_body()

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task
    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        spec = _with_scheduler(self.spec)
        with trio.CancelScope(shield=True) as shield:
            async with trio.open_nursery() as nursery:
                self.stage = stage = Stage(nursery, self.seams, self.checked, on_fatal=self._end_with)
                stage.reports.listen(log_report)
                self._root = Cell(stage, "", "root", lambda: Supervisor(spec), parent=self, kind="supervisor")
                stage.add(self._root)
                self._prepare(self)
                task_status.started()
                nursery.start_soon(self._obey_stop)
                await self._root.start()
                self._started.set()
                await self._stop.wait()
                await self._root.wait_gone()
                self._root.end()
                stage.undelivered.flush()
                stage.reports.close()
                # Whoever still lives ignored its stop budget and its cancellation. We can only wait for it; the
                # host's own cancellation shall reach it too, now that there is no order left to keep.
                shield.shield = False
                nursery.cancel_scope.cancel()

    async def _obey_stop(self) -> None:
        await self._stop.wait()
        self._root.request_stop()


def _with_scheduler(spec: SupervisorSpec) -> SupervisorSpec:
    if any(child.make is Scheduler for child in spec.children):
        return spec
    return evolve(spec, children=(SCHEDULER, *spec.children))


@asynccontextmanager
async def _opened(system: ActorSystem) -> AsyncIterator[None]:
    raised: BaseException | None = None
    try:
        async with trio.open_nursery() as outer:
            with trio.CancelScope(shield=True):  # for one step: a cancelled `start` would wait for the end of it all
                await outer.start(system._serve)  # noqa: SLF001 -- one thing in two halves
            try:
                await system._started.wait()  # noqa: SLF001
                if isinstance(system._ended, StartFailed):  # noqa: SLF001
                    _raise_start_failure(system._ended)  # noqa: SLF001
                with system._body:  # noqa: SLF001
                    yield
            except BaseException as error:  # noqa: BLE001 -- raised below: the nursery would wrap it, and copy groups
                raised = error
            finally:
                system.request_stop()
    except BaseException as error:  # noqa: BLE001 -- all but a cancellation is raised, and that follows below
        own = without_cancelled(error)
        if own is not None:
            raise single(own) from raised
    if raised is not None:
        raise_as_it_was(raised)
    if system._fatal is not None:  # noqa: SLF001
        raise_as_it_was(system._fatal)  # noqa: SLF001
    ended = system._ended  # noqa: SLF001
    if ended is not None and not isinstance(ended, Shutdown):
        raise SystemGaveUp(ended) from error_of(ended)
    await trio.lowlevel.checkpoint_if_cancelled()  # a host that was cancelled meanwhile goes no further


def _raise_start_failure(exit_: StartFailed) -> None:
    """The first cause is what the user can act on: a port in use, a file held."""
    error: BaseException = exit_.error
    while isinstance(error, SupervisionError) and error.__cause__ is not None:
        error = error.__cause__
    raise error
