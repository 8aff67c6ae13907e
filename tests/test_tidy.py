"""
The rules of the source tree, read from the source.

Rule: a rule is data (`BELOW`, `SEAMS`, `NEVER`, `ALLOWED`, `DEADLINES`); each finder is shown to find what was planted.

Not here: what ruff checks already (docstrings of public modules, classes and functions; common mistakes).
"""

import ast
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import callsheet

ROOT: Final = Path(__file__).parents[1]

# A layer may import itself and what stands here.
BELOW: Final[dict[str, set[str]]] = {
    "store": set(),
    "actors": {"store"},
    "supervisor": {"store", "actors"},
    "callsheet": {"store", "actors", "supervisor"},
}

# Each entry stands for itself and for all that is under it: "time" is also `time.monotonic`.
SEAMS: Final[dict[str, str]] = {
    "time": "the clock is injected: a test must be able to run a day in a millisecond",
    "datetime.datetime.now": "the clock is injected",
    "datetime.datetime.utcnow": "the clock is injected",
    "datetime.datetime.today": "the clock is injected",
    "datetime.date.today": "the clock is injected",
    "trio.current_time": "the clock is injected; trio's is one of several",
    "random": "the random source is injected: a seed must repeat a whole history",
    "secrets": "the random source is injected",
    "os.urandom": "the random source is injected",
    "uuid": "ids are injected",
    "os._exit": "process exit is injected: a test must survive it",
    "sys.exit": "process exit is injected",
    "threading.Thread": "threads are injected: simulation runs their work inline",
    "trio.to_thread": "threads are injected",
    "builtins.open": "files are opened where a fault can be planted",
    "io.open": "files are opened where a fault can be planted",
    "importlib.import_module": "an import that is built from text is one that this test cannot follow",
    "builtins.__import__": "an import that is built from text is one that this test cannot follow",
}

NEVER: Final[dict[str, str]] = {
    "pickle": "reading one runs its code",
    "marshal": "reading one can crash the interpreter",
    "shelve": "it is pickle",
    "builtins.eval": "text is never code",
    "builtins.exec": "text is never code",
    "yaml.load": "reading one runs its code",
}

SEAM_MODULE: Final = "actors/seams.py"

# {file: {entry of SEAMS: why this place may}}. A row that nothing uses fails.
ALLOWED: Final[dict[str, dict[str, str]]] = {
    "actors/readers.py": {
        "trio.to_thread": "reading blocks; `inline` is the injected other way, which simulation takes",
    },
    "actors/writer.py": {
        "threading.Thread": "the commit thread itself; `InlineWriter` is the injected other way",
    },
    "store/sqlite/patience.py": {
        "time": "how another process is waited for, which no simulation has; SQLite's own handler slept just so",
    },
    "callsheet/__init__.py": {
        "importlib.import_module": "public names load when first used; the modules are those of its table",
    },
    "callsheet/commands/target.py": {
        "importlib.import_module": "`callsheet run` is told the module of its user's jobs, as every worker of a queue is",
    },
    "callsheet/threads.py": {
        "trio.to_thread": "what runs there is the user's own blocking code; in a simulation time stands still meanwhile",
    },
    "callsheet/demo/plan.py": {
        "random": "seeded with what the user gave: the plan of a demonstration is the same everywhere",
    },
}

# Everything that waits in the runtime waits on the wheel (`actors/waits.py`, `actors/timers.py`), never by one of these.
SLEEPS: Final[dict[str, str]] = {
    "trio.sleep": "`stage.waits.sleep` waits on the wheel",
    "trio.sleep_until": "`stage.waits.sleep_until` waits on the wheel",
    "time.sleep": "it stops the event loop",
    "callsheet.actors.seams.pause": "it stops the event loop: it is for programs that have none",
}

TIMEOUTS: Final = ("trio.move_on_after", "trio.move_on_at", "trio.fail_after", "trio.fail_at")

