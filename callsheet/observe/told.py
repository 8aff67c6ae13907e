"""
From what a commit held to the events it makes.

Rule 1: pure, and each durable step makes its events once: the end of an attempt is one, and what became of its run is a second
where that says more. What changed nothing (a stale settle, a claim that got nothing) makes none.
Rule 2: which steps make which events is data, and what nobody wants to know costs no call for each run.
Not here: who is told (`bus`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from attrs import define, field, frozen

from ..store.arithmetic import runs_of
from ..store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Claim,
    ClaimedRuns,
    Command,
    Insert,
    Inserted,
    Noted,
    NoteRunning,
    Rescue,
    Rescued,
    ScheduleSet,
    SetSchedule,
    Settle,
    Settled,
)
from ..store.records import Error, Lane, OutcomeKind, Status
from .event import Event, EventKind

ENDS: Final[Mapping[OutcomeKind, EventKind]] = {
    OutcomeKind.SUCCEEDED: EventKind.SUCCEEDED,
    OutcomeKind.FAILED: EventKind.FAILED,
    OutcomeKind.TIMED_OUT: EventKind.TIMED_OUT,
    OutcomeKind.DISCARDED: EventKind.DISCARDED,
    OutcomeKind.SNOOZED: EventKind.SNOOZED,
    OutcomeKind.UNREADABLE: EventKind.UNREADABLE,
    OutcomeKind.INTERRUPTED: EventKind.INTERRUPTED,
    OutcomeKind.CANCELED: EventKind.CANCELED,
    OutcomeKind.CRASHED: EventKind.CRASHED,
    OutcomeKind.LEASE_LOST: EventKind.LEASE_LOST,
}
"""The event of an attempt that ended so."""
THEN: Final[Mapping[Status, EventKind]] = {
    Status.RETRYING: EventKind.RETRYING,
    Status.DEAD_LETTERED: EventKind.DEAD_LETTERED,
}
"""The event that follows, where the status after it is another fact: elsewhere the first one says it."""

_BIRTHS: Final = frozenset({EventKind.ENQUEUED, EventKind.REPLAYED})
_ENDINGS: Final = frozenset({*ENDS.values(), *THEN.values()})

MADE_BY: Final[Mapping[type, frozenset[EventKind]]] = {
    Insert: _BIRTHS | {EventKind.DEDUPED},
    Claim: frozenset({EventKind.STARTED}),
    Settle: _ENDINGS,
    Cancel: frozenset({EventKind.CANCELED}),
    Rescue: _ENDINGS,
    NoteRunning: frozenset({EventKind.STUCK}),
    SetSchedule: frozenset({EventKind.ENQUEUED}),
}
"""The events that a command can make; one that is not here makes none."""


@frozen
class Teller:
    """What is to be told of one commit."""

    jobs: str
    """Of which instance."""
    kinds: frozenset[EventKind]
    at_us: int
    """When the commit was made."""
    boot_id: str | None

    def events(self, command: Command, answer: Answer) -> list[Event]:
        """The events of one command of it, in order."""
        match answer:
            case Inserted() if isinstance(command, Insert):
                return self._inserted(command, answer)
            case ClaimedRuns():
                return self._claimed(answer)
            case Settled() if isinstance(command, Settle):
                return self._settled(command, answer)
            case CancelAnswer() if isinstance(command, Cancel):
                return self._canceled(command, answer)
            case Rescued():
                return self._rescued(answer)
            case Noted() if isinstance(command, NoteRunning):
                return self._noted(command, answer)
            case ScheduleSet() if isinstance(command, SetSchedule):
                return self._scheduled(command, answer)
            case _:
                return []

    def _inserted(self, command: Insert, answer: Inserted) -> list[Event]:
        existing, events = answer.existing, _Events(self)
        births = not self.kinds.isdisjoint(_BIRTHS)
        if not births and existing.count(None) == len(existing):
            return events.made
        for new, found in zip(command.runs, existing, strict=True):
            if found is None and not births:
                continue
            if found is not None:
                if not (command.once and new.replay_of is not None):  # else nobody asked for more than there is
                    events.add(EventKind.DEDUPED, found.id, found, found.attempt, found.status)
                continue
            kind = EventKind.ENQUEUED if new.replay_of is None else EventKind.REPLAYED
            due_us = new.due_us if new.status is Status.SCHEDULED else None
            events.add(kind, new.id, new, 0, new.status, cause=new.reason, due_us=due_us, replay_of=new.replay_of)
        return events.made

    def _scheduled(self, command: SetSchedule, answer: ScheduleSet) -> list[Event]:
        events = _Events(self)
        for new in runs_of(command, answer):
            events.add(EventKind.ENQUEUED, new.id, new, 0, new.status)
        return events.made

    def _claimed(self, answer: ClaimedRuns) -> list[Event]:
        events = _Events(self)
        for run in answer.runs:
            waited_us = max(0, run.started_us - max(run.created_us, run.due_us))
            events.add(EventKind.STARTED, run.run_id, run, run.attempt, Status.RUNNING, waited_us=waited_us)
        return events.made

    def _settled(self, command: Settle, answer: Settled) -> list[Event]:
        statuses, events = answer.statuses, _Events(self)
        if EventKind.SUCCEEDED not in self.kinds and statuses.count(Status.SUCCEEDED) == len(statuses):
            return events.made
        for one, status in zip(command.settlements, statuses, strict=True):
            if status is None or one.run is None:  # somebody else ended the attempt first, and that was told
                continue
            verdict = one.verdict
            if ENDS[verdict.outcome] not in self.kinds and status not in THEN:
                continue
            events.ended(
                verdict.outcome,
                one.run_id,
                one.run,
                one.attempt,
                status,
                started_us=one.run.started_us,
                cause=verdict.cause,
                error=verdict.error,
                due_us=verdict.due_us,
            )
        return events.made

    def _canceled(self, command: Cancel, answer: CancelAnswer) -> list[Event]:
        events = _Events(self)
        if answer.canceled and answer.lane is not None:
            events.ended(
                OutcomeKind.CANCELED,
                answer.run_id,
                _Known(answer.lane, answer.trace_id),
                answer.attempt,
                Status.CANCELED,
                started_us=answer.started_us if answer.was is Status.RUNNING else None,
                cause=command.cause,
            )
        return events.made

    def _rescued(self, answer: Rescued) -> list[Event]:
        events = _Events(self)
        for run in answer.runs:
            events.ended(
                run.outcome,
                run.run_id,
                run,
                run.attempt,
                run.status,
                started_us=run.started_us,
                cause=run.cause,
            )
        return events.made

    def _noted(self, command: NoteRunning, answer: Noted) -> list[Event]:
        events, run = _Events(self), command.run
        if answer.held and command.stuck_since_us is not None and run is not None:
            events.add(EventKind.STUCK, run.run_id, run, run.attempt, Status.RUNNING)
        return events.made


class _Placed(Protocol):
    """Whatever says of a run which one it is like."""

    @property
    def lane(self) -> Lane:
        """Its jobs, queue and task."""

    @property
    def trace_id(self) -> str | None:
        """As given to `enqueue`."""


@frozen
class _Known:
    """See `_Placed`."""

    lane: Lane
    trace_id: str | None


@define
class _Events:
    """Those of one command that somebody wants."""

    teller: Teller
    made: list[Event] = field(factory=list)

    def add(
        self,
        kind: EventKind,
        run_id: str,
        run: _Placed,
        attempt: int,
        status: Status,
        *,
        cause: str | None = None,
        error: Error | None = None,
        waited_us: int | None = None,
        took_us: int | None = None,
        due_us: int | None = None,
        replay_of: str | None = None,
    ) -> None:
        """It happened."""
        teller, lane = self.teller, run.lane
        if kind in teller.kinds and lane.jobs == teller.jobs:
            event = Event(
                kind,
                teller.at_us,
                lane.jobs,
                lane.queue.partition("/")[2],
                lane.task,
                run_id,
                attempt,
                status,
                run.trace_id,
                cause,
                error,
                waited_us,
                took_us,
                due_us,
                replay_of,
                teller.boot_id,
            )
            self.made.append(event)

    def ended(
        self,
        outcome: OutcomeKind,
        run_id: str,
        run: _Placed,
        attempt: int,
        status: Status,
        *,
        started_us: int | None,
        cause: str | None,
        error: Error | None = None,
        due_us: int | None = None,
    ) -> None:
        """An attempt did, or what waited for one."""
        took_us = None if started_us is None else max(0, self.teller.at_us - started_us)
        self.add(ENDS[outcome], run_id, run, attempt, status, cause=cause, error=error, took_us=took_us, due_us=due_us)
        if status in THEN:
            self.add(THEN[status], run_id, run, attempt, status, cause=cause, error=error, due_us=due_us)
