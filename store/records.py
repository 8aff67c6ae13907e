"""
The nouns that survive: what a store keeps of a run, and what it is told and answers.

Rule 1: everything here is a frozen value (some of them only `by_types`); nothing here does anything.
Rule 2: times are integer microseconds UTC (`…_us`), payloads are bytes, ids sort by time.
Not here: how a record is stored (`codec`, `sqlite`), which change is legal (`lifecycle`), what follows from a
    failure (`policy`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Final

from attrs import field, frozen

from . import by_types

HISTORY_FIRST: Final = 10
"""
Attempts kept from the start of a run's history; together with HISTORY_LAST it bounds a run that never ends.
"""
FIRES_KEPT: Final = 100
"""Times of a schedule that its history keeps: the last ones."""
HISTORY_LAST: Final = 90
"""Attempts kept from the end of a run's history."""
OWNER_KEPT_US: Final = 86_400_000_000
"""An owner that was not seen for a day, and runs nothing, is forgotten when the next one registers."""
REPLAYS_TOLD: Final = 50
"""Replays that a run's history names: enough to find what became of it; `RunFilter.replay_of` lists them all."""
NO_LIMIT: Final = 0
"""As a `global_limit`: as many running rows as there are slots for, whatever the code says."""


def instant(us: int) -> datetime:
    """Microseconds UTC as an aware datetime."""
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


class Status(StrEnum):
    """Where a run is in its life. The last three are final."""

    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD_LETTERED = "dead_lettered"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether no move leads out of it."""
        return self in FINAL

    @property
    def is_waiting(self) -> bool:
        """Whether a run in it may be claimed (when it is due)."""
        return self in WAITING


FINAL: Final = frozenset({Status.SUCCEEDED, Status.DEAD_LETTERED, Status.CANCELED})
WAITING: Final = frozenset({Status.QUEUED, Status.SCHEDULED, Status.RETRYING})


class Move(StrEnum):
    """What can be asked of a run; the rows of `lifecycle.MOVES`."""

    ENQUEUE = "enqueue"
    SCHEDULE = "schedule"
    START = "start"
    SUCCEED = "succeed"
    RETRY = "retry"
    EXHAUST = "exhaust"
    DISCARD = "discard"
    POISON = "poison"
    CANCEL = "cancel"
    SNOOZE = "snooze"
    HAND_BACK = "hand_back"
    RESCUE = "rescue"


class OutcomeKind(StrEnum):
    """How an attempt ended. Only `failed` and `timed_out` spend a try."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DISCARDED = "discarded"
    SNOOZED = "snoozed"
    UNREADABLE = "unreadable"
    INTERRUPTED = "interrupted"
    CANCELED = "canceled"
    CRASHED = "crashed"
    LEASE_LOST = "lease_lost"


SPENDING: Final = frozenset({OutcomeKind.FAILED, OutcomeKind.TIMED_OUT})


class Clock(IntEnum):
    """The clock that a waiting run's `due_us` is compared with."""

    AT_ONCE = 0
    """None: the run is due whatever any clock says (status queued)."""
    STEADY = 1
    """The wall time read at open plus monotonic time since: delays, retries, snoozes."""
    WALL = 2
    """The wall clock: `run_at`, schedules, rows written by another process."""


@frozen(cache_hash=True)
class Lane:
    """Runs that are claimed alike: one task of one Jobs instance, in one schema, on one queue."""

    jobs: str
    """`namespace/name`."""
    queue: str
    """`namespace/queue`."""
    task: str
    schema: str


@frozen
class Now:
    """One reading of both clocks."""

    steady_us: int
    wall_us: int

    def not_before(self, us: int) -> Now:
        """
        The same, but not before what was written at `us`: who writes first may have read the clock last, when one of two waited
        for the other's transaction.
        """
        return self if us <= self.steady_us else Now(us, self.wall_us)


@frozen
class Error:
    """What an attempt raised, as text: bounded, never rebuilt as a class."""

    type: str
    message: str
    traceback: str = ""


@frozen
class Outcome:
    """How an attempt ended, as the run actor saw it; `policy.judge` makes a Verdict of it."""

    kind: OutcomeKind
    error: Error | None = None
    result: bytes | None = None
    result_error: str | None = None
    delay_us: int | None = None
    """With `snoozed`: how long; with `failed`: the handler's own `RetryAfter`."""
    retryable: bool = True
    """False when the policy's `never` matches what was raised, or `on` does not."""
    cause: str | None = None
    """Why, in a word or a sentence, where the kind does not say it (a Discard's reason)."""


@frozen
class Verdict:
    """What a settle writes: the move and everything that goes with it."""

    move: Move
    outcome: OutcomeKind
    due_us: int | None = None
    """
    When the run is due again; only with retry, snooze and rescue. None: at once; a rescue and a hand_back keep the
    run's place by it.
    """
    clock: Clock = Clock.AT_ONCE
    error: Error | None = None
    result: bytes | None = None
    result_error: str | None = None
    cause: str | None = None

    @property
    def spends(self) -> bool:
        """Whether the attempt used up a try."""
        return self.outcome in SPENDING


