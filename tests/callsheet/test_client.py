"""
Clients: what a program without an event loop asks of a store is done, with the same answers and errors as in the runtime's own
program, whether a runtime works there or none.

The clock is the system's, since clients have threads; nothing here waits for time to pass.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import apsw
import pytest
import trio
from attrs import define, field, frozen

from callsheet import (
    CannotOpen,
    Client,
    Context,
    Did,
    IdempotencyConflict,
    InvalidName,
    InvalidOption,
    InvalidSchedule,
    Job,
    Jobs,
    NoStore,
    NotPublished,
    NotRegistered,
    PayloadInvalid,
    PayloadTooLarge,
    Queue,
    Reason,
    Retry,
    RunFailed,
    RunNotFinished,
    RunNotFound,
    ScheduleNotFound,
    Status,
    StoreBusy,
    StoreClosed,
    TooMany,
    UnknownQueue,
    UnknownTask,
    WaitTimeout,
    open_runtime,
)
from callsheet.actors.seams import Seams
from callsheet.actors.writer import InlineWriter
from callsheet.client import client as client_module
from callsheet.client import direct
from callsheet.store.contract import Publish
from callsheet.store.memory import MemoryStore
from callsheet.store.records import Now, Owner, Published
from callsheet.store.sqlite import SqliteStore
from callsheet.store.sqlite import store as store_module
from callsheet.store.sqlite.reader import SqliteReader
from callsheet.wake import GAP_S

P = ParamSpec("P")
T = TypeVar("T")


@frozen
class Letter:
    to: str
    pages: int = 1


@define(eq=False)
class Shop:
    """Jobs of a program, and what their handlers did."""

    jobs: Jobs = field(init=False)
    log: list[str] = field(factory=list)
    begun: trio.Event = field(factory=trio.Event)
    stopped: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.jobs = jobs = Jobs(
            "shop",
            namespace="acme",
            queue=Queue(concurrency=5),
            queues=[Queue("mail", concurrency=2)],
            retry=Retry(attempts=3, backoff="fixed", initial_delay=60),
            max_payload=1_000,
        )

        @jobs.task("send", queue="mail", aliases=["post"], schema="2", timeout=30)
        async def send(letter: Letter, ctx: Context) -> dict[str, object]:
            self.log.append(f"sent to {letter.to}")
            return {"to": letter.to, "pages": letter.pages}

        @jobs.task("hang")
        async def hang(payload: object, ctx: Context) -> None:
            self.begun.set()
            try:
                await trio.sleep_forever()
            finally:
                self.log.append("stopped")
                self.stopped.set()

        @jobs.task("fail", retry=Retry(attempts=1))
        async def fail(payload: object, ctx: Context) -> None:
            raise OSError("no")

        @jobs.register
        @frozen
        class Welcome(Job, kind="welcome"):
            user: str

            async def work(job, ctx: Context) -> str:  # noqa: N805 -- self is that of the shop
                self.log.append(f"welcomed {job.user}")
                return "hello"

        self.welcome = Welcome

    welcome: Any = field(init=False)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


async def outside(call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """As in another process: in a thread, out of sight of every runtime."""
    return await trio.to_thread.run_sync(partial(call, *arguments, **options), abandon_on_cancel=False)


def published(path: Path, *all_jobs: Jobs) -> None:
    """Have had a runtime of each of them."""

    async def open_once(jobs: Jobs) -> None:
        async with jobs.open(path):
            pass

    for jobs in all_jobs:
        trio.run(open_once, jobs)


@pytest.fixture(params=["typed", "published"])
def client(request: pytest.FixtureRequest, shop: Shop, path: Path) -> Iterator[Client]:
    """One that has the code, and one that goes by what a runtime published."""
    published(path, shop.jobs)
    made = shop.jobs.client(path) if request.param == "typed" else Client(path, "acme/shop")
    with made:
        yield made


# ---------------------------------------------------------------- without a runtime


def test_requesting_needs_no_runtime(client: Client) -> None:
    """P1: what is acknowledged is stored as the options and the declaration say, and waits."""
    soon = datetime.now(UTC) + timedelta(hours=1)

    sent = client.enqueue("send", {"to": "ann"}, idempotency_key="k", priority=2, trace_id="t")
    again = client.enqueue("post", {"to": "ann", "pages": 1}, idempotency_key="k")
    later = client.enqueue_in("hang", timedelta(minutes=1), max_attempts=9, timeout=5, queue="mail")
    then = client.enqueue_at("hang", soon, run_id="mine")

    run = client.runs.get(sent.run_id).run
    assert (Status.QUEUED, "acme/mail", "send", "2") == (run.status, run.lane.queue, run.task, run.lane.schema)
    assert ("k", 2, "t", 3, 30_000_000) == (
        run.idempotency_key, run.priority, run.trace_id, run.max_attempts, run.timeout_us
    )  # fmt: skip
    assert {"to": "ann"}.items() <= dict(client.runs.get(sent.run_id).payload).items()  # type: ignore[call-overload]
    assert (sent.run_id, True) == (again.run_id, again.deduped)
    run = client.runs.get(later.run_id).run
    assert (Status.SCHEDULED, "acme/mail", 9, 5_000_000) == (
        run.status, run.lane.queue, run.max_attempts, run.timeout_us
    )  # fmt: skip
    assert 59_000_000 < run.due_us - run.created_us < 61_000_000
    assert ("mine", round(soon.timestamp() * 1e6)) == (then.run_id, client.runs.get("mine").run.due_us)


def test_many_at_once_are_all_or_none(client: Client) -> None:
    """I18: entries come from the client; one that cannot be stored keeps all of them from being stored."""
    entries = [client.entry("send", {"to": each}, idempotency_key=each) for each in ("ann", "ben", "ann")]

    made = client.enqueue_many(entries)

    assert [False, False, True] == [each.deduped for each in made]
    assert 2 == client.stats().total
    with pytest.raises(PayloadInvalid):
        client.enqueue_many([client.entry("send", {"to": "cy"}), client.entry("send", {"to": float("nan")})])
    with pytest.raises(IdempotencyConflict):
        client.enqueue_many([client.entry("hang"), client.entry("hang", 7, idempotency_key="ann", on_conflict="raise")])
    with pytest.raises(TooMany):
        client.enqueue_many([client.entry("hang")] * 10_001)
    assert [] == client.enqueue_many([])
    assert 2 == client.stats().total


def test_looking_and_steering_need_no_runtime(client: Client) -> None:
    """P5 and what follows a run to its end: get, list, explain, cancel, replay, one by one and in bulk, and wait."""
    runs = [client.enqueue("hang", n, trace_id="t").run_id for n in range(4)]
    other = client.enqueue("send", {"to": "ann"}).run_id

    assert [*reversed(runs)] == [run.id for run in client.runs.list(task="hang", limit=10).runs]
    page = client.runs.list(limit=2)
    assert [other, runs[3]] == [run.id for run in page.runs]
    assert [runs[2], runs[1], runs[0]] == [run.id for run in client.runs.list(after=page.next).runs]
    why = client.runs.explain(other)
    assert (Reason.NO_RUNTIME_WATCHES, Status.QUEUED) == (why.reason, why.status)

    assert (True, Status.CANCELED) == (
        (ended := client.runs.cancel(runs[0], reason="no")).canceled,
        ended.status,
    )
    assert (False, Status.CANCELED) == ((again := client.runs.cancel(runs[0])).canceled, again.status)
    assert "canceled: no" == client.runs.wait(runs[0]).cause
    replay = client.runs.replay(runs[0], reason="after all").run_id
    assert (runs[0], "after all") == ((run := client.runs.get(replay).run).replay_of, run.reason)
    assert (replay,) == client.runs.get(runs[0]).replays
    assert 4 == client.runs.cancel_all(task="hang").done
    assert 4 == client.runs.replay_all(status="canceled", trace_id="t", limit=10).done
    assert {"queued": 5, "canceled": 5} == {str(status): n for status, n in client.stats().by_status.items()}


def test_queues_are_steered_without_a_runtime(client: Client) -> None:
    """What is said of a queue is kept for whoever runs it."""
    client.queues.pause("mail")
    client.queues.set("mail", concurrency=1)

    state = client.queues.get("mail")
    assert (True, 1) == (state.paused, state.concurrency)
    assert {"mail", "shop-jobs"} == {each.name for each in client.queues.list()}
    client.queues.resume("mail")
    client.queues.reset("mail")
    state = client.queues.get("mail")
    assert (False, 2) == (state.paused, state.concurrency)


def test_schedules_are_steered_without_a_runtime(client: Client) -> None:
    """G75, G82: what is said of a schedule is kept for whoever runs it."""
    made = client.schedules.every("mails/a", timedelta(hours=1), "send", {"to": "ann"}, queue="mail", priority=2)
    client.schedules.cron("mails/b", "0 9 * * mon-fri", "send", {"to": "ben"}, tz="Europe/Berlin", overlap="allow")

    client.enqueue("hang")
    run = client.runs.get(client.schedules.trigger("mails/a")).run
    assert [run.id] == [each.id for each in client.runs.list(schedule_key="mails/a").runs]
    assert ["mails/a", "mails/b"] == [each.key for each in client.snapshot().schedules]
    assert ("acme/mail", 2, "mails/a", Status.QUEUED) == (run.lane.queue, run.priority, run.schedule_key, run.status)
    assert ["every 3600 s", "0 9 * * MON-FRI Europe/Berlin"] == [each.cadence for each in client.schedules.list()]
    paused, resumed = client.schedules.pause("mails/a"), client.schedules.resume("mails/a")
    assert (True, None, False, made.next_at) == (paused.paused, paused.next_at, resumed.paused, resumed.next_at)
    assert made.next_at is not None
    assert (made.next_at, made.next_at + timedelta(hours=1)) == client.schedules.preview("mails/a", 2)
    assert [run.id] == [each.run_id for each in client.schedules.history("mails/a")]
    client.schedules.delete("mails/b")
    assert ["mails/a"] == [each.key for each in client.schedules.list()]
    with pytest.raises(ScheduleNotFound):
        client.schedules.get("mails/b")


def test_a_schedule_of_the_code_is_changed_in_the_code(shop: Shop, path: Path) -> None:
    """G75: also where the client does not have it; such a key may be paused, triggered and, when it is orphaned, deleted."""
    shop.jobs.every("hourly", 3_600, "send", {"to": "ann"})
    with shop.jobs.client(path) as early, pytest.raises(InvalidOption, match="is declared by the code"):
        early.schedules.every("hourly", 60, "send", {"to": "ben"})  # before any runtime has said so in the store
    published(path, shop.jobs)
    with shop.jobs.client(path) as typed, Client(path) as untyped:
        for client in (typed, untyped):
            with pytest.raises(InvalidOption, match="'hourly' is declared by the code: change it there"):
                client.schedules.every("hourly", 60, "send", {"to": "ben"})
        assert ("code", "every 3600 s", True) == (
            (state := untyped.schedules.pause("hourly")).origin,
            state.cadence,
            state.paused,
        )

        published(path, Shop().jobs)  # a release that declares it no more
        with pytest.raises(InvalidOption, match="'hourly' was declared by the code: delete it first"):
            untyped.schedules.every("hourly", 60, "send", {"to": "ben"})
        assert untyped.schedules.get("hourly").orphaned
        untyped.schedules.delete("hourly")
        assert "call" == untyped.schedules.every("hourly", 60, "send", {"to": "ben"}).origin


def test_what_is_asked_wrongly_is_refused_and_not_stored(client: Client) -> None:
    """P12: with the sentences of the runtime; names and limits are those of the declaration, or of what was published of it."""
    wrong: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (UnknownTask, "acme/shop has no task 'sned'; did you mean 'send'?", lambda: client.enqueue("sned")),
        (UnknownTask, "did you mean 'send'", lambda: client.entry("sned")),
        (UnknownQueue, "did you mean 'mail'", lambda: client.enqueue("send", {"to": "a"}, queue="mial")),
        (UnknownQueue, "mial", lambda: client.queues.pause("mial")),
        (PayloadInvalid, "nan is not a JSON number", lambda: client.enqueue("hang", {"a": float("nan")})),
        (PayloadInvalid, "bytes", lambda: client.enqueue("hang", b"x")),
        (PayloadTooLarge, "1,000", lambda: client.enqueue("hang", "x" * 1_000)),
        (InvalidSchedule, "delay", lambda: client.enqueue("hang", delay=-1)),
        (InvalidSchedule, "time zone", lambda: client.enqueue_at("hang", datetime(2030, 1, 1))),  # noqa: DTZ001
        (InvalidOption, "priority", lambda: client.enqueue("hang", priority=10)),
        (TypeError, "dealy", lambda: client.enqueue("hang", dealy=1)),  # type: ignore[call-arg]
        (TypeError, "a task, its name or a job, not int", lambda: client.enqueue(17)),  # type: ignore[call-overload]
        (TypeError, "takes entries", lambda: client.enqueue_many(["hang"])),  # type: ignore[list-item]
        (RunNotFound, "nobody", lambda: client.runs.get("nobody")),
        (RunNotFound, "nobody", lambda: client.runs.cancel("nobody")),
        (RunNotFound, "nobody", lambda: client.runs.wait("nobody")),
        (RunNotFound, "nobody", lambda: client.runs.replay("nobody")),
        (InvalidOption, "limit", lambda: client.runs.list(limit=0)),
        (UnknownTask, "did you mean 'send'?", lambda: client.schedules.every("k", 60, "sned")),
        (UnknownQueue, "did you mean 'mail'", lambda: client.schedules.every("k", 60, "hang", queue="mial")),
        (InvalidSchedule, "every: must be", lambda: client.schedules.every("k", 0, "hang")),
        (InvalidSchedule, "no time zone", lambda: client.schedules.cron("k", "* * * * *", "hang", tz="Mars/Olympus")),
        (InvalidSchedule, "never fires", lambda: client.schedules.cron("k", "0 0 30 2 *", "hang")),
        (InvalidName, "schedule key", lambda: client.schedules.every("", 60, "hang")),
        (TypeError, "no option 'jiter'", lambda: client.schedules.every("k", 60, "hang", jiter=1)),  # type: ignore[call-arg]
        (ScheduleNotFound, "nobody", lambda: client.schedules.trigger("nobody")),
        (InvalidOption, "limit", lambda: client.schedules.history("k", limit=101)),
        (TypeError, "run_id must be a str", lambda: client.runs.get(1)),  # type: ignore[arg-type]
    ]
    for error, sentence, call in wrong:
        with pytest.raises(error) as told:
            call()
        assert sentence in str(told.value)
    assert (0, ()) == (client.stats().total, client.schedules.list())
    waiting = client.enqueue("hang").run_id
    for call in (partial(client.runs.replay, waiting), partial(client.runs.result, waiting)):
        with pytest.raises(RunNotFinished):
            call()
    with pytest.raises(WaitTimeout) as late:
        client.runs.wait(waiting, timeout=0.001)
    assert (Status.QUEUED, 0.001) == (late.value.status, late.value.timeout_s)


def test_tasks_and_jobs_may_stand_for_themselves(shop: Shop, path: Path) -> None:
    """With the code at hand: as in the runtime's own program, payloads of the task's type and registered jobs too."""
    send, next_year = shop.jobs.tasks["send"], datetime.now(UTC) + timedelta(days=365)
    stranger = Jobs("other")

    @stranger.task("send")
    async def theirs(payload: object, ctx: Context) -> None: ...

    @frozen
    class Unregistered(Job, kind="stray"):
        async def work(self, ctx: Context) -> None: ...

    with shop.jobs.client(path) as client:
        runs = [
            client.enqueue(send, Letter("ann")),
            client.enqueue(shop.welcome("ben")),
            client.enqueue_in(shop.welcome("cy"), 60),
            client.enqueue_in(send, 60, Letter("di")),
            client.enqueue_at(send, next_year, Letter("ed")),
            client.enqueue_at(shop.welcome("flo"), next_year),
            *client.enqueue_many([client.entry(send, Letter("gus")), client.entry(shop.welcome("hal"))]),
        ]
        shown = [client.runs.get(each.run_id) for each in runs]

        assert ["ann", "ben", "cy", "di", "ed", "flo", "gus", "hal"] == [
            dict(each.payload).get("to") or dict(each.payload)["user"]  # type: ignore[call-overload]
            for each in shown
        ]
        assert [Status.QUEUED] * 2 + [Status.SCHEDULED] * 4 + [Status.QUEUED] * 2 == [each.run.status for each in shown]
        for task in (theirs, Unregistered()):
            with pytest.raises((UnknownTask, NotRegistered)):
                client.enqueue(task)  # type: ignore[call-overload]
        with pytest.raises(PayloadInvalid):
            client.enqueue(send, {"two": "ann"})  # type: ignore[arg-type]


def test_a_typed_client_makes_the_store_where_there_is_none(shop: Shop, path: Path) -> None:
    """With its first call, not before; what it requested is run by the runtime that opens next."""
    with shop.jobs.client(f"sqlite:///{path}") as client:
        assert "acme/shop" in repr(client)
        assert not path.exists()
        run = client.enqueue("send", {"to": "ann"})

    async def work() -> object:
        async with shop.jobs.open(path):
            await shop.jobs.runs.wait(run.run_id)
            return await shop.jobs.runs.result(run.run_id)

    assert {"to": "ann", "pages": 1} == trio.run(work)
    assert [path] == [*path.parent.iterdir()]


# ---------------------------------------------------------------- without the code


def test_without_a_store_nothing_is_made(path: Path) -> None:
    """P12: a client without the code knows nothing to make a store for."""
    with Client(path) as client:
        for call in (client.stats, client.definitions, lambda: client.enqueue("send"), lambda: client.runs.get("x")):
            with pytest.raises(NoStore) as error:
                call()
            assert str(path) in str(error.value)
    assert [] == [*path.parent.iterdir()]


def test_what_is_not_published_is_named_with_what_is(shop: Shop, path: Path) -> None:
    """Nothing yet, something else, or more than one thing."""
    with shop.jobs.client(path) as made:
        made.stats()

    with Client(path) as client, pytest.raises(NotPublished) as error:
        client.stats()
    assert "nothing is published yet" in str(error.value)

    published(path, Jobs("one"), Jobs("two", namespace="acme"))
    with Client(path, "acme/shop") as client, pytest.raises(NotPublished) as error:
        client.enqueue("send")
    assert "acme/two, default/one" in str(error.value)
    assert "acme/shop" in str(error.value)
    with Client(path) as client, pytest.raises(NotPublished) as error:
        client.enqueue("send")
    assert "say one of acme/two, default/one" in str(error.value)
    with Client(path, "acme/two") as client:
        assert (0, ()) == (client.stats().total, client.definitions())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"v": 99, "anything": "else"}', "form 99"),
        (b'{"v": 1, "guarded": false, "name": "shop"}', "cannot be read"),
        (b'["guarded"]', "cannot be read"),
        (b'{"guarded": false}', "cannot be read"),
    ],
)
def test_what_another_release_published_is_not_half_read(path: Path, body: bytes, says: str) -> None:
    """It says so."""
    store = SqliteStore(path, exclusive=False)
    store.open(Owner("boot", 1, "here", 1))
    store.write([Publish((Published("acme/shop", body),))], Now(1, 1))
    store.close()

    with Client(path, "acme/shop") as client, pytest.raises(NotPublished) as error:
        client.definitions()

    assert says in str(error.value)


def test_definitions_and_config_are_those_of_the_code(shop: Shop, path: Path) -> None:
    """What a client without it shows, but for classes of exceptions, which only code can raise."""
    published(path, shop.jobs)

    with Client(path) as client:
        assert shop.jobs.definitions() == client.definitions()
        assert shop.jobs.config == client.config
        assert shop.jobs.definitions() == client.snapshot().definitions


def test_definitions_are_read_again_after_a_deploy(shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 5 s; an entry that was made before goes by the new ones too."""
    assert 5 == client_module.FRESH_S
    published(path, shop.jobs)
    newer = Jobs("shop", namespace="acme", queues=[Queue("mail"), Queue("bulk")])

    @newer.task("send", queue="bulk", schema="3")
    async def send(letter: Letter, ctx: Context) -> None: ...

    with Client(path, "acme/shop") as client:
        entries = [client.entry("send", {"to": "ann"}), client.entry("hang")]
        published(path, newer)
        before = client.runs.get(client.enqueue("hang").run_id).run
        monkeypatch.setattr(client_module, "FRESH_S", -1.0)

        after = client.runs.get(client.enqueue_many(entries[:1])[0].run_id).run

        assert ("hang", "acme/bulk", "3") == (before.task, after.lane.queue, after.lane.schema)
        for call in (lambda: client.enqueue("hang"), lambda: client.enqueue_many(entries)):
            with pytest.raises(UnknownTask):
                call()
        assert ("send",) == tuple(each.name for each in client.definitions())


