"""The page about testing your own jobs does what it says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final

import callsheet.testing
from callsheet.testing import script
from callsheet.testing.faults import Faults

PAGE: Final = Path(__file__).parents[1] / "docs" / "testing.md"
BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW: Final = re.compile(r"^\| `(\w+)\(", re.MULTILINE)


def test_every_test_of_the_page_passes() -> None:
    """Run one after the other as one program: each test on the page passes in the virtual time it asks for."""
    text = PAGE.read_text(encoding="utf-8")
    program: dict[str, Any] = {"__name__": "page"}
    passed: list[str] = []

    for block in BLOCK.finditer(text):
        code = "\n" * (text[: block.start()].count("\n") + 1) + block[1]  # tracebacks name the line of the page
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), program)
        for name, value in list(program.items()):
            if name.startswith("test_") and name not in passed:
                assert ["mock_clock"] == list(inspect.signature(value).parameters)
                callsheet.testing.run(value, None)
                passed.append(name)

    assert 6 == len(passed)


def test_the_tables_of_the_page_are_whole() -> None:
    """Every step of a script and every fault has its row."""
    steps = [kind.__name__ for kind in script._STEPS]
    faults = [name for name, each in vars(Faults).items() if inspect.isfunction(each) and not name.startswith("_")]

    assert {*steps, *faults} - {"heal", "at"} == set(ROW.findall(PAGE.read_text(encoding="utf-8")))
