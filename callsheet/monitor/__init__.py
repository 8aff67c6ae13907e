"""
The monitor: a page and a feed on one loopback port, to watch a runtime and to steer it.

Rule: what a user says about it is checked here, when it is said; nothing is bound and no secret made before `open`.
Not here: the actor that serves it (`server`), who may talk to it (`guard`), what it sends (`feed`).
"""

from __future__ import annotations

import re
from typing import Final

from attrs import define, field, frozen

from ..errors import InvalidOption
from ..store.errors import CallsheetError

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
"""Where it may listen: whoever can reach anything else could be anybody."""
MIN_TOKEN: Final = 32
MAX_TOKEN: Final = 256
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~-]*")


@frozen
class Monitor:
    """
    Serve the monitor: `jobs.open("jobs.db", monitor=Monitor())`, then open `runtime.monitor_url` in a browser.

    port: 0 … 65535; 0 takes a free one. host: 127.0.0.1, localhost (the same) or ::1; nothing else in this release.
    token: the secret that the link carries; 32 to 256 letters, digits and -._~; None: a new one of 256 bits at each open.

    Raises InvalidOption or TypeError that names the field; `open` raises CannotListen when the port is in use.
    """

    port: int = 0
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.port, bool) or not isinstance(self.port, int):
            raise TypeError(f"Monitor(port) must be an int, not {type(self.port).__name__}")
        if not 0 <= self.port <= 65_535:
            raise InvalidOption("Monitor(port)", f"must be 0 to 65535, not {self.port}")
        if self.host not in LOOPBACK:
            raise InvalidOption(
                "Monitor(host)",
                f"must be one of {', '.join(LOOPBACK)}, not {str(self.host)[:80]!a}: this release serves no other "
                "machine; to reach it from one, forward the port through ssh",
            )
        if self.token is not None:
            _check_token(self.token)

    @property
    def address(self) -> str:
        """What is listened on, as a number."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def authority(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.address}]" if ":" in self.address else self.address


def _check_token(token: object) -> None:
    """The message never repeats the token: it would end in a log."""
    if not isinstance(token, str):
        raise TypeError(f"Monitor(token) must be a str, not {type(token).__name__}")
    if not MIN_TOKEN <= len(token) <= MAX_TOKEN:
        raise InvalidOption("Monitor(token)", f"must have {MIN_TOKEN} to {MAX_TOKEN} characters, not {len(token)}")
    if not _TOKEN.fullmatch(token):
        raise InvalidOption("Monitor(token)", "may hold letters, digits and -._~ only: it is part of a link")


@define(slots=False)
class CannotListen(CallsheetError):
    """The monitor's port could not be taken, so the runtime did not open. Nothing was changed."""

    address: str
    port: int
    why: str

    def __str__(self) -> str:
        return (
            f"the monitor cannot listen on {self.address} port {self.port}: {self.why}; "
            "choose another port, or 0 for any free one"
        )
