"""
From values to what is stored, and back: the only file that knows cattrs, JSON and the form of an error.

Rule 1: the text must give the value back; what would come back as something else is refused, with the path to it.
Rule 2: strict: a stored "5" is never taken for 5, an unknown key never dropped.
Rule 3: messages name paths and types, never values: a payload may hold secrets.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final

import attrs
import cattrs
from cattrs.errors import BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.json import make_converter

from .errors import PayloadInvalid, PayloadTooLarge
from .records import Error

DEFAULT_LIMIT: Final = 256 * 1024
HARD_LIMIT: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 4_300
"""Digits of an integer: what Python itself reads back without being told otherwise."""
_BIG: Final = 10**MAX_DIGITS
MAX_MESSAGE: Final = 16 * 1024
MAX_TRACEBACK: Final = 64 * 1024
MAX_FRAMES: Final = 40
MAX_CHAIN: Final = 5
"""Causes of an exception that its traceback shows."""

_to_text: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""Made once: `json.dumps` with options makes an encoder for every call."""

# ---------------------------------------------------------------- values to bytes


def encode(value: object, *, limit: int = DEFAULT_LIMIT) -> bytes:
    """
    `value` as compact JSON in UTF-8.

    value: any JSON value, or an attrs instance, dataclass or other value that cattrs unstructures into one. Tuples become
    lists. limit: bytes, at most 4 MiB.

    Raises PayloadInvalid (NaN, infinities, keys that are no text, sets, bytes, other objects, lone surrogates, loops, more
    than 64 levels, integers over 4,300 digits) or PayloadTooLarge.
    """
    plain = _plain(value, "$", 1)
    try:
        body = _to_text(plain).encode()
    except UnicodeEncodeError:
        raise PayloadInvalid("$", "it contains a lone surrogate, which no UTF-8 text can hold") from None
    limit = min(limit, HARD_LIMIT)
    if len(body) > limit:
        raise PayloadTooLarge(len(body), limit)
    return body


def _plain(value: object, path: str, depth: int) -> object:
    """`value` with nothing but JSON's own types in it. Raises PayloadInvalid."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return _checked_int(value, path)  # type: ignore[arg-type]
    if kind is float:
        if math.isfinite(value):  # type: ignore[arg-type]
            return value
        raise PayloadInvalid(path, f"{value} is not a JSON number")
    if depth > MAX_DEPTH:
        raise PayloadInvalid(_shortened(path), f"it is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if kind is dict:
        return _plain_dict(value, path, depth)  # type: ignore[arg-type]
    if kind is list or kind is tuple:
        items: list[object] = list(value)  # type: ignore[call-overload]
        return [_plain(each, f"{path}[{n}]", depth + 1) for n, each in enumerate(items)]
    return _plain(_unstructured(value, path), path, depth + 1)


def _plain_dict(value: dict[object, object], path: str, depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, each in value.items():
        if type(key) is not str:
            raise PayloadInvalid(path, f"a key is {_article(type(key).__name__)}; JSON keys are text")
        # leaves inline: half of the time of a small payload goes here
        kind = type(each)
        plain[key] = each if kind is str or each is None or kind is bool else _plain(each, f"{path}.{key}", depth + 1)
    return plain


def _checked_int(value: int, path: str) -> int:
    if -_BIG < value < _BIG:
        return value
    raise PayloadInvalid(path, f"an integer has more than {MAX_DIGITS:,} digits")


def _unstructured(value: object, path: str) -> object:
    if isinstance(value, set | frozenset | bytes | bytearray | memoryview | complex) or callable(value):
        raise PayloadInvalid(path, f"{_article(type(value).__name__)} is not JSON")
    try:
        plain = _CONVERTER.unstructure(value)
    except Exception as error:
        raise PayloadInvalid(path, f"{_article(type(value).__name__)} cannot be unstructured") from error
    if plain is value or type(plain) is type(value):
        raise PayloadInvalid(path, f"{_article(type(value).__name__)} is not JSON")
    return plain


def payload_hash(task: str, body: bytes) -> bytes:
    """16 bytes that are equal for the same task and the same JSON value, whatever the order of keys."""
    canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    return blake2b(f"{task}\n{canonical}".encode(), digest_size=16).digest()


# ---------------------------------------------------------------- bytes to values


def decode(body: bytes, into: Any) -> Any:
    """
    The value that `body` holds, as type `into`; None leaves it as JSON values.

    Raises PayloadInvalid when it is not of that type: exact types (an int is taken for a float), no unknown keys.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PayloadInvalid("$", "it is not JSON") from error
    return value if into is None else _structure(value, into)


