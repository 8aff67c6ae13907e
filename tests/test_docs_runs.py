"""The reference for runs does what it says, and leaves nothing out."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Final

import pytest

import callsheet
from callsheet import EnqueueOptions, Queue, Reason, RunQuery, Status, TaskOptions, bulk
from callsheet.actors.control import MAX_SNOOZE_S
from callsheet.actors.journal import MAX_WAITING
from callsheet.enqueue import MAX_AHEAD_S, MAX_ENTRIES, MAX_TIMEOUT_S
from callsheet.names import MAX_KEY, MAX_NAME
from callsheet.options import MAX_OLDER
from callsheet.progress import MAX_PROGRESS
from callsheet.queue import MAX_BATCH, MAX_CONCURRENCY
from callsheet.retention import LEAST_S, MOST_S
from callsheet.runs import MAX_PAGE, MAX_REASON
from callsheet.store.codec import DEFAULT_LIMIT, HARD_LIMIT, MAX_DEPTH, MAX_DIGITS
from callsheet.store.described import MAX_MESSAGE, MAX_TRACEBACK
from callsheet.store.policy import MAX_ATTEMPTS, MAX_DELAY_S
from callsheet.store.records import HISTORY_FIRST, HISTORY_LAST, REPLAYS_TOLD, OutcomeKind

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "runs.md"
ROW: Final = re.compile(r"^\| (`\w+`(?:, `\w+`)*)", re.MULTILINE)


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run one after the other as one program, in virtual time, on disk: each prints what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("callsheet"), "setLevel", lambda _level: None)  # the page wants less to read

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 16 == len(said)


@pytest.mark.parametrize(
    "names",
    [
        [*Status],
        [*OutcomeKind],
        [*Reason],
        [*EnqueueOptions.__annotations__],
        [each for each in Queue.__annotations__ if each != "name"],
    ],
    ids=["statuses", "outcomes", "reasons", "options of enqueue", "fields of Queue"],
)
def test_the_tables_are_whole(names: list[Any]) -> None:
    """Every status, outcome, reason and option has its row."""
    rows = {name for row in ROW.findall(PAGE.read_text(encoding="utf-8")) for name in re.findall(r"\w+", row)}

    assert [] == [str(name) for name in names if str(name) not in rows]


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("payload", [DEFAULT_LIMIT // 1024, HARD_LIMIT // 1024**2]),
        ("depth of a payload", [MAX_DEPTH, MAX_DIGITS]),
        ("result", [DEFAULT_LIMIT // 1024]),
        ("progress", [MAX_PROGRESS // 1024]),
        ("message; traceback", [MAX_MESSAGE // 1024, MAX_TRACEBACK // 1024]),
        ("names of tasks", [MAX_NAME]),
        ("idempotency key", [MAX_KEY]),
        ("reason of a cancel", [MAX_REASON]),
        ("runs in one `enqueue_many`", [MAX_ENTRIES]),
        ("runs in one page", [MAX_PAGE, bulk.MAX_LIMIT]),
        ("attempts of a run", [MAX_ATTEMPTS]),
        ("wait between attempts", [MAX_DELAY_S // 3600]),
        ("delay; `run_at`; snooze", [MAX_AHEAD_S // (365 * 86_400), MAX_SNOOZE_S // (365 * 86_400)]),
        ("timeout", [MAX_TIMEOUT_S // 86_400]),
        ("attempts that a history keeps", [HISTORY_FIRST, HISTORY_LAST]),
        ("replays that a history names", [REPLAYS_TOLD]),
        ("slots of a queue", [MAX_CONCURRENCY, MAX_BATCH]),
        ("how long an ended run is kept", [LEAST_S, MOST_S // (365 * 86_400)]),
        ("older schemas", [MAX_OLDER]),
        ("messages that wait", [MAX_WAITING]),
    ],
)
def test_a_limit_is_what_the_page_says(row: str, numbers: list[float]) -> None:
    """Its row has the numbers that hold."""
    (line,) = re.findall(
        rf"^\| {re.escape(row)}.*$", PAGE.read_text(encoding="utf-8").split("## Limits")[1], re.MULTILINE
    )

    assert [] == [n for n in numbers if not re.search(rf"\b{int(n):,}\b", line)]


def test_every_filter_and_option_is_named() -> None:
    """What `runs.list` can ask for, and what a task can be told."""
    told = PAGE.read_text(encoding="utf-8")

    assert [] == [name for name in RunQuery.__annotations__ if f"`{name}`" not in told]
    assert [] == [name for name in TaskOptions.__annotations__ if f"{name}=" not in told]


def test_the_errors_in_the_page_are_public() -> None:
    """What the page tells to catch can be imported from `callsheet`."""
    words = set(
        re.findall(
            r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b",
            re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL),
        )
    )

    assert {"TimeoutError", "ValueError"} == {word for word in words if not hasattr(callsheet, word)}


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
