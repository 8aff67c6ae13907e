"""
The command line as a person has it: a call in this process where many are made, a process of its own where that matters.

Rule: whatever is typed, no answer has a traceback in it; so every call is looked at for one.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import frozen
from typer.main import get_command

import callsheet
from callsheet import open_runtime
from callsheet.cli import commands

from . import callboard

ROOT: Final = Path(callsheet.__file__).parents[1]
HERE: Final = Path(__file__).parent
COMMAND: Final = [sys.executable, "-P", "-W", "error", "-m", "callsheet.cli"]
WAIT_S: Final = 30


@frozen
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that it printed."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The documents that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def call(*arguments: str | Path, stdin: str | bytes | None = None, **env: str) -> Done:
    """What the command makes of it, in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    body = stdin.encode() if isinstance(stdin, str) else stdin or b""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("CALLSHEET_STORE", "CALLSHEET_JOBS", "CALLSHEET_MONITOR_TOKEN"):
            patched.delenv(name, raising=False)
        for name, value in {"COLUMNS": "400", **env}.items():
            patched.setenv(name, value)
        patched.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body), "utf-8"))
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            the_command().main([str(each) for each in arguments], prog_name="callsheet")
    assert isinstance(end.value.code, int)
    return seen(Done(end.value.code, *(each.buffer.getvalue().decode() for each in (out, err))))  # type: ignore[attr-defined]


@cache
def the_command() -> Any:
    """All commands, made once."""
    return get_command(commands())


def environment(**env: str) -> dict[str, str]:
    """Of a process of its own."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("CALLSHEET_")}
    return {**mine, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env}


def process(*arguments: str | Path, cwd: Path = HERE, **options: Any) -> Done:
    """The same in a process of its own."""
    env = environment(**options.pop("env", {}))
    typed = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(
        typed, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=WAIT_S, **options
    )
    return seen(Done(done.returncode, done.stdout, done.stderr))


@contextmanager
def started(*arguments: str | Path, cwd: Path = HERE, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that goes on; no longer than the block."""
    env = environment(**options.pop("env", {}))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=cwd, env=env, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def seen(done: Done) -> Done:
    """Whatever was wrong, no traceback."""
    assert "Traceback" not in done.out + done.err, done.err
    return done


def work(path: Path, *requests: tuple[str, object, dict[str, Any]], **options: Any) -> list[str]:
    """Request these runs of the callboard, and work until nothing is left that could run. Returns their ids."""

    async def play() -> list[str]:
        async with open_runtime(path, callboard.jobs, **options) as runtime:
            made = [await callboard.jobs.enqueue(task, payload, **given) for task, payload, given in requests]
            await runtime.until_idle()
        return [each.run_id for each in made]

    return trio.run(play)


def said(done: Done, *parts: str) -> bool:
    """Whether it was told on stderr, in this order."""
    return all(part in done.err for part in parts) or pytest.fail(f"not in {done.err!r}: {parts}")
