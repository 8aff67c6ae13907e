"""
What a supervisor can be asked while it runs. OTP's start_child, terminate_child, restart_child, delete_child.

Rule: one sentence each; an answer comes when it is done. Looking needs no request: the registry shows the tree.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from ..actors.ref import Ref
from ..actors.reply import Request
from ..store.described import bounded
from .spec import ChildSpec


def _is_spec(request: object, _attribute: Any, spec: Any) -> None:
    if not isinstance(spec, ChildSpec):
        name = type(request).__name__
        raise TypeError(
            f"{name} needs a ChildSpec, not {bounded(repr(spec), 100)}: ChildSpec(name, make), or subtree(...)"
        )


@frozen(eq=False)
class StartChild(Request[Ref[Any]]):
    """Start one child more, after the others. Fails with DuplicateChild, ChildStartFailed (it is not kept then), NameTaken."""

    spec: ChildSpec = field(validator=_is_spec)


@frozen(eq=False)
class StopChild(Request[None]):
    """
    Stop this child, by name or Ref, within its budget; its spec is kept, unless it is temporary.

    Fails with NotMyChild; NeededByAll for the scheduler.
    """

    child: str | Ref[Any]


@frozen(eq=False)
class RestartChild(Request[Ref[Any]]):
    """
    Start a child that was stopped, is parked, or waits for its backoff, now and with its budget whole again.

    Fails with NotMyChild, ChildIsUp, ChildStartFailed (it is stopped then).
    """

    child: str | Ref[Any]


@frozen(eq=False)
class RemoveChild(Request[None]):
    """Forget a child that is not up: its name is free, what waits in its mailbox is undelivered. NotMyChild, ChildIsUp."""

    child: str | Ref[Any]


@frozen(eq=False)
class ReplaceChild(Request[Ref[Any]]):
    """Stop the child of this name, if there is one, and start this instead, in its place. Fails as StartChild does."""

    spec: ChildSpec = field(validator=_is_spec)
