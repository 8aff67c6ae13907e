"""
Where the actors of a runtime stand in the tree.

Rule: a path is put together here and nowhere else.
"""

from __future__ import annotations

from typing import Final

SCHEDULER: Final = "/scheduler"
JOURNAL: Final = "/journal"
CALENDAR: Final = "/calendar"
TASKS: Final = "/tasks"
QUEUES: Final = "/queues"
MONITOR: Final = "/monitor"
RETENTION: Final = "/retention"


def jobs(identity: str) -> str:
    """Above the tasks of a Jobs instance; `identity` is `namespace/name`."""
    return f"{TASKS}/{identity}"


def task(jobs: str, name: str) -> str:
    """The supervisor of a task; `jobs` is `namespace/name`."""
    return f"{TASKS}/{jobs}/{name}"


def queue(identity: str) -> str:
    """The actor of a queue; `identity` is `namespace/queue`."""
    return f"{QUEUES}/{identity}"
