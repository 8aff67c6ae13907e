"""Retention in a file: what is left of a pruned run, and what a page costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from callsheet.store.contract import Claim, ClaimedRuns, Insert, NoteRunning, Prune, Pruned, Settle, Settlement
from callsheet.store.records import Clock, Lane, Move, NewRun, Now, OutcomeKind, Owner, Status, Verdict
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite.timely import stamp

MINUTE_US = 60_000_000
MAIL = Lane("app/main", "app/main-jobs", "mail", "1")
HOOK = Lane("app/main", "app/main-jobs", "hook", "1")
SUCCEED = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result=b"[1]")
AGAIN = Verdict(Move.RETRY, OutcomeKind.FAILED, 0, Clock.STEADY)
EVER = 1 << 60


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(Owner("boot-a", 1, "h", 1))
    yield store
    store.close()


def bury(store: SqliteStore, *runs: NewRun, at_us: int = 9, attempts: int = 1, verdict: Verdict = SUCCEED) -> None:
    """Runs that end at a time."""
    now = Now(at_us, at_us)
    store.write([Insert(runs)], now)
    for n in range(attempts):
        (claimed,) = store.write([Claim("boot-a", b"c", (MAIL, HOOK), len(runs), 1)], now)
        assert isinstance(claimed, ClaimedRuns)
        assert len(claimed.runs) == len(runs)
        last = verdict if n == attempts - 1 else AGAIN
        ends = [Settlement(run.run_id, run.attempt, b"c", run.fence, last) for run in claimed.runs]
        store.write([Settle(tuple(ends))], now)


def ours(n: int, lane: Lane = MAIL, payload: bytes = b"{}") -> NewRun:
    """Created in minute n, with an id that says so."""
    at_us = n * MINUTE_US
    return NewRun(f"{stamp(at_us)}-{n}", lane, payload, at_us, due_us=at_us)


def any_id(n: int, lane: Lane = MAIL) -> NewRun:
    return NewRun(f"run-{n:06}", lane, b"{}", n * MINUTE_US, due_us=n * MINUTE_US)


def prune(store: SqliteStore, before_us: int = EVER, limit: int = 100, after: str = "") -> Pruned:
    (pruned,) = store.write([Prune("app/main", Status.SUCCEEDED, before_us, limit, after)], Now(9, 9))
    assert isinstance(pruned, Pruned)
    return pruned


def rows(store: SqliteStore) -> dict[str, int]:
    """How many rows of each table tell of runs."""
    db = apsw.Connection(store.name, flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("runs", "payloads", "attempts", "transitions")
    found = {table: db.execute(f"select count(*) from {table}").get for table in tables}
    db.close()
    return found


def steps(store: SqliteStore, command: Prune) -> tuple[int, Any]:
    """How many steps of SQLite's machine (in tens) it takes, and the answer."""
    assert store._ledger is not None
    db, count = store._ledger.db, 0

    def tick() -> bool:
        nonlocal count
        count += 1
        return False

    db.set_progress_handler(tick, 10)
    (answer,) = store.write([command], Now(9, 9))
    db.set_progress_handler(None)
    return count, answer


def test_no_row_of_a_pruned_run_is_left(store: SqliteStore) -> None:
    """Neither its payload nor its history; those of the others are all there."""
    bury(store, ours(1), ours(2, payload=b"x" * 9000), any_id(3), attempts=3)
    bury(store, ours(10, payload=b"x" * 9000), at_us=10 * MINUTE_US, attempts=2)
    before = rows(store)

    pruned = prune(store, 10 * MINUTE_US)

    assert before == {"runs": 4, "payloads": 2, "attempts": 11, "transitions": 3 * 7 + 5}
    assert pruned == Pruned(3, None)
    assert rows(store) == {"runs": 1, "payloads": 1, "attempts": 2, "transitions": 5}


def test_the_pages_of_pruned_runs_are_used_again(store: SqliteStore) -> None:
    """A store whose runs come and go does not grow."""
    sizes = []
    for turn in range(6):
        bury(store, *[ours(100 * turn + n, payload=b"x" * 5000) for n in range(50)])
        while prune(store).next is not None:
            pass
        store.idle()
        sizes.append(apsw.Connection(store.name).execute("pragma page_count").get)

    assert sizes[5] <= sizes[1]


