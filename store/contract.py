"""
What every store promises. Memory, SQLite and PostgreSQL pass one test suite over it.

Rule 1: synchronous, and small: the journal is the only caller of the write side, one batch at a time.
Rule 2: a command that cannot be done is *answered* (Conflict, a stale Settled), never raised; what is raised
    concerns the whole batch, which then left no trace (`OutcomeUnknown` excepted).
Rule 3: every change of a run names what it believes of it (status, attempt, claim, fence); a late or second
    one changes nothing and is told so.
Rule 4: what a command writes happens at `now.steady_us`; only dueness looks at `now.wall_us` too.
Not here: when to call (`actors/journal.py`), what follows from a failure (`policy`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeAlias

from attrs import frozen

from . import by_types
from .records import (
    Claimed,
    Clock,
    Count,
    Due,
    Fired,
    History,
    Lane,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    Published,
    QueueOverride,
    Run,
    RunFilter,
    Schedule,
    Snapshot,
    Status,
    Verdict,
)

# ---------------------------------------------------------------- commands and their answers


@by_types.frozen
class Insert:
    """
    Store these runs, all or none. A run whose id, or whose key within its Jobs, is there already is not
    stored again.

    An id that a run of another Jobs has makes the whole command a Conflict. With `strict`, so does the first key or id
    whose run has another payload hash, where both have one. Inside one command a repeated id or key is that of its first.
    A new run is queued or scheduled; any other status is malformed. With `once`, a run that replays one which was replayed
    before this command is not stored: the latest of its replays is what was there already.
    """

    runs: tuple[NewRun, ...]
    strict: bool = False
    once: bool = False


@by_types.frozen
class Inserted:
    """
    One row per run of the Insert, in its order: None where the run was stored, else the run that was there,
    without payload.
    """

    existing: tuple[Run | None, ...]


@frozen
class Conflict:
    """Answer to an Insert of which nothing was stored."""

    idempotency_key: str | None
    """None: it is about the id of `existing`."""
    existing: Run


@frozen
class Claim:
    """
    Give up to `limit` due runs of these lanes to `owner`: order is priority, due, id; one claim_id for all of
    them.

    Each becomes running, its attempt and fence counted up, the attempt durable with this commit. A row is due
    when its own clock says so: AT_ONCE always, STEADY by `now.steady_us`, WALL by `now.wall_us`. The cost
    does not grow with rows it may not take.

    With `queue`, which all the lanes are of, what SetQueue said of it holds in this very transaction. Paused: nothing is
    given. Else no more is given than brings its running rows, in the whole store and whoever runs them, to the limit:
    the override's `global_limit` where it has one (NO_LIMIT: none), else the claim's. Rows that run already are never
    touched, also when there are more of them than a limit that was lowered. Without `queue` none of this applies.
    """

    owner: str
    claim_id: bytes
    lanes: tuple[Lane, ...]
    limit: int
    lease_us: int
    suspects: int | None = None
    """How many of them may be suspects (`policy.DEATHS_BEFORE_SUSPECT`); None: as many as come."""
    queue: str | None = None
    """`namespace/queue`."""
    global_limit: int | None = None
    """Running rows of `queue` in the whole store, at most, as the code says; None or NO_LIMIT: any number."""


HeldBy: TypeAlias = Literal["paused", "global_limit"]
"""Why a Claim of a queue was given nothing, or less than it asked for, though more may be due."""


@frozen
class ClaimedRuns:
    """What a Claim got; fewer than `limit` means that no more was due, unless `held` says otherwise."""

    runs: tuple[Claimed, ...]
    override: QueueOverride | None = None
    """Of the claim's `queue`, as it stood then; None where nothing was ever said of it, or the claim names none."""
    held: HeldBy | None = None
    """
    "paused": nothing was looked for. "global_limit": all that the limit left room for was given, fewer than `limit`;
    whether more was due was not looked for.
    """


