"""
`callsheet runs cancel` and `replay`: named runs one by one, or all that match, after it was said how many those are.

Rule 1: what is asked about is what is done: runs that were requested after the question are left alone.
Rule 2: each run is answered for in a line; Ctrl-C lets the step in hand end, and says which runs are left. The same call
again goes on where this one stopped.
Not here: what a cancel or a replay is (`callsheet.runs`, `callsheet.bulk`).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from attrs import define, field

from ..errors import PolicyDenied, RunNotFinished, RunNotFound
from ..store.records import Status, instant
from .asked import (
    BeforeFilter,
    DelayOption,
    EveryOption,
    JobsOption,
    JsonOption,
    KeyFilter,
    OriginFilter,
    QueueFilter,
    ReasonOption,
    RunAtOption,
    SinceFilter,
    StatusFilter,
    StoreOption,
    SubjectOption,
    TaskFilter,
    TracebackOption,
    TraceFilter,
    YesOption,
    duration,
)
from .paper import Paper, ask, is_terminal, note
from .reach import client_of, query, run_id, who
from .runs import check_one_way, pages
from .statuses import INTERRUPTED, NOT_SO, OK, USAGE, status_of
from .text import age, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..bulk import Answered, BulkResult
    from ..client.client import Client
    from ..runs import RunQuery
    from ..store.records import Run

STEP: Final = 500
"""Runs that are canceled at a time: what a Ctrl-C waits for."""
REPLAY_STEP: Final = 100
"""The same of runs that are replayed."""
SAMPLE: Final = 5
MAX_COUNTED: Final = 100_000
"""Runs that are counted before it is said how many match."""

SomeRuns = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]…", help="Their ids, or as much of the beginning of each as is clear."),
]


def cancel(
    runs: SomeRuns = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    every: EveryOption = False,
    task: TaskFilter = None,
    queue: QueueFilter = None,
    status: StatusFilter = None,
    key: KeyFilter = None,
    trace_id: TraceFilter = None,
    replay_of: OriginFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> int:
    """
    Cancel runs: those that are named, or --all that match.

    A cancel is final, and stops a running handler wherever it runs. With --all it is said how many runs match, and asked:
    answer with that number, or say --yes. Status 1 when a run was not canceled, because it had ended.
    """
    paper, why = Paper(as_programs_want), f"by {who(subject)}" if reason is None else reason
    typed = {
        "task": task,
        "queue": queue,
        "status": status,
        "key": key,
        "trace_id": trace_id,
        "replay_of": replay_of,
        "since": since,
        "before": before,
    }
    check_one_way(runs, every, typed)
    with client_of(store, jobs, subject, traceback=traceback) as client:
        if runs:
            return _one_by_one(paper, client, runs, lambda each: _cancel(client, each, why))
        where = query(client, **typed)
        statuses = [where["status"]] if "status" in where else [each for each in Status if not each.is_final]
        bulk = Bulk(paper, client, "cancel", "canceled", where, statuses)
        return bulk.run(yes=yes, step=lambda bounded: client.runs.cancel_all(reason=why, limit=STEP, **bounded))


def replay(
    runs: SomeRuns = None,
    *,
    store: StoreOption = None,
    jobs: JobsOption = None,
    every: EveryOption = False,
    task: TaskFilter = None,
    queue: QueueFilter = None,
    status: StatusFilter = None,
    key: KeyFilter = None,
    trace_id: TraceFilter = None,
    replay_of: OriginFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    reason: ReasonOption = None,
    delay: DelayOption = None,
    run_at: RunAtOption = None,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="With --all: once more also what was replayed before.")
    ] = False,
    yes: YesOption = False,
    as_programs_want: JsonOption = False,
    subject: SubjectOption = None,
    traceback: TracebackOption = False,
) -> int:
    """
    Replay runs that have ended: those that are named, or --all that match; without --status, what is dead-lettered.

    Each becomes a new run with the same payload. With --all it is said how many runs match, and asked: answer with that
    number, or say --yes; what was replayed before is passed over. Status 1 when a named run could not be replayed.
    """
    paper, why = Paper(as_programs_want), f"by {who(subject)}" if reason is None else reason
    typed = {
        "task": task,
        "queue": queue,
        "status": status,
        "key": key,
        "trace_id": trace_id,
        "replay_of": replay_of,
        "since": since,
        "before": before,
    }
    check_one_way(runs, every, typed)
    times: dict[str, Any] = {"delay": duration(delay, "--delay"), "run_at": run_at}
    with client_of(store, jobs, subject, traceback=traceback) as client:
        if runs:
            return _one_by_one(paper, client, runs, lambda each: _replay(client, each, reason=why, **times))
        where = query(client, **typed)
        below: list[str | None] = [None]

        def step(bounded: RunQuery) -> BulkResult:
            options: dict[str, Any] = {**bounded, **times, "repeat": repeat, "limit": REPLAY_STEP}
            done = client.runs.replay_all(reason=why, after=below[0], **options)
            below[0] = done.next
            return done

        status_asked = where.get("status", Status.DEAD_LETTERED)
        return Bulk(paper, client, "replay", "replayed", where, [status_asked]).run(yes=yes, step=step)


# ---------------------------------------------------------------- named runs


def _cancel(client: Client, run: str, reason: str) -> Answered:
    from ..bulk import Answered

    done = client.runs.cancel(run, reason)
    return Answered(run, done.canceled, done.status, why=None if done.canceled else f"it is {done.status}")


def _replay(client: Client, run: str, **options: Any) -> Answered:
    from ..bulk import Answered

    try:
        made = client.runs.replay(run, **options)
    except RunNotFinished as error:
        return Answered(run, done=False, status=error.status, why=str(error))
    return Answered(run, done=True, status=None, replay_id=made.run_id)


def _one_by_one(paper: Paper, client: Client, runs: Sequence[str], act: Callable[[str], Answered]) -> int:
    status = OK
    for typed in runs:
        try:
            answer = act(run_id(client, typed))
        except (RunNotFound, PolicyDenied) as error:  # the others are not to blame
            note(f"callsheet: {error}")
            status = max(status, status_of(error))
            continue
        _tell(paper, [answer])
        status = max(status, OK if answer.done else NOT_SO)
    return status


def _tell(paper: Paper, answers: Sequence[Answered]) -> None:
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


# ---------------------------------------------------------------- all that match


@define(eq=False)
class Bulk:
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
                _tell(self.paper, [each for each in result.answers if each.run_id not in self.answered])
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
