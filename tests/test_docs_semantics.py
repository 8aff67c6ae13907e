"""The published contract of actors is backed by tests that exist, and its code does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

import callsheet
from callsheet.actors import exits
from callsheet.actors.mailbox import Overflow
from callsheet.actors.undelivered import Why

TESTS: Final = Path(__file__).parent
PAGE: Final = TESTS.parent / "docs" / "semantics.md"
NAMED: Final = re.compile(r"`(test_\w+)`")
DEFINED: Final = re.compile(r"^\s*(?:async )?def (test_\w+)\(", re.MULTILINE)
BLOCK: Final = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\(([^)#]+)\)")


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_test_that_the_contract_names_exists() -> None:
    """A row that names no test, or one that is gone, is a promise that nobody keeps."""
    defined = {name for path in TESTS.rglob("test_*.py") for name in DEFINED.findall(path.read_text(encoding="utf-8"))}
    named = set(NAMED.findall(page()))

    assert set() == named - defined
    assert 50 < len(named)


def test_every_reason_policy_and_exit_is_in_the_contract() -> None:
    """What can happen to a message, and how an incarnation can end, is all told."""
    told = page()

    assert [] == [each for each in Why if f"`{each}`" not in told]
    assert [] == [each for each in Overflow if f"`{each.name}`" not in told]
    assert [] == [each.__name__ for each in exits.Exit.__args__ if f"`{each.__name__}`" not in told]


def test_the_code_of_the_contract_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each piece is a program of its own; run in virtual time."""
    run = trio.run
    monkeypatch.setattr(trio, "run", lambda main: run(main, clock=trio.testing.MockClock(autojump_threshold=0)))
    blocks = BLOCK.findall(page())

    for code, prints in blocks:
        program: dict[str, Any] = {"__name__": "page"}
        exec(compile(code, str(PAGE), "exec", dont_inherit=True), program)
        assert prints == capsys.readouterr().out

    assert page().count("```python") == len(blocks) > 0


def test_every_link_of_the_contract_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == [link for link in LINK.findall(page()) if not (PAGE.parent / link).exists()]


def test_the_names_in_the_contract_are_public() -> None:
    """What a row tells a user to write can be imported from `callsheet`."""
    written = set(re.findall(r"\b([A-Z][A-Za-z]+)\(", re.sub(r"```.*?```", "", page(), flags=re.DOTALL)))

    assert set() == written - set(callsheet.__all__)
    assert {"ChildSpec", "Mail", "Restarted"} <= written
