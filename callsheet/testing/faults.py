"""
A plan of what goes wrong with a store, and the store that keeps to it.

Rule 1: a fault happens at a commit, before anything of it is written or after all of it is durable: a store promises that
    there is nothing between.
Rule 2: which commit is counted from when the fault was planned, so a test counts only what it causes itself.
Not here: what a killed process leaves behind (`life`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from attrs import define, field, frozen

from ..store import contract
from ..store.contract import Answer, Command, Reader, Store
from ..store.errors import OutcomeUnknown, StoreBusy, StoreClosed, StoreError, StoreFull
from ..store.policy import seconds as checked_seconds
from ..store.records import Now, Owner

When: TypeAlias = Literal["before", "after"]
Kind: TypeAlias = Literal["refuse", "lose", "lose_answer", "stall", "crash", "full"]
Chance: TypeAlias = Literal["refuse", "lose", "lose_answer", "stall", "crash"]
Step: TypeAlias = Literal[
    "enqueue", "claim", "settle", "cancel", "late", "note", "set_queue", "renew", "rescue", "register", "unregister",
    "publish", "prune", "set_schedule",
]  # fmt: skip

STEPS: Final[dict[Step, type[Command]]] = {
    "enqueue": contract.Insert,
    "claim": contract.Claim,
    "settle": contract.Settle,
    "cancel": contract.Cancel,
    "late": contract.NoteLate,
    "note": contract.NoteRunning,
    "set_queue": contract.SetQueue,
    "renew": contract.Renew,
    "rescue": contract.Rescue,
    "register": contract.Register,
    "unregister": contract.Unregister,
    "publish": contract.Publish,
    "prune": contract.Prune,
    "set_schedule": contract.SetSchedule,
}
_NAMES: Final = {kind: name for name, kind in STEPS.items()}
MAX_STALL_S: Final = 10.0
"""Of a stall by chance."""


class Later(Exception):
    """Raised out of a write by a stall: ask again after that many seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Dead(Exception):
    """Raised out of a write of a process that was killed: nobody is there to hear it."""


@frozen
class Happened:
    """A fault that happened."""

    commit: int
    """Since the world was opened, 1 is the first."""
    kind: Kind
    when: When
    steps: tuple[str, ...]
    """What the commit held."""


@define(eq=False)
class Planned:
    """A fault that has not happened yet."""

    kind: Kind
    when: When
    left: int
    """Matching commits until it happens, itself included."""
    on: type[Command] | None
    seconds: float = 0.0

    def is_at(self, commands: Sequence[Command]) -> bool:
        """Count this commit; whether it is the one."""
        if self.on is None or any(isinstance(each, self.on) for each in commands):
            self.left -= 1
        return self.left == 0


@define(eq=False)
class Faults:
    """
    What goes wrong in a world. Everything is counted in commits, 1 is the next one; with `on` only those count that hold a
    step of this kind ("enqueue", "claim", "settle", "cancel", ...). The runtime commits more than its users see: it
    registers, claims, and takes back what a dead process left, so `on` is the safe way to say which is meant.
    """

    _draw: Callable[[], float]
    commits: int = field(default=0, init=False)
    """That were tried since the world was opened."""
    happened: list[Happened] = field(factory=list, init=False)
    planned: list[Planned] = field(factory=list, init=False)
    """What has not happened yet."""
    _full: tuple[int, float] | None = field(default=None, init=False)
    _rate: float = field(default=0.0, init=False)
    _kinds: tuple[Chance, ...] = field(default=(), init=False)

    def fail(self, commit: int = 1, *, when: When = "before", unknown: bool = False, on: Step | None = None) -> None:
        """
        before: the store refuses this commit (`StoreBusy`), or with `unknown` it fails and nobody knows that nothing was
        written (`OutcomeUnknown`). after: it fails, and nobody knows that all was written.
        """
        if _when(when) == "after":
            self._plan("lose_answer", when, commit, on)
        else:
            self._plan("lose" if unknown else "refuse", when, commit, on)

    def stall(self, commit: int = 1, *, seconds: float, when: When = "before", on: Step | None = None) -> None:
        """This commit takes so many seconds of virtual time more, before it is durable or before it is answered."""
        stall_s = checked_seconds(seconds, "stall")
        self._plan("stall", _when(when), commit, on, stall_s)

    def crash(self, commit: int = 1, *, when: When = "before", on: Step | None = None) -> None:
        """The process is killed at this commit, and starts again at once."""
        self._plan("crash", _when(when), commit, on)

    def full(self, commits: range | None = None) -> None:
        """There is no space left (`StoreFull`), for these commits (`range(1, 4)`: the next three) or until `heal`."""
        if commits is None:
            self._full = self.commits + 1, float("inf")
        elif commits.step != 1 or commits.start < 1:
            raise ValueError(f"full takes a range of commits from 1 on, without gaps, not {commits!r}")
        else:
            self._full = self.commits + commits.start, self.commits + commits.stop

    def random(self, rate: float, kinds: Sequence[Chance] = get_args(Chance)) -> None:
        """Until `heal`, this part of all commits (0 … 1) meets one of these kinds. Which one follows from the world's seed."""
        unknown = [each for each in kinds if each not in get_args(Chance)]
        if unknown or not kinds or not 0 <= rate <= 1:
            raise ValueError(f"random takes a rate from 0 to 1 and kinds out of {', '.join(get_args(Chance))}")
        self._rate, self._kinds = rate, tuple(kinds)

    def heal(self) -> None:
        """Nothing goes wrong any more; what was planned and has not happened is forgotten."""
        self.planned.clear()
        self._full, self._rate = None, 0.0

    def _plan(self, kind: Kind, when: When, commit: int, on: Step | None, seconds: float = 0.0) -> None:
        if isinstance(commit, bool) or not isinstance(commit, int) or commit < 1:
            raise ValueError(f"commits are counted from 1, and {commit!r} is none of them")
        if on is not None and on not in STEPS:
            raise ValueError(f"a commit holds {', '.join(STEPS)}, and {on!r} is none of them")
        self.planned.append(Planned(kind, when, commit, None if on is None else STEPS[on], seconds))

    # -- for the store

    def at(self, commands: Sequence[Command]) -> list[Planned]:
        """Count a commit; what goes wrong with it."""
        self.commits += 1
        due = [each for each in self.planned if each.is_at(commands)]
        self.planned = [each for each in self.planned if each.left]
        if self._full is not None and self._full[0] <= self.commits < self._full[1]:
            due.append(Planned("full", "before", 0, None))
        if self._rate and self._draw() < self._rate:
            due.append(self._by_chance())
        steps = tuple([_NAMES.get(type(each), type(each).__name__) for each in commands])
        self.happened += [Happened(self.commits, each.kind, each.when, steps) for each in due]
        return due

    def _by_chance(self) -> Planned:
        kind = self._kinds[int(self._draw() * len(self._kinds))]
        late = kind == "lose_answer" or (kind in ("stall", "crash") and self._draw() < 0.5)
        return Planned(kind, "after" if late else "before", 0, None, self._draw() * MAX_STALL_S)


