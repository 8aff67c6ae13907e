"""
Who waits for something to happen: told by the journal after each commit.

Rule: it costs next to nothing while nobody waits, and nobody who waits can slow a commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio
from attrs import define, field

from .store.contract import Answer, Cancel, CancelAnswer, Claim, Command, Rescue, Rescued, Settle, Settled


@define(eq=False)
class Hub:
    """Of one runtime."""

    _watched: dict[str, list[trio.Event]] = field(factory=dict)
    _activity: trio.Event = field(factory=trio.Event)

    @contextmanager
    def watch(self, run_id: str) -> Iterator[trio.Event]:
        """An event that is set when the run may have ended since, or the runtime has: look again."""
        ended = trio.Event()
        self._watched.setdefault(run_id, []).append(ended)
        try:
            yield ended
        finally:
            events = self._watched.get(run_id, [])
            if ended in events:
                events.remove(ended)
            if not events:
                self._watched.pop(run_id, None)

    @property
    def activity(self) -> trio.Event:
        """Set by the next commit that moves a run, or looks for one. Take it before you look, then wait for it."""
        return self._activity

    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        """Called by the journal after each commit."""
        moved = False
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(command, Settle) and isinstance(answer, Settled):
                moved = True
                if self._watched:
                    for settlement, status in zip(command.settlements, answer.statuses, strict=True):
                        if status is None or status.is_final:  # None: somebody else ended it, before us
                            self._ended(settlement.run_id)
            elif isinstance(command, Cancel) and isinstance(answer, CancelAnswer):
                moved = True
                self._ended(answer.run_id)
            elif isinstance(command, Rescue) and isinstance(answer, Rescued):
                moved = True
                for run in answer.runs:
                    if run.status.is_final:
                        self._ended(run.run_id)
            elif isinstance(command, Claim):
                moved = True  # also when it brought nothing: that is what whoever waits for quiet waits for
        if moved:
            self._stir()

    def others_wrote(self) -> None:
        """Another process wrote to the store: whoever waits looks again."""
        for run_id in list(self._watched):
            self._ended(run_id)
        self._stir()

    def close(self) -> None:
        """Nothing will happen any more: let everybody look once more."""
        for run_id in list(self._watched):
            self._ended(run_id)
        self._activity.set()

    def _stir(self) -> None:
        happened, self._activity = self._activity, trio.Event()
        happened.set()

    def _ended(self, run_id: str) -> None:
        for event in self._watched.get(run_id, ()):
            event.set()