@pytest.mark.parametrize("limit", [10, 25])
def test_a_run_with_many_attempts_counts_for_as_many(store: SqliteStore, limit: int) -> None:
    """So that a page of them takes no longer."""
    bury(store, *[ours(n) for n in range(30)], attempts=5)

    pruned = prune(store, limit=limit)

    assert pruned.n == limit // 5
    assert pruned.next == ours(limit // 5 - 1).id


def test_a_run_with_many_bytes_counts_for_more(store: SqliteStore) -> None:
    """Those of its payload and its result; one that is too large for a page has one of its own."""
    long = Verdict(Move.SUCCEED, OutcomeKind.SUCCEEDED, result=b"x" * 70_000)
    bury(store, ours(0, payload=b"x" * 1024 * 1024))
    bury(store, *[ours(n, payload=b"x" * 64 * 1024) for n in range(1, 4)])
    bury(store, *[ours(n) for n in range(4, 6)], verdict=long)

    pages = [prune(store, limit=10)]
    while pages[-1].next is not None:
        pages.append(prune(store, limit=10, after=pages[-1].next))

    assert [page.n for page in pages] == [1, 2, 2, 1]


def test_what_is_too_new_is_not_looked_at(store: SqliteStore) -> None:
    """Where ids tell when their runs were created, a page stops there: what it costs does not grow with what stays."""
    command = Prune("app/main", Status.SUCCEEDED, 10 * MINUTE_US, 20)
    bury(store, *[ours(n, (MAIL, HOOK)[n % 2]) for n in range(10, 20)], at_us=MINUTE_US * 20)
    few = steps(store, command)
    bury(store, *[ours(n, (MAIL, HOOK)[n % 2]) for n in range(20, 5000)], at_us=MINUTE_US * 9999)

    many = steps(store, command)

    assert many[1] == few[1] == Pruned(0, None)
    assert many[0] <= few[0] + 2


def test_ids_of_any_kind_cost_no_more(store: SqliteStore) -> None:
    """A page looks at none of those that stay, however many there are and whatever their ids."""
    command = Prune("app/main", Status.SUCCEEDED, 10 * MINUTE_US, 20)
    costs = []
    for first, many in ((0, 30), (1000, 5000)):
        bury(store, *[any_id(first + n) for n in range(10, 20)])
        bury(store, *[any_id(first + n) for n in range(20, many)], at_us=MINUTE_US * 9999)
        costs.append(steps(store, command))

    assert [pruned for _, pruned in costs] == [Pruned(10, None)] * 2
    assert costs[1][0] <= 1.3 * costs[0][0]


def test_a_page_is_bounded_where_everything_stays(store: SqliteStore) -> None:
    """Runs that were created long ago and have just ended are passed over, a page at a time."""
    costs = []
    for first, many in ((0, 200), (200, 5000)):
        lanes = (MAIL, HOOK)
        bury(store, *[ours(first + n, lanes[n % 2]) for n in range(many)], at_us=EVER - 1)
        costs.append(steps(store, Prune("app/main", Status.SUCCEEDED, EVER - 2, 50)))

    assert [pruned for _, pruned in costs] == [Pruned(0, ours(49).id)] * 2
    assert costs[1][0] <= 1.2 * costs[0][0]


def test_nothing_is_read_where_nothing_has_ended(store: SqliteStore) -> None:
    """The counters say so."""
    store.write([Insert(tuple([ours(n) for n in range(2000)]))], Now(9, 9))
    (claimed,) = store.write([Claim("boot-a", b"c", (MAIL,), 1, 1)], Now(9, 9))
    assert isinstance(claimed, ClaimedRuns)
    store.write([NoteRunning(claimed.runs[0].run_id, 1, b"c", 1, b"1")], Now(9, 9))

    cost, pruned = steps(store, Prune("app/main", Status.SUCCEEDED, EVER, 50))

    assert pruned == Pruned(0, None)
    assert cost < 10


def test_the_log_can_be_copied_after_a_page(store: SqliteStore) -> None:
    """No statement of a page that was cut short is left open: it would hold the log for ever."""
    bury(store, *[ours(n, (MAIL, HOOK)[n % 2]) for n in range(200)])
    assert prune(store, limit=10).next is not None
    other = apsw.Connection(store.name)

    busy, in_log, copied = other.execute("pragma wal_checkpoint(restart)").fetchall()[0]

    assert busy == 0
    assert in_log == copied
    other.close()
