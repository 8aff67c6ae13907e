"""
Stores that break a promise, each in one way: to see the oracle find it. A worker takes one when its orders say so.

Rule: nothing of this is reachable from the product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import apsw
from attrs import evolve

from callsheet.store.contract import Answer, Cancel, CancelAnswer, Claim, Command, Insert, Rescue, Rescued, SetSchedule
from callsheet.store.records import NewRun, Now, Status
from callsheet.store.sqlite import SqliteStore

LATE_S: Final = 0.01
"""How much earlier than its commit an answer comes: long against the work between two commits."""
HOUR_US: Final = 3_600_000_000
HELD_BACK: Final = 20
"""Writes for which `RequestsLater` holds runs back."""


class AnswersFirst(SqliteStore):
    """Answers batches that hold a command of `kind`, and commits them with the next one."""

    kind: type[Command]
    _early = False

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """The commit of the batch before, late; then this one's answers."""
        ledger = self._in_use()
        if ledger.db.in_transaction:
            time.sleep(LATE_S)
            super()._commit(ledger.db)
        self._early = any(isinstance(command, self.kind) for command in commands)
        return super().write(commands, now)

    def _commit(self, db: apsw.Connection) -> None:
        if not self._early:
            super()._commit(db)


class AnswersEnqueuesFirst(AnswersFirst):
    """`enqueue` returns before the run is durable."""

    kind = Insert


class StartsFirst(AnswersFirst):
    """A handler starts before its attempt is durable."""

    kind = Claim


class KeepsNoCancel(SqliteStore):
    """Acknowledges a cancel, and writes nothing."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """Everything but the cancels."""
        answers = iter(super().write([each for each in commands if not isinstance(each, Cancel)], now))
        return [
            CancelAnswer(each.run_id, Status.QUEUED, canceled=True) if isinstance(each, Cancel) else next(answers)
            for each in commands
        ]


class RescuesNobody(SqliteStore):
    """Leaves what dead processes were running as it is."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """Everything but the rescues."""
        answers = iter(super().write([each for each in commands if not isinstance(each, Rescue)], now))
        return [Rescued((), False) if isinstance(each, Rescue) else next(answers) for each in commands]


class ForgetsAttempts(SqliteStore):
    """Takes runs back, and forgets the attempts that crashed."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """A rescue, and then without its attempts."""
        answers = super().write(commands, now)
        for answer in answers:
            if isinstance(answer, Rescued):
                self._in_use().db.executemany(
                    "delete from attempts where n = ?2 and run = (select rid from runs where id = ?1)",
                    [(run.run_id, run.attempt) for run in answer.runs],
                )
        return answers


class SettlesAll(SqliteStore):
    """An attempt that was canceled while it ran succeeds all the same, as under a settle without its guard."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """As ever; and then the outcome of a handler that did not hear of its cancel."""
        answers = super().write(commands, now)
        canceled = [each.run_id for each in answers if isinstance(each, CancelAnswer) and each.claim_id is not None]
        self._in_use().db.executemany("update runs set status = 4 where id = ?", [(each,) for each in canceled])
        return answers


class RequestsTwice(SqliteStore):
    """Each time of a schedule leads to two runs."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """As ever, but for the runs of schedules."""
        return super().write([self._twice(each) if isinstance(each, SetSchedule) else each for each in commands], now)

    def _twice(self, command: SetSchedule) -> SetSchedule:
        return evolve(command, runs=(*command.runs, *[evolve(run, id=f"again:{run.id}") for run in command.runs]))


class LosesTimes(SqliteStore):
    """A schedule goes on to its next time, and its run and what was noted are nowhere."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """As ever, but for the runs of schedules."""
        return super().write(
            [evolve(each, runs=(), fired=()) if isinstance(each, SetSchedule) else each for each in commands], now
        )


class RequestsLater(SqliteStore):
    """A schedule goes on to its next time in one transaction, and its runs are stored in another, some writes later."""

    _back: tuple[NewRun, ...] = ()
    _writes = 0

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """What was held back long enough; and then without new runs of schedules."""
        self._writes += 1
        if self._back and self._writes % HELD_BACK == 0:
            super().write([Insert(self._back)], now)
            self._back = ()
        self._back += tuple(run for each in commands if isinstance(each, SetSchedule) for run in each.runs)
        return super().write(
            [evolve(each, runs=()) if isinstance(each, SetSchedule) else each for each in commands], now
        )


class StartsEarly(SqliteStore):
    """What is due within an hour is due."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """Claims in the future."""
        if any(isinstance(each, Claim) for each in commands):
            now = Now(now.steady_us + HOUR_US, now.wall_us + HOUR_US)
        return super().write(commands, now)


class LosesDelayed(SqliteStore):
    """Forgets what was on stage when its process died, as a queue does that hands work out and keeps nothing of it."""

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """A rescue, and then nothing of it is left."""
        answers = super().write(commands, now)
        lost = [(run.run_id,) for each in answers if isinstance(each, Rescued) for run in each.runs]
        self._in_use().db.executemany("delete from runs where id = ?", lost)
        return answers


MUTANTS: Final[dict[str, Callable[[str], SqliteStore]]] = {
    each.__name__: each
    for each in (
        *(AnswersEnqueuesFirst, StartsFirst, KeepsNoCancel, RescuesNobody, ForgetsAttempts, SettlesAll),
        *(RequestsTwice, LosesTimes, RequestsLater, StartsEarly, LosesDelayed),
    )
}
