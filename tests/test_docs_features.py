"""The table of features is whole, and every test that it names is there and is run."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from .pages import DOCS, dead_links

TESTS: Final = Path(__file__).parent
PAGE: Final = DOCS / "features.md"
ROW: Final = re.compile(r"^\| (L\d+|LQ\d|G\d+) \| (.+?) \| (.+) \| (.*?) ?\|$", re.MULTILINE)
NAMED: Final = re.compile(r"`([\w/]+\.py)::([\w:]+)(?:\[[^\]`]*\])?`")

RANGES: Final = [
    *[("L", 1, 14), ("L", 20, 29), ("L", 30, 44), ("L", 50, 60), ("L", 70, 82), ("L", 90, 103), ("L", 110, 116)],
    ("LQ", 1, 5),
    *[("G", 1, 11), ("G", 20, 29), ("G", 30, 39), ("G", 40, 60), ("G", 70, 82), ("G", 90, 103)],
]
"""Every row of what was studied: kind, first and last number."""

OPEN: Final[dict[str, list[str]]] = {}
"""By what they say, rows of parts that are still to come."""
NOT_OURS: Final = ["L110", "L111", "L112", "G94", "G97", "G98", "G100"]
"""What does not apply as a whole; of L01 the host framework does not."""


class Row(NamedTuple):
    """A line of the page."""

    id: str
    there: str
    here: str
    tests: str


def rows() -> list[Row]:
    """All of them, in the order of the page."""
    return [Row(*found) for found in ROW.findall(PAGE.read_text(encoding="utf-8"))]


def test_every_row_is_there_once() -> None:
    """Nothing of what was studied is left out, and nothing stands twice; in their order."""
    expected = [
        f"{kind}{n:0{1 if kind == 'LQ' else 2}}" for kind, first, last in RANGES for n in range(first, last + 1)
    ]

    assert expected == [row.id for row in rows()]
    assert [] == [each for each, n in Counter(expected).items() if n > 1]


def test_what_is_open_or_does_not_apply_is_no_more_than_was_agreed() -> None:
    """Every other row names a test."""
    found = {said: [row.id for row in rows() if row.here.startswith(said)] for said in OPEN}
    opened = [each for ids in OPEN.values() for each in ids]
    foreign = [row.id for row in rows() if "does not apply" in row.here]
    without = [row.id for row in rows() if not NAMED.search(row.tests)]

    assert found == OPEN
    assert opened == [row.id for row in rows() if row.here.startswith("open: ")]
    assert ["L01", *NOT_OURS] == foreign
    assert sorted([*NOT_OURS, *opened]) == sorted(without)
    assert [] == [row.id for row in rows() if row.id in NOT_OURS and not row.here.startswith("does not apply: ")]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_the_tests_of_a_row_exist(row: Row) -> None:
    """Each is found where the page says, in a file that is collected; nothing else stands in the column."""
    missing = [f"{path}::{name}" for path, name in NAMED.findall(row.tests) if name not in collected(path)]

    assert [] == missing
    assert "" == NAMED.sub("", row.tests).replace(", ", "")


@cache
def collected(path: str) -> set[str]:
    """The tests in a file, and its classes of tests; of a suite those that a class which is collected inherits."""
    place = TESTS / path
    if not place.exists():
        return set()
    found: set[str] = set()
    for node in ast.parse(place.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and place.name.startswith("test_"):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef) and (
            place.name.startswith("test_") or node.name in inherited(place.parent)
        ):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {node.name} | {f"{node.name}::{each.name}" for each in methods}
    return {each for each in found if each.rpartition("::")[2].startswith(("test_", "Test"))}


@cache
def inherited(folder: Path) -> set[str]:
    """What classes of tests in this folder are derived from."""
    return {
        base.id
        for path in folder.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test")
        for base in node.bases
        if isinstance(base, ast.Name)
    }


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
