"""
What a demonstration looks like: one live line while it works, a table at its end.

Rule: on a terminal the line is redrawn in place; elsewhere (a pipe, a log) it is a plain line every two seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define, field, frozen
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .audit import Findings
from .books import Books

LIVE_S: Final = 0.1
"""Between two drawings of the line."""
PLAIN_S: Final = 2.0
"""The same where nothing can be redrawn."""
MOST_BAR: Final = 24
TEXT: Final = 74
"""Columns that the line needs beside the bar."""
MOST_LISTED: Final = 10
"""Lost runs that are listed by id."""


@frozen
class Times:
    """In seconds."""

    total_s: float
    recovery_s: float | None
    """From starting the worker again until the first interrupted run was running again."""
    python_s: float
    """The part of it that passed before callsheet was asked to open the store."""


@define(eq=False)
class Show:
    """Talks to whoever started the demonstration."""

    console: Console
    phase: str = "starting"
    _live: Live | None = field(default=None, init=False)
    _spinner: Spinner = field(factory=lambda: Spinner("dots"), init=False)
    _next_s: float = field(default=0.0, init=False)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """While this is open, `tick` shows how far it has come."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, transient=True, auto_refresh=False) as self._live:
            yield
        self._live = None

    def tick(self, books: Books, passed_s: float) -> None:
        """Show the state of the books, if it is time to."""
        if passed_s < self._next_s:
            return
        self._next_s = passed_s + (PLAIN_S if self._live is None else LIVE_S)
        if self._live is None:
            self.say(f"  {passed_s:3.0f} s  {self.phase}: {books}")
            return
        line = Table.grid(padding=(0, 1))
        width = max(4, min(MOST_BAR, self.console.width - TEXT))
        bar = ProgressBar(total=books.deliverable, completed=len(books.delivered), width=width)
        line.add_row(
            self._spinner, bar, Text(f"{self.phase}: {books}, {passed_s:.0f} s", overflow="ellipsis", no_wrap=True)
        )
        self._live.update(line, refresh=True)

    def table(self, found: Findings, times: Times, page: str | None) -> None:
        """The findings, the link of a monitor that goes on; the last line says what was lost."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim")
        for row in _rows(found, times):
            table.add_row(*row)
        lost = len(found.lost)
        table.add_row("lost", str(lost), "", style="bold red" if lost else "bold green")
        self.console.print()
        self.console.print(table)
        self.console.print()
        self._complain(found)
        if page is not None:
            self.say(f"The page goes on until you press Ctrl-C: {page}")
        self._last_line(found, times)

    def _complain(self, found: Findings) -> None:
        for each in found.lost[:MOST_LISTED]:
            self.say(f"[red]lost[/]  {each.run_id}  {each.event}: {each.why}")
        if len(found.lost) > MOST_LISTED:
            self.say(f"[red]lost[/]  … and {len(found.lost) - MOST_LISTED:,} more")
        for run_id in found.strays[:MOST_LISTED]:
            self.say(f"[red]stray[/]  {run_id}: in the store, but nobody was told of it, or its key has an older run")
        for event in found.silent[:MOST_LISTED]:
            self.say(f"[red]silent[/]  {event}: its call of enqueue was never acknowledged")

    def _last_line(self, found: Findings, times: Times) -> None:
        end = f"({times.total_s:.1f} s)"
        if found.is_clean:
            self.say(f"[bold green]lost 0[/] of {found.runs:,} acknowledged: all have ended, and the books agree {end}")
        elif found.lost:
            self.say(f"[bold red]lost {len(found.lost):,}[/] of {found.runs:,} acknowledged {end}")
        else:
            self.say(f"[bold red]the books do not agree[/], though nothing acknowledged is missing {end}")


def _rows(found: Findings, times: Times) -> list[tuple[str, str, str]]:
    """A note has at most 44 characters: the table then fits a terminal of 80."""
    steered = [("canceled", f"{found.canceled:,}", f"on the monitor's page; {found.replayed:,} replayed there")]
    return [
        ("acknowledged", f"{found.runs:,}", f"deliveries, by {found.calls:,} calls that returned"),
        ("delivered", f"{found.delivered:,}", "answered 200, and succeeded in the store"),
        (
            "dead-lettered",
            f"{found.dead_lettered:,}",
            f"{found.refused:,} answered 410, {found.exhausted:,} had no try left",
        ),
        *(steered if found.canceled or found.replayed else []),
        ("attempts", f"{found.attempts:,}", ""),
        ("retried", f"{found.retried:,}", "failed attempts, followed by another"),
        ("crashed", f"{found.crashed:,}", "attempts that died with the worker"),
        ("deduplicated", f"{found.deduplicated:,}", "calls that got the run of an earlier one"),
        ("delivered more than once", f"{found.repeated:,}", "allowed: the promise is at least once"),
        ("recovery", *_recovery(times)),
    ]


def _recovery(times: Times) -> tuple[str, str]:
    if times.recovery_s is None:
        return "none", "no attempt was interrupted"
    return f"{times.recovery_s:.2f} s", f"until the first ran again (Python: {times.python_s:.2f} s)"
