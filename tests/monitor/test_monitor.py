"""What a user says about a monitor, and what `open` makes of it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from callsheet import CannotListen, InvalidOption, Jobs, Monitor, Runtime
from callsheet.actors.exits import Shutdown
from callsheet.monitor.client import Client
from callsheet.monitor.feed import Feed

from .visitor import get, port_of, rude, say, token_of, until, watching


def make_jobs() -> Jobs:
    """One task that does nothing."""
    jobs = Jobs("background", namespace="app")

    @jobs.task("noop")
    async def noop(payload: object, ctx: object) -> None: ...

    return jobs


@contextmanager
def errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged as an error meanwhile."""
    found: list[str] = []
    with caplog.at_level(logging.WARNING):
        yield found
    found += [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com", "127.0.0.2", "", "LOCALHOST", None])
def test_only_loopback_is_served(host: Any) -> None:
    """H7: another address is refused with a sentence that says what would do."""
    with pytest.raises(InvalidOption, match=r"Monitor\(host\).*must be one of 127\.0\.0\.1, localhost, ::1.*ssh"):
        Monitor(host=host)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"port": -1}, InvalidOption, "0 to 65535, not -1"),
        ({"port": 65_536}, InvalidOption, "0 to 65535"),
        ({"port": "80"}, TypeError, "must be an int, not str"),
        ({"port": True}, TypeError, "must be an int, not bool"),
        ({"token": "short"}, InvalidOption, "32 to 256 characters, not 5"),
        ({"token": "x" * 257}, InvalidOption, "32 to 256"),
        ({"token": "x" * 31 + " "}, InvalidOption, "letters, digits"),
        ({"token": "x" * 31 + "é"}, InvalidOption, "letters, digits"),
        ({"token": b"x" * 32}, TypeError, "must be a str"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_said(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """The field is named; the token is not repeated, because the message ends in a log."""
    with pytest.raises(error, match=says) as caught:
        Monitor(**options)

    assert not isinstance(options.get("token"), str) or options["token"] not in str(caught.value)


def test_a_token_is_not_shown() -> None:
    """A Monitor may be printed."""
    monitor = Monitor(token="a-secret-of-more-than-32-characters")

    assert "secret" not in repr(monitor)


async def test_the_link_has_its_secret_in_the_fragment_and_a_new_one_each_time() -> None:
    """256 bits, and not in the part that a browser sends."""
    jobs, links = make_jobs(), []
    for _ in range(2):
        async with jobs.open(":memory:", monitor=Monitor()) as runtime:
            assert runtime.monitor_url == f"http://127.0.0.1:{port_of(runtime)}/#token={token_of(runtime)}"
            links.append(token_of(runtime))
        assert runtime.monitor_url is None

    assert len(set(links)) == 2
    assert all(len(bytes.fromhex(each)) == 32 for each in links)


async def test_a_given_token_and_ipv6_are_taken() -> None:
    """The link says what to open."""
    token = "t" * 32
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    async with make_jobs().open(":memory:", monitor=Monitor(host="::1", token=token)) as runtime:
        assert runtime.monitor_url is not None
        assert runtime.monitor_url.startswith("http://[::1]:")
        assert runtime.monitor_url.endswith(f"/#token={token}")


async def test_a_port_in_use_is_said_by_open() -> None:
    """The error names the port and comes out of `open`; nothing is left running, and the jobs can be opened."""
    jobs = make_jobs()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1 port {port}: it is in use") as caught:
            async with jobs.open(":memory:", monitor=Monitor(port=port)):
                pytest.fail("it opened")

    assert (caught.value.address, caught.value.port) == ("127.0.0.1", port)
    async with jobs.open(":memory:"):
        assert (await jobs.enqueue("noop")).run_id


async def test_closing_with_clients_connected_is_orderly(caplog: pytest.LogCaptureFixture) -> None:
    """P9: polite, silent and half-open clients do not keep it from ending within its budget; the port is free then."""
    async with trio.open_nursery() as nursery:
        with errors_logged(caplog) as errors:
            async with make_jobs().open(":memory:", monitor=Monitor()) as runtime:
                port = port_of(runtime)
                cell = runtime.system.stage.registry["/monitor"]
                opened = [await nursery.start(hold, runtime, kind) for kind in ("polite", "silent", "half", "deaf")]
                assert len(opened) == 4
        nursery.cancel_scope.cancel()

    assert isinstance(cell.exit, Shutdown)
    assert errors == []
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def hold(runtime: Runtime, kind: str, task_status: trio.TaskStatus[str]) -> None:
    """Stay connected in one of four ways."""
    match kind:
        case "polite":
            async with watching(runtime):
                task_status.started(kind)
                await trio.sleep_forever()
        case "half":
            async with await trio.open_tcp_stream("127.0.0.1", port_of(runtime)) as stream:
                await stream.send_all(b"GET / HT")
                task_status.started(kind)
                await trio.sleep_forever()
        case _:
            async with rude(runtime) as client:
                if kind == "deaf":
                    await client.say({"type": "hello", "token": token_of(runtime)})
                task_status.started(kind)
                await trio.sleep_forever()


async def test_a_connection_that_crashes_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in what serves one client is logged, and the others do not notice."""
    async with make_jobs().open(":memory:", monitor=Monitor()) as runtime, watching(runtime) as watcher:
        whole = Client.serve

        async def broken(client: Client, welcomed: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Client, "serve", broken)
        async with rude(runtime) as client:
            assert await client.closing() is None
        monkeypatch.setattr(Client, "serve", whole)

        assert (await watcher.order(1, "show", run_id="none"))["code"] == "not_found"
        async with watching(runtime):
            pass
        assert "monitor" in [each.name for each in runtime.tree().children]


async def test_a_monitor_that_crashes_comes_back_under_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients are cut off and reconnect; nothing else in the tree is restarted."""
    fall, run = trio.Event(), Feed.run

    async def run_and_fall(feed: Feed) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, feed)
            await fall.wait()
            raise ZeroDivisionError

    monkeypatch.setattr(Feed, "run", run_and_fall)
    async with make_jobs().open(":memory:", monitor=Monitor()) as runtime:
        link = runtime.monitor_url
        async with rude(runtime) as client:
            await client.say({"type": "hello", "token": token_of(runtime)})
            assert [(await client.message())["type"] for _ in range(2)] == ["welcome", "snapshot"]
            monkeypatch.setattr(Feed, "run", run)
            fall.set()
            assert await client.closing() is None

        cell = runtime.system.stage.registry["/monitor"]
        await until(lambda: (cell.generation, cell.state) == (2, "running"))
        assert link == runtime.monitor_url
        async with watching(runtime):
            assert {"monitor": 1} == restarted(runtime)


async def test_a_monitor_that_cannot_stay_up_is_off_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """P11: no run, no supervisor and no open block notices; it is shown as parked, its port is closed, its link gone."""

    async def fall(feed: Feed) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Feed, "run", fall)
    jobs = make_jobs()
    async with jobs.open(":memory:", monitor=Monitor(port=(port := free_port()))) as runtime:
        cell = runtime.system.stage.registry["/monitor"]
        receipt = await jobs.enqueue("noop")
        await until(lambda: cell.parked)

        assert (await jobs.runs.wait(receipt.run_id)).status == "succeeded"
        assert (await jobs.runs.wait((await jobs.enqueue("noop")).run_id)).status == "succeeded"
        assert {"monitor": 3} == restarted(runtime)
        assert {"monitor": "parked"} == {e.name: e.state for e in runtime.tree().children if e.state != "running"}
        assert runtime.monitor_url is None
        assert not any(isinstance(listener, Feed) for listener in runtime.journal.on_committed)
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


