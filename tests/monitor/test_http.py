"""The HTTP side: who is answered, with what, and how long anybody may take."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final

import pytest
import trio
import trio.testing

from callsheet import Jobs, Monitor, Runtime
from callsheet.monitor.connection import MAX_CONNECTIONS, MAX_STRANGERS
from callsheet.monitor.respond import PAGE

from .visitor import (
    Answer,
    Rude,
    get,
    handshake,
    hear,
    pass_time,
    port_of,
    rude,
    say,
    settled,
    token_of,
    until,
    watching,
)

CSP: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """With a monitor and nothing to do."""
    jobs = Jobs("background", namespace="app")
    async with jobs.open(":memory:", monitor=Monitor()) as runtime:
        yield runtime


def is_secure(answer: Answer) -> bool:
    """Whether it carries what every answer must."""
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    return (
        policy == CSP
        and answer.headers["x-content-type-options"] == "nosniff"
        and answer.headers["referrer-policy"] == "no-referrer"
        and answer.headers["cache-control"] == "no-store"
        and "server" not in answer.headers
        and not any(name.startswith("access-control") for name in answer.headers)
    )


# What there is


async def test_the_page_and_its_files_are_served_with_every_security_header(runtime: Runtime) -> None:
    """Each file under its own name with its true type; `/` is the page."""
    port = port_of(runtime)
    types = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    for name in PAGE:
        answer = await get(port, "/" if name == "index.html" else f"/{name}")

        assert answer.status == 200, name
        assert answer.headers["content-type"].startswith(types[name.rpartition(".")[2]])
        assert len(answer.body) == int(answer.headers["content-length"]) > 100
        assert is_secure(answer)


async def test_the_page_has_no_inline_code_and_loads_nothing_from_elsewhere(runtime: Runtime) -> None:
    """What the policy forbids is not there in the first place."""
    for name in PAGE:
        text = (await get(port_of(runtime), "/" if name == "index.html" else f"/{name}")).body.decode()
        for bad in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "<style",
            " style=",
            "://",
        ):
            allowed = name == "icon.svg" or (bad == "://" and name == "feed.js")  # a namespace; ws:// to ourselves
            assert allowed or bad not in text, (name, bad)


async def test_head_answers_without_a_body(runtime: Runtime) -> None:
    """And says how long it would be."""
    whole = await get(port_of(runtime))
    answer = await get(port_of(runtime), method="HEAD")

    assert (200, b"", whole.headers) == (answer.status, answer.body, answer.headers)


# H1: Host


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost",
        "127.0.0.1",
        "localhost:1",
        "localhost.:{port}",
        "LOCALHOST:{port}",
        "localhost:{port}.evil.example",
        "localhost.evil.example:{port}",
        "127.0.0.1.nip.io:{port}",
        "user@localhost:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "::1:{port}",
        "[0:0:0:0:0:0:0:1]:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "0.0.0.0:{port}",
        "localhost:{port}, evil.example",
        "localhost:0{port}",
    ],
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/app.js", "/nothing"])
async def test_a_foreign_host_is_refused_before_anything_else(
    runtime: Runtime, host: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """H1: 421 on every path, also those without a secret; one line in the log; nothing about us in the body."""
    with caplog.at_level(logging.WARNING, "callsheet.monitor"):
        answer = await get(port_of(runtime), path, host=host.format(port=port_of(runtime)))

    assert (421, b"421 Misdirected Request\n") == (answer.status, answer.body)
    assert is_secure(answer)
    assert len([record for record in caplog.records if record.name == "callsheet.monitor"]) == 1


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
async def test_our_own_names_are_answered(runtime: Runtime, host: str) -> None:
    """With our port."""
    assert (await get(port_of(runtime), host=host.format(port=port_of(runtime)))).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n", 400),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n", 421),
        ("GET * HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n", 421),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/3.0\r\nHost: localhost:{port}\r\n\r\n", 505),
        ("\x16\x03\x01\x02\x00\x01\x00", 400),
        ("GET  / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: localhost:{port}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nX: a\x00b\r\n\r\n", 400),
        ("GET /\xe9 HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n", 400),
    ],
)
async def test_what_is_not_our_http_is_refused(runtime: Runtime, head: str, status: int) -> None:
    """H1, H6: malformed heads, other versions, TLS on the plain port; a Host that is missing or stands twice."""
    answer = await say(port_of(runtime), head.replace("{port}", str(port_of(runtime))).encode("latin-1"))

    assert status == answer.status
    assert is_secure(answer)


# H4, H5: methods and paths


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "FOO"])
@pytest.mark.parametrize("path", ["/", "/feed", "/nothing"])
async def test_other_methods_are_refused(runtime: Runtime, method: str, path: str) -> None:
    """H4: by a list of what is allowed, so none is forgotten; and no cross-origin header is ever sent."""
    answer = await get(
        port_of(runtime), path, "X-HTTP-Method-Override: GET", "Origin: http://evil.example", method=method
    )

    assert (405, "GET, HEAD") == (answer.status, answer.headers["allow"])
    assert is_secure(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/app.js/",
        "/APP.JS",
        "/app.js?v=1",
        "/app.js;v=1",
        "/./app.js",
        "//app.js",
        "/..%2fapp.js",
        "/../server.py",
        "/%00",
        "/app.js%00",
        "/healthz/",
        "/x/healthz",
        "/Healthz",
        "/feed/",
        "/feed?token={token}",
        "/" + "a" * 8_000,
        "/?token={token}",
    ],
)
async def test_paths_are_compared_whole(runtime: Runtime, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """H3, H5: nothing is normalised, decoded or cut; a secret in a query is refused and not logged."""
    with caplog.at_level(logging.DEBUG, "callsheet"):
        answer = await get(port_of(runtime), path.replace("{token}", token_of(runtime)))

    assert 404 == answer.status
    assert token_of(runtime) not in caplog.text


# H2: the websocket's handshake


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://localhost:{port}",
        "http://localhost",
        "http://localhost:1",
        "http://localhost.evil.example:{port}",
        "http://127.0.0.1.nip.io:{port}",
        "http://localhost:{port}/",
        "http://LOCALHOST:{port}",
        "http://localhost:{port}, http://evil.example",
        "http://evil.example http://localhost:{port}",
        "",
    ],
)
async def test_a_foreign_origin_is_refused_before_the_upgrade(runtime: Runtime, origin: str) -> None:
    """H2: 403, although the Host is ours: a page of another site can open a websocket to anywhere."""
    port = port_of(runtime)
    answer = await say(port, handshake(port, f"Origin: {origin.format(port=port)}"))

    assert (403, b"403 Forbidden\n") == (answer.status, answer.body)


async def test_two_origins_are_refused(runtime: Runtime) -> None:
    """Also when both are ours."""
    port = port_of(runtime)

    assert 403 == (await say(port, handshake(port, *[f"Origin: http://localhost:{port}"] * 2))).status


@pytest.mark.parametrize("origin", ["http://localhost:{port}", "http://127.0.0.1:{port}", "http://[::1]:{port}"])
async def test_our_own_origins_are_let_in(runtime: Runtime, origin: str) -> None:
    """And a client without an Origin, which is no browser."""
    async with rude(runtime, f"Origin: {origin.format(port=port_of(runtime))}") as client:
        await client.say({"type": "hello", "token": token_of(runtime)})

        assert (await client.message())["type"] == "welcome"


async def test_a_foreign_host_is_refused_for_the_websocket_too(runtime: Runtime) -> None:
    """H1: whatever its Origin says."""
    port = port_of(runtime)

    assert 421 == (await say(port, handshake(port, f"Origin: http://localhost:{port}", host="evil.example"))).status


@pytest.mark.parametrize(
    ("drop", "status"),
    [("Upgrade: websocket", 426), ("Connection: ", 426), ("Sec-WebSocket-Version", 426), ("Sec-WebSocket-Key", 400)],
)
async def test_half_a_handshake_is_refused(runtime: Runtime, drop: str, status: int) -> None:
    """The feed speaks websocket, version 13, and nothing else."""
    port = port_of(runtime)
    lines = [line for line in handshake(port).decode().split("\r\n") if not line.startswith(drop)]

    assert status == (await say(port, "\r\n".join(lines).encode())).status


# H6: limits


async def test_a_head_may_have_16_kib(runtime: Runtime) -> None:
    """One byte more is refused, wherever it stands."""
    port = port_of(runtime)
    start = f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nX-Long: ".encode()
    room = 16 * 1024 - len(start) - 4

    assert 200 == (await say(port, start + b"a" * room + b"\r\n\r\n")).status
    assert 431 == (await say(port, start + b"a" * (room + 1) + b"\r\n\r\n")).status
    assert 431 == (await say(port, start + b"a" * 100_000)).status


async def test_a_head_may_have_64_headers(runtime: Runtime) -> None:
    """One more is refused."""
    headers = [f"X-{n}: 1" for n in range(63)]

    assert 200 == (await get(port_of(runtime), "/", *headers)).status
    assert 431 == (await get(port_of(runtime), "/", *headers, "X-64: 1")).status


async def test_a_second_request_on_a_connection_is_not_answered(runtime: Runtime) -> None:
    """Pipelining: one request, one answer, and the connection ends."""
    port = port_of(runtime)
    request = f"GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()

    answer = await say(port, request * 3)

    assert (200, b"ok\n", "close") == (answer.status, answer.body, answer.headers["connection"])


async def test_a_slow_head_ends_after_five_seconds(runtime: Runtime, mock_clock: trio.testing.MockClock) -> None:
    """H6: a byte now and then does not help; who said nothing at all is not answered."""
    port, heard = port_of(runtime), []

    async def slow(data: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            heard.append((await hear(stream)).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow, b"GET / HTTP/1.1\r\nHost: loc")
        nursery.start_soon(slow, b"")
        await settled()
        mock_clock.jump(4.9)
        await settled()
        assert heard == []
        await pass_time(mock_clock, lambda: len(heard) == 2)

    assert [0, 408] == sorted(heard)


async def test_strangers_have_sixteen_seats(runtime: Runtime) -> None:
    """Who has not shown the token cannot keep the others out: one more is told 503, and clients are not touched."""
    port = port_of(runtime)
    async with watching(runtime) as watcher, trio.open_nursery() as nursery:
        crowd = [await nursery.start(sit, runtime) for _ in range(MAX_STRANGERS)]

        assert 503 == (await get(port, "/healthz")).status
        assert 503 == (await say(port, handshake(port))).status
        assert (await watcher.order(1, "show", run_id="none"))["code"] == "not_found"

        await crowd[0].stream.aclose()
        seats = runtime.system.stage.registry["/monitor"].actor._site.seats  # type: ignore[union-attr]
        await until(lambda: seats.strangers < MAX_STRANGERS)
        assert 200 == (await get(port, "/healthz")).status
        nursery.cancel_scope.cancel()


async def test_there_are_sixty_four_seats(runtime: Runtime) -> None:
    """Clients with the token are bounded too."""
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_CONNECTIONS):
            client = await nursery.start(sit, runtime)
            await client.say({"type": "hello", "token": token_of(runtime)})
            assert (await client.message())["type"] == "welcome"

        assert 503 == (await get(port_of(runtime), "/healthz")).status
        nursery.cancel_scope.cancel()


async def sit(runtime: Runtime, task_status: trio.TaskStatus[Rude]) -> None:
    """Take a seat, and keep it."""
    async with rude(runtime) as client:
        task_status.started(client)
        await trio.sleep_forever()
