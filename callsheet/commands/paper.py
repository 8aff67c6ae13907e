"""
Where a command writes: tables for people, plain columns for pipes, JSON for programs; what is beside the point on stderr.

Rule 1: nothing is written that `text.escaped` has not seen, and JSON is pure ASCII.
Rule 2: whoever closes the pipe has read enough: nothing more is written, and the command ends as it would have.
Not here: what is said (each command), which values JSON has (`shapes`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Final

from attrs import define, field

from .text import escaped, masked

LOOK_S: Final = 0.2
"""How often it is looked at whether Ctrl-C was typed instead of an answer."""
LAST_COLUMN: Final = 16
"""Characters that the last column of a table wants on a terminal, before others are left out for it."""
STYLES: Final = {
    "succeeded": "green",
    "ok": "green",
    "running": "cyan",
    "retrying": "yellow",
    "warning": "yellow",
    "paused": "yellow",
    "dead_lettered": "red",
    "broken": "red",
    "canceled": "bright_black",
}
"""Of a cell that holds just this word, on a terminal."""


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a person reads it, or types it."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it was closed
        return False


def note(text: str) -> None:
    """Say something on stderr, if there is one: what went wrong, what is beside the point."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{escaped(masked(text), keep=chr(10))}\n")
            sys.stderr.flush()


def ask(question: str) -> str:
    """What the person at the terminal types, without white space around it. Raises EOFError at the end of the input."""
    sys.stderr.write(question)
    sys.stderr.flush()
    while not select.select([sys.stdin], [], [], LOOK_S)[
        0
    ]:  # a Ctrl-C that comes just before a read would be lost in it
        pass
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip()


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON in ASCII without a control character."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, indent=indent, default=str)


@define(eq=False)
class Paper:
    """What one command writes on. programs: JSON instead of text."""

    programs: bool = False
    is_open: bool = field(init=False)
    """Whether anybody reads on."""
    _widths: list[int] = field(factory=list, init=False)
    """Of the columns of the table before, which the next one continues."""
    _shown: list[int] = field(factory=list, init=False)
    """Which of them were shown."""

    def __attrs_post_init__(self) -> None:
        self.is_open = sys.stdout is not None

    @property
    def is_terminal(self) -> bool:
        """Whether tables are for the eyes of a person."""
        return not self.programs and is_terminal(sys.stdout)

    def say(self, text: str = "") -> None:
        """One line, or several."""
        self._write(f"{escaped(text, keep=chr(10))}\n")

    def document(self, value: Any) -> None:
        """One JSON document: in a line, or over many for a person who asked for it."""
        self._write(f"{as_json(value, indent=2 if is_terminal(sys.stdout) else None)}\n")

    def lines(self, values: Iterable[Any]) -> None:
        """One JSON document a line."""
        self._write("".join([f"{as_json(value)}\n" for value in values]))

    def heading(self, text: str) -> None:
        """Above a table."""
        if self.is_terminal:
            from rich.text import Text

            self._rich().print(Text(escaped(text), "bold"))
        else:
            self.say(text)
        self._widths = []

    def marked(self, word: str, text: str, width: int = 0) -> None:
        """A line that begins with a word, which has its colour on a terminal."""
        if self.is_terminal:
            from rich.text import Text

            line = Text.assemble((f"{escaped(word):{width}}", STYLES.get(word, "")), f"  {escaped(text)}")
            self._rich().print(line, soft_wrap=True)
        else:
            self.say(f"{word:{width}}  {text}")

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        spare: Sequence[str] = (),
        follows: bool = False,
    ) -> None:
        """
        Rows under their columns; nothing where there are no rows. follows: they continue the table before.

        spare: columns that a narrow terminal does without, these first. The last one is cut off there.
        """
        if rows:
            cells = [["" if each is None else escaped(str(each)) for each in row] for row in rows]
            if self.is_terminal:
                self._rich_table(columns, cells, spare, follows=follows)
            else:
                self._plain_table(columns, cells, follows=follows)

    def flush(self) -> None:
        """Have it read now."""
        if self.is_open:
            with self._out() as out:
                out.flush()

    # -- the two ways

    def _plain_table(self, columns: Sequence[str], cells: list[list[str]], *, follows: bool) -> None:
        lines = cells if follows else [[each.upper() for each in columns], *cells]
        self._measure(lines, follows=follows)
        self._write("".join([self._plain_line(line) for line in lines]))

    def _measure(self, lines: list[list[str]], *, follows: bool) -> None:
        before = self._widths if follows else [0] * len(lines[0])
        self._widths = [max(n, *(len(line[i]) for line in lines)) for i, n in enumerate(before)]

    def _plain_line(self, line: list[str]) -> str:
        padded = [each.ljust(width) for each, width in zip(line[:-1], self._widths, strict=False)]
        return f"{'  '.join([*padded, line[-1]])}".rstrip() + "\n"

    def _rich_table(
        self, columns: Sequence[str], cells: list[list[str]], spare: Sequence[str], *, follows: bool
    ) -> None:
        from rich.table import Table
        from rich.text import Text

        console = self._rich()
        self._measure([[each.upper() for each in columns], *cells], follows=follows)
        self._shown = self._shown if follows else self._that_fit(columns, spare, console.width)
        *others, last = self._shown
        room = max(1, console.width - sum(self._widths[i] + 2 for i in others))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=not follows)
        for i in others:
            table.add_column(columns[i].upper(), no_wrap=True, width=self._widths[i])
        table.add_column(columns[last].upper(), no_wrap=True, overflow="ellipsis", width=min(room, self._widths[last]))
        for line in cells:
            table.add_row(*[Text(line[i], STYLES.get(line[i], "")) for i in self._shown])
        console.print(table)

    def _that_fit(self, columns: Sequence[str], spare: Sequence[str], room: int) -> list[int]:
        shown = list(range(len(columns)))
        widths = [*self._widths[:-1], min(self._widths[-1], LAST_COLUMN)]
        for each in spare:
            if sum(widths[i] + 2 for i in shown) - 2 <= room:
                break
            shown.remove(columns.index(each))
        return shown

    def _rich(self) -> Any:
        from rich.console import Console

        return Console(file=sys.stdout, markup=False, emoji=False, highlight=False, soft_wrap=False)

    def _write(self, text: str) -> None:
        if self.is_open:
            with self._out() as out:
                out.write(text)

    @contextlib.contextmanager
    def _out(self) -> Iterator[IO[str]]:
        try:
            yield sys.stdout
        except BrokenPipeError:
            self.is_open = False
            drop_stdout()
        except OSError as error:
            drop_stdout()
            raise OSError(error.errno, error.strerror, "standard output") from error


def drop_stdout() -> None:
    """Let what is still to be written go nowhere: else the interpreter would try again as it ends, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
