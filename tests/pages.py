"""
Pages whose code is run: the pieces of a page are one program, played in virtual time, beside what the page says it prints.

Rule: what a page shows is what a reader gets who types it in, but for waiting: clocks, ids and chance are seeded, so that
times and ids can stand in the text.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import trio
import trio.testing

from callsheet.actors.seams import Seams

DOCS: Final = Path(__file__).parents[1] / "docs"
MORNING_NS: Final = 1_800_000_000_000_000_000
"""2027-01-15 08:00 UTC: when the first piece of a page is run. Each further one is run a minute after the one before."""
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)#]+)[^)]*\)")


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


class Theatre:
    """Stands in for `trio.run` and for the world outside: virtual time that goes on from one piece to the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._run = trio.run
        self._passed_s = 0.0
        self._opened = 0
        monkeypatch.setattr(trio, "run", self.run)
        monkeypatch.setattr(Seams, "real", self.seams)

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            return self._run(main, clock=clock)
        finally:
            self._passed_s += clock.current_time() + 60

    def seams(self) -> Seams:
        self._opened += 1
        return Seams.seeded(self._opened, wall_ns=self._wall_ns)

    def _wall_ns(self) -> int:
        return MORNING_NS + round((self._passed_s + trio.current_time()) * 1e6) * 1000


def play(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[list[Any], list[Any]]:
    """Run the pieces of `page` one after the other: what it promises, and what was printed, by line of the page."""
    Theatre(monkeypatch)
    program: dict[str, Any] = {"__name__": "page"}
    promised: list[tuple[int, str]] = []
    said: list[tuple[int, str]] = []
    for snippet in snippets(page.read_text(encoding="utf-8")):
        code = "\n" * snippet.line + snippet.code  # tracebacks name the line of the page
        exec(compile(code, str(page), "exec", dont_inherit=True), program)
        promised.append((snippet.line, snippet.prints))
        said.append((snippet.line, capsys.readouterr().out))
    return promised, said


def dead_links(page: Path) -> list[str]:
    """What the page points to in the repository and is not there."""
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    return [link for link in links if not (page.parent / link).exists()]
