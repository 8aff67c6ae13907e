"""
Exit statuses: what a script can tell from how a command ended.

Rule: one table. A class of error without a row has that of its base class; numbers are those of sysexits.h, where it has one.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0
NOT_SO: Final = 1
USAGE: Final = 2
DATA: Final = 65
UNAVAILABLE: Final = 69
SOFTWARE: Final = 70
IO: Final = 74
AGAIN: Final = 75
DENIED: Final = 77
CONFIG: Final = 78
INTERRUPTED: Final = 130

MEANINGS: Final[dict[int, str]] = {
    OK: "done",
    NOT_SO: "it is not so: a run that is not there, has failed, cannot be changed; a finding",
    USAGE: "wrong use",
    DATA: "a payload that is no JSON, a file that is damaged or not ours",
    UNAVAILABLE: "not there or taken: the database, published jobs, the lock, a port",
    SOFTWARE: "a mistake inside; handlers that never ended",
    IO: "input or output failed, a disk is full",
    AGAIN: "try again: the store was busy, a wait was over",
    DENIED: "the policy of the jobs denied it",
    CONFIG: "a module:attribute or a place for a database that cannot be used",
    INTERRUPTED: "Ctrl-C",
}

BY_ERROR: Final[dict[str, int]] = {
    # what was asked is not so
    "RunNotFound": NOT_SO,
    "RunNotFinished": NOT_SO,
    "ScheduleNotFound": NOT_SO,
    "RunFailed": NOT_SO,
    "ResultNotKept": NOT_SO,
    "IdempotencyConflict": NOT_SO,
    "IllegalMove": NOT_SO,
    # what was typed
    "AmbiguousRun": USAGE,
    "UnknownTask": USAGE,
    "UnknownQueue": USAGE,
    "InvalidName": USAGE,
    "InvalidOption": USAGE,
    "InvalidSchedule": USAGE,
    "NotRegistered": USAGE,
    "TooMany": USAGE,
    # data
    "PayloadInvalid": DATA,
    "PayloadTooLarge": DATA,
    "ForeignDatabase": DATA,
    "DamagedStore": DATA,
    "NewerSchema": DATA,
    # what is not there, or taken
    "NoStore": UNAVAILABLE,
    "NotPublished": UNAVAILABLE,
    "StoreHeld": UNAVAILABLE,
    "OlderSchema": UNAVAILABLE,  # who holds it is of an older release
    "CannotListen": UNAVAILABLE,
    "NotOpen": UNAVAILABLE,
    "StoreClosed": UNAVAILABLE,
    # the disk
    "StoreFull": IO,
    "StoreUnavailable": IO,
    "OutcomeUnknown": IO,
    "OSError": IO,
    # another time
    "StoreBusy": AGAIN,
    "WaitTimeout": AGAIN,
    "Overloaded": AGAIN,
    "ShuttingDown": AGAIN,
    "PolicyDenied": DENIED,
    # settings
    "CannotOpen": CONFIG,
    "CannotLoad": CONFIG,
    "AlreadyDeclared": CONFIG,
    "SettingRefused": CONFIG,
}
"""By the name of the class: nothing has to be loaded for a table."""


def status_of(error: BaseException) -> int:
    """With which status a command ends that raised this; SOFTWARE for what has no row."""
    return next((BY_ERROR[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in BY_ERROR), SOFTWARE)


def told(*, markdown: bool) -> str:
    """The table, for the end of `--help`: as typer takes markdown, or as text."""
    if markdown:
        return "\n\n".join(["Exit status:", *(f"- `{status}` {meaning}" for status, meaning in MEANINGS.items())])
    return "\n".join(["\b", "Exit status:", *(f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())])
