"""
Runtimes and their leases: Register, Unregister, Renew, Rescue.

Rule: a rescue goes through running rows only, in order of owner and id, and stops where its page is full.
Not here: how the attempt of a rescued run ends (`ending`), what becomes of it (`..arithmetic`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from attrs import frozen

from ..arithmetic import lost_as, rescue_verdict
from ..contract import Renew, Renewed, Rescue, Rescued, RescuedRun
from ..records import OWNER_KEPT_US, Clock, Lane, Now, OutcomeKind, Owner, Verdict
from .connection import value
from .ending import end
from .ledger import Ledger

_RUNNING: Final = """
    select rid, id, lane, priority, attempt, spent, deaths, max_attempts, due_us, clock, at_most_once,
        trace_id, started_us
    from runs indexed by running
    where status = 2 and owner = ?1 and (?2 is null or lease_until_us <= ?2) order by id
    """
_NEXT_OWNER: Final = """
    select owner from runs indexed by running where status = 2 and owner > ? order by owner limit 1
    """
_FORGET: Final = """
    delete from owners where (closed or seen_us <= ?)
    and not exists (select 1 from runs indexed by running where status = 2 and owner = boot)
    """


@frozen
class _Lost:
    """A running row that nobody runs any more."""

    rid: int
    run_id: str
    lane_number: int
    priority: int
    attempt: int
    spent: int
    deaths: int
    max_attempts: int
    due_us: int
    clock: int
    at_most_once: bool
    trace_id: str | None
    started_us: int
    lane: Lane
    outcome: OutcomeKind


def register(ledger: Ledger, owner: Owner, now: Now) -> None:
    """A runtime opened, or is still there."""
    ledger.db.execute(
        "insert or replace into owners(boot, pid, host, started_us, version, tasks, queues, seen_us, closed) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            ledger.boot(owner.boot_id), owner.pid, owner.host, owner.started_us, owner.version,
            json.dumps(owner.tasks), json.dumps(owner.queues), now.steady_us,
        ),
    )  # fmt: skip
    ledger.db.execute(_FORGET, (now.steady_us - OWNER_KEPT_US,))


def unregister(ledger: Ledger, boot_id: str) -> None:
    """A runtime closed."""
    ledger.db.execute("update owners set closed = 1 where boot = ?", (ledger.boots.get(boot_id),))


def renew(ledger: Ledger, command: Renew, now: Now) -> Renewed:
    """Hold claims for another lease."""
    until_us = now.steady_us + command.lease_us
    held: list[Any] = ledger.db.executemany(
        "update runs set lease_until_us = ?1 "
        "where id = ?2 and status = 2 and claim_id = ?3 and fence = ?4 returning id",
        [(until_us, *claim) for claim in command.claims],
    ).fetchall()
    seen = "update owners set seen_us = ? where boot = ?"
    ledger.db.execute(seen, (now.steady_us, ledger.boots.get(command.owner)))
    return Renewed(frozenset(row[0] for row in held))


def rescue(ledger: Ledger, command: Rescue, now: Now) -> Rescued:
    """Take back a page of running rows that nobody runs any more."""
    page = list(islice(_lost(ledger, command, now), command.limit + 1))
    rescued, more = page[: command.limit], len(page) > command.limit
    answers: dict[int, RescuedRun] = {}
    for (attempt, verdict), alike in _by_verdict(rescued, now).items():
        held = [(each.rid, each.lane_number, each.priority) for each in alike]
        status, due_us, clock = end(ledger, held, verdict, attempt, now)
        for each in alike:
            due, by = each.due_us if due_us is None else due_us, Clock(each.clock if clock is None else clock)
            answers[each.rid] = RescuedRun(
                each.run_id,
                each.lane,
                attempt,
                each.outcome,
                status,
                due,
                by,
                each.trace_id,
                each.started_us,
                verdict.cause,
            )
    if command.scope == "others" and command.lanes is None and not more:  # all are dead, and run nothing
        ledger.db.execute("delete from owners where boot <> ?", (ledger.boot(command.owner),))
    return Rescued(tuple([answers[each.rid] for each in rescued]), more)


def _lost(ledger: Ledger, command: Rescue, now: Now) -> Iterator[_Lost]:
    expired_us = now.steady_us if command.scope == "expired" else None
    wanted = None if command.lanes is None else {ledger.lanes.get(lane) for lane in command.lanes}
    keep = command.keep if command.scope == "own" else frozenset()
    for _, boot in _owners(ledger, command):
        seen_us = value(ledger.db, "select seen_us from owners where boot = ?", (boot,))
        outcome = lost_as(command, seen_us, now.steady_us)
        running: Iterator[Any] = ledger.db.execute(_RUNNING, (boot, expired_us))
        for row in running:
            fields: list[Any] = [*row, ledger.lane_of[row[2]], outcome]
            if row[1] not in keep and (wanted is None or row[2] in wanted):
                yield _Lost(*fields)


def _owners(ledger: Ledger, command: Rescue) -> list[tuple[str, int]]:
    owners: list[tuple[str, int]] = []
    last = 0
    while (last := value(ledger.db, _NEXT_OWNER, (last,))) is not None:
        owners.append((ledger.boot_of[last], last))
    owners.sort()
    if command.scope == "expired":
        return owners
    return [each for each in owners if (each[0] == command.owner) == (command.scope == "own")]


def _by_verdict(lost: list[_Lost], now: Now) -> dict[tuple[int, Verdict], list[_Lost]]:
    groups: dict[tuple[int, Verdict], list[_Lost]] = {}
    verdicts: dict[tuple[OutcomeKind, int, bool], Verdict] = {}
    for each in lost:
        kind = (each.outcome, each.deaths, each.at_most_once)
        if kind not in verdicts:
            verdicts[kind] = rescue_verdict(each, each.outcome, now.steady_us)
        groups.setdefault((each.attempt, verdicts[kind]), []).append(each)
    return groups


def owner_of(row: tuple[Any, ...]) -> Owner:
    """The runtime that a row (boot_id, pid, host, started_us, version, tasks, queues, seen_us) tells of."""
    boot_id, pid, host, started_us, version, tasks, queues, seen_us = row
    return Owner(boot_id, pid, host, started_us, version, tuple(json.loads(tasks)), tuple(json.loads(queues)), seen_us)
