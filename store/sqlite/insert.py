"""
Insert: new runs, many in one statement.

Rule: store first, ask later: what was there already is looked for only when a statement stored fewer rows
    than it was given.
Not here: what a repeated key means (`..contract`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias

from attrs import evolve

from ..arithmetic import conflict_of
from ..contract import Conflict, Insert, Inserted
from ..lifecycle import birth
from ..records import Lane, NewRun, Run, Status
from .codes import RUN_COLUMNS, STATUS_CODE, run_of
from .connection import rows, value
from .ledger import Ledger, listed
from .schema import PAYLOAD_INLINE
from .timely import stamp

Row: TypeAlias = tuple[Any, ...]

_NO_END: Final = (1 << 63) - 1
_COLUMNS: Final = (
    "lane, status, payload, scope, id, due_us, clock, priority, max_attempts, timeout_us, created_us, "
    "updated_us, idempotency_key, payload_hash, trace_id, replay_of, reason, schedule_key, nominal_us, "
    "at_most_once, trace_context, timely"
)
_PAYLOAD: Final = itemgetter(2)
_WAITS: Final = itemgetter(0, 1, 7, 6)
"""Of a row of `_COLUMNS`: lane, status, priority, clock."""
_AS_GIVEN: Final = attrgetter(
    "id", "due_us", "clock", "priority", "max_attempts", "timeout_us", "created_us", "created_us",
    "idempotency_key", "payload_hash", "trace_id", "replay_of", "reason", "schedule_key", "nominal_us",
    "at_most_once", "trace_context",
)  # fmt: skip


_LAST_REPLAYS: Final = f"""
    select {RUN_COLUMNS} from runs where rid in (
        select (select rid from runs indexed by by_origin where replay_of = value and replay_of is not null
                order by id desc limit 1)
        from json_each(?1))
    """  # noqa: S608 - fixed columns


def _statement(n: int) -> str:
    one = "(" + ", ".join("?" * (_COLUMNS.count(",") + 1)) + ")"
    values = ", ".join([one] * n)
    return f"insert into runs({_COLUMNS}) values {values} on conflict do nothing"  # noqa: S608 - all of it is ours


_INSERTS: Final = [(n, _statement(n)) for n in (64, 16, 4, 1)]
"""
Opening all indexes costs more than a row does, so rows share statements; four sizes, so that each is prepared
once.
"""


def insert(ledger: Ledger, commands: Sequence[Insert]) -> list[Inserted | Conflict]:
    """Answer Inserts that follow one another; those that are not strict share their statements."""
    if len(commands) == 1 or any(command.strict or command.once for command in commands):
        return [_insert(ledger, command) for command in commands]
    runs = tuple(chain.from_iterable(command.runs for command in commands))
    answer = _insert(ledger, Insert(runs))
    if isinstance(answer, Conflict):  # of one of them, which is nothing to the others
        return [_insert(ledger, command) for command in commands]
    rest = iter(answer.existing)
    return [Inserted(tuple([next(rest) for _ in command.runs])) for command in commands]


def _insert(ledger: Ledger, command: Insert) -> Inserted | Conflict:
    replayed = _replayed(ledger, command) if command.once else {}
    if not replayed:
        return _insert_all(ledger, command)
    rest = tuple([new for new in command.runs if new.replay_of not in replayed])
    answer = _insert_all(ledger, evolve(command, runs=rest))
    if isinstance(answer, Conflict):
        return answer
    existing = iter(answer.existing)
    found = [replayed[new.replay_of] if new.replay_of in replayed else next(existing) for new in command.runs]
    return Inserted(tuple(found))


def _replayed(ledger: Ledger, command: Insert) -> dict[str | None, Run]:
    """By the id of a run that one of them replays: the latest replay that it has already."""
    wanted = listed({new.replay_of for new in command.runs if new.replay_of is not None})
    found = rows(ledger.db, _LAST_REPLAYS, (wanted,))
    runs = [run_of(row, ledger.lane_of, ledger.boot_of, None) for row in found]
    return {run.replay_of: run for run in runs}


def _insert_all(ledger: Ledger, command: Insert) -> Inserted | Conflict:
    first = 1 + (value(ledger.db, "select max(rid) from runs") or 0)
    runs, new = command.runs, _rows(ledger, command.runs)
    existing: tuple[Run | None, ...] = (None,) * len(new)
    if _store(ledger, new) < len(new):
        existing = _existing(ledger, runs, first)
        conflict = _conflict(command, existing)
        if conflict is not None:
            ledger.db.execute("delete from runs where rid >= ?", (first,))
            return conflict
        there = [run is not None for run in existing]
        runs = tuple([each for each, was_there in zip(runs, there, strict=True) if not was_there])
        new = [each for each, was_there in zip(new, there, strict=True) if not was_there]
    _follow(ledger, runs, new, first)
    return Inserted(existing)


def _rows(ledger: Ledger, runs: Sequence[NewRun]) -> list[Row]:
    """Values for `_COLUMNS`."""
    made: list[Row] = []
    last: Lane | None = None
    lane, last_ms, begins, told_before_us = 0, -1, None, ledger.told_before_us
    for new in runs:
        if new.lane is not last:  # most runs of a command are of one lane
            last = new.lane
            lane = ledger.lane(last)
        status = 0 if new.status is Status.QUEUED else _born(new.status)
        payload = new.payload if len(new.payload) <= PAYLOAD_INLINE else None
        scope = None if new.idempotency_key is None else ledger.scope(new.lane.jobs)
        if (ms := new.created_us // 1000) != last_ms:
            last_ms, begins = ms, stamp(new.created_us)
        timely = None
        if begins is not None and new.due_us >= new.created_us and new.id.startswith(begins):
            timely = 1
            if new.created_us >= told_before_us:
                told_before_us = ledger.tell(new.created_us)
        made.append((lane, status, payload, scope, *_AS_GIVEN(new), timely))
    return made


def _born(status: Status) -> int:
    birth(status)  # raises where no run begins like that
    return STATUS_CODE[status]


def _store(ledger: Ledger, new: Sequence[Row]) -> int:
    """How many of them were stored."""
    before = ledger.db.total_changes()
    at = 0
    for size, statement in _INSERTS:
        while len(new) - at >= size:
            ledger.db.execute(statement, tuple(chain.from_iterable(new[at : at + size])))
            at += size
    return ledger.db.total_changes() - before


def _follow(ledger: Ledger, runs: Sequence[NewRun], new: Sequence[Row], first: int) -> None:
    """What goes with new rows: their first transition, their long payloads, the counters."""
    ledger.db.execute(
        "insert into transitions(run, seq, was, now, move, at_us, attempt) "
        # the code of a birth is that of its status
        "select rid, 1, null, status, status, created_us, 0 from runs where rid >= ?",
        (first,),
    )
    if None in map(_PAYLOAD, new):
        long = [(each.id, each.payload) for each in runs if len(each.payload) > PAYLOAD_INLINE]
        ledger.db.executemany("insert into payloads(run, body) select rid, ?2 from runs where id = ?1", long)
    for (lane, status, priority, clock), n in Counter(map(_WAITS, new)).items():
        ledger.moved(lane, None, status, n)
        ledger.waits(lane, priority, clock)


def _existing(ledger: Ledger, runs: Sequence[NewRun], first: int) -> tuple[Run | None, ...]:
    """For each of them the run that was there before it, or None where its own row was stored."""
    stored = set(rows(ledger.db, "select id, scope, idempotency_key from runs where rid >= ?", (first,)))
    seen: set[str] = set()
    answers: list[Run | None] = []
    for new in runs:
        scope = None if new.idempotency_key is None else ledger.scope(new.lane.jobs)
        own = (new.id, scope, new.idempotency_key)
        if own in stored:
            stored.discard(own)
            seen.add(new.id)
            answers.append(None)
        else:
            before = _NO_END if new.id in seen else first  # a row of the same id may have been stored after this one
            answers.append(_find(ledger, new, scope, before))
    return tuple(answers)


def _find(ledger: Ledger, new: NewRun, scope: int | None, before: int) -> Run:
    found = rows(ledger.db, f"select {RUN_COLUMNS} from runs where id = ? and rid < ?", (new.id, before))  # noqa: S608
    if not found:
        by_key = f"select {RUN_COLUMNS} from runs where scope = ? and idempotency_key = ?"  # noqa: S608
        found = rows(ledger.db, by_key, (scope, new.idempotency_key))
    (row,) = found
    return run_of(row, ledger.lane_of, ledger.boot_of, None)


def _conflict(command: Insert, existing: Sequence[Run | None]) -> Conflict | None:
    for new, run in zip(command.runs, existing, strict=True):
        conflict = None if run is None else conflict_of(new, run, strict=command.strict)
        if conflict is not None:
            return conflict
    return None
