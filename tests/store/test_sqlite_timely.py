"""Ids that tell when their run was created."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from callsheet.actors.seams import RandomIds
from callsheet.store.contract import Insert
from callsheet.store.errors import MalformedCommand
from callsheet.store.records import Lane, NewRun, Now, Owner, RunFilter, Status
from callsheet.store.sqlite import SqliteStore, listing
from callsheet.store.sqlite.timely import id_range, stamp

LANE = Lane("app/main", "app/main-jobs", "mail", "1")
NOW = Now(1_700_000_000_000_000, 1_700_000_000_000_000)
AROUND = 2_000_000
"""Microseconds on either side of a time in which windows begin and end."""


@given(st.integers(0, (1 << 48) * 1000 - 1))
def test_our_own_ids_tell_their_time(at_us: int) -> None:
    """Made at a time, they begin with it."""
    begins = stamp(at_us)

    assert begins is not None
    assert RandomIds().run_id(at_us).startswith(begins)


@given(st.integers(0, 1 << 51), st.integers(0, AROUND), st.integers(1, AROUND), st.text(max_size=3))
def test_ids_of_a_window_are_a_range(created_us: int, since_us: int, left_us: int, rest: str) -> None:
    """Whatever follows the time in an id, and to the microsecond."""
    begins = stamp(created_us)
    assert begins is not None
    first, end = id_range(created_us - since_us, created_us + left_us)

    assert first is None or first <= begins + rest
    assert end is None or begins + rest < end


@pytest.mark.parametrize(("created_us", "begins"), [(-1, None), ((1 << 50) * 1000, None), (0, "0000000000")])
def test_times_that_no_id_tells(created_us: int, begins: str | None) -> None:
    """Before 1970, and in 35,000 years."""
    assert stamp(created_us) == begins


def test_the_future_of_a_window_does_not_end(tmp_path: Path) -> None:
    """Runs of later hours are found too, though no window is open beyond the last one that was told."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(Owner("boot-a", 1, "h", 1))
    hours = [NOW.steady_us + n * 3_600_000_000 for n in range(5)]
    runs = [NewRun(f"{stamp(at_us)}-run", LANE, b"{}", at_us, due_us=at_us) for at_us in hours]
    for run in runs:
        store.write([Insert((run,))], NOW)
    reader = store.reader()

    found = reader.list(RunFilter(created_from_us=hours[1]), limit=9)

    assert [run.created_us for run in found] == hours[:0:-1]
    reader.close()
    store.close()


def test_a_time_that_was_told_and_rolled_back(tmp_path: Path) -> None:
    """It is told again with the next run of that hour."""
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(Owner("boot-a", 1, "h", 1))
    run = NewRun(f"{stamp(NOW.steady_us)}-run", LANE, b"{}", NOW.steady_us, due_us=NOW.steady_us)
    with pytest.raises(MalformedCommand):
        store.write([Insert((run,)), Insert((NewRun("bad", LANE, "text", 1),))], NOW)  # type: ignore[arg-type]

    store.write([Insert((run,))], NOW)

    reader = store.reader()
    assert len(reader.list(RunFilter(created_from_us=1), limit=9)) == 1
    reader.close()
    store.close()


def test_a_run_that_was_due_before_it_was_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest queued run is the first of a list, however early it is due."""
    monkeypatch.setattr(listing, "PROBE", 0)
    store = SqliteStore(tmp_path / "jobs.db")
    store.open(Owner("boot-a", 1, "h", 1))
    times = [NOW.steady_us + n * 1_000_000 for n in range(3)]
    runs = [NewRun(f"{stamp(at_us)}-run", LANE, b"{}", at_us, due_us=at_us) for at_us in times]
    store.write([Insert((*runs[:2], evolve(runs[2], due_us=1)))], NOW)
    reader = store.reader()

    (found,) = reader.list(RunFilter(status=Status.QUEUED), limit=1)

    assert found.id == runs[2].id
    reader.close()
    store.close()
