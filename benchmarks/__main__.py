"""`python -m benchmarks NAME [--n N] [--repeat K] [--json]`; `latency` takes `--from-process` too."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Final

from . import backlog, delayed, kernel, latency, outside, rest, retention, runs, timers
from .figures import Report

BENCHMARKS: Final[dict[str, Callable[[int | None, int], Report]]] = {
    "runs": runs.measure,
    "backlog": backlog.measure,
    "latency": latency.measure,
    "delayed": delayed.measure,
    "rest": rest.measure,
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
    parser.add_argument("--from-process", action="store_true", help="latency: of what another process enqueues")
    options = parser.parse_args()
    if options.repeat < 1 or (options.n is not None and options.n < 1):
        parser.error("--n and --repeat must be 1 or more")
    if options.from_process and options.name != "latency":
        parser.error("--from-process goes with latency")
    measure = outside.measure if options.from_process else BENCHMARKS[options.name]
    report = measure(options.n, options.repeat)
    sys.stdout.write((json.dumps(report.as_json(), indent=2) if options.json else report.as_text()) + "\n")


if __name__ == "__main__":
    main()
