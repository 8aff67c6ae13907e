"""Web applications on asyncio and on threads, and a script, beside a worker: what they answer, and that they end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

CLIENTS: Final = Path(__file__).parents[2] / "examples" / "clients"
PATIENCE_S: Final = 60
"""A program that is silent for so long hangs: the test fails, and says so."""


@contextmanager
def program(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of the programs, told to end at the end."""
    command = [sys.executable, str(CLIENTS / name), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def up(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    """Wait until it answers anything."""
    while process.poll() is None:
        with suppress(httpx.ConnectError):
            client.get("/")
            return
    pytest.fail(process.communicate()[1])


def finished(client: httpx.Client, run_id: str) -> Any:
    """What is shown of a report once it is made."""
    for _ in range(1_000):
        shown = client.get(f"/reports/{run_id}").json()
        if shown["status"] == "succeeded":
            return shown
    return shown


@pytest.mark.parametrize("name", ["web_asyncio.py", "web_threads.py"])
def test_a_web_application_requests_shows_and_cancels_beside_a_worker(tmp_path: Path, name: str) -> None:
    """What it promises is made by the other process; asked again it is the same report; what is wrong is told."""
    database, port = str(tmp_path / "reports.db"), free_port()
    with ExitStack() as stack:
        worker = stack.enter_context(program("worker.py", database))
        web = stack.enter_context(program(name, database, str(port)))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S))
        assert worker.stdout is not None
        assert "working\n" == worker.stdout.readline()
        up(client, web)

        first = client.post("/reports", json={"month": "May"})
        again = client.post("/reports", json={"month": "May"})
        wrong = client.post("/reports", json={"month": 5})
        shown = finished(client, first.json()["id"])
        late = client.delete(f"/reports/{first.json()['id']}")
        unknown = client.get("/reports/nobody")

    expected = {"status": "succeeded", "progress": {"page": 3, "of": 3}, "result": {"month": "May", "pages": 3}}
    assert (202, 202) == (first.status_code, again.status_code)
    assert [False, True] == [answer.json()["known"] for answer in (first, again)]
    assert first.json()["id"] == again.json()["id"]
    assert (422, "month") == (wrong.status_code, "month" if "month" in wrong.json()["error"] else wrong.json())
    assert expected == shown
    assert {"canceled": False, "status": "succeeded"} == late.json()
    assert 404 == unknown.status_code
    assert 0 == worker.returncode


def test_a_script_without_the_code_requests_and_waits(tmp_path: Path) -> None:
    """It says so when no worker was ever there; then it prints what the worker made; the second time it is known."""
    database = str(tmp_path / "reports.db")
    command = [sys.executable, str(CLIENTS / "script.py"), database, "June"]

    def run() -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return done.returncode, done.stdout + done.stderr

    early = run()
    left = list(tmp_path.iterdir())
    with program("worker.py", database) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        outputs = [run(), run()]

    assert (1, True) == (early[0], early[1].startswith("start a worker first: "))
    assert [] == left
    assert [(0, "June: accepted"), (0, "June: known already")] == [
        (code, text.split("\n")[0]) for code, text in outputs
    ]
    assert ["{'month': 'June', 'pages': 3}"] * 2 == [text.split("\n")[1] for _, text in outputs]
