"""
What all clients look at: the newest state of everything, each piece with the revision at which it last changed.

Rule 1: values are absolute, so a client may skip any number of changes: what it gets is everything newer than the
    revision it has.
Rule 2: bounded. Of the runs that changed, the newest MAX_CHANGED are kept; a client that is further behind than the
    oldest of them starts again from a snapshot. Nothing here is kept per client.
Not here: where the state comes from (`feed`).
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from .rows import Row

MAX_CHANGED: Final = 300
"""Changed runs kept for clients that are a little behind; about one screenful of news."""
MAX_FRAME: Final = 256 * 1024
"""Characters, which are bytes, of one frame; changes that do not fit come with the next one."""
ENVELOPE: Final = 300
"""Of which everything but parts and rows takes no more than this."""


@frozen
class Frame:
    """A text to send, and the revision that whoever has it is at."""

    text: str
    rev: int


@frozen
class Recent:
    """The recent runs as they were at `rev`, newest first, as JSON texts."""

    rev: int
    rows: tuple[str, ...]


def encode(value: Any) -> str:
    """As JSON in ASCII: lone surrogates in somebody's error message then harm nobody."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


@define(eq=False)
class Board:
    """One per monitor."""

    rev: int = 0
    """Counts every change."""
    floor: int = 0
    """Whoever is behind this revision has missed something that is no longer here."""
    _runs: OrderedDict[str, tuple[int, str]] = field(factory=OrderedDict)
    """By id: revision and JSON, the latest change last."""
    _parts: dict[str, tuple[int, str]] = field(factory=dict)
    """`tree`, `queues`, `stats`, `schedules`."""

    def put_runs(self, rows: Iterable[Row]) -> None:
        """These runs changed. What did not change after all is no news."""
        for row in rows:
            text = encode(row)
            known = self._runs.get(row["id"])
            if known is not None and known[1] == text:
                continue
            self.rev += 1
            self._runs[row["id"]] = (self.rev, text)
            self._runs.move_to_end(row["id"])
        while len(self._runs) > MAX_CHANGED:
            _, (self.floor, _) = self._runs.popitem(last=False)

    def put_part(self, name: str, value: Row | list[Row]) -> None:
        """The newest state of a part."""
        text = encode(value)
        if name not in self._parts or self._parts[name][1] != text:
            self.rev += 1
            self._parts[name] = (self.rev, text)

    def beat(self) -> None:
        """Nothing changed, and that is news."""
        self.rev += 1

    def forget_runs(self) -> None:
        """More changed than is known here: every client has to start again."""
        self._runs.clear()
        self.rev += 1
        self.floor = self.rev

    def recent(self, rows: Sequence[Row]) -> Recent:
        """A snapshot's runs; what was put before is in them."""
        return Recent(self.rev, tuple([encode(row) for row in rows]))

    def snapshot(self, recent: Recent, now_us: int) -> Frame:
        """Everything; its runs as they were at `recent.rev`, and the later changes follow as a delta."""
        fit = _fitting(recent.rows, self._parts)
        return _frame("snapshot", recent.rev, now_us, self._parts, recent.rows[:fit])

    def delta(self, since: int, now_us: int) -> Frame:
        """What is newer than `since`, as far as one frame takes it: the oldest changes first."""
        assert since >= self.floor, "a client that is behind starts again"
        parts = {name: part for name, part in self._parts.items() if part[0] > since}
        newer = []
        for rev, text in reversed(self._runs.values()):
            if rev <= since:
                break
            newer.append((rev, text))
        newer.reverse()
        texts = [text for _, text in newer]
        fit = _fitting(texts, parts)
        upto = self.rev if fit == len(newer) else newer[fit - 1][0]
        return _frame("delta", upto, now_us, parts, texts[:fit])


def _fitting(rows: Sequence[str], parts: dict[str, tuple[int, str]]) -> int:
    """How many of `rows`, from the first, one frame takes beside `parts`; one always fits, or nothing would ever move."""
    room = MAX_FRAME - ENVELOPE - sum(len(text) for _, text in parts.values())
    for n, row in enumerate(rows):
        room -= len(row) + 1
        if room < 0 and n:
            return n
    return len(rows)


def _frame(kind: str, rev: int, now_us: int, parts: dict[str, tuple[int, str]], rows: Sequence[str]) -> Frame:
    members = [f'"type":"{kind}","rev":{rev},"now_us":{now_us}']
    members += [f'"{name}":{text}' for name, (_, text) in parts.items()]
    members.append(f'"runs":[{",".join(rows)}]')
    return Frame(f"{{{','.join(members)}}}", rev)
