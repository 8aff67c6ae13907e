"""
What a SQLite store has to step over: counted in steps of SQLite's machine, so that no clock is asked.

Each question is put to a small store and to one with very many rows beside it that are no part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from attrs import evolve

from callsheet.store.contract import Claim, ClaimedRuns, Insert, Rescue, SetQueue, Settle, Settlement
from callsheet.store.records import (
    NO_LIMIT,
    Clock,
    Lane,
    Move,
    NewRun,
    Now,
    OutcomeKind,
    Owner,
    RunFilter,
    Status,
    Verdict,
)
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite import reader as reader_module
from callsheet.store.sqlite.reader import SqliteReader
from callsheet.store.sqlite.timely import stamp

NOW = Now(1_000_000, 1_000_000)
MAIL = Lane("app/main", "app/main-jobs", "mail", "1")
HOOK = Lane("app/main", "app/main-jobs", "hook", "1")
OLD = Lane("app/main", "app/main-jobs", "mail", "0")
MANY = 20_000
PROBED = 300
"""Steps, in tens: a list of waiting rows may look at some of the newest ones first."""
SUCCEED = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED)


def name(n: int) -> str:
    """An id that does not tell when its run was created."""
    return f"run-{n:09}"


def new(n: int, lane: Lane = MAIL, **fields: Any) -> NewRun:
    return NewRun(name(n), lane, b"{}", n, **fields)


def opened(folder: Path, name: str) -> SqliteStore:
    store = SqliteStore(folder / name)
    store.open(Owner("boot-a", 1, "h", 1))
    return store


def end(store: SqliteStore, verdict: Verdict, limit: int, lane: Lane) -> None:
    (claimed,) = store.write([Claim("boot-a", b"c", (lane,), limit, 1)], NOW)
    assert isinstance(claimed, ClaimedRuns)
    assert len(claimed.runs) == limit
    ends = (Settlement(run.run_id, run.attempt, run.claim_id, run.fence, verdict) for run in claimed.runs)
    store.write([Settle(tuple(ends))], NOW)


def fill(store: SqliteStore, many: int) -> None:
    """Rows of the future, of another schema, ended, dead-lettered: none may be claimed; then a few that may."""
    later: dict[str, Any] = {"status": Status.SCHEDULED, "due_us": 2_000_000}
    store.write([Insert(tuple(new(n) for n in range(many + 30)))], NOW)
    end(store, SUCCEED, many + 10, MAIL)
    end(store, evolve(SUCCEED, move=Move.EXHAUST, outcome=OutcomeKind.FAILED), 20, MAIL)
    far = 1_000_000
    store.write([Insert(tuple(new(far + n, clock=Clock.STEADY, **later) for n in range(many)))], NOW)
    store.write([Insert(tuple(new(2 * far + n, clock=Clock.WALL, priority=0, **later) for n in range(many)))], NOW)
    store.write([Insert(tuple(new(3 * far + n, OLD) for n in range(many)))], NOW)
    store.write([Insert(tuple(new(4 * far + n, (MAIL, HOOK)[n % 2], due_us=5) for n in range(60)))], NOW)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteStore, SqliteStore]]:
    """The same but for how many rows stand around."""
    folder = tmp_path_factory.mktemp("cost")
    few, many = opened(folder, "few.db"), opened(folder, "many.db")
    fill(few, 200)
    fill(many, MANY)
    yield few, many
    few.close()
    many.close()


def steps(db: apsw.Connection, work: Callable[[], object]) -> int:
    """How many steps (in tens) of SQLite's machine the work takes."""
    count = 0

    def tick() -> bool:
        nonlocal count
        count += 1
        return False

    db.set_progress_handler(tick, 10)
    work()
    db.set_progress_handler(None)
    return count


def written(store: SqliteStore, *commands: Any) -> int:
    assert store._ledger is not None
    return steps(store._ledger.db, lambda: store.write(commands, NOW))


def read(store: SqliteStore, ask: Callable[[SqliteReader], Any]) -> tuple[int, int]:
    """What it costs, and how long the answer is."""
    reader = store.reader()
    assert reader._db is not None
    try:
        answer = ask(reader)  # what is learned once does not count
        length = len(answer) if isinstance(answer, tuple) else 1
        return steps(reader._db, lambda: ask(reader)), length
    finally:
        reader.close()


def test_p8_a_claim_steps_over_nothing_that_it_may_not_take(stores: tuple[SqliteStore, SqliteStore]) -> None:
    """Twenty rows cost the same beside sixty thousand that are in the future, of another schema or ended."""
    few, many = (written(store, Claim("boot-a", b"c", (MAIL, HOOK), 20, 1)) for store in stores)

    assert many <= 1.3 * few


def test_indexes_are_not_asked_by_way_of_a_list_whether_a_run_waits(tmp_path: Path) -> None:
    """SQLite makes a table in memory of a list of three: for each row, and each index whose condition has one."""
    store = opened(tmp_path, "one.db")
    store.write([Insert((new(0),))], NOW)

    inserted = written(store, Insert(tuple(new(n) for n in range(1, 1001))))
    claimed = written(store, Claim("boot-a", b"c", (MAIL,), 1000, 1))

    assert inserted < 18_000  # 20,600 with such lists
    assert claimed < 25_000  # 28,400
    store.close()