# {file: why deadlines of trio's may stand there}. A row that nothing uses fails.
_BOUNDS_THE_SCHEDULER: Final = "bounds starts and stops, the scheduler's own too: must not depend on what it supervises"
_ONE_CONNECTION: Final = "what one client may keep us waiting for its bytes: it ends that connection, and nothing else"
DEADLINES: Final[dict[str, str]] = {
    "actors/scheduler.py": "the one deadline that pumps the wheel",
    "actors/waits.py": "for those who wait while nobody pumps the wheel",
    "actors/cell.py": _BOUNDS_THE_SCHEDULER,
    "supervisor/child.py": _BOUNDS_THE_SCHEDULER,
    "supervisor/pool.py": _BOUNDS_THE_SCHEDULER,
    "supervisor/supervisor.py": "when the scheduler itself is to be restarted: nobody pumps the wheel until then",
    "supervisor/task.py": "the grace of a stop, and how long cancelled handlers are waited for: a stop budget",
    "callsheet/opening.py": "how long opening waits to be known in the store: a start budget",
    "callsheet/stop_signals.py": "the last signals are collected when the system, and its wheel, have ended",
    "callsheet/monitor/connection.py": _ONE_CONNECTION,
    "callsheet/monitor/client.py": _ONE_CONNECTION,
}

# What is not the runtime, and why. A row under which nothing waits fails: it is no exception then.
NOT_RUNTIME: Final[dict[str, str]] = {
    "callsheet/testing/": "moves the clock that the runtime under test goes by",
    "callsheet/demo/": "a program of its own, as its user's would be: host, callers and receiver of a runtime",
    "callsheet/commands/": "programs around a runtime or a client, with no wheel of their own",
    "callsheet/client/": "clients have no event loop, or not ours: other processes wait there",
}


class Import(NamedTuple):
    """One imported thing: what is loaded, the name it gets here, and what that name means."""

    what: str
    name: str
    means: str
    line: int


def sources() -> dict[str, str]:
    """The text of every file of the package, by its name in the repository: `actors/journal.py`."""
    found = {}
    for folder, _, names in os.walk(ROOT / "callsheet", followlinks=True):
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                inside = path.relative_to(ROOT / "callsheet")
                shown = inside if inside.parts[0] in BELOW else Path("callsheet") / inside
                found[shown.as_posix()] = path.read_text(encoding="utf-8")
    return found


def module_of(shown: str) -> str:
    """The name a file is imported by; that of a package ends in `.__init__`, so that its parent is itself."""
    parts = Path(shown).with_suffix("").parts
    return ".".join(parts if parts[0] == "callsheet" else ("callsheet", *parts))


def layer_of(module: str) -> str | None:
    """The layer that a dotted name belongs to; None if it is not ours."""
    first, _, rest = module.partition(".")
    if first != "callsheet":
        return first if first in BELOW else None
    second = rest.partition(".")[0]
    return second if second in BELOW else "callsheet"


