"""Looking at runs, queues and everything: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from callsheet import Status

from .shell import call, said, work

ALL = ["run-b", "run-a2", "run-a1", "never", "mail-1", "later", "dead-2", "dead-1"]
"""By id, the greatest first."""


def ids(store: Path, *filters: str) -> list[str]:
    """Of the runs that are listed."""
    return [each["id"] for each in call("runs", "list", "--json", "--store", store, *filters).lines]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ALL),
        (["--task", "fail"], ["dead-2", "dead-1"]),
        (["--queue", "mail"], ["mail-1"]),
        (["--status", "dead-lettered"], ["dead-2", "dead-1"]),
        (["--status", "dead_lettered", "--limit", "1"], ["dead-2"]),
        (["--key", "key/1"], ["run-a1"]),
        (["--trace-id", "trace/1"], ["run-a2", "run-a1"]),
        (["--since", "1h"], ALL),
        (["--before", "1h ago"], []),
        (["--since", "2020-01-01T00:00Z", "--before", "2021-01-01T00:00+01:00"], []),
        (["--limit", "3"], ALL[:3]),
        (["--limit", "3", "--after", "run-a1"], ALL[3:6]),
        (["--limit", "1000000000000"], ALL),
        (["--all", "--limit", "1"], ALL),
    ],
)
def test_a_list_has_what_its_filters_ask_for(store: Path, filters: list[str], expected: list[str]) -> None:
    """Each filter, the limit, and the page after."""
    assert expected == ids(store, *filters)


def test_a_list_is_a_table_for_people_and_lines_of_json_for_programs(store: Path) -> None:
    """The same runs; what is not shown is said on stderr."""
    table = call("runs", "list", "--store", store, "--limit", "2")
    lines = call("runs", "list", "--store", store, "--limit", "2", "--json")

    heading, *rows = table.out.splitlines()
    assert ["ID", "STATUS", "TASK", "QUEUE", "ATTEMPT", "SPENT", "AGE", "DUE", "CAUSE"] == heading.split()
    assert [["run-b", "succeeded", "echo", "board-jobs", "1", "0/5"], ["run-a2", "succeeded", "echo"]] == [
        rows[0].split()[:6],
        rows[1].split()[:3],
    ]
    assert ["run-b", "run-a2"] == [each["id"] for each in lines.lines]
    assert "there are more: --after run-a2\n" == table.err == lines.err


def test_pages_of_a_long_list_are_one_table(store: Path) -> None:
    """More than one page is read: one heading, and columns that go on."""
    call("enqueue", "echo", "--store", store, "--run-id", "short")
    with_many(store, 1_100)

    table = call("runs", "list", "--store", store, "--all").out.splitlines()

    assert 1 + 1_100 + len(ALL) + 1 == len(table)
    assert 1 == sum("STATUS" in line for line in table)
    assert 1 == len({line.index("queued") for line in table if " queued " in line})


def with_many(store: Path, n: int) -> None:
    """So many more runs that wait."""
    from . import callboard

    with callboard.jobs.client(store) as client:
        client.enqueue_many([client.entry("send", each, run_id=f"zz-{each:04}") for each in range(n)])


def test_nothing_that_matches_is_no_failure(store: Path) -> None:
    """It is said to people, and is no line at all for programs."""
    table, lines = (call("runs", "list", "--store", store, "--task", "nobody", *more) for more in ([], ["--json"]))

    assert (0, "", "no runs match\n") == (table.status, table.out, table.err)
    assert (0, "", "") == (lines.status, lines.out, lines.err)


def test_a_run_is_shown_with_its_history(store: Path) -> None:
    """Attempts, transitions, what was raised; the payload only where it is asked for."""
    shown = call("runs", "show", "--store", store, "dead-2").out
    with_payload = call("runs", "show", "--store", store, "dead-2", "--payload", "--errors").out

    assert "status     dead_lettered" in shown
    assert "payload    14 bytes (--payload shows it)" in shown
    assert 2 == shown.count("ValueError: second…")
    assert ["queued", "running", "retrying", "running", "dead_lettered"] == [
        line.split()[2] for line in shown.splitlines() if line.startswith("20") and " s " not in line
    ][-5:]
    assert 'payload    "second\\nline"' in with_payload
    assert "raise ValueError(payload)" in with_payload


def test_what_programs_are_given_of_a_run(store: Path) -> None:
    """One document, times as RFC 3339, no payload unless it is asked for."""
    shown = call("runs", "show", "--store", store, "run-a1", "--json").json
    whole = call("runs", "show", "--store", store, "run-a1", "--json", "--payload").json

    assert ("run-a1", "app/board", "echo", "board-jobs", "succeeded", "trace/1", "key/1") == tuple(
        shown[name] for name in ("id", "jobs", "task", "queue", "status", "trace_id", "idempotency_key")
    )
    assert (["queued", "running", "succeeded"], ["succeeded"], 7) == (
        [each["now"] for each in shown["transitions"]],
        [each["outcome"] for each in shown["attempts"]],
        shown["payload_bytes"],
    )
    assert datetime.fromisoformat(shown["created_at"]) <= datetime.fromisoformat(shown["ended_at"])
    assert {"payload": {"n": 1}, "result": {"n": 1}} == {name: whole[name] for name in whole.keys() - shown.keys()}


@pytest.mark.parametrize(
    ("typed", "status", "told"),
    [
        ("run-b", 0, "run-b succeeded"),
        ("r", 2, "'r' is the beginning of several ids, as run-b, run-a2, run-a1"),
        ("run-", 2, "'run-' is the beginning of several ids"),
        ("run-a", 2, "'run-a' is the beginning of several ids, as run-a2, run-a1"),
        ("nothing", 1, "there is no run 'nothing'"),
        ("x" * 128, 1, "there is no run 'xxx"),
        ("x" * 129, 2, "the limit is 128"),
        ("", 2, "it is empty"),
        ("%", 1, "there is no run '%'"),
    ],
)
def test_an_id_is_typed_as_far_as_it_is_clear(store: Path, typed: str, status: int, told: str) -> None:
    """A beginning that only one run has is that run; one that several have names some."""
    done = call("runs", "wait", "--store", store, typed)

    assert status == done.status
    assert told in done.out + done.err


def test_how_many_ids_begin_alike_is_not_guessed(tmp_path: Path) -> None:
    """Some are named; how many more there are is not said, since nobody counted."""
    path = tmp_path / "jobs.db"
    work(path, *[("echo", None, {"run_id": f"run-{n}"}) for n in range(8)])

    done = call("runs", "why", "--store", path, "run-")

    assert 2 == done.status
    assert "several ids, as run-7, run-6, run-5, run-4, run-3 and more: type more" in done.err


def test_an_id_that_others_begin_with_is_itself(store: Path) -> None:
    """A whole id is never ambiguous, however many go on from it."""
    for each in ("long", "long-1", "long-2", *(f"long-3{n}" for n in range(9))):
        call("enqueue", "echo", "--store", store, "--run-id", each)

    shown = call("runs", "show", "--store", store, "long", "--json").json

    assert "long" == shown["id"]


@pytest.mark.parametrize(
    ("run", "reason", "told"),
    [
        ("run-a1", "ended", "It is succeeded"),
        ("later", "not_due", "It is due at"),
        ("mail-1", "no_runtime_watches", "Queue app/mail is paused."),
    ],
)
def test_why_a_run_is_where_it_is(store: Path, run: str, reason: str, told: str) -> None:
    """In a sentence, and in a word."""
    text = call("runs", "why", "--store", store, run).out
    found = call("runs", "why", "--store", store, run, "--json").json

    assert text.startswith(f"{run}: ")
    assert told in text
    assert (run, reason, True) == (found["run_id"], found["reason"], told in found["text"])


def test_queues_are_shown_and_steered(store: Path) -> None:
    """What is said of a queue is kept, shown beside what is declared, and taken back."""
    listed = call("queues", "--store", store).out.splitlines()
    limited = call(
        "queues", "set", "mail", "--concurrency", "3", "--global-limit", "0", "--store", store, "--json"
    ).json
    resumed = call("queues", "resume", "mail", "--store", store).out
    reset = call("queues", "reset", "mail", "--store", store, "--json").json
    again = call("queues", "list", "--store", store, "--json").json

    assert [["board-jobs", "open"], ["mail", "paused", "0", "1"]] == [listed[1].split()[:2], listed[2].split()[:4]]
    assert (3, None, ["concurrency", "global_limit"], 100) == (
        limited["concurrency"],
        limited["global_limit"],
        limited["overridden"],
        limited["declared"]["concurrency"],
    )
    assert "concurrency, global_limit" in resumed
    assert (100, False, []) == (reset["concurrency"], reset["paused"], reset["overridden"])
    assert [False, False] == [each["paused"] for each in again["queues"]]


def test_a_snapshot_has_everything_at_a_glance(store: Path) -> None:
    """Counts, queues, runtimes, the newest runs."""
    text = call("snapshot", "--store", store).out
    taken = call("snapshot", "--store", store, "--json").json

    assert "app/board: 8 runs\n" in text
    assert "1 queued, 1 scheduled, 3 succeeded, 2 dead_lettered, 1 canceled\n" in text
    assert "none is open\n" in text
    assert (8, 3, [*map(str, Status)]) == (
        taken["stats"]["total"],
        taken["stats"]["by_status"]["succeeded"],
        [*taken["stats"]["by_status"]],
    )
    assert ALL == [each["id"] for each in taken["recent"]]
    assert "secret payload" not in text + json.dumps(taken)


def test_the_environment_says_which_store_and_which_jobs(store: Path) -> None:
    """As options do; what is typed wins."""
    here = call("runs", "list", "--json", CALLSHEET_STORE=str(store), CALLSHEET_JOBS="app/board").lines
    typed = call("runs", "list", "--store", store, CALLSHEET_STORE="elsewhere.db").status
    nobody = call("runs", "list", CALLSHEET_STORE=str(store), CALLSHEET_JOBS="app/nobody")

    assert (len(ALL), 0, 69) == (len(here), typed, nobody.status)
    assert said(nobody, "no definition of 'app/nobody'", "published are app/board")
