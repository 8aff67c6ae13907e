"""
Cancel or replay all runs that a filter matches, each answered for itself.

Rule 1: a cancel is one guarded write, and a run that was replayed is passed over, so a call that is cancelled or fails half-way
    can be made again: what is done is not done twice. Replays of one runtime take turns, page by page; two processes at the
    same time, or a call that follows one whose write is still under way, may both replay a run.
Rule 2: at most `limit` runs a call; `more` says that there are others.
Not here: one run (`runs`), what a filter means (the store).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import evolve, field, frozen

from .errors import InvalidOption, shown
from .store.contract import Cancel, CancelAnswer, Insert, Inserted, Reader
from .store.records import FINAL, NewRun, Run, RunFilter, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runtime import Runtime

DEFAULT_LIMIT: Final = 1_000
MAX_LIMIT: Final = 10_000
"""Runs of one call: what one answer can tell."""
PAGE: Final = 500
"""Runs that are read, and written, at a time."""


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


async def cancel_all(runtime: Runtime, where: RunFilter, cause: str, limit: int) -> BulkResult:
    """Cancel what matches; without a status, what has not ended."""
    statuses = [each for each in Status if each not in FINAL] if where.status is None else [where.status]
    answers: dict[str, Answered] = {}
    more, passes = False, 0
    while not more:
        found, passes = len(answers), passes + 1
        for status in statuses:
            more = more or await _cancel_pages(runtime, evolve(where, status=status), cause, answers, limit)
        # statuses are read one after another: a run that went from one not read yet to one read already is in the next pass
        if len(statuses) == 1 or (passes > 1 and len(answers) == found):
            break
    return BulkResult(tuple([answers[run_id] for run_id in sorted(answers, reverse=True)]), more)


async def _cancel_pages(
    runtime: Runtime, where: RunFilter, cause: str, answers: dict[str, Answered], limit: int
) -> bool:
    """Cancel what matches and was not answered before. Returns whether some of it is left, for there may be no more answers."""
    before: str | None = None
    while True:
        page = await runtime.read(partial(_page, where, before=before, limit=PAGE))
        wanted = [run.id for run in page if run.id not in answers]
        room = limit - len(answers)
        for each in await _cancel(runtime, wanted[:room], cause):
            answers[each.run_id] = each
        if len(wanted) > room:
            return True
        if len(page) < PAGE:
            return False
        before = page[-1].id


async def _cancel(runtime: Runtime, run_ids: Sequence[str], cause: str) -> list[Answered]:
    answers = await runtime.write_all([Cancel(run_id, cause) for run_id in run_ids])
    return [_canceled(run_id, answer) for run_id, answer in zip(run_ids, answers, strict=True)]


def _canceled(run_id: str, answer: object) -> Answered:
    if not isinstance(answer, CancelAnswer):
        return Answered(run_id, done=False, status=None, why=str(answer))
    if answer.canceled:
        return Answered(run_id, done=True, status=Status.CANCELED)
    why = "it is not there any more" if answer.was is None else f"it is {answer.was}"
    return Answered(run_id, done=False, status=answer.was, why=why)


Old: TypeAlias = tuple[Run, str | None]
"""A run with its payload, and the id of the run that replayed it last, where that counts."""


async def replay_all(
    runtime: Runtime, where: RunFilter, again: Callable[[Run], NewRun], limit: int, *, repeat: bool
) -> BulkResult:
    """Replay what matches, `again` makes the new runs; unless `repeat`, what was replayed before is passed over."""
    answers: list[Answered] = []
    room, before = limit, None
    while True:
        async with runtime.replaying:  # nobody reads what we are about to replay
            page, before = await runtime.read(partial(_replayable, where, before=before, repeat=repeat))
            wanted = _first(page, room)
            answers += await _replay(runtime, wanted, again)
        if len(wanted) < len(page):
            return BulkResult(tuple(answers), more=True)
        if before is None:
            return BulkResult(tuple(answers), more=False)
        room -= sum(earlier is None for _, earlier in wanted)


def _first(page: Sequence[Old], room: int) -> Sequence[Old]:
    """So much of a page that `room` runs of it are new."""
    for n, (_, earlier) in enumerate(page):
        room -= earlier is None
        if room < 0:
            return page[:n]
    return page


async def _replay(runtime: Runtime, page: Sequence[Old], again: Callable[[Run], NewRun]) -> list[Answered]:
    new = {old.id: again(old) for old, earlier in page if earlier is None}
    problem: str | None = None
    if new:
        (answer,) = await runtime.write_all([Insert(tuple(new.values()))])
        problem = None if isinstance(answer, Inserted) else str(answer)
    return [_replayed(old, earlier, new.get(old.id), problem) for old, earlier in page]


def _replayed(old: Run, earlier: str | None, new: NewRun | None, problem: str | None) -> Answered:
    if new is None:
        return Answered(old.id, done=False, status=old.status, replay_id=earlier, why="it was replayed before")
    if problem is not None:
        return Answered(old.id, done=False, status=old.status, why=problem)
    return Answered(old.id, done=True, status=old.status, replay_id=new.id)


def _page(where: RunFilter, reader: Reader, *, before: str | None, limit: int) -> tuple[Run, ...]:
    return reader.list(where, limit=limit, before=before)


def _replayable(where: RunFilter, reader: Reader, *, before: str | None, repeat: bool) -> tuple[list[Old], str | None]:
    """A page of runs that match, with their payloads; and where the next page begins, if there may be one."""
    page = reader.list(where, limit=PAGE, before=before)
    histories = [history for run in page if (history := reader.get(run.id)) is not None]
    old = [(each.run, None if repeat or not each.replays else each.replays[-1]) for each in histories]
    return old, page[-1].id if len(page) == PAGE else None