# ---------------------------------------------------------------- beside a runtime


class SlowWriter(InlineWriter):
    async def call(self, what: Callable[[], T]) -> T:
        await trio.sleep(0.1)
        return await super().call(what)


async def test_whoever_is_told_that_a_runtime_is_open_finds_it_in_the_store(
    shop: Shop, autojump_clock: trio.abc.Clock
) -> None:
    """A client without the code may follow at once."""
    store, seams = MemoryStore(), Seams.seeded(1)
    seams.writer = SlowWriter()
    async with open_runtime(store, shop.jobs, seams=seams):
        reader = store.reader()
        said = reader.published()
        reader.close()

    assert ["acme/shop"] == [each.jobs for each in said]


async def test_what_a_client_requests_is_run_by_the_runtime(shop: Shop, path: Path) -> None:
    """Typed or not: run, waited for, with its result; what failed says so."""
    async with shop.jobs.open(path):
        for client in (shop.jobs.client(path), Client(path)):
            with client:
                sent = await outside(client.enqueue, "send", {"to": "ann", "pages": 2})
                failed = await outside(client.enqueue, "fail")

                assert Status.SUCCEEDED is (await outside(client.runs.wait, sent.run_id, timeout=20)).status
                assert {"to": "ann", "pages": 2} == await outside(client.runs.result, sent.run_id)
                assert Status.DEAD_LETTERED is (await outside(client.runs.wait, failed.run_id)).status
                with pytest.raises(RunFailed, match="no"):
                    await outside(client.runs.result, failed.run_id)

    assert ["sent to ann"] * 2 == shop.log


