"""
A frozen picture of the supervision tree, for the monitor, for tests, for people.

Rule: taken from the registry, never from an actor's mailbox: looking costs the actors nothing.
"""

from __future__ import annotations

from attrs import frozen

from .actors.exits import Exit, error_of, is_abnormal
from .actors.journal import Journal
from .actors.stage import Stage
from .store.codec import describe
from .supervisor.task import TaskSupervisor


@frozen
class Node:
    """One actor."""

    path: str
    name: str
    kind: str
    """root, supervisor, scheduler, journal, calendar, task, queue, monitor, retention."""
    state: str
    """starting, running, stopping, down, zombie; or parked."""
    restarts: int
    waiting: int
    """Messages in its mailbox."""
    children: tuple[Node, ...] = ()
    on_stage: int = 0
    """Of a task: how many of its runs are on stage."""
    why: str | None = None
    """While it is down or parked: how its last incarnation ended, where that was not orderly; of a journal, what the store
    refuses its steps with."""


def picture(stage: Stage) -> Node:
    """The tree as it stands, children in start order."""
    below: dict[str, list[str]] = {}
    for path, cell in stage.registry.items():
        if path:
            below.setdefault(path.removesuffix(f"/{cell.name}"), []).append(path)
    return _node(stage, "", below)


def _node(stage: Stage, path: str, below: dict[str, list[str]]) -> Node:
    cell = stage.registry[path]
    return Node(
        path=path or "/",
        name=cell.name,
        kind=cell.kind,
        state="parked" if cell.parked else str(cell.state),
        restarts=max(0, cell.generation - 1),
        waiting=len(cell.mailbox),
        children=tuple(_node(stage, each, below) for each in below.get(path, ())),
        on_stage=len(cell.actor.on_stage) if isinstance(cell.actor, TaskSupervisor) else 0,
        why=_trouble(cell.actor) or _why(cell.exit),
    )


def _trouble(actor: object) -> str | None:
    if not isinstance(actor, Journal) or actor.trouble is None:
        return None
    told = describe(actor.trouble)
    return f"{told.type}: {told.message}"


def _why(exit_: Exit | None) -> str | None:
    if exit_ is None or not is_abnormal(exit_):
        return None
    error = error_of(exit_)
    if error is None:
        return str(exit_)
    told = describe(error)  # an exception's own text may raise
    return f"{told.type}: {told.message}"
