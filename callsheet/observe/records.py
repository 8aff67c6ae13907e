"""
The records of the log that events make.

Rule: fixed templates, filled in only where somebody reads them; the same facts under the same names with each record, as
`ctx.log` has them. Tracebacks are kept with the attempt; they are in the log for whoever reads it at DEBUG.
Not here: which level (`observability`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from ..store.records import instant
from .event import Event, EventKind
from .observability import Observability

_log = logging.getLogger("callsheet.run")

MAX_ERROR: Final = 1_000
"""Characters of what was raised, in a record; the attempt has 16 KiB of it."""

_WHICH: Final = "run %(run_id)s of task %(task)s"
_ATTEMPT: Final = f"{_WHICH}: attempt %(attempt)d"

TEMPLATES: Final[Mapping[EventKind, str]] = {
    EventKind.ENQUEUED: f"{_WHICH}: enqueued%(due)s",
    EventKind.REPLAYED: f"{_WHICH}: enqueued%(due)s, as a replay of %(replay_of)s",
    EventKind.DEDUPED: f"{_WHICH}: requested again, it is there already (%(status)s)",
    EventKind.STARTED: f"{_ATTEMPT} started, %(waited)s after it was due",
    EventKind.SUCCEEDED: f"{_ATTEMPT} succeeded%(after)s",
    EventKind.FAILED: f"{_ATTEMPT} failed%(after)s%(raised)s",
    EventKind.TIMED_OUT: f"{_ATTEMPT} timed out%(after)s",
    EventKind.DISCARDED: f"{_ATTEMPT} was discarded%(after)s: %(cause)s",
    EventKind.SNOOZED: f"{_ATTEMPT} snoozed%(after)s, it goes on %(next)s",
    EventKind.UNREADABLE: f"{_ATTEMPT} cannot read its payload, it is tried again %(next)s%(raised)s",
    EventKind.INTERRUPTED: f"{_ATTEMPT} was interrupted%(after)s, it waits again",
    EventKind.CRASHED: f"{_ATTEMPT}: its process died",
    EventKind.LEASE_LOST: f"{_ATTEMPT}: its lease was lost",
    EventKind.CANCELED: f"{_WHICH}: canceled%(after)s",
    EventKind.RETRYING: f"{_ATTEMPT} %(cause)s, the next one is due %(next)s%(raised)s",
    EventKind.DEAD_LETTERED: f"{_WHICH}: dead-lettered after attempt %(attempt)d (%(cause)s)%(raised)s",
}


class Records:
    """Those of one Jobs instance."""

    def __init__(self, policy: Observability) -> None:
        self._level_of: dict[EventKind, int] = {}
        for kind in TEMPLATES:
            level = policy.level_of(kind)
            if level is not None:
                self._level_of[kind] = level
        self._levels = sorted(set(self._level_of.values()))

    def lowest(self) -> int | None:
        """The lowest level that somebody would read; None for no record at all. Cheap: asked at each commit."""
        for level in self._levels:
            if _log.isEnabledFor(level):  # anybody may set levels at any time, and this knows it by a look into a dict
                return level
        return None

    def kinds(self, lowest: int | None) -> frozenset[EventKind]:
        """The events that make a record while `lowest` is the lowest level that somebody reads."""
        if lowest is None:
            return frozenset()
        return frozenset(kind for kind, level in self._level_of.items() if level >= lowest)

    def write(self, event: Event) -> None:
        """Log it, where it makes a record."""
        level = self._level_of.get(event.kind)
        if level is None or not _log.isEnabledFor(level):
            return
        facts = facts_of(event)
        _log.log(level, TEMPLATES[event.kind], _words(event, facts), extra=facts)
        error = event.error
        if error is not None and error.traceback and event.took_us is not None and _log.isEnabledFor(logging.DEBUG):
            _log.debug("run %s, attempt %d raised:\n%s", event.run_id, event.attempt, error.traceback, extra=facts)


def facts_of(event: Event) -> dict[str, Any]:
    """What a record of the log carries beside its message."""
    error = event.error
    return {
        "event": str(event.kind),
        "jobs": event.jobs,
        "task": event.task,
        "queue": event.queue,
        "run_id": event.run_id,
        "attempt": event.attempt,
        "status": str(event.status),
        "trace_id": event.trace_id,
        "cause": event.cause,
        "error": None if error is None else f"{error.type}: {_line(error.message)}",
    }


def _words(event: Event, facts: dict[str, Any]) -> dict[str, Any]:
    """What the templates name."""
    when = None if event.due_us is None else f"at {instant(event.due_us).isoformat(timespec='seconds')}"
    return facts | {
        "cause": event.cause or "no cause is known",
        "raised": "" if event.error is None else f": {facts['error']}",
        "replay_of": event.replay_of,
        "waited": _seconds(event.waited_us or 0),
        "after": "" if event.took_us is None else f" after {_seconds(event.took_us)}",
        "due": "" if when is None else f", due {when}",
        "next": when or "at once",
    }


def _line(text: str) -> str:
    """What a stranger's exception says, as a part of one line of the log."""
    clipped = text if len(text) <= MAX_ERROR else f"{text[:MAX_ERROR]}…"
    return clipped.replace("\r", "\\r").replace("\n", "\\n")


def _seconds(us: int) -> str:
    return f"{us / 1e6:.3f} s"
