"""
What must become of runs, said as plainly as it can be: a list of runs, two slots, and a clock.

Rule 1: pure; a story is told to it in full before anything real happens.
Rule 2: it knows no actors, commits or timers. Where the order of two events within a few milliseconds would decide something,
    it says so (`is_ambiguous`), and the story is not told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

SLOTS: Final = 2
TRIES: Final = 3
WAIT_S: Final = 7.0
"""Between two tries."""
TIMEOUT_S: Final = 4.1
CLOSE_S: Final = 0.02
"""Events nearer to each other than this may happen in either order: a timer's tick is a millisecond."""
SUSPECT: Final = 3
POISON: Final = 5
FINAL: Final = ("succeeded", "dead_lettered", "canceled")


@frozen
class Part:
    """What one attempt does: it works so long, and then…"""

    work_s: float
    then: str
    """ok, fail, discard or snooze."""

    @property
    def lasts_s(self) -> float:
        return min(self.work_s, TIMEOUT_S)

    @property
    def outcome(self) -> str:
        if self.work_s > TIMEOUT_S:
            return "timed_out"
        return {"ok": "succeeded", "fail": "failed", "discard": "discarded", "snooze": "snoozed"}[self.then]


SNOOZE_S: Final = 13.0
LAST: Final = Part(1.0, "ok")
"""What an attempt does for which the payload says nothing."""


@define(eq=False)
class Modelled:
    """One run."""

    n: int
    parts: tuple[Part, ...]
    priority: int
    due_s: float
    status: str
    at_once: bool
    replay_of: int | None = None
    key: str | None = None
    moves: list[tuple[str, float]] = field(factory=list)
    outcomes: list[str] = field(factory=list)
    spent: int = 0
    deaths: int = 0
    ends_s: float = math.inf
    """When its attempt will have ended, while it is running."""

    def becomes(self, status: str, now_s: float) -> None:
        self.status = status
        self.moves.append((status, now_s))

    @property
    def part(self) -> Part:
        """Of the attempt that runs."""
        n = len(self.outcomes)
        return self.parts[n] if n < len(self.parts) else LAST

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def is_suspect(self) -> bool:
        return self.deaths >= SUSPECT

    def is_due(self, now_s: float) -> bool:
        waits = self.status in ("queued", "scheduled", "retrying")
        return waits and (self.at_once or self.due_s <= now_s)


@define(eq=False)
class Model:
    """A world, in theory."""

    now_s: float = 0.0
    runs: list[Modelled] = field(factory=list)
    is_ambiguous: bool = False
    is_down: bool = False

    # -- what users do

    def enqueue(
        self,
        parts: Sequence[Part],
        *,
        delay_s: float = 0,
        priority: int = 5,
        key: str | None = None,
        of: int | None = None,
    ) -> Modelled:
        """Returns the new run, or the one that has the key."""
        for each in self.runs:
            if key is not None and each.key == key:
                return each
        status = "scheduled" if delay_s else "queued"
        run = Modelled(
            len(self.runs), tuple(parts), priority, self.now_s + delay_s, status, not delay_s, replay_of=of, key=key
        )
        run.becomes(status, self.now_s)
        self.runs.append(run)
        self._fill()
        return run

    def cancel(self, n: int) -> tuple[bool, str]:
        """Whether it was canceled by this, and its status now."""
        run = self.runs[n]
        if run.is_final:
            return False, run.status
        if run.status == "running":
            run.deaths = 0
            self._ends(run, "canceled", "canceled")
        else:
            run.becomes("canceled", self.now_s)
        self._fill()
        return True, "canceled"

    def replay(self, n: int, delay_s: float) -> Modelled | None:
        """The new run; None when the old one has not ended."""
        old = self.runs[n]
        return self.enqueue(old.parts, delay_s=delay_s, priority=old.priority, of=n) if old.is_final else None

    # -- what happens to the process

    def restart(self) -> None:
        """In order: what runs is handed back, and keeps its place."""
        for run in self._running():
            self._ends(run, "interrupted", "queued")
            run.at_once = True
        self._fill()

    def crash(self) -> None:
        """What runs is found by the next process."""
        self.is_down = True

    def starts(self) -> None:
        self.is_down = False
        for run in self._running():
            run.deaths += 1
            poisoned = run.deaths >= POISON
            self._ends(run, "crashed", "dead_lettered" if poisoned else "retrying")
            run.at_once = True
        self._fill()

    # -- time

    def advance(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while not self.is_down:
            events = sorted(self._events())
            if not events or events[0] > until_s:
                break
            self.now_s = events[0]
            near = [each for each in events if each <= self.now_s + CLOSE_S]
            self._look_for_doubt(near, until_s)
            for run in self._running():
                if run.ends_s <= self.now_s:
                    self._attempt_ends(run)
            self._fill()
        self.now_s = until_s

    def _events(self) -> list[float]:
        """When attempts end and runs fall due from now on."""
        ends = [run.ends_s for run in self._running()]
        dues = [run.due_s for run in self.runs if not run.at_once and run.status in ("scheduled", "retrying")]
        return [*ends, *(each for each in dues if each > self.now_s)]

    def _look_for_doubt(self, near: list[float], until_s: float) -> None:
        """Two events at a time, or one while somebody acts: that matters where somebody waits for a slot, or will."""
        waiting = [run for run in self.runs if run.is_due(self.now_s + CLOSE_S)]
        crowded = len(waiting) + len(self._running()) > SLOTS
        if len(near) > 1 and (crowded or any(run.is_suspect for run in self.runs)):
            self.is_ambiguous = True
        if near[-1] > until_s - CLOSE_S:
            self.is_ambiguous = True

    def _attempt_ends(self, run: Modelled) -> None:
        outcome = run.part.outcome
        run.deaths = 0
        if outcome in ("failed", "timed_out"):
            run.spent += 1
            again = run.spent < TRIES
            self._ends(run, outcome, "retrying" if again else "dead_lettered", WAIT_S)
        elif outcome == "snoozed":
            self._ends(run, outcome, "scheduled", SNOOZE_S)
        else:
            self._ends(run, outcome, "succeeded" if outcome == "succeeded" else "dead_lettered")

    def _ends(self, run: Modelled, outcome: str, status: str, wait_s: float | None = None) -> None:
        run.outcomes.append(outcome)
        run.ends_s = math.inf
        if wait_s is not None:
            run.due_s, run.at_once = self.now_s + wait_s, False
        run.becomes(status, self.now_s)

    # -- slots

    def _running(self) -> list[Modelled]:
        return [run for run in self.runs if run.status == "running"]

    def _fill(self) -> None:
        """Free slots go to whoever is due: first by priority, then by due time, then by age; one suspect at a time."""
        while not self.is_down and len(self._running()) < SLOTS:
            quarantined = any(run.is_suspect for run in self._running())
            due = [run for run in self.runs if run.is_due(self.now_s) and not (quarantined and run.is_suspect)]
            if not due:
                return
            run = min(due, key=lambda each: (each.priority, each.due_s, each.n))
            run.becomes("running", self.now_s)
            run.ends_s = self.now_s + run.part.lasts_s
