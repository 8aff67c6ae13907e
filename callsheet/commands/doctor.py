"""
`callsheet doctor`: look a database over, from the folder it is in to every run in it, and say what would do.

Rule: it only looks, beside a runtime that works; and it looks at what nobody else would open.
Not here: the checks (`callsheet.store.sqlite.doctor`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .asked import JsonOption, StoreOption
from .paper import Paper, is_terminal
from .reach import where
from .statuses import DATA, NOT_SO, OK
from .text import counted

if TYPE_CHECKING:
    from ..store.sqlite.findings import Finding


def doctor(*, store: StoreOption = None, as_programs_want: JsonOption = False) -> int:
    """
    Look a database over: is it ours and whole, do its books agree, who has it open, what was left behind.

    Nothing is changed, and a runtime may work meanwhile. Status 0 when nothing is broken (there may be warnings), 1 when its
    books are, 65 when it is damaged or no database of callsheet.
    """
    from ..actors.seams import Seams
    from ..stores import sqlite_path

    paper, seams = Paper(as_programs_want), Seams.outside()
    path, began_s = sqlite_path(where(store)), seams.clock.mono_s()
    with _progress(paper) as tell:
        findings = list(_findings(path, seams.clock.wall_us(), tell))
    took_s = seams.clock.mono_s() - began_s
    if paper.programs:
        paper.document({"store": path, "took": round(took_s, 3), "findings": [_shape(each) for each in findings]})
    else:
        _tell(paper, findings, took_s)
    return _status(findings)


def _findings(path: str, now_us: int, tell: Callable[[str, int, int], object]) -> Iterator[Finding]:
    from ..store.sqlite.doctor import examine
    from ..store.sqlite.findings import fine, warning
    from ..store.sqlite.holders import holder_of
    from ..store.sqlite.place import resolve
    from ..wake import Bell, path_of

    yield from examine(path, now_us, tell)
    database = resolve(path)
    bell, holder = Bell(path_of(database)), holder_of(database)
    if bell.heard_at is not None:
        yield fine("wake", "the runtime hears at once of what other programs write")
    elif holder is not None and holder.is_there:
        why = "its path is too long for a socket" if bell.path is None else "it does not listen"
        yield warning("wake", f"the runtime looks four times a second for what other programs write: {why}")
    else:
        yield fine("wake", "no runtime listens")


def _status(findings: list[Finding]) -> int:
    if any(each.is_unusable for each in findings):
        return DATA
    return NOT_SO if any(each.state == "broken" for each in findings) else OK


def _shape(finding: Finding) -> dict[str, object]:
    return {"check": finding.check, "state": str(finding.state), "text": finding.text, "remedy": finding.remedy}


def _tell(paper: Paper, findings: list[Finding], took_s: float) -> None:
    for each in findings:
        paper.marked(each.state, f"{each.check}: {each.text}{'' if each.remedy is None else f'; {each.remedy}'}", 7)
    wrong = [each for each in findings if each.state != "ok"]
    took = f"{counted(len(findings), 'check')} in {took_s:.1f} s"
    broken = sum(each.state == "broken" for each in wrong)
    if not wrong:
        paper.say(f"Nothing wrong was found: {took}.")
    else:
        said = [f"{broken} broken"] if broken else []
        said += [counted(len(wrong) - broken, "warning")] if len(wrong) > broken else []
        paper.say(f"{' and '.join(said)}: {took}.")


@contextmanager
def _progress(paper: Paper) -> Iterator[Callable[[str, int, int], object]]:
    """Says what is looked at, where somebody waits for it."""
    if paper.programs or not is_terminal(sys.stderr):
        yield lambda _what, _done, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking", total=None)
        yield lambda what, done, every: progress.update(task, description=what, completed=done, total=every or None)
