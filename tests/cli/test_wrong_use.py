"""Wrong use: one sentence on stderr, the status that the table names, no traceback, nothing stored."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

import callsheet
from callsheet import CallsheetError, Client, ForeignDatabase, StoreBusy, StoreFull, cli
from callsheet.client.direct import Direct
from callsheet.commands import serving, statuses
from callsheet.commands.reach import AmbiguousRun
from callsheet.commands.target import CannotLoad

from .shell import HERE, call, said

COMMANDS: Final = {
    "list": ["runs", "list"],
    "show": ["runs", "show", "x"],
    "why": ["runs", "why", "x"],
    "wait": ["runs", "wait", "x"],
    "cancel": ["runs", "cancel", "x"],
    "cancel all": ["runs", "cancel", "--all", "--yes"],
    "replay": ["runs", "replay", "x"],
    "enqueue": ["enqueue", "echo", "1"],
    "queues": ["queues"],
    "pause": ["queues", "pause", "mail"],
    "snapshot": ["snapshot"],
    "schedules": ["schedules", "list"],
    "every": ["schedules", "every", "k", "1h", "echo"],
}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("name", ["list", "cancel all", "enqueue", "doctor"])
@pytest.mark.parametrize(
    ("store", "status", "told"),
    [
        (None, 2, "no database is named: say --store PATH, or set CALLSHEET_STORE"),
        ("", 2, "no database is named"),
        ("nowhere.db", 69, "there is no database"),
        ("no/folder.db", 78, "there is no folder"),
        ("folder", 78, "it is a folder"),
        ("postgresql://ada:geheim@host/db", 78, "this release has no store for postgresql: URLs"),
        (":memory:", 78, "a store in memory is seen by its own process only"),
        ("letter.txt", 65, "is not a callsheet database"),
        ("half.db", 65, "is damaged"),
        ("newer.db", 65, "upgrade callsheet"),
    ],
)
def test_a_store_that_is_none(place: Path, name: str, store: str | None, status: int, told: str) -> None:
    """Not named, not there, not ours, damaged: nothing is made, nothing is touched, and no password is repeated."""
    before = contents(place)

    done = call(*COMMANDS.get(name, [name]), *([] if store is None else ["--store", store]))

    assert status == done.status
    assert told in (done.out + done.err if name == "doctor" else done.err)
    assert "geheim" not in done.out + done.err
    assert before == contents(place)


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of things that are no store, in which we are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam\n" * 100)
    body = made.read_bytes()
    (tmp_path / "half.db").write_bytes(body[: len(body) // 8192 * 4096])
    (tmp_path / "newer.db").write_bytes(body)
    newer = apsw.Connection(str(tmp_path / "newer.db"))
    newer.execute(
        "update meta set value = 99; pragma wal_checkpoint(truncate); pragma journal_mode = delete"
    ).fetchall()
    newer.close()
    return tmp_path


def test_jobs_that_nobody_published(tmp_path: Path) -> None:
    """A database that no runtime has opened says nothing of any jobs: each command ends with status 69."""
    path = tmp_path / "jobs.db"
    with callsheet.Jobs("new").client(path) as client:
        client.stats()

    for command in COMMANDS.values():
        done = call(*command, "--store", path)

        assert 69 == done.status
        assert said(done, "which Jobs are meant is not clear: nothing is published yet")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nowhere:jobs", "there is no module 'nowhere' in "),
        ("callboard.nowhere:jobs", "there is no module 'callboard.nowhere'"),
        ("callboard:jbos", "module callboard has no attribute 'jbos'; did you mean 'jobs'?"),
        ("callboard:jobs.name", "it is of type str; name an instance of Jobs"),
        ("callboard:number", "it is of type int"),
        ("callboard:jobs.", "Jobs has no attribute ''"),
        ("callboard:careless", "calling it raised RuntimeError at "),
        ("callboard:both", "it holds app/board, app/others: name one of them"),
        (":jobs", "it is no module:attribute, as in app:jobs"),
        ("call board:jobs", "it is no module:attribute"),
        ("broken_module:jobs", "importing it raised ZeroDivisionError at "),
        ("exiting_module:jobs", "importing it raised SystemExit at "),
        ("importing_module:jobs", "importing it raised ModuleNotFoundError at "),
        ("misspelt_module:jobs", "importing it raised SyntaxError at "),
        ("twice_module:jobs", "importing it raised AlreadyDeclared at "),
    ],
)
def test_a_module_that_cannot_be_used(store: Path, monkeypatch: pytest.MonkeyPatch, target: str, told: str) -> None:
    """What it names is not there, or raises: one sentence that says where; status 78."""
    for name, code in MODULES.items():
        (store.parent / f"{name}.py").write_text(code)
    (store.parent / "callboard.py").symlink_to(HERE / "callboard.py")
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = store.read_bytes()

    done = call("runs", "list", "--store", store, "--jobs", target)

    assert 78 == done.status
    assert said(done, f"callsheet: {target!a} cannot be used: ", told)
    assert 1 == len(done.err.splitlines())
    assert before == store.read_bytes()


MODULES: Final = {
    "broken_module": "x = 1\ny = 1 / 0\n",
    "exiting_module": "import sys\nsys.exit('usage: this is a program')\n",
    "importing_module": "import not_installed_at_all\n",
    "misspelt_module": "def f(:\n",
    "twice_module": "from callsheet import Jobs, Queue\njobs = Jobs('x', queues=[Queue('a'), Queue('a')])\n",
}


def test_the_traceback_of_a_module_is_there_for_the_asking(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sentence is not enough."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (store.parent / "broken_two.py").write_text("x = 1\ny = 1 / 0\n")

    plain = call("runs", "list", "--store", store, "--jobs", "broken_two:jobs")
    with pytest.raises(AssertionError, match=r"y = 1 / 0"):
        call("runs", "list", "--store", store, "--jobs", "broken_two:jobs", "--traceback")

    assert 78 == plain.status
    where = f"{store.parent}/broken_two.py:2"
    assert said(plain, f"raised ZeroDivisionError at {where}: division by zero; --traceback shows all of it")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rnus"], "No such command 'rnus'"),
        (["runs"], "Usage: callsheet runs"),
        (["runs", "lsit"], "No such command 'lsit'"),
        (["runs", "list", "--limit", "0"], "--limit"),
        (["runs", "list", "--limit", "many"], "--limit"),
        (["runs", "list", "--limit", "9" * 5000], "--limit"),
        (["runs", "list", "--since", "then"], "'then' is no time: write 2026-07-01T08:00Z, or how long ago"),
        (["runs", "list", "--since", "2026-13-45T00:00Z"], "is no time"),
        (["runs", "list", "--since", "99999999999d"], "is no time"),
        (["runs", "list", "--after", ""], "after '' is not allowed: it is empty"),
        (["runs", "list", "--queue", "a/b"], 'it contains "/"'),
        (["runs", "show"], "RUN"),
        (["runs", "show", "a", "b"], "unexpected extra argument"),
        (["runs", "wait", "run-b", "--timeout", "-1"], "'-1' is no duration"),
        (["queues", "pause", "male"], "has no queue 'male'; did you mean 'mail'?"),
        (["queues", "set", "mail"], "name at least one limit"),
        (["queues", "set", "mail", "--concurrency", "0"], "concurrency: must be"),
        (["queues", "--json", "pause", "mail"], "--json"),
        (["doctor", "--fix"], "No such option: --fix"),
        (["run"], "MODULE:ATTRIBUTE"),
        (["run", "callboard:jobs", "--log-level", "loud"], "'loud' is none of debug, info"),
        (["run", "callboard:jobs", "--grace", "long"], "'long' is no duration"),
        (["runs", "list", "--\x1b[31m"], "--\\x1b[31m"),
        (["runs", "show", "\x1b]0;x\x07"], "\\x1b]0;x\\x07"),
    ],
)
def test_what_is_typed_wrong_is_named(store: Path, arguments: list[str], told: str) -> None:
    """Status 2, the option or the word that is wrong, and nothing else happens."""
    before = store.read_bytes()

    done = call(*arguments, CALLSHEET_STORE=str(store))

    assert 2 == done.status
    assert told in done.out + done.err
    assert "\x1b" not in done.out + done.err
    assert before == store.read_bytes()


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--queues", "male"], 2, "has no queue 'male'; did you mean 'mail'?"),
        (["--queues", ","], 2, "give a list with at least one name"),
        (["--max-running", "0"], 2, "max_running: must be"),
        (["--grace", "2d"], 2, "grace: must be"),
        (["--port", "70000"], 2, "Monitor(port): must be 0 to 65535"),
        (["--app", "callboard:nothing"], 78, "has no attribute 'nothing'"),
        (["--app", "callboard:careless"], 78, "calling it raised RuntimeError"),
        (["another_board"], 78, "there are several Jobs named app/board"),
    ],
)
def test_options_of_run_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], status: int, told: str
) -> None:
    """They are told before a database is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    (tmp_path / "another_board.py").write_text("from callsheet import Jobs\njobs = Jobs('board', namespace='app')\n")

    done = call("run", "callboard:jobs", *options, "--store", tmp_path / "jobs.db")

    assert status == done.status
    assert said(done, told)
    assert not (tmp_path / "jobs.db").exists()


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["callboard:jobs"], ["board"]),
        (["callboard:both"], ["board", "others"]),
        (["callboard:made", "callboard:jobs"], ["board"]),
        (["callboard"], ["board", "others"]),
        (["callboard:others", "callboard"], ["others", "board"]),
    ],
)
def test_what_a_target_may_name(monkeypatch: pytest.MonkeyPatch, targets: list[str], names: list[str]) -> None:
    """An instance, a list, a function that returns one, a module; what is named twice is run once."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    seen: list[str] = []
    monkeypatch.setattr(
        "callsheet.commands.serving.serve", lambda stage, _: seen.extend(each.name for each in stage.jobs)
    )

    done = call("run", *targets, "--store", "jobs.db")

    assert (0, names) == (done.status, seen)


def test_the_environment_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that names the jobs for all commands."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    seen: list[str] = []
    monkeypatch.setattr(
        "callsheet.commands.serving.serve", lambda stage, _: seen.extend(each.name for each in stage.jobs)
    )

    done = call("run", CALLSHEET_STORE="jobs.db", CALLSHEET_JOBS="callboard:jobs")

    assert (0, ["board"]) == (done.status, seen)


@pytest.mark.parametrize("kind", ["object", "awaited", "entered", "entered in the loop"])
async def test_what_handlers_are_given(kind: str) -> None:
    """An object as it is; what is awaited; what a context manager enters, left at the end."""
    log: list[str] = []

    @contextmanager
    def plain() -> Iterator[str]:
        yield "services"
        log.append("left")

    @asynccontextmanager
    async def in_the_loop() -> AsyncIterator[str]:
        yield "services"
        log.append("left")

    async def later() -> str:
        return "services"

    make: dict[str, Callable[[], Any]] = {
        "object": lambda: "services",
        "awaited": later,
        "entered": plain,
        "entered in the loop": in_the_loop,
    }
    async with serving._made(make[kind]) as app:
        assert ("services", []) == (app, log)

    assert (["left"] if "entered" in kind else []) == log


def test_a_misspelt_store_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the code of the jobs is named, whose client would make one."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", [*sys.path])

    done = call("enqueue", "echo", "--store", tmp_path / "jbos.db", "--jobs", "callboard:jobs")

    assert (69, []) == (done.status, [*tmp_path.iterdir()])
    assert said(done, "there is no database")


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (StoreBusy("jobs.db", 5), 75),
        (StoreFull("jobs.db"), 74),
        (PermissionError(13, "Permission denied", "jobs.db"), 74),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_the_store_raises_has_its_status(
    store: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int
) -> None:
    """Busy, full, forbidden, interrupted: a sentence, or nothing after Ctrl-C."""
    monkeypatch.setattr(Direct, "_write", _raising(raised))

    done = call("enqueue", "echo", "--store", store)

    assert (status, "") == (done.status, done.out)
    assert len(done.err.splitlines()) == (0 if isinstance(raised, KeyboardInterrupt) else 1)


def test_a_mistake_of_ours_is_a_traceback(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 70, and the request to report it."""
    monkeypatch.setattr(Direct, "_write", _raising(RuntimeError("a mistake")))

    with pytest.raises(AssertionError, match=r"(?s)Traceback.*RuntimeError: a mistake.*please report it"):
        call("enqueue", "echo", "--store", store)


