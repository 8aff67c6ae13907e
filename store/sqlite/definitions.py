"""
Publish: what the runtimes that run Jobs instances say of them, one row of each.

Rule: the last one wins.
Not here: what is in a body (whoever publishes), reading it (`reader`).
"""

from __future__ import annotations

from ..contract import Publish
from ..records import Now
from .ledger import Ledger


def publish(ledger: Ledger, command: Publish, now: Now) -> None:
    """Keep what was said, in place of what was said before."""
    ledger.db.executemany(
        "insert or replace into definitions(jobs, body, published_us) values (?, ?, ?)",
        [(said.jobs, said.body, now.steady_us) for said in command.definitions],
    )
