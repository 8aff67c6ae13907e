"""
One suspect at a time: a run under which the process keeps dying must not take others like it down again and again.

Rule: whoever claims asks first, and says afterwards what came. The ticket goes to one claim at a time; while it is out, or
a suspect is on stage, every other claim is for runs that are none.
Not here: what makes a suspect (`store.policy.DEATHS_BEFORE_SUSPECT`), and who is due first (the store's claim).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from ..store.policy import DEATHS_BEFORE_SUSPECT
from ..store.records import Claimed


@define(eq=False)
class Quarantine:
    """One per runtime, for all its queues and tasks together. It outlives the actors that ask."""

    run_id: str | None = None
    """The suspect on stage. One that is stuck keeps the others waiting: it may be what kills the process."""
    _is_asking: bool = field(default=False, init=False)
    _refused: dict[Callable[[], object], None] = field(factory=dict, init=False)

    def ask(self, wake: Callable[[], object]) -> int:
        """How many suspects the next claim may bring: 1 or 0; after a 0, `wake` is called when that may have changed."""
        if self._is_asking or self.run_id is not None:
            self._refused[wake] = None
            return 0
        self._is_asking = True
        return 1

    def answer(self, suspects: int, runs: Sequence[Claimed]) -> None:
        """What a claim brought for which `ask` had said `suspects`; nothing, when it failed."""
        if not suspects:
            return
        self._is_asking = False
        for run in runs:
            if run.deaths >= DEATHS_BEFORE_SUSPECT:
                self.run_id = run.run_id
        if self.run_id is None:
            self._let_ask()

    def leave(self, run_id: str) -> None:
        """This run is on stage no more."""
        if run_id == self.run_id:
            self.run_id = None
            self._let_ask()

    def _let_ask(self) -> None:
        refused, self._refused = self._refused, {}
        for wake in refused:
            wake()
