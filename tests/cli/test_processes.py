"""Real processes: a runtime that is started, asked to stop, asked twice, and never stops; pipes that close."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from callsheet import Client

from .shell import COMMAND, HERE, ROOT, WAIT_S, call, environment, process, started


def line_of(stream: IO[str] | None, part: str) -> str:
    """The next line that has this in it."""
    assert stream is not None
    for line in stream:
        if part in line:
            return line
    raise AssertionError(f"it ended without {part!r}")


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A runtime with two handlers that ignore everything, told to stop twice; the last test of the file sees its end."""
    path = tmp_path_factory.mktemp("deaf") / "jobs.db"
    with started("run", "callboard:jobs", "--store", path, "--grace", "1000") as runs:
        line_of(runs.stdout, "app/board")
        for task in ("deaf", "deaf-thread"):
            assert 75 == call("enqueue", task, "1000", "--run-id", task, "--store", path, "--wait-for", "0").status
        with Client(path) as client:
            while any(client.runs.get(each).run.attempt == 0 for each in ("deaf", "deaf-thread")):
                pass
        runs.send_signal(signal.SIGTERM)
        line_of(runs.stderr, "SIGTERM: stopping")
        runs.send_signal(signal.SIGTERM)
        yield runs, path


def test_a_runtime_works_until_it_is_told_to_stop(deaf: tuple[subprocess.Popen[str], Path], tmp_path: Path) -> None:
    """It says in a line what works where; work comes from other processes; after SIGTERM what runs may end. Status 0."""
    path, env = tmp_path / "jobs.db", {"CALLSHEET_STORE": str(tmp_path / "jobs.db")}
    options = ["--monitor", "--grace", "20", "--app", "callboard:opened", "--queues", "board-jobs"]
    paths = {"PYTHONPATH": f"{ROOT}:{HERE}"}
    with started("run", "callboard:jobs", *options, cwd=tmp_path, env={**env, **paths}) as runs:
        up = line_of(runs.stdout, "app/board")
        done = call("enqueue", "services", "--result", **env)
        slow = call("enqueue", "sleep", "0.5", "--store", path).out.strip()
        call("enqueue", "send", "--run-id", "left", "--store", path)
        with Client(path) as client:
            while client.runs.get(slow).run.attempt == 0:
                pass
        runs.send_signal(signal.SIGTERM)
        out, err = runs.communicate(timeout=WAIT_S)

    assert up.startswith(
        f"app/board: 7 tasks on {path}, queues board-jobs, process {runs.pid}, monitor http://127.0.0.1:"
    )
    assert up.endswith("/ (its secret is shown on a terminal only)\n")
    assert (0, '"services"') == (done.status, done.out.splitlines()[-1])
    assert (0, "", 1) == (runs.returncode, out, err.count("SIGTERM: stopping"))
    assert "Traceback" not in err
    with Client(path) as client:
        assert ["succeeded", "queued"] == [str(client.runs.get(each).run.status) for each in (slow, "left")]
    assert ["closed", "jobs.db"] == sorted(each.name for each in tmp_path.iterdir())


def test_a_second_signal_ends_the_grace(tmp_path: Path) -> None:
    """The run is handed back at once, unspent. Status 0."""
    path = tmp_path / "jobs.db"
    with started("run", "callboard:made", "--store", path, "--grace", "1000") as runs:
        line_of(runs.stdout, "app/board")
        call("enqueue", "sleep", "1000", "--run-id", "long", "--store", path)
        with Client(path) as client:
            while client.runs.get("long").run.attempt == 0:
                pass
        runs.send_signal(signal.SIGINT)
        line_of(runs.stderr, "SIGINT: stopping")
        runs.send_signal(signal.SIGTERM)
        runs.communicate(timeout=WAIT_S)

    assert 0 == runs.returncode
    with Client(path) as client:
        found = client.runs.get("long")
        assert ("queued", 0, ["interrupted"]) == (
            found.run.status,
            found.run.spent,
            [each.outcome for each in found.attempts],
        )


