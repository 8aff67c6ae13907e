"""What can be a payload, what comes back, and what an exception becomes."""

from __future__ import annotations

import collections
import enum
import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, Union

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from callsheet.store.codec import (
    DEFAULT_LIMIT,
    HARD_LIMIT,
    MAX_DIGITS,
    check,
    decode,
    describe,
    encode,
    error_from_bytes,
    error_to_bytes,
    payload_hash,
)
from callsheet.store.described import MAX_MESSAGE, MAX_TRACEBACK
from callsheet.store.errors import PayloadInvalid, PayloadTooLarge
from callsheet.store.records import Error


class Color(enum.Enum):
    RED = "red"
    ONE = 1


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    A = "a"


class Pair(NamedTuple):
    a: int
    b: str


class Shape(TypedDict):
    side: int


@frozen
class Item:
    name: str
    count: int = 1


@frozen
class Order:
    id: int
    items: list[Item] = field(factory=list)
    price: float = 0.0
    tags: set[str] = field(factory=set)
    notes: dict[str, int] = field(factory=dict)
    at: datetime | None = None
    blob: bytes = b""
    any: Any = None


def refused(value: object) -> tuple[str, str]:
    with pytest.raises(PayloadInvalid) as error:
        encode(value)
    return error.value.path, error.value.why


def not_of(into: Any, body: str) -> tuple[str, str]:
    with pytest.raises(PayloadInvalid) as error:
        decode(body.encode(), into)
    return error.value.path, error.value.why


# ---------------------------------------------------------------- encode

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=20)


@given(values)
def test_every_json_value_comes_back(value: object) -> None:
    """Whatever can be a payload is the same afterwards, type by type."""
    assert repr(decode(encode(value), None)) == repr(value)


def test_e2_e4_what_other_stores_lose_comes_back() -> None:
    """NUL in a text, integers beyond 2^53, the order of keys, an integer of 4,300 digits, -0.0, text beyond the BMP."""
    value = {"z": "a\x00b", "a": 2**53 + 1, "n": 10**MAX_DIGITS - 1, "m": -(10**MAX_DIGITS) + 1, "f": -0.0, "🎭": "é"}

    back = decode(encode(value), None)

    assert back == value
    assert list(back) == list(value)
    assert math.copysign(1, back["f"]) == -1


