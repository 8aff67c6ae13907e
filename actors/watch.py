"""
Monitors: being told what becomes of another actor, without being tied to it.

Rule: news comes through the watcher's user lane, outside its capacity: whatever the watched actor sent you before it ended
arrives before the news of its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import define, field, frozen

from .exits import Exit
from .ref import Ref

if TYPE_CHECKING:
    from .cell import Cell


@define(eq=False)
class Monitor:
    """One actor's watch over another; made by `Actor.monitor`. It ends with its watcher's incarnation."""

    _target: Cell[Any]
    _watcher: Cell[Any]
    incarnation: bool
    """Whether it is about one incarnation only: its end is a Down, and then the monitor is over."""
    _has_told: bool = field(default=False, init=False)

    @property
    def ref(self) -> Ref[Any]:
        """Of the watched actor."""
        return self._target.ref

    def cancel(self) -> None:
        """Hear nothing more of it; news that waits already is never handled. Twice does nothing."""
        self.forget()
        if self._has_told:  # looking through the mailbox takes time, and an actor may have thousands of monitors
            self._watcher.mailbox.discard(lambda each: isinstance(each, NEWS) and each.monitor is self)

    def forget(self) -> None:
        """Hear nothing more of it; news that waits already stays."""
        self._target.watchers.pop(self, None)
        self._watcher.watching.pop(self, None)

    def tell(self, news: Restarted | Down) -> None:
        """To the watcher. For the kernel."""
        if isinstance(news, Down):
            self.forget()
        if not self._watcher.closed:
            self._has_told = True
            self._watcher.mailbox.put_news(news)


@frozen(eq=False)
class Restarted:
    """A monitored actor ended and has started again: what it knew is gone, its Ref is still good."""

    monitor: Monitor
    generation: int
    """Of the incarnation that lives now."""
    exit: Exit
    """How the one before it ended."""

    @property
    def ref(self) -> Ref[Any]:
        """Of the watched actor."""
        return self.monitor.ref


@frozen(eq=False)
class Down:
    """A monitored actor (or the incarnation that was monitored) has ended. The last news of this monitor."""

    monitor: Monitor
    exit: Exit

    @property
    def ref(self) -> Ref[Any]:
        """Of the watched actor."""
        return self.monitor.ref


NEWS: Final = (Restarted, Down)
"""For `isinstance`: what monitors tell."""


def is_news_for(watcher: Cell[Any], message: object) -> bool:
    """Whether one of the watcher's own monitors told it `message`."""
    return isinstance(message, NEWS) and message.monitor._watcher is watcher  # noqa: SLF001 -- one structure
