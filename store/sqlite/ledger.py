"""
The writing connection, with the few things a writer keeps in mind: lanes, boots, counters, overrides, where rows wait.

Rule: what is kept is never trusted longer than nobody else wrote (`fresh`) and nothing was rolled back
    (`forget`).
Not here: the transaction itself (`store`), the commands.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import apsw
from attrs import define, field

from ..records import Lane, QueueOverride
from .codes import OVERRIDE_COLUMNS, RUNNING, override_of
from .connection import rows, value
from .timely import HOUR_US, TELL_BEFORE, TOLD_BEFORE

_NEW_LANE: Final = "insert into lanes(jobs, queue, task, schema) values (?, ?, ?, ?) returning id"
_NEW_BOOT: Final = "insert into boots(boot_id) values (?) returning id"
_OVERRIDES: Final = f"select {OVERRIDE_COLUMNS} from queues"  # noqa: S608 - a constant of ours
_FLUSH: Final = """
    insert into counters(lane, status, n) values (?1, ?2, ?3) on conflict do update set n = n + excluded.n
    """


@define(eq=False)
class Ledger:
    """One connection in one transaction at a time."""

    db: apsw.Connection
    lanes: dict[Lane, int] = field(factory=dict)
    lane_of: dict[int, Lane] = field(factory=dict)
    boots: dict[str, int] = field(factory=dict)
    boot_of: dict[int, str] = field(factory=dict)
    ranges: dict[int, set[tuple[int, int]]] = field(factory=dict)
    """The (priority, clock) pairs with which rows of a lane may wait, for the lanes that were looked at; never too few."""
    overrides: dict[str, QueueOverride] = field(factory=dict)
    """By queue."""
    _running: Counter[str] = field(factory=Counter)
    """Running rows by queue: sums over `_counts`."""
    _scopes: dict[str, int] = field(factory=dict)
    _counts: dict[tuple[int, int], int] = field(factory=dict)
    _moved: Counter[tuple[int, int]] = field(factory=Counter)
    told_before_us: int = 0
    """No timely id is of a later time than this."""
    _version: int = -1
    _others_wrote: bool = False

    def fresh(self) -> None:
        """Begin a transaction's thinking: read again what somebody else may have changed."""
        version = self._data_version()
        if version != self._version:
            self._others_wrote = self._others_wrote or self._version >= 0
            self._version = version
            self._load()

    def forget(self) -> None:
        """Nothing kept is sure any more: the transaction was rolled back."""
        self._moved.clear()
        self._load()

    def may_have_missed(self) -> None:
        """Others may have written while there was no connection."""
        self._others_wrote = True

    def others_wrote(self) -> bool:
        """Whether another connection wrote since this was last asked."""
        self.fresh()
        wrote, self._others_wrote = self._others_wrote, False
        return wrote

    def lane(self, lane: Lane) -> int:
        """The number of a lane; it gets one when it is new."""
        number = self.lanes.get(lane)
        if number is None:
            parts = (lane.jobs, lane.queue, lane.task, lane.schema)
            number = self.lanes[lane] = int(value(self.db, _NEW_LANE, parts))
            self.lane_of[number] = lane
        return number

    def scope(self, jobs: str) -> int:
        """The number that stands for a Jobs instance in the index of keys: that of its first lane."""
        scope = self._scopes.get(jobs)
        if scope is None:
            scope = self._scopes[jobs] = min(number for lane, number in self.lanes.items() if lane.jobs == jobs)
        return scope

    def boot(self, boot_id: str) -> int:
        """The number of a boot id; it gets one when it is new."""
        number = self.boots.get(boot_id)
        if number is None:
            number = self.boots[boot_id] = int(value(self.db, _NEW_BOOT, (boot_id,)))
            self.boot_of[number] = boot_id
        return number

    def moved(self, lane: int, was: int | None, now: int | None, n: int) -> None:
        """`n` runs of a lane changed their status."""
        for status, change in ((was, -n), (now, n)):
            if status is not None:
                self._moved[lane, status] += change
                self._counts[lane, status] = self._counts.get((lane, status), 0) + change
                if status == RUNNING:
                    self._running[self.lane_of[lane].queue] += change

    def waits(self, lane: int, priority: int, clock: int) -> None:
        """Rows of a lane may wait from now on with this priority, on this clock."""
        ranges = self.ranges.get(lane)
        if ranges is not None:
            ranges.add((priority, clock))

    def waiting(self, lane: int) -> int:
        """How many runs of a lane wait."""
        counts = self._counts
        return counts.get((lane, 0), 0) + counts.get((lane, 1), 0) + counts.get((lane, 3), 0)

    def having(self, jobs: str, status: int) -> list[int]:
        """The lanes of a Jobs instance that have runs with this status."""
        return [n for lane, n in self.lanes.items() if lane.jobs == jobs and self._counts.get((n, status))]

    def running(self, queue: str) -> int:
        """How many runs of a queue run, whoever runs them."""
        return self._running[queue]

    def tell(self, created_us: int) -> int:
        """There is a timely id of that time, and may be later ones. Returns before when."""
        self.told_before_us = created_us + HOUR_US
        self.db.execute(TELL_BEFORE, (self.told_before_us,))
        return self.told_before_us

    def flush(self) -> None:
        """Write down how the counters changed; the last thing before a commit."""
        if self._moved:
            self.db.executemany(_FLUSH, [(lane, status, n) for (lane, status), n in self._moved.items() if n])
            self._moved.clear()

    def _data_version(self) -> int:
        return int(value(self.db, "pragma data_version"))

    def _load(self) -> None:
        found = rows(self.db, "select id, jobs, queue, task, schema from lanes")
        self.lane_of = {number: Lane(*lane) for number, *lane in found}
        self.lanes = {lane: number for number, lane in self.lane_of.items()}
        self.boot_of = dict(rows(self.db, "select id, boot_id from boots"))
        self.boots = {boot_id: number for number, boot_id in self.boot_of.items()}
        counters = rows(self.db, "select lane, status, n from counters")
        self._counts = {(lane, status): n for lane, status, n in counters}
        self._running = Counter()
        for lane, status, n in counters:
            if status == RUNNING:
                self._running[self.lane_of[lane].queue] += n
        self.overrides = {row[0]: override_of(row) for row in rows(self.db, _OVERRIDES)}
        self._scopes = {}
        self.told_before_us = value(self.db, TOLD_BEFORE) or 0
        self.ranges = {}


_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def listed(values: Iterable[Any]) -> str:
    """Numbers, ids, or lists of such as one bound parameter, for `json_each(?)`."""
    return _to_json(list(values))
