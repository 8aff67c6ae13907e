"""
How SQLite goes about what the store asks it: through an index, and in its order.

What writes is judged in `test_contract`, over everything that the suite does; here is what lists may be asked for.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from callsheet.store.contract import (
    Cancel,
    Claim,
    ClaimedRuns,
    Insert,
    Prune,
    Pruned,
    Register,
    ScheduleSet,
    SetSchedule,
    Settle,
    Settlement,
    Store,
)
from callsheet.store.memory import MemoryStore
from callsheet.store.records import (
    FINAL,
    Clock,
    Did,
    Error,
    Fired,
    Lane,
    Move,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    RunFilter,
    Schedule,
    Status,
    Verdict,
)
from callsheet.store.sqlite import SqliteStore, listing
from callsheet.store.sqlite.schema import CREATE
from callsheet.store.sqlite.timely import stamp

from .plans import faults, overheard

HOUR_US = 3_600_000_000
NOW = Now(400_000 * HOUR_US, 400_000 * HOUR_US)
OWNER = Owner("boot-a", 1, "h", 1)
MAIL = Lane("app/main", "app/main-jobs", "mail", "1")
HOOK = Lane("app/main", "app/main-jobs", "hook", "1")
OTHER = Lane("app/other", "app/other-jobs", "mail", "1")
LANES = (MAIL, HOOK, OTHER)
SUCCEED = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)
HAND_BACK = Verdict(Move.HAND_BACK, OutcomeKind.CRASHED)
FAILED = Verdict(Move.EXHAUST, OutcomeKind.FAILED, error=Error("ValueError", "no"))

FILTERS: dict[str, tuple[Any, ...]] = {
    "jobs": ("app/main",),
    "task": ("mail",),
    "also_tasks": (("hook",),),
    "queue": ("app/main-jobs",),
    "status": tuple(Status),
    "idempotency_key": ("key-3",),
    "trace_id": ("trace-1",),
    "replay_of": ("run-1",),
    "schedule_key": ("key-1",),
    "created_from_us": (NOW.steady_us - 3 * HOUR_US,),
    "created_before_us": (NOW.steady_us - HOUR_US,),
}
SINGLE = [{name: value} for name, values in FILTERS.items() for value in values]
PAIRS = [one | other for one, other in itertools.combinations(SINGLE, 2) if one.keys() != other.keys()]


BEFORE = (None, "run-2", f"{stamp(NOW.steady_us - HOUR_US)}-9")
"""Where a page begins."""


def new(n: int, lane: Lane, all_told: bool) -> NewRun:
    """A run whose id tells when it was created, or tells a wrong time, or none."""
    created_us = NOW.steady_us - n * HOUR_US // 12
    if not all_told:
        begins = (stamp(created_us - HOUR_US), stamp(created_us), "run", stamp(created_us))[n % 4]
    else:
        begins = stamp(created_us)
    waits: dict[str, Any] = {"priority": 0 if 30 <= n < 34 else 3 + n % 3, "due_us": created_us}
    if n % 7 == 0:
        waits["due_us"] = NOW.steady_us  # as one that waited for a time, and was handed back
    if n > 40:
        clock = (Clock.STEADY, Clock.WALL)[n // 2 % 2]
        waits = {"status": Status.SCHEDULED, "due_us": NOW.steady_us + n, "clock": clock}
    elif n > 36:
        waits = {"clock": Clock.STEADY, "due_us": NOW.steady_us + n}
    key = {"idempotency_key": f"key-{n}", "payload_hash": b"h"}
    marks = {"trace_id": f"trace-{n % 2}", "replay_of": f"run-{n % 2}", "schedule_key": f"key-{n % 2}"}
    return NewRun(f"{begins}-{n}", lane, b"{}", created_us, **marks, **key, **waits)


def fill(store: Store, all_told: bool) -> None:
    """Runs of every status, on every clock, four suspects among them."""
    store.write([Register(OWNER)], NOW)
    store.write([Insert(tuple([new(n, LANES[n % 3], all_told) for n in range(60)]))], NOW)
    store.write([Cancel(new(n, MAIL, all_told).id) for n in range(3)], NOW)
    retry = Verdict(Move.RETRY, OutcomeKind.FAILED, NOW.steady_us + 1, Clock.STEADY)
    for verdict in (*[HAND_BACK] * 3, retry, FAILED, SUCCEED, None):
        (claimed,) = store.write([Claim("boot-a", b"c", LANES, 4, 1, suspects=0)], NOW)
        assert isinstance(claimed, ClaimedRuns)
        if verdict is not None:
            ends = [Settlement(run.run_id, run.attempt, b"c", run.fence, verdict) for run in claimed.runs]
            store.write([Settle(tuple(ends))], NOW)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Everything that is said to SQLite."""
    with overheard(monkeypatch) as said:
        yield said


@pytest.fixture(params=[True, False], ids=["our-ids", "any-ids"])
def all_told(request: pytest.FixtureRequest) -> bool:
    """Whether every id tells when its run was created."""
    return bool(request.param)


