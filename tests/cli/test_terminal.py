"""The command line before a person: tables that fit, colours, questions, Ctrl-C."""

from __future__ import annotations

from pathlib import Path

from callsheet import Client

from .terminal import terminal


def test_tables_fit_the_terminal_and_have_colours(store: Path) -> None:
    """Wide, all columns; narrow, the less important ones are left out, and no id is cut. NO_COLOR is heeded."""
    with (
        terminal("runs", "list", "--store", store) as wide,
        terminal("runs", "list", "--store", store, width=66, NO_COLOR="1") as narrow,
    ):
        assert (0, 0) == (wide.end(), narrow.end())

    heading = wide.text.splitlines()[0].split()
    assert ["ID", "STATUS", "TASK", "QUEUE", "ATTEMPT", "SPENT", "AGE", "DUE", "CAUSE"] == heading
    assert "\x1b[32msucceeded" in wide.shown
    assert "\x1b[31mdead_lettered" in wide.shown
    assert "\x1b[31mred" not in wide.shown
    assert ["ID", "STATUS", "TASK", "ATTEMPT", "AGE", "CAUSE"] == narrow.text.splitlines()[0].split()
    assert all(len(line) <= 66 for line in narrow.text.splitlines())
    assert "\x1b[3" not in narrow.shown
    assert ["run-b", "run-a2", "run-a1"] == [line.split()[0] for line in narrow.text.splitlines()[1:4]]


def test_what_would_be_canceled_is_asked(store: Path) -> None:
    """C2: how many, some of them, and a question whose answer is that number."""
    with terminal("runs", "cancel", "--all", "--store", store) as asked:
        asked.until("Type 2 to cancel them: ")
        assert "2 runs would be canceled, among them:" in asked.text
        assert "mail-1  queued  send, requested" in asked.text
        asked.type("2\n")
        assert 0 == asked.end()

    assert "2 runs canceled" in asked.text
    with Client(store) as client:
        assert "canceled" == client.runs.get("mail-1").run.status


def test_another_answer_changes_nothing(store: Path) -> None:
    """Neither yes, nor Ctrl-C."""
    before = store.read_bytes()
    for answer, status in (("y\n", 1), ("\x03", 130)):
        with terminal("runs", "replay", "--all", "--store", store) as asked:
            asked.until("Type 2 to replay them: ")
            asked.type(answer)
            assert (answer, status) == (answer, asked.end())
        assert "Traceback" not in asked.text
        assert before == store.read_bytes()


def test_the_secret_of_the_monitor_is_for_a_person(tmp_path: Path) -> None:
    """On a terminal the link is whole; Ctrl-C stops the runtime gracefully."""
    with terminal("run", "callboard:jobs", "--store", tmp_path / "jobs.db", "--monitor", width=400) as runs:
        runs.until("monitor http://127.0.0.1:")
        runs.until("\n")
        runs.type("\x03")
        assert 0 == runs.end()

    assert "/#token=" in runs.text
    assert "SIGINT: stopping" in runs.text
    assert ["jobs.db"] == [path.name for path in tmp_path.iterdir()]


def test_the_doctor_shows_colours(store: Path) -> None:
    """And what is looked at, where somebody waits."""
    store.chmod(0o644)
    with terminal("doctor", "--store", store, width=200) as looked:
        assert 0 == looked.end()

    assert "\x1b[33mwarning" in looked.shown
    assert "\x1b[32mok" in looked.shown
    assert "rights: others may use" in looked.text
