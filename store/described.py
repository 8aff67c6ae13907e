"""
Exceptions as text: what a stored error tells, and its stored form.

Rule: never raises, whatever the exception does when it is looked at, and never holds more than it is allowed to. Values of
    local variables are not in it.
Not here: what an exception means for its run (`..actors.ending`).
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Final

from .records import Error

MAX_TYPE: Final = 200
MAX_MESSAGE: Final = 16 * 1024
MAX_TRACEBACK: Final = 64 * 1024
"""Bytes of UTF-8, all three."""
MAX_FRAMES: Final = 40
"""Of one exception; the innermost ones."""
MAX_EXCEPTIONS: Final = 10
"""Causes and members of groups that a traceback tells of."""


def describe(error: BaseException) -> Error:
    """
    An exception as text: type name, message (at most 16 KiB), traceback (at most 64 KiB).

    The traceback has causes, and the members of a group, bounded in number. Never raises.
    """
    return Error(_name(error), bounded(_message(error), MAX_MESSAGE), bounded(_traceback(error), MAX_TRACEBACK))


def _name(error: BaseException) -> str:
    try:
        return bounded(_plain_text(type(error).__name__), MAX_TYPE)
    except BaseException:  # noqa: BLE001 - its metaclass is a stranger's code
        return "an exception that does not tell its name"


def _message(error: BaseException) -> str:
    try:
        return _plain_text(str(error))
    except BaseException:  # noqa: BLE001 - its __str__ is a stranger's code
        return f"<unprintable {_name(error)}>"


def _plain_text(text: str) -> str:
    """A str that is nothing but one: a subclass may lie about its length."""
    return "".join([text, ""])  # noqa: FLY002 - an f-string would ask the subclass


def _traceback(error: BaseException) -> str:
    told: list[str] = []
    size = 0
    for each, role in islice(_family(error), MAX_EXCEPTIONS):
        part = f"{role}{_frames(each)}{_name(each)}: {bounded(_message(each), 1_000)}\n"
        told.append(part)
        size += len(part)
        if size > MAX_TRACEBACK:
            break
    return "\n".join(told)


def _family(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """An exception, what caused it, and the members of groups; each once, nearest first, and no recursion."""
    waiting = [(error, "")]
    seen: set[int] = set()
    while waiting:
        one, role = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one, role
        try:
            cause = one.__cause__ if one.__suppress_context__ else one.__cause__ or one.__context__
            if isinstance(cause, BaseException):
                waiting.append((cause, f"caused {_name(one)}:\n"))
            if isinstance(one, BaseExceptionGroup):
                members = islice(one.exceptions, MAX_EXCEPTIONS)
                waiting.extend((each, f"in {_name(one)}:\n") for each in members)
        except BaseException:  # noqa: BLE001, S112 - its attributes are a stranger's code
            continue


def _frames(error: BaseException) -> str:
    try:
        frames = traceback.extract_tb(error.__traceback__, limit=-MAX_FRAMES)
        return "".join(traceback.format_list(frames))
    except BaseException:  # noqa: BLE001 - frames name files and modules that may be gone or lie
        return ""


def bounded(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of UTF-8, with what cannot be UTF-8 written as escapes."""
    body = text[:limit].encode("utf-8", "backslashreplace")
    if len(text) <= limit and len(body) <= limit:
        return body.decode()
    end = f"… ({len(text):,} characters in all)"
    return body[: limit - len(end.encode())].decode("utf-8", "ignore") + end


def error_to_bytes(error: Error) -> bytes:
    """The stored form."""
    return json.dumps([error.type, error.message, error.traceback], ensure_ascii=False).encode()


def error_from_bytes(body: bytes) -> Error:
    """See `error_to_bytes`."""
    return Error(*json.loads(body))
