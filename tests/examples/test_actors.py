"""The examples of the actor layer say what their texts say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PATIENCE_S: Final = 30
"""A program that is silent for so long hangs: the test fails, and says so."""

PING_PONG: Final = """\
pong 1
ping 2
pong 3
ping 4
pong 5
pong had the last of 5 hits
"""

ECHO: Final = """\
anna said 'hello' and heard 'hello'
ben said 'good morning' and heard 'good morning'
/connections/2 crashed: RuntimeError: the client asked for it
ben hears '': his connection is closed
anna said 'are you still there?' and heard 'are you still there?'
carla said 'what happened?' and heard 'what happened?'
"""

STORM: Final = """\
/kitchen/oven has started, generation 1
/kitchen/waiter has started, generation 1
/kitchen has started, generation {kitchen}
/kitchen/oven crashed: RuntimeError: too hot; restarted_later
/kitchen/oven waits 0.1 s
/kitchen/oven has started, generation 2
/kitchen/oven crashed: RuntimeError: too hot; restarted_later
/kitchen/oven waits 0.2 s
/kitchen/oven has started, generation 3
/kitchen/oven crashed: RuntimeError: too hot; restarted_later
/kitchen/oven waits 0.4 s
/kitchen/oven has started, generation 4
/kitchen/oven crashed: RuntimeError: too hot; gave_up
/kitchen gives up
/kitchen crashed: IntensityExceeded: supervisor /kitchen gave up: /kitchen/oven ended more than 3 times in 10 s; last: \
crashed: RuntimeError: too hot; {then}
"""

RESTART_STORM: Final = f"""\
/scheduler has started, generation 1
{STORM.format(kitchen=1, then="restarted")}{STORM.format(kitchen=2, then="gave_up")}\
the root gives up
SystemGaveUp, because of
IntensityExceeded, because of
IntensityExceeded, because of
RuntimeError: too hot
"""


@pytest.mark.parametrize(
    ("name", "said"), [("ping_pong", PING_PONG), ("supervised_echo", ECHO), ("restart_storm", RESTART_STORM)]
)
def test_an_example_prints_what_it_is_about(name: str, said: str) -> None:
    """It ends by itself, with this output and no warning."""
    done = subprocess.run(
        command(name), capture_output=True, text=True, check=False, timeout=PATIENCE_S, env=environment()
    )

    assert (0, said, "") == (done.returncode, done.stdout, done.stderr)


def test_the_echo_server_loses_one_connection_and_no_other() -> None:
    """Real clients of the server as it would be run: one crashes its connection, the others go on; Ctrl-C ends it."""
    with server() as (process, port):
        with client(port) as anna, client(port) as ben:
            before = [echo(anna, b"one"), echo(ben, b"two")]
            ben.sendall(b"crash")
            lost = ben.recv(100)
            after = echo(anna, b"three")
            with client(port) as carla:
                late = echo(carla, b"four")
                process.send_signal(signal.SIGINT)  # with anna and carla still there
                closed = [anna.recv(100), carla.recv(100)]
        said, log = process.communicate(timeout=PATIENCE_S)

    assert ([b"one", b"two"], b"", b"three", b"four") == (before, lost, after, late)
    assert [b"", b""] == closed
    assert (0, "") == (process.returncode, said)
    [line] = [line for line in log.splitlines() if line.startswith("/")]
    assert (
        "/connections/2 (generation 1) ended: crashed: RuntimeError: the client asked for it; it is not restarted"
        == line
    )


@pytest.mark.parametrize("name", ["ping_pong", "supervised_echo", "restart_storm"])
def test_an_example_is_short(name: str) -> None:
    """What is to be copied fits two screens."""
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 120


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONUNBUFFERED": "1"}


@contextmanager
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The echo server in a process of its own, on a port of the system's choice."""
    with subprocess.Popen(
        command("supervised_echo", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on port "), line
            yield process, int(line.split()[-1])
        finally:
            process.kill()


def client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def echo(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(100)