async def test_a_cancel_by_a_client_stops_a_running_handler(shop: Shop, path: Path) -> None:
    """P5: it is told as soon as the datagram arrives, and its slot is free when it has ended."""
    async with shop.jobs.open(path) as runtime:
        with Client(path) as client:
            run = await outside(client.enqueue, "hang")
            await shop.begun.wait()

            canceled = await outside(client.runs.cancel, run.run_id, "enough")

            with trio.fail_after(20):
                await shop.stopped.wait()
                await runtime.until_idle()
            assert (True, ["stopped"]) == (canceled.canceled, shop.log)
            assert "canceled: enough" == (await outside(client.runs.get, run.run_id)).run.cause
            assert [Status.CANCELED] == [*(await shop.jobs.stats()).by_status]


async def test_a_pause_by_a_client_holds_and_a_resume_lets_go(shop: Shop, path: Path) -> None:
    """The runtime that works hears of both."""
    async with shop.jobs.open(path):
        with Client(path) as client:
            await outside(client.queues.pause, "mail")
            run = await outside(client.enqueue, "send", {"to": "ann"})
            explained = await outside(client.runs.explain, run.run_id)
            with pytest.raises(WaitTimeout):
                await outside(client.runs.wait, run.run_id, timeout=0.05)
            held = [*shop.log]

            await outside(client.queues.resume, "mail")

            assert Status.SUCCEEDED is (await outside(client.runs.wait, run.run_id, timeout=20)).status
            assert (Reason.QUEUE_PAUSED, []) == (explained.reason, held)


