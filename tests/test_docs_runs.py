"""The reference for runs does what it says, and leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

import callsheet
from callsheet import EnqueueOptions, Queue, Reason, RunQuery, Status, TaskOptions
from callsheet.store.records import OutcomeKind

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "runs.md"
ROW: Final = re.compile(r"^\| (`\w+`(?:, `\w+`)*)", re.MULTILINE)


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run one after the other as one program, in virtual time, on disk: each prints what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.Logger.setLevel", lambda _logger, _level: None)  # it would last beyond the page

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 14 == len(said)


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