def test_a_second_runtime_is_refused(deaf: tuple[subprocess.Popen[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence that says who holds the store; status 69."""
    runs, path = deaf
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", [*sys.path])

    done = call("run", "callboard:jobs", "--store", path)

    assert (69, "") == (done.status, done.out)
    assert f"is held by process {runs.pid} (since " in done.err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_pipe_that_is_closed_ends_it_quietly(store: Path, options: list[str]) -> None:
    """C4: `| head -1` is answered, and nobody complains."""
    with Client(store) as client:
        client.enqueue_many([client.entry("send", each) for each in range(3_000)])
    command = " ".join([*COMMAND, "runs list --all --store", str(store), *options])

    done = bash(f"{command} | head -1; exit ${{PIPESTATUS[0]}}")

    assert (0, "", 1) == (done.returncode, done.stderr, len(done.stdout.splitlines()))


def bash(script: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of it."""
    return subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, check=False, timeout=WAIT_S
    )


@pytest.mark.parametrize(
    ("command", "redirect", "status", "told"),
    [
        ("runs list", "> /dev/full", 74, "callsheet: standard output: No space left on device\n"),
        ("runs list", ">&- <&-", 0, ""),
        ("enqueue echo -", "<&-", 2, "there is no stdin to read it from\n"),
    ],
)
def test_what_cannot_be_written_or_read(store: Path, command: str, redirect: str, status: int, told: str) -> None:
    """C4: a full disk is told; what was closed on purpose is not written to; nothing can be read from a closed stdin."""
    done = bash(f"{' '.join(COMMAND)} {command} --store {store} {redirect}")

    assert (status, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith(told)
    assert "Traceback" not in done.stderr


def test_a_terminal_without_utf_8_shows_escapes(store: Path) -> None:
    """A name that its encoding does not have is shown nevertheless."""
    call("enqueue", "echo", "--run-id", "café", "--store", store)

    done = process("runs", "list", "--limit", "50", "--store", store, env={"PYTHONIOENCODING": "ascii"})

    assert 0 == done.status
    assert "caf\\xe9" in done.out


def test_a_wait_ends_with_ctrl_c(store: Path) -> None:
    """Status 130, and nothing is said."""
    with started("runs", "wait", "mail-1", "later", "--store", store) as waits:
        while store not in files_of(waits.pid):
            assert waits.poll() is None
        waits.send_signal(signal.SIGINT)
        out, err = waits.communicate(timeout=WAIT_S)

    assert (130, "", "") == (waits.returncode, out, err)


def files_of(pid: int) -> list[Path]:
    """What a process has open."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it is closed by now
            found.append(each.readlink())
    return found


def test_handlers_that_never_end_are_given_up(deaf: tuple[subprocess.Popen[str], Path]) -> None:
    """It names the runs, ends with 70, and leaves the store whole: the doctor tells what was left, the next one takes it."""
    runs, path = deaf

    out, err = runs.communicate(timeout=WAIT_S)
    looked = call("doctor", "--store", path)
    with started("run", "callboard:jobs", "--store", path, "--grace", "0", "--queues", "mail") as next_one:
        line_of(next_one.stdout, "app/board")
        next_one.send_signal(signal.SIGTERM)
        next_one.communicate(timeout=WAIT_S)

    assert (70, "") == (runs.returncode, out)
    for run in ("deaf", "deaf-thread"):
        assert f"gave up waiting for run {run} of task {run}: its handler ignores its cancellation" in err
    assert "Traceback" not in err
    assert 0 == looked.status
    assert f"process {runs.pid}, which held it since" in looked.out
    assert "2 runs are running under runtime" in looked.out
    with Client(path) as client:
        assert {"retrying"} == {str(client.runs.get(run).run.status) for run in ("deaf", "deaf-thread")}
        assert {"crashed"} == {str(client.runs.get(run).attempts[0].outcome) for run in ("deaf", "deaf-thread")}
