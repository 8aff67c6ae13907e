"""
What becomes of a message that nobody will handle: its asker is told at once; without one, it is counted.

Rule: nothing is dropped in silence, and telling of it harms nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never, assert_never

import trio

from .alarms import Tick
from .errors import ActorDown, MessageDropped, WrongMessage
from .exits import Crashed, Killed, ends_program
from .reply import reply_of
from .undelivered import Why
from .watch import is_news_for

if TYPE_CHECKING:
    from .cell import Cell

_log = logging.getLogger("callsheet.actors")


class Internal:
    """Base of what an actor tells itself: no message of anybody's, so nobody misses it when the actor ends."""

    __slots__ = ()


def refuse(cell: Cell[Any], message: object, why: Why, error: BaseException | None) -> None:
    """`message` was sent to `cell`; `error`: what it crashed over."""
    if isinstance(message, Tick | Internal) or is_news_for(cell, message):
        return  # it was the actor's own, and died with the incarnation
    reply = reply_of(message)
    if reply is not None:
        failure = _failure(cell, why, error)
        failure.__cause__ = error
        reply.fail(failure)
    else:
        cell.stage.undelivered.count(cell.path, message, why)
    if cell.mail.on_undelivered is not None:
        _tell(cell, message, why, cell.mail.on_undelivered)


@trio.lowlevel.enable_ki_protection  # what it raises is not passed on: a Ctrl-C must not be among it
def _tell(cell: Cell[Any], message: object, why: Why, on_undelivered: Callable[[Any, Why], object]) -> None:
    try:
        on_undelivered(message, why)
    except BaseException as error:  # noqa: BLE001 -- logged; the rest is told of too
        _log.exception("on_undelivered of %s failed", cell.path)
        if ends_program(error):
            cell.stage.on_fatal(error)


def refuse_wrong(cell: Cell[Any], message: Never, takes: tuple[type, ...]) -> None:
    """A request that a supervisor does not take fails: it must not crash over that, and take its children along."""
    reply = reply_of(message)
    if reply is None:
        assert_never(message)
    reply.fail(WrongMessage(cell.path, type(message), takes))


def _failure(cell: Cell[Any], why: Why, error: BaseException | None) -> BaseException:
    if error is not None:
        return ActorDown(cell.path, Killed() if isinstance(error, trio.Cancelled) else Crashed(error))
    if why in (Why.FULL, Why.DROPPED_OLDEST, Why.COALESCED, Why.RESTART):
        return MessageDropped(cell.path, why)
    return cell.down()
