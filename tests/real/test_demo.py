"""
The demonstration itself: real processes, real sockets, a real SIGKILL.

Rule: nothing here asserts on a duration; what is awaited is awaited for a minute at most.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest

from callsheet.demo.ledger import CALLER, Acknowledged, Tail

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-W", "error", "-m", "callsheet.cli", "demo")
PATIENCE_S: Final = 60.0


@contextmanager
def playing(*options: str) -> Iterator[subprocess.Popen[str]]:
    """`callsheet demo`, ended with the block."""
    with subprocess.Popen(
        [*COMMAND, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def played(*options: str) -> tuple[int, str]:
    """Exit status and everything it said."""
    with playing(*options) as demo:
        said, _ = demo.communicate(timeout=2 * PATIENCE_S)
        return demo.returncode, said


def processes(folder: Path) -> dict[int, str]:
    """The receiver and the worker that live in a folder: {pid: command}."""
    return {pid: command for pid, command in commands().items() if f"--folder={folder}" in command}


def commands() -> dict[int, str]:
    """Every process there is: {pid: command}. A clean Debian has no `ps`, macOS no `/proc`."""
    if not Path("/proc/self/cmdline").exists():
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
        return {int(pid): command for pid, command in rows}
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            found[int(path.parent.name)] = path.read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    return found


def until(what: Callable[[], object]) -> None:
    """Return when `what()` is true."""
    for _ in range(int(PATIENCE_S / 0.02)):
        if what():
            return
        time.sleep(0.02)
    pytest.fail(f"{what} did not come")


def number(said: str, row: str) -> int:
    """The number in a row of the table."""
    found = re.search(rf"^{row} +([\d,]+)", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1].replace(",", ""))


def test_p1_nothing_acknowledged_is_lost_over_a_kill(tmp_path: Path) -> None:
    """P1, P8: the worker dies by SIGKILL half-way, is started again, and everything acknowledged has ended."""
    status, said = played("--runs=200", "--seed=11", f"--keep={tmp_path / 'kept'}")

    assert 0 == status, said
    assert said.strip().splitlines()[-1].startswith("lost 0 of 200 acknowledged")
    assert "Killed the worker (SIGKILL)" in said
    assert 200 == number(said, "acknowledged")
    assert 200 == number(said, "delivered") + number(said, "dead-lettered")
    assert number(said, "attempts") == 200 + number(said, "retried") + number(said, "crashed")
    assert number(said, "crashed") > 0
    assert number(said, "deduplicated") >= 10
    assert {"jobs.db", "caller.jsonl", "receiver.jsonl"} <= {each.name for each in (tmp_path / "kept").iterdir()}


def test_the_check_can_fail() -> None:
    """Over a store that answers 50 ms before its commit the same check finds what was lost, and says so."""
    status, said = played("--runs=200", "--seed=12", "--answer-early=50")

    assert 1 == status, said
    assert number(said, "lost") > 0
    assert re.search(r"^lost  \w{26}  evt-\d{5}: acknowledged, but not in the store$", said, re.MULTILINE)
    assert re.match(r"lost [1-9]\d* of ", said.strip().splitlines()[-1])


def test_one_link_watches_both_lives_and_goes_on(tmp_path: Path) -> None:
    """With --monitor the page is there before the kill and after the end, on the same link, until Ctrl-C."""
    folder = tmp_path / "kept"
    with playing("--runs=60", "--monitor", f"--keep={folder}") as demo:
        assert demo.stdout is not None
        told = iter(demo.stdout.readline, "")
        link = re.search(r"http://\S+", next(line for line in told if "Watch it live" in line))
        assert link is not None
        assert "<html" in page(link[0])

        next(line for line in told if "Killed the worker" in line)
        goes_on = next(line for line in told if "until you press Ctrl-C" in line)
        assert link[0] in goes_on
        assert next(told).startswith("lost 0 of 60 ")
        assert "<html" in page(link[0])

        demo.send_signal(signal.SIGINT)
        assert 0 == demo.wait(timeout=PATIENCE_S)

    assert {} == processes(folder)


def page(link: str) -> str:
    """What a browser is given for it."""
    with urlopen(link, timeout=PATIENCE_S) as answer:
        text: bytes = answer.read()
    return text.decode()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_leaves_nothing_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Ctrl-C or SIGTERM in the middle: one sentence, no traceback, no process, no temporary folder."""
    folder = tmp_path / "kept"
    with playing(f"--keep={folder}") as demo:
        until(lambda: len(list(Tail(folder / CALLER).new())) > 20)
        assert 2 == len(processes(folder))

        demo.send_signal(number)
        said, _ = demo.communicate(timeout=PATIENCE_S)

    assert status == demo.returncode
    assert f"Stopped by {number.name}" in said
    assert "Traceback" not in said
    assert {} == processes(folder)


