"""
Cancel or replay all runs that a filter matches, each answered for itself.

Rule 1: each run is one guarded write, and a run that was replayed is passed over, also when somebody else replays it just now:
    so a call that is cancelled or fails half-way can be made again, and two people may make it at once.
Rule 2: an answer has a limit, and says where the next call begins.
Rule 3: of guarded Jobs, what may neither be done to a run nor be read of it is as if the run were not there.
Not here: one run (`runs`), what a filter means (the store).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import define, evolve, field, frozen

from . import guard
from .errors import InvalidOption, shown
from .guard import Action
from .store.contract import Cancel, CancelAnswer, Insert, Inserted, Reader
from .store.records import FINAL, NewRun, Run, RunFilter, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from .jobs import Jobs
    from .port import Port

    Sift: TypeAlias = Callable[[Sequence[Run]], tuple[list[Run], list["Answered"]]]

DEFAULT_LIMIT: Final = 1_000
MAX_LIMIT: Final = 10_000
"""Runs of one call: what one answer can tell."""
PAGE: Final = 500
"""Runs that are read, and written, at a time."""
REPLAYED: Final = 100
"""The same of those that are replayed: they are held with their payloads."""


@frozen
class Answered:
    """What became of one run."""

    run_id: str
    done: bool
    """Whether this call canceled or replayed it."""
    status: Status | None
    """Of the run now; None when the outcome is unknown."""
    replay_id: str | None = None
    """Of the new run, or of the one that had replayed it before."""
    why: str | None = None
    """Why not, where it was not done."""


@frozen
class BulkResult:
    """The answers, newest run first. `more`: whether runs that match were left because of the limit."""

    answers: tuple[Answered, ...]
    more: bool
    next: str | None = None
    """Of a replay with more: what the next call is given as `after`."""
    done: int = field(init=False)
    """How many were canceled or replayed."""

    @done.default
    def _count(self) -> int:
        return sum(each.done for each in self.answers)


def check_limit(limit: object) -> int:
    """Raises InvalidOption unless it is 1 … 10,000."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise InvalidOption("limit", f"must be an int from 1 to {MAX_LIMIT:,}, not {shown(limit)}")
    return limit


def sifting(jobs: Jobs, action: Action) -> Sift:
    """Of runs of `jobs`, those that this may be done to; and the answers for those that may only be read."""
    policy = jobs.policy
    if policy is None:
        return lambda runs: (list(runs), [])

    def sift(runs: Sequence[Run]) -> tuple[list[Run], list[Answered]]:
        allowed: list[Run] = []
        answers: list[Answered] = []
        for run in runs:
            denied = policy.denial(action, run=run, run_id=run.id)
            if denied is None:
                allowed.append(run)
            elif guard.may_read(jobs, run):
                answers.append(Answered(run.id, done=False, status=run.status, why=f"denied: {denied.reason}"))
        return allowed, answers

    return sift


async def cancel_all(port: Port, where: RunFilter, cause: str, limit: int, sift: Sift) -> BulkResult:
    """Cancel what matches; without a status, what has not ended."""
    statuses = [each for each in Status if each not in FINAL] if where.status is None else [where.status]
    cancels = _Cancels(port, cause, limit, sift)
    more, passes = False, 0
    while not more:
        found, passes = len(cancels.answers), passes + 1
        for status in statuses:
            more = more or await cancels.all_of(evolve(where, status=status))
        # statuses are read one after another: a run that went from one not read yet to one read already is in the next pass
        if len(statuses) == 1 or (passes > 1 and len(cancels.answers) == found):
            break
    answers = cancels.denied | cancels.answers
    return BulkResult(tuple([answers[run_id] for run_id in sorted(answers, reverse=True)]), more)


