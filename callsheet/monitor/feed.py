"""
Where the state that clients see comes from: what changed is noted at each commit, and looked up in the store.

Rule 1: a commit costs us a few names in a bounded dict while somebody watches, and one comparison while nobody does.
Rule 2: nothing is rebuilt from events: what is sent was read from the store after the change, so it cannot drift.
Rule 3: it looks at most ten times a second, at most a tenth of the time, and only while a client can take more news; the
    work is the same for one client and for sixty-four.
Rule 4: of guarded Jobs, only what the policy lets the monitor see gets as far as the board (`sight`).
Not here: what a client is sent, and when (`client`), how state becomes frames (`board`, `rows`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

import trio
from attrs import define, field, frozen

from ..runtime import Runtime
from ..store.contract import (
    Answer,
    Cancel,
    CancelAnswer,
    ClaimedRuns,
    Command,
    Insert,
    Inserted,
    Noted,
    NoteRunning,
    Pruned,
    Reader,
    Rescued,
    Settle,
    Settled,
)
from ..store.records import Count, Run, RunFilter, Status
from .board import MAX_CHANGED, Board, Frame, Recent
from .rows import Row, has_error, queue_rows, row_of, run_row, stats_row, tree_row
from .sight import Sight, guarded_elsewhere

Found: TypeAlias = tuple[Sequence[Count], Sequence[tuple[Run, Row]]]
"""The store's counters, and runs with the rows that they make."""

_log = logging.getLogger("callsheet.monitor")

TICK_S: Final = 0.1
"""Between two looks: more often than this nobody can read."""
SHARE: Final = 9.0
"""A look that took long is followed by this many times as much rest."""
LOOK_S: Final = 1.0
"""Between two looks while no commit is noted: mailboxes and restarts of actors change without one."""
BEAT_S: Final = 5.0
"""Between two signs of life while nothing changes."""
RETRY_S: Final = 1.0
"""After a look that failed."""
NEWEST: Final = 120
"""Runs of a snapshot: the newest, and beside them the newest of these states, so that the page is not all queued runs."""
ALSO: Final = {Status.RUNNING: 60, Status.RETRYING: 40, Status.DEAD_LETTERED: 40}


class Watcher(Protocol):
    """A client, as the feed knows it."""

    hungry: bool
    """Whether it would take a frame now."""

    def stir(self) -> None:
        """There is news. Synchronous; must not raise."""


