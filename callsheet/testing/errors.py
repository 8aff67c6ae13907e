"""
What a world refuses, or finds wrong: one sentence each, the facts as fields.

Rule: what says that a *test* has failed is an AssertionError, so that a test runner shows it as one.
"""

from __future__ import annotations

from attrs import define

from ..store.errors import CallsheetError


@define(slots=False)
class RealClock(CallsheetError):
    """`simulate` was opened under a clock that only the world outside can move. Nothing was opened."""

    clock: str

    def __str__(self) -> str:
        return (
            f"a world needs virtual time, and this trio.run has a {self.clock}: let the test ask for pytest-trio's fixture "
            "mock_clock (or autojump_clock), or run it with callsheet.testing.run(main)"
        )


@define(slots=False)
class NotRunning(CallsheetError):
    """The world has crashed, and nobody has restarted it."""

    def __str__(self) -> str:
        return "the process of this world was killed: `await world.restart()` starts it again"


@define(slots=False)
class StillBusy(AssertionError):
    """Virtual time went by up to the limit, and something has not ended. It goes on."""

    limit_s: float
    waiting: tuple[str, ...]
    """What has not ended, a line each; the first ten."""

    def __str__(self) -> str:
        lines = "".join(f"\n  {each}" for each in self.waiting)
        return f"after {self.limit_s:g} s of virtual time there is still work in this world:{lines}"


@define(slots=False)
class WrongBooks(AssertionError):
    """What the store keeps contradicts itself, or what the handlers saw."""

    wrongs: tuple[str, ...]
    """A sentence each; the first twenty."""

    def __str__(self) -> str:
        return "the books of this world are wrong:" + "".join(f"\n  {each}" for each in self.wrongs)
