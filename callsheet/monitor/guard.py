"""
Who may talk to the monitor at all: the checks that come before routing, on every connection.

Rule 1: pure; bytes in, a refusal or nothing out. Everything is compared whole: no prefixes, suffixes or patterns.
Rule 2: the order is fixed: Host (a page of another site that made its name point here sends its own), then the method,
    then the path, then, for the feed, Origin. The token comes last, inside the websocket.
Not here: reading the head (`request`), the token (`client`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from attrs import field, frozen

from .request import Head, Refused

FEED: Final = "/feed"
MAX_SHOWN: Final = 80
"""Characters of a foreign header that a log line repeats."""


@frozen
class Guard:
    """The checks of a monitor on `port`."""

    port: int
    hosts: frozenset[bytes] = field(init=False)
    origins: frozenset[bytes] = field(init=False)

    @hosts.default
    def _hosts(self) -> frozenset[bytes]:
        return frozenset(_authorities(self.port))

    @origins.default
    def _origins(self) -> frozenset[bytes]:
        return frozenset(b"http://" + host for host in _authorities(self.port))

    def check(self, head: Head, paths: Collection[str]) -> None:
        """Raises Refused when this request is not answered. `paths`: what there is, beside the feed."""
        self._check_host(head)
        if head.method not in ("GET", "HEAD"):
            raise Refused(405, f"method {head.method[:20]!a}")
        if head.target != FEED and head.target not in paths:
            raise Refused(404, None)
        if head.target == FEED:
            _check_upgrade(head)
            self._check_origin(head)

    def _check_host(self, head: Head) -> None:
        hosts = head.all(b"host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            raise Refused(421, f"Host {_shown(hosts)}")
        if not head.target.startswith("/"):  # absolute form: it names a host too
            raise Refused(421, "a target that is not a path")

    def _check_origin(self, head: Head) -> None:
        origins = head.all(b"origin")
        if len(origins) > 1 or any(each not in self.origins for each in origins):
            raise Refused(403, f"Origin {_shown(origins)}")


def _authorities(port: int) -> list[bytes]:
    names = ["localhost", "127.0.0.1", "[::1]"]
    with_port = [f"{name}:{port}".encode() for name in names]
    return with_port + [name.encode() for name in names] if port == 80 else with_port


def _check_upgrade(head: Head) -> None:
    """A websocket handshake in full, so that the library that answers it has nothing left to refuse."""
    asks = (
        head.method == "GET",
        b"upgrade" in head.tokens(b"connection"),
        head.tokens(b"upgrade") == [b"websocket"],
        head.all(b"sec-websocket-version") == [b"13"],
    )
    if not all(asks):
        raise Refused(426, None)
    if len(head.all(b"sec-websocket-key")) != 1:
        raise Refused(400, "no Sec-WebSocket-Key")


def _shown(values: list[bytes]) -> str:
    return ", ".join(ascii(value[:MAX_SHOWN].decode("latin-1")) for value in values[:2]) or "missing"
