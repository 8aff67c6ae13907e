"""How the SQLite store waits for somebody else's transaction."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from callsheet.store.errors import StoreBusy
from callsheet.store.records import Now
from callsheet.store.sqlite import SqliteStore, patience
from callsheet.store.sqlite.patience import CROWD_S, LONG_S, SHORT_S, Patience

from .test_sqlite_place import OWNER

NOW = Now(1, 1)


class Clock:
    """Stands in for `time`; every pause is noted."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def test_p10_a_store_that_others_write_to_is_waited_for_so_long_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    """With short pauses at first, of all lengths between two bounds, then with longer ones; then StoreBusy, nothing stored."""
    path = tmp_path / "jobs.db"
    store = SqliteStore(path, busy_s=1.0)
    store.open(OWNER)
    other = apsw.Connection(str(path))
    other.execute("begin immediate")
    began_s = clock.now_s

    with pytest.raises(StoreBusy) as error:
        store.write([], NOW)

    assert 1.0 == error.value.waited_s
    assert 1.0 == pytest.approx(clock.now_s - began_s)
    crowd = [each for n, each in enumerate(clock.pauses) if sum(clock.pauses[:n]) < CROWD_S]
    late = clock.pauses[len(crowd) : -1]
    for some, (least_s, longest_s) in ((crowd, SHORT_S), (late, LONG_S)):
        assert len(set(some)) == len(some)
        assert least_s <= min(some) < least_s + (longest_s - least_s) / 10
        assert longest_s - (longest_s - least_s) / 10 < max(some) <= longest_s
    other.execute("rollback")
    assert [] == store.write([], NOW)
    store.close()


def test_p10_it_is_written_as_soon_as_the_other_has_ended(tmp_path: Path, clock: Clock) -> None:
    """Also when that took longer than any pause."""
    path = tmp_path / "jobs.db"
    store = SqliteStore(path)
    store.open(OWNER)
    other = apsw.Connection(str(path))
    other.execute("begin immediate")
    sleep = clock.sleep

    def end_soon(seconds: float) -> None:
        sleep(seconds)
        if clock.now_s > 103 and other.in_transaction:
            other.execute("commit")

    clock.sleep = end_soon  # type: ignore[method-assign]

    assert [] == store.write([], NOW)
    assert 103 < clock.now_s < 103.01
    store.close()


def test_another_limit_ends_with_its_block() -> None:
    """Also when what is waited for fails."""
    waits = Patience(5.0)

    with pytest.raises(ZeroDivisionError), waits.at_most(0.25):
        assert 0.25 == waits.most_s
        raise ZeroDivisionError

    assert 5.0 == waits.most_s
