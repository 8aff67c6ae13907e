"""
Whether this program wants spans and metrics of OpenTelemetry, found out without importing it.

Rule: a program that does not use OpenTelemetry never loads it through us; one that does need not tell us.
Not here: what is made with it (`otel`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .observability import Observability

if TYPE_CHECKING:
    from .otel import Metrics, Tracing


def tracing_for(policy: Observability, jobs: str) -> Tracing | None:
    """What makes the spans of these jobs, where they are wanted by now."""
    if policy.traces is None and not _is_set_up("opentelemetry.trace", "get_tracer_provider"):
        return None
    if policy.traces is False:
        return None
    from .otel import Tracing

    return Tracing(jobs)


def metrics_for(policy: Observability) -> Metrics | None:
    """The listener that counts, where that is wanted by now."""
    if policy.metrics is None and not _is_set_up("opentelemetry.metrics", "get_meter_provider"):
        return None
    if policy.metrics is False:
        return None
    from .otel import Metrics

    return Metrics()


def _is_set_up(module: str, provider: str) -> bool:
    """Whether the program has loaded that part, and chosen where its data goes: the parts' own providers go nowhere."""
    loaded = sys.modules.get(module)
    return loaded is not None and not type(getattr(loaded, provider)()).__module__.startswith(module)
