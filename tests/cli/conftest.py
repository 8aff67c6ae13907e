"""A database with runs in every state, made once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import callboard
from .shell import work

DAY_S = 86_400


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A command that is tried in this process sets the level of the log: not for whoever comes after it."""
    log = logging.getLogger("callsheet")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three that succeeded, two that are dead-lettered, one for tomorrow, one canceled, one in a paused queue."""
    path = tmp_path_factory.mktemp("made") / "jobs.db"
    work(
        path,
        ("echo", {"n": 1}, {"run_id": "run-a1", "trace_id": "trace/1", "idempotency_key": "key/1"}),
        ("echo", {"n": 2}, {"run_id": "run-a2", "trace_id": "trace/1"}),
        ("echo", "secret payload", {"run_id": "run-b"}),
        ("fail", callboard.NASTY, {"run_id": "dead-1"}),
        ("fail", "second\nline", {"run_id": "dead-2"}),
        ("echo", None, {"run_id": "later", "delay": DAY_S}),
        ("echo", None, {"run_id": "never", "delay": DAY_S}),
    )
    with callboard.jobs.client(path) as client:
        client.runs.cancel("never", callboard.NASTY)
        client.queues.pause("mail")
        client.enqueue("send", {"to": "b"}, run_id="mail-1")
    return path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, which is the one of the environment too."""
    path = tmp_path / "jobs.db"
    shutil.copy(made, path)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)
        yield path
