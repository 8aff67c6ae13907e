"""
A child process of the demonstration, seen from both ends.

Rule 1: no child outlives the process that started it: it is ended with it, and it looks whether its parent is still there.
Rule 2: a child that ends when nobody asked it to ends the demonstration, with a sentence.

What a child says is one JSON object a line on its standard output; what goes wrong with it stands in its log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define, field

import callsheet

from ..store.errors import CallsheetError

LOOK_S: Final = 0.5
"""How often a child looks for its parent."""
VARIABLE: Final = "CALLSHEET_DEMO_TOKEN"
"""The environment variable for the monitor's secret: arguments of a process can be read by everybody."""
_PACKAGES: Final = str(Path(callsheet.__file__).parents[1])


class DemoFailed(CallsheetError):
    """The demonstration could not be carried out. That says nothing about what was lost."""


# ---------------------------------------------------------------- the child's end


def say(**facts: object) -> None:
    """Tell the parent."""
    os.write(1, f"{json.dumps(facts)}\n".encode())


async def orphaned() -> None:
    """Return when the process that started this one is gone."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 -- nothing else tells, on every system
        await trio.sleep(LOOK_S)


# ---------------------------------------------------------------- the parent's end


@define(eq=False)
class Child:
    """A process that runs one module of this package. Made by `start`."""

    name: str
    """For sentences: "the worker"."""
    process: trio.Process
    said: dict[str, Any] = field(factory=dict)
    """Everything it said."""
    _log: Path = field(kw_only=True)
    _dismissed: bool = field(default=False, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    _ended: trio.Event = field(factory=trio.Event, init=False)

    async def word(self, key: str) -> Any:
        """What it says of `key`, once it does."""
        while key not in self.said:
            await self._news.wait()
        return self.said[key]

    async def ended(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

    async def end(self, number: signal.Signals) -> None:
        """Send the signal, and return when it has ended."""
        self._dismissed = True
        self.process.send_signal(number)
        await self.ended()

    async def watch(self) -> None:
        """Take down what it says. Raises DemoFailed when it ends and should not."""
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.said.update(json.loads(line))
            self._tell()
        status = await self.process.wait()
        self._ended.set()
        if not self._dismissed and (status != 0 or "done" not in self.said):
            raise DemoFailed(f"{self.name} ended unexpectedly: {_how(status)}{self._last_words()}")

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _last_words(self) -> str:
        """The last line of its log that says something: the text of an error, without the frame of an exception group."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [words for line in lines if (words := line.strip(" |+-"))]
        return f"; its last words: {said[-1]}" if said else ""


def _how(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


async def start(
    nursery: trio.Nursery, name: str, module: str, folder: Path, token: str = "", **options: object
) -> Child:
    """
    Start `python -m callsheet.demo.MODULE --folder FOLDER --OPTION VALUE …`; options that are None are left out.

    It ends with the nursery: SIGTERM, five seconds later SIGKILL (what `trio.run_process` does). Its log is `MODULE.log` in
    the folder. It has a process group of its own, so that a Ctrl-C reaches the parent alone.
    """
    command = [sys.executable, "-P", "-m", f"callsheet.demo.{module}", f"--folder={folder}"]
    command += [f"--{option.replace('_', '-')}={value}" for option, value in options.items() if value is not None]
    path = [_PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])]
    log = folder / f"{module}.log"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=fd,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), VARIABLE: token},
                process_group=0,
            )
        )
    finally:
        os.close(fd)
    child = Child(name, process, log=log)
    nursery.start_soon(child.watch)
    return child
