"""How the SQLite store waits for somebody else's transaction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from callsheet.store.contract import Register
from callsheet.store.errors import StoreBusy
from callsheet.store.records import Now
from callsheet.store.sqlite import SqliteStore, patience
from callsheet.store.sqlite.patience import CROWD_S, LONG_S, SHORT_S, Patience

from .test_sqlite_place import OWNER

NOW = Now(1, 1)
ALONE = """
import fcntl, os, sys
file, shared = os.open(sys.argv[1], os.O_RDWR), os.open(f"{sys.argv[1]}-shm", os.O_RDWR)
fcntl.lockf(shared, fcntl.LOCK_SH, 1, 128)
fcntl.lockf(file, fcntl.LOCK_EX, 510, 0x40000002)  # as whoever closes a database last, to copy its log
print(flush=True)
sys.stdin.read()
"""


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


def test_p10_a_database_that_somebody_has_alone_is_opened_when_that_has_ended(tmp_path: Path, clock: Clock) -> None:
    """As whoever closes it last has, and whoever finds it after a kill: for a moment nobody else may even look."""
    path = tmp_path / "jobs.db"
    first, second = SqliteStore(path), SqliteStore(path, exclusive=False)
    first.open(OWNER)
    first.write([Register(OWNER)], NOW)
    first.rest()  # its log stays, and no lock of this process
    with subprocess.Popen(
        [sys.executable, "-c", ALONE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        sleep = clock.sleep

        def end_soon(seconds: float) -> None:
            sleep(seconds)
            if clock.now_s > 103 and other.poll() is None:
                other.communicate()

        clock.sleep = end_soon  # type: ignore[method-assign]

        second.open(OWNER)

    assert 103 < clock.now_s < 103.01
    assert [] == second.write([], NOW)
    second.close()
    first.close()


def test_p10_a_database_that_somebody_has_alone_for_long_is_busy(tmp_path: Path, clock: Clock) -> None:
    """It is not told as one that cannot be opened at all."""
    path = tmp_path / "jobs.db"
    first, second = SqliteStore(path), SqliteStore(path, exclusive=False)
    first.open(OWNER)
    first.write([Register(OWNER)], NOW)
    first.rest()
    with subprocess.Popen(
        [sys.executable, "-c", ALONE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()

        with pytest.raises(StoreBusy) as error:
            second.open(OWNER)

        other.communicate()

    assert 5.0 == error.value.waited_s == pytest.approx(clock.now_s - 100)
    first.close()


def test_p10_a_file_that_is_being_written_is_not_called_damaged(tmp_path: Path, clock: Clock) -> None:
    """Half of a log that somebody copies looks like damage: it is looked at again."""
    path = tmp_path / "jobs.db"
    store = SqliteStore(path)
    store.open(OWNER)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192])
    sleep = clock.sleep

    def end_soon(seconds: float) -> None:
        sleep(seconds)
        if len(clock.pauses) == 2:
            path.write_bytes(whole)

    clock.sleep = end_soon  # type: ignore[method-assign]

    store.open(OWNER)

    assert 2 == len(clock.pauses)
    store.close()