def test_the_temporary_folder_is_removed(tmp_path: Path) -> None:
    """Without --keep nothing stays on the disk, also when it is stopped."""
    with subprocess.Popen(
        [*COMMAND], cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as demo:
        until(lambda: [*tmp_path.glob("callsheet-demo-*/caller.jsonl")])
        demo.send_signal(signal.SIGINT)
        demo.wait(timeout=PATIENCE_S)

    assert [] == [*tmp_path.iterdir()]


def test_children_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """Even SIGKILL of the demonstration leaves no receiver and no worker."""
    folder = tmp_path / "kept"
    with playing(f"--keep={folder}") as demo:
        until(lambda: len(list(Tail(folder / CALLER).new())) > 20)
        demo.kill()
        demo.wait(timeout=PATIENCE_S)

    until(lambda: not processes(folder))


@pytest.mark.parametrize("who", ["receiver", "worker"])
def test_a_child_that_dies_is_named(tmp_path: Path, who: str) -> None:
    """A death that nobody planned ends the demonstration with a sentence and status 1."""
    folder = tmp_path / "kept"
    with playing(f"--keep={folder}") as demo:
        until(lambda: len(list(Tail(folder / CALLER).new())) > 20)
        (pid,) = [pid for pid, args in processes(folder).items() if f"demo.{who}" in args]
        os.kill(pid, signal.SIGKILL)
        said, _ = demo.communicate(timeout=PATIENCE_S)

    assert 1 == demo.returncode
    assert f"The demonstration failed: the {who} ended unexpectedly: killed by SIGKILL" in said
    assert "Traceback" not in said
    assert {} == processes(folder)


def test_it_gives_up_in_the_end(tmp_path: Path) -> None:
    """What does not come to an end within the limit is ended with a sentence and status 1."""
    code = "from callsheet.demo import play; play.LIMIT_S = 1.0; from callsheet.cli import main; main()"
    command = [sys.executable, "-c", code, "demo", f"--keep={tmp_path / 'kept'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert re.fullmatch(
        r"The demonstration failed: it was not done after 1 seconds: .* in flight(; the store has .*)?\n", done.stderr
    )
    assert {} == processes(tmp_path / "kept")


def test_a_worker_that_is_told_to_end_goes_on_later(tmp_path: Path) -> None:
    """P9: SIGTERM in the middle leaves no attempt running; the next life of the worker finishes the plan."""
    with receiver(tmp_path) as url:
        command = [sys.executable, "-m", "callsheet.demo.worker", f"--folder={tmp_path}", "--seed=1", "--runs=60"]
        with subprocess.Popen([*command, f"--url={url}"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
            until(lambda: len(list(Tail(tmp_path / CALLER).new())) > 20)
            worker.terminate()
            assert "done" not in worker.communicate(timeout=PATIENCE_S)[0]
            assert 0 == worker.returncode

        again = subprocess.run([*command, f"--url={url}"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert 0 == again.returncode, again.stderr
    assert "done" in again.stdout
    told = [entry for entry in Tail(tmp_path / CALLER).new() if isinstance(entry, Acknowledged)]
    assert list(range(63)) == sorted(entry.call for entry in told)


@contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """A receiver in a process of its own; where it is."""
    command = [sys.executable, "-m", "callsheet.demo.receiver", f"--folder={folder}", "--seed=1", "--runs=60"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = re.search(r"\d+", process.stdout.readline())
            assert port is not None
            yield f"http://127.0.0.1:{port[0]}/hooks"
        finally:
            process.terminate()


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    """The receiver says which port it could not take."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "callsheet.demo.receiver", f"--folder={tmp_path}", "--seed=1", "--runs=60"]
        done = subprocess.run([*command, f"--port={port}"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert [f"cannot listen on 127.0.0.1 port {port}: Address already in use"] == done.stderr.splitlines()
