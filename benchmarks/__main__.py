"""`python -m benchmarks NAME [--n N] [--repeat K] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Final

from . import backlog, kernel, latency, retention, runs, timers
from .figures import Report

BENCHMARKS: Final[dict[str, Callable[[int | None, int], Report]]] = {
    "runs": runs.measure,
    "backlog": backlog.measure,
    "latency": latency.measure,
    "retention": retention.measure,
    "timers": timers.measure,
    "kernel": kernel.measure,
}


def main() -> None:
    """Run one benchmark and print its report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What callsheet costs on this machine.")
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--n", type=int, default=None, help="how many (default: the benchmark's own)")
    parser.add_argument("--repeat", type=int, default=3, help="how often; medians and ranges are shown (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_args()
    if options.repeat < 1 or (options.n is not None and options.n < 1):
        parser.error("--n and --repeat must be 1 or more")
    report = BENCHMARKS[options.name](options.n, options.repeat)
    sys.stdout.write((json.dumps(report.as_json(), indent=2) if options.json else report.as_text()) + "\n")


if __name__ == "__main__":
    main()
