"""
A ledger: a file of lines that outlives whoever writes it, so that what happened can be told without the store.

Rule: one line, one `write` to a file opened for appending. A process that is killed leaves whole lines, at worst a torn
last one, which says nothing and is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from attrs import asdict, define, field, frozen

STORE: Final = "jobs.db"
CALLER: Final = "caller.jsonl"
RECEIVER: Final = "receiver.jsonl"
COMMITS: Final = "commits.jsonl"


def _ids(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


@frozen
class Acknowledged:
    """The caller's: `enqueue` returned."""

    call: int
    event: str
    run_id: str
    deduped: bool


@frozen
class Received:
    """The receiver's: a request came in; `nth` counts those for this event."""

    event: str
    nth: int
    run_id: str
    attempt: int


@frozen
class Answered:
    """The receiver's: it decided on its answer, and sends it now. Status 0: the sender had gone before."""

    event: str
    nth: int
    status: int


@frozen
class Committing:
    """Of a store that answers early (see `early`): the runs that the commit which begins now makes durable."""

    run_ids: tuple[str, ...] = field(converter=_ids)


Entry: TypeAlias = Acknowledged | Received | Answered | Committing

_KINDS: Final = {kind.__name__: kind for kind in (Acknowledged, Received, Answered, Committing)}


class Ledger:
    """The writing end. One process at a time."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._fd, b"\n")  # ends the torn line of one who was killed in the middle of it; else an empty one

    def append(self, entry: Entry) -> None:
        """Returns when the entry outlives this process."""
        os.write(self._fd, f"{json.dumps([type(entry).__name__, asdict(entry)])}\n".encode())

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


@define(eq=False)
class Tail:
    """The reading end: what was appended since it last looked."""

    path: Path
    _read: int = field(default=0, init=False)

    def new(self) -> Iterator[Entry]:
        """Whole lines only; nothing while there is no file."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            entry = _parsed(line)
            if entry is not None:
                yield entry


def _parsed(line: bytes) -> Entry | None:
    try:
        kind, fields = json.loads(line)
        return _KINDS[kind](**fields)
    except (ValueError, KeyError, TypeError):  # torn
        return None
