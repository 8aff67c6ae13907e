"""
What a Jobs instance lets others know of its runs by itself: records of the log, spans, metrics.

Rule: data, checked and normalised when made: a level that does not exist is found when it is declared.
Not here: who writes records (`records`), spans and metrics (`otel`); events, which whoever wants them asks for (`bus`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final, Literal, TypeAlias

from attrs import Attribute, field, frozen

from ..errors import InvalidOption, shown
from .event import EventKind

Level: TypeAlias = str | int | Literal[False] | None
"""What may be given for one; kept is its name, or None."""


def _level(value: Level) -> str | None:
    """The name of a level, as `logging` has it; None for no record. What is none stays as it is, for `_is_level`."""
    if value is None or value is False:
        return None
    names = logging.getLevelNamesMapping()
    number = names.get(value, names.get(value.upper())) if isinstance(value, str) else value
    if isinstance(number, int) and not isinstance(number, bool) and number in names.values():
        return logging.getLevelName(number)  # one name for each: WARN is WARNING
    return value  # type: ignore[return-value]


def _is_level(_of: object, attribute: Attribute[Any], value: object) -> None:
    names = logging.getLevelNamesMapping()
    if value is not None and not (isinstance(value, str) and names.get(value)):
        known = ", ".join(name for name, number in names.items() if number)
        what = f"Observability({attribute.name})"
        raise InvalidOption(what, f"must be a level of logging ({known}), or None for no record, not {shown(value)}")


def _is_choice(_of: object, attribute: Attribute[Any], value: object) -> None:
    what = f"Observability({attribute.name})"
    if not (value is None or isinstance(value, bool)):
        raise InvalidOption(what, f"must be True, False or None, not {shown(value)}")
    if value and find_spec("opentelemetry") is None:
        raise InvalidOption(what, "needs OpenTelemetry, which the extra 'otel' brings: pip install 'callsheet[otel]'")


@frozen(kw_only=True)
class Observability:
    """
    What is recorded of runs without anybody asking. The levels are names of `logging` ("INFO", also in lower case); None or
    False: no record. Records go to the logger `callsheet.run`.

    enqueue: a run was requested, or was there already. execution: an attempt began, or ended, in whatever way. retry: a run
    is tried again after an attempt that ended badly, or waits because nobody can read it; with what was raised. replay: a
    new run replays another one. dead_letter: a run was given up.

    traces: spans of OpenTelemetry for requests and attempts. metrics: its counters and histograms. True: always, with
    whatever provider there is. None: where the program has set up a provider by the time that the runtime opens.

    Raises InvalidOption that names the field; also for True where OpenTelemetry is not installed.
    """

    enqueue: str | None = field(default="INFO", converter=_level, validator=_is_level)
    execution: str | None = field(default="INFO", converter=_level, validator=_is_level)
    retry: str | None = field(default="WARNING", converter=_level, validator=_is_level)
    replay: str | None = field(default="INFO", converter=_level, validator=_is_level)
    dead_letter: str | None = field(default="ERROR", converter=_level, validator=_is_level)
    traces: bool | None = field(default=None, validator=_is_choice)
    metrics: bool | None = field(default=None, validator=_is_choice)

    def level_of(self, kind: EventKind) -> int | None:
        """The level of the record of such an event, as a number; None for no record."""
        setting = _SETTINGS.get(kind, "execution")
        name: str | None = None if setting is None else getattr(self, setting)
        return None if name is None else logging.getLevelNamesMapping()[name]


DEFAULT: Final = Observability()

_SETTINGS: Final[Mapping[EventKind, str | None]] = {
    EventKind.ENQUEUED: "enqueue",
    EventKind.DEDUPED: "enqueue",
    EventKind.REPLAYED: "replay",
    EventKind.RETRYING: "retry",
    EventKind.UNREADABLE: "retry",  # it is tried again
    EventKind.DEAD_LETTERED: "dead_letter",
    EventKind.STUCK: None,  # its supervisor says so already, at ERROR, also while the store takes no notes
}
"""By which setting a record is made; of everything else by `execution`."""
