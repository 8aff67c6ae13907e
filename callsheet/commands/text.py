"""
Text that is safe to show: names, errors and payloads come from whoever enqueues, and may hold anything.

Rule: what a terminal would obey instead of show is shown as an escape (`\\x1b`), also where no terminal reads it: somebody
will look at the file in one.
Not here: where it is written (`paper`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from ..names import HIDDEN
from ..store.records import instant

_PASSWORD: Final = re.compile(r"(://[^/@\s:]*:)[^/@\s]+(@)")
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def escaped(text: str, *, keep: str = "") -> str:
    """`text` with everything that has no glyph of its own as an escape, except the characters of `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([each if each in keep else _shown(each) for each in text])


def _shown(char: str) -> str:
    return ascii(char)[1:-1] if unicodedata.category(char) in HIDDEN else char


def masked(text: str) -> str:
    """`text` with the passwords of URLs as asterisks."""
    return _PASSWORD.sub(r"\1***\2", text)


def first_line(text: str, most: int = 200) -> str:
    """The beginning of a message, for one cell of a table."""
    line, *more = text.strip().split("\n", 1)
    return f"{line[:most]}…" if more or len(line) > most else line


def at(us: int | None) -> str:
    """Microseconds UTC for people, to the millisecond; empty for None."""
    return "" if us is None else f"{instant(us):%Y-%m-%d %H:%M:%S}.{us // 1000 % 1000:03}Z"


def us_of(when: datetime | None) -> int | None:
    """Microseconds UTC of a time."""
    return None if when is None else (when - instant(0)) // timedelta(microseconds=1)


def rfc3339(us: int | None) -> str | None:
    """Microseconds UTC for programs."""
    return None if us is None else f"{instant(us):%Y-%m-%dT%H:%M:%S}.{us % 1_000_000:06}Z"


def age(us: int) -> str:
    """How long ago something was, or how far off it is, in one unit: `12s`, `3m`, `5h`, `9d`."""
    seconds = abs(us) // 1_000_000
    for most, unit, each in ((120, 1, "s"), (7_200, 60, "m"), (172_800, 3_600, "h")):
        if seconds < most:
            return f"{seconds // unit}{each}"
    return f"{seconds // 86_400}d"


def lasting(us: int) -> str:
    """How long something took, in the unit that says most."""
    seconds = us / 1_000_000
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds)))


def duration_s(text: str) -> float | None:
    """`90`, `1.5h`, `2d` in seconds; None for what is no duration."""
    found = _DURATION.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def counted(n: int, what: str) -> str:
    """`1 run`, `1,204 runs`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def listed(names: Iterable[Any], most: int = 5) -> str:
    """Some names, and how many more there are."""
    every = [str(each) for each in names]
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