def test_the_text_is_compact_utf_8() -> None:
    """No spaces, no escapes that are not needed."""
    assert encode({"a": [1, 2.5, None, True], "é": "🎭"}) == '{"a":[1,2.5,null,true],"é":"🎭"}'.encode()


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        (math.nan, "$", "nan is not a JSON number"),
        ({"items": [{}, {}, {}, {"name": math.inf}]}, "$.items[3].name", "inf is not a JSON number"),
        ([-math.inf], "$[0]", "-inf is not a JSON number"),
        ({"a": ["x", "\ud800"]}, "$.a[1]", "a text contains a lone surrogate, which UTF-8 cannot hold"),
        ({"a": {"\udfff": 1}}, "$.a", "a text contains a lone surrogate, which UTF-8 cannot hold"),
        ({"a": {1, 2}}, "$.a", "a set is not JSON"),
        ([b"x"], "$[0]", "a bytes is not JSON"),
        ([bytearray()], "$[0]", "a bytearray is not JSON"),
        ((1, 2j), "$[1]", "a complex is not JSON"),
        ({"o": object()}, "$.o", "an object is not JSON"),
        ([len], "$[0]", "a builtin_function_or_method is not JSON"),
        ([Item], "$[0]", "a type is not JSON"),
        ({1: 2}, "$", "a key is an integer; JSON keys are text"),
        ({"a": {None: 2}}, "$.a", "a key is null; JSON keys are text"),
        ({True: 2}, "$", "a key is a boolean; JSON keys are text"),
        ([{(1,): 2}], "$[0]", "a key is a tuple; JSON keys are text"),
        ([10**MAX_DIGITS], "$[0]", "an integer has more than 4,300 digits"),
        (-(10**5000), "$", "an integer has more than 4,300 digits"),
        (Item("x", math.nan), "$.count", "nan is not a JSON number"),  # type: ignore[arg-type]
        ([Item({1: 2})], "$[0].name", "a key is an integer; JSON keys are text"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_e1_what_is_no_json_is_refused_with_its_place(value: object, path: str, why: str) -> None:
    """The error names the path, and what is there."""
    assert refused(value) == (path, why)


def test_e1_depth() -> None:
    """64 levels are enough; the 65th is refused, of lists, objects and both."""
    for wrap in (lambda v: [v], lambda v: {"k": v}, lambda v: (v,)):
        deep: Any = []
        for _ in range(63):
            deep = wrap(deep)
        encode(deep)
        path, why = refused(wrap(deep))
        assert why == "it is nested more than 64 levels deep, or contains itself"
        assert len(path) <= 201


def test_e1_self_reference() -> None:
    """It is nested without end."""
    loop: list[Any] = []
    loop.append(loop)
    ring: dict[str, Any] = {}
    ring["a"] = Order(1, any=ring)

    assert "contains itself" in refused(loop)[1]
    assert refused(ring)[0].startswith("$.a")


def test_values_that_json_has_under_another_name() -> None:
    """Tuples are lists, enums their values, subclasses what they are subclasses of."""
    loose = collections.OrderedDict(b=1, a=collections.defaultdict(int, x=2))
    text, number, real = type("T", (str,), {})("t"), type("I", (int,), {})(5), type("F", (float,), {})(1.5)

    assert encode((1, (2, [3]))) == b"[1,[2,[3]]]"
    assert encode([Color.RED, Color.ONE, Level.LOW, Word.A, {Word.A: 1}]) == b'["red",1,1,"a",{"a":1}]'
    assert encode(loose) == b'{"b":1,"a":{"x":2}}'
    assert encode([text, number, real, Pair(1, "b")]) == b'["t",5,1.5,[1,"b"]]'


def test_a_subclass_cannot_smuggle_in_what_its_type_may_not_be() -> None:
    """They are checked as what they are stored as."""
    assert refused([type("F", (float,), {})("nan")])[0] == "$[0]"
    assert refused([type("T", (str,), {})("\ud800")])[0] == "$[0]"


def test_the_limit_is_in_bytes_of_text() -> None:
    """256 KiB by default, settable, never over 4 MiB; the error has the facts."""
    encode("x" * (DEFAULT_LIMIT - 2))
    encode("é" * 10, limit=22)
    with pytest.raises(PayloadTooLarge) as large:
        encode("é" * 10, limit=21)
    encode("x" * (HARD_LIMIT - 2), limit=1 << 40)
    with pytest.raises(PayloadTooLarge, match="4,194,305 bytes of JSON, the limit is 4,194,304"):
        encode("x" * (HARD_LIMIT - 1), limit=1 << 40)

    assert (large.value.size, large.value.limit) == (22, 21)


# ---------------------------------------------------------------- typed values


def test_a_typed_value_comes_back() -> None:
    """An attrs instance with all that cattrs knows to unstructure."""
    order = Order(
        7, [Item("a"), Item("b", 2)], 1.5, {"x"}, {"k": 1}, datetime(2026, 1, 2, tzinfo=UTC), b"\x00\xff", [{}])  # fmt: skip

    assert decode(encode(order), Order) == order


def test_an_object_inside_a_type_is_any_json_value() -> None:
    """`object` says the same as `Any`, wherever it stands: a value of it comes back as the JSON that it is."""
    assert [1, {"a": [None]}] == decode(b'[1,{"a":[null]}]', list[object])
    assert {"a": {"b": 1}} == decode(encode({"a": {"b": 1}}), dict[str, object])
    assert ("$", "it is a list, not an object") == not_of(dict[str, object], "[]")


def test_an_integer_is_taken_for_a_float() -> None:
    """JSON has one kind of number; Python's readers expect a float."""
    assert repr(decode(b'{"id":1,"price":3}', Order).price) == "3.0"


@pytest.mark.parametrize(
    ("into", "body", "path", "why"),
    [
        (int, '"5"', "$", "it is a text, not an integer"),
        (int, "true", "$", "it is a boolean, not an integer"),
        (int, "1.9", "$", "it is a number, not an integer"),
        (int, "1.0", "$", "it is a number, not an integer"),
        (int, "null", "$", "it is null, not an integer"),
        (float, '"1"', "$", "it is a text, not a number or an integer"),
        (float, "true", "$", "it is a boolean, not a number or an integer"),
        (bool, "1", "$", "it is an integer, not a boolean"),
        (str, "1", "$", "it is an integer, not a text"),
        (list[str], '"abc"', "$", "it is a text, not a list"),
        (list[str], '{"a":1}', "$", "it is an object, not a list"),
        (list, '"abc"', "$", "it is a text, not a list"),
        (set[str], '"abc"', "$", "it is a text, not a list"),
        (tuple[str, ...], '"abc"', "$", "it is a text, not a list"),
        (tuple[int, str], "[1]", "$", "it does not fit its type (ValueError)"),
        (dict[str, int], "[]", "$", "it is a list, not an object"),
        (dict[str, int], '{"a":true}', "$.a", "it is a boolean, not an integer"),
        (dict, "[]", "$", "it is a list, not an object"),
        (int | None, "true", "$", "it is a boolean, which is not allowed"),
        (int | str, "true", "$", "it is a boolean, which is not allowed"),
        (int | float | None, "false", "$", "it is a boolean, which is not allowed"),
        (Union[list[int], None], '"12"', "$", "it is a text, not a list"),  # noqa: UP007
        (Literal[1, "a"], "true", "$", "it is a boolean, of which none is allowed"),
        (Literal[1, "a"], "1.0", "$", "it is a number, of which none is allowed"),
        (Literal[1, "a"], "2", "$", "it does not fit its type (CattrsError)"),
        (Color, "true", "$", None),
        (Color, '"blue"', "$", "it does not fit its type (ValueError)"),
        (Level, "1.0", "$", "it is a number, not an integer"),
        (Level, "true", "$", "it is a boolean, not an integer"),
        (Shape, '{"side":1,"x":2}', "$", "unknown key 'x'"),
        (Shape, "[]", "$", "it is a list, not an object"),
        (Shape, '{"side":true}', "$.side", "it is a boolean, not an integer"),
        (Item, "{}", "$", None),
        (Item, '{"name":"a","Name":"b"}', "$", "unknown key 'Name'"),
        (Item, "[]", "$", "it is a list, not an object"),
        (Item, '"x"', "$", "it is a text, not an object"),
        (Order, '{"id":1,"items":[{"name":"a"},{"name":"a","count":"1"}]}', "$.items[1].count", "it is a text, not an integer"),
        (Order, '{"id":1,"at":"tomorrow"}', "$.at", "it does not fit its type (ValueError)"),
        (Order, '{"id":1,"at":5}', "$.at", "it does not fit its type (TypeError)"),
    ],
)  # fmt: skip
def test_e5_nothing_is_coerced(into: Any, body: str, path: str, why: str | None) -> None:
    """Exact types, no unknown keys, and the place of the first problem."""
    found = not_of(into, body)

    assert found == (path, found[1] if why is None else why)


@pytest.mark.parametrize(
    "body", ["", "{", "nope", "NaN", "[Infinity]", "-Infinity", "1e999", "[" * 100_000, "\ufeff1", "1 2"]
)
@pytest.mark.parametrize("into", [None, Any, Item])
def test_a_body_that_is_no_json(into: Any, body: str) -> None:
    """Whoever wrote it, it is one error."""
    assert not_of(into, body) == ("$", "it is not JSON")
    with pytest.raises(PayloadInvalid):
        decode(b"\xff", into)


def test_e5_values_are_not_echoed() -> None:
    """A payload may hold secrets: neither the message nor what it is made of shows them."""
    for into, body in (
        (Order, '{"id":"hunter2"}'),
        (Order, '{"id":1,"at":"hunter2"}'),
        (Color, '"hunter2"'),
        (Literal["a"], '"hunter2"'),
        (tuple[int, int], '["hunter2"]'),
        (int | float, '"hunter2"'),
    ):
        with pytest.raises(PayloadInvalid) as error:
            decode(body.encode(), into)
        assert "hunter2" not in str(error.value) + repr(error.value)


def test_e6_names_of_classes_in_a_payload_are_plain_data() -> None:
    """Nothing is imported, nothing chosen by them."""
    evil = '{"__class__":"os.system","_type":"Order","__reduce__":["x"]}'

    assert decode(evil.encode(), None) == json.loads(evil)
    assert not_of(Item, f'{{"name":"a",{evil[1:]}')[1] == "unknown key '__class__'"


def test_check_is_what_decode_will_say() -> None:
    """An instance or plain JSON; an instance with the wrong types inside is refused before it is stored."""
    check(Order(1, [Item("a")]), Order)
    check({"id": 1, "items": [{"name": "a"}]}, Order)
    check({"whatever": [1, (2,)]}, None)
    check(object(), None)

    for value, path in (
        ({"id": "1"}, "$.id"),
        (Order("1"), "$.id"),  # type: ignore[arg-type]
        (Item("a"), "$"),
        ({"id": 1, "items": ({"name": "a"}, 5)}, "$.items[1]"),
        ({"id": 1, "any": {1: 2}}, "$.any"),
    ):
        with pytest.raises(PayloadInvalid) as error:
            check(value, Order)
        assert error.value.path == path


def test_the_hash_is_of_the_value() -> None:
    """Not of the order of keys or of spaces; of the task too."""
    one, same = (
        payload_hash("t", b'{"a":1,"b":[2,{"c":3,"d":4}]}'),
        payload_hash("t", b'{ "b":[2,{"d":4,"c":3}],"a":1}'),
    )

    assert one == same
    assert len(one) == 16
    others = [payload_hash("u", b'{"a":1,"b":[2,{"c":3,"d":4}]}'), payload_hash("t", b'{"a":1,"b":[{"c":3,"d":4},2]}')]
    assert len({one, *others, payload_hash("t", b"1"), payload_hash("t", b'"1"'), payload_hash("t", b"true")}) == 6


# ---------------------------------------------------------------- describe


def test_an_exception_as_text() -> None:
    """Type, message, and where it came from."""
    error = raised(lambda: json.loads("{"))

    told = describe(error)

    assert (told.type, told.message) == ("JSONDecodeError", str(error))
    assert told.traceback.startswith("  File ")
    assert "in raised" in told.traceback
    assert told.traceback.endswith(f"JSONDecodeError: {error}\n")


def test_values_of_locals_are_not_told() -> None:
    """Only lines of code."""

    def work() -> None:
        secret = "hunter" + str(2)
        assert secret.islower()
        raise ValueError

    assert "hunter2" not in str(describe(raised(work)))


def test_causes_and_members_are_told() -> None:
    """What the text of a group or of a wrapper alone would hide."""

    def cause() -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner

    group = BaseExceptionGroup("both", [raised(cause), ExceptionGroup("nested", [OSError("leaf")])])

    told = describe(group).traceback

    for part in (
        "ExceptionGroup: both (2 sub-exceptions)",
        "in ExceptionGroup:\n",
        "ValueError: outer",
        "OSError: leaf",
    ):
        assert part in told
    assert "caused ValueError:\n" in told
    assert "KeyError: 'inner'" in told


def test_a_context_that_was_suppressed_is_not_told() -> None:
    """`raise … from None` says so."""

    def work() -> None:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None

    assert "hidden" not in describe(raised(work)).traceback


class Mean(Exception):
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    def __bool__(self) -> bool:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    @property
    def __cause__(self) -> None:
        raise SystemExit


class Liar(str):
    __slots__ = ()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError


class Told(Exception):
    def __init__(self, text: Any) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text  # type: ignore[no-any-return]


def ring() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def deep_group() -> BaseException:
    group: BaseException = ValueError("leaf")
    for _ in range(10_000):
        group = BaseExceptionGroup("g", [group])
    return group


def long_chain() -> BaseException:
    first = last = ValueError("first")
    for n in range(10_000):
        last.__cause__ = ValueError(str(n))
        last = last.__cause__
    return first


def deep_recursion() -> BaseException:
    def down() -> None:
        down()

    return raised(down)


@pytest.mark.parametrize(
    "make",
    [
        Mean,
        lambda: Told("x" * 50_000_000),
        lambda: Told("🎭" * 100_000),
        lambda: Told("\ud800 \x00 \udfff"),
        lambda: Told(b"no text"),
        lambda: Told(None),
        lambda: Told(Liar("lie" * 10_000)),
        lambda: Told("\n" * 100_000),
        ring,
        deep_group,
        long_chain,
        deep_recursion,
        lambda: BaseExceptionGroup("wide", [ValueError(str(n)) for n in range(10_000)]),
        lambda: ExceptionGroup("mean", [Mean()]),
        type("N🎭" * 5000, (Exception,), {}),
        KeyboardInterrupt,
        lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
)
def test_any_exception_can_be_told(make: Any) -> None:
    """Whatever it does when it is looked at: within bounds, as UTF-8, and it comes back from the store."""
    told = describe(make())

    assert 0 < len(told.type.encode()) <= 200
    assert len(told.message.encode()) <= MAX_MESSAGE
    assert 0 < len(told.traceback.encode()) <= MAX_TRACEBACK
    assert error_from_bytes(error_to_bytes(told)) == told


def test_a_ring_of_causes_is_told_once() -> None:
    """Each exception has its place, once."""
    told = describe(ring()).traceback

    assert [told.count(f"ValueError: {name}\n") for name in ("one", "two")] == [1, 1]


def test_a_long_message_says_that_it_was_cut() -> None:
    """And how long it was."""
    assert describe(Told("x" * 20_000)).message.endswith("xxx… (20,000 characters in all)")
    assert describe(Told("x" * MAX_MESSAGE)).message == "x" * MAX_MESSAGE
    assert describe(Mean()).message == "<unprintable Mean>"


def test_an_error_comes_back_from_its_bytes() -> None:
    """Type, message, traceback."""
    error = Error("E", "a \x00 é 🎭", "t\n")

    assert error_from_bytes(error_to_bytes(error)) == error


def raised(work: Any) -> BaseException:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError


def test_the_store_loads_cattrs_and_apsw_only_where_they_are_used() -> None:
    """`callsheet.store.records` is light: a client that only reads messages need not load the rest."""
    code = "import sys; import callsheet.store.contract; print([m for m in ('apsw', 'cattrs', 'trio') if m in sys.modules])"
    root = Path(__file__).parents[2]

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout

    assert printed == "[]\n"