def imports(tree: ast.AST, module: str) -> Iterator[Import]:
    """Every import of a file, wherever in it it stands, relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                first = each.name.partition(".")[0]
                name = each.asname or first
                yield Import(each.name, name, each.name if each.asname else first, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            for each in node.names:
                what = start if each.name == "*" else f"{start}.{each.name}"
                yield Import(what, each.asname or each.name, what, node.lineno)


def upward(shown: str, source: str) -> list[str]:
    """The imports of one file that do not point down."""
    module = module_of(shown)
    own = layer_of(module)
    assert own is not None
    found = []
    for each in imports(ast.parse(source), module):
        layer = layer_of(each.what)
        if layer is not None and layer != own and layer not in BELOW[own]:
            found.append(f"{shown}:{each.line} imports {each.what}, and {own} may import {sorted(BELOW[own])} only")
        if own == "store" and each.what.partition(".")[0] == "trio":
            found.append(f"{shown}:{each.line} imports {each.what}, and a store knows no event loop")
    return found


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` as text; None for what is not a plain chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := dotted(node.value)):
        return f"{start}.{node.attr}"
    return None


def meaning(node: ast.AST, names: dict[str, str]) -> str | None:
    """What a chain of names stands for where `names` were imported; None for what is no such chain."""
    path = dotted(node) if isinstance(node, ast.Name | ast.Attribute) else None
    if path is None:
        return None
    first, dot, rest = path.partition(".")
    return names.get(first, f"builtins.{first}") + dot + rest


def uses(source: str, entries: Iterable[str], shown: str = "callsheet/sample.py") -> dict[str, set[int]]:
    """Where a source imports or uses one of the entries, under whatever name: {entry: lines}."""
    reached = _reached(source, shown)
    found: dict[str, set[int]] = {}
    for entry in entries:
        lines = {line for path, line in reached if path == entry or path.startswith(f"{entry}.")}
        if lines:
            found[entry] = lines
    return found


@cache  # several rules look at every file
def _reached(source: str, shown: str) -> list[tuple[str, int]]:
    tree = ast.parse(source)
    reached: list[tuple[str, int]] = []
    names: dict[str, str] = {}
    for each in imports(tree, module_of(shown)):
        reached.append((each.what, each.line))
        names[each.name] = each.means
    reached += [(path, node.lineno) for node in ast.walk(tree) if (path := meaning(node, names))]
    return reached


def deadlines(source: str, shown: str = "callsheet/sample.py") -> set[int]:
    """The lines where a source sets a deadline of trio's: by a timeout, with a cancel scope, or on one."""
    lines = set().union(*uses(source, TIMEOUTS, shown).values())
    if "deadline" not in source and "CancelScope" not in source:
        return lines
    tree = ast.parse(source)
    names = {each.name: each.means for each in imports(tree, module_of(shown))}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ctx=ast.Store(), attr="deadline" | "relative_deadline"):
                lines.add(node.lineno)
            case ast.Call() if _sets_deadline(node, names):
                lines.add(node.lineno)
    return lines


_ON_A_SCOPE: Final = {"deadline", "relative_deadline"}


def _sets_deadline(call: ast.Call, names: dict[str, str]) -> bool:
    if meaning(call.func, names) == "builtins.setattr":
        return any(isinstance(each, ast.Constant) and each.value in _ON_A_SCOPE for each in call.args)
    made = [call.func, *call.args, *(each.value for each in call.keywords)]  # `partial(CancelScope, deadline=...)` too
    makes_scope = any(meaning(each, names) == "trio.CancelScope" for each in made)
    return makes_scope and any(each.arg is None or each.arg in _ON_A_SCOPE for each in call.keywords)


def runtime_sources() -> dict[str, str]:
    """Of what runs inside a runtime."""
    other = ("store/", *NOT_RUNTIME)  # a store knows no event loop: see `upward`
    return {shown: source for shown, source in sources().items() if not shown.startswith(other)}


# Imports


def test_imports_go_one_way() -> None:
    """callsheet → supervisor → actors → store, lazy imports included; and the store knows no trio."""
    found = [line for shown, source in sources().items() for line in upward(shown, source)]

    assert [] == found


@pytest.mark.parametrize(
    ("shown", "source"),
    [
        ("store/sqlite.py", "from ..actors.journal import Journal"),
        ("store/sqlite.py", "from .. import actors"),
        ("store/sqlite.py", "import callsheet.supervisor.decide"),
        ("store/sqlite.py", "from callsheet import Jobs"),
        ("store/sqlite.py", "import trio"),
        ("store/sqlite.py", "from trio.lowlevel import checkpoint"),
        ("store/sqlite/locks.py", "from ...actors import seams"),
        ("store/__init__.py", "from ..actors import seams"),
        ("actors/run.py", "def late():\n    from ..supervisor.spec import ChildSpec"),
        ("actors/run.py", "from ..jobs import Jobs"),
        ("supervisor/pool.py", "from .. import *"),
        ("supervisor/pool.py", "if TYPE_CHECKING:\n    from ..runtime import Runtime"),
        ("actors/run.py", "import supervisor"),
    ],
)
def test_an_import_that_points_up_is_found(shown: str, source: str) -> None:
    """The walk finds relative, absolute, lazy, starred and type-only imports that go the wrong way."""
    assert [] != upward(shown, source)