async def test_a_schedule_that_a_client_makes_runs_in_the_runtime(shop: Shop, path: Path) -> None:
    """G75: whatever a client says of a schedule, also without the code, the runtime that works goes by from then on."""
    async with shop.jobs.open(path), shop.jobs.events(kinds=["succeeded"]) as events:
        with Client(path) as client:
            made = await outside(client.schedules.every, "mails", 3_600, "send", {"to": "ann"}, first="now")
            with trio.fail_after(20):
                first = (await anext(aiter(events))).run_id

            changed = await outside(client.schedules.every, "mails", 3_600, "send", {"to": "ben"})
            by_hand = await outside(client.schedules.trigger, "mails")

            assert Status.SUCCEEDED is (await outside(client.runs.wait, by_hand, timeout=20)).status
            assert ["sent to ann", "sent to ben"] == shop.log
            assert ("mails", made.created_at) == (
                (await shop.jobs.runs.get(first)).run.schedule_key,
                changed.created_at,
            )
            told = await outside(client.schedules.history, "mails")
            assert [(Did.TRIGGERED, by_hand), (Did.REQUESTED, first)] == [(each.did, each.run_id) for each in told]


async def test_a_client_shows_who_works_and_on_what(shop: Shop, path: Path) -> None:
    """A snapshot from outside: the same but for what only the runtime itself knows."""
    async with shop.jobs.open(path) as runtime:
        with Client(path) as client:
            run = (await outside(client.enqueue, "hang")).run_id
            await shop.begun.wait()

            seen = await outside(client.snapshot)
            own = await shop.jobs.snapshot()
            owners = await outside(client.runtimes)
            why = await outside(client.runs.explain, run)

            assert (own.stats, own.runtimes, own.jobs) == (seen.stats, seen.runtimes, seen.jobs)
            assert [run] == [each.id for each in seen.recent]
            assert (True, False) == (own.working, seen.working)
            assert [(runtime.boot_id, os.getpid())] == [(each.boot_id, each.pid) for each in owners]
            assert (Reason.RUNNING, True) == (why.reason, runtime.boot_id in why.text)
            await outside(client.runs.cancel, run)


