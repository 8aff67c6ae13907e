"""
What a supervisor is told: its children, in which order, and what follows when one of them ends. Checked when made.

The words and their meaning are Erlang/OTP's (https://www.erlang.org/doc/apps/stdlib/supervisor.html); delays before a
restart are added to them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from types import NoneType
from typing import Any, Final

from attrs import field, frozen

from ..actors.actor import Actor
from ..actors.kinds import NUMBER, Kinds, wrong_kinds
from ..actors.mailbox import UNBOUNDED, Mail
from .errors import InvalidSpec


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


class AutoShutdown(StrEnum):
    """When a supervisor ends because significant children have ended by themselves and are not restarted."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


@frozen
class Intensity:
    """At most `restarts` within `period_s` seconds (sliding, inclusive); one more, and the supervisor gives up."""

    restarts: int = 3
    period_s: float = 5.0

    def __attrs_post_init__(self) -> None:
        refuse_kinds("Intensity", restarts=(self.restarts, int), period_s=(self.period_s, NUMBER))
        refuse(
            f"Intensity({self.restarts!r}, {self.period_s!r})",
            (self.restarts >= 0, "restarts must be 0 or more"),
            (0 < self.period_s < math.inf, "period_s must be more than 0, and finite"),
        )


@frozen
class Backoff:
    """
    How long a restart waits: `first_s`, then `factor` times longer each time in a row, at most `max_s`.

    jitter: a fraction 0 … 1 of the delay that is drawn at random, downwards, so that `max_s` holds. reset_after_s: an
    incarnation that lived this long (default: `max_s`), or called `healthy()`, starts the row anew.
    """

    first_s: float = 0.1
    max_s: float = 5.0
    factor: float = 2.0
    jitter: float = 0.0
    reset_after_s: float | None = None

    def __attrs_post_init__(self) -> None:
        reset = self.reset_after_s
        refuse_kinds(
            "Backoff",
            first_s=(self.first_s, NUMBER),
            max_s=(self.max_s, NUMBER),
            factor=(self.factor, NUMBER),
            jitter=(self.jitter, NUMBER),
            reset_after_s=(reset, (*NUMBER, NoneType)),
        )
        refuse(
            "Backoff",
            (0 <= self.first_s < math.inf, f"first_s must be 0 or more, and finite, not {self.first_s!r}"),
            (self.first_s <= self.max_s < math.inf, f"max_s must be first_s or more, and finite, not {self.max_s!r}"),
            (1 <= self.factor < math.inf, f"factor must be 1 or more, and finite, not {self.factor!r}"),
            (0 <= self.jitter <= 1, f"jitter must be 0 … 1, not {self.jitter!r}"),
            (reset is None or reset >= 0, f"reset_after_s must be 0 or more, not {reset!r}"),
        )


STOP_BUDGET_S: Final = 5.0
"""How long a worker may take to stop before it is cancelled; OTP's default too."""
MAX_NAME: Final = 200
"""Characters of a child's name: it is part of the path of everybody below."""
START_BUDGET_S: Final = 30.0
"""How long a worker may take to start before that counts as a failure."""


