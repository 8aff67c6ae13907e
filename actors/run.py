"""
A run on stage: one actor, one attempt, its own cancel scope.

Rule 1: it is given a bound `perform` and exits with an Outcome; it knows no store, no policy beyond that.
Rule 2: how it ended is judged by our own flag, never by whether `Cancelled` came back: a handler that swallows it
    still timed out.
Not here: what follows (`supervisor/task.py`), which exception means what (`ending`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, Protocol

import trio
from attrs import define, evolve, field

from ..store.policy import MAX_DELAY_S, RetryPolicy, microseconds, seconds
from ..store.records import SPENDING, Claimed, Outcome, OutcomeKind
from . import ending
from .cancellation import is_cancellation
from .control import AttemptStopped
from .leaks import close_nurseries
from .stage import Stage
from .timers import Timer

_log = logging.getLogger("callsheet.run")

US: Final = 1_000_000
STUCK_AFTER_S: Final = 30.0
"""Default for how long a handler may go on after it was told to stop, before its run is shown as stuck."""
_CUT_OFF: Final = Outcome(OutcomeKind.INTERRUPTED, cause="the runtime was cancelled")


class StopReason(StrEnum):
    """Why a running attempt was told to stop."""

    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    INTERRUPTED = "interrupted"


class Unreadable(Exception):
    """Raised by `perform` before the handler starts: the payload is not of its type. The cause says why."""


class RunParent(Protocol):
    """What a run knows of whoever put it on stage."""

    def run_ended(self, actor: RunActor, outcome: Outcome) -> None:
        """The attempt is over. Synchronous; must not raise."""

    def run_stuck(self, actor: RunActor) -> None:
        """It was told to stop long ago, and goes on. Synchronous; must not raise."""


@define(eq=False)
class RunActor:
    """One attempt at one run, from the moment it was claimed until its handler has ended."""

    claimed: Claimed
    perform: Callable[[RunActor], Awaitable[object]]
    """Calls the handler; returns what it returned, raises what it raised."""
    policy: RetryPolicy
    stage: Stage
    parent: RunParent
    stuck_after_s: float = STUCK_AFTER_S
    stop_reason: StopReason | None = field(default=None, init=False)
    deadline_us: int | None = field(default=None, init=False)
    stuck_since_us: int | None = field(default=None, init=False)
    """Since when it goes on although it was told to stop; known once that was `stuck_after_s` ago."""
    is_over: bool = field(default=False, init=False)
    """Whether its handler has ended."""
    late: str | None = field(default=None, init=False)
    """What the handler did after it was told to stop, where that says more than `it ended`."""
    progress: bytes | None = field(default=None, init=False)
    """What the handler told of itself last, until that is written."""
    retry_delay: Callable[[int, BaseException], object] | None = field(default=None, init=False)
    """
    Set by `perform`, where the run itself may say how long to wait: (tries spent, error) -> seconds, a timedelta, or None.
    """
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _told: trio.Event | None = field(default=None, init=False)
    _patience: Timer | None = field(default=None, init=False)

    def start(self) -> None:
        """Put it on stage; its deadline, where it has one, starts now."""
        self.stage.spawn(self._live, self.claimed.run_id)

    def stop(self, reason: StopReason) -> None:
        """Cancel the handler. The first reason stays, except that a cancel overrides it: it is what the store says."""
        if self.stop_reason is None and not self.is_over:
            self._wait_patiently()
        if self.stop_reason is None or reason is StopReason.CANCELED:
            self.stop_reason = reason
        self._scope.cancel()
        if self._told is not None:
            self._told.set()

    def told_to_stop(self) -> trio.Event:
        """Set once it was told to stop: for whoever waits outside of its scope, as a thread does."""
        if self._told is None:
            self._told = trio.Event()
            if self.stop_reason is not None:
                self._told.set()
        return self._told

    @trio.lowlevel.enable_ki_protection  # a Ctrl-C belongs to the main task, never to a handler
    async def _live(self) -> None:
        timer = self._arm()
        outcome = _CUT_OFF
        try:
            outcome = await self._attempt()
        finally:  # also when a scope around us was cancelled
            self.is_over = True
            if timer is not None:
                timer.cancel()
            if self._patience is not None:
                self._patience.cancel()
            self.parent.run_ended(self, outcome)

    def _wait_patiently(self) -> None:
        clock = self.stage.seams.clock
        since_us, by_s = clock.steady_us(), clock.mono_s() + self.stuck_after_s
        self._patience = self.stage.timers.at(by_s, lambda: self._is_stuck(since_us))

    def _is_stuck(self, since_us: int) -> None:
        self.stuck_since_us = since_us
        self.parent.run_stuck(self)

    def _arm(self) -> Timer | None:
        timeout_us = self.claimed.timeout_us
        if timeout_us is None:
            return None
        clock = self.stage.seams.clock
        self.deadline_us = clock.steady_us() + timeout_us
        return self.stage.timers.at(clock.mono_s() + timeout_us / US, lambda: self.stop(StopReason.TIMED_OUT))

    async def _attempt(self) -> Outcome:
        if self.stop_reason is not None:  # canceled, or stopped with its supervisor, before our task had its first turn
            return self._stopped(late=None)
        value: object = None
        try:
            with self._scope:
                try:
                    value = await self.perform(self)
                finally:
                    task = trio.lowlevel.current_task()
                    if task._child_nurseries:  # noqa: SLF001 -- the public name makes a list, for every run
                        await close_nurseries(task)
        except Unreadable as error:
            return ending.of_unreadable(error.__cause__ or error)
        except BaseException as error:
            if is_cancellation(error):
                raise
            if self.stop_reason is None:
                return self._delayed(ending.of_exception(error, self.policy), error)  # it ends this attempt only
            return self._stopped(late=None if isinstance(error, AttemptStopped) else f"raised {type(error).__name__}")
        if self.stop_reason is None:
            return ending.of_value(value)
        return self._stopped(late=None if value is None else "returned a value")

    def _stopped(self, late: str | None) -> Outcome:
        self.late = late
        match self.stop_reason:
            case StopReason.TIMED_OUT:
                assert self.claimed.timeout_us is not None, "only a timeout times out"
                outcome = ending.of_timeout(self.claimed.timeout_us / US, self.policy)
                assert outcome.error is not None, "a timeout has one"
                return self._delayed(outcome, TimeoutError(outcome.error.message))
            case StopReason.CANCELED:
                return Outcome(OutcomeKind.CANCELED)
            case _:
                return Outcome(OutcomeKind.INTERRUPTED)

    def _delayed(self, outcome: Outcome, error: BaseException) -> Outcome:
        """With the wait that the run itself asks for, where it does, and where there is a next try that nobody timed yet."""
        run, spent = self.claimed, self.claimed.spent + 1
        if self.retry_delay is None or outcome.kind not in SPENDING or outcome.delay_us is not None:
            return outcome
        if not outcome.retryable or spent >= run.max_attempts:
            return outcome
        try:
            delay = self.retry_delay(spent, error)
            if delay is None:
                return outcome
            return evolve(outcome, delay_us=microseconds(min(seconds(delay, "job_retry_delay"), MAX_DELAY_S)))
        except BaseException:  # noqa: BLE001 -- a plain call: nothing here is a cancellation of ours; logged
            _log.exception("run %s cannot say when to try again: its retry policy does", run.run_id)
            return outcome