@by_types.frozen
class Settlement:
    """The end of one attempt. Guarded by id, status running, attempt, claim and fence."""

    run_id: str
    attempt: int
    claim_id: bytes
    fence: int
    verdict: Verdict
    progress: bytes | None = None
    """The last progress that the attempt told; None leaves what is stored."""
    run: Claimed | None = None
    """What was claimed, for those who are told of the commit; stores do not look at it."""


@frozen
class Settle:
    """
    End these attempts. A stale one (canceled, rescued, claimed again, settled before) changes nothing.

    The run takes the verdict's status (`lifecycle.step`; a move that running does not have is malformed) and,
    where it waits again, the verdict's due time and clock. A verdict that names no time means AT_ONCE, with due = now;
    but after a rescue or a hand_back with the due it had, so that it keeps its place before what became due later. A
    verdict that spends adds one to `spent`; deaths: `crashed` adds one, `lease_lost` and `interrupted` keep it, any
    other outcome sets 0. What is told of a running run (`stuck_since_us`) ends with the attempt; `progress` stays.
    """

    settlements: tuple[Settlement, ...]


@frozen
class Settled:
    """One entry per Settlement: the run's new status, or None where it was stale."""

    statuses: tuple[Status | None, ...]


@frozen
class Cancel:
    """Cancel a run in any state that is not final; a running attempt ends with it, as `canceled`."""

    run_id: str
    cause: str = "canceled"


@frozen
class CancelAnswer:
    """
    `was`: the status before, None when no such run is stored. `canceled`: whether this command canceled it.
    With one that it canceled: lane, attempt, trace id; with a running one its claim too, so that whoever runs it can be told.
    """

    run_id: str
    was: Status | None
    canceled: bool
    lane: Lane | None = None
    attempt: int = 0
    claim_id: bytes | None = None
    trace_id: str | None = None
    started_us: int | None = None
    """When the attempt that ended with it was claimed."""


@frozen
class NoteLate:
    """
    Keep what a handler did after its attempt had been ended by others, as the attempt's `late_outcome`. The
    first one stays.
    """

    run_id: str
    attempt: int
    claim_id: bytes
    late_outcome: str


@frozen
class NoteRunning:
    """
    Keep what a running attempt tells of itself. Guarded as a Settlement is: a stale one changes nothing.

    What is None stays as it is. Neither the status nor `updated_us` changes.
    """

    run_id: str
    attempt: int
    claim_id: bytes
    fence: int
    progress: bytes | None = None
    stuck_since_us: int | None = None
    """Since when it goes on although it was told to stop."""
    run: Claimed | None = None
    """As in a Settlement."""


@frozen
class Noted:
    """Whether the attempt of a NoteRunning still holds its run; if not, nothing was kept."""

    held: bool


@frozen
class SetQueue:
    """
    Say at run time how a queue works, for all processes; answered with the QueueOverride that holds now.

    What is None stays as it is. `reset`: first forget every limit that was said before, but not `paused`; then apply the
    rest. Whether a queue of this name is declared anywhere is not looked at; numbers are not checked.
    """

    queue: str
    paused: bool | None = None
    concurrency: int | None = None
    batch_size: int | None = None
    global_limit: int | None = None
    """NO_LIMIT: none, whatever the code says."""
    visibility_us: int | None = None
    reset: bool = False


@frozen
class Renew:
    """
    Hold these claims (run id, claim id, fence) for `lease_us` from now, and the owner's row as seen now.

    A lease that ran out is renewed too, as long as nobody took the run back.
    """

    owner: str
    claims: tuple[tuple[str, bytes, int], ...]
    lease_us: int


@frozen
class Renewed:
    """The run ids whose claims are still held; the others are lost."""

    held: frozenset[str]


