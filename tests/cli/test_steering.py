"""Cancel and replay: named runs, and all that match after it was said how many those are."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from callsheet import Client, Status
from callsheet.client.client import ClientRuns

from . import callboard
from .shell import Done, call, said


def waiting(store: Path, n: int) -> list[str]:
    """So many runs that wait, the newest first."""
    with callboard.jobs.client(store) as client:
        made = client.enqueue_many([client.entry("send", each, run_id=f"zz-{each:04}") for each in range(n)])
    return [each.run_id for each in reversed(made)]


def status_of(store: Path, *run_ids: str) -> list[str]:
    """Of these runs."""
    with Client(store) as client:
        return [str(client.runs.get(each).run.status) for each in run_ids]


def count(store: Path, **where: Any) -> int:
    """How many runs match."""
    with Client(store) as client:
        return len(client.runs.list(limit=500, **where).runs)


# ---------------------------------------------------------------- named runs


def test_named_runs_are_canceled_one_by_one(store: Path) -> None:
    """Each is answered for; one that has ended is left as it is, one that is not there is named, and the others are done."""
    done = call("runs", "cancel", "later", "run-b", "nobody", "mail", "--store", store)

    assert (
        1,
        ["later canceled", "run-b left as it is: it is succeeded", "mail-1 canceled"],
        "callsheet: there is no run 'nobody'\n",
    ) == (done.status, done.out.splitlines(), done.err)
    assert ["canceled", "succeeded", "canceled"] == status_of(store, "later", "run-b", "mail-1")


def test_one_that_is_not_there_is_status_1(store: Path) -> None:
    """Though the others were canceled."""
    done = call("runs", "cancel", "nobody", "later", "--store", store)

    assert (1, "later canceled\n") == (done.status, done.out)


def test_who_canceled_it_stands_in_its_history(store: Path) -> None:
    """Without a reason, who it was; with one, the reason."""
    call("runs", "cancel", "later", "--subject", "cli:ada", "--store", store)
    call("runs", "cancel", "mail-1", "--reason", "no such address", "--store", store)

    causes = [call("runs", "show", each, "--store", store, "--json").json["cause"] for each in ("later", "mail-1")]
    assert ["canceled: by cli:ada", "canceled: no such address"] == causes


def test_named_runs_are_replayed(store: Path) -> None:
    """A new run for each that has ended; its id is told."""
    done = call("runs", "replay", "dead-1", "later", "--delay", "1h", "--reason", "fixed", "--store", store, "--json")

    first, second = done.lines
    again = call("runs", "show", first["replay_id"], "--store", store, "--json").json
    assert (1, True, False) == (done.status, first["done"], second["done"])
    assert ("dead-1", "fixed", "scheduled") == (again["replay_of"], again["reason"], again["status"])
    assert "only a run that has ended can be replayed" in second["why"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no run is named: name some, or say --all"),
        (["--task", "send"], "no run is named"),
        (["later", "--all"], "which of them is meant?"),
        (["later", "--task", "send"], "--task goes with --all, not with runs that are named"),
        (["--all", "--status", "sleeping"], "'sleeping' is none of queued"),
        (["--all", "--since", "yesterday"], "'yesterday' is no time"),
        (["--all", "--since", "2026-01-01"], "has no time zone"),
    ],
)
@pytest.mark.parametrize("command", ["cancel", "replay"])
def test_which_runs_are_meant_must_be_clear(store: Path, command: str, arguments: list[str], told: str) -> None:
    """Status 2, and nothing is changed."""
    before = store.read_bytes()

    done = call("runs", command, *arguments, "--store", store, "--yes")

    assert 2 == done.status
    assert said(done, told)
    assert before == store.read_bytes()


# ---------------------------------------------------------------- all that match


def test_all_that_match_are_canceled(store: Path) -> None:
    """With --yes nobody is asked; the runs are answered for one by one, and summed up."""
    runs = waiting(store, 1_203)

    done = call("runs", "cancel", "--all", "--task", "send", "--store", store, "--yes")

    assert (0, "1,204 runs canceled\n") == (done.status, done.err)
    assert sorted([*runs, "mail-1"]) == sorted(line.removesuffix(" canceled") for line in done.out.splitlines())
    assert 0 == count(store, task="send", status="queued")
    assert ["scheduled"] == status_of(store, "later")


def test_all_that_is_dead_lettered_is_replayed_once(store: Path) -> None:
    """The same call again passes over what was replayed before, and names the replay; --repeat does not."""
    first = call("runs", "replay", "--all", "--store", store, "--yes")
    second = call("runs", "replay", "--all", "--store", store, "--yes", "--json")
    third = call("runs", "replay", "--all", "--store", store, "--yes", "--repeat")

    assert "2 runs replayed\n" == first.err == third.err
    assert "0 runs replayed, 2 left as they are\n" == second.err
    assert ["it was replayed before"] * 2 == [each["why"] for each in second.lines]
    assert sorted(line.split()[-1] for line in first.out.splitlines()) == sorted(
        each["replay_id"] for each in second.lines
    )
    assert 4 == count(store, task="fail", status="queued")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_where_nobody_can_be_asked_nothing_is_done(store: Path, options: list[str]) -> None:
    """Without a terminal it takes --yes: how many runs it would be is said, with some of them; status 2."""
    before = store.read_bytes()

    done = call("runs", "cancel", "--all", "--store", store, *options)

    assert (2, "") == (done.status, done.out)
    assert said(
        done, "2 runs would be canceled, among them:", "mail-1  queued  send", "later  scheduled  echo", "--yes"
    )
    assert before == store.read_bytes()


def test_where_no_run_matches_nobody_is_asked(store: Path) -> None:
    """And it is no failure."""
    done = call("runs", "cancel", "--all", "--task", "nobody", "--store", store)

    assert (0, "", "no runs match\n") == (done.status, done.out, done.err)


def test_what_is_requested_after_the_question_is_left_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked about is what is done."""
    true_cancel_all = ClientRuns.cancel_all

    def late(self: ClientRuns, **options: Any) -> Any:
        call("enqueue", "send", "--run-id", "just-now", "--store", store)
        return true_cancel_all(self, **options)

    monkeypatch.setattr(ClientRuns, "cancel_all", late)
    done = call("runs", "cancel", "--all", "--queue", "mail", "--store", store, "--yes")

    assert "mail-1 canceled\n" == done.out
    assert ["queued"] == status_of(store, "just-now")


