"""
A store in dicts: the contract said in the plainest way, and what every other store is compared with.

Rule 1: a write that raises takes back all it put; readers wait meanwhile, so nothing half done is ever seen.
Rule 2: simple before fast: a claim sorts all that waits. Nothing here outlives the process.
Not here: what the commands mean (`contract`), the sums (`arithmetic`), the dicts (`memory_tables`), reading
    (`memory_reader`).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, assert_never

from attrs import evolve

from .arithmetic import (
    canceled_of,
    claimed_of,
    conflict_of,
    current_attempt,
    deaths_after,
    due_of,
    in_history,
    is_due,
    lost_as,
    override_after,
    rescue_verdict,
    room_for,
    run_of,
    status_after,
)
from .contract import (
    Answer,
    Cancel,
    CancelAnswer,
    Claim,
    ClaimedRuns,
    Command,
    Conflict,
    Insert,
    Inserted,
    Noted,
    NoteLate,
    NoteRunning,
    Prune,
    Pruned,
    Publish,
    Register,
    Renew,
    Renewed,
    Rescue,
    Rescued,
    RescuedRun,
    SetQueue,
    SetSchedule,
    Settle,
    Settled,
    Settlement,
    Unregister,
)
from .errors import StoreClosed, StoreHeld
from .lifecycle import birth, step
from .memory_reader import MemoryReader
from .memory_schedules import set_schedule
from .memory_tables import SeenOwner, Tables
from .policy import DEATHS_BEFORE_SUSPECT
from .records import (
    OWNER_KEPT_US,
    WAITING,
    Claimed,
    Move,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    QueueOverride,
    Run,
    Status,
    Verdict,
)


class MemoryStore:
    """
    A store in memory.

    tables: those of an earlier MemoryStore, to go on from there. exclusive: whether it may be the only one
        open on them;
    several stores with `exclusive=False` share tables as runtimes share a server.
    """

    def __init__(self, tables: Tables | None = None, *, exclusive: bool = True, name: str = "memory") -> None:
        self.tables: Final = Tables() if tables is None else tables
        self._name = name
        self._exclusive = exclusive
        self._open = False
        self._writes = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    @property
    def exclusive(self) -> bool:
        """Whether no other exclusive store can be open on the same tables."""
        return self._exclusive

    def open(self, owner: Owner) -> None:
        """
        Take it into use. Raises StoreHeld when this store, or an exclusive one on the same tables, is open.
        """
        with self.tables.lock:
            holder = self.tables.held_by if self._exclusive else None
            if holder is None and self._open:
                holder = owner
            if holder is not None:
                started = datetime.fromtimestamp(holder.started_us / 1e6, UTC).isoformat(timespec="seconds")
                raise StoreHeld(self._name, holder.pid, started)
            if self._exclusive:
                self.tables.held_by = owner
            self._open = True
            self._writes = self.tables.writes

    def close(self) -> None:
        """Let others open it; what it keeps stays in `tables`. Twice does nothing."""
        with self.tables.lock:
            if self._open and self._exclusive:
                self.tables.held_by = None
            self._open = False

    def changed(self) -> bool:
        """Whether another store wrote to the same tables since this was last asked."""
        before, self._writes = self._writes, self.tables.writes
        return self._writes != before

    def idle(self) -> None:
        """Nothing to tidy up."""

    def reader(self) -> MemoryReader:
        """A new Reader. Raises StoreClosed."""
        self._check_open()
        return MemoryReader(self.tables, self._name)

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """Do all of it, or nothing when something raises."""
        with self.tables.lock:
            self._check_open()
            try:
                answers = [self._apply(command, now) for command in commands]
                self._commit()
            except BaseException:
                self.tables.undo(0)
                raise
            self.tables.keep()
            self.tables.writes += 1
            self._writes += 1
            return answers

    def _commit(self) -> None:
        """The moment in which a store on disk would become durable; a test may fail it."""

    def _check_open(self) -> None:
        if not self._open:
            raise StoreClosed(self._name)

    def _apply(self, command: Command, now: Now) -> Answer:
        match command:
            case Insert():
                return self._insert(command)
            case Claim():
                return self._claim(command, now)
            case Settle():
                return Settled(tuple([self._settle(each, now) for each in command.settlements]))
            case Cancel():
                return self._cancel(command, now)
            case NoteRunning():
                return self._note_running(command)
            case SetQueue():
                return self._set_queue(command, now)
            case SetSchedule():
                return set_schedule(self.tables, command, now, self._insert)
            case Renew():
                return self._renew(command, now)
            case Rescue():
                return self._rescue(command, now)
            case Prune():
                return self._prune(command)
            case NoteLate() | Register() | Unregister() | Publish():
                self._hear(command, now)
                return None
            case _:
                assert_never(command)

    def _hear(self, command: NoteLate | Register | Unregister | Publish, now: Now) -> None:
        match command:
            case NoteLate():
                self._note_late(command)
            case Register():
                self._register(command.owner, now)
            case Unregister():
                self._unregister(command.boot_id)
            case Publish():
                for said in command.definitions:
                    self.tables.put(self.tables.definitions, said.jobs, evolve(said, published_us=now.steady_us))
            case _:
                assert_never(command)

    # ---------------------------------------------------------------- enqueue

    def _insert(self, command: Insert) -> Inserted | Conflict:
        existing: list[Run | None] = []
        mark = self.tables.mark
        before = {new.replay_of: self._last_replay(new) for new in command.runs} if command.once else {}
        for new in command.runs:
            move = birth(new.status)
            run = before.get(new.replay_of)
            if run is not None:
                existing.append(run)
                continue
            run = self._existing(new)
            if run is None:
                self.tables.move_run(run_of(new), None, move, new.created_us)
                if new.idempotency_key is not None:
                    self.tables.put(self.tables.keys, (new.lane.jobs, new.idempotency_key), new.id)
                if new.replay_of is not None:
                    self.tables.put(self.tables.replays.setdefault(new.replay_of, {}), new.id, None)
            elif (conflict := conflict_of(new, run, strict=command.strict)) is not None:
                self.tables.undo(mark)
                return conflict
            existing.append(run)
        return Inserted(tuple(existing))

    def _existing(self, new: NewRun) -> Run | None:
        run = self.tables.runs.get(new.id)
        if run is None and new.idempotency_key is not None:
            run_id = self.tables.keys.get((new.lane.jobs, new.idempotency_key))
            run = None if run_id is None else self.tables.runs[run_id]
        return None if run is None else evolve(run, payload=None)

    def _last_replay(self, new: NewRun) -> Run | None:
        ids = self.tables.replays.get(new.replay_of or "")
        return evolve(self.tables.runs[max(ids)], payload=None) if ids else None

    # ---------------------------------------------------------------- claim

    def _set_queue(self, command: SetQueue, now: Now) -> QueueOverride:
        override = override_after(self.tables.queues.get(command.queue), command, now)
        self.tables.put(self.tables.queues, command.queue, override)
        return override

    def _running(self, queue: str) -> int:
        ids = self.tables.ids.items()
        return sum(len(some) for (lane, has), some in ids if has is Status.RUNNING and lane.queue == queue)

    def _claim(self, command: Claim, now: Now) -> ClaimedRuns:
        queue = command.queue
        override = None if queue is None else self.tables.queues.get(queue)
        room, held = room_for(command, override, 0 if queue is None else self._running(queue))
        first = self._first(command, room, now)
        if len(first) < room:
            held = None
        return ClaimedRuns(tuple([self._start(run, command, now) for run in first]), override, held)

    def _first(self, command: Claim, limit: int, now: Now) -> list[Run]:
        waiting = [run for status in WAITING for run in self.tables.of_status(status, command.lanes)]
        due = sorted((run for run in waiting if is_due(run.due_us, run.clock, now)), key=_order)
        suspects = [run for run in due if run.deaths >= DEATHS_BEFORE_SUSPECT]
        chosen = [run for run in due if run.deaths < DEATHS_BEFORE_SUSPECT] + suspects[: command.suspects]
        return heapq.nsmallest(limit, chosen, key=_order)

    def _start(self, was: Run, command: Claim, now: Now) -> Claimed:
        at_us = now.not_before(was.created_us).steady_us
        run = evolve(
            was,
            status=step(was.id, was.status, Move.START),
            attempt=was.attempt + 1,
            fence=was.fence + 1,
            owner=command.owner,
            claim_id=command.claim_id,
            started_us=at_us,
            lease_until_us=now.steady_us + command.lease_us,
            updated_us=at_us,
            cause=None,
        )
        self.tables.move_run(run, was.status, Move.START, at_us)
        return claimed_of(run)

    # ---------------------------------------------------------------- the end of an attempt

    def _settle(self, one: Settlement, now: Now) -> Status | None:
        status = status_after(one.run_id, one.verdict)
        run = self._attempted(one)
        if run is None:
            return None
        self._end(run if one.progress is None else evolve(run, progress=one.progress), one.verdict, now)
        return status

    def _attempted(self, one: Settlement | NoteRunning) -> Run | None:
        run = self._held(one.run_id, one.claim_id, one.fence)
        return None if run is None or run.attempt != one.attempt else run

    def _held(self, run_id: str, claim_id: bytes, fence: int) -> Run | None:
        run = self.tables.runs.get(run_id)
        if run is None or run.status is not Status.RUNNING:
            return None
        return run if run.claim_id == claim_id and run.fence == fence else None

    def _end(self, was: Run, verdict: Verdict, now: Now) -> Run:
        attempt = current_attempt(was)
        assert attempt is not None
        status = status_after(was.id, verdict)
        due_us, clock = (None, was.clock) if status.is_final else due_of(verdict, now)
        run = evolve(
            was,
            status=status,
            due_us=was.due_us if due_us is None else due_us,
            clock=clock,
            spent=was.spent + verdict.spends,
            deaths=deaths_after(was.deaths, verdict.outcome),
            updated_us=now.steady_us,
            ended_us=now.steady_us if status.is_final else None,
            cause=verdict.cause,
            owner=None,
            claim_id=None,
            started_us=None,
            lease_until_us=None,
            stuck_since_us=None,
            result=verdict.result,
            result_error=verdict.result_error,
        )
        ended = evolve(attempt, ended_us=now.steady_us, outcome=verdict.outcome, error=verdict.error)
        kept = (each for each in self.tables.attempts.get(run.id, ()) if in_history(each.n, run.attempt))
        self.tables.put(self.tables.attempts, run.id, (*kept, ended))
        self.tables.move_run(run, was.status, verdict.move, now.steady_us)
        return run

    def _cancel(self, command: Cancel, now: Now) -> CancelAnswer:
        run = self.tables.runs.get(command.run_id)
        if run is None or run.status.is_final:
            return CancelAnswer(command.run_id, None if run is None else run.status, canceled=False)
        now = now.not_before(run.updated_us)
        if run.status is Status.RUNNING:
            self._end(run, Verdict(Move.CANCEL, OutcomeKind.CANCELED, cause=command.cause), now)
            return canceled_of(run)
        status = step(run.id, run.status, Move.CANCEL)
        at_us = now.steady_us
        ended = evolve(run, status=status, updated_us=at_us, ended_us=at_us, cause=command.cause)
        self.tables.move_run(ended, run.status, Move.CANCEL, at_us)
        return canceled_of(run)

    def _note_late(self, command: NoteLate) -> None:
        attempts = self.tables.attempts.get(command.run_id, ())
        for i, each in enumerate(attempts):
            if each.n == command.attempt and each.claim_id == command.claim_id and each.late_outcome is None:
                noted = evolve(each, late_outcome=command.late_outcome)
                self.tables.put(self.tables.attempts, command.run_id, (*attempts[:i], noted, *attempts[i + 1 :]))

    def _note_running(self, command: NoteRunning) -> Noted:
        run = self._attempted(command)
        if run is None:
            return Noted(held=False)
        told = {"progress": command.progress, "stuck_since_us": command.stuck_since_us}
        given: dict[str, Any] = {name: each for name, each in told.items() if each is not None}
        self.tables.put_run(evolve(run, **given))
        return Noted(held=True)

    # ---------------------------------------------------------------- leases and owners

    def _renew(self, command: Renew, now: Now) -> Renewed:
        held = []
        for run_id, claim_id, fence in command.claims:
            run = self._held(run_id, claim_id, fence)
            if run is not None:
                self.tables.put_run(evolve(run, lease_until_us=now.steady_us + command.lease_us))
                held.append(run_id)
        seen = self.tables.owners.get(command.owner)
        if seen is not None:
            self.tables.put(self.tables.owners, command.owner, evolve(seen, seen_us=now.steady_us))
        return Renewed(frozenset(held))

    def _rescue(self, command: Rescue, now: Now) -> Rescued:
        lost = [run for run in self.tables.of_status(Status.RUNNING, command.lanes) if _is_lost(run, command, now)]
        lost.sort(key=lambda run: (run.owner, run.id))
        rescued = tuple([self._take_back(run, command, now) for run in lost[: command.limit]])
        more = len(lost) > command.limit
        if command.scope == "others" and command.lanes is None and not more:  # all of them are dead, and run nothing
            for boot_id in [each for each in self.tables.owners if each != command.owner]:
                self.tables.drop(self.tables.owners, boot_id)
        return Rescued(rescued, more)

    def _take_back(self, run: Run, command: Rescue, now: Now) -> RescuedRun:
        assert run.owner is not None
        seen = self.tables.owners.get(run.owner)
        outcome = lost_as(command, None if seen is None else seen.seen_us, now.steady_us)
        after = self._end(run, rescue_verdict(run, outcome, now.steady_us), now)
        kept = after.status, after.due_us, after.clock
        return RescuedRun(run.id, run.lane, run.attempt, outcome, *kept, run.trace_id, run.started_us, after.cause)

    def _register(self, owner: Owner, now: Now) -> None:
        self.tables.put(self.tables.owners, owner.boot_id, SeenOwner(owner, now.steady_us))
        busy = {run.owner for run in self.tables.of_status(Status.RUNNING)}
        for boot_id, each in list(self.tables.owners.items()):
            if boot_id not in busy and (each.closed or each.seen_us + OWNER_KEPT_US <= now.steady_us):
                self.tables.drop(self.tables.owners, boot_id)

    def _unregister(self, boot_id: str) -> None:
        seen = self.tables.owners.get(boot_id)
        if seen is not None:
            self.tables.put(self.tables.owners, boot_id, evolve(seen, closed=True))

    # ---------------------------------------------------------------- retention

    def _prune(self, command: Prune) -> Pruned:
        ended = [run for run in self.tables.of_status(command.status) if run.lane.jobs == command.jobs]
        old = sorted(run.id for run in ended if run.ended_us is not None and run.ended_us < command.before_us)
        page = old[: command.limit]
        for run_id in page:
            self.tables.forget_run(self.tables.runs[run_id])
        return Pruned(len(page), page[-1] if len(old) > len(page) else None)


def _order(run: Run) -> tuple[int, int, str]:
    return run.priority, run.due_us, run.id


def _is_lost(run: Run, command: Rescue, now: Now) -> bool:
    if command.scope == "own":
        return run.owner == command.owner and run.id not in command.keep
    if command.scope == "others":
        return run.owner != command.owner
    return run.lease_until_us is not None and run.lease_until_us <= now.steady_us