@pytest.fixture
def store(said: dict[str, Any], tmp_path: Path, all_told: bool) -> Iterator[SqliteStore]:
    """The store that it is said to."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(OWNER)
    fill(store, all_told)
    yield store
    store.close()


@pytest.fixture(params=["few", "many"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists as they are read in a small store, and by the other ways that are taken in a large one."""
    if request.param == "many":
        monkeypatch.setattr(listing, "SHORT_WINDOW", 2)
        monkeypatch.setattr(listing, "PROBE", 0)


def test_every_filter_is_tried() -> None:
    """A new one must be added here."""
    assert set(FILTERS) == {each.name for each in RunFilter.__attrs_attrs__}


@pytest.mark.usefixtures("ways")
def test_lists_go_through_an_index_in_its_order(store: SqliteStore, said: dict[str, Any]) -> None:
    """By no filter, by each, by each two, from the first page and from later ones."""
    reader = store.reader()
    said.clear()

    for fields in [{}, *SINGLE, *PAIRS]:
        for before in BEFORE:
            reader.list(RunFilter(**fields), limit=5, before=before)

    reader.close()
    assert len(said) > 50
    assert faults(said) == []


@pytest.mark.usefixtures("ways")
def test_lists_are_the_same_by_whatever_index(store: SqliteStore, all_told: bool) -> None:
    """They have what the memory store finds by looking at every run."""
    memory = MemoryStore()
    memory.open(OWNER)
    fill(memory, all_told)
    reader, looking = store.reader(), memory.reader()
    asked = [RunFilter(**fields) for fields in [{}, *SINGLE, *PAIRS]]
    lengths = Counter[int]()

    for where, before, limit in itertools.product(asked, BEFORE, (1, 5, 100)):
        found = reader.list(where, limit=limit, before=before)

        assert found == looking.list(where, limit=limit, before=before), (where, before)
        lengths[len(found)] += 1

    assert len(lengths) > 5, "too many of the questions have no answer"
    reader.close()
    memory.close()


def test_what_else_is_read_goes_through_an_index(store: SqliteStore, said: dict[str, Any]) -> None:
    """A run, the counters, a snapshot, the near future."""
    reader = store.reader()
    said.clear()

    reader.get("run-0")
    reader.snapshot(limit=100)
    reader.published()
    reader.schedules()
    reader.schedules("app/main")
    reader.schedule("app/main", "k")
    reader.fires("app/main", "key-1", 9)
    for clock in Clock:
        reader.upcoming(clock, 0, 2 * NOW.steady_us, 3)

    reader.close()
    assert len(said) > 5
    assert faults(said) == []


def test_a_prune_goes_through_an_index(store: SqliteStore, said: dict[str, Any]) -> None:
    """Whichever runs there are, and with all that goes with them."""
    said.clear()

    pruned = store.write([Prune("app/main", status, 2 * NOW.steady_us, 100) for status in sorted(FINAL)], NOW)

    assert min(each.n for each in pruned if isinstance(each, Pruned)) > 0
    assert sum("from runs indexed by ended" in each for each in said) == 2
    assert faults(said) == []


def test_a_schedule_goes_through_an_index(store: SqliteStore, said: dict[str, Any]) -> None:
    """When it is changed, and when it is asked whether one of its runs has not ended, of however many."""
    schedule = Schedule("app/main", "key-1", b"{}", 1, 1)
    said.clear()

    made, changed, gone = store.write(
        [
            SetSchedule(None, schedule, fired=tuple([Fired(n, 1, Did.MISSED) for n in range(150)])),
            SetSchedule(1, schedule, (), (Fired(999, 1, Did.MISSED),), if_active=SetSchedule(1, schedule)),
            SetSchedule(1, schedule, delete=True),
        ],
        NOW,
    )

    assert isinstance(changed, ScheduleSet)
    assert (changed.active, gone) == (True, ScheduleSet(True, None))
    assert isinstance(made, ScheduleSet)
    assert sum("from runs indexed by scheduled_active" in each for each in said) == 1
    assert sum("delete from fires" in each for each in said) == 2
    assert faults(said) == []


@pytest.mark.parametrize(
    "index", ["run_by_id", "ended_untimely", "by_lane", "running", "by_trace", "by_origin", "by_schedule"]
)
def test_a_missing_index_is_noticed(store: SqliteStore, said: dict[str, Any], index: str) -> None:
    """What these tests look at tells whether there is one."""
    without = "\n".join(line for line in CREATE.splitlines() if f"index {index} on" not in line)
    reader = store.reader()
    for fields in SINGLE:
        reader.list(RunFilter(**fields), limit=5)
    reader.get("run-0")
    reader.close()
    store.write([Prune("app/main", Status.SUCCEEDED, NOW.steady_us, 100)], NOW)
    free = {re.sub(rf" indexed by {index}\b", "", statement): bound for statement, bound in said.items()}

    assert faults(free) == []
    assert faults(free, without) != []
