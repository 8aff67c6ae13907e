"""What a client may say: the token first, then orders, each answered; whatever else it says is answered too."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import trio
import trio.testing

from callsheet import Discard, Jobs, Monitor, Runtime, open_runtime
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables

from .visitor import framed, pass_time, rude, settled, token_of, watching

CANARY: Final = "canary-7f3a"


@pytest.fixture
def jobs() -> Jobs:
    """Three tasks: one that succeeds, one that fails for good, one that stays."""
    jobs = Jobs("background", namespace="app")

    @jobs.task("ok")
    async def ok(payload: object, ctx: object) -> object:
        return payload

    @jobs.task("bad")
    async def bad(payload: object, ctx: object) -> None:
        raise Discard("no such address")

    @jobs.task("long")
    async def long(payload: object, ctx: object) -> None:
        await trio.sleep_forever()

    return jobs


@pytest.fixture
async def runtime(jobs: Jobs) -> AsyncIterator[Runtime]:
    """At work, with a monitor."""
    async with jobs.open(":memory:", monitor=Monitor(), grace=0) as runtime:
        yield runtime


# The first message


@pytest.mark.parametrize(
    "first",
    [
        {"type": "hello", "token": "0" * 64},
        {"type": "hello", "token": ""},
        {"type": "hello", "token": None},
        {"type": "hello"},
        {"type": "hello", "token": "é" * 64},
        {"type": "hello", "token": "\ud800" * 64},
        {"type": "hello", "token": "TOKEN", "extra": 1},
        {"type": "ack", "rev": 1},
        {"type": "cancel", "id": 1, "run_id": "x"},
        [],
        "TOKEN",
        None,
    ],
)
async def test_without_the_token_nobody_gets_in(runtime: Runtime, first: Any) -> None:
    """H3: closed with 4401, and nothing was told."""
    text = json.dumps(first).replace("TOKEN", token_of(runtime))
    async with rude(runtime) as client:
        await client.send(framed(text.encode()))

        opcode, payload = await client.frame()

    assert (8, 4401) == (opcode, int.from_bytes(payload[:2]))


async def test_the_token_of_another_runtime_is_not_ours(runtime: Runtime) -> None:
    """H3: a link that was good before a restart."""
    other = Jobs("other")
    async with other.open(":memory:", monitor=Monitor()) as second, rude(runtime) as client:
        await client.say({"type": "hello", "token": token_of(second)})

        assert await client.closing() == 4401


async def test_the_first_message_has_five_seconds(runtime: Runtime, mock_clock: trio.testing.MockClock) -> None:
    """Who is silent, or sends a message that never ends, is closed with 4401."""
    codes: list[int | None] = []

    async def wait(data: bytes) -> None:
        async with rude(runtime) as client:
            await client.send(data)
            codes.append(await client.closing())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, b"")
        nursery.start_soon(wait, framed(b'{"type":', fin=False) + framed(b" ", 0, fin=False) * 10)
        await settled()
        mock_clock.jump(4.9)
        await settled()
        assert codes == []
        await pass_time(mock_clock, lambda: len(codes) == 2)  # who does not answer the close is cut off
    assert codes == [4401, 4401]


# Orders


async def test_a_running_run_is_canceled(jobs: Jobs, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """Answered when that is durable, logged, and its handler has stopped."""
    run = (await jobs.enqueue("long")).run_id
    async with watching(runtime) as watcher:
        while watcher.runs.get(run, {}).get("status") != "running":
            await watcher.next()

        with caplog.at_level(logging.INFO, "callsheet.monitor"):
            answer = await watcher.order(1, "cancel", run_id=run)

    assert {"type": "done", "id": 1, "result": {"run_id": run, "canceled": True, "status": "canceled"}} == answer
    assert (await jobs.runs.get(run)).run.cause == "canceled: by the monitor"
    assert f"cancels run {run}" in caplog.text
    await runtime.until_idle()


async def test_canceling_what_has_ended_changes_nothing(jobs: Jobs, runtime: Runtime) -> None:
    """W4: the answer says how it ended."""
    run = (await jobs.enqueue("ok")).run_id
    await jobs.runs.wait(run)
    async with watching(runtime) as watcher:
        answers = [await watcher.order(n, "cancel", run_id=run) for n in (1, 2)]

    assert [{"run_id": run, "canceled": False, "status": "succeeded"}] * 2 == [each["result"] for each in answers]


async def test_an_ended_run_is_replayed(jobs: Jobs, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """A new run that links back, with the reason given, or with where it came from."""
    run = (await jobs.enqueue("bad")).run_id
    await jobs.runs.wait(run)
    async with watching(runtime) as watcher:
        with caplog.at_level(logging.INFO, "callsheet.monitor"):
            answer = await watcher.order("a", "replay", run_id=run, reason="address corrected")
        other = await watcher.order("b", "replay", run_id=run)

    replayed = (await jobs.runs.get(answer["result"]["run_id"])).run
    assert (run, "address corrected") == (replayed.replay_of, replayed.reason)
    assert run == answer["result"]["replay_of"]
    assert (await jobs.runs.get(other["result"]["run_id"])).run.reason == "by the monitor"
    assert f"replays run {run}" in caplog.text


async def test_what_cannot_be_done_is_said(jobs: Jobs, runtime: Runtime) -> None:
    """W4: unknown, not ended yet; nothing changed, and the connection stays."""
    run = (await jobs.enqueue("long")).run_id
    async with watching(runtime) as watcher:
        for request_id, (kind, asked, code) in enumerate(
            [
                ("cancel", "nobody", "not_found"),
                ("replay", "nobody", "not_found"),
                ("show", "nobody", "not_found"),
                ("cancel", "x'; drop table runs; --", "not_found"),
                ("show", "%\u202e\u0000", "not_found"),
                ("replay", run, "not_finished"),
            ]
        ):
            answer = await watcher.order(request_id, kind, run_id=asked)
            assert ("error", request_id, code) == (answer["type"], answer["id"], answer["code"])
        assert (await watcher.order("last", "cancel", run_id=run))["type"] == "done"


async def test_a_run_of_other_jobs_is_shown_but_not_steered() -> None:
    """It is in the same store; whoever runs it steers it."""
    tables = Tables()
    ours, theirs = Jobs("ours"), Jobs("theirs")

    @theirs.task("task")
    async def task(payload: object, ctx: object) -> None: ...

    async with open_runtime(MemoryStore(tables), theirs):
        run = (await theirs.enqueue("task", delay=3600)).run_id
    async with open_runtime(MemoryStore(tables), ours, monitor=Monitor()) as runtime, watching(runtime) as watcher:
        assert watcher.runs[run]["jobs"] == "default/theirs"
        assert (await watcher.order(1, "show", run_id=run))["type"] == "done"
        answer = await watcher.order(2, "cancel", run_id=run)

    assert "not_here" == answer["code"]
    assert tables.runs[run].status == "scheduled"


async def test_each_of_several_jobs_is_steered_through_its_own(jobs: Jobs) -> None:
    """A runtime may run several."""
    other = Jobs("other")

    @other.task("long")
    async def long(payload: object, ctx: object) -> None:
        await trio.sleep_forever()

    async with open_runtime(":memory:", jobs, other, monitor=Monitor(), grace=0) as runtime:
        runs = [(await each.enqueue("long")).run_id for each in (jobs, other)]
        async with watching(runtime) as watcher:
            assert ["app/background", "default/other"] == watcher.welcome["jobs"]
            answers = [await watcher.order(run, "cancel", run_id=run) for run in runs]

    assert all(answer["result"]["canceled"] for answer in answers)


async def test_the_same_order_again_is_done_once(jobs: Jobs, runtime: Runtime) -> None:
    """W4: by its id; another order under that id is refused, never taken for the first."""
    run = (await jobs.enqueue("ok")).run_id
    await jobs.runs.wait(run)
    async with watching(runtime) as watcher:
        answers = [await watcher.order(1, "replay", run_id=run) for _ in range(3)]
        reused = await watcher.order(1, "replay", run_id=run, reason="another")

    assert answers[0] == answers[1] == answers[2]
    assert "id_reused" == reused["code"]
    assert 1 == len((await jobs.runs.list(replay_of=run)).runs)


async def test_details_have_everything_but_what_is_secret(jobs: Jobs, runtime: Runtime) -> None:
    """I42: attempts, errors and transitions; payloads, results and keys are never sent, to nobody."""
    ok = (await jobs.enqueue("ok", {"secret": CANARY}, idempotency_key=f"key-{CANARY}", trace_id="t-1")).run_id
    bad = (await jobs.enqueue("bad", CANARY)).run_id
    await runtime.until_idle()
    async with watching(runtime) as watcher:
        shown = (await watcher.order(1, "show", run_id=ok))["result"]
        failed = (await watcher.order(2, "show", run_id=bad))["result"]
        await watcher.order(3, "replay", run_id=ok)
        while watcher.state["stats"]["succeeded"] < 2:
            await watcher.next()

    assert ["queued", "running", "succeeded"] == [each["now"] for each in shown["transitions"]]
    assert ("t-1", 1, True) == (shown["trace_id"], shown["attempts"][0]["n"], shown["payload_bytes"] > len(CANARY))
    assert ("discarded", "no such address") == (failed["attempts"][0]["outcome"], failed["cause"])
    assert "Discard: no such address" in failed["traceback"]
    assert CANARY not in "".join(watcher.texts)
    assert token_of(runtime) not in "".join(watcher.texts)


async def test_stuck_runs_paused_queues_and_replays_are_shown(jobs: Jobs, runtime: Runtime) -> None:
    """What an operator looks for: a handler that does not end, a queue that starts nothing, what became of a replay."""

    end = trio.Event()
    deaf = Jobs("deaf", stuck_after=0.05)

    @deaf.task("deaf", timeout=0.05)
    async def never_ends(payload: object, ctx: object) -> None:
        with trio.CancelScope(shield=True):
            await end.wait()

    async with deaf.open(":memory:", monitor=Monitor(), grace=0) as own, watching(own) as watcher:
        run = (await deaf.enqueue("deaf", None)).run_id
        while not watcher.runs.get(run, {}).get("stuck"):
            await watcher.next()
        await deaf.queues.pause()
        while not watcher.state["queues"][0]["paused"]:
            await watcher.next()
        await deaf.runs.cancel(run)
        replay = (await deaf.runs.replay(run)).run_id
        shown = (await watcher.order(1, "show", run_id=run))["result"]
        end.set()

    assert ([replay], run) == (shown["replays"], shown["id"])


# W1: everything else


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        (b"", "not_json", None),
        (b"hello", "not_json", None),
        (b'{"type":"ack"', "not_json", None),
        (b'{"type":"ack","rev":NaN}', "not_json", None),
        (b'{"type":"ack","rev":Infinity}', "not_json", None),
        (b'{"type":"ack","type":"ack","rev":1}', "not_json", None),
        (b'{"type":"ack","rev":' + b"9" * 5_000 + b"}", "not_json", None),
        (b"[" * 30_000, "not_json", None),
        (b"[1]", "not_object", None),
        (b'"ack"', "not_object", None),
        (b"null", "not_object", None),
        (b"{}", "unknown_type", None),
        (b'{"type":1,"id":7}', "unknown_type", 7),
        (b'{"type":["ack"],"id":7}', "unknown_type", 7),
        (b'{"type":"stop","id":"x"}', "unknown_type", "x"),
        (b'{"type":"ack"}', "missing_field", None),
        (b'{"type":"ack","rev":"1"}', "bad_field", None),
        (b'{"type":"ack","rev":true}', "bad_field", None),
        (b'{"type":"ack","rev":1.0}', "bad_field", None),
        (b'{"type":"ack","rev":1e400}', "bad_field", None),
        (b'{"type":"ack","rev":-1}', "bad_field", None),
        (b'{"type":"ack","rev":9007199254740992}', "bad_field", None),
        (b'{"type":"ack","rev":9007199254740991}', "bad_ack", None),
        (b'{"type":"ack","rev":1,"more":2}', "unknown_field", None),
        (b'{"type":"cancel","id":1}', "missing_field", 1),
        (b'{"type":"cancel","run_id":"x"}', "missing_field", None),
        (b'{"type":"cancel","id":null,"run_id":"x"}', "bad_field", None),
        (b'{"type":"cancel","id":"' + b"i" * 65 + b'","run_id":"x"}', "bad_field", None),
        (b'{"type":"cancel","id":1,"run_id":["x"]}', "bad_field", 1),
        (b'{"type":"cancel","id":1,"run_id":""}', "bad_field", 1),
        (b'{"type":"cancel","id":1,"run_id":"' + b"r" * 129 + b'"}', "bad_field", 1),
        (b'{"type":"cancel","id":1,"run_id":"x","reason":"no"}', "unknown_field", 1),
        (b'{"type":"replay","id":1,"run_id":"x","reason":5}', "bad_field", 1),
        (b'{"type":"replay","id":1,"run_id":"x","reason":"' + b"r" * 1_001 + b'"}', "bad_field", 1),
        (b'{"type":"show_schedule","id":1,"jobs":"a/b"}', "missing_field", 1),
        (b'{"type":"pause_schedule","id":1,"key":"k"}', "missing_field", 1),
        (b'{"type":"resume_schedule","id":1,"jobs":"a/b","key":"' + b"k" * 129 + b'"}', "bad_field", 1),
        (b'{"type":"trigger_schedule","id":1,"jobs":"a/b","key":7}', "bad_field", 1),
        (b'{"type":"trigger_schedule","id":1,"jobs":"a/b","key":"k","payload":1}', "unknown_field", 1),
        (b'{"type":"hello","token":"x"}', "unexpected", None),
    ],
)
async def test_a_bad_message_is_answered_and_the_connection_stays(
    runtime: Runtime, text: bytes, code: str, request_id: Any
) -> None:
    """W1: with a code, and with the id where one could be read; the next good message is served."""
    async with rude(runtime) as client:
        await client.say({"type": "hello", "token": token_of(runtime)})
        assert ["welcome", "snapshot"] == [(await client.message())["type"] for _ in range(2)]

        await client.send(framed(text))
        answer = await client.answer()

        assert ("error", code, request_id) == (answer["type"], answer["code"], answer["id"])
        assert len(answer["message"]) < 300
        await client.say({"type": "show", "id": 99, "run_id": "nobody"})
        assert (await client.answer())["code"] == "not_found"


async def test_a_binary_message_is_answered(runtime: Runtime) -> None:
    """W1: messages are texts."""
    async with rude(runtime) as client:
        await client.say({"type": "hello", "token": token_of(runtime)})
        await client.message(), await client.message()

        await client.send(framed(b'{"type":"ack","rev":1}', 2))

        assert (await client.answer())["code"] == "not_text"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (framed(b"a" * (64 * 1024 + 1)), 1009),
        (b"".join(framed(b"a" * 40_000, 1 if n == 0 else 0, fin=False) for n in range(2)), 1009),
        (framed(b"\xff\xfe"), None),  # where the protocol has 1007 and 1002, the library hangs up without a word
        (framed(b"{}", masked=False), None),
        (framed(b"{}", reserved=4), None),
        (framed(b"{}", 3), None),
        (framed(b"{}", 0), None),
        (framed(b"p" * 126, 9), None),
        (framed(b"\x00", 8), None),
    ],
)
@pytest.mark.parametrize("known", [True, False])
async def test_a_broken_frame_ends_its_own_connection(
    runtime: Runtime, data: bytes, code: int | None, *, known: bool
) -> None:
    """W1: before and after the token; the others do not notice."""
    async with watching(runtime) as watcher, rude(runtime) as client:
        if known:
            await client.say({"type": "hello", "token": token_of(runtime)})
            await client.message(), await client.message()

        await client.send(data)

        assert await client.closing() == code
        assert (await watcher.order(1, "show", run_id="nobody"))["code"] == "not_found"


async def test_pings_are_answered_and_extensions_are_not_accepted(runtime: Runtime) -> None:
    """W1, W2: `rude` checks that no extension is in the answer to the handshake."""
    offers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other"
    async with rude(runtime, offers, "Sec-WebSocket-Protocol: a, b") as client:
        for n in range(1_000):
            await client.send(framed(str(n).encode(), 9))
            assert await client.frame() == (10, str(n).encode())
        await client.say({"type": "hello", "token": token_of(runtime)})
        assert (await client.message())["type"] == "welcome"


async def test_a_client_that_breaks_off_in_the_middle_harms_nobody(runtime: Runtime) -> None:
    """W5: half a frame, then nothing."""
    async with watching(runtime) as watcher:
        for _ in range(20):
            async with rude(runtime) as client:
                await client.say({"type": "hello", "token": token_of(runtime)})
                await client.send(framed(b'{"type":"ack","rev":1}')[:-5])

        assert (await watcher.order(1, "show", run_id="nobody"))["code"] == "not_found"


async def test_a_client_that_talks_and_never_listens_is_not_read_for_ever(runtime: Runtime) -> None:
    """Its answers are bounded: past that its messages are not taken out of the socket, and the others are served."""
    nonsense = framed(b"x" * 60_000)
    async with watching(runtime) as watcher, rude(runtime, receive_buffer=2_048) as client:
        await client.say({"type": "hello", "token": token_of(runtime)})
        with pytest.raises(trio.TooSlowError):
            for _ in range(5_000):
                with trio.fail_after(2):
                    await client.send(nonsense)

        assert (await watcher.order(1, "show", run_id="nobody"))["code"] == "not_found"
