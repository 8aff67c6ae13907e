"""
From `module:attribute`, as it is typed, to the Jobs that it names.

Rule: what the user's own module raises is a sentence that says where; its traceback is there for the asking.
Not here: what is done with them (`run`, `reach`).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import define

from ..jobs import Jobs
from ..store.errors import CallsheetError
from .paper import note
from .text import first_line


@define(slots=False)
class CannotLoad(CallsheetError):
    """What was named as `module:attribute` is not there, cannot be imported, or is of no use here. Nothing was opened."""

    target: str
    why: str

    def __str__(self) -> str:
        return f"{self.target!a} cannot be used: {self.why}"


def load_jobs(target: str, *, show_traceback: bool = False) -> tuple[Jobs, ...]:
    """
    The Jobs that `target` names: an instance, a list of them, or a function that returns either; or a module, which stands
    for every instance at its top level.

    Raises CannotLoad.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        every = [each for each in vars(load(module, show_traceback=show_traceback)).values() if isinstance(each, Jobs)]
        found: Any = list(dict.fromkeys(every))
    else:
        found = load(target, show_traceback=show_traceback)
        if callable(found) and not isinstance(found, Jobs):
            found = called(target, found, show_traceback=show_traceback)
    jobs = tuple(found) if isinstance(found, list | tuple) else (found,)
    wrong = [each for each in jobs if not isinstance(each, Jobs)]
    if wrong:
        raise CannotLoad(
            target, f"it is of type {type(wrong[0]).__name__}; name an instance of Jobs, or a list of them"
        )
    if not jobs:
        raise CannotLoad(target, "no Jobs are there")
    return jobs


def load(target: str, *, show_traceback: bool = False) -> Any:
    """What a `module` or a `module:attribute` names; the current folder is looked into first. Raises CannotLoad."""
    name, _, attribute = target.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise CannotLoad(target, "it is no module:attribute, as in app:jobs")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: Any = _imported(target, name, here, show_traceback=show_traceback)
    for part in attribute.split(".") if attribute else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(target, _no_attribute(found, part)) from None
    return found


def called(target: str, function: Any, *, show_traceback: bool = False) -> Any:
    """What a function of the user returns. Raises CannotLoad."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise _raised(target, "calling it", error, show_traceback=show_traceback) from error


def _imported(target: str, name: str, here: str, *, show_traceback: bool) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CannotLoad(
                target, f"there is no module {error.name!a} in {here} or among what is installed"
            ) from None
        raise _raised(target, "importing it", error, show_traceback=show_traceback) from error
    except (Exception, SystemExit) as error:
        raise _raised(target, "importing it", error, show_traceback=show_traceback) from error


def _raised(target: str, doing: str, error: BaseException, *, show_traceback: bool) -> CannotLoad:
    if show_traceback:
        note("".join(traceback.format_exception(error)))
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith("<frozen") and not _is_ours(each.filename)]
    where = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" at {error.filename}:{error.lineno}"
    message = first_line(_text_of(error))
    hint = "" if show_traceback else "; --traceback shows all of it"
    return CannotLoad(target, f"{doing} raised {type(error).__name__}{where}: {message}{hint}")


def _is_ours(filename: str) -> bool:
    return Path(filename).resolve() == Path(__file__).resolve()


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 -- an exception's own text may raise
        return "its message cannot be shown"


def _no_attribute(found: Any, part: str) -> str:
    what = f"module {found.__name__}" if isinstance(found, ModuleType) else type(found).__name__
    return f"{what} has no attribute {part!a}{_perhaps(part, dir(found))}"


def _perhaps(part: str, known: Iterable[str]) -> str:
    close = get_close_matches(part, known, n=1)
    return f"; did you mean {close[0]!a}?" if close else ""
