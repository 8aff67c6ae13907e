"""
One change of all runs that match: counted, asked about, done in steps, answered for.

Rule 1: what is asked about is what is done: runs that were requested after the question are left alone.
Rule 2: each run is answered for in a line; Ctrl-C lets the step in hand end, and says which runs are left. The same call
again goes on where this one stopped.
Not here: what a cancel or a replay is (`callsheet.bulk`), what can be typed (`steering`).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from ..store.records import instant
from .paper import Paper, ask, is_terminal, note
from .runs import pages
from .statuses import INTERRUPTED, NOT_SO, OK, USAGE
from .text import age, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bulk import Answered, BulkResult
    from ..client.client import Client
    from ..runs import RunQuery
    from ..store.records import Run

SAMPLE: Final = 5
"""Runs that are shown before it is asked."""
MAX_COUNTED: Final = 100_000
"""Runs that are counted before it is said how many match."""


@define(eq=False)
class Sweep:
    """One change of all runs that match."""

    paper: Paper
    client: Client
    verb: str
    done_word: str
    where: RunQuery
    statuses: Sequence[Any]
    """Of which the runs may be that match."""
    answered: dict[str, bool] = field(factory=dict, init=False)
    """By run: whether it was done."""
    _stopped: bool = field(default=False, init=False)

    def run(self, *, yes: bool, step: Callable[[RunQuery], BulkResult]) -> int:
        """Count, ask, and do it in steps until none is left, or somebody stops it."""
        bounded = self._bounded()
        found, sample = self._find(bounded)
        if not found:
            note("no runs match")
            return OK
        if not yes:
            self._show(len(found), sample)
            if not is_terminal(sys.stdin) or len(found) > MAX_COUNTED:
                why = "nobody can be asked here" if len(found) <= MAX_COUNTED else "too many to be counted"
                note(f"{why}: say --yes to {self.verb} them; nothing was changed")
                return USAGE
            if not self._agreed(len(found)):
                note("nothing was changed")
                return NOT_SO
        with self._interruptible():
            while not self._stopped:
                result = step(bounded)
                tell(self.paper, [each for each in result.answers if each.run_id not in self.answered])
                self.answered |= {each.run_id: each.done for each in result.answers}
                if not result.more:
                    break
        return self._summed_up(found)

    def _bounded(self) -> RunQuery:
        """The filter, without what is requested from now on."""
        now = instant(self.client.port.seams.clock.wall_us())
        before: Any = self.where.get("created_before") or now
        return {**self.where, "created_before": min(before, now)}

    def _find(self, where: RunQuery) -> tuple[list[str], list[Run]]:
        """The ids of what matches, up to one more than are counted; and some of the runs."""
        ids: list[str] = []
        sample: list[Run] = []
        for status in self.statuses:
            one: RunQuery = {**where, "status": status}
            for page, _ in pages(self.client, one, MAX_COUNTED + 1 - len(ids)):
                ids += [run.id for run in page]
                sample += page[: max(0, SAMPLE - len(sample))]
        return ids, sample

    def _show(self, n: int, sample: Sequence[Run]) -> None:
        many = f"more than {MAX_COUNTED:,} runs" if n > MAX_COUNTED else counted(n, "run")
        note(f"{many} would be {self.done_word}, among them:")
        now_us = self.client.port.seams.clock.wall_us()
        for run in sample:
            note(f"  {run.id}  {run.status}  {run.task}, requested {age(now_us - run.created_us)} ago")

    def _agreed(self, n: int) -> bool:
        """Whether whoever is there means it."""
        return ask(f"Type {n} to {self.verb} them: ").replace(",", "") == str(n)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """While this is entered, a first Ctrl-C lets the step in hand end; a second one does not."""
        before = signal.getsignal(signal.SIGINT)

        def stop(_number: int, _frame: object) -> None:
            self._stopped = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _summed_up(self, found: Sequence[str]) -> int:
        done = sum(self.answered.values())
        others = len(self.answered) - done
        left = [each for each in found if each not in self.answered] if self._stopped else []
        if self.paper.programs:
            self.paper.lines(
                {"run_id": each, "done": False, "status": None, "replay_id": None, "why": "not reached"}
                for each in left
            )
        else:
            for each in left:
                self.paper.say(f"{each} not reached")
        said = f"{counted(done, 'run')} {self.done_word}"
        said += f", {others:,} left as they are" if others else ""
        said += f", {len(left):,} not reached: the same call goes on with them" if self._stopped else ""
        note(said)
        return INTERRUPTED if self._stopped else OK


# ---------------------------------------------------------------- what became of each


def tell(paper: Paper, answers: Sequence[Answered]) -> None:
    """A line for each."""
    if paper.programs:
        paper.lines(
            {
                "run_id": each.run_id,
                "done": each.done,
                "status": None if each.status is None else str(each.status),
                "replay_id": each.replay_id,
                "why": each.why,
            }
            for each in answers
        )
    else:
        for each in answers:
            paper.say(_sentence(each))
    paper.flush()


def _sentence(answer: Answered) -> str:
    if not answer.done:
        return f"{answer.run_id} left as it is: {answer.why}"
    if answer.replay_id is not None:
        return f"{answer.run_id} replayed as {answer.replay_id}"
    return f"{answer.run_id} canceled"
