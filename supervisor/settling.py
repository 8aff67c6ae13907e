"""
How the end of an attempt is written: judged, settled together with others, noted where it came too late.

Rule 1: an end is told once, and then it is the journal's: neither the death of a task supervisor nor its absence loses it.
Rule 2: one that cannot be written as it is, is written without its texts.
Not here: what a failure leads to (`store.policy.judge`), who puts runs on stage (`task`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from attrs import define, evolve, frozen

from ..actors.batch import Write, concerns_one, hand_back, settlement
from ..actors.calendar import Expect
from ..actors.journal import send
from ..actors.ref import Ref
from ..actors.reply import Forward, Reply
from ..actors.run import RunActor
from ..actors.stage import Stage
from ..store.contract import NoteLate, NoteRunning, Settle, Settled, Settlement
from ..store.policy import DEFAULT_RETRY, judge
from ..store.records import Claimed, Due, Outcome, OutcomeKind, Verdict
from . import paths
from .slots import Slots

_log = logging.getLogger("callsheet.task")

RETRY_S: Final = 1.0
"""Wait before it is said again that an attempt is stuck."""


@define(eq=False)  # not frozen: that would cost every run a quarter of a microsecond
class RunEnded:
    """The handler of a run on stage has ended."""

    actor: RunActor
    outcome: Outcome


@frozen(eq=False)
class Settling:
    """Of one system. `journal` may be down for a while: what it is sent waits there."""

    stage: Stage
    journal: Ref[Write]

    def settle(self, ended: Sequence[RunEnded]) -> None:
        """Write how these ended, with one message. Once that is durable, the calendar hears when they are due again."""
        now_us = self.stage.seams.clock.steady_us()
        settlements: list[Settlement] = []
        dues: list[Due] = []
        for each in ended:
            run = each.actor.claimed
            if each.outcome.kind is OutcomeKind.CANCELED:  # the run and its attempt ended when it was canceled
                self._note_late(run.run_id, run.attempt, run.claim_id, each.actor.late)
                continue
            verdict = self._judge(each, now_us)
            settlements.append(settlement(run, verdict, each.actor.progress))
            each.actor.progress = None
            if verdict.due_us is not None:
                dues.append(Due(run.lane.queue, verdict.clock, verdict.due_us))
        if settlements:
            self._send(tuple(settlements), tuple(dues))

    def hand_back(self, runs: Sequence[Claimed], slots: Slots) -> None:
        """These were claimed, and are not started: they wait again, and their slots are free."""
        if runs:
            send(self.journal, hand_back(runs), Reply())
        for run in runs:
            slots.leave(run.run_id)

    def note_stuck(self, actor: RunActor) -> None:
        """An attempt goes on long after it was told to stop: say so, and keep it with its run."""
        run = actor.claimed
        _log.error(
            "run %s of task %s goes on %g s after it was told to stop (%s): it keeps its slot until it ends",
            run.run_id, run.lane.task, actor.stuck_after_s, actor.stop_reason,
        )  # fmt: skip
        self._keep_stuck(actor)

    def _keep_stuck(self, actor: RunActor) -> None:
        """With its run: unlike an end, that is refused while the store takes nothing, and is tried again while it is true."""
        if not actor.is_over:
            run = actor.claimed
            since_us = actor.stuck_since_us
            note = NoteRunning(run.run_id, run.attempt, run.claim_id, run.fence, stuck_since_us=since_us, run=run)
            send(self.journal, note, Forward(lambda _: None, lambda _: self._keep_stuck_later(actor)))

    def _keep_stuck_later(self, actor: RunActor) -> None:
        self.stage.timers.at(self.stage.seams.clock.mono_s() + RETRY_S, lambda: self._keep_stuck(actor))

    def _judge(self, ended: RunEnded, now_us: int) -> Verdict:
        run, policy = ended.actor.claimed, ended.actor.policy
        try:
            draw = self.stage.seams.draw() if policy.jitter else 0.0
            return judge(run, ended.outcome, policy, now_us, draw)
        except Exception:  # noqa: BLE001 -- logged; the default policy raises nothing
            _log.exception("the retry policy of run %s failed: the default one is applied", run.run_id)
            return judge(run, ended.outcome, DEFAULT_RETRY, now_us)

    def _send(self, settlements: tuple[Settlement, ...], dues: tuple[Due, ...]) -> None:
        reply: Forward[Settled] = Forward(
            lambda answer: self._settled(settlements, dues, answer),
            lambda error: self._not_settled(settlements, dues, error),
        )
        send(self.journal, Settle(settlements), reply)

    def _settled(self, settlements: tuple[Settlement, ...], dues: tuple[Due, ...], answer: Settled) -> None:
        calendar = self.stage.whereis(paths.CALENDAR) if dues else None
        if calendar is not None:
            calendar.tell_control(Expect(dues))
        if None in answer.statuses:  # somebody else ended the attempt first: a cancel, between its end and this
            for each, status in zip(settlements, answer.statuses, strict=True):
                if status is None:
                    self._note_late(each.run_id, each.attempt, each.claim_id, _late(each.verdict))

    def _note_late(self, run_id: str, attempt: int, claim_id: bytes, late: str | None) -> None:
        if late is not None:
            send(self.journal, NoteLate(run_id, attempt, claim_id, late), Reply())

    def _not_settled(self, settlements: tuple[Settlement, ...], dues: tuple[Due, ...], error: BaseException) -> None:
        """One of them cannot be written: find it by sending them one by one; it then settles without its texts."""
        if not isinstance(error, Exception) or not concerns_one(error):
            _log.error("%d ends were not written, the next open takes these runs back: %s", len(settlements), error)
            return
        if len(settlements) > 1:
            for each in settlements:
                self._send((each,), dues)
            return
        only = settlements[0]
        _log.error("run %s could not be settled: %s", only.run_id, error, exc_info=error)
        bare = _bare(only.verdict, error)
        if bare != only.verdict:
            self._send((evolve(only, verdict=bare),), dues)


def _late(verdict: Verdict) -> str | None:
    """What a handler did, where that says more than `it ended`; in the words of `RunActor.late`."""
    match verdict.outcome:
        case OutcomeKind.SUCCEEDED:
            return None if verdict.result is None and verdict.result_error is None else "returned a value"
        case OutcomeKind.FAILED | OutcomeKind.DISCARDED if verdict.error is not None:
            return f"raised {verdict.error.type}"
        case _:
            return None


def _bare(verdict: Verdict, error: BaseException) -> Verdict:
    """The same verdict without anything that a store could refuse."""
    return evolve(verdict, error=None, result=None, result_error=None, cause=f"not kept: {type(error).__name__}")
