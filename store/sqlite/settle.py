"""
The end of an attempt as its runner or its user wants it: Settle and Cancel; and what it tells before and after.

Rule: one condition is the guard (`_GUARD`): whoever is not named by it changes nothing.
Not here: what an end writes (`ending`), what a verdict should be (`..policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, TypeAlias

from ..arithmetic import due_of, status_after
from ..contract import Cancel, CancelAnswer, Noted, NoteLate, NoteRunning, Settle, Settled, Settlement
from ..records import Move, Now, OutcomeKind, Status, Verdict
from .codes import MOVE_CODE, STATUS_CODE, STATUSES
from .connection import rows
from .ending import end, end_each
from .ledger import Ledger, listed

_GUARD: Final = "status = 2 and attempt = ?2 and claim_id = ?3 and fence = ?4"
_HELD: Final = f"""
    select rid, lane, priority, id from runs where id in (select value from json_each(?1)) and {_GUARD}
    """  # noqa: S608 - a constant of this file
_NOTE: Final = f"""
    update runs set progress = coalesce(?5, progress), stuck_since_us = coalesce(?6, stuck_since_us)
    where id = ?1 and {_GUARD}
    """  # noqa: S608 - a constant of this file
_PROGRESS: Final = """
    update runs set progress = unhex(one.value ->> 1) from json_each(?1) as one where runs.id = one.value ->> 0
    """
Numbered: TypeAlias = tuple[int, Settlement]
"""A settlement, and its place in the answer."""


def settle(ledger: Ledger, commands: Sequence[Settle], now: Now) -> list[Settled]:
    """
    Answer Settles that follow one another, together.

    Settlements of the same claim and attempt whose verdicts are of a kind are written as one set. A run that is named
    twice has them one by one, so that the first one counts.
    """
    every = list(enumerate(chain.from_iterable(command.settlements for command in commands)))
    statuses: list[Status | None] = [None] * len(every)
    named_once = len({one.run_id for _, one in every}) == len(every)
    for group in _alike(every, now) if named_once else [[each] for each in every]:
        _settle(ledger, group, statuses, now)
    rest = iter(statuses)
    return [Settled(tuple([next(rest) for _ in command.settlements])) for command in commands]


def _alike(every: Sequence[Numbered], now: Now) -> list[list[Numbered]]:
    groups: dict[tuple[object, ...], list[Numbered]] = {}
    kinds: dict[int, tuple[object, ...]] = {}
    for numbered in every:
        one = numbered[1]
        kind = kinds.get(id(one.verdict))
        if kind is None:
            kind = kinds[id(one.verdict)] = (one.verdict.move, one.verdict.outcome, due_of(one.verdict, now)[1])
        groups.setdefault((kind, one.claim_id, one.attempt, one.fence), []).append(numbered)
    return list(groups.values())


def _settle(ledger: Ledger, group: list[Numbered], statuses: list[Status | None], now: Now) -> None:
    """Settle what is still held of a group; each of them has the first one's claim, attempt, move, outcome and clock."""
    first = group[0][1]
    status = status_after(first.run_id, first.verdict)
    held = rows(
        ledger.db, _HELD, (listed([one.run_id for _, one in group]), first.attempt, first.claim_id, first.fence)
    )
    if not held:
        return
    if len(held) < len(group):
        good = {row[3] for row in held}
        group = [each for each in group if each[1].run_id in good]
    if all(one.verdict is first.verdict for _, one in group):
        end(ledger, held, first.verdict, first.attempt, now)
    else:
        verdicts = {one.run_id: one.verdict for _, one in group}
        end_each(ledger, [(row, verdicts[row[3]]) for row in held], first.attempt, now)
    told = [(one.run_id, one.progress.hex()) for _, one in group if one.progress is not None]
    if told:
        ledger.db.execute(_PROGRESS, (listed(told),))
    for place, _ in group:
        statuses[place] = status


def cancel(ledger: Ledger, command: Cancel, now: Now) -> CancelAnswer:
    """End a run that is not final."""
    row = ledger.db.execute(
        "select rid, lane, priority, status, attempt, claim_id, trace_id, started_us, updated_us from runs where id = ?",
        (command.run_id,),
    ).fetchone()
    if row is None:
        return CancelAnswer(command.run_id, None, canceled=False)
    rid, lane, priority, code, attempt, claim_id, trace_id, started_us, updated_us = row
    was = STATUSES[code]
    if was.is_final:
        return CancelAnswer(command.run_id, was, canceled=False)
    answer = CancelAnswer(command.run_id, was, True, ledger.lane_of[lane], attempt, claim_id, trace_id, started_us)
    now = now.not_before(updated_us)
    if was is Status.RUNNING:
        verdict = Verdict(Move.CANCEL, OutcomeKind.CANCELED, cause=command.cause)
        end(ledger, [(rid, lane, priority)], verdict, attempt, now)
        return answer
    canceled = STATUS_CODE[Status.CANCELED]
    ledger.db.execute(
        "update runs set status = ?2, cause = ?3, updated_us = ?4, ended_us = ?4 where rid = ?1",
        (rid, canceled, command.cause, now.steady_us),
    )
    ledger.db.execute(
        "insert into transitions(run, seq, was, now, move, at_us, attempt, cause) values (?, ?, ?, ?, ?, ?, ?, ?)",
        (rid, 2 * attempt + 2, code, canceled, MOVE_CODE[Move.CANCEL], now.steady_us, attempt, command.cause),
    )
    ledger.moved(lane, code, canceled, 1)
    return answer


def note_running(ledger: Ledger, command: NoteRunning) -> Noted:
    """Keep what a running attempt tells of itself."""
    guard = (command.run_id, command.attempt, command.claim_id, command.fence)
    ledger.db.execute(_NOTE, (*guard, command.progress, command.stuck_since_us))
    return Noted(held=ledger.db.changes() == 1)


def note_late(ledger: Ledger, command: NoteLate) -> None:
    """Keep what became of an attempt that others had ended."""
    ledger.db.execute(
        "update attempts set late_outcome = ?4 where run = (select rid from runs where id = ?1) "
        "and n = ?2 and claim_id = ?3 and late_outcome is null",
        (command.run_id, command.attempt, command.claim_id, command.late_outcome),
    )
