"""The page about actors without jobs does what it says."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import trio
import trio.testing

PAGE: Final = Path(__file__).parents[1] / "docs" / "actors.md"
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)#]+)\)")


class Snippet(NamedTuple):
    """A piece of code, where it begins, and what the page says that it prints."""

    code: str
    line: int
    prints: str


def snippets(page: str) -> Iterator[Snippet]:
    """Each piece of code with the text below it, in the order of the page."""
    blocks = [(found[1], found[2], page[: found.start()].count("\n") + 1) for found in BLOCK.finditer(page)]
    for (kind, code, line), (next_kind, text, _) in zip(blocks, [*blocks[1:], ("", "", 0)], strict=True):
        if kind == "python":
            yield Snippet(code, line, text if next_kind == "text" else "")


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run one after the other as one program, in virtual time: each prints what the page says, and warns of nothing."""
    run = trio.run
    monkeypatch.setattr(logging.getLogger("callsheet"), "setLevel", lambda _level: None)  # the page wants less to read
    monkeypatch.setattr(trio, "run", lambda main: run(main, clock=trio.testing.MockClock(autojump_threshold=0)))
    program: dict[str, Any] = {"__name__": "page"}
    said: list[tuple[int, str]] = []
    promised: list[tuple[int, str]] = []

    for snippet in snippets(PAGE.read_text(encoding="utf-8")):
        code = "\n" * snippet.line + snippet.code  # tracebacks name the line of the page
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), program)
        said.append((snippet.line, capsys.readouterr().out))
        promised.append((snippet.line, snippet.prints))

    assert promised == said
    assert 9 == len(said)


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    links = LINK.findall(PAGE.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not (PAGE.parent / link).exists()]
    assert "../examples/ping_pong.py" in links