def mode_of(path: Path) -> int | None:
    """What it is and who may use it; None where nothing is."""
    return path.stat().st_mode if path.exists() else None


def make_folder(path: Path) -> None:
    path.mkdir(parents=True)


@define
class Looks:
    """How often a runtime looked at whether others wrote."""

    n: int = 0

    @classmethod
    @contextmanager
    def counted(cls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looks]:
        looks, changed = cls(), SqliteStore.changed

        def count(self: SqliteStore) -> bool:
            looks.n += 1
            return changed(self)

        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "changed", count)
            yield looks


async def test_a_datagram_tells_the_runtime_at_once(shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody looks in time."""
    monkeypatch.setattr("callsheet.actors.journal.LOOK_S", 3600.0)
    monkeypatch.setattr("callsheet.actors.calendar.LOOK_S", 3600.0)
    async with shop.jobs.open(path):
        with shop.jobs.client(path) as client:
            run = await outside(client.enqueue, "hang")
            with trio.fail_after(20):
                await shop.begun.wait()
            snapshot = await outside(client.snapshot)
            await outside(client.runs.cancel, run.run_id)
            with trio.fail_after(20):
                await shop.stopped.wait()

    assert f"{path}.wake" == snapshot.wake_path


async def test_where_no_datagram_can_be_the_runtime_looks(shop: Shop, tmp_path: Path) -> None:
    """A path that is too long for a socket: the snapshots of both say so, and all is noticed with the next look."""
    path = tmp_path / ("x" * 100) / "jobs.db"
    path.parent.mkdir()
    async with shop.jobs.open(path):
        with shop.jobs.client(path) as client:
            run = await outside(client.enqueue, "hang")
            with trio.fail_after(20):
                await shop.begun.wait()
            await outside(client.runs.cancel, run.run_id)
            with trio.fail_after(20):
                await shop.stopped.wait()
            assert [None, None] == [(await outside(client.snapshot)).wake_path, (await shop.jobs.snapshot()).wake_path]
            assert None is mode_of(Path(f"{path}.wake"))


async def test_where_a_datagram_cannot_be_bound_the_runtime_looks(
    shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without sockets, say: it opens all the same."""

    def refuse(_: object, __: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no sockets here")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    async with shop.jobs.open(path):
        with shop.jobs.client(path) as client:
            run = await outside(client.enqueue, "send", {"to": "ann"})
            assert Status.SUCCEEDED is (await outside(client.runs.wait, run.run_id, timeout=20)).status
            assert None is (await outside(client.snapshot)).wake_path


async def test_the_socket_is_ours_alone_and_gone_with_the_runtime(shop: Shop, path: Path) -> None:
    """P12: nobody else can write to it. What a killed runtime left is replaced; a runtime that only looks on has none."""
    wake = Path(f"{path}.wake")
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(wake))
    stale.close()
    with shop.jobs.client(path) as client:
        await outside(client.enqueue, "send", {"to": "ann"})  # nobody hears it
        before = (await outside(client.snapshot)).wake_path
        async with shop.jobs.open(path) as runtime:
            mode = mode_of(wake)
            heard = runtime.wake_path
            async with shop.jobs.open(path, work=False) as desk:
                seen = desk.wake_path
            still = mode_of(wake)
        after = (await outside(client.snapshot)).wake_path

    assert stat.S_IFSOCK | 0o600 == mode
    assert [None, str(wake), str(wake), None] == [before, heard, seen, after]
    assert (mode, None) == (still, mode_of(wake))


async def test_what_lies_where_the_socket_is_to_be_harms_nothing(shop: Shop, path: Path) -> None:
    """A folder of that name: the runtime opens, works and closes without a socket, and leaves it alone."""
    wake = Path(f"{path}.wake")
    make_folder(wake / "kept")
    async with shop.jobs.open(path) as runtime:
        assert None is runtime.wake_path
        with shop.jobs.client(path) as client:
            run = await outside(client.enqueue, "send", {"to": "ann"})
            assert Status.SUCCEEDED is (await outside(client.runs.wait, run.run_id, timeout=20)).status

    assert mode_of(wake / "kept")


async def test_a_flood_of_datagrams_costs_few_looks(shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P11: however many come, one look answers them all, and there is a gap before the next."""
    async with shop.jobs.open(path):
        with Looks.counted(monkeypatch) as looks, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
            flood.setblocking(False)
            sent, began_s = 0, trio.current_time()
            while sent < 2_000:
                try:
                    flood.sendto(b"x" * (sent % 50), f"{path}.wake")
                    sent += 1
                except BlockingIOError:
                    await trio.lowlevel.checkpoint()
            gaps = (trio.current_time() - began_s) / GAP_S

        assert 0 < looks.n <= gaps + 2


# ---------------------------------------------------------------- when the store cannot be reached


@contextmanager
def held(path: Path) -> Iterator[apsw.Connection]:
    """Somebody else's transaction."""
    db = apsw.Connection(str(path))
    db.execute("begin immediate")
    try:
        yield db
    finally:
        if db.in_transaction:
            db.execute("rollback")
        db.close()


def test_p10_a_store_that_others_hold_is_waited_for_5_s(
    client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then StoreBusy, and nothing was stored; reading goes on meanwhile; afterwards all is well."""
    assert 5 == direct.BUSY_S
    monkeypatch.setattr(direct, "BUSY_S", 0.05)
    before = client.enqueue("hang").run_id
    with held(path):
        for call in (
            lambda: client.enqueue("hang"),
            lambda: client.enqueue_many([client.entry("hang")]),
            lambda: client.runs.cancel(before),
            client.queues.pause,
        ):
            with pytest.raises(StoreBusy) as error:
                call()
            assert 0.05 == error.value.waited_s
        assert Status.QUEUED is client.runs.get(before).run.status
        assert (1, False) == (client.stats().total, client.queues.get().paused)

    assert client.runs.cancel(before).canceled
    assert 1 == client.stats().total


def test_p10_threads_wait_no_longer_because_they_wait_for_each_other(
    client: Client, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for another thread's call counts: each is told after one and the same wait, not one after the other."""
    waits: list[float] = []

    class Noted(SqliteStore):
        def write(self, commands: Any, now: Any) -> Any:
            waits.append(self.busy_s)
            return super().write(commands, now)

    monkeypatch.setattr(direct, "SqliteStore", Noted)
    monkeypatch.setattr(direct, "BUSY_S", 0.2)

    with held(path), ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(client.enqueue, "hang") for _ in range(4)]

    assert [StoreBusy] * 4 == [type(each.exception()) for each in calls]
    assert sum(waits) < 0.2 + 0.1
    assert 0 == client.stats().total


def test_p10_a_call_goes_on_when_the_other_transaction_ends(client: Client, path: Path) -> None:
    """Whatever kept it waiting."""
    with held(path) as other:
        called = threading.Thread(target=lambda: client.enqueue("hang"))
        called.start()
        other.execute("rollback")
        called.join()

    assert 1 == client.stats().total


def test_a_closed_client_says_so(client: Client) -> None:
    """Closing twice does nothing; a client that was never used can be closed too."""
    client.enqueue("hang")
    client.close()
    client.close()

    for call in (
        lambda: client.enqueue("hang"),
        client.stats,
        client.snapshot,
        client.runs.list,
        client.queues.list,
    ):
        with pytest.raises(StoreClosed):
            call()
    unused = Client("nowhere.db")
    unused.close()
    with pytest.raises(StoreClosed):
        unused.stats()


def test_what_no_client_can_reach_is_refused_when_it_is_made(shop: Shop) -> None:
    """P12: a store in memory, one of another kind, and what is no path at all."""
    for make in (shop.jobs.client, Client):
        for url in (":memory:", "postgresql://localhost/jobs"):
            with pytest.raises(CannotOpen):
                make(url)
        with pytest.raises(TypeError, match="by a path or a URL, not by int"):
            make(17)  # type: ignore[operator]
    with pytest.raises(TypeError, match="namespace/name, not by Jobs"):
        Client("jobs.db", shop.jobs)  # type: ignore[arg-type]


# ---------------------------------------------------------------- threads


def test_p6_threads_share_one_client(client: Client) -> None:
    """Eight at once: every call is answered for itself, no id is given twice, and one key makes one run."""
    made: list[str] = []
    keyed: list[tuple[str, bool]] = []

    def call(name: int) -> None:
        for n in range(15):
            run = client.enqueue("hang", {"thread": name, "n": n}).run_id
            made.append(run)
            assert {"thread": name, "n": n} == client.runs.get(run).payload
            once = client.enqueue("hang", n, idempotency_key=f"key-{n}")
            keyed.append((once.run_id, once.deduped))
            if n % 5 == 0:
                assert client.runs.cancel(run).canceled
                client.runs.replay(run)
            client.runs.list(limit=5)

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(call, n) for n in range(8)]:
            each.result()

    assert 8 * 15 == len(set(made))
    assert (15, 15) == (len({run for run, _ in keyed}), sum(not deduped for _, deduped in keyed))
    assert 8 * 15 + 15 + 8 * 3 == client.stats().total
    assert 8 * 3 == client.stats().by_status[Status.CANCELED]


def test_closing_while_threads_call_ends_their_calls(client: Client, path: Path) -> None:
    """Each is done, or raises StoreClosed; none hangs, and what was acknowledged is there."""
    made: list[str] = []

    def call() -> None:
        while True:
            made.append(client.enqueue("hang").run_id)
            client.stats()

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call) for _ in range(4)]
        while len(made) < 20:
            assert not any(each.done() for each in calls)
        client.close()

    assert [StoreClosed] * 4 == [type(each.exception()) for each in calls]
    with Client(path, "acme/shop") as again:
        assert set(made) == {run.id for run in again.runs.list(limit=500).runs}


