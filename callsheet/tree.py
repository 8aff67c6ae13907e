"""
A frozen picture of the supervision tree, for the monitor, for tests, for people.

Rule: taken from the registry, never from an actor's mailbox: looking costs the actors nothing.
"""

from __future__ import annotations

from attrs import frozen

from .actors.stage import Stage


@frozen
class Node:
    """One actor."""

    path: str
    name: str
    kind: str
    """root, supervisor, scheduler, journal, calendar, task, queue, monitor."""
    state: str
    """starting, running, stopping, down, zombie; or parked."""
    restarts: int
    waiting: int
    """Messages in its mailbox."""
    children: tuple[Node, ...] = ()


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
    )
