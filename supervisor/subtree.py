"""
A supervisor or a pool as the child of another supervisor.

Rule: it has no budget of its own to start or stop in: its children have theirs, and killing it would leave them.
"""

from __future__ import annotations

import math
from typing import Any

from .errors import InvalidSpec
from .pool import Pool, PoolSpec
from .spec import ChildSpec, SupervisorSpec
from .supervisor import Supervisor


def subtree(name: str, spec: SupervisorSpec | PoolSpec, **fields: Any) -> ChildSpec:
    """
    The ChildSpec of a supervisor (or pool) of `spec`; `fields` are those of ChildSpec: restart, intensity, parks, backoff.

    Raises InvalidSpec.
    """
    if not isinstance(spec, SupervisorSpec | PoolSpec):
        raise InvalidSpec(f"subtree {name!r}", (f"spec must be a SupervisorSpec or a PoolSpec, not {spec!r}",))
    make = (lambda: Pool(spec)) if isinstance(spec, PoolSpec) else (lambda: Supervisor(spec))
    kind = "pool" if isinstance(spec, PoolSpec) else "supervisor"
    return ChildSpec(name, make, **{"kind": kind, "stop_budget_s": math.inf, "start_budget_s": math.inf, **fields})