def check(value: object, into: Any) -> None:
    """
    Make sure that `value`, given to `enqueue`, will be read back as type `into`; None takes anything.

    Raises PayloadInvalid.
    """
    if into is None:
        return
    _structure(_plain(value, "$", 1), into)


def _structure(value: object, into: Any) -> Any:
    try:
        return _CONVERTER.structure(value, into)
    except PayloadInvalid:
        raise
    except Exception as error:
        path, why = _first_problem(error, "$")
        raise PayloadInvalid(path, why) from error


def _first_problem(error: BaseException, path: str) -> tuple[str, str]:
    if isinstance(error, ForbiddenExtraKeysError):
        extra = min(map(str, error.extra_fields))
        return path, f"unknown key {extra[:80]!a}"
    if isinstance(error, BaseValidationError) and error.exceptions:
        first = error.exceptions[0]
        return _first_problem(first, path + _step(first))
    if isinstance(error, _WrongType):
        return path, str(error)
    if isinstance(error, KeyError):
        return path, f"key {error.args[0]!a} is missing" if error.args else "a key is missing"
    return path, f"it does not fit its type ({type(error).__name__})"


def _step(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]" if isinstance(note.index, int) else f".{note.index}"
        name = getattr(note, "name", None)
        if name is not None and not isinstance(error, KeyError):
            return f".{name}"
    return ""


class _WrongType(TypeError):
    """A value of another JSON type than its annotation says."""


def _make_converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True, detailed_validation=True)

    def exactly(*kinds: type, make: type | None = None) -> Any:
        def structure(value: object, _into: Any) -> Any:
            if type(value) not in kinds:
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise _WrongType(f"it is {_article(type(value).__name__)}, not {_article(wanted)}")
            return value if make is None else make(value)

        return structure

    converter.register_structure_hook(str, exactly(str))
    converter.register_structure_hook(int, exactly(int))
    converter.register_structure_hook(bool, exactly(bool))
    converter.register_structure_hook(float, exactly(float, int, make=float))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _mapping_only(kind, converter))
    return converter


def _mapping_only(kind: type, converter: cattrs.Converter) -> Any:
    """cattrs raises AttributeError, not a validation error, when it is given no mapping at all."""
    structure_mapping: Any = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

    def structure(value: object, into: Any) -> Any:
        if not isinstance(value, dict):
            raise _WrongType(
                f"it is {_article(type(value).__name__)}, not an object with the fields of {kind.__name__}"
            )
        return structure_mapping(value, into)

    return structure


_CONVERTER: Final = _make_converter()


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _shortened(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:200]}…"


# ---------------------------------------------------------------- exceptions to text and back


def describe(error: BaseException) -> Error:
    """
    An exception as text: type name, message (at most 16 KiB), traceback without locals (at most 64 KiB).

    Never raises, whatever the exception does when it is looked at.
    """
    return Error(
        type=_bounded(type(error).__name__, 200),
        message=_bounded(_text_of(error), MAX_MESSAGE),
        traceback=_bounded("".join(_traceback(error)), MAX_TRACEBACK),
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 -- its __str__ is a stranger's code
        return f"<unprintable {type(error).__name__}>"


def _traceback(error: BaseException) -> Iterator[str]:
    """Innermost cause first, as Python prints it; bounded in causes and frames; the texts are those of `_text_of`."""
    chain = [error]
    while len(chain) < MAX_CHAIN:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or any(before is each for each in chain):
            break
        chain.append(before)
    for each in reversed(chain):
        with suppress(Exception):
            frames = traceback.extract_tb(each.__traceback__, limit=-MAX_FRAMES)
            yield from traceback.format_list(frames)
        yield f"{type(each).__name__}: {_bounded(_text_of(each), 1_000)}\n"
        if each is not error:
            yield "\n"


def _bounded(text: str, limit: int) -> str:
    clean = text[:limit].encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit and len(clean) <= limit:
        return clean
    return f"{clean[: limit - 20]}… ({len(text):,} in all)"


def error_to_bytes(error: Error) -> bytes:
    """For a column of a store."""
    return json.dumps([error.type, error.message, error.traceback], ensure_ascii=False).encode()


def error_from_bytes(body: bytes) -> Error:
    """See `error_to_bytes`."""
    return Error(*json.loads(body))