def _when(when: When) -> When:
    if when not in ("before", "after"):
        raise ValueError(f'a fault happens "before" or "after" its commit is durable, not {when!r}')
    return when


@define(eq=False)
class FaultyStore:
    """Any store, with what goes wrong put around its writes. It belongs to one process, and dies with it."""

    inner: Store
    faults: Faults
    die: Callable[[], object]
    """Kills the process."""
    on_write: Callable[[Sequence[Command]], object] = lambda _commands: None
    """Called with what has become durable."""
    is_open: bool = field(default=False, init=False)
    is_dead: bool = field(default=False, init=False)
    _due: list[Planned] | None = field(default=None, init=False)
    """What is left to go wrong with a commit that stalls."""
    _held_s: float = field(default=0.0, init=False)

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        """As `Store.write`, unless something goes wrong. Raises Later, and Dead, to the world's own writer."""
        if self.is_dead:
            raise Dead
        due = self.faults.at(commands) if self._due is None else self._due
        self._due = None
        for fault in due:
            if fault.kind == "stall" and fault.when == "before":
                self._due = [each for each in due if each is not fault]
                raise Later(fault.seconds)
        self._go_wrong([each for each in due if each.when == "before"])
        answers = self.inner.write(commands, now)
        self.on_write(commands)
        self._go_wrong([each for each in due if each.when == "after"])
        return answers

    def _go_wrong(self, faults: Sequence[Planned]) -> None:
        for fault in faults:
            if fault.kind == "stall":
                self._held_s += fault.seconds
            elif fault.kind == "crash":
                self.die()
                raise Dead
            else:
                raise self._error(fault.kind)

    def _error(self, kind: Kind) -> StoreError:
        match kind:
            case "full":
                return StoreFull(self.name)
            case "refuse":
                return StoreBusy(self.name, 0.0)
            case _:
                return OutcomeUnknown(self.name, "the connection was lost")

    def take_held_s(self) -> float:
        """How long the answer of the last write is to be held back."""
        held_s, self._held_s = self._held_s, 0.0
        return held_s

    def kill(self) -> None:
        """The process is gone: what the operating system held for it is free, and nothing is written any more."""
        self.is_dead = True
        self.close()

    # -- the rest of a Store

    @property
    def name(self) -> str:
        """What messages call it: without its folder, since runs keep them, and all that is kept follows from the seed."""
        return Path(self.inner.name).name

    @property
    def exclusive(self) -> bool:
        """See `Store.exclusive`."""
        return self.inner.exclusive

    def open(self, owner: Owner) -> None:
        """See `Store.open`."""
        self.inner.open(owner)
        self.is_open = True

    def changed(self) -> bool:
        """See `Store.changed`."""
        return not self.is_dead and self.inner.changed()

    def idle(self) -> None:
        """See `Store.idle`."""
        if not self.is_dead:
            self.inner.idle()

    def reader(self) -> Reader:
        """See `Store.reader`."""
        if self.is_dead:
            raise StoreClosed(self.name)
        return self.inner.reader()

    def close(self) -> None:
        """See `Store.close`."""
        if self.is_open:
            self.is_open = False
            self.inner.close()
