"""
Retention: how long runs are kept once they have ended. Off, unless somebody says otherwise.

Rule: data, checked when made.
Not here: who forgets them, and when (`callsheet.supervisor.pruner`); how (the store).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import field, frozen

from .errors import InvalidOption
from .store.policy import SECOND_US, seconds
from .store.records import Status
from .supervisor.pruner import Kept

if TYPE_CHECKING:
    from .jobs import Jobs

LEAST_S: Final = 1.0
MOST_S: Final = 10 * 365 * 86_400.0

Seconds: TypeAlias = float | timedelta | None


def _keep_s(value: Seconds, name: str) -> float | None:
    if value is None:
        return None
    what = f"Retention({name})"
    try:
        return seconds(value, what, least=LEAST_S, most=MOST_S)
    except ValueError as error:
        raise InvalidOption(what, str(error).removeprefix(f"{what} ")) from None


def _succeeded(value: Seconds) -> float | None:
    return _keep_s(value, "succeeded")


def _dead_lettered(value: Seconds) -> float | None:
    return _keep_s(value, "dead_lettered")


def _canceled(value: Seconds) -> float | None:
    return _keep_s(value, "canceled")


@frozen(kw_only=True)
class Retention:
    """
    How long runs are kept once they have ended, by how they ended: seconds or a timedelta, 1 s to 10 years; None: for ever.

    What is older is forgotten within about a minute: the run with its payload, result and history, and its idempotency key.

    Raises InvalidOption or TypeError that names the field.
    """

    succeeded: float | None = field(default=None, converter=_succeeded)
    dead_lettered: float | None = field(default=None, converter=_dead_lettered)
    canceled: float | None = field(default=None, converter=_canceled)

    @property
    def by_status(self) -> dict[Status, float]:
        """Seconds, for those that are not kept for ever."""
        said = {
            Status.SUCCEEDED: self.succeeded,
            Status.DEAD_LETTERED: self.dead_lettered,
            Status.CANCELED: self.canceled,
        }
        return {status: keep_s for status, keep_s in said.items() if keep_s is not None}


def kept_by(jobs: Jobs) -> list[Kept]:
    """What is to be forgotten of an instance."""
    return [Kept(jobs.identity, status, int(keep_s * SECOND_US)) for status, keep_s in jobs.retention.by_status.items()]