@define(eq=False)
class Feed:
    """One per monitor. Registered with the journal as a listener."""

    runtime: Runtime
    board: Board = field(factory=Board)
    watchers: set[Watcher] = field(factory=set)
    looks: int = 0
    _changed: dict[str, None] = field(factory=dict)
    """Ids of runs that changed since the last look."""
    _lost: bool = False
    """More changed than we note; the next look reads a whole snapshot."""
    _recent: Recent | None = None
    _counts: Sequence[Count] | None = None
    _news_s: float = 0.0
    """When there was news last."""
    _called: trio.Event = field(factory=trio.Event)
    """Set when somebody is hungry or something changed."""
    _reading: trio.Lock = field(factory=trio.Lock)

    def __call__(self, commands: Sequence[Command], answers: Sequence[Answer]) -> None:
        """Called by the journal after each commit."""
        if not self.watchers or self._lost:
            return
        for command, answer in zip(commands, answers, strict=True):
            if type(answer) is Pruned and answer.n:  # which runs are gone is not said
                self._lost = True
                break
            for run_id in changed_by(command, answer):
                self._changed[run_id] = None
                if len(self._changed) > MAX_CHANGED:
                    self._changed.clear()
                    self._lost = True
                    break
            if self._lost:
                break
        if self._changed or self._lost:
            self._called.set()

    @contextmanager
    def watching(self, watcher: Watcher) -> Iterator[None]:
        """While this runs, changes are noted, and `watcher` is told."""
        self.watchers.add(watcher)
        try:
            yield
        finally:
            self.watchers.discard(watcher)
            self._keep_nothing_for_nobody()

    def _keep_nothing_for_nobody(self) -> None:
        """Changes are noted only while somebody watches, so what is known when nobody does is soon not true any more."""
        if not self.watchers:
            self._changed.clear()
            self._lost, self._recent, self._counts = False, None, None
            self.board.forget_runs()

    def ask(self) -> None:
        """A watcher has become hungry."""
        self._called.set()

    async def snapshot(self) -> Frame:
        """Everything as of now, give or take the changes that follow as deltas. Raises StoreError."""
        async with self._reading:
            if self._recent is None or self._recent.rev < self.board.floor:
                before = self.board.rev
                seen = await self._read(read_recent)
                self._parts(seen)
                self._recent = self.board.recent(seen.rows)
                self._tell(before)
            frame = self.board.snapshot(self._recent, self.now_us)
            self._keep_nothing_for_nobody()  # the last one may have left while we read
            return frame

    def delta(self, since: int) -> Frame | None:
        """What is newer than `since`; None when that is more than is known."""
        return None if since < self.board.floor else self.board.delta(since, self.now_us)

    @property
    def now_us(self) -> int:
        """What ages are counted from."""
        return self.runtime.seams.clock.steady_us()

    # -- looking

    async def run(self) -> None:
        """Look, as long as somebody wants to know."""
        clock, failed = self.runtime.seams.clock, False
        waits = self.runtime.system.stage.waits
        while True:
            while not any(each.hungry for each in self.watchers):
                await self._wait_called()
            if not (self._changed or self._lost):
                with waits.move_on_after(LOOK_S, owner="monitor"):
                    await self._wait_called()
            began_s = clock.mono_s()
            try:
                async with self._reading:
                    await self._look()
            except Exception as error:  # noqa: BLE001 -- the page goes stale and says so; the monitor lives
                if not failed:
                    _log.warning("the monitor cannot look: %s", error, exc_info=error)
                failed, self._lost = True, True
                await waits.sleep(RETRY_S, owner="monitor")
                continue
            failed = False
            await waits.sleep(max(TICK_S, SHARE * (clock.mono_s() - began_s)), owner="monitor")

    async def _wait_called(self) -> None:
        await self._called.wait()
        self._called = trio.Event()

    async def _look(self) -> None:
        self.looks += 1
        before = self.board.rev
        if self._lost:
            self._lost = False
            seen = await self._read(read_recent)
            self.board.forget_runs()
            self._parts(seen)
            self._recent = self.board.recent(seen.rows)
        else:
            ids, self._changed = tuple(self._changed), {}
            seen = await self._read(lambda reader: read_changed(reader, ids))
            self.board.put_runs(seen.rows)
            if not (ids or self._changed or self._lost) and seen.counts != (self._counts or seen.counts):
                self._lost = True  # another process wrote, and did not say what
                self._called.set()
            self._parts(seen)
        self._tell(before)
        self._keep_nothing_for_nobody()  # the last one may have left while we read

    async def _read(self, what: Callable[[Reader], Found]) -> _Seen:
        ours = self.runtime.jobs

        def look(reader: Reader) -> tuple[Found, frozenset[str]]:
            found = what(reader)
            return found, guarded_elsewhere(reader, (each.lane.jobs for each in found[0]), ours)

        (counts, runs), elsewhere = await self.runtime.read(look)
        sight = Sight(ours, elsewhere)
        return _Seen(counts, sight.rows(runs), sight)

    def _parts(self, seen: _Seen) -> None:
        runtime, sight, self._counts = self.runtime, seen.sight, seen.counts
        counts = sight.counts(seen.counts)
        self.board.put_part("stats", stats_row(counts))
        self.board.put_part("queues", queue_rows(sight.slots(runtime.slots), counts))
        self.board.put_part("tree", tree_row(sight.tree(runtime.tree())))

    def _tell(self, before: int) -> None:
        now_s = self.runtime.seams.clock.mono_s()
        if self.board.rev == before and now_s - self._news_s >= BEAT_S:
            self.board.beat()
        if self.board.rev != before:
            self._news_s = now_s
            for each in self.watchers:
                each.stir()


@frozen
class _Seen:
    """What came of one reading."""

    counts: Sequence[Count]
    """All of the store's, also those that may not be seen."""
    rows: list[Row]
    sight: Sight


def changed_by(command: Command, answer: Answer) -> Iterator[str]:
    """The runs that a commit changed, as far as a watcher can see."""
    match answer:
        case Inserted(existing) if isinstance(command, Insert):
            yield from (run.id for run, was in zip(command.runs, existing, strict=True) if was is None)
        case ClaimedRuns(runs):
            yield from (run.run_id for run in runs)
        case Settled(statuses) if isinstance(command, Settle):
            pairs = zip(command.settlements, statuses, strict=True)
            yield from (each.run_id for each, status in pairs if status is not None)
        case CancelAnswer(run_id, canceled=True) if isinstance(command, Cancel):
            yield run_id
        case Noted(held=True) if isinstance(command, NoteRunning):
            yield command.run_id
        case Rescued(runs):
            yield from (run.run_id for run in runs)
        case _:
            pass


def read_recent(reader: Reader) -> Found:
    """The counters and the rows of a snapshot, newest first."""
    snapshot = reader.snapshot(limit=NEWEST)
    stored = {count.status for count in snapshot.counts}
    runs = {run.id: run for run in snapshot.runs}
    for status, limit in ALSO.items():
        if status in stored:
            runs.update((run.id, run) for run in reader.list(RunFilter(status=status), limit=limit))
    rows = []
    for run in sorted(runs.values(), key=lambda run: run.id, reverse=True):
        history = reader.get(run.id) if has_error(run) else None
        rows.append((run, run_row(run, None) if history is None else row_of(history)))
    return snapshot.counts, rows


def read_changed(reader: Reader, ids: Sequence[str]) -> Found:
    """The counters and the rows of these runs."""
    histories = (reader.get(run_id) for run_id in ids)
    return reader.counts(), [(history.run, row_of(history)) for history in histories if history is not None]