def restarted(runtime: Runtime) -> dict[str, int]:
    """How often each child of the root was, where it was at all."""
    return {each.name: each.restarts for each in runtime.tree().children if each.restarts}


def free_port() -> int:
    """One that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_the_link_stays_good_when_the_journal_is_restarted() -> None:
    """What stands below the journal is restarted with it, and the page that is open reconnects by itself."""
    jobs = make_jobs()
    async with jobs.open(":memory:", monitor=Monitor()) as runtime:
        before, heard = runtime.monitor_url, len(runtime.journal.on_committed)
        cell = runtime.system.stage.registry["/monitor"]

        runtime.system.stage.registry["/journal"].kill()
        await until(lambda: cell.generation == 2 and runtime.monitor_url is not None)

        assert before == runtime.monitor_url
        assert heard == len(runtime.journal.on_committed)
        async with watching(runtime) as watcher:
            assert watcher.state["stats"]["queued"] == 0
        assert (await get(port_of(runtime))).status == 200


async def test_health_is_one_word() -> None:
    """For a probe that has no token."""
    async with make_jobs().open(":memory:", monitor=Monitor()) as runtime:
        answer = await say(port_of(runtime), b"GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % port_of(runtime))

    assert (200, b"ok\n") == (answer.status, answer.body)