@by_types.frozen
class NewRun:
    """A run that is not stored yet: what `enqueue` hands to the journal."""

    id: str
    lane: Lane
    payload: bytes
    created_us: int
    status: Status = Status.QUEUED
    """Queued, or scheduled when it has a future `run_at` or `delay`."""
    due_us: int = 0
    clock: Clock = Clock.AT_ONCE
    priority: int = 5
    max_attempts: int = 5
    timeout_us: int | None = None
    idempotency_key: str | None = None
    payload_hash: bytes | None = None
    """Of the canonical payload and the task; given with a key."""
    trace_id: str | None = None
    replay_of: str | None = None
    reason: str | None = None
    schedule_key: str | None = None
    nominal_us: int | None = None
    at_most_once: bool = False
    """Whether a crash or a lost lease ends it (`on_crash="dead_letter"`), whoever finds that out."""
    trace_context: str | None = None
    """Of whoever requested it, as W3C `traceparent`: what its attempts are told to be part of."""


@frozen
class Run:
    """One requested execution of a task, as it is stored."""

    id: str
    lane: Lane
    status: Status
    due_us: int
    clock: Clock
    priority: int
    attempt: int
    """How many attempts began; the ordinal of the current or last one."""
    spent: int
    """How many of them used up a try."""
    deaths: int
    """Deaths of the process under it in a row, since an attempt last ended otherwise."""
    max_attempts: int
    timeout_us: int | None
    created_us: int
    updated_us: int
    """When its status last changed."""
    ended_us: int | None
    cause: str | None
    """Of the last transition."""
    idempotency_key: str | None
    payload_hash: bytes | None
    trace_id: str | None
    replay_of: str | None
    reason: str | None
    schedule_key: str | None
    nominal_us: int | None
    at_most_once: bool
    """Whether a crash or a lost lease ends it; as it was requested, whatever is declared since."""
    owner: str | None
    """Boot id of the runtime that runs it, while it is running."""
    claim_id: bytes | None
    fence: int
    started_us: int | None
    """When the current attempt was claimed, while it is running."""
    lease_until_us: int | None
    stuck_since_us: int | None
    """Since when the current attempt goes on although it was told to stop; None once it has ended."""
    payload: bytes | None
    """None where the reader was not asked for payloads."""
    result: bytes | None
    result_error: str | None
    progress: bytes | None
    """The last that any attempt told; it stays when the attempt ends, and the run."""
    trace_context: str | None = None
    """Of whoever requested it, as W3C `traceparent`."""

    @property
    def run_id(self) -> str:
        """Its id, by the name that calls and results have for it."""
        return self.id

    @property
    def task(self) -> str:
        """The name of its task when it was requested."""
        return self.lane.task

    @property
    def queue(self) -> str:
        """The name of its queue, without the namespace."""
        return self.lane.queue.partition("/")[2]

    @property
    def created_at(self) -> datetime:
        """When it was requested."""
        return instant(self.created_us)

    @property
    def due_at(self) -> datetime:
        """When it was, or is, to start next."""
        return instant(self.due_us)

    @property
    def started_at(self) -> datetime | None:
        """When its current attempt was claimed, while it is running."""
        return None if self.started_us is None else instant(self.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return None if self.ended_us is None else instant(self.ended_us)


@frozen
class Attempt:
    """One try at a run. The current one of a running run is included, without an end."""

    run_id: str
    n: int
    started_us: int
    ended_us: int | None
    outcome: OutcomeKind | None
    error: Error | None
    claim_id: bytes
    fence: int
    owner: str
    late_outcome: str | None = None
    """What a handler did after its run had been canceled or given to another."""

    @property
    def id(self) -> str:
        """The attempt's own id: the run's id and the ordinal."""
        return f"{self.run_id}.{self.n}"

    @property
    def started_at(self) -> datetime:
        """When it was claimed."""
        return instant(self.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return None if self.ended_us is None else instant(self.ended_us)


@frozen
class Transition:
    """One change of a run's status; append-only. `was` is None for the first."""

    run_id: str
    seq: int
    """1, 2, … without gaps (but those of attempts that the history no longer keeps)."""
    was: Status | None
    now: Status
    move: Move
    at_us: int
    attempt: int
    cause: str | None = None

    @property
    def at(self) -> datetime:
        """When it happened."""
        return instant(self.at_us)


@frozen
class History:
    """
    A run with its attempts (the first 10 and the last 90) and the transitions that go with them, oldest
    first.
    """

    run: Run
    attempts: tuple[Attempt, ...]
    transitions: tuple[Transition, ...]
    replays: tuple[str, ...] = ()
    """Ids of the runs that replay this one, oldest first: the first REPLAYS_TOLD of them."""


@by_types.frozen
class Claimed:
    """A run that was claimed: its attempt is durable, its handler may start."""

    run_id: str
    lane: Lane
    attempt: int
    spent: int
    deaths: int
    max_attempts: int
    timeout_us: int | None
    priority: int
    claim_id: bytes
    fence: int
    started_us: int
    created_us: int
    payload: bytes
    trace_id: str | None
    nominal_us: int | None
    due_us: int = 0
    """When it was due, on its own clock: how long it waited for a slot is counted from then."""
    trace_context: str | None = None
    """Of whoever requested it, as W3C `traceparent`."""


@frozen
class Owner:
    """A runtime, from open to close: who holds a store, who runs an attempt."""

    boot_id: str
    """Random: a restarted process is never taken for its predecessor."""
    pid: int
    host: str
    started_us: int
    version: str = ""
    tasks: tuple[str, ...] = ()
    """`namespace/name/task`, by every name that it has for one."""
    queues: tuple[str, ...] = ()
    """`namespace/queue`: those that it takes runs from."""
    seen_us: int = 0
    """When it last said that it is there; the store keeps it."""


class Did(StrEnum):
    """What was done about a time of a schedule."""

    REQUESTED = "requested"
    TRIGGERED = "triggered"
    """Requested by hand, at no time of its own."""
    OVERLAPPED = "overlapped"
    """Nothing: the run before it had not ended."""
    WAITED = "waited"
    """It was kept until the run before it had ended, and requested then."""
    MISSED = "missed"
    """Nothing: nobody was there, or it was paused, and its policy makes up for nothing."""


@frozen
class Fired:
    """One time of a schedule that came, or several that came to nothing together."""

    nominal_us: int
    """The time; of several the last one."""
    at_us: int
    """When that was done."""
    did: Did
    run_id: str | None = None
    times: int = 1
    """How many times this is about."""


@frozen
class Schedule:
    """Runs that are requested time and again: what was said, and where it stands. Times are on the wall clock."""

    jobs: str
    """`namespace/name`."""
    key: str
    body: bytes
    """JSON: what, when, by which policies; the business of whoever says it."""
    next_us: int | None
    """Its next time; None: there is none any more."""
    due_us: int | None
    """When that is to be looked at: later than its time where they are scattered."""
    paused: bool = False
    orphaned: bool = False
    """Whether the code that declared it declares it no more: nothing is requested then."""
    waiting_us: int | None = None
    """A time that came while the run before it had not ended, and that waits for that."""
    last_us: int | None = None
    """The last time that anything was done about: never again is anything done about one that is not later."""
    fired: int = 0
    """How many runs it has requested."""
    skipped: int = 0
    """How many of its times came to nothing."""
    version: int = 0
    """Counted up by the store with each change."""
    created_us: int = 0
    """Kept by the store."""
    updated_us: int = 0
    """Kept by the store."""


@frozen
class Published:
    """What the last runtime that ran a Jobs instance said of it, for those that do not have its code."""

    jobs: str
    """`namespace/name`."""
    body: bytes
    """JSON; what is in it is the business of whoever publishes."""
    published_us: int = 0
    """When; the store keeps it."""


@frozen
class Count:
    """How many runs of a lane have a status."""

    lane: Lane
    status: Status
    n: int


@frozen
class Due:
    """Something on this queue becomes due then, on that clock."""

    queue: str
    clock: Clock
    due_us: int


@frozen
class QueueOverride:
    """
    What was said of a queue at run time, for all processes; each field that is not None wins over the code.

    It is stored from the first SetQueue on, also while it says nothing.
    """

    queue: str
    """`namespace/queue`."""
    paused: bool = False
    """Whether nothing of the queue is started."""
    concurrency: int | None = None
    """Slots in each runtime."""
    batch_size: int | None = None
    """Runs per claim, at most."""
    global_limit: int | None = None
    """Running rows of the queue in the whole store, at most; NO_LIMIT: any number."""
    visibility_us: int | None = None
    """The lease of what is claimed."""
    updated_us: int = 0
    """When something was last said of it."""


@frozen
class RunFilter:
    """Which runs to list. Every field given must match; times are `created_us`, half-open."""

    jobs: str | None = None
    task: str | None = None
    also_tasks: tuple[str, ...] = ()
    """Further names that `task` may have instead."""
    queue: str | None = None
    status: Status | None = None
    idempotency_key: str | None = None
    trace_id: str | None = None
    replay_of: str | None = None
    created_from_us: int | None = None
    created_before_us: int | None = None
    schedule_key: str | None = None

    def is_of(self, task: str) -> bool:
        """Whether a run of this task may match."""
        return self.task is None or task == self.task or task in self.also_tasks


@frozen
class Snapshot:
    """One consistent reading of a store: its counters, its newest runs (without payloads), who and what steers them."""

    counts: tuple[Count, ...]
    runs: tuple[Run, ...]
    owners: tuple[Owner, ...] = field(default=())
    queues: tuple[QueueOverride, ...] = field(default=())
    """Every override that is stored, by queue."""
    pruned: tuple[Count, ...] = field(default=())
    """How many runs of each lane were pruned, by the status that they had ended with. Counted, ever since."""
    schedules: tuple[Schedule, ...] = field(default=())
    """Those of the Jobs instance that the filter of the runs names, by key; none where it names none."""
