from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    LiteralString,
    Never,
    NewType,
    NoReturn,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import pytest
from attrs import frozen

from callsheet.actors.actor import Actor
from callsheet.actors.checked import declared
from callsheet.actors.errors import ActorError, WrongMessage
from callsheet.actors.ref import check

M = TypeVar("M")
N = TypeVar("N")


@frozen
class Tick:
    pass


@frozen
class Send:
    to: str


class Resend(Send):
    pass


@frozen
class Stop:
    pass


class Closable(Protocol):
    def close(self) -> None: ...


@runtime_checkable
class Sized(Protocol):
    def __len__(self) -> int: ...


class Fields(TypedDict):
    a: int


Mail: TypeAlias = Send | Stop
Number = NewType("Number", int)


class Plain(Actor[Tick | Send | Stop]):
    pass


class Inherits(Plain):
    pass


class Bare(Actor):  # type: ignore[type-arg]
    pass


class Stoppable(Actor[M | Stop], Generic[M]):
    """Half of its messages are left to those who derive from it."""


class Pair(Actor[M | N], Generic[N, M]):
    """Its type variables stand in another order than in the base."""


class Deeper(Stoppable[N | int], Generic[N]):
    pass


class Renamed(Pair[M, M], Generic[M]):
    pass


class Mixin:
    pass


class Tagged(Generic[M]):
    pass


class TaggedByNumber(Tagged[int]):
    """Generic, and no actor."""


class Unbound(Stoppable[M], Generic[M]):
    pass


@pytest.mark.parametrize(
    ("of", "takes"),
    [
        (Actor[Tick], (Tick,)),
        (Actor[Tick | Send], (Tick, Send)),
        (Actor[Union[Tick, Send]], (Tick, Send)),  # noqa: UP007 -- the old form is still written
        (Actor[Mail], (Send, Stop)),
        (Actor[Mail | Tick], (Send, Stop, Tick)),
        (Actor[list[Tick]], (list,)),
        (Actor[Sequence[Tick] | dict[str, int]], (Sequence, dict)),
        (Actor[Callable[[int], str]], (Callable,)),
        (Actor[type[Tick]], (type,)),
        (Actor[collections.OrderedDict[str, int]], (collections.OrderedDict,)),
        (Actor[Tick | None], (Tick, type(None))),
        (Actor[None], (type(None),)),
        (Actor[Literal["a", 1]], (str, int)),
        (Actor[Annotated[Tick | int, "note"]], (Tick, int)),
        (Actor[LiteralString], (str,)),
        (Actor[Number], (int,)),
        (Actor[Fields], (dict,)),
        (Actor[float], (float, int)),
        (Actor[complex], (complex, float, int)),
        (Actor[Sized], (Sized,)),
        (Actor[object], (object,)),
        (Actor[Never], ()),
        (Actor[NoReturn], ()),
        (Actor[Union[Never, Tick]], (Tick,)),  # noqa: UP007, RUF020 -- as an alias may come to
        (Stoppable[Tick], (Tick, Stop)),
        (Stoppable[Tick | Send], (Tick, Send, Stop)),
        (Deeper[Tick], (Tick, int, Stop)),
        (Pair[Tick, Send], (Send, Tick)),
        (Renamed[Tick], (Tick,)),
    ],
)
def test_what_an_actor_declared_is_what_it_takes(of: Any, takes: tuple[type, ...]) -> None:
    """Unions, aliases, generic types and generic bases come down to the classes that `isinstance` can tell apart."""

    class Declared(of):  # type: ignore[misc]
        pass

    accepted = declared(Declared)

    assert accepted is not None
    assert (len(takes), set(takes)) == (len(accepted), set(accepted))


@pytest.mark.parametrize(
    "of",
    [
        Actor,
        Actor[Any],
        Actor[Tick | Any],
        Actor[Closable],
        Actor["Tick"],
        Actor["Tick | None"],
        Actor[M],
        Bare,
        Stoppable,
        Stoppable[Any],
        Stoppable["Tick"],
        Unbound,
        Pair[Tick, Any],
    ],
)
def test_a_declaration_that_no_isinstance_can_tell_is_not_checked(of: Any) -> None:
    """Any, type variables nobody bound, forward references and mere protocols leave the whole actor unchecked."""

    class Declared(of):  # type: ignore[misc]
        pass

    accepted = declared(Declared)

    assert None is accepted


def test_a_declaration_is_inherited_whatever_stands_beside_it() -> None:
    """Neither a mixin before the actor nor classes between it and the declaration hide what it takes."""

    class Mixed(Mixin, Inherits):
        pass

    class Number(TaggedByNumber, Inherits):
        pass

    class Half(Bare, Stoppable[Tick]):
        """One base says nothing; the other does."""

    assert {Tick, Send, Stop} == set(declared(Plain) or ())
    assert declared(Plain) == declared(Inherits) == declared(Mixed) == declared(Number)
    assert {Tick, Stop} == set(declared(Half) or ())


def test_a_message_of_a_declared_class_or_of_a_class_below_it_passes() -> None:
    """What the type checker lets through is not refused."""
    for message in (Tick(), Send("a"), Resend("b")):
        check("/a", declared(Plain), message)
    check("/a", (float, int), 1)
    check("/a", None, object())


def test_another_message_is_refused_in_a_sentence_with_its_facts() -> None:
    """The error names the actor, the type that came, and what the actor takes."""
    with pytest.raises(WrongMessage) as caught:
        check("/mailer", (Tick, int, Stop), "text")

    error = caught.value
    assert ("/mailer", str, (Tick, int, Stop)) == (error.path, error.kind, error.accepted)
    assert f"/mailer was sent a str: it takes {__name__}.Tick, int or {__name__}.Stop" == str(error)
    assert isinstance(error, ActorError | TypeError)


def test_an_actor_that_takes_nothing_refuses_everything() -> None:
    """`Actor[Never]` is a declaration too."""
    with pytest.raises(WrongMessage, match="/clock was sent a NoneType: it takes no messages at all"):
        check("/clock", (), None)


def test_an_error_about_a_long_union_stays_short() -> None:
    """At most twelve accepted types are named; the rest is a number."""
    kinds = tuple(type(f"Kind{n}", (), {"__module__": "builtins"}) for n in range(100))

    sentence = str(WrongMessage("/a", str, kinds))

    assert sentence.endswith("Kind10, Kind11 or 88 more")
