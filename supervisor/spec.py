"""
What a supervisor is told: its children, in which order, and what follows when one of them ends. Checked when made.

The words and their meaning are Erlang/OTP's (https://www.erlang.org/doc/apps/stdlib/supervisor.html).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from attrs import field, frozen

from ..actors.actor import Actor


class Strategy(StrEnum):
    """Which siblings are restarted together with a child that ended."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
    """It and every sibling that was started after it: they depend on it."""


class Restart(StrEnum):
    """After which ends a child is started again."""

    PERMANENT = "permanent"
    """After every end."""
    TRANSIENT = "transient"
    """After abnormal ends only."""
    TEMPORARY = "temporary"
    """Never."""


@frozen
class Intensity:
    """At most `restarts` within `period_s` seconds (sliding, inclusive); one more, and the supervisor gives up."""

    restarts: int = 3
    period_s: float = 5.0

    def __attrs_post_init__(self) -> None:
        if self.restarts < 0:
            raise ValueError(f"Intensity(restarts) must be 0 or more, not {self.restarts}")
        if not self.period_s > 0:
            raise ValueError(f"Intensity(period_s) must be more than 0, not {self.period_s}")


STOP_BUDGET_S: Final = 5.0
"""How long a worker may take to stop before it is cancelled; OTP's default too."""


@frozen
class ChildSpec:
    """
    One child.

    name: unique among its siblings, not empty. make: called for every incarnation. stop_budget_s: seconds from asking to
    stop until it is cancelled; infinity for supervisors, whose children have budgets of their own. intensity: a budget of
    its own instead of a share of the supervisor's. parks: one that spends it is left down and shown; nobody else minds.
    """

    name: str
    make: Callable[[], Actor[Any]]
    restart: Restart = Restart.PERMANENT
    stop_budget_s: float = STOP_BUDGET_S
    kind: str = "actor"
    capacity: int | None = None
    intensity: Intensity | None = None
    parks: bool = False

    def __attrs_post_init__(self) -> None:
        if not self.name:
            raise ValueError("a child's name must not be empty")
        if not self.stop_budget_s >= 0:
            raise ValueError(f"stop_budget_s of {self.name} must be 0 or more, not {self.stop_budget_s}")


@frozen
class SupervisorSpec:
    """
    A supervisor and its children, started from left to right and stopped in reverse.

    parks: a child that spends its intensity is parked (shown, not restarted) instead of making the supervisor give up.
    """

    children: tuple[ChildSpec, ...]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = field(factory=Intensity)
    parks: bool = False

    def __attrs_post_init__(self) -> None:
        names = [child.name for child in self.children]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"children of one supervisor need names of their own; used twice: {', '.join(twice)}")