def _raising(error: BaseException) -> Callable[..., Any]:
    def call(*_: object) -> None:
        raise error

    return call


def test_a_password_on_the_command_line_is_warned_of() -> None:
    """C3: everybody can see it there; in the environment it is not, and nowhere is it repeated."""
    url = "postgresql://ada:geheim@host/db"

    typed, kept = call("runs", "list", "--store", url), call("runs", "list", CALLSHEET_STORE=url)

    assert (
        "note: everybody who lists processes can see that password: put the URL into CALLSHEET_STORE instead"
        in typed.err
    )
    assert "note:" not in kept.err
    assert said(kept, "this release has no store for postgresql: URLs")
    assert "geheim" not in typed.err + kept.err


def test_every_error_has_a_status() -> None:
    """Each public error of the package that a command can meet has a row, and no row is of an error that is none."""
    errors = {name for name in callsheet.__all__ if _is_error(getattr(callsheet, name))}
    ours = {"AmbiguousRun": AmbiguousRun, "CannotLoad": CannotLoad, "OSError": OSError}
    inside = {"IllegalMove", "StoreClosed"}

    unknown = {
        name for name in errors if statuses.status_of(getattr(callsheet, name).__new__(getattr(callsheet, name))) == 70
    }
    assert {name for name in statuses.BY_ERROR if name not in errors | ours.keys() | inside} == set()
    assert unknown == NEVER_MET
    assert set(statuses.BY_ERROR.values()) <= statuses.MEANINGS.keys()


