"""
What a client may say, as frozen values, and the one place where its texts become them.

Rule: strict: a field that is missing, unknown, given twice or of another type is refused by name, and nothing is done.
Not here: doing it (`desk`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeAlias

from attrs import frozen

MAX_MESSAGE: Final = 64 * 1024
"""Bytes of one message from a client; ours have a few hundred."""
MAX_ID: Final = 64
MAX_RUN_ID: Final = 128
MAX_REASON: Final = 1_000
MAX_JOBS: Final = 257
"""Characters of `namespace/name`, of which either has 128 bytes at most; a schedule's key has as many."""
MAX_KEY: Final = 128

RequestId: TypeAlias = str | int


@frozen
class Hello:
    """The first message: who asks."""

    token: str


@frozen
class Ack:
    """Everything up to this revision has arrived: send more."""

    rev: int


@frozen
class CancelRun:
    """Cancel this run."""

    id: RequestId
    run_id: str


@frozen
class ReplayRun:
    """Make a new run of this one, which has ended."""

    id: RequestId
    run_id: str
    reason: str | None = None


@frozen
class ShowRun:
    """Tell me more about this run: its attempts and transitions."""

    id: RequestId
    run_id: str


@frozen
class ShowSchedule:
    """Tell me more about this schedule: the times to come, and what became of the last ones."""

    id: RequestId
    jobs: str
    key: str


@frozen
class PauseSchedule:
    """Request nothing more of this schedule until it is resumed."""

    id: RequestId
    jobs: str
    key: str


@frozen
class ResumeSchedule:
    """End the pause of this schedule."""

    id: RequestId
    jobs: str
    key: str


@frozen
class TriggerSchedule:
    """Request a run of this schedule now."""

    id: RequestId
    jobs: str
    key: str


RunOrder: TypeAlias = CancelRun | ReplayRun | ShowRun
ScheduleOrder: TypeAlias = PauseSchedule | ResumeSchedule | TriggerSchedule | ShowSchedule
Order: TypeAlias = RunOrder | ScheduleOrder
"""What is answered with `done` or `error`."""
Message: TypeAlias = Hello | Ack | Order


class BadMessage(Exception):
    """Not a message of this protocol."""

    def __init__(self, code: str, message: str, request_id: RequestId | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.request_id = request_id


def parse(text: str | bytes) -> Message:
    """The message in `text`. Raises BadMessage."""
    if isinstance(text, bytes):
        raise BadMessage("not_text", "messages are text frames")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise BadMessage("not_json", f"not JSON: {str(error)[:80]}") from None
    if not isinstance(value, dict):
        raise BadMessage("not_object", "a message is a JSON object")
    kind, request_id = value.pop("type", None), value.get("id")
    if not _is_id(request_id):
        request_id = None
    if not isinstance(kind, str) or kind not in _MESSAGES:
        raise BadMessage("unknown_type", f"type must be one of {', '.join(_MESSAGES)}", request_id)
    make, required, optional = _MESSAGES[kind]
    for name in value:
        if name not in required and name not in optional:
            raise BadMessage("unknown_field", f"{kind} has no field {name[:40]!a}", request_id)
    for name in required:
        if name not in value:
            raise BadMessage("missing_field", f"{kind} needs {name}", request_id)
    for name, each in value.items():
        what, fits = _FIELDS[name]
        if not fits(each):
            raise BadMessage("bad_field", f"{name} must be {what}", request_id)
    return make(**value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _is_text(most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= MAX_ID) or _is_int(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


_FIELDS: Final[dict[str, tuple[str, Callable[[object], bool]]]] = {
    "token": ("a text", _is_text(1_000)),
    "rev": ("an integer from 0", _is_int),
    "id": (f"a text of at most {MAX_ID} characters, or an integer from 0", _is_id),
    "run_id": (f"a text of at most {MAX_RUN_ID} characters", _is_text(MAX_RUN_ID)),
    "jobs": (f"a text of at most {MAX_JOBS} characters", _is_text(MAX_JOBS)),
    "key": (f"a text of at most {MAX_KEY} characters", _is_text(MAX_KEY)),
    "reason": (f"a text of at most {MAX_REASON} characters", _is_text(MAX_REASON)),
}

_OF_A_SCHEDULE: Final = frozenset({"id", "jobs", "key"})

# {type: (class, fields it needs, fields it may have)}
_MESSAGES: Final[dict[str, tuple[Callable[..., Message], frozenset[str], frozenset[str]]]] = {
    "hello": (Hello, frozenset({"token"}), frozenset()),
    "ack": (Ack, frozenset({"rev"}), frozenset()),
    "cancel": (CancelRun, frozenset({"id", "run_id"}), frozenset()),
    "replay": (ReplayRun, frozenset({"id", "run_id"}), frozenset({"reason"})),
    "show": (ShowRun, frozenset({"id", "run_id"}), frozenset()),
    "pause_schedule": (PauseSchedule, _OF_A_SCHEDULE, frozenset()),
    "resume_schedule": (ResumeSchedule, _OF_A_SCHEDULE, frozenset()),
    "trigger_schedule": (TriggerSchedule, _OF_A_SCHEDULE, frozenset()),
    "show_schedule": (ShowSchedule, _OF_A_SCHEDULE, frozenset()),
}
