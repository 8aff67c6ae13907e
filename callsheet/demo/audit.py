"""
The audit: what was promised to the caller, what reached the receiver, what the store says, compared.

Rule 1: pure. Three sources in, findings out; none of them is asked about itself.
Rule 2: whatever was acknowledged and cannot be shown to have ended as the store says it did is lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from attrs import frozen

from ..store.records import Attempt, History, Move, OutcomeKind, Status
from .ledger import Acknowledged, Answered, Entry, Received
from .plan import key_of


@frozen
class Lost:
    """One acknowledged run, and what is wrong with it."""

    run_id: str
    event: str
    why: str


@frozen
class Findings:
    """What the audit found. Numbers of runs, unless said otherwise."""

    calls: int
    """Acknowledged calls of `enqueue`."""
    deduplicated: int
    """Of them, those that were given the run of an earlier call."""
    runs: int
    """Acknowledged runs."""
    delivered: int
    """Succeeded in the store, and answered 200 by the receiver."""
    refused: int
    """Dead-lettered because the handler gave up (Discard)."""
    exhausted: int
    """Dead-lettered because no try was left."""
    canceled: int
    """By whoever steered on the monitor's page; they count as ended."""
    replayed: int
    """Further runs that were made there; they count in nothing else but attempts."""
    repeated: int
    """Delivered more than once: allowed, at-least-once means this."""
    attempts: int
    """Attempts in the store."""
    retried: int
    """Attempts that failed and were followed by a retry."""
    crashed: int
    """Attempts that died with their process."""
    resumed_us: int | None
    """When the first run that a crash had interrupted was running again."""
    lost: tuple[Lost, ...]
    strays: tuple[str, ...]
    """Run ids in the store that should not be there: nobody was told of them, or their key has an older run."""
    silent: tuple[str, ...]
    """Events that were to be delivered, and whose call was never acknowledged."""

    @property
    def dead_lettered(self) -> int:
        """However it came."""
        return self.refused + self.exhausted

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing, and nothing is there that should not be."""
        return not (self.lost or self.strays or self.silent)


def audit(
    events: Iterable[str],
    caller: Sequence[Acknowledged],
    receiver: Sequence[Entry],
    store: Mapping[str, History],
    *,
    steered: bool = False,
) -> Findings:
    """
    Compare the three. events: ids of what was to be delivered. caller, receiver: their ledgers. store: the histories of all
    runs in it, by id. steered: whether somebody could cancel and replay runs on the monitor's page.
    """
    replays = {run_id for run_id, each in store.items() if steered and each.run.replay_of in store}
    promised = sorted({(entry.run_id, entry.event) for entry in caller})
    taken = Counter(entry.event for entry in receiver if isinstance(entry, Answered) and entry.status == 200)
    seen: defaultdict[str, set[int]] = defaultdict(set)
    for entry in receiver:
        if isinstance(entry, Received):
            seen[entry.run_id].add(entry.attempt)
    lost = tuple(
        Lost(run_id, event, why)
        for run_id, event in promised
        if (why := _why_lost(event, store.get(run_id), taken[event], seen[run_id], steered)) is not None
    )
    missing = {each.run_id for each in lost}
    told = {run_id for run_id, _ in promised}
    ended = [each for run_id, each in store.items() if run_id not in missing | replays]
    statuses = Counter(each.run.status for each in ended)
    ends = Counter(each.transitions[-1].move for each in ended)
    every = [attempt for each in store.values() for attempt in each.attempts]
    return Findings(
        calls=len(caller),
        deduplicated=sum(entry.deduped for entry in caller),
        runs=len(told),
        delivered=statuses[Status.SUCCEEDED],
        refused=ends[Move.DISCARD],
        exhausted=statuses[Status.DEAD_LETTERED] - ends[Move.DISCARD],
        canceled=statuses[Status.CANCELED],
        replayed=len(replays),
        repeated=sum(n > 1 for n in taken.values()),
        attempts=len(every),
        retried=sum(move.move is Move.RETRY for each in store.values() for move in each.transitions),
        crashed=sum(attempt.outcome is OutcomeKind.CRASHED for attempt in every),
        resumed_us=min(
            (after.started_us for each in store.values() for after in _resumed(each.attempts)), default=None
        ),
        lost=lost,
        strays=tuple(sorted(((store.keys() - told) | _second_runs(store)) - replays)),
        silent=tuple(sorted(set(events) - {entry.event for entry in caller})),
    )


def _why_lost(event: str, history: History | None, taken: int, seen: set[int], steered: bool) -> str | None:
    """None when it is not."""
    if history is None:
        return "acknowledged, but not in the store"
    run = history.run
    if run.idempotency_key != key_of(event):
        return f"acknowledged, but the store has {run.idempotency_key} under its id"
    if not run.status.is_final:
        return f"not ended: it is {run.status}"
    if run.status is Status.SUCCEEDED and not taken:
        return "succeeded in the store, but the receiver never answered 200"
    if run.status is Status.CANCELED and not steered:
        return "canceled, and nobody asked for that"
    if run.status is not Status.CANCELED and not seen:
        return f"{run.status} in the store, but it never reached the receiver"
    unrecorded = seen - {attempt.n for attempt in history.attempts}
    if unrecorded:
        return f"the receiver was sent attempt {min(unrecorded)}, of which the store knows nothing"
    return None


def _second_runs(store: Mapping[str, History]) -> set[str]:
    """Runs whose key has an older one."""
    first: dict[str | None, str] = {}
    for run_id in sorted(store):
        first.setdefault(store[run_id].run.idempotency_key, run_id)
    return store.keys() - first.values()


def _resumed(attempts: Sequence[Attempt]) -> Iterator[Attempt]:
    """Those that follow one which died with its process."""
    for before, after in pairwise(attempts):
        if before.outcome is OutcomeKind.CRASHED:
            yield after
