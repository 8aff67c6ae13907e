"""
How the planner hears of what happens: what the journal, the calendar and other processes tell it.

Rule: its messages are empty wake-ups; what is true is looked up. What stands here outlives an incarnation of the planner.
Not here: what it does about them (`planner`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from attrs import define, field, frozen

from ..store.contract import Answer, Cancel, Command, Rescue, SetSchedule, Settle


@frozen
class Look:
    """Something may be due. Many at once are one."""


@frozen
class Ended:
    """A run has ended, one perhaps that a time waits for."""


@frozen
class Reread:
    """Somebody changed a schedule."""


PlannerMessage: TypeAlias = Look | Ended | Reread


@define(eq=False)
class Planned:
    """What outlives an incarnation of the planner: who tells it of commits, and what it is known to wait for."""

    tell: Callable[[PlannerMessage], object] = lambda _message: None
    waits: bool = False
    """Whether a time waits for the end of a run."""
    unsaid: dict[str, set[str]] = field(factory=dict)
    """
    By Jobs: the keys of which the store has yet to be told what the code says of them. Each is said once for each open, so that
    two releases do not take turns.
    """
    own: frozenset[int] = frozenset()
    """The planner's own commands under way, by `id`: of those nobody need tell it."""

    ends: int = 0
    """How often a run ended that a time may have waited for."""
    ends_seen: int = 0
    """For how many of them what waited has been requested."""

    @property
    def is_behind(self) -> bool:
        """Whether a run is still to be requested because another one has ended."""
        return self.ends != self.ends_seen

    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        """Called by the journal after each commit."""
        changed = ended = False
        for command in commands:
            kind = type(command)
            if kind is SetSchedule:
                changed = changed or id(command) not in self.own
            elif self.waits and (kind is Settle or kind is Cancel or kind is Rescue):
                ended = ended or kind is not Settle or _is_of_schedules(command)  # type: ignore[arg-type]  # it is one
        if changed:
            self.tell(Reread())
        if ended:
            self.ends += 1
            self.tell(Ended())

    def look(self) -> None:
        """The wall clock was set, or so: look at it now."""
        self.tell(Look())

    def others_wrote(self) -> None:
        """Another process wrote to the store: a schedule, perhaps."""
        self.tell(Reread())


def _is_of_schedules(command: Settle) -> bool:
    """Whether a run of a schedule may have ended with it."""
    return any(each.run is None or each.run.nominal_us is not None for each in command.settlements)
