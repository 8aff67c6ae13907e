"""
A terminal with a person before it: a command on a pseudo-terminal, what it shows, what is typed.

Rule: every wait is for something that is shown, with an end; nothing sleeps.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import define, field

from .shell import COMMAND, HERE, WAIT_S, environment

ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@define(eq=False)
class Terminal:
    """One command on a terminal of its own."""

    process: subprocess.Popen[bytes]
    _fd: int
    shown: str = field(default="", init=False)
    """Everything that was shown, escapes included."""

    @property
    def text(self) -> str:
        """The same without colours, as lines."""
        return ESCAPES.sub("", self.shown).replace("\r\n", "\n")

    def until(self, part: str) -> None:
        """Return when this is shown."""
        while part not in self.text:
            if not self._read():
                pytest.fail(f"it ended without {part!r}: {self.text}")

    def type(self, keys: str) -> None:
        """As a person would; Ctrl-C is \\x03."""
        os.write(self._fd, keys.encode())

    def end(self) -> int:
        """Return its status when it has ended."""
        while self._read():
            pass
        return self.process.wait(WAIT_S)

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], WAIT_S)[0]:
            pytest.fail(f"nothing more is shown: {self.text}")
        try:
            more = os.read(self._fd, 65_536)
        except OSError:  # nobody has the other end open
            return False
        self.shown += more.decode()
        return bool(more)


@contextmanager
def terminal(*arguments: str | Path, width: int = 120, cwd: Path = HERE, **env: str) -> Iterator[Terminal]:
    """Start the command on a terminal so many columns wide."""
    ours, its = pty.openpty()
    ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    clean = environment(TERM="xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        clean.pop(name, None)
    clean |= env

    def take_terminal() -> None:
        ioctl(its, termios.TIOCSCTTY, 0)

    process: subprocess.Popen[Any] = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], cwd=cwd, env=clean, stdin=its, stdout=its, stderr=its, start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509 -- no thread has started when it is called
    )  # fmt: skip
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)
