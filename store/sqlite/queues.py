"""
SetQueue: what is said of a queue at run time, one row of each queue.

Rule: a claim never reads these rows; it looks at what the ledger keeps in mind of them.
Not here: what a SetQueue makes of what was said before (`..arithmetic`).
"""

from __future__ import annotations

from typing import Final

from attrs import astuple

from ..arithmetic import override_after
from ..contract import SetQueue
from ..records import Now, QueueOverride
from .codes import OVERRIDE_COLUMNS
from .ledger import Ledger

_WRITE: Final = f"insert or replace into queues({OVERRIDE_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


def set_queue(ledger: Ledger, command: SetQueue, now: Now) -> QueueOverride:
    """Write what holds of a queue from now on."""
    override = override_after(ledger.overrides.get(command.queue), command, now)
    ledger.db.execute(_WRITE, astuple(override))
    ledger.overrides[command.queue] = override
    return override
