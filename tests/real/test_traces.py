"""Traces with real processes: what one requested and another ran is one tree, joined by nothing but ids."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

PROGRAM: Final = Path(__file__).with_name("traced.py")


def run(role: str, folder: Path) -> list[dict[str, Any]]:
    """A process of its own, from begin to end; the spans that it exported."""
    spans = folder / f"{role}.jsonl"
    command = [sys.executable, str(PROGRAM), role, str(folder / "jobs.db"), str(spans)]
    subprocess.run(command, check=True, timeout=60, cwd=Path(__file__).parents[2])
    return [json.loads(line) for line in spans.read_text(encoding="utf-8").splitlines()]


def tree(spans: list[dict[str, Any]], parent: str | None = None, depth: int = 0) -> Iterator[str]:
    """Each span under its parent."""
    for span in sorted(spans, key=lambda span: span["start_time"]):
        if span["parent_id"] == parent:
            yield "  " * depth + span["name"]
            yield from tree(spans, span["context"]["span_id"], depth + 1)


@pytest.mark.parametrize("role", ["client", "desk"])
def test_a_retried_run_of_two_processes_is_one_tree(tmp_path: Path, role: str) -> None:
    """A web process requests, by a client or by a runtime beside; a worker runs it, twice: what both exported fits together."""
    theirs, ours = run(role, tmp_path), run("worker", tmp_path)

    assert ["GET /", "  enqueue deliver"] == list(tree(theirs))
    assert [
        "GET /",
        "  enqueue deliver",
        "    run deliver",
        "    run deliver",
        "      post",
        "        enqueue tell",
        "          run tell",
    ] == list(tree(theirs + ours))
    assert 1 == len({span["context"]["trace_id"] for span in theirs + ours})
    ends = [(span["status"]["status_code"], span["attributes"].get("callsheet.outcome")) for span in ours]
    assert [("ERROR", "failed"), ("UNSET", "succeeded")] == [end for end in ends if end[1]][:2]
