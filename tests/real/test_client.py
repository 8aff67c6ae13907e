"""
Clients with real processes: one that forks, and a worker that dies.

Not here: what a client does (`tests/callsheet/test_client.py`), many at full speed (`test_hammer`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from callsheet import Client, Jobs, Status
from callsheet.actors.seams import WallClock

from .lives import PATIENCE_S, ROOT

OPENER: Final = Path(__file__).with_name("opener.py")
NOON_US: Final = 1_800_000_000_000_000

jobs: Final = Jobs("proof", namespace="real")


@jobs.task("work")
async def work(payload: object, ctx: object) -> None:
    """Does nothing."""


def call(client: Client, name: str, times: int) -> list[str]:
    """Ids of runs that were requested, read, canceled and replayed."""
    made = []
    for n in range(times):
        made.append(client.enqueue("work", [name, n], idempotency_key=f"{name}-{n}").run_id)
        assert [name, n] == client.runs.get(made[-1]).payload
        if n % 10 == 0:
            assert client.runs.cancel(made[-1]).canceled
            made.append(client.runs.replay(made[-1]).run_id)
    return made


def in_child(client: Client, name: str, told: Any) -> None:
    """What a forked child does; it ends without closing anything."""
    told.send(call(client, name, 50))


def test_p1_a_client_goes_on_in_parent_and_children_after_a_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Used before, by threads meanwhile, and closed by the parent while children still call: every acknowledged run is there, and
    no id is given twice, though all of them are made in one millisecond.
    """
    monkeypatch.setattr(WallClock, "wall_us", lambda _clock: NOON_US)
    path = tmp_path / "jobs.db"
    client = jobs.client(path)
    made = call(client, "before", 5)
    fork, stop = multiprocessing.get_context("fork"), threading.Event()

    def go_on(name: str) -> list[str]:
        mine: list[str] = []
        while not stop.is_set():
            mine += call(client, f"{name}.{len(mine)}", 5)
        return mine

    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(go_on, f"thread-{n}") for n in range(3)]
        pipes = [fork.Pipe() for _ in range(4)]
        children = [
            fork.Process(target=in_child, args=(client, f"child-{n}", told)) for n, (_, told) in enumerate(pipes)
        ]
        for child in children:
            child.start()
        stop.set()
        made += [run for each in calls for run in each.result()]
    client.close()
    for child, (heard, _) in zip(children, pipes, strict=True):
        assert heard.poll(PATIENCE_S), "a child does not answer"
        made += heard.recv()
        child.join(PATIENCE_S)
        assert 0 == child.exitcode

    with jobs.client(path) as client:
        listed, after = [], None
        while True:
            page = client.runs.list(limit=500, after=after)
            listed += [run.id for run in page.runs]
            if (after := page.next) is None:
                break
        assert len(made) == len(set(made))
        assert sorted(made) == sorted(listed)
        assert len(made) == client.stats().total


@contextmanager
def worker(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A runtime of its own, open while the block runs."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", OPENER, path, "hold"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert b"{}\n" == process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_p8_a_worker_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Its socket is nobody's: calls go on, nothing claims to listen, and the next worker takes its place and hears at once."""
    path = tmp_path / "jobs.db"
    wake = Path(f"{path}.wake")
    with worker(path) as process, Client(path) as client:
        while_open = client.snapshot().wake_path
        before = client.runs.wait(client.enqueue("work").run_id, timeout=PATIENCE_S)
        process.send_signal(signal.SIGKILL)
        process.wait()

        left, heard = wake.exists(), client.snapshot().wake_path
        run = client.enqueue("work").run_id
        waits = client.runs.get(run).run.status

        with worker(path):
            after = client.runs.wait(run, timeout=PATIENCE_S)
            again = client.snapshot().wake_path

    assert (Status.SUCCEEDED, Status.QUEUED, Status.SUCCEEDED) == (before.status, waits, after.status)
    assert (str(wake), True, None, str(wake)) == (while_open, left, heard, again)

    async def open_once() -> None:
        async with jobs.open(path):
            pass

    trio.run(open_once)
    assert ["jobs.db"] == [each.name for each in tmp_path.iterdir()]
