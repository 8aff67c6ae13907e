"""
What a declaration may say of a task, checked and with nothing left open.

Rule: everything that can be wrong with an option is found when it is declared, not when a run fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict

from attrs import frozen

from .enqueue import timeout_us
from .errors import InvalidOption, shown
from .names import check_name
from .store.policy import Retry, RetryPolicy, seconds

if TYPE_CHECKING:
    from .jobs import Jobs

DEFAULT_SCHEMA: Final = "1"
DEFAULT_STUCK_S: Final = 30.0
MAX_STUCK_S: Final = 366 * 86_400.0
MAX_OLDER: Final = 20
"""Aliases of a task, and older schemas that it accepts: every claim looks for each of their pairs."""

OnCrash: TypeAlias = Literal["retry", "dead_letter"]


class TaskOptions(TypedDict, total=False):
    """What `jobs.task`, `jobs.register` and the keywords of a Job class take beside the name. None: as if left out."""

    retry: Retry | None
    """Put over the instance's policy, field by field."""
    timeout: float | None
    """Seconds for one attempt (up to 366 days); left out: the instance's."""
    queue: str | None
    """Name of a declared queue; left out: the default one."""
    schema: str | None
    """Version of the payload's form, stored with each run; default "1"."""
    accepts: tuple[str, ...] | list[str] | None
    """Older schemas whose payloads the handler can read too; at most 20."""
    aliases: tuple[str, ...] | list[str] | None
    """Names that the task had before, the newest first: runs stored under them are its own; at most 20."""
    on_crash: OnCrash | None
    """When the process dies under a run: "retry" it (the default), or "dead_letter" it: it began at most once."""
    stuck_after: float | None
    """Seconds that a handler may go on after it was told to stop, before its run is shown as stuck."""


@frozen
class Declared:
    """A task without its handler."""

    name: str
    queue: str
    """`namespace/queue`."""
    schema: str
    accepts: tuple[str, ...]
    aliases: tuple[str, ...]
    policy: RetryPolicy
    timeout_us: int | None
    on_crash: OnCrash
    stuck_after_s: float


def declared(jobs: Jobs, name: object, options: Mapping[str, Any], *, what: str = "task name") -> Declared:
    """
    What `options` make of a task of `jobs`; what they leave out comes from the instance.

    Raises InvalidName, UnknownQueue, InvalidOption or TypeError.
    """
    check_known(options)
    given = {key: value for key, value in options.items() if value is not None}
    checked = check_name(name, what)
    schema = check_name(given.get("schema", DEFAULT_SCHEMA), "schema")
    return Declared(
        checked,
        jobs.queue_named(given["queue"]) if "queue" in given else next(iter(jobs.declared_queues)),
        schema,
        _older(given.get("accepts", ()), "accepts", schema),
        _older(given.get("aliases", ()), "aliases", checked),
        jobs.retry_policy.over(_retry(given.get("retry"))),
        timeout_us(given["timeout"]) if "timeout" in given else jobs.timeout_us,
        _on_crash(given.get("on_crash", "retry")),
        stuck_after_s(given["stuck_after"]) if "stuck_after" in given else jobs.stuck_after_s,
    )


def check_known(options: Mapping[str, Any]) -> None:
    """Raises TypeError that names an option which no task has."""
    unknown = options.keys() - TaskOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"a task has no option {min(unknown)!r}; it has {', '.join(TaskOptions.__annotations__)}")


def stuck_after_s(value: object) -> float:
    """`stuck_after` in seconds (0 … 366 days). Raises InvalidOption or TypeError."""
    try:
        return seconds(value, "stuck_after", most=MAX_STUCK_S)
    except ValueError as error:
        raise InvalidOption("stuck_after", str(error).removeprefix("stuck_after ")) from None


def _retry(retry: object) -> Retry | None:
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
    return retry


def _older(values: object, what: str, current: str) -> tuple[str, ...]:
    if not isinstance(values, tuple | list):
        raise TypeError(f'{what} must be a tuple of names, as in {what}=("old",), not {type(values).__name__}')
    if len(values) > MAX_OLDER:
        raise InvalidOption(what, f"has {len(values)} names, the limit is {MAX_OLDER}")
    for n, value in enumerate(values):
        check_name(value, what)
        if value == current:
            raise InvalidOption(what, f"{value!r} is the current one")
        if value in values[:n]:
            raise InvalidOption(what, f"{value!r} is there twice")
    return tuple(values)


def _on_crash(value: object) -> OnCrash:
    if value == "retry":
        return "retry"
    if value == "dead_letter":
        return "dead_letter"
    raise InvalidOption("on_crash", f'must be "retry" or "dead_letter", not {shown(value)}')
