"""One actor in two kinds, that does as it is told: what tests of the contract are written with."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeAlias

import pytest
from attrs import frozen

from callsheet.actors.actor import Actor
from callsheet.actors.reply import Request

from .world import Ask


@frozen(eq=False, kw_only=True)
class Keep(Request[str]):
    """Kept for a later answer."""


class Role(Actor[Any]):
    """
    Writes down its life and what it is told; needs no task of its own.

    It raises exceptions, answers an Ask, keeps a Keep, and calls what can be called with itself.
    """

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.kept: list[Keep] = []

    def on_start(self) -> Awaitable[None] | None:
        self.log.append(f"start {self.cell.generation}")
        return None

    def on_stop(self) -> Awaitable[None] | None:
        self.log.append(f"stop {self.cell.generation}")
        return None

    def receive(self, message: Any) -> Awaitable[None] | None:
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, Ask):
            if isinstance(message.what, BaseException):
                raise message.what
            message.reply.answer(message.what)
        elif isinstance(message, Keep):
            self.kept.append(message)
        elif callable(message):
            waiting: Awaitable[None] | None = message(self)
            return waiting
        else:
            self.log.append(message)
        return None


class Tasked(Role):
    """The same with coroutine functions: it has a task of its own."""

    async def on_start(self) -> None:
        super().on_start()

    async def on_stop(self) -> None:
        super().on_stop()

    async def receive(self, message: Any) -> None:
        waiting = super().receive(message)
        if waiting is not None:
            await waiting


Kind: TypeAlias = type[Role]

BOTH_KINDS = pytest.mark.parametrize("kind", [Role, Tasked], ids=["plain", "with a task"])
