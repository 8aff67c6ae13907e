"""
What a supervisor does when it is asked: start, stop, restart, remove and replace a child.

Rule: a request is answered when it is done, and one that cannot be done changes nothing, and says why.
Not here: what happens by itself (`supervisor`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from ..actors.events import Ended, Then
from ..actors.exits import SHUTDOWN
from ..actors.ref import Ref
from ..actors.reply import Reply
from ..actors.scheduler import Scheduler
from ..actors.states import CellState
from .child import Child, ChildState
from .errors import ChildIsUp, ChildStartFailed, DuplicateChild, NeededByAll, NotMyChild
from .record import Record
from .requests import RemoveChild, ReplaceChild, RestartChild, StartChild, StopChild
from .spec import ChildSpec, Restart

if TYPE_CHECKING:
    from .supervisor import Supervisor

Asked: TypeAlias = StartChild | StopChild | RestartChild | RemoveChild | ReplaceChild


async def oblige(supervisor: Supervisor, request: Asked) -> None:
    """Do it, and tell whoever asked."""
    reply: Reply[Any] = request.reply
    if supervisor.cell.stopping:  # it came in the moment before; a start would not be cut short any more
        reply.fail(supervisor.cell.down())
        return
    try:
        reply.answer(await _do(supervisor, request))
    except Exception as error:  # noqa: BLE001 -- whoever asked is told
        reply.fail(error)


async def _do(supervisor: Supervisor, request: Asked) -> Ref[Any] | None:
    match request:
        case StartChild(spec=spec):
            known = supervisor.children.get(spec.name)
            if known is not None:
                raise DuplicateChild(known.cell.path, known.shown)
            return await _start(supervisor, spec)
        case StopChild(child=which):
            await _stop(supervisor, _dispensable(_own(supervisor, which)))
        case RestartChild(child=which):
            return await _restart(supervisor, _own(supervisor, which))
        case RemoveChild(child=which):
            _remove(supervisor, _dispensable(_own(supervisor, which)))
        case ReplaceChild(spec=spec):
            return await _replace(supervisor, spec)
        case _:
            assert_never(request)
    return None


def _own(supervisor: Supervisor, which: str | Ref[Any]) -> Child:
    """The child that is meant. A Ref must be its own, not that of another actor of this name."""
    if not isinstance(which, str | Ref):
        raise TypeError(f"a child is named by its name or its Ref, not by {which!r}")
    name = which if isinstance(which, str) else which._cell.name  # noqa: SLF001 -- a Ref and its cell are one thing
    child = supervisor.children.get(name)
    if child is None or (isinstance(which, Ref) and child.cell.ref is not which):
        told = which if isinstance(which, str) else which.path
        raise NotMyChild(supervisor.cell.path, told, len(supervisor.children))
    return child


def _dispensable(child: Child) -> Child:
    if child.spec.make is Scheduler:
        raise NeededByAll(child.cell.path)
    return child


async def _start(supervisor: Supervisor, spec: ChildSpec) -> Ref[Any]:
    try:
        return _started(supervisor, await supervisor.add(spec))
    except ChildStartFailed:
        supervisor.forget(supervisor.children[spec.name])
        raise


def _started(supervisor: Supervisor, child: Child) -> Ref[Any]:
    if child.cell.state is CellState.STARTING:  # we were told to stop meanwhile, and it is stopped with the others
        raise supervisor.cell.down()
    return child.cell.ref


async def _stop(supervisor: Supervisor, child: Child) -> None:
    if child.state in (ChildState.STOPPED, ChildState.PARKED):
        return
    child.state = ChildState.STOPPED
    await child.stop(for_good=True)
    child.cell.shelve()
    if child.cell.state is not CellState.ZOMBIE:  # it has not ended, and that was reported
        exit_ = child.cell.exit or SHUTDOWN
        supervisor.report(Ended(child.cell.path, child.cell.generation, exit_, Then.STOPPED))
    if child.spec.restart is Restart.TEMPORARY:
        supervisor.forget(child)
    supervisor.set_timer()


async def _restart(supervisor: Supervisor, child: Child) -> Ref[Any]:
    if child.is_up or child.cell.state is not CellState.DOWN:
        raise ChildIsUp(child.cell.path, child.shown)
    child.record = Record()
    exit_ = await supervisor.start(child)
    if exit_ is not None:
        child.state = ChildState.STOPPED
        child.cell.shelve()
        raise supervisor.start_failed(child, exit_)
    supervisor.set_timer()
    return _started(supervisor, child)


def _remove(supervisor: Supervisor, child: Child) -> None:
    if child.is_up:
        raise ChildIsUp(child.cell.path, child.shown)
    supervisor.forget(child)
    supervisor.set_timer()


async def _replace(supervisor: Supervisor, spec: ChildSpec) -> Ref[Any]:
    order = list(supervisor.children)
    former = supervisor.children.get(spec.name)
    if former is not None:
        _dispensable(former).state = ChildState.STOPPED
        await former.stop(for_good=True)
        supervisor.forget(former)
    if supervisor.cell.stopping:
        raise supervisor.cell.down()
    try:
        return await _start(supervisor, spec)
    finally:
        if former is not None and spec.name in supervisor.children:  # in the place of the former one
            supervisor.children = {name: supervisor.children[name] for name in order}
        supervisor.set_timer()