@define(eq=False)
class _Cancels:
    """Those of one call. What is denied has room of its own: it matches again, and must not keep the next call from others."""

    port: Port
    cause: str
    limit: int
    sift: Sift
    answers: dict[str, Answered] = field(factory=dict)
    denied: dict[str, Answered] = field(factory=dict)

    async def all_of(self, where: RunFilter) -> bool:
        """Cancel what matches and was not answered before. Returns whether some is left, for there may be no more answers."""
        before: str | None = None
        while True:
            found = await self.port.read(partial(page, where, before=before, limit=PAGE))
            allowed, refused = self.sift(
                [run for run in found if run.id not in self.answers and run.id not in self.denied]
            )
            self.denied.update((each.run_id, each) for each in refused[: self.limit - len(self.denied)])
            room = self.limit - len(self.answers)
            for each in await _cancel(self.port, [run.id for run in allowed[:room]], self.cause):
                self.answers[each.run_id] = each
            if len(allowed) > room:
                return True
            if len(found) < PAGE:
                return False
            before = found[-1].id


async def _cancel(port: Port, run_ids: Sequence[str], cause: str) -> list[Answered]:
    answers = await port.write_all([Cancel(run_id, cause) for run_id in run_ids])
    return [_canceled(run_id, answer) for run_id, answer in zip(run_ids, answers, strict=True)]


def _canceled(run_id: str, answer: object) -> Answered:
    if not isinstance(answer, CancelAnswer):
        return Answered(run_id, done=False, status=None, why=str(answer))
    if answer.canceled:
        return Answered(run_id, done=True, status=Status.CANCELED)
    why = "it is not there any more" if answer.was is None else f"it is {answer.was}"
    return Answered(run_id, done=False, status=answer.was, why=why)


async def replay_all(
    port: Port,
    where: RunFilter,
    again: Callable[[Run], NewRun],
    limit: int,
    sift: Sift,
    *,
    repeat: bool,
    after: str | None,
) -> BulkResult:
    """Replay up to `limit` runs that match, below `after`; `again` makes the new runs. Unless `repeat`, each once."""
    answers: list[Answered] = []
    while len(answers) < limit:
        size = min(REPLAYED, limit - len(answers))
        found, after = await port.read(partial(_with_payloads, where, before=after, size=size))
        allowed, refused = sift(found)
        replayed = await _replay(port, allowed, again, once=not repeat)
        answers += sorted([*replayed, *refused], key=lambda each: each.run_id, reverse=True)
        if after is None or (len(answers) == limit and not await _is_left(port, where, after, sift)):
            return BulkResult(tuple(answers), more=False)
    return BulkResult(tuple(answers), more=True, next=after)


async def _is_left(port: Port, where: RunFilter, before: str, sift: Sift) -> bool:
    """Whether there is anything below that would be answered."""
    while found := await port.read(partial(page, where, before=before, limit=PAGE)):
        if any(sift(found)):
            return True
        before = found[-1].id
    return False


async def _replay(port: Port, ended: Sequence[Run], again: Callable[[Run], NewRun], *, once: bool) -> list[Answered]:
    if not ended:
        return []
    new = [again(old) for old in ended]
    (answer,) = await port.write_all([Insert(tuple(new), once=once)])
    if not isinstance(answer, Inserted):
        return [Answered(old.id, done=False, status=old.status, why=str(answer)) for old in ended]
    return [_replayed(old, run.id, earlier) for old, run, earlier in zip(ended, new, answer.existing, strict=True)]


def _replayed(old: Run, replay_id: str, earlier: Run | None) -> Answered:
    if earlier is None:
        return Answered(old.id, done=True, status=old.status, replay_id=replay_id)
    return Answered(old.id, done=False, status=old.status, replay_id=earlier.id, why="it was replayed before")


def page(where: RunFilter, reader: Reader, *, before: str | None, limit: int) -> tuple[Run, ...]:
    """Runs that match, newest first."""
    return reader.list(where, limit=limit, before=before)


def _with_payloads(where: RunFilter, reader: Reader, *, before: str | None, size: int) -> tuple[list[Run], str | None]:
    """Runs that match, and below which id there are more."""
    matching = reader.list(where, limit=size + 1, before=before)
    found = [history.run for run in matching[:size] if (history := reader.get(run.id)) is not None]
    return found, matching[size - 1].id if len(matching) > size else None
