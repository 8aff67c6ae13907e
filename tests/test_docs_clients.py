"""The page about clients does what it says, and leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

import callsheet
from callsheet import wake
from callsheet.actors.journal import LOOK_S
from callsheet.client import client, direct
from callsheet.client.client import Client, ClientQueues, ClientRuns
from callsheet.store.sqlite import forks

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "clients.md"
NOT_FOR_USERS: Final = {"of", "port", "jobs", "entered", "behind", "close", "runs", "queues"}


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run one after the other as one program, on disk: each prints what the page says."""
    monkeypatch.chdir(tmp_path)

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 6 == len(said)


def test_every_call_is_named() -> None:
    """Of the client, its runs and its queues."""
    page = PAGE.read_text(encoding="utf-8")
    calls = {name for kind in (Client, ClientRuns, ClientQueues) for name in vars(kind) if not name.startswith("_")}

    assert set() == {name for name in calls - NOT_FOR_USERS if f"`{name}`" not in page}


def test_every_error_has_its_row() -> None:
    """Those that a client raises beside the calls of `Jobs`, and none that there is not."""
    table = PAGE.read_text(encoding="utf-8").split("## When a call fails\n")[1].split("\n## ")[0]
    named = {name for name in re.findall(r"`([A-Z]\w+)`", table) if name != "Jobs"}

    assert [] == [name for name in named if not issubclass(getattr(callsheet, name), callsheet.CallsheetError)]
    assert {"NoStore", "NotPublished", "StoreBusy", "OutcomeUnknown", "StoreClosed", "PolicyDenied"} <= named


def test_the_numbers_are_those_of_the_code() -> None:
    """How long calls wait, how often is looked, how long a path may be."""
    page = PAGE.read_text(encoding="utf-8")

    assert (5, 5, 10) == (direct.BUSY_S, client.FRESH_S, forks.PATIENCE_S)
    assert "`StoreBusy` after 5 s" in page
    assert "when they are 5 s old" in page
    assert "A fork waits up to 10 s" in page
    assert (0.25, 0.25, 0.005) == (LOOK_S, direct.LAST_LOOK_S, direct.FIRST_LOOK_S)
    assert "from 5 ms to four times a second" in page
    assert (100, 0o600) == (wake.MAX_PATH, wake.MODE)
    assert "longer than 100 bytes" in page
    assert "(mode 0600)" in page


def test_what_it_points_to_is_there() -> None:
    """In the repository."""
    assert [] == dead_links(PAGE)
