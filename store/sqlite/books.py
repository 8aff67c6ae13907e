# ruff: noqa: S608 - statements are put together from constants of this file; every value is bound
"""
Whether the tables of a database agree: counters with rows, runs with their attempts, transitions and payloads (I4).

Rule: counters are compared in one reading, runs in pages of their numbers, each in a short one: a long reading would keep
the log from beginning anew.
Not here: whether the file itself is whole (`doctor`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from ..lifecycle import BIRTHS, MOVES
from ..records import HISTORY_FIRST, HISTORY_LAST
from .codes import MOVES as MOVE_OF
from .codes import STATUSES
from .connection import rows, value
from .findings import Finding, broken, fine

PAGE: Final = 20_000
"""Numbers of runs in one reading: some tenths of a second."""
SOME: Final = 3
"""Runs that are named of those that are wrong in the same way."""
_KEPT: Final = HISTORY_FIRST + HISTORY_LAST
_IN_PAGE: Final = "run > ?1 and run <= ?2"

_LAST: Final = """
    select r.id from runs as r left join transitions as t
    on t.run = r.rid and t.seq = (select max(seq) from transitions where run = r.rid)
    where r.rid > ?1 and r.rid <= ?2 and (
        t.seq is null or t.now <> r.status or t.attempt <> r.attempt or t.cause is not r.cause
        or r.ended_us is not iif(r.status >= 4, t.at_us, null))
    """
_CHAIN: Final = f"""
    select distinct r.id from (
        select run, seq, was, lag(now) over history as before, lag(seq) over history as last
        from transitions where {_IN_PAGE} window history as (partition by run order by seq)
    ) as t join runs as r on r.rid = t.run
    where iif(last is null, seq <> 1 or was is not null,
              before >= 4 or (seq <> last + 1 and r.attempt <= {_KEPT}) or (seq = last + 1 and was is not before))
    """
_ATTEMPTS: Final = f"""
    select id from (
        select r.id, r.spent, r.attempt - (r.status = 2) as ended, count(a.n) as n, min(a.n) as first, max(a.n) as last,
            total(a.outcome in (1, 2)) as spending,
            total(a.n <= {HISTORY_FIRST} or a.n > r.attempt - (r.status = 2) - {HISTORY_LAST}) as kept
        from runs as r left join attempts as a on a.run = r.rid where r.rid > ?1 and r.rid <= ?2 group by r.rid)
    where n <> min(ended, {_KEPT}) or n <> kept or (n > 0 and (first <> 1 or last <> ended))
        or (ended <= {_KEPT} and spent <> spending)
    """
_CLAIMS: Final = """
    select id from runs where rid > ?1 and rid <= ?2
    and iif(status = 2, owner is null or claim_id is null or started_us is null or attempt < 1,
            owner is not null or claim_id is not null or started_us is not null)
    """
_PAYLOADS: Final = """
    select id from runs where rid > ?1 and rid <= ?2
    and payload is null and not exists (select 1 from payloads where run = rid)
    """
_RUNS: Final[dict[str, str]] = {
    "is not what its last transition made of it": _LAST,
    "has transitions that do not follow from one another": _CHAIN,
    "has not the attempts that it says it had": _ATTEMPTS,
    "is running without an owner, or has one without running": _CLAIMS,
    "has lost its payload": _PAYLOADS,
}
"""What can be wrong with a run, and which ones of a page it is wrong with."""
_STRAYS: Final = [
    f"select distinct run from {table} where {_IN_PAGE} and not exists (select 1 from runs where rid = run)"
    for table in ("attempts", "transitions", "payloads")
]
_MOVES: Final = f"select was, move, now, min(run) from transitions where {_IN_PAGE} group by was, move, now"
_LEGAL: Final = {(None, move, now) for move, now in BIRTHS.items()} | {
    (was, move, now) for was, moves in MOVES.items() for move, now in moves.items()
}
_LAST_NUMBER: Final = """
    select max(coalesce((select max(rid) from runs), 0), coalesce((select max(run) from attempts), 0),
        coalesce((select max(run) from transitions), 0), coalesce((select max(run) from payloads), 0))
    """
_RESTORE: Final = (
    "restore a backup, or tell whoever keeps callsheet: this should not happen, unless somebody edited rows"
)


def counters(db: apsw.Connection, tell: Callable[[str, int, int], object]) -> Finding:
    """Whether the counters say how many rows there are."""
    tell("counters", 0, 0)
    with _reading(db):
        counted = Counter(
            {(lane, status): n for lane, status, n in rows(db, "select lane, status, count(*) from runs group by 1, 2")}
        )
        told = Counter({(lane, status): n for lane, status, n in rows(db, "select lane, status, n from counters")})
        lanes = {number: f"{task} on {queue}" for number, task, queue in rows(db, "select id, task, queue from lanes")}
    wrong = sorted(key for key in counted | told if counted[key] != told[key])
    if not wrong:
        return fine("counters", f"the counters say what there is: {counted.total():,} runs")
    lane, status = wrong[0]
    known = STATUSES[status] if 0 <= status < len(STATUSES) else f"status {status}"
    of = f"runs of {lanes.get(lane, f'lane {lane}')}"
    said = f"{told[lane, status]:,} {of} are said to be {known}, and {counted[lane, status]:,} are"
    more = f"; {len(wrong) - 1:,} more counters are wrong" if len(wrong) > 1 else ""
    return broken("counters", f"{said}{more}", _RESTORE)


def history(db: apsw.Connection, tell: Callable[[str, int, int], object]) -> Iterator[Finding]:
    """Whether each run is what its history says."""
    wrong: dict[str, list[str]] = {}
    last = value(db, _LAST_NUMBER)
    for begin in range(0, max(last, 1), PAGE):
        tell("history", begin, last)
        page = (begin, begin + PAGE)
        with _reading(db):
            for what, sql in _RUNS.items():
                wrong.setdefault(what, []).extend([run_id for (run_id,) in rows(db, sql, page)])
            for sql in _STRAYS:
                strays = wrong.setdefault("is gone, and part of its history is still there", [])
                strays.extend([f"number {run}" for (run,) in rows(db, sql, page)])
            wrong.setdefault("made a move that no run can make", []).extend(_odd_moves(db, page))
    found = {what: runs for what, runs in wrong.items() if runs}
    for what, runs in found.items():
        more = f" (and {len(runs) - SOME:,} more)" if len(runs) > SOME else ""
        yield broken("history", f"run {', '.join(runs[:SOME])}{more} {what}", _RESTORE)
    if not found:
        yield fine("history", "every run is what its attempts and transitions say")


def _odd_moves(db: apsw.Connection, page: tuple[int, int]) -> Iterator[str]:
    for was, move, now, run in rows(db, _MOVES, page):
        try:
            step = (None if was is None else STATUSES[was], MOVE_OF[move], STATUSES[now])
        except IndexError:  # a code that nobody ever wrote
            step = None
        if step not in _LEGAL:
            yield value(db, "select id from runs where rid = ?", (run,)) or f"number {run}"


@contextmanager
def _reading(db: apsw.Connection) -> Iterator[Any]:
    db.execute("begin")
    try:
        yield
    finally:
        db.execute("rollback")
