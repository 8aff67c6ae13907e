"""
How a command reaches a store: a Client, by what was typed or stands in the environment.

Rule 1: a command line makes no database: a name that was misspelt is told, not made.
Rule 2: an id may be typed as far as it is clear which is meant; one look of bounded size finds out.
Not here: what the options are called (`asked`).
"""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any, Final

from attrs import define

from ..errors import RunNotFound, shown
from ..names import MAX_NAME, check_name
from ..store.errors import CallsheetError
from .asked import STORE_VARIABLE, Misuse, moment
from .paper import note
from .text import listed, masked

if TYPE_CHECKING:
    from ..client.client import Client
    from ..runs import RunQuery

SOME: Final = 5
"""Ids that are named where several begin alike."""
_ABOVE: Final = "\U0001fbf9"
"""Sorts after whatever an id may go on with, in all alphabets that are likely."""


@define(slots=False)
class AmbiguousRun(CallsheetError, LookupError):
    """Several runs have ids that begin as was typed."""

    begins: str
    some: tuple[str, ...]

    def __str__(self) -> str:
        more = "" if len(self.some) <= SOME else " and more"  # how many is not looked for
        return f"{shown(self.begins)} is the beginning of several ids, as {', '.join(self.some[:SOME])}{more}: type more of it"


def where(store: str | None) -> str:
    """The store that was named. Raises a usage error where none was."""
    if not store:
        raise Misuse(f"no database is named: say --store PATH, or set {STORE_VARIABLE}")
    if masked(store) != store and os.environ.get(STORE_VARIABLE) != store:
        note(f"note: everybody who lists processes can see that password: put the URL into {STORE_VARIABLE} instead")
    return store


def who(subject: str | None) -> str:
    """On whose behalf commands are carried out."""
    if subject is not None:
        return subject
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError, ImportError):  # a user that the system has no name for
        return f"cli:{os.getuid()}"


def client_of(store: str | None, jobs: str | None, subject: str | None, *, traceback: bool = False) -> Client:
    """A client of the jobs that were named, by their code or as they are published. Nothing is opened yet."""
    from ..client.client import Client

    path = where(store)
    if jobs is None or ":" not in jobs:
        return Client(path, jobs or None, subject=who(subject))
    from .target import CannotLoad, load_jobs

    found = load_jobs(jobs, show_traceback=traceback)
    if len(found) > 1:
        raise CannotLoad(jobs, f"it holds {listed(each.identity for each in found)}: name one of them")
    made = found[0].client(path, subject=who(subject))
    made.port.create = False
    return made


def query(
    client: Client,
    *,
    task: str | None = None,
    queue: str | None = None,
    status: str | None = None,
    key: str | None = None,
    trace_id: str | None = None,
    replay_of: str | None = None,
    schedule: str | None = None,
    since: str | None = None,
    before: str | None = None,
) -> RunQuery:
    """The filter that was typed."""
    now_us = client.port.seams.clock.wall_us() if since or before else 0
    given: dict[str, Any] = {
        "task": task,
        "queue": queue,
        "status": None if status is None else status.replace("-", "_"),
        "idempotency_key": key,
        "trace_id": trace_id,
        "replay_of": None if replay_of is None else run_id(client, replay_of),
        "schedule_key": schedule,
        "created_from": moment(since, "--since", now_us),
        "created_before": moment(before, "--before", now_us),
    }
    wanted: Any = {name: value for name, value in given.items() if value is not None}
    return wanted  # type: ignore[no-any-return] # its keys are those of RunQuery


def run_id(client: Client, typed: str) -> str:
    """The id that was typed, whole or as far as it is clear. Raises RunNotFound, AmbiguousRun, InvalidName."""
    check_name(typed, "run id")
    if len(typed.encode()) > MAX_NAME - len(_ABOVE.encode()):
        return typed
    begun = client.runs.list(
        after=f"{typed}{_ABOVE}", limit=SOME + 1
    ).runs  # newest first: these stand at its beginning
    found = [run.id for run in begun if run.id.startswith(typed)]
    if not found:
        raise RunNotFound(typed)
    if len(found) == 1:
        return found[0]
    if typed in found or _is_there(client, typed):
        return typed
    raise AmbiguousRun(typed, tuple(found))


def _is_there(client: Client, run_id: str) -> bool:
    try:
        client.runs.get(run_id)
    except RunNotFound:
        return False
    return True