def test_a_claim_that_finds_nothing_is_cheap(stores: tuple[SqliteStore, SqliteStore]) -> None:
    """Where all that waits is in the future, and where nothing waits."""
    strange = Lane("app/main", "app/main-jobs", "none", "1")
    for store in stores:
        store.write([Claim("boot-a", b"c", (MAIL, HOOK), 1000, 1)], NOW)

    assert max(written(store, Claim("boot-a", b"c", (MAIL, HOOK, strange), 20, 1)) for store in stores) < 100


def test_p8_a_limit_on_running_rows_costs_a_claim_nothing(tmp_path: Path) -> None:
    """However many rows of the queue run, in however many lanes: they are not counted, and a full or paused queue is not
    looked into."""
    costs = []
    for name, running in (("few", 10), ("many", MANY // 5)):
        store = opened(tmp_path, f"{name}.db")
        store.write([Insert(tuple(new(n, (MAIL, HOOK)[n % 2]) for n in range(running + 100)))], NOW)
        store.write([Claim("boot-a", b"c", (MAIL, HOOK), running, 1)], NOW)
        plain = Claim("boot-a", b"c", (MAIL, HOOK), 10, 1)
        limited = evolve(plain, queue=MAIL.queue, global_limit=running + 30)
        free, part, full = (written(store, each) for each in (plain, evolve(limited, limit=30), limited))
        store.write([SetQueue(MAIL.queue, global_limit=NO_LIMIT)], NOW)
        unlimited = written(store, limited)
        store.write([SetQueue(MAIL.queue, paused=True)], NOW)
        paused, nothing = written(store, limited), written(store)
        assert written(store, plain) <= 1.2 * free
        assert unlimited <= 1.2 * free
        assert max(paused, full) <= nothing + 1
        costs.append(part)
        store.close()

    assert costs[1] <= 1.2 * costs[0]


def test_a_rescue_goes_through_running_rows_only(stores: tuple[SqliteStore, SqliteStore]) -> None:
    """Not through what waits or has ended."""
    few, many = (written(store, Rescue("boot-a", "others", 100)) for store in stores)

    assert many <= 1.3 * few + 20


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.snapshot(limit=100),
        lambda reader: reader.list(RunFilter(), limit=50),
        lambda reader: reader.list(RunFilter(task="mail"), limit=50),
        lambda reader: reader.list(RunFilter(jobs="app/main", queue="app/main-jobs"), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.DEAD_LETTERED), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.DEAD_LETTERED, task="mail"), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.SUCCEEDED), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.RUNNING), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.CANCELED), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.QUEUED, task="mail"), limit=50),
        lambda reader: reader.list(RunFilter(status=Status.SCHEDULED), limit=50),
        lambda reader: reader.list(RunFilter(idempotency_key="none"), limit=50),
        lambda reader: reader.list(RunFilter(trace_id="none"), limit=50),
        lambda reader: reader.list(RunFilter(replay_of="none"), limit=50),
        lambda reader: reader.list(RunFilter(), limit=50, before=name(150)),
        lambda reader: reader.list(RunFilter(created_from_us=4_000_030), limit=50),
        lambda reader: reader.list(RunFilter(created_from_us=50, created_before_us=90, task="mail"), limit=50),
        lambda reader: reader.list(RunFilter(created_from_us=50), limit=50),
        lambda reader: reader.list(RunFilter(created_before_us=60, status=Status.SUCCEEDED), limit=50),
        lambda reader: reader.upcoming(Clock.STEADY, 0, 3_000_000, 100),
        lambda reader: reader.upcoming(Clock.WALL, 2_000_000, 3_000_000, 100),
        lambda reader: reader.queues(),
        lambda reader: reader.get(name(3)),
    ],
)
def test_reads_do_not_grow_with_the_store(
    stores: tuple[SqliteStore, SqliteStore], ask: Callable[[SqliteReader], object]
) -> None:
    """Lists, snapshots and pages of the future cost what they give."""
    (few, length), (many, same_length) = (read(store, ask) for store in stores)

    assert same_length == length
    assert many <= 1.3 * few + PROBED