@frozen
class Rescue:
    """
    Take back up to `limit` running rows that nobody runs any more, each as `judge` says of the outcome; but one that was
    stored as `at_most_once` is ended by `crashed` and `lease_lost`: discarded, cause `on_crash`.

    scope: "others": of every other boot id (their owner is proven dead: `crashed`); "expired": of any owner,
    lease run out (`crashed` when the owner was not seen for two leases, else `lease_lost`); "own": of this
    owner, except those in `keep` (`interrupted`, handed back). Taken in order of owner, then id. What waits again is
    due at once and keeps its place: its `due_us` stays what it was.
    """

    owner: str
    scope: Literal["others", "expired", "own"]
    limit: int
    keep: frozenset[str] = frozenset()
    lease_us: int = 0
    lanes: tuple[Lane, ...] | None = None
    """Only runs of these lanes, where given."""


@frozen
class RescuedRun:
    """One run that a Rescue took back."""

    run_id: str
    lane: Lane
    attempt: int
    outcome: OutcomeKind
    status: Status
    due_us: int
    clock: Clock
    trace_id: str | None = None
    started_us: int | None = None
    """When the attempt that was lost was claimed."""
    cause: str | None = None
    """Of the run's last transition."""


@frozen
class Rescued:
    """What a Rescue took back; `more` when the limit cut it short."""

    runs: tuple[RescuedRun, ...]
    more: bool


@frozen
class Register:
    """A runtime opened (or is still there: the same boot id again refreshes when it was last seen)."""

    owner: Owner


@frozen
class Unregister:
    """A runtime closed. Its row is shown as long as it still has running rows (its zombies)."""

    boot_id: str


@frozen
class Publish:
    """Keep what was said of these Jobs instances, in place of what was said before; `published_us` becomes now."""

    definitions: tuple[Published, ...]


@frozen
class Prune:
    """
    Forget runs of one Jobs instance that ended with this status before `before_us`: with attempts, transitions and payload;
    the key is free again, and counters, and what counts the pruned, change in the same transaction.

    Looks at no more than `limit` ended runs, at fewer where they have many attempts or bytes, so that it takes a bounded
    time. Whoever begins with `after=""`, and goes on with each `next`, has looked at all that had ended by then; a store may
    pass over those that it knows to be too new.
    """

    jobs: str
    status: Status
    before_us: int
    limit: int
    after: str = ""
    """From where to go on: what the last answer said is next."""


@frozen
class Pruned:
    """`n`: how many were forgotten. `next`: where to go on; None when no run is left to look at."""

    n: int
    next: str | None


@frozen
class SetSchedule:
    """
    Change one schedule, if it still is what it is believed to be, and request runs with it, all in one.

    `was`: the version that is believed to be stored; None: none is. Where `schedule.created_us` is not 0, it must also be the
    one that was made then: one that was deleted and said anew may have the same version. What is stored becomes `schedule`,
    but for `version`, `created_us` and `updated_us`, which the store keeps; with `delete` it is removed, with what was noted
    of its times. The runs are new ones of its Jobs, with its key; no time is noted twice but by hand (both malformed). The
    last FIRES_KEPT of `fired` are kept. What says what is stored already, and nothing else, changes nothing: the version stays.
    """

    was: int | None
    schedule: Schedule
    runs: tuple[NewRun, ...] = ()
    fired: tuple[Fired, ...] = ()
    delete: bool = False
    if_active: SetSchedule | None = None
    """What is done instead if a run of this schedule has not ended; of it `was`, `delete` and `if_active` are not looked at."""

    def __attrs_post_init__(self) -> None:
        other = None if self.if_active is None else self.if_active.schedule
        if other is not None and (other.jobs, other.key) != (self.schedule.jobs, self.schedule.key):
            raise ValueError(f"what is done instead is of another schedule: {other.key!r}, not {self.schedule.key!r}")


@frozen
class ScheduleSet:
    """
    `done`: whether it was what it was believed to be; else nothing was changed. `schedule`: what is stored now, if any is.
    `active`: whether it was done as `if_active` says.
    """

    done: bool
    schedule: Schedule | None
    active: bool = False


