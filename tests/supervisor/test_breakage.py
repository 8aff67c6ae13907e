"""
What a tree bears: depth, width, and actors that misuse it.

Not here: what supervision means (`test_supervisor`, `test_conformance`), what an actor's own mistakes do (`tests/actors`).
"""

from __future__ import annotations

import traceback
from functools import partial

import pytest
import trio

from callsheet.actors.exits import MAX_WITHIN, StartFailed
from callsheet.supervisor.errors import ChildStartFailed
from callsheet.supervisor.spec import ChildSpec, Intensity, SupervisorSpec
from callsheet.supervisor.subtree import subtree
from callsheet.supervisor.system import ActorSystem, SystemGaveUp

from .troupe import Plain, tell

LEVELS = 60
NEVER = Intensity(0, 1.0)


def tower(leaf: ChildSpec) -> SupervisorSpec:
    """`leaf` under supervisors of one child each, that give up at the first crash."""
    spec = SupervisorSpec((leaf,), intensity=NEVER)
    for _ in range(LEVELS):
        spec = SupervisorSpec((subtree("s", spec),), intensity=NEVER)
    return spec


def path_of(leaf: str) -> str:
    return "/s" * LEVELS + f"/{leaf}"


async def test_a_crash_that_brings_down_a_deep_tree_can_be_read(autojump_clock: trio.abc.Clock) -> None:
    """The error says what gave up and what began it, in one line; its traceback is no larger than its chain is long."""
    log: list[str] = []

    with pytest.raises(SystemGaveUp) as caught:
        async with ActorSystem(tower(ChildSpec("leaf", partial(Plain, "leaf", log)))) as system:
            tell(system, path_of("leaf"), ValueError("boom"))
            await trio.sleep_forever()

    assert ["+leaf", "-leaf"] == log
    assert ("the actor system gave up: crashed: IntensityExceeded, 60 more within it, and ValueError: boom") == str(
        caught.value
    )
    assert len("".join(traceback.format_exception(caught.value))) < 10_000 * LEVELS


async def test_a_deep_tree_that_cannot_start_raises_what_began_it(autojump_clock: trio.abc.Clock) -> None:
    """Opening it raises the error of the child at the very bottom."""

    def fail() -> Plain:
        raise OSError("port in use")

    with pytest.raises(OSError, match=r"^port in use$"):
        async with ActorSystem(tower(ChildSpec("leaf", fail))) as system:
            raise AssertionError(f"{system} has started")


@pytest.mark.parametrize("levels", [1, 4, 5, 4_000])
def test_exits_within_exits_are_told_of_as_far_as_one_can_read(levels: int) -> None:
    """A few are told of in full; of more, the outermost and the innermost."""
    error: Exception = OSError("port in use")
    for _ in range(levels):
        error = ChildStartFailed("/s", StartFailed(error))

    told = str(StartFailed(error))

    if levels > MAX_WITHIN:
        assert f"could not start: ChildStartFailed, {levels - 1} more within it, and OSError: port in use" == told
    else:
        assert "could not start: " + "ChildStartFailed: /s could not start: " * levels + "OSError: port in use" == told