def interrupted(store: Path, command: str, after: int, monkeypatch: pytest.MonkeyPatch, *options: str) -> Done:
    """A bulk call with a Ctrl-C while a step is done."""
    name, steps = f"{command}_all", iter(range(after + 1))
    true_call = getattr(ClientRuns, name)

    def with_signal(self: ClientRuns, **given: Any) -> Any:
        if next(steps) == after:
            signal.raise_signal(signal.SIGINT)
        return true_call(self, **given)

    with monkeypatch.context() as patched:
        patched.setattr(ClientRuns, name, with_signal)
        return call("runs", command, "--all", "--store", store, "--yes", *options)


def test_ctrl_c_ends_the_step_in_hand_and_tells_what_is_left(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: each run is told as done or as not reached, truly; the same call goes on with the rest."""
    waiting(store, 1_300)
    stopped = interrupted(store, "cancel", 1, monkeypatch, "--task", "send")
    lines = [line.split(maxsplit=1) for line in stopped.out.splitlines()]
    done, left = ([run for run, what in lines if what == word] for word in ("canceled", "not reached"))
    still = status_of(store, *done[:3], *done[-3:], *left[:3], *left[-3:])
    again = call("runs", "cancel", "--all", "--task", "send", "--store", store, "--yes")

    assert (130, 1_000, 301) == (stopped.status, len(done), len(left))
    assert said(stopped, "1,000 runs canceled, 301 not reached: the same call goes on with them")
    assert ["canceled"] * 6 + ["queued"] * 6 == still
    assert "301 runs canceled\n" == again.err


def test_ctrl_c_in_the_middle_of_replays(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same: what was replayed is not replayed again."""
    waiting(store, 249)
    call("runs", "cancel", "--all", "--task", "send", "--store", store, "--yes")

    stopped = interrupted(store, "replay", 0, monkeypatch, "--status", "canceled", "--task", "send", "--json")
    again = call("runs", "replay", "--all", "--status", "canceled", "--task", "send", "--store", store, "--yes")

    assert (130, 100, 150) == (
        stopped.status,
        *(sum(each["done"] is way for each in stopped.lines) for way in (True, False)),
    )
    assert {"not reached"} == {each["why"] for each in stopped.lines if not each["done"]}
    assert "150 runs replayed, 100 left as they are\n" == again.err
    assert 250 == count(store, task="send", status=Status.QUEUED)


def test_a_replay_asks_for_what_has_ended(store: Path) -> None:
    """Status 2 for a status that is not final."""
    done = call("runs", "replay", "--all", "--status", "queued", "--store", store, "--yes")

    assert 2 == done.status
    assert said(done, "status: a run that is queued cannot be replayed")
