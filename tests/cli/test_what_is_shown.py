"""C1: whatever is in names, errors and payloads, a terminal shows it, and obeys none of it."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import apsw
import pytest

from callsheet.commands.serving import OneLine
from callsheet.commands.text import age, duration_s, escaped, first_line, lasting, masked

from . import callboard
from .shell import call

SHOWN = r"\x1b]0;owned\x07\x1b[31mred\rback\x08\x7f \u202egnirts [bold]markup[/bold]"
"""`NASTY` as it is to be shown."""


def is_harmless(text: str) -> bool:
    """Whether nothing in it is obeyed by a terminal."""
    return all(char == "\n" or (char.isprintable() and char not in "\u202e\u200f") for char in text)


@pytest.fixture
def hostile(store: Path) -> Path:
    """A database in which somebody edited names, too, that no call of ours would take."""
    with callboard.jobs.client(store) as client:
        client.schedules.every("hourly", 3_600, "send")
    db = apsw.Connection(str(store))
    for what in (
        "schedules set key = ?",
        "lanes set task = ? where task = 'send'",
        "runs set trace_id = ? where id = 'run-b'",
    ):
        db.execute(f"update {what}", (callboard.NASTY,))
    db.execute("update runs set id = ? where id = 'run-a2'", (f"run-{callboard.NASTY}",))
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
    db.close()
    return store


@pytest.mark.parametrize(
    "command",
    [
        ["runs", "list"],
        ["runs", "show", "dead-1"],
        ["runs", "show", "dead-1", "--errors", "--payload"],
        ["runs", "show", "never"],
        ["runs", "why", "dead-1"],
        ["runs", "why", "never"],
        ["runs", "wait", "never"],
        ["snapshot"],
        ["queues"],
        ["schedules", "list"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_nothing_that_is_stored_is_obeyed(hostile: Path, command: list[str]) -> None:
    """Colours, titles, returns, marks of direction and rich's markup are shown as they are, also where no terminal reads."""
    text, data = call(*command, "--store", hostile), call(*command, "--store", hostile, "--json")

    assert is_harmless(text.out + text.err)
    if command[-1] not in ("queues", "doctor") and command != ["runs", "why", "dead-1"]:
        assert any(part in text.out for part in (SHOWN[:30], SHOWN[-22:]))
    assert data.out.isascii()
    assert all(char == "\n" or char.isprintable() for char in data.out)
    assert [json.loads(line) for line in data.out.splitlines()]


def test_programs_get_the_text_as_it_is(hostile: Path) -> None:
    """JSON escapes it, and gives it back exactly."""
    shown = call("runs", "show", "dead-1", "--store", hostile, "--json", "--payload").json
    listed = call("runs", "list", "--store", hostile, "--json").lines

    assert (callboard.NASTY, callboard.NASTY) == (shown["payload"], shown["attempts"][0]["error"]["message"])
    assert f"canceled: {callboard.NASTY}" in [each["cause"] for each in listed]
    assert f"run-{callboard.NASTY}" in [each["id"] for each in listed]


def test_what_is_typed_is_not_obeyed_either(store: Path) -> None:
    """Errors show what was typed, escaped."""
    for typed in (
        ["runs", "show", callboard.NASTY],
        ["enqueue", callboard.NASTY],
        ["runs", "list", "--task", "\x9b31m"],
    ):
        done = call(*typed, "--store", store)
        assert is_harmless(done.out + done.err)
        assert done.status in (1, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("café 🎭 日本\u3000", "café 🎭 日本\u3000"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc\x08\x7f", r"a\r\nb\tc\x08\x7f"),
        ("\u202e\u2066\u200f\ufeff", r"\u202e\u2066\u200f\ufeff"),
        ("\u2028\U000e0041\ud800", r"\u2028\U000e0041\ud800"),
    ],
)
def test_what_has_no_glyph_is_an_escape(text: str, expected: str) -> None:
    """Control characters, marks of direction, separators, tags, half characters."""
    assert expected == escaped(text)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@host/db", "postgresql://ada:***@host/db"),
        ("cannot open pg://a:b@c/d: no", "cannot open pg://a:***@c/d: no"),
        ("pg://:b@c", "pg://:***@c"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("http://host:80/a@b", "http://host:80/a@b"),
    ],
)
def test_a_password_in_a_url_is_masked(url: str, shown: str) -> None:
    """And nothing else is."""
    assert shown == masked(url)


def test_a_line_of_the_log_is_one_line() -> None:
    """What handlers log is shown, not obeyed, and begins no line of its own; a traceback goes on over several."""
    record = logging.LogRecord("mine", logging.ERROR, "x.py", 1, "said %s\nERROR forged", (callboard.NASTY,), None)
    try:
        raise ValueError(callboard.NASTY)
    except ValueError:
        record.exc_info = sys.exc_info()

    first, *more = OneLine().format(record).splitlines()

    assert first.endswith(f"ERROR    mine: said {SHOWN}\\nERROR forged")
    assert f"ValueError: {SHOWN}" == more[-1]
    assert len(more) > 2


def test_times_and_messages_for_people() -> None:
    """Ages, durations, first lines, in short."""
    s = 1_000_000
    assert ["0s", "119s", "2m", "119m", "2h", "47h", "2d", "3m"] == [
        age(each * s) for each in (0, 119, 120, 7_199, 7_200, 172_799, 172_800, -180)
    ]
    assert ["5 ms", "1.5 s", "0:02:05"] == [lasting(each) for each in (5_000, 1_500_000, 125 * s)]
    assert [90, 90, 5_400, 0.5, 172_800, None, None, None, None] == [
        duration_s(each) for each in ("90", " 1.5m ", "1.5h", ".5s", "2d", "", "soon", "-1", "1e3")
    ]
    assert ["one…", "x" * 200 + "…", "one"] == [first_line(each) for each in ("one\ntwo", "x" * 201, " one\n")]
