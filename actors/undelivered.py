"""
Messages that nobody will handle: counted all, sampled some, told of seldom.

Rule 1: counting is synchronous and bounded in time and memory, whatever is sent and to how many paths; it never raises.
Rule 2: the log names paths and types, never what a message holds; samples, for whoever may look at the tree, do.
Not here: who decides that a message is undelivered (mailbox, cell), and dead letters, which are runs.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import trio
from attrs import define, field, frozen

from ..store.described import bounded

_log = logging.getLogger("callsheet.undelivered")

MAX_PATHS: Final = 1_000
"""Paths that are counted one by one; a pool may have 100,000 children, and names may be made up for ever."""
OTHERS: Final = "(others)"
"""Where the paths after those are counted together."""
SAMPLES: Final = 100
"""The last ones that are kept."""
SAMPLES_PER_INTERVAL: Final = 1_000
"""Samples that are taken in one interval: the `repr` of a message is a stranger's code, and may be slow."""
MAX_REPR: Final = 200
"""Bytes of a sample's text."""
MAX_TYPE: Final = 100
"""Bytes, of its class name."""
INTERVAL_S: Final = 10.0
"""Between two lines of the log."""


class Why(StrEnum):
    """Why nobody will handle a message."""

    ENDED = "ended"
    """The actor has ended for good, or never was."""
    STOPPING = "stopping"
    """The actor takes nothing any more: it is about to end."""
    FULL = "full"
    """The mailbox was full, and its policy is to drop what comes."""
    DROPPED_OLDEST = "dropped_oldest"
    """The mailbox was full, and its policy is to drop what has waited longest."""
    COALESCED = "coalesced"
    """A newer message with the same key took its place: nothing is lost, so it is counted only."""
    CRASHED_OVER = "crashed_over"
    """It was in hand when the actor crashed."""
    RESTART = "restart"
    """It waited when the actor was restarted, and the policy is not to keep."""
    PARKED = "parked"
    """The actor is down, and its supervisor has given up on it."""
    LATE_REPLY = "late_reply"
    """An answer that came when nobody waited for it any more."""


@frozen
class Sample:
    """One undelivered message, as text."""

    path: str
    """Where it was sent to."""
    type: str
    text: str
    """Its `repr`, at most 200 bytes."""
    why: Why
    at_s: float
    """On the clock that `Undelivered` was given."""


@define(eq=False)
class Undelivered:
    """What one system did not deliver. `now_s`: seconds on any clock that does not go back."""

    now_s: Callable[[], float]
    total: int = field(default=0, init=False)
    _counts: dict[str, Counter[Why]] = field(factory=dict, init=False)
    _samples: deque[Sample] = field(factory=lambda: deque(maxlen=SAMPLES), init=False)
    _untold: Counter[tuple[str, Why]] = field(factory=Counter, init=False)
    """Since the last line of the log."""
    _last_type: str = field(default="", init=False)
    _interval_ends_s: float | None = field(default=None, init=False)
    _samples_left: int = field(default=SAMPLES_PER_INTERVAL, init=False)

    @trio.lowlevel.enable_ki_protection  # what a repr raises is swallowed: a Ctrl-C must not be among it
    def count(self, path: str, message: object, why: Why) -> None:
        """
        Count `message`, which was sent to `path`; sample it, and write the summary when its time has come.

        What says of itself that it `may_be_lost` is counted only.
        """
        self.total += 1
        key = path if path in self._counts or len(self._counts) < MAX_PATHS else OTHERS
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = Counter()
        counts[why] += 1
        if why is Why.COALESCED or getattr(type(message), "may_be_lost", False) is True:
            return
        self._untold[key, why] += 1
        now_s = self.now_s()
        if self._interval_ends_s is None or now_s >= self._interval_ends_s:
            self._interval_ends_s, self._samples_left = now_s + INTERVAL_S, SAMPLES_PER_INTERVAL
            self._sample(path, message, why, now_s)
            self._summarize()
        elif self._samples_left > 0:
            self._sample(path, message, why, now_s)

    def by_path(self) -> Counter[str]:
        """How many, by the path they were sent to; what coalesced is not among them."""
        return Counter(
            {path: n for path, counts in self._counts.items() if (n := counts.total() - counts[Why.COALESCED])}
        )

    def by_why(self) -> Counter[Why]:
        """How many, by reason."""
        return sum(self._counts.values(), Counter())

    def counts(self) -> dict[str, dict[str, int]]:
        """How many, by path and reason, as plain data; at most 1,000 paths, and `(others)`."""
        return {path: {str(why): n for why, n in counts.items()} for path, counts in self._counts.items()}

    def samples(self) -> tuple[Sample, ...]:
        """The last 100 that were sampled, oldest first; in a flood, the first 1,000 of each 10 seconds are."""
        return tuple(self._samples)

    def flush(self) -> None:
        """Write the summary of what no line has told of yet, now. For the end of a system."""
        if self._untold:
            self._summarize()

    def _sample(self, path: str, message: object, why: Why, now_s: float) -> None:
        self._samples_left -= 1
        self._last_type = _type_name(message)
        self._samples.append(Sample(path, self._last_type, _text(message), why, now_s))

    def _summarize(self) -> None:
        untold, self._untold = self._untold, Counter()
        whys: Counter[Why] = Counter()
        paths: Counter[str] = Counter()
        for (path, why), n in untold.items():
            whys[why] += n
            paths[path] += n
        n = whys.total()
        most, most_n = paths.most_common(1)[0]
        most = most or "the root"
        reasons = ", ".join(f"{each:,} {why}" if len(whys) > 1 else why for why, each in whys.most_common())
        where = most if len(paths) == 1 else f"{len(paths):,} actors, {most_n:,} of them to {most}"
        last = self._last_type
        _log.warning("%s undelivered (%s): sent to %s; a recent one is a %s", _messages(n), reasons, where, last)


def _messages(n: int) -> str:
    return f"{n:,} message{'s are' if n > 1 else ' is'}"


def _type_name(message: object) -> str:
    try:
        return bounded("".join([type(message).__qualname__, ""]), MAX_TYPE)  # noqa: FLY002 -- a subclass of str may lie
    except BaseException:  # noqa: BLE001 -- its metaclass is a stranger's code
        return "message of an unnamed type"


def _text(message: object) -> str:
    try:
        return bounded("".join([repr(message), ""]), MAX_REPR)
    except BaseException as error:  # noqa: BLE001 -- its repr is a stranger's code
        return bounded(f"<a {_type_name(message)} whose repr raises {_type_name(error)}>", MAX_REPR)
