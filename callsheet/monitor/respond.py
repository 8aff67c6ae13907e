"""
What the monitor answers over HTTP: the page's files, one word of health, and refusals without detail.

Rule 1: every answer carries the same headers, which forbid a browser everything that the page does not need.
Rule 2: routing is a dictionary of exact paths, filled from the files that are shipped; no path ever reaches a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Final

import h11
from attrs import frozen

SECURITY: Final = (
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        ),
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Connection", "close"),
)

PAGE: Final = (
    "index.html", "style.css", "icon.svg",
    "app.js", "feed.js", "view.js", "table.js", "schedules.js", "drawer.js", "dom.js",
)  # fmt: skip
"""The files of the page; `/` is the first."""

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

TEXT: Final = "text/plain; charset=utf-8"


@frozen
class Resource:
    """What one path answers with."""

    body: bytes
    content_type: str


def resources() -> dict[str, Resource]:
    """Every path but the feed's; the files are read from the package, once."""
    folder = files("callsheet.monitor").joinpath("page")
    found = {f"/{name}": Resource(folder.joinpath(name).read_bytes(), TYPES[name.rpartition(".")[2]]) for name in PAGE}
    return found | {"/": found.pop("/index.html"), "/healthz": Resource(b"ok\n", TEXT)}


def response(resource: Resource, method: str) -> bytes:
    """The whole answer to a request for `resource`."""
    return _encode(200, resource, head=method == "HEAD")


def refusal(status: int) -> bytes:
    """The whole answer to what is refused: the status, and nothing about us."""
    phrase = HTTPStatus(status).phrase
    extra = {405: {"Allow": "GET, HEAD"}, 426: {"Upgrade": "websocket"}}.get(status, {})
    return _encode(status, Resource(f"{status} {phrase}\n".encode(), TEXT), extra=extra)


def _encode(status: int, resource: Resource, *, extra: Mapping[str, str] | None = None, head: bool = False) -> bytes:
    headers = [
        ("Content-Type", resource.content_type),
        ("Content-Length", str(len(resource.body))),
        *SECURITY,
        *(extra or {}).items(),
    ]
    writer = h11.Connection(h11.SERVER)
    # not through the parser that read the request: after a malformed one it would answer nothing
    start = writer.send(h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()))
    assert start is not None
    return start if head else start + resource.body