Command: TypeAlias = (
    Insert
    | Claim
    | Settle
    | Cancel
    | NoteLate
    | NoteRunning
    | SetQueue
    | Renew
    | Rescue
    | Register
    | Unregister
    | Publish
    | Prune
    | SetSchedule
)
Answer: TypeAlias = (
    Inserted
    | Conflict
    | ClaimedRuns
    | Settled
    | CancelAnswer
    | Noted
    | QueueOverride
    | Renewed
    | Rescued
    | Pruned
    | ScheduleSet
    | None
)
"""In the order of the commands; NoteLate, Register, Unregister and Publish are answered with None."""


# ---------------------------------------------------------------- the two sides


EVERY: Final = RunFilter()


class Reader(Protocol):
    """Reads what is committed; needs no journal. One thread at a time uses one Reader."""

    def get(self, run_id: str) -> History | None:
        """The run with its payload, attempts, transitions and replays; None when it is not stored."""

    def list(self, where: RunFilter, *, limit: int, before: str | None = None) -> tuple[Run, ...]:
        """
        Up to `limit` runs that match, newest (greatest id) first, without payloads; `before`: only ids below
        it.
        """

    def upcoming(self, clock: Clock, after_us: int, until_us: int, limit: int) -> tuple[Due, ...]:
        """
        Distinct (queue, due) of waiting rows on `clock` with after < due <= until, by due, then queue.

        Reads about `limit` rows, and then whatever else falls due with the last of them: so the last entry's
        `due_us` is where the next page starts, and nothing is missed. An empty page is the end.
        """

    def counts(self) -> tuple[Count, ...]:
        """
        The counters: how many runs of each lane have each status; rows of zero are left out. Never counted.
        """

    def queues(self) -> tuple[QueueOverride, ...]:
        """Every override that SetQueue stored, by queue."""

    def published(self) -> tuple[Published, ...]:
        """What Publish stored, by jobs."""

    def schedules(self, jobs: str | None = None) -> tuple[Schedule, ...]:
        """Those of one Jobs instance, or all; by jobs and key."""

    def schedule(self, jobs: str, key: str) -> Schedule | None:
        """One of them, however many there are."""

    def fires(self, jobs: str, key: str, limit: int) -> tuple[Fired, ...]:
        """What was done about the last `limit` times of a schedule, newest first."""

    def snapshot(self, *, limit: int, where: RunFilter = EVERY) -> Snapshot:
        """
        Counters, the newest `limit` runs that match, the registered runtimes, the overrides, what was pruned, and the schedules
        of `where.jobs` where that is given, from one consistent read.
        """

    def close(self) -> None:
        """Free what it holds; twice does nothing."""


class Store(Protocol):
    """One place where runs survive. Not open when it is made."""

    @property
    def name(self) -> str:
        """What messages call it: a path, or a URL without its password."""

    @property
    def exclusive(self) -> bool:
        """
        Whether opening proves that no other runtime lives on it (owner lock): then "others" may be rescued at
        once.
        """

    def open(self, owner: Owner) -> None:
        """
        Lock it for `owner`, check it, create or migrate the schema, and take it into use.

        Raises CannotOpen, StoreHeld, ForeignDatabase, NewerSchema, OlderSchema, DamagedStore, SettingRefused;
        nothing was changed then.
        """

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """
        Do all of it in one durable transaction, in order, and answer each.

        Raises StoreBusy, StoreFull or another StoreError when nothing of it was stored, OutcomeUnknown when
        that is not known, and whatever a malformed command raises (then nothing was stored either).
        """

    def changed(self) -> bool:
        """
        Whether somebody else (a Client, another runtime) wrote since this was last asked. Cheap: asked while
        idle.
        """

    def idle(self) -> None:
        """A moment without work: the store may tidy up (a checkpoint)."""

    def reader(self) -> Reader:
        """A new Reader over what is committed."""

    def close(self) -> None:
        """Release the lock and every resource; twice does nothing."""
