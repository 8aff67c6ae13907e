"""The tutorial does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "tutorial.md"


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run one after the other as one program, in virtual time, with one database on disk: each prints what the page says."""
    monkeypatch.chdir(tmp_path)

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 11 == len(said)
    assert (tmp_path / "jobs.db").exists()


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
