"""The page about actors without jobs does what it says."""

from __future__ import annotations

import logging
from typing import Final

import pytest

from .pages import DOCS, LINK, dead_links, play

PAGE: Final = DOCS / "actors.md"


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run one after the other as one program, in virtual time: each prints what the page says, and warns of nothing."""
    monkeypatch.setattr(logging.getLogger("callsheet"), "setLevel", lambda _level: None)  # the page wants less to read

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 9 == len(said)


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
    assert "../examples/ping_pong.py" in LINK.findall(PAGE.read_text(encoding="utf-8"))
