"""The `callsheet` command, up to where the demonstration begins."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import callsheet
from callsheet.cli import commands

ROOT = Path(callsheet.__file__).parents[1]


def call(*arguments: str) -> Result:
    """What the command line makes of the arguments."""
    return CliRunner().invoke(commands(), arguments, prog_name="callsheet", env={"COLUMNS": "400", "NO_COLOR": "1"})


def unboxed(done: Result) -> str:
    """What it said, without the lines around it and in one line."""
    return " ".join(re.sub("[─│╭╮╰╯]", " ", done.output).split())


def without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an environment that lacks a module."""
    code = f"import sys; sys.modules[{module!r}] = None; from callsheet.cli import main; main()"
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_version_is_shown() -> None:
    """`callsheet --version` says which."""
    assert f"callsheet {callsheet.__version__}\n" == call("--version").stdout


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments: tuple[str, ...]) -> None:
    """Called without anything, or for help, it says what there is."""
    shown = call(*arguments).output

    assert "demo" in shown
    assert "--version" in shown


def test_help_of_the_demo_names_its_options() -> None:
    """The options that are meant for users are explained, and only these."""
    shown = call("demo", "--help").output

    for option in ("--seed", "--runs", "--monitor", "--keep", "Exit status"):
        assert option in shown
    assert "--answer-early" not in shown


@pytest.mark.parametrize("module", ["typer", "rich"])
@pytest.mark.parametrize("arguments", [(), ("--version",), ("demo",)])
def test_without_its_extra_the_command_is_one_sentence(module: str, arguments: tuple[str, ...]) -> None:
    """Installed without the extra `cli`, it names it, and ends with 2."""
    done = without(module, *arguments)

    sentence = f"This command needs {module}, which the extra 'cli' brings: pip install 'callsheet[cli]'\n"
    assert (2, "", sentence) == (done.returncode, done.stdout, done.stderr)


def test_without_its_extra_the_demo_is_one_sentence() -> None:
    """The demonstration needs an HTTP client; the rest of the command does not."""
    done = without("httpx", "demo")

    sentence = "This command needs httpx, which the extra 'demo' brings: pip install 'callsheet[demo]'\n"
    assert (2, "", sentence) == (done.returncode, done.stdout, done.stderr)
    assert 0 == without("httpx", "--version").returncode


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("dmo",), "No such command 'dmo'"),
        (("demo", "--runs", "9"), "--runs"),
        (("demo", "--runs", "5001"), "--runs"),
        (("demo", "--seed", "-1"), "--seed"),
        (("demo", "--seed", "today"), "--seed"),
        (("demo", "extra"), "extra"),
        (("demo", "--fast"), "--fast"),
    ],
)
def test_wrong_use_is_named(arguments: tuple[str, ...], said: str) -> None:
    """What is wrong is said, nothing is started, and the exit status is 2."""
    done = call(*arguments)

    assert 2 == done.exit_code
    assert said in unboxed(done)
    assert "Traceback" not in done.output


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    """`--keep` never writes into a folder that has something in it."""
    (tmp_path / "mine").touch()

    done = call("demo", "--keep", str(tmp_path))

    assert 2 == done.exit_code
    assert f"{tmp_path} is not empty: name a new folder" in unboxed(done)
    assert ["mine"] == [each.name for each in tmp_path.iterdir()]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    """`--keep` names a file."""
    path = tmp_path / "file"
    path.touch()

    done = call("demo", "--keep", str(path))

    assert 2 == done.exit_code
    assert f"{path} cannot be used: File exists" in unboxed(done)