@frozen
class ChildSpec:
    """
    One child.

    name: unique among its siblings, not empty, at most 200 characters. make: called for every incarnation.
    stop_budget_s: seconds from asking to stop until it is cancelled; 0 cancels at once; infinity for supervisors, whose
    children have budgets of their own. start_budget_s: seconds `on_start` may take. drain: whether a child that is stopped
    for good takes nothing more and handles what waits first, within its stop budget.
    intensity: a budget of its own instead of a share of the supervisor's. parks: one that spends it is left down and shown;
    nobody else minds. backoff: how long its restarts wait; without one they follow at once.
    significant: its end may end the supervisor, see `AutoShutdown`. apart: not one of those that a strategy takes down
    together. mail: how its messages are kept.
    """

    name: str
    make: Callable[[], Actor[Any]]
    restart: Restart = Restart.PERMANENT
    stop_budget_s: float = STOP_BUDGET_S
    start_budget_s: float = START_BUDGET_S
    kind: str = "actor"
    intensity: Intensity | None = None
    parks: bool = False
    backoff: Backoff | None = None
    significant: bool = False
    drain: bool = False
    apart: bool = False
    mail: Mail = UNBOUNDED

    def __attrs_post_init__(self) -> None:
        permanent = self.restart is Restart.PERMANENT
        refuse_kinds(
            f"ChildSpec {self.name!r}",
            restart=(self.restart, Restart),
            stop_budget_s=(self.stop_budget_s, NUMBER),
            start_budget_s=(self.start_budget_s, NUMBER),
            kind=(self.kind, str),
            intensity=(self.intensity, (Intensity, NoneType)),
            parks=(self.parks, bool),
            backoff=(self.backoff, (Backoff, NoneType)),
            significant=(self.significant, bool),
            drain=(self.drain, bool),
            apart=(self.apart, bool),
            mail=(self.mail, Mail),
        )
        refuse(
            f"ChildSpec {self.name!r}",
            (is_name(self.name), f"name must have 1 … {MAX_NAME} characters"),
            (callable(self.make), f"make must be something to call for each incarnation, not {self.make!r}"),
            (self.stop_budget_s >= 0, f"stop_budget_s must be 0 or more, not {self.stop_budget_s!r}"),
            (self.start_budget_s > 0, f"start_budget_s must be more than 0, not {self.start_budget_s!r}"),
            (not (self.significant and permanent), "significant needs restart transient or temporary"),
            (
                not (self.restart is Restart.TEMPORARY and (self.intensity or self.parks or self.backoff)),
                "a temporary child is never restarted: intensity, parks and backoff mean nothing for it",
            ),
            (not (self.drain and self.stop_budget_s == 0), "drain needs a stop_budget_s of more than 0"),
        )


@frozen
class SupervisorSpec:
    """
    A supervisor and its children, started from left to right and stopped in reverse.

    parks: a child that spends its intensity is parked (shown, not restarted) instead of making the supervisor give up.
    auto_shutdown: whether it ends, normally, when significant children have ended.
    """

    children: tuple[ChildSpec, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = field(factory=Intensity)
    parks: bool = False
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER

    def __attrs_post_init__(self) -> None:
        if not _are_specs(self.children):
            raise InvalidSpec(
                "SupervisorSpec", ("children must be ChildSpecs in a tuple: (first, second), or (only,)",)
            )
        refuse_kinds(
            "SupervisorSpec",
            strategy=(self.strategy, Strategy),
            intensity=(self.intensity, Intensity),
            parks=(self.parks, bool),
            auto_shutdown=(self.auto_shutdown, AutoShutdown),
        )
        names = Counter(child.name for child in self.children)
        twice = sorted(name for name, n in names.items() if n > 1)
        significant = [child.name for child in self.children if child.significant]
        never = self.auto_shutdown is AutoShutdown.NEVER
        refuse(
            "SupervisorSpec",
            (not twice, f"children of one supervisor need names of their own; used twice: {', '.join(twice)}"),
            (
                not (significant and never),
                f"significant children ({', '.join(significant)}) need an auto_shutdown other than never",
            ),
        )


def _are_specs(children: object) -> bool:
    return isinstance(children, tuple | list) and all(isinstance(each, ChildSpec) for each in children)


def is_name(name: object) -> bool:
    """Whether a child may be called so."""
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME


def refuse(what: str, *rules: tuple[bool, str]) -> None:
    """Name every rule that does not hold."""
    broken = tuple(sentence for holds, sentence in rules if not holds)
    if broken:
        raise InvalidSpec(what, broken)


def refuse_kinds(what: str, **fields: tuple[object, Kinds]) -> None:
    """Name every field whose value is of another kind than those that are meant."""
    broken = tuple(wrong_kinds(**fields))
    if broken:
        raise InvalidSpec(what, broken)
