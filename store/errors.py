"""
What can go wrong with a store or with what it is asked: one sentence each, the facts as fields.

Rule: an error says what was asked of what, why not, and what would do.
`CallsheetError` is the base of every error of the package; it stands here because everything else imports
this layer.
"""

from __future__ import annotations

from attrs import define

from .records import Move, Status


class CallsheetError(Exception):
    """Base of every error that callsheet raises on purpose."""


class StoreError(CallsheetError):
    """Base of what a store raises."""


@define(slots=False)
class IllegalMove(StoreError):
    """A change of status that the lifecycle table does not have. Nothing was changed."""

    run_id: str
    was: Status
    move: Move
    possible: tuple[Move, ...]

    def __str__(self) -> str:
        can = ", ".join(self.possible) if self.possible else "nothing can: it is final"
        return f"run {self.run_id} is {self.was}: it cannot {self.move} (possible: {can})"


@define(slots=False)
class PayloadInvalid(StoreError, ValueError):
    """
    A payload is not JSON that gives the value back, or not of its task's type. Nothing was stored.

    Also of what a handler returns or tells as its progress: `what` says which.
    """

    path: str
    """Where in the payload: `$`, `$.items[3].name`."""
    why: str
    what: str = "payload"
    """payload, result or progress."""

    def __str__(self) -> str:
        return f"{self.what} is invalid at {self.path}: {self.why}"


@define(slots=False)
class PayloadTooLarge(StoreError, ValueError):
    """The JSON text of a payload (or of a result, or a progress) is over the limit, in bytes. Nothing was stored."""

    size: int
    limit: int
    what: str = "payload"
    """payload, result or progress."""

    def __str__(self) -> str:
        how = {"payload": "enqueue", "result": "return"}.get(self.what, "tell")
        return (
            f"{self.what} is {self.size:,} bytes of JSON, the limit is {self.limit:,}: "
            f"keep the data elsewhere and {how} where it is"
        )


@define(slots=False)
class StoreHeld(StoreError):
    """Another live runtime holds the store. Opening it with `work=False` would not need the lock."""

    path: str
    pid: int | None
    started: str | None
    """When it was opened, RFC 3339."""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        since = f" (since {self.started})" if self.started else ""
        return f"{self.path} is held by {who}{since}: one runtime at a time can run the jobs of a SQLite store"


@define(slots=False)
class CannotOpen(StoreError):
    """
    A store cannot be opened: no such folder, no permission, read-only, a directory, a bad URL. Nothing was
    changed.
    """

    path: str
    why: str

    def __str__(self) -> str:
        return f"cannot open {self.path}: {self.why}"


@define(slots=False)
class NoStore(CannotOpen):
    """There is no database at this path, and whoever asked makes none: the first runtime that opens it does."""

    why: str = "there is no database; the first runtime that opens it makes one"


@define(slots=False)
class ForeignDatabase(StoreError):
    """The file is a database of another program, or no database at all. It was not touched."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} is not a callsheet database ({self.why}): it was left as it is; name another file"


@define(slots=False)
class NewerSchema(StoreError):
    """A newer release wrote the store and says that this one cannot read it. It was not touched."""

    path: str
    schema: int
    min_reader: int
    known: int

    def __str__(self) -> str:
        return (
            f"{self.path} has schema {self.schema}, which needs a release that reads schema "
            f"{self.min_reader} or newer; this one knows {self.known}: upgrade callsheet"
        )


@define(slots=False)
class OlderSchema(StoreError):
    """
    A store of an older release cannot be brought up to date while another runtime holds it. It was not touched.

    Whoever runs the jobs has to be upgraded first: it does this when it opens. NewerSchema would be the other way round.
    """

    path: str
    schema: int
    needed: int
    pid: int | None

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return (
            f"{self.path} has schema {self.schema}, this release needs {self.needed}, and {who} of an older release "
            "runs the jobs of it: upgrade and restart that one first"
        )


@define(slots=False)
class DamagedStore(StoreError):
    """The file is truncated or damaged. It was not touched."""

    path: str
    why: str

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged ({self.why}): it was left as it is; "
            "restore a backup, or copy it away and start anew"
        )


@define(slots=False)
class SettingRefused(StoreError):
    """The database did not take a setting that durability rests on."""

    path: str
    setting: str
    wanted: str
    got: str

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.setting} should be {self.wanted}, the database answers {self.got}: nothing was stored"
        )


@define(slots=False)
class StoreBusy(StoreError):
    """Somebody else's transaction held the store for longer than we wait. Nothing was stored."""

    path: str
    waited_s: float

    def __str__(self) -> str:
        return f"{self.path} was locked by another transaction for {self.waited_s:g} s: nothing was stored, try again"


@define(slots=False)
class StoreFull(StoreError):
    """There is no space left to write. Nothing was stored; what was acknowledged before is kept."""

    path: str

    def __str__(self) -> str:
        return f"no space left to write {self.path}: nothing was stored, try again when there is"


@define(slots=False)
class StoreUnavailable(StoreError):
    """The database could not do it for a reason of its own (the disk, memory). Nothing was stored."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}: nothing was stored"


@define(slots=False)
class MalformedCommand(StoreError):
    """A command holds what no store can keep; its whole batch was refused. Nothing was stored."""

    why: str

    def __str__(self) -> str:
        return f"the command cannot be stored: {self.why}"


@define(slots=False)
class OutcomeUnknown(StoreError):
    """
    A commit failed in a way that does not say whether it is durable: read again by id before you decide.
    """

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: whether the last commit is durable is unknown ({self.why})"


@define(slots=False)
class StoreClosed(StoreError):
    """The store was closed, or never opened."""

    path: str

    def __str__(self) -> str:
        return f"{self.path} is not open"
