"""
A store in which very much stands around: what is queued, in the future, of tasks that nobody knows, and ended.

Rule: every row is written by the store itself, by the commands that the journal would send, only in larger batches. So the
counters, transitions, attempts and indexes are what a store has that lived through it, whatever its schema becomes; the
price is about a minute for the full one, where rows copied by hand would take half of it and be right until the next column.
Not here: what is measured (`backlog`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from callsheet.actors.seams import RandomIds
from callsheet.store.contract import Cancel, Claim, ClaimedRuns, Insert, Register, Settle, Settlement
from callsheet.store.records import Claimed, Clock, Error, Lane, Move, NewRun, Now, OutcomeKind, Owner, Status, Verdict
from callsheet.store.sqlite import SqliteStore

from .floors import PAYLOAD

N: Final = 1_000_000
"""Runs that ended, in the full store; the rest in proportion."""
LEAST: Final = 3_000
"""In the store that is called empty: just enough for every answer to be a full page."""
BATCH: Final = 10_000
PAGE: Final = 60
"""Of what a list may ask for, so many are in either store at least."""
KNOWN: Final = 5
UNKNOWN: Final = 10
"""Tasks: as many are declared, as many were given up with their runs still waiting."""
HOUR_US: Final = 3_600_000_000
BEGAN_US: Final = 1_750_000_000_000_000
"""When the first run was enqueued; one more in each millisecond."""
LATER_US: Final = 4_000_000_000_000_000
"""Due times from here on are not reached: the year 2096."""
OWNER: Final = Owner("0123456789abcdef", 1, "bench", BEGAN_US)
FAILED: Final = Error("ValueError", "the other side answered 500", "Traceback (most recent call last):\n  …")
SUCCEED: Final = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)
EXHAUST: Final = Verdict(Move.EXHAUST, OutcomeKind.FAILED, error=FAILED, cause="attempts")
RETRY: Final = Verdict(Move.RETRY, OutcomeKind.FAILED, LATER_US, Clock.STEADY, FAILED)
A_KEY: Final = "one of its own"
A_TRACE: Final = "of all replays"
FIRST: Final = 0
"""Priority of what is to be claimed while the store is filled; what stays queued has the default one."""


@define(eq=False)
class Standing:
    """A store being filled, and what there is to ask it for."""

    store: SqliteStore
    jobs: str
    """`namespace/name` of the instance that all runs belong to; its default queue is theirs."""
    queue: str
    lanes: tuple[Lane, ...] = field(init=False)
    """Of the declared tasks."""
    strange: tuple[Lane, ...] = field(init=False)
    replayed: str = ""
    """A run that was replayed PAGE times, which has the key `A_KEY`; those that replay it have the trace `A_TRACE`."""
    deep: str = ""
    """An id with queued runs below it, and right below it as many in the future."""
    made: int = 0
    ids: RandomIds = field(init=False)
    claims: Iterator[int] = field(factory=lambda: itertools.count(1))

    def __attrs_post_init__(self) -> None:
        self.lanes = tuple([Lane(self.jobs, self.queue, f"task-{n}", "1") for n in range(KNOWN)])
        self.strange = tuple([Lane(self.jobs, self.queue, f"gone-{n}", "1") for n in range(UNKNOWN)])
        self.ids = RandomIds(random.Random(1).getrandbits)

    @property
    def now(self) -> Now:
        """When the last run was enqueued."""
        now_us = BEGAN_US + 1000 * self.made
        return Now(now_us, now_us)

    def new(self, lanes: Sequence[Lane] = (), **fields: Any) -> NewRun:
        """A run of one of these lanes (of the declared ones), a millisecond after the one before."""
        self.made += 1
        lanes, at_us = lanes or self.lanes, self.now.steady_us
        marks: dict[str, Any] = {}
        if self.made % 5 == 0:
            marks["trace_id"] = f"trace-{self.made // (5 * PAGE)}"
        if self.made % 10 == 3:
            marks |= {"idempotency_key": f"key-{self.made}", "payload_hash": b"h" * 32}
        due: dict[str, Any] = {"due_us": at_us, "payload": PAYLOAD}
        run_id = self.ids.run_id(at_us)
        return NewRun(id=run_id, lane=lanes[self.made % len(lanes)], created_us=at_us, **due | marks | fields)

    def insert(self, n: int, lanes: Sequence[Lane] = (), **fields: Any) -> tuple[NewRun, ...]:
        """Enqueue `n` runs."""
        runs = tuple([self.new(lanes, **fields) for _ in range(n)])
        self.store.write([Insert(runs)], self.now)
        return runs

    def claim(self, limit: int) -> tuple[Claimed, ...]:
        """Make the first `limit` due runs running."""
        claim_id = next(self.claims).to_bytes(16)
        (claimed,) = self.store.write([Claim(OWNER.boot_id, claim_id, self.lanes, limit, HOUR_US)], self.now)
        assert isinstance(claimed, ClaimedRuns)
        assert len(claimed.runs) == limit, f"{len(claimed.runs)} of {limit} were due"
        return claimed.runs

    def settle(self, runs: Sequence[Claimed], verdict: Verdict) -> None:
        """End the attempts of these, alike."""
        ends = tuple([Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict) for run in runs])
        self.store.write([Settle(ends)], self.now)


def fill(path: Path, jobs: str, queue: str, n: int) -> Standing:
    """
    A new store with `n` runs that ended and in proportion others that wait.

    What ended is both older and newer than all that waits, so that no list of it finds its page among the newest rows.
    """
    store = SqliteStore(path)
    store.open(OWNER)
    all_of_it = Standing(store, jobs, queue)
    store.write([Register(OWNER)], all_of_it.now)
    _ended(all_of_it, n // 2)
    _waiting(all_of_it, n)
    _ended(all_of_it, n - n // 2)
    _marked(all_of_it)
    store.idle()
    return all_of_it


def _waiting(standing: Standing, n: int) -> None:
    for batch in _batches(n // 5):
        standing.insert(batch)
    later: dict[str, Any] = {"status": Status.SCHEDULED, "due_us": LATER_US}
    for batch in _batches(3 * n // 10):
        standing.insert(batch // 2, clock=Clock.STEADY, **later)
        standing.insert(batch - batch // 2, clock=Clock.WALL, **later)
    standing.deep = standing.new().id
    for batch in _batches(3 * n // 10):
        standing.insert(batch, standing.strange)
    for batch in _batches(max(PAGE, n // 100)):
        standing.insert(batch, priority=FIRST)
        standing.settle(standing.claim(batch), RETRY)


def _ended(standing: Standing, n: int) -> None:
    """Eight in ten succeeded, one was dead-lettered, one canceled before it started."""
    for batch in _batches(n):
        runs = standing.insert(batch, priority=FIRST)
        tenth = batch // 10
        standing.store.write([Cancel(run.id) for run in runs[::10][:tenth]], standing.now)
        claimed = standing.claim(batch - tenth)
        standing.settle(claimed[:tenth], EXHAUST)
        standing.settle(claimed[tenth:], SUCCEED)


def _marked(standing: Standing) -> None:
    """A page of runs that are running, and one that replays a single run."""
    standing.insert(PAGE, priority=FIRST)
    standing.claim(PAGE)
    (first,) = standing.insert(1, idempotency_key=A_KEY, payload_hash=b"h" * 32)
    standing.replayed = first.id
    standing.insert(PAGE, replay_of=first.id, trace_id=A_TRACE)


def _batches(n: int) -> Iterator[int]:
    for first in range(0, n, BATCH):
        yield min(BATCH, n - first)
