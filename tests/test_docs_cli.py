"""The page of the command line does what it says, and leaves nothing out."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from callsheet.commands import shapes, statuses

from .cli.shell import call, started, the_command
from .pages import BLOCK, DOCS, dead_links

PAGE: Final = DOCS / "cli.md"
CHANGES: Final = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)": "TIME",
    r"\b\d+(\.\d)? (ms|s)\b": "LASTING",
    r"\b\d+s\b": "AGE",
    r"in 1(19|20)m": "LATER",
    r"process \d+": "process N",
    r"[\d,]+ MiB": "N MiB",
    r"01[0-9A-Z]{24}": "ID",
    r"(?<=\S) +": " ",
}
"""What is another thing each time."""


def sessions(page: str) -> Iterator[tuple[str, str]]:
    """What is typed, and what stands below it, in the order of the page."""
    for kind, text in re.findall(BLOCK, page):
        if kind == "console":
            for each in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                typed, _, shown = each.partition("\n")
                yield typed, shown


def alike(text: str, folder: Path) -> str:
    """The text without what is another thing each time."""
    text = text.replace(str(folder), "/srv/shop")
    for what, name in CHANGES.items():
        text = re.sub(what, name, text)
    return text


class Shell:
    """Types what the page shows: commands of ours, and the few words of a shell that are in it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._env: dict[str, str] = {}
        self._status = 0
        self._job: subprocess.Popen[str] | None = None

    def type(self, line: str) -> str:
        """What is shown then."""
        first, *words = shlex.split(line)
        match [first, *words]:
            case ["export", assigned]:
                name, _, value = assigned.partition("=")
                self._env[name] = value
            case ["echo", "$?"]:
                return f"{self._status}\n"
            case ["kill", "%1"]:
                assert self._job is not None
                self._job.send_signal(signal.SIGTERM)
                assert 0 == self._job.wait(30)
            case ["callsheet", *arguments, "&"]:
                self._job = self._stack.enter_context(started(*arguments, cwd=self._folder, env=self._env))
                assert self._job.stdout is not None
                return self._job.stdout.readline()
            case ["callsheet", *arguments]:
                done = call(*arguments, **self._env)
                self._status = done.status
                return done.out + done.err
            case _:
                raise AssertionError(f"the page types {line!r}")
        return ""


def test_the_session_shows_what_stands_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed one after the other, in a folder with the module of the page: each command shows what the page says."""
    page = PAGE.read_text(encoding="utf-8")
    (code,) = [text for kind, text in re.findall(BLOCK, page) if kind == "python"]
    (tmp_path / "app.py").write_text(code)
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam\n" * 99)
    (tmp_path / "letter.txt").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    with ExitStack() as stack:
        shell = Shell(stack, tmp_path)
        found = [(typed, shown, shell.type(typed)) for typed, shown in sessions(page)]

    assert 15 < len(found)
    for typed, shown, said in found:
        assert (typed, alike(shown, tmp_path)) == (typed, alike(said, tmp_path))


def test_every_status_is_in_the_page() -> None:
    """With the words of `--help`."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert statuses.MEANINGS == {int(status): meaning for status, meaning in rows}


def options(command: Any) -> set[str]:
    """Of a command and of those below it."""
    found = {each for param in command.params for each in param.opts if each.startswith("--")}
    return found.union(*(options(each) for name, each in getattr(command, "commands", {}).items() if name != "demo"))


def test_every_option_is_in_the_page() -> None:
    """Of every command but the demonstration."""
    page = PAGE.read_text(encoding="utf-8")

    assert [] == [each for each in sorted(options(the_command()) - {"--help", "--version"}) if each not in page]


def test_every_name_of_the_json_is_in_the_page() -> None:
    """What `shapes` gives."""
    names = set(re.findall(r'^ {8}"(\w+)":', Path(shapes.__file__).read_text(encoding="utf-8"), re.MULTILINE))

    page = PAGE.read_text(encoding="utf-8")
    assert [] == [each for each in sorted(names) if f"`{each}`" not in page]
    assert 50 < len(names)


def test_every_check_of_the_doctor_is_in_the_page() -> None:
    """By its name."""
    folder = Path(shapes.__file__).parents[1]
    sources = [*folder.glob("store/sqlite/*.py"), folder / "commands" / "doctor.py"]
    made = re.compile(r'\b(?:fine|warning|broken|unusable)\(\s*"(\w+)"')
    checks = {name for path in sources for name in made.findall(path.read_text(encoding="utf-8"))}

    rows = set(re.findall(r"^\| (\w+) \| ", PAGE.read_text(encoding="utf-8").split("## doctor")[1], re.MULTILINE))
    assert checks <= rows
    assert {"history", "wake", "watch"} <= checks


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
