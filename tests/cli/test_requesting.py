"""`callsheet enqueue`: what is typed becomes a run, or is refused before anything is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callsheet import Client

from .shell import call, said


def stored(store: Path, run_id: str) -> Any:
    """The run as it is stored."""
    with Client(store) as client:
        return client.runs.get(run_id)


@pytest.mark.parametrize(
    ("typed", "stdin", "payload"),
    [
        ([], None, None),
        (['{"url": "http://x", "n": [1, 2.5, null]}'], None, {"url": "http://x", "n": [1, 2.5, None]}),
        (['"caf\u00e9 \x1b \U0001f3ad"'.replace("\x1b", "\\u001b")], None, "caf\u00e9 \x1b \U0001f3ad"),
        (["12345678901234567890123"], None, 12345678901234567890123),
        (["-"], '  {"a": 1}\n', {"a": 1}),
        (["-"], b'\xef\xbb\xbf"with a mark of Windows"', "with a mark of Windows"),
        (["@payload.json"], None, ["from a file"]),
    ],
    ids=["nothing", "typed", "a text", "a long number", "stdin", "stdin with a mark", "a file"],
)
def test_a_payload_is_typed_or_read(store: Path, typed: list[str], stdin: Any, payload: object) -> None:
    """On the command line, from stdin, from a file: JSON, kept exactly; the id is all that is printed."""
    (store.parent / "payload.json").write_text('["from a file"]')

    done = call("enqueue", "echo", *typed, "--store", store, stdin=stdin)

    assert (0, "") == (done.status, done.err)
    assert payload == stored(store, done.out.strip()).payload


@pytest.mark.parametrize(
    ("typed", "stdin", "told"),
    [
        (["hello"], None, "is no JSON: Expecting value at line 1, column 1; a text needs its quotes too"),
        (["{'a': 1}"], None, "is no JSON: Expecting property name"),
        (["NaN"], None, "NaN is no value of JSON"),
        (["[1, -Infinity]"], None, "-Infinity is no value of JSON"),
        (["9" * 5_000], None, "is no JSON that can be used: "),
        (["-"], "[" * 100_000, "is no JSON"),
        (["-"], "[" * 70 + "]" * 70, "64"),
        (["-"], b"\xff\xfe", "is no UTF-8: byte 0 cannot be read"),
        (["-"], "", "is no JSON: Expecting value"),
        (["-"], f'"{"x" * 300_000}"', "the limit is 262,144"),
        (["-"], b" " * (16 * 1024 * 1024 + 1), "larger than any payload may be"),
        (['"\\ud800"'], None, "surrogate"),
    ],
    ids=["a word", "Python", "NaN", "an infinity", "a very long number", "brackets", "too deep", "no UTF-8", "nothing",
         "too long", "endless", "half a character"],
)  # fmt: skip
def test_a_payload_that_cannot_be_kept_is_refused(store: Path, typed: list[str], stdin: Any, told: str) -> None:
    """With what is wrong with it, status 65, and nothing stored."""
    before = store.read_bytes()

    done = call("enqueue", "echo", *typed, "--store", store, stdin=stdin)

    assert (65, "") == (done.status, done.out)
    assert said(done, told)
    assert before == store.read_bytes()


def test_a_file_that_is_not_there_is_named(store: Path) -> None:
    """Status 74."""
    done = call("enqueue", "echo", "@nowhere.json", "--store", store)

    assert (74, "callsheet: nowhere.json: No such file or directory\n") == (done.status, done.err)


def test_every_option_is_kept_with_the_run(store: Path) -> None:
    """Delay, queue, priority, timeout, tries, trace id, id, key."""
    options = ["--delay", "2h", "--queue", "mail", "--priority", "1", "--timeout", "1.5m", "--max-attempts", "9"]
    named = ["--trace-id", "t/9", "--run-id", "mine", "--key", "k/9"]

    done = call("enqueue", "echo", "1", *options, *named, "--store", store, "--json").json

    run = stored(store, "mine").run
    assert ("mine", False, "scheduled") == (done["run_id"], done["deduped"], done["run"]["status"])
    assert ("app/mail", 1, 90_000_000, 9, "t/9", "k/9") == (
        run.lane.queue,
        run.priority,
        run.timeout_us,
        run.max_attempts,
        run.trace_id,
        run.idempotency_key,
    )
    assert 7_200_000_000 == pytest.approx(run.due_us - run.created_us, abs=1_000_000)


def test_a_time_may_be_named(store: Path) -> None:
    """With its zone."""
    done = call("enqueue", "echo", "--run-at", "2030-07-01T08:00+02:00", "--store", store, "--json").json

    assert "2030-07-01T06:00:00.000000Z" == done["run"]["due_at"]


def test_a_key_is_one_run(store: Path) -> None:
    """The second call prints the same id, and says so; strict, another payload is refused."""
    first = call("enqueue", "echo", "1", "--key", "once", "--store", store)
    second = call("enqueue", "echo", "1", "--key", "once", "--store", store)
    other = call("enqueue", "echo", "2", "--key", "once", "--store", store)
    strict = call("enqueue", "echo", "2", "--key", "once", "--store", store, "--strict")

    assert first.out == second.out == other.out
    assert "it was requested before: it is queued\n" == second.err
    assert "it was requested before, with another task or payload: it is queued\n" == other.err
    assert (1, "") == (strict.status, strict.out)
    assert said(strict, "idempotency key 'once' belongs to run", "another payload or task")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--delay", "soon"], "'soon' is no duration: write seconds, or 15m, 2h, 1d"),
        (["--delay=-5"], "'-5' is no duration"),
        (["--delay", "99999d"], "delay: must be"),
        (["--run-at", "tomorrow"], "run_at: 'tomorrow' is not a time as RFC 3339 writes it"),
        (["--run-at", "2030-07-01T08:00"], "run_at: has no time zone"),
        (["--run-at", "2099-07-01T08:00Z"], "run_at: is more than 10 years ahead"),
        (["--delay", "5", "--run-at", "2030-07-01T08:00Z"], "give one of them, not both"),
        (["--priority", "10"], "priority: must be an int from 0 (first) to 9, not 10"),
        (["--priority", "high"], "--priority"),
        (["--timeout", "0"], "timeout: must be more than 0 seconds"),
        (["--max-attempts", "0"], "max_attempts: must be"),
        (["--queue", "male"], "has no queue 'male'; did you mean 'mail'?"),
        (["--run-id", "a/b"], 'it contains "/"'),
        (["--key", ""], "idempotency_key '' is not allowed: it is empty"),
        (["--trace-id", "\u202e"], "it contains the invisible character U+202E"),
        (["--wait-for", "ever"], "'ever' is no duration"),
    ],
)
def test_an_option_out_of_its_bounds_is_named(store: Path, options: list[str], told: str) -> None:
    """Status 2, and nothing is stored."""
    before = store.read_bytes()

    done = call("enqueue", "echo", *options, "--store", store)

    assert (2, "") == (done.status, done.out)
    assert said(done, told)
    assert before == store.read_bytes()


def test_a_task_that_is_misspelt_is_suggested(store: Path) -> None:
    """Status 2."""
    done = call("enqueue", "ecoh", "--store", store)

    assert (2, "callsheet: app/board has no task 'ecoh'; did you mean 'echo'?\n") == (done.status, done.err)


def test_a_wait_that_is_over_says_so(store: Path) -> None:
    """Nobody runs it: status 75, and the id was printed first."""
    done = call("enqueue", "echo", "--wait-for", "0.01", "--store", store)

    assert 75 == done.status
    assert f"callsheet: run {done.out.strip()} is still queued after 0.01 s\n" == done.err
