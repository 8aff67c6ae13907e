"""The page about guarding does what it says, and leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs
import pytest

import callsheet
from callsheet import Access, Action, Jobs, PolicyDenied
from callsheet.client.client import ClientQueues, ClientRuns, ClientSchedules
from callsheet.guard import MAX_REASON
from callsheet.runs import MAX_LOOKED
from callsheet.snapshot import RECENT

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "guarding.md"


def section(title: str) -> str:
    """The text below one heading."""
    return PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run one after the other as one program, in virtual time, on disk: each prints what the page says."""
    monkeypatch.chdir(tmp_path)

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 4 == len(said)


def test_every_action_and_field_is_explained() -> None:
    """With the calls that ask for it."""
    told = section("What is asked")

    assert [] == [str(action) for action in Action if f"`{action}`" not in told]
    assert [] == [each.name for each in attrs.fields(Access) if f"`{each.name}`" not in told]
    assert {"subject", "action", "what", "reason"} == {each.name for each in attrs.fields(PolicyDenied)}


def test_every_call_has_its_row() -> None:
    """Whatever reads or steers runs says what it asks for."""
    rows = "".join(line.split("|")[1] for line in section("What is asked").splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`(?:\w+\.)?(\w+)`", rows))
    calls = {
        name for kind in (ClientRuns, ClientQueues, ClientSchedules) for name in vars(kind) if not name.startswith("_")
    }
    calls |= {"enqueue", "enqueue_in", "enqueue_at", "enqueue_many", "snapshot", "stats", "runtimes"}

    assert set() == calls - {"behind", "entered"} - named
    assert {"unpark"} == {name for name in named - calls if not hasattr(Jobs, name)}


def test_the_numbers_hold() -> None:
    """Those of the code."""
    text = PAGE.read_text(encoding="utf-8")

    assert f"at most {MAX_REASON} characters" in text
    assert f"{MAX_LOOKED:,} runs were\nlooked at" in text
    assert f"newest {RECENT} that" in text


def test_the_errors_in_the_page_are_public() -> None:
    """What the page tells to catch can be imported from `callsheet`."""
    words = set(re.findall(r"\b(?:Run[A-Z]\w+|\w+Denied)\b", PAGE.read_text(encoding="utf-8")))

    assert set() == {word for word in words if not hasattr(callsheet, word)}


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
