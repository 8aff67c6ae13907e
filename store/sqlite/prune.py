# ruff: noqa: S608 - statements are put together from constants of this file; every value is bound
"""
Prune: runs that ended long ago are forgotten, a page at a time.

Rule: it looks at no more than a page, whatever is stored. Where ids tell when their runs were created it goes through them
in order, as far as there can be any that ended in time; the others have an index by when they ended, which costs nothing
where there are none.
Not here: which runs, and when (`callsheet.retention`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, Final, TypeAlias

from attrs import define, field

from ..contract import Prune, Pruned
from ..records import HISTORY_FIRST, HISTORY_LAST
from .codes import STATUS_CODE
from .connection import rows
from .ledger import Ledger, listed
from .timely import id_range

Row: TypeAlias = tuple[Any, ...]

BYTES: Final = 16 * 1024
"""A run counts as one more on its page for so many of its bytes: they cost time too."""
_COLUMNS: Final = """
    id, rid, lane, ended_us, attempt,
    coalesce(length(payload), (select length(body) from payloads where run = rid)) + coalesce(length(result), 0)
    """
_ID: Final = itemgetter(0)
_UNTIMELY: Final = f"""
    select {_COLUMNS} from runs indexed by ended_untimely
    where lane = ? and status = ? and ended_us < ? and status >= 4 and timely is null order by ended_us limit ?
    """
_BY_ID: Final = f"""
    select {_COLUMNS} from runs indexed by ended
    where lane = ? and status = ? and id > ? and id < ? and status >= 4 order by id
    """
_LAST: Final = chr(0x10FFFF)
_THESE: Final = "in (select value from json_each(?))"
_FORGET: Final = (
    f"delete from payloads where run {_THESE}",
    f"delete from attempts where run {_THESE}",
    f"delete from transitions where run {_THESE}",
    f"delete from runs where rid {_THESE}",
)
_COUNT: Final = """
    insert into pruned(lane, status, n) values (?, ?, ?) on conflict do update set n = n + excluded.n
    """


@define(eq=False)
class _Page:
    """What was looked at, and which of it is to be forgotten."""

    before_us: int
    room: int
    old: dict[int, int] = field(factory=dict)
    """Their lanes, by number."""
    last: str = ""

    def look_at(self, found: Iterable[Row]) -> bool:
        """Whether there was room for all of it."""
        for run_id, rid, lane, ended_us, attempt, size in found:
            if self.room <= 0:
                return False
            self.last = run_id
            self.room -= 1
            if ended_us < self.before_us:
                self.old[rid] = lane
                self.room -= max(0, min(attempt, HISTORY_FIRST + HISTORY_LAST) - 1) + size // BYTES
        return True


def prune(ledger: Ledger, command: Prune) -> Pruned:
    """Forget what one page has of runs that ended before then."""
    lanes = ledger.having(command.jobs, STATUS_CODE[command.status])
    page = _Page(command.before_us, command.limit)
    page.look_at(_untimely(ledger, lanes, command))
    if page.room <= 0:
        _forget(ledger, command, page.old)
        return Pruned(len(page.old), command.after)
    with _walk(ledger, lanes, command) as walk:
        there_is_more = not page.look_at(walk)
    _forget(ledger, command, page.old)
    return Pruned(len(page.old), page.last if there_is_more else None)


def _untimely(ledger: Ledger, lanes: Iterable[int], command: Prune) -> Iterator[Row]:
    """Those whose ids tell nothing: all of them are to be forgotten."""
    for lane in lanes:
        asked = lane, STATUS_CODE[command.status], command.before_us, command.limit
        yield from rows(ledger.db, _UNTIMELY, asked)


@contextmanager
def _walk(ledger: Ledger, lanes: Iterable[int], command: Prune) -> Iterator[Iterator[Row]]:
    """Those that may have ended in time as far as their ids tell, in their order."""
    _, end = id_range(None, command.before_us)
    asked = STATUS_CODE[command.status], command.after, _LAST if end is None else end
    cursors: list[Any] = [ledger.db.execute(_BY_ID, (lane, *asked)) for lane in lanes]
    try:
        yield heapq.merge(*cursors, key=_ID)
    finally:
        for cursor in cursors:
            cursor.close()


def _forget(ledger: Ledger, command: Prune, old: dict[int, int]) -> None:
    if not old:
        return
    these, status = listed(old), STATUS_CODE[command.status]
    for statement in _FORGET:
        ledger.db.execute(statement, (these,))
    counted = Counter(old.values())
    for lane, n in counted.items():
        ledger.moved(lane, status, None, n)
    ledger.db.executemany(_COUNT, [(lane, status, n) for lane, n in counted.items()])