NEVER_MET: Final = {
    "ActorDown", "ActorError", "AmbiguousRuntime", "AskTimeout", "AskedItself", "AskedTwice", "CallsheetError", "ChildIsUp",
    "ChildStartFailed", "DuplicateChild", "IntensityExceeded", "InvalidSpec", "MailboxFull", "MessageDropped", "NameTaken",
    "Discard", "NeededByAll", "NotInHandler", "NotMyChild", "PoolFull", "RetryAfter", "RuntimeGaveUp", "Snooze", "StartTimeout",
    "StoreError", "SupervisionError", "SystemGaveUp", "WrongMessage",
}  # fmt: skip
"""Errors of actors and handlers, which no command meets; bases; and a runtime that gave up, which is a mistake inside."""


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, CallsheetError)


def test_the_help_tells_every_status() -> None:
    """At its end."""
    shown = call("--help").out

    for status, meaning in statuses.MEANINGS.items():
        assert re.search(rf"^ +{status}  {re.escape(meaning)}$", shown, re.MULTILINE)


def test_what_is_foreign_is_not_only_refused_but_kept(tmp_path: Path) -> None:
    """Somebody's letter is as it was, whatever is tried on it."""
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear Sir or Madam\n")

    for command in COMMANDS.values():
        assert statuses.status_of(ForeignDatabase("", "")) == call(*command, "--store", letter).status

    assert {"letter.txt": b"Dear Sir or Madam\n"} == contents(tmp_path)


def test_a_client_leaves_no_file_behind(store: Path) -> None:
    """Reading and writing by the command line leaves the database and nothing beside it."""
    call("enqueue", "echo", "--store", store)
    call("runs", "list", "--store", store)
    with Client(store) as client:
        client.stats()

    assert ["jobs.db"] == [path.name for path in store.parent.iterdir()]


def test_ctrl_c_before_anything_began_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """To load the commands takes a moment, in which a person may change their mind."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "commands", interrupted)

    with pytest.raises(SystemExit) as end:
        cli.main()

    assert 130 == end.value.code