def told(n: int, **fields: Any) -> NewRun:
    """A run of a millisecond of its own, whose id tells it."""
    at_us = n * 1000
    return NewRun(f"{stamp(at_us)}-{n}", (MAIL, HOOK)[n % 2], b"{}", at_us, **{"due_us": at_us, **fields})


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteStore, SqliteStore]]:
    """240 runs of many statuses, enqueued in between others that ended: between few, and between many."""
    folder = tmp_path_factory.mktemp("between")
    stores = opened(folder, "few.db"), opened(folder, "many.db")
    later: dict[str, Any] = {"status": Status.SCHEDULED, "due_us": 1 << 60, "clock": Clock.STEADY}
    for store, many in zip(stores, (200, MANY), strict=True):
        for first in (FROM - many, FROM + 240):
            store.write([Insert(tuple([told(first + n, priority=0) for n in range(many)]))], NOW)
            end(store, SUCCEED, many // 2, MAIL)
            end(store, SUCCEED, many // 2, HOOK)
        store.write([Insert(tuple([told(FROM + n, priority=0) for n in range(120)]))], NOW)
        end(store, evolve(SUCCEED, move=Move.EXHAUST, outcome=OutcomeKind.FAILED), 60, MAIL)
        end(store, SUCCEED, 60, HOOK)
        store.write([Insert(tuple([told(FROM + n, **later) for n in range(120, 180)]))], NOW)
        store.write([Insert(tuple([told(FROM + n) for n in range(180, 240)]))], NOW)
    yield stores
    for store in stores:
        store.close()


FROM = 100_000
WINDOW: dict[str, Any] = {"created_from_us": FROM * 1000, "created_before_us": (FROM + 240) * 1000}


@pytest.mark.parametrize(
    "where",
    [
        RunFilter(**WINDOW),
        RunFilter(**WINDOW, task="mail"),
        RunFilter(**WINDOW, queue="app/main-jobs"),
        *(RunFilter(**WINDOW, status=status) for status in Status),
        *(RunFilter(**WINDOW, status=status, task="hook") for status in Status),
        RunFilter(created_from_us=FROM * 1000),
        RunFilter(created_before_us=(FROM + 240) * 1000),
        RunFilter(created_before_us=(FROM + 240) * 1000, status=Status.DEAD_LETTERED),
        *(RunFilter(status=status) for status in Status),
        *(RunFilter(status=status, task="hook") for status in Status),
    ],
)
def test_lists_find_what_stands_between_very_many(between: tuple[SqliteStore, SqliteStore], where: RunFilter) -> None:
    """Neither what is newer nor what is older is stepped over, by a window of time, a status, or both."""
    (few, length), (many, same_length) = (read(store, lambda reader: reader.list(where, limit=20)) for store in between)

    assert same_length == length
    assert many <= 1.3 * few + PROBED


def test_queued_runs_below_others_are_found_by_when_they_are_due(tmp_path: Path) -> None:
    """A list of very many queued runs, all older than others that ended, costs a page of them."""
    costs = []
    for many in (300, MANY):
        store = opened(tmp_path, f"{many}.db")
        store.write([Insert(tuple([told(FROM + n) for n in range(many)]))], NOW)
        store.write([Insert(tuple([told(2 * FROM + n, priority=0) for n in range(600)]))], NOW)
        end(store, SUCCEED, 300, MAIL)
        end(store, SUCCEED, 300, HOOK)

        cost, length = read(store, lambda reader: reader.list(RunFilter(status=Status.QUEUED), limit=50))

        assert length == 50
        costs.append(cost)
        store.close()
    assert costs[1] <= 1.3 * costs[0]


def test_waiting_rows_below_many_that_ended_are_found_among_those_that_wait(tmp_path: Path) -> None:
    """A list of runs that wait, all of them older than very many that ended, looks at a page of those at most."""
    store = opened(tmp_path, "jobs.db")
    store.write([Insert(tuple(new(n, priority=9) for n in range(30)))], NOW)
    for _ in range(3):  # five of them become suspects
        end(store, Verdict(Move.RESCUE, OutcomeKind.CRASHED, -1, Clock.STEADY), 5, MAIL)
    store.write([Insert(tuple(new(1000 + n, priority=1) for n in range(MANY)))], NOW)
    end(store, SUCCEED, MANY, MAIL)
    newest = tuple(new(100_000 + n, priority=9) for n in range(1500))
    store.write([Insert(newest)], NOW)
    queued, retrying = RunFilter(status=Status.QUEUED), RunFilter(status=Status.RETRYING)
    reader = store.reader()

    older = reader.list(queued, limit=3, before=newest[0].id)
    again = reader.list(retrying, limit=9)

    assert [run.id for run in older] == [name(n) for n in (29, 28, 27)]
    assert [run.id for run in again] == [name(n) for n in (4, 3, 2, 1, 0)]
    for where, before in ((queued, newest[0].id), (retrying, None)):
        cost, _ = read(store, lambda reader: reader.list(where, limit=3, before=before))  # noqa: B023
        assert cost < MANY / 3
    reader.close()
    store.close()


def test_a_snapshot_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write in the middle of it is not seen in half of it."""
    store = opened(tmp_path, "jobs.db")
    store.write([Insert((new(1),))], NOW)
    reader = store.reader()
    count = reader_module._counts

    def count_then_write(db: apsw.Connection) -> object:
        counts = count(db)
        store.write([Insert((new(2, HOOK),))], NOW)
        return counts

    monkeypatch.setattr(reader_module, "_counts", count_then_write)

    snapshot = reader.snapshot(limit=10)

    assert [each.n for each in snapshot.counts] == [1]
    assert [run.id for run in snapshot.runs] == [name(1)]
    monkeypatch.undo()
    assert len(reader.snapshot(limit=10).runs) == 2
    reader.close()
    store.close()