@pytest.mark.parametrize("url", ["jobs.db", "sqlite:///jobs.db"])
def test_a_relative_path_names_the_same_database_wherever_the_program_goes(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """It is opened later than it is named, and once more in forked children, which often go elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    client = shop.jobs.client(url)
    monkeypatch.chdir(elsewhere)

    with client:
        client.enqueue("send", {"to": "anna"})

    assert [] == list(elsewhere.iterdir())
    with shop.jobs.client(tmp_path / "jobs.db") as same:
        assert 1 == same.stats().total


def test_a_reader_that_is_opened_while_a_write_has_waited_is_as_patient_as_others(
    shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept for the reads that follow; what is left of the time of one write is no measure for them."""
    client = shop.jobs.client(path)
    client.enqueue("send", Letter("anna"))
    waits: list[float] = []

    class Noted(SqliteReader):
        def __init__(self, path: str, busy_s: float) -> None:
            waits.append(busy_s)
            super().__init__(path, busy_s)

    monkeypatch.setattr(store_module, "SqliteReader", Noted)
    client.port._inside.store.busy_s = 0.0  # type: ignore[union-attr] # a write waited for 5 s

    client.stats()

    assert [5.0] == waits
    client.close()


def test_threads_do_not_queue_up_behind_one_that_cannot_open_it(
    shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told that the store is busy in its own time, not one after the other."""
    monkeypatch.setattr(direct, "BUSY_S", 0.01)
    client = shop.jobs.client(path)

    with client.port._opening, pytest.raises(StoreBusy):  # another thread is at it
        client.stats()

    assert 0 == client.stats().total
    client.close()