@pytest.mark.parametrize("folder", ["actors", "supervisor", "store"])
def test_a_layer_loads_under_one_name_only(folder: str) -> None:
    """Loading a layer under another name than that inside callsheet is refused in a sentence."""
    spec = importlib.util.spec_from_file_location(folder, ROOT / "callsheet" / folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    with pytest.raises(ImportError, match=f"callsheet.{folder}"):
        spec.loader.exec_module(module)


# Public names


def test_each_public_name_exists_for_python_and_for_type_checkers() -> None:
    """The table of public names, its lines for type checkers, and the modules it names agree."""
    tree = ast.parse(sources()["callsheet/__init__.py"])
    block = next(node for node in tree.body if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING")
    checked = {each.name: each.what for each in imports(block, "callsheet.__init__")}

    assert checked == {name: f"{module}.{name}" for name, module in callsheet._HOME.items()}
    assert set(callsheet.__all__) <= set(dir(callsheet))
    for name in callsheet.__all__:
        assert getattr(callsheet, name) is not None


# Seams


def test_nothing_goes_around_the_seams() -> None:
    """Clock, random source, ids, threads, files and process exit are injected, but for the places listed."""
    found = {
        f"{shown}:{min(lines)} uses {entry}: {SEAMS[entry]}"
        for shown, source in sources().items()
        if shown != SEAM_MODULE
        for entry, lines in uses(source, SEAMS, shown).items()
        if entry not in ALLOWED.get(shown, {})
    }

    assert set() == found


def test_every_exception_to_the_seams_is_needed() -> None:
    """A row of the allow table that no code uses any more is a hole, and fails."""
    files = sources()
    unused = {
        (shown, entry)
        for shown, rows in ALLOWED.items()
        for entry in rows
        if shown not in files or entry not in uses(files[shown], SEAMS, shown)
    }

    assert set() == unused


def test_dangerous_parts_of_python_are_not_used() -> None:
    """What comes out of a store or off a wire is never run."""
    found = {
        f"{shown}:{min(lines)} uses {entry}: {NEVER[entry]}"
        for shown, source in sources().items()
        for entry, lines in uses(source, NEVER, shown).items()
    }

    assert set() == found


@pytest.mark.parametrize("entry", [*SEAMS, *NEVER])
@pytest.mark.parametrize("form", ["plain", "module alias", "name", "name alias", "passed on", "inside a function"])
def test_a_planted_bypass_is_found(entry: str, form: str) -> None:
    """Every forbidden name is found in every form in which Python lets one write it."""
    whole = "." not in entry
    path = f"{entry}.something" if whole else entry
    module, _, name = path.rpartition(".")
    first = module.partition(".")[0]
    source = {
        "plain": f"{name}()" if first == "builtins" else f"import {first}\n{path}()",
        "module alias": f"import {module} as other\nother.{name}()",
        "name": f"from {module} import {name}\n{name}()",
        "name alias": f"from {module} import {name} as other\nother()",
        "passed on": f"import {first}\ndef f(call={path}): ...",
        "inside a function": f"def f():\n    import {first} as o\n    return o{path.removeprefix(first)}",
    }[form]

    assert {entry} <= uses(source, [*SEAMS, *NEVER]).keys()


@pytest.mark.parametrize(
    "source",
    [
        "async with jobs.open(path) as runtime: ...",
        "def due(time): return time.monotonic",
        "self.random.random()",
        "from ..store.time import due\ndue()",
        "from datetime import datetime\ndatetime.fromisoformat(text)",
        "sys.stdout.write(text)",
        "cursor.execute(text)",
    ],
)
def test_what_only_looks_like_a_bypass_is_left_alone(source: str) -> None:
    """Names of our own and methods of injected things are not mistaken for the real ones."""
    assert {} == uses(source, [*SEAMS, *NEVER])


# Waiting


def test_everything_that_waits_in_the_runtime_waits_on_the_wheel() -> None:
    """No sleep is scattered over the runtime: the wheel knows of all who wait, and nobody else wakes the process."""
    found = {
        f"{shown}:{min(lines)} uses {entry}: {SLEEPS[entry]}"
        for shown, source in runtime_sources().items()
        if shown != SEAM_MODULE
        for entry, lines in uses(source, SLEEPS, shown).items()
    }

    assert set() == found


def test_a_deadline_of_trios_stands_only_where_the_wheel_cannot_be() -> None:
    """Each place that sets one is in the table, with its reason; and each row of the table is needed."""
    found = {shown: min(lines) for shown, source in runtime_sources().items() if (lines := deadlines(source, shown))}

    assert [] == [f"{shown}:{line}: use `stage.waits`" for shown, line in found.items() if shown not in DEADLINES]
    assert set() == DEADLINES.keys() - found.keys()


def test_what_is_not_the_runtime_is_left_out_for_a_reason() -> None:
    """A folder in which nothing waits any other way needs no exception."""
    waiting = {
        folder
        for shown, source in sources().items()
        for folder in NOT_RUNTIME
        if shown.startswith(folder) and (uses(source, SLEEPS, shown) or deadlines(source, shown))
    }

    assert set() == NOT_RUNTIME.keys() - waiting


@pytest.mark.parametrize(
    "source",
    [
        "import trio\nawait trio.sleep(1)",
        "import trio as t\nawait t.sleep(1)",
        "from trio import sleep\nawait sleep(1)",
        "from trio import sleep as wait\nawait wait(1)",
        "from trio import sleep_until",
        "import trio\nnursery.start_soon(trio.sleep, 1)",
        "def f():\n    from trio import sleep",
        "import time\ntime.sleep(1)",
        "from time import sleep as pause\npause(1)",
        "from .actors.seams import pause\npause(1)",
        "from .actors import seams\nseams.pause(1)",
    ],
)
def test_a_planted_sleep_is_found(source: str) -> None:
    """Under whatever name, called or passed on."""
    assert {} != uses(source, SLEEPS)


@pytest.mark.parametrize(
    "source",
    [
        "import trio\nwith trio.move_on_after(1): ...",
        "import trio as t\nwith t.move_on_at(1): ...",
        "from trio import fail_after as within\nwith within(1): ...",
        "import trio\ntimeout = trio.fail_at",
        "import trio\nwith trio.CancelScope(deadline=1) as scope: ...",
        "import trio\ntrio.CancelScope(shield=True, relative_deadline=1)",
        "from trio import CancelScope as Scope\nScope(deadline=1)",
        "import trio\ntrio.CancelScope(**options)",
        "import trio\nfield(factory=partial(trio.CancelScope, deadline=1))",
        "scope.deadline = 1",
        "self.nursery.cancel_scope.deadline -= 1",
        "scope.relative_deadline: float = 1",
        "first, scope.deadline = 1, 2",
        "setattr(scope, 'deadline', 1)",
    ],
)
def test_a_planted_deadline_is_found(source: str) -> None:
    """With a scope, by a timeout or on a scope that somebody else made; under whatever name."""
    assert set() != deadlines(source)


@pytest.mark.parametrize(
    "source",
    [
        "import trio\nawait trio.sleep_forever()",
        "await self.stage.waits.sleep(1, owner='me')",
        "with stage.waits.move_on_after(1, owner='me'): ...",
        "import trio\nwith trio.CancelScope(shield=True) as scope: scope.cancel()",
        "import trio\nscope: trio.CancelScope = field(factory=trio.CancelScope)",
        "left_s = scope.deadline - now_s",
        "Ask(deadline=1)",
        "self.deadline_us = 1",
        "def sleep(self): ...",
    ],
)
def test_what_only_looks_like_a_wait_is_left_alone(source: str) -> None:
    """The wheel's own, waits for ever, scopes without a time, and deadlines of something else."""
    assert ({}, set()) == (uses(source, SLEEPS), deadlines(source))


# Tests


def test_no_test_sleeps_for_real() -> None:
    """Time in tests is virtual, but in the few that prove something about real processes."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    sleeping = [
        path.relative_to(ROOT).as_posix()
        for path, text in texts.items()
        if not path.is_relative_to(ROOT / "tests" / "real")
        if "sleep" in text and re.search(r"\btime\b", text)  # else it need not be parsed
        if uses(text, ["time.sleep"])
    ]

    assert [] == sleeping
