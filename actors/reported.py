"""
Exits and supervision reports as plain data and as lines of a log.

Rule: never raises, whatever the error inside does when it is looked at, and is bounded like everything that is shown.
Not here: what is reported, and to whom (`events`).
"""

from __future__ import annotations

import logging
import math
from typing import Any, Final, assert_never

from ..store.described import bounded, describe
from .events import (
    BecameZombie,
    ChildParked,
    CouldNotStart,
    Delayed,
    Ended,
    GaveUp,
    Report,
    Started,
    StopOverran,
    Then,
)
from .exits import Exit, error_of, is_abnormal

_log = logging.getLogger("callsheet.supervisor")

MAX_MESSAGE: Final = 1_000
"""Bytes of an error's message in a report; whole ones and tracebacks are in the log."""
_TOLD_NEXT: Final = (Then.PARKED, Then.GAVE_UP)
"""A report of its own follows these, with the error: one traceback is enough."""


def error_data(error: BaseException) -> dict[str, str]:
    """An error as `{"type", "message"}`: at most 200 and 1,000 bytes."""
    told = describe(error)
    return {"type": told.type, "message": bounded(told.message, MAX_MESSAGE)}


def exit_data(exit_: Exit) -> dict[str, Any]:
    """An exit as `{"kind", "abnormal"}` and, where it has them, `"reason"` and `"error"`: JSON values only."""
    data: dict[str, Any] = {"kind": _snake(type(exit_).__name__), "abnormal": is_abnormal(exit_)}
    reason, error = getattr(exit_, "reason", None), error_of(exit_)
    if reason is not None:
        data["reason"] = bounded(f"{reason}", MAX_MESSAGE)
    if error is not None:
        data["error"] = error_data(error)
    return data


def report_data(report: Report) -> dict[str, Any]:
    """A report as `{"type", "path", ...}` and the fields it has: JSON values only."""
    data: dict[str, Any] = {"type": _snake(type(report).__name__), "path": report.path}
    match report:
        case Started(generation=generation) | BecameZombie(generation=generation):
            data |= {"generation": generation}
        case Ended(generation=generation, exit=exit_, then=then):
            data |= {"generation": generation, "exit": exit_data(exit_), "then": str(then)}
        case CouldNotStart(generation=generation, error=error):
            data |= {"generation": generation, "error": error_data(error)}
        case StopOverran(budget_s=budget_s, exit=maybe, count=count):
            data |= {"budget_s": _finite(budget_s), "exit": None if maybe is None else exit_data(maybe), "count": count}
        case Delayed(delay_s=delay_s, generation=generation):
            data |= {"delay_s": _finite(delay_s), "generation": generation}
        case ChildParked(exit=exit_):
            data |= {"exit": exit_data(exit_)}
        case GaveUp(error=error):
            data |= {"error": error_data(error)}
        case _:
            assert_never(report)
    return data


def sentence(report: Report) -> str:
    """A report as one sentence."""
    path = report.path or "the root"
    match report:
        case Started(generation=generation):
            return f"{path} has started (generation {generation})"
        case Ended(generation=generation, exit=exit_, then=then):
            return f"{path} (generation {generation}) ended: {_exit_text(exit_)}; it is {_FOLLOWS[then]}"
        case CouldNotStart(generation=generation, error=error):
            return f"{path} (generation {generation}) could not start: {_error_text(error)}"
        case StopOverran(budget_s=budget_s, exit=exit_, count=count):
            who = path if count == 1 else f"{path} ({count:,} children)"
            if exit_ is None:
                return f"{who} did not stop within {budget_s:g} s"
            return f"{who} was told to stop and ended otherwise: {_exit_text(exit_)}"
        case Delayed(delay_s=delay_s, generation=generation):
            return f"{path} is started again in {delay_s:g} s (generation {generation})"
        case ChildParked(exit=exit_):
            return f"{path} is parked: {_exit_text(exit_)}"
        case BecameZombie(generation=generation):
            return f"{path} (generation {generation}) ignores cancellation: left behind as a zombie"
        case GaveUp(error=error):
            return f"supervisor {path} gave up: {_error_text(error)}"
        case _:
            assert_never(report)


_FOLLOWS: Final = {
    Then.RESTARTED: "restarted",
    Then.RESTARTED_LATER: "restarted after a delay",
    Then.LEFT: "not restarted",
    Then.PARKED: "parked",
    Then.GAVE_UP: "not restarted: its supervisor gives up",
    Then.GIVEN_UP: "not restarted: it has ended too often",
    Then.STOPPED: "not restarted: it was told to stop",
}


def log_report(report: Report) -> None:
    """
    Write `report` to the log `callsheet.supervisor`; a listener for `Reports.listen`.

    Starts and ends that call for nothing are debug, restarts and stops that overran warnings, what is down for longer
    errors. With the traceback of the error behind it, where there is one.
    """
    level = _level(report)
    if _log.isEnabledFor(level):
        _log.log(level, "%s", sentence(report), exc_info=_error_behind(report))


def _level(report: Report) -> int:
    match report:
        case Started():
            return logging.DEBUG
        case Ended(then=then) if then in _TOLD_NEXT:
            return logging.INFO
        case Ended(exit=exit_, then=Then.LEFT | Then.STOPPED) if not is_abnormal(exit_):
            return logging.DEBUG
        case Ended():
            return logging.WARNING
        case Delayed():
            return logging.INFO
        case StopOverran():
            return logging.WARNING
        case CouldNotStart() | ChildParked() | BecameZombie() | GaveUp():
            return logging.ERROR
        case _:
            assert_never(report)


def _error_behind(report: Report) -> BaseException | None:
    match report:
        case Ended(then=then) if then in _TOLD_NEXT:
            return None
        case Ended(exit=exit_) | ChildParked(exit=exit_):
            return error_of(exit_)
        case StopOverran(exit=maybe):
            return None if maybe is None else error_of(maybe)
        case CouldNotStart(error=error) | GaveUp(error=error):
            return error
        case _:
            return None


def _exit_text(exit_: Exit) -> str:
    data = exit_data(exit_)
    text = str(data["kind"]).replace("_", " ")
    if "reason" in data:
        text += f" ({data['reason']})"
    if "error" in data:
        text += f": {data['error']['type']}: {data['error']['message']}"
    return text


def _error_text(error: BaseException) -> str:
    data = error_data(error)
    return f"{data['type']}: {data['message']}"


def _finite(seconds: float) -> float | None:
    """JSON has no infinity, and supervisors have that budget."""
    return seconds if math.isfinite(seconds) else None


def _snake(name: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name).lstrip("_")
