"""
What happened, outside the store: lines of JSON in a file that processes append to and that outlives them.

Rule 1: one line is one `os.write` on a descriptor opened with O_APPEND: a process that is killed leaves whole lines.
Rule 2: every line begins on a line of its own, so that one cut in two (a kill between two pages of the write) is lost
    alone; it then says nothing, which only makes the oracle milder.
Rule 3: times are CLOCK_MONOTONIC, one clock for all processes of the machine.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import define, field

Line: TypeAlias = dict[str, Any]


def now_ns() -> int:
    """The clock of all ledgers."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Ledger:
    """The writing end."""

    def __init__(self, path: Path) -> None:
        self._fd: Final = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def say(self, what: str, **facts: object) -> None:
        """Append one line."""
        line = json.dumps({"say": what, "t": now_ns(), **facts}, separators=(",", ":"))
        os.write(self._fd, f"\n{line}\n".encode())


@define(eq=False)
class LedgerReader:
    """The reading end: each `read` returns what was appended since the last one."""

    path: Path
    _offset: int = field(default=0, init=False)
    _rest: bytes = field(default=b"", init=False)

    def read(self) -> list[Line]:
        """The new lines, oldest first."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return [line for text in whole if (line := _parsed(text)) is not None]

    def tail(self, size: int) -> list[Line]:
        """The lines of the last `size` bytes, but for the first, which may be half of one."""
        with suppress(FileNotFoundError):
            self._offset = max(0, self.path.stat().st_size - size)
        return self.read()


def read_all(path: Path) -> list[Line]:
    """Every line of a ledger."""
    return LedgerReader(path).read()


def _parsed(text: bytes) -> Line | None:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None  # cut in two by a kill
