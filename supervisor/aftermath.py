"""
What a commit sets in motion: wake-ups for queues, timers for the calendar, stops for handlers.

Rule: it reads commands and answers and sends empty wake-ups and stops; it decides nothing. Called synchronously by the
journal after each commit, so it must be cheap.
Not here: what follows from a settle, which its task supervisor knows better (`task`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define

from ..actors.calendar import Expect, Reread
from ..actors.stage import Stage
from ..store.arithmetic import runs_of
from ..store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Command,
    Insert,
    Inserted,
    Rescue,
    Rescued,
    ScheduleSet,
    SetSchedule,
)
from ..store.records import Clock, Due, NewRun, QueueOverride, Status
from . import paths
from .slots import Slots


@define(eq=False)
class Aftermath:
    """For one runtime; `slots` of its queues, by identity."""

    stage: Stage
    slots: Mapping[str, Slots]

    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        """See the rule of this file."""
        dues: list[Due] = []
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(command, Insert) and isinstance(answer, Inserted):
                self._inserted(command, answer, dues)
            elif isinstance(command, Cancel) and isinstance(answer, CancelAnswer):
                self._canceled(answer)
            elif isinstance(command, SetSchedule) and isinstance(answer, ScheduleSet):
                self._appeared(runs_of(command, answer), dues)
            elif isinstance(answer, QueueOverride):
                self.adopt((answer,))
            elif isinstance(command, Rescue) and isinstance(answer, Rescued):
                self._rescued(answer)
        if dues:
            calendar = self.stage.whereis(paths.CALENDAR)
            if calendar is not None:
                calendar.tell_control(Expect(tuple(dues)))

    def adopt(self, overrides: Iterable[QueueOverride]) -> None:
        """This was said of queues at run time."""
        for override in overrides:
            slots = self.slots.get(override.queue)
            if slots is not None:
                slots.adopt(override)

    def wake(self, queue: str) -> None:
        """Have one queue look."""
        slots = self.slots.get(queue)
        if slots is not None:
            slots.wake()

    def wake_all(self) -> None:
        """Have every queue look."""
        for slots in self.slots.values():
            slots.wake()

    def others_wrote(self) -> None:
        """Another process wrote to the store: there may be something to claim, now or soon."""
        self.wake_all()
        calendar = self.stage.whereis(paths.CALENDAR)
        if calendar is not None:
            calendar.tell_control(Reread())

    def _inserted(self, command: Insert, answer: Inserted, dues: list[Due]) -> None:
        self._appeared([run for run, there in zip(command.runs, answer.existing, strict=True) if there is None], dues)

    def _appeared(self, runs: Iterable[NewRun], dues: list[Due]) -> None:
        queues: dict[str, None] = {}  # in an order that a seed repeats
        for run in runs:
            if run.clock is Clock.AT_ONCE:
                queues[run.lane.queue] = None
            else:
                dues.append(Due(run.lane.queue, run.clock, run.due_us))
        for queue in queues:
            self.wake(queue)

    def _canceled(self, answer: CancelAnswer) -> None:
        if answer.canceled and answer.was is Status.RUNNING and answer.lane is not None:
            slots = self.slots.get(answer.lane.queue)
            if slots is not None:
                slots.cancel(answer.run_id, answer.claim_id)
        elif answer.was is Status.CANCELED:  # by somebody else, perhaps while it runs here
            for each in self.slots.values():
                each.cancel(answer.run_id)

    def _rescued(self, answer: Rescued) -> None:
        for queue in dict.fromkeys([run.lane.queue for run in answer.runs]):  # in an order that a seed repeats
            self.wake(queue)
