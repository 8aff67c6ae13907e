"""The seed of a proof: a new one each time, unless `CALLSHEET_SEED` says which."""

from __future__ import annotations

import os
import secrets


def some_seed() -> int:
    """It repeats the workload and the plan of the kills; a real machine repeats no moment."""
    return int(os.environ.get("CALLSHEET_SEED") or secrets.randbits(32))
