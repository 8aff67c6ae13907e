"""The page about time does what it says, and leaves nothing out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from callsheet import Did, Misfire, Overlap, ScheduleOptions
from callsheet.actors.calendar import DRIFT_US, LOOK_S, WINDOW_US
from callsheet.client.client import ClientSchedules
from callsheet.schedules.cadence import MAX_EVERY_DAYS, MIN_EVERY_S
from callsheet.schedules.decide import MISSED_US
from callsheet.schedules.plan import DEFAULT_CAP, MAX_CAP, MAX_JITTER_S
from callsheet.store.records import FIRES_KEPT

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "time.md"


def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run one after the other as one program, in virtual time, on disk: each prints what the page says."""
    monkeypatch.chdir(tmp_path)

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 3 == len(said)


def test_every_option_and_call_is_explained() -> None:
    """Options of a schedule, policies, calls, and what is done about a time."""
    page = PAGE.read_text(encoding="utf-8")
    rows = {name for row in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    calls = {name for name in vars(ClientSchedules) if not name.startswith("_")} - {"behind", "entered"}

    assert set() == {*ScheduleOptions.__annotations__, *calls} - rows
    assert [] == [str(each) for each in (*Misfire, *Overlap) if f'`"{each}"`' not in page]
    assert [] == [str(each) for each in Did if f"`{each}`" not in page]


def test_the_numbers_hold() -> None:
    """Those of the code."""
    page = PAGE.read_text(encoding="utf-8")

    assert (1, 366) == (MIN_EVERY_S, MAX_EVERY_DAYS)
    assert "1 second to 366 days" in page
    assert (86_400, "at most a day and half of `every`" in page) == (MAX_JITTER_S, True)
    assert f"| {DEFAULT_CAP} |" in page
    assert f"1 … {MAX_CAP:,}" in page
    assert f"of the {FIRES_KEPT} that are kept" in page
    assert (60_000_000, "more than a minute late" in page) == (MISSED_US, True)
    assert (1.0, "looks once a second" in page) == (LOOK_S, True)
    assert (10_000, "a fiftieth of a second" in page) == (DRIFT_US, True)
    assert f"the next {WINDOW_US // 1_000_000} seconds only" in page


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
