"""
What the planner holds of the schedules: how each stands, which is due next, and which wait for a run to end.

Rule: synchronous, and reads no clock. It only says when to look; what is stored is the truth.
Not here: reading and writing them (`planner`), what follows from a time (`decide`).
"""

from __future__ import annotations

import itertools
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from attrs import define, field

from ..store.records import Schedule
from .plan import Plan, plan_said

if TYPE_CHECKING:
    from ..jobs import Jobs


@define(eq=False)
class Known:
    """A schedule as it was read or written last."""

    jobs: Jobs
    key: str
    schedule: Schedule | None = None
    """None: the code declares it, and it is not stored yet."""
    plan: Plan | None = None
    """None where this release cannot read it."""
    expected_us: int | None = None
    """When it is due, while it is among those that are expected."""
    told: set[str] = field(factory=set)
    """What was said of it in the log."""

    @property
    def place(self) -> tuple[str, str]:
        """Its name among all."""
        return self.jobs.identity, self.key

    def stands(self, schedule: Schedule | None) -> None:
        """So from now on."""
        if schedule is not None and (self.schedule is None or self.schedule.body != schedule.body):
            self.plan = plan_said(schedule)
        self.schedule = schedule


@define(eq=False)
class Expected:
    """Which schedules are due when, and which wait: a look costs what is due, however many there are."""

    waiting: dict[tuple[str, str], Known] = field(factory=dict, init=False)
    """Those of which a time waits for the end of a run."""
    _dues: list[tuple[int, str, int, Known]] = field(factory=list, init=False)
    """A heap; an entry that is not what its schedule expects any more is passed over."""
    _entries: itertools.count[int] = field(factory=itertools.count, init=False)

    def expect(self, each: Known) -> None:
        """As it stands; it is to be looked after."""
        schedule = each.schedule
        assert schedule is not None
        if schedule.waiting_us is not None:
            self.waiting[each.place] = each
        else:
            self.waiting.pop(each.place, None)
        due_us = None if schedule.next_us is None else schedule.due_us
        if due_us is not None and due_us != each.expected_us:
            heappush(self._dues, (due_us, each.key, next(self._entries), each))
        each.expected_us = due_us

    def forget(self, each: Known) -> None:
        """It is not to be looked after for now."""
        self.waiting.pop(each.place, None)
        each.expected_us = None

    def take_due(self, now_us: int) -> list[Known]:
        """Those that are due, in order; each is expected no more, until somebody says so."""
        due: list[Known] = []
        while self._dues and self._dues[0][0] <= now_us:
            due_us, _, _, each = heappop(self._dues)
            if each.expected_us == due_us:
                each.expected_us = None
                due.append(each)
        return due

    @property
    def next_us(self) -> int | None:
        """When the next one is due, or a little earlier."""
        return self._dues[0][0] if self._dues else None

    def tidy(self) -> None:
        """Let go of what nobody expects any more."""
        self._dues = [each for each in self._dues if each[3].expected_us == each[0]]
        heapify(self._dues)


def by_due(each: Known) -> tuple[int, str]:
    """The order in which they are looked after."""
    due_us = None if each.schedule is None else each.schedule.due_us
    return (1 << 62 if due_us is None else due_us, each.key)
