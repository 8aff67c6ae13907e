"""The page about observing does what it says, and leaves nothing out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Final

import attrs
import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once

from callsheet import Event, EventKind, Observability
from callsheet.observe.observability import DEFAULT
from callsheet.observe.otel import Metrics
from callsheet.observe.prometheus import FAMILIES

from .pages import DOCS, dead_links, play

PAGE: Final = DOCS / "observing.md"
ROW: Final = re.compile(r"^\| (`[\w.]+`(?:, `[\w.]+`)*) \|(.*)$", re.MULTILINE)


def rows() -> dict[str, str]:
    """By name: what its row says."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: rest for names, rest in found for name in re.findall(r"[\w.]+", names)}


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program sets up OpenTelemetry once, and its log: the next test finds nothing of that."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    log = logging.getLogger("callsheet.run")
    yield
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.mark.usefixtures("untouched")
def test_every_snippet_prints_what_stands_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    """Run one after the other as one program, in virtual time, on disk: each prints what the page says."""
    monkeypatch.chdir(str(tmp_path))

    promised, said = play(PAGE, monkeypatch, capsys)

    assert promised == said
    assert 6 == len(said)


def test_the_tables_are_whole() -> None:
    """Every kind of event, every field, setting, metric and gauge has its row."""
    fields = [each.name for each in attrs.fields(Event)]
    settings = [each.name for each in attrs.fields(Observability)]
    metrics = [f"callsheet.runs.{name}" for name, _ in Metrics.COUNTED.values()]
    gauges = [name for name, _, _ in FAMILIES]

    assert [] == [name for name in [*EventKind, *fields, *settings, *metrics, *gauges] if str(name) not in rows()]


@pytest.mark.parametrize("field", attrs.fields(Observability), ids=lambda field: field.name)
def test_the_defaults_are_what_the_page_says(field: attrs.Attribute[object]) -> None:
    """The last column of the settings."""
    value = getattr(DEFAULT, field.name)

    assert f'| `"{value}"` |' in rows()[field.name] if value else "| `None` |" in rows()[field.name]


def test_every_link_leads_somewhere() -> None:
    """What the page points to in the repository is there."""
    assert [] == dead_links(PAGE)
