"""
What `pip install` gives: the wheel made from the sdist, in a fresh environment, far from the checkout.

Rule: nothing here imports callsheet; what is tested is what was installed, in a process of its own.

Not here: what a job does (the other tests).
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

JOB: Final = """
import sys

import trio
from attrs import frozen

from callsheet import Context, Jobs

jobs = Jobs("background", namespace="installed")


@frozen
class Greeting:
    name: str


@jobs.task("greet")
async def greet(payload: Greeting, ctx: Context) -> None:
    print(f"hello {payload.name}, attempt {ctx.attempt}")


async def main() -> None:
    async with jobs.open(sys.argv[1]) as runtime:
        receipt = await greet.enqueue(Greeting("world"), idempotency_key="once")
        again = await jobs.enqueue("greet", Greeting("world"), idempotency_key="once")
        await runtime.until_idle()
        found = await jobs.runs.get(receipt.run_id)
        print(found.run.status, again.deduped, again.run_id == receipt.run_id)


trio.run(main)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; if it fails, all that it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist that is built from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    assert len(list(out.glob("*.tar.gz"))) == 1
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel and what it requires, and nothing else."""
    env = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", env, cwd=env)
    python = env / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=env)
    return python


def test_the_wheel_has_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    """The folders at the top arrive as real ones inside the one package, whole, and nothing beside it."""
    expected = {
        Path(folder, name).relative_to(ROOT).as_posix()
        for folder, _, names in os.walk(ROOT / "callsheet", followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }

    with zipfile.ZipFile(wheel) as archive:
        actual = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert {"callsheet/py.typed", "callsheet/actors/__init__.py"} <= expected
    assert expected == actual


def test_a_job_runs_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """Outside the checkout, with the required dependencies only, a job is enqueued, runs, and is found."""
    script = tmp_path / "job.py"
    script.write_text(JOB, encoding="utf-8")

    said = run(installed, "-I", "-W", "error", script, tmp_path / "jobs.db", cwd=tmp_path)

    assert ["hello world, attempt 1", "succeeded True True"] == said.splitlines()


@pytest.mark.parametrize("folder", ["actors", "supervisor", "store"])
def test_an_install_takes_no_other_name(installed: Path, tmp_path: Path, folder: str) -> None:
    """The layers are importable inside callsheet only: the names at the top belong to others."""
    code = f"import importlib.util; print(importlib.util.find_spec('{folder}'))"

    assert "None\n" == run(installed, "-I", "-c", code, cwd=tmp_path)


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        ("store", {"store"}),
        ("actors", {"store", "actors"}),
        ("supervisor", {"store", "actors", "supervisor"}),
    ],
)
def test_importing_a_layer_loads_nothing_above_it(
    installed: Path, tmp_path: Path, layer: str, allowed: set[str]
) -> None:
    """The actor layer can be used for its own sake: `import callsheet.actors` does not load the facade."""
    loaded = run(installed, "-I", "-c", f"import sys, callsheet.{layer}; print(*sys.modules)", cwd=tmp_path).split()

    assert allowed >= {name.split(".")[1] for name in loaded if name.startswith("callsheet.")}
