"""
Who has a database open, and what was left behind by who had.

Rule: looking takes no lock: one that is tried, if only for a moment, could refuse a runtime that opens just then.
Not here: the lock itself (`lock`).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import apsw
from attrs import frozen

from ..records import instant
from .connection import rows
from .findings import Finding, fine, warning

LOCKS: Final = Path("/proc/locks")
"""Of Linux: all locks that are held. Others do not have it."""
SEEN_US: Final = 60_000_000
"""A runtime says four times as often that it is there."""
_OWNERS: Final = """
    select boot_id, pid, host, seen_us, closed,
        (select count(*) from runs indexed by running where status = 2 and owner = owners.boot)
    from owners join boots on boots.id = owners.boot order by seen_us desc
    """
_ORPHANS: Final = """
    select boot_id, count(*) from runs indexed by running join boots on boots.id = runs.owner
    where status = 2 and owner not in (select boot from owners) group by 1
    """
_STUCK: Final = "select id from runs indexed by running where status = 2 and stuck_since_us is not null limit 4"


@frozen
class Holder:
    """What the lock file says."""

    pid: int
    boot_id: str
    started: str
    is_there: bool
    """Whether it holds the lock."""


def holder_of(path: str) -> Holder | None:
    """Who holds the lock of a database, or held it when it died; None where nobody does."""
    lock = Path(f"{path}.lock")
    try:
        told: Any = json.loads(lock.read_bytes())
        pid = int(told["pid"])
        return Holder(pid, str(told["boot_id"]), str(told["started"]), _is_held(lock, pid))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(lock: Path, pid: int) -> bool:
    held = is_locked(lock, "FLOCK")
    return _is_alive(pid) if held is None else held


def is_locked(path: Path, kind: str) -> bool | None:
    """
    Whether any process holds a lock of this kind on a file; None where the system does not tell.

    Devices are not compared: on some file systems what stands there is not what `stat` says.
    """
    try:
        inode, held = path.stat().st_ino, [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        return None
    return any(kind in fields and any(each.endswith(f":{inode}") for each in fields) for fields in held)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def holders(path: str, db: apsw.Connection, now_us: int) -> Iterator[Finding]:
    """The lock, the runtimes that registered, and the runs that nobody runs any more."""
    holder = holder_of(path)
    if holder is None:
        yield fine("lock", "no runtime holds it")
    elif holder.is_there:
        yield fine("lock", f"process {holder.pid} holds it since {holder.started}")
    else:
        died = f"process {holder.pid}, which held it since {holder.started}, ended without closing it"
        yield warning("lock", f"{died}: the next runtime takes over what it left")
    yield from _runtimes(db, now_us, holder)
    stuck = [run_id for (run_id,) in rows(db, _STUCK)]
    if stuck:
        more = " and others" if len(stuck) > 3 else ""
        deaf = f"run {', '.join(stuck[:3])}{more} goes on although it was told to stop"
        yield warning("stuck", deaf, "look at its handler: it ignores its cancellation")


def _runtimes(db: apsw.Connection, now_us: int, holder: Holder | None) -> Iterator[Finding]:
    there: list[str] = []
    lost = [(f"runtime {boot_id}", n) for boot_id, n in rows(db, _ORPHANS)]
    for boot_id, pid, host, seen_us, closed, running in rows(db, _OWNERS):
        who = f"runtime {boot_id} (process {pid} on {host})"
        lately = now_us - seen_us < SEEN_US
        if holder is not None and holder.boot_id == boot_id:
            is_there = holder.is_there
        else:
            is_there = lately and not closed and (host != socket.gethostname() or _is_alive(pid))
        if is_there:
            there.append(who)
            if not lately:
                still = "see whether it stands still, or its clock was set"
                yield warning("runtimes", f"{who} was last seen at {_at(seen_us)}", still)
        elif running:
            lost.append((who, running))
    for who, n in lost:
        runs = f"{n:,} runs are" if n > 1 else "1 run is"
        back = "open the store: the next runtime takes back what it ran"
        yield warning("runtimes", f"{runs} running under {who}, which is gone", back)
    if not lost:
        yield fine("runtimes", f"open: {', '.join(there)}" if there else "none is open")


def _at(us: int) -> str:
    with suppress(ValueError, OverflowError):
        return f"{instant(us):%Y-%m-%d %H:%M:%SZ}"
    return f"{us} µs"
