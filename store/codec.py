"""
From values to what is stored, and back.

Rule 1: the text must give the value back; what would come back as something else is refused, with the path to it.
Rule 2: messages name paths and types, never values: a payload may hold secrets.
Not here: typed values (`converter`), exceptions (`described`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, NoReturn

from .converter import named, structure, unstructure
from .described import describe, error_from_bytes, error_to_bytes
from .errors import PayloadInvalid, PayloadTooLarge

__all__ = ["check", "decode", "describe", "encode", "error_from_bytes", "error_to_bytes", "payload_hash"]

DEFAULT_LIMIT: Final = 256 * 1024
HARD_LIMIT: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 4_300
"""Digits of an integer: what Python itself reads back without being told otherwise."""
_BIG: Final = 10**MAX_DIGITS
_LEAVES: Final = frozenset({str, int, float, bool, type(None)})


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number that no float can hold")
    return number


def _writer() -> Callable[[object], str]:
    """What `JSONEncoder.encode` makes for each call, made once. It looks for no loops: `_is_plain` and `_plain` find them."""
    slow = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    make: Any = getattr(json.encoder, "c_make_encoder", None)  # CPython's
    if make is None:
        return slow.encode
    chunks = make(None, slow.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


# made once: `json.dumps` and `json.loads` with options make one for every call
_to_text: Final = _writer()
_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_from_text: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).raw_decode
_BLANKS: Final = " \t\n\r"


# ---------------------------------------------------------------- values to bytes


def encode(value: object, *, limit: int = DEFAULT_LIMIT, what: str = "payload") -> bytes:
    """
    `value` as compact JSON in UTF-8.

    value: any JSON value, or an attrs instance, dataclass or other value that cattrs unstructures into one. Tuples become
    lists, enums their values, and subclasses of JSON's types those types. limit: bytes, at most 4 MiB. what: it is, for errors.

    Raises PayloadInvalid (NaN, infinities, keys that are no text, sets, bytes, other objects, lone surrogates, loops, more
    than 64 levels, integers over 4,300 digits) or PayloadTooLarge.
    """
    try:
        body = _body(value if _is_plain(value, MAX_DEPTH) else _plain(value, "$", 1))
    except PayloadInvalid as error:
        error.what = what
        raise
    limit = min(limit, HARD_LIMIT)
    if len(body) > limit:
        raise PayloadTooLarge(len(body), limit, what)
    return body


def _body(plain: object) -> bytes:
    try:
        return _to_text(plain).encode()
    except ValueError as error:  # NaN, an infinity, too many digits, a lone surrogate: _plain knows where
        _plain(plain, "$", 1)
        raise PayloadInvalid("$", "it cannot be written as JSON") from error


def _is_plain(value: object, depth: int) -> bool:
    """Whether it is made of JSON's own types, keys included: the common case, told without keeping paths."""
    kind = type(value)
    if kind in _LEAVES:
        return True
    if depth == 0:
        return False
    if kind is dict:
        for key, each in value.items():  # type: ignore[attr-defined]
            if type(key) is not str or (type(each) not in _LEAVES and not _is_plain(each, depth - 1)):
                return False
        return True
    if kind is list:
        return all(type(each) in _LEAVES or _is_plain(each, depth - 1) for each in value)  # type: ignore[attr-defined]
    return False


def _plain(value: Any, path: str, depth: int) -> object:
    """`value` with nothing but JSON's own types in it. Raises PayloadInvalid, which names the place."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, path, depth)
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int | float):
        return _number(value, path)
    if depth > MAX_DEPTH:
        raise PayloadInvalid(_shortened(path), f"it is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if isinstance(value, dict):
        return {_key(key, path): _plain(each, f"{path}.{key}", depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{path}[{n}]", depth + 1) for n, each in enumerate(value)]
    return _plain(_unstructured(value, path), path, depth + 1)


def _number(value: float, path: str) -> float:
    if isinstance(value, int):
        if -_BIG < value < _BIG:
            return int.__int__(value)
        raise PayloadInvalid(_shortened(path), f"an integer has more than {MAX_DIGITS:,} digits")
    if math.isfinite(value):
        return float.__float__(value)
    raise PayloadInvalid(_shortened(path), f"{float.__float__(value)} is not a JSON number")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise PayloadInvalid(_shortened(path), f"a key is {named(key)}; JSON keys are text")
    return _text(key, path)


def _text(text: str, path: str) -> str:
    try:
        return str.encode(text).decode()
    except UnicodeEncodeError:
        raise PayloadInvalid(_shortened(path), "a text contains a lone surrogate, which UTF-8 cannot hold") from None


def _unstructured(value: object, path: str) -> object:
    if isinstance(value, set | frozenset | bytes | bytearray | memoryview | complex) or callable(value):
        raise PayloadInvalid(_shortened(path), f"{named(value)} is not JSON")
    try:
        plain = unstructure(value)
    except Exception as error:
        raise PayloadInvalid(_shortened(path), f"{named(value)} cannot be unstructured") from error
    if plain is value or type(plain) is type(value):
        raise PayloadInvalid(_shortened(path), f"{named(value)} is not JSON")
    return plain


def _shortened(path: str) -> str:
    clean = path.encode("utf-8", "backslashreplace").decode()
    return clean if len(clean) <= 200 else f"{clean[:200]}…"


def payload_hash(task: str, body: bytes) -> bytes:
    """16 bytes that are equal for the same task and the same JSON value, whatever the order of keys."""
    canonical = _canonical(json.loads(body))
    return blake2b(f"{task}\n{canonical}".encode(), digest_size=16).digest()


# ---------------------------------------------------------------- bytes to values


def decode(body: bytes, into: Any) -> Any:
    """
    The value that `body` holds, as type `into`; None leaves it as JSON values.

    Raises PayloadInvalid when it is not of that type: exact types (an integer is taken for a float), no unknown keys.
    """
    try:
        text = body.decode().strip(
            _BLANKS
        )  # what we wrote has none: `JSONDecoder.decode` looks for them twice, by pattern
        value, end = _from_text(text)
        if end < len(text):
            raise ValueError("something follows the value")
    except (ValueError, RecursionError) as error:
        raise PayloadInvalid("$", "it is not JSON") from error
    return value if into is None else structure(value, into)


def check(value: object, into: Any) -> None:
    """
    Make sure that `value`, given to `enqueue`, will be read back as type `into`; None takes anything.

    Raises PayloadInvalid.
    """
    if into is not None:
        structure(value if _is_plain(value, MAX_DEPTH) else _plain(value, "$", 1), into)
