"""Wrong use gets a sentence, and nothing is stored or changed."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio
from attrs import frozen

from callsheet import (
    AlreadyDeclared,
    AmbiguousRuntime,
    CallsheetError,
    Context,
    InvalidName,
    InvalidOption,
    InvalidSchedule,
    Job,
    Jobs,
    NotOpen,
    PayloadInvalid,
    PayloadTooLarge,
    Queue,
    Retry,
    RunNotFound,
    SyncContext,
    UnknownQueue,
    UnknownTask,
    open_runtime,
)

from .house import Place, open_house


def declared() -> Jobs:
    jobs = Jobs("j", queues=[Queue("mail")])

    @jobs.task("send-mail")
    async def send(payload: object, ctx: Context) -> None: ...

    @jobs.task("typed")
    async def typed(payload: dict[str, int], ctx: Context) -> None: ...

    return jobs


@pytest.mark.parametrize(
    ("task", "payload", "options", "error", "sentence"),
    [
        ("send-mial", None, {}, UnknownTask, r"default/j has no task 'send-mial'; did you mean 'send-mail'\?"),
        ("", None, {}, UnknownTask, "has no task ''"),
        (declared().tasks["typed"], {}, {}, UnknownTask, "has no task 'typed'; it has another one of this name"),
        (17, None, {}, TypeError, "enqueue takes a task, its name or a job, not int"),
        ("send-mail", None, {"queue": "mial"}, UnknownQueue, "did you mean 'mail'"),
        ("send-mail", None, {"delay": 1, "run_at": "2030-01-01"}, InvalidSchedule, "give one of them, not both"),
        ("send-mail", None, {"run_at": datetime(2030, 1, 1)}, InvalidSchedule, "has no time zone"),  # noqa: DTZ001
        ("send-mail", None, {"run_at": "2030-01-01T00:00:00"}, InvalidSchedule, "has no time zone"),
        ("send-mail", None, {"run_at": "tomorrow"}, InvalidSchedule, "is not a time as RFC 3339 writes it"),
        ("send-mail", None, {"run_at": "9999-01-01T00:00:00Z"}, InvalidSchedule, "more than 10 years ahead"),
        ("send-mail", None, {"run_at": 17}, TypeError, "run_at must be an aware datetime"),
        ("send-mail", None, {"delay": -1}, InvalidSchedule, "delay: must be at least 0 seconds"),
        ("send-mail", None, {"delay": math.nan}, InvalidSchedule, "delay: must be finite"),
        ("send-mail", None, {"delay": math.inf}, InvalidSchedule, "delay: must be finite"),
        ("send-mail", None, {"delay": 10**400}, InvalidSchedule, "delay: must be finite"),
        ("send-mail", None, {"delay": 1e9}, InvalidSchedule, "delay: must be at most"),
        ("send-mail", None, {"delay": timedelta(days=-1)}, InvalidSchedule, "delay: must be at least 0"),
        ("send-mail", None, {"delay": "5"}, TypeError, "delay must be a number of seconds"),
        ("send-mail", None, {"delay": True}, TypeError, "delay must be a number of seconds"),
        ("send-mail", math.nan, {}, PayloadInvalid, r"payload is invalid at \$: nan is not a JSON number"),
        ("send-mail", {"a": [1, {2}]}, {}, PayloadInvalid, r"at \$\.a\[1\]: a set is not JSON"),
        ("send-mail", b"x", {}, PayloadInvalid, "bytes is not JSON"),
        ("send-mail", {1: 2}, {}, PayloadInvalid, "a key is an integer; JSON keys are text"),
        ("send-mail", "\ud800", {}, PayloadInvalid, "a lone surrogate"),
        ("send-mail", "x" * 300_000, {}, PayloadTooLarge, "300,002 bytes of JSON, the limit is 262,144"),
        ("typed", {"a": "5"}, {}, PayloadInvalid, "it is a text, not an integer"),
        ("typed", [], {}, PayloadInvalid, "payload is invalid"),
        ("send-mail", None, {"priority": 10}, InvalidOption, r"priority: must be an int from 0 \(first\) to 9, not 10"),
        ("send-mail", None, {"priority": True}, InvalidOption, "priority"),
        ("send-mail", None, {"max_attempts": 0}, InvalidOption, "max_attempts: must be 1 to 10,000, not 0"),
        ("send-mail", None, {"max_attempts": 1.5}, TypeError, "max_attempts must be an int"),
        ("send-mail", None, {"timeout": 0}, InvalidOption, "timeout: must be more than 0 seconds"),
        ("send-mail", None, {"timeout": math.inf}, InvalidOption, "timeout: must be finite"),
        ("send-mail", None, {"idempotency_key": ""}, InvalidName, "it is empty"),
        ("send-mail", None, {"idempotency_key": "x" * 256}, InvalidName, "it has 256 bytes, the limit is 255"),
        ("send-mail", None, {"idempotency_key": "a\x00b"}, InvalidName, r"the invisible character U\+0000"),
        ("send-mail", None, {"trace_id": "a\u202eb"}, InvalidName, r"the invisible character U\+202E"),
        ("send-mail", None, {"run_id": "a/b"}, InvalidName, 'it contains "/"'),
        ("send-mail", None, {"run_id": 17}, TypeError, "run_id must be a str"),
        ("send-mail", None, {"on_conflict": "ignore"}, InvalidOption, 'must be "return" or "raise"'),
        ("send-mail", None, {"dealy": 5}, TypeError, "enqueue has no option 'dealy'; it has delay"),
        ("send-mail", None, {"dealy": None}, TypeError, "enqueue has no option 'dealy'; it has delay"),
    ],
)
async def test_a_wrong_enqueue_stores_nothing(  # noqa: PLR0917 -- a row of the table each
    autojump_clock: trio.abc.Clock,
    memory: Place,
    task: Any,
    payload: object,
    options: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    """Every argument is checked before anything is stored, by `enqueue` and by `enqueue_many`."""
    jobs = declared()
    async with open_house(memory, jobs) as runtime:
        before = await runtime.read(lambda reader: reader.counts())

        with pytest.raises(error, match=sentence):
            await jobs.enqueue(task, payload, **options)
        if isinstance(task, str) and task in jobs.tasks:
            with pytest.raises(error, match=sentence):
                await jobs.enqueue_many([jobs.tasks[task].entry(payload, **options)])

        assert before == await runtime.read(lambda reader: reader.counts())
        assert () == (await jobs.runs.list()).runs


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ({"limit": 0}, InvalidOption),
        ({"limit": 501}, InvalidOption),
        ({"limit": True}, InvalidOption),
        ({"status": "done"}, InvalidOption),
        ({"created_from": datetime(2030, 1, 1)}, InvalidSchedule),  # noqa: DTZ001
        ({"task": "a\nb"}, InvalidName),
        ({"after": 17}, TypeError),
    ],
)
async def test_a_wrong_list_is_refused(
    autojump_clock: trio.abc.Clock, memory: Place, where: dict[str, Any], error: type[Exception]
) -> None:
    """Limits, statuses, times and names of a list are checked."""
    jobs = declared()
    async with open_house(memory, jobs):
        with pytest.raises(error):
            await jobs.runs.list(**where)


async def test_a_reason_that_no_store_can_keep_is_refused(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """A cancel or replay with an endless or unwritable reason changes nothing."""
    jobs = declared()
    async with open_house(place, jobs):
        run = await jobs.enqueue("send-mail", delay=5)
        for reason in ("x" * 1_001, "\ud800"):
            with pytest.raises(InvalidOption, match="reason"):
                await jobs.runs.cancel(run.run_id, reason=reason)
        with pytest.raises(TypeError, match="reason must be a str"):
            await jobs.runs.cancel(run.run_id, reason=17)  # type: ignore[arg-type]
        with pytest.raises(RunNotFound, match="there is no run 'nobody'"):
            await jobs.runs.get("nobody")

        assert "scheduled" == str((await jobs.runs.get(run.run_id)).run.status)


async def _three(a: object, b: object, c: object) -> None: ...
async def _one(a: object) -> None: ...
def _plain(a: object, b: object) -> None: ...
async def _two(payload: object, ctx: Context) -> None: ...
async def _with_key(a: object, b: object, *, c: object) -> None: ...
def _yields(payload: object, ctx: SyncContext) -> Iterator[None]:
    yield


async def _yields_too(payload: object, ctx: Context) -> AsyncIterator[None]:
    yield


@functools.wraps(_two)
def _around(*args: Any) -> Any:
    return _two(*args)


def _needs_async(payload: object, ctx: Context) -> None: ...
async def _needs_sync(payload: object, ctx: SyncContext) -> None: ...


class _Class:
    def __init__(self, payload: object, ctx: SyncContext) -> None: ...


class _Generator:
    def __call__(self, payload: object, ctx: SyncContext) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("handler", "sentence"),
    [
        (_three, r"must take \(payload, ctx\), not \(a: 'object', b: 'object', c: 'object'\)"),
        (_one, r"must take \(payload, ctx\)"),
        (_with_key, r"must take \(payload, ctx\)"),
        (functools.partial(_plain, 1), r"must take \(payload, ctx\)"),
        (print, r"must take \(payload, ctx\)"),
        (max, r"must take \(payload, ctx\)"),
        (17, r"must be a function of \(payload, ctx\), not int"),
        (_Class, "must be a function of .*, not the class _Class"),
        (_yields, "must return its result, not yield: it is a generator function"),
        (_yields_too, "must return its result, not yield: it is a generator function"),
        (_Generator(), "must return its result, not yield: it is a generator function"),
        (_around, "must be awaitable as a whole: it is a plain function around an async one; make it async"),
        (_needs_async, "must take a SyncContext, not a Context: it is a plain function"),
        (_needs_sync, "must take a Context, not a SyncContext: it is an async function"),
    ],
)
def test_a_handler_of_the_wrong_form_is_refused_when_it_is_declared(handler: Any, sentence: str) -> None:
    """L20: it must be a function of payload and context that returns its result; the sentence names the task."""
    jobs = Jobs("j")

    with pytest.raises(TypeError, match=f"the handler of task 'work' {sentence}"):
        jobs.task("work")(handler)

    assert {} == jobs.tasks


def test_declaring_twice_is_refused() -> None:
    """One name, one task; one name, one queue."""
    jobs = declared()

    with pytest.raises(AlreadyDeclared, match="default/j: task 'typed' cannot be declared: there is one of this name"):
        jobs.task("typed")(_two)
    with pytest.raises(AlreadyDeclared, match="queue 'mail'"):
        Jobs("j", queues=[Queue("mail"), Queue("mail")])


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"queue": "mial"}, UnknownQueue, "did you mean 'mail'"),
        ({"schema": ""}, InvalidName, "schema '' is not allowed: it is empty"),
        ({"retry": 3}, TypeError, "retry must be a Retry, not int"),
        ({"timeout": 0}, InvalidOption, "timeout: must be more than 0 seconds"),
        ({"accepts": "0"}, TypeError, r"accepts must be a tuple of names, as in accepts=\("),
        ({"accepts": ("1",)}, InvalidOption, "accepts: '1' is the current one"),
        ({"accepts": ("0", "0")}, InvalidOption, "accepts: '0' is there twice"),
        ({"accepts": ("a\n",)}, InvalidName, "accepts .* the invisible character"),
        ({"aliases": "old"}, TypeError, "aliases must be a tuple of names"),
        ({"aliases": (17,)}, TypeError, "aliases must be a str, not int"),
        ({"aliases": ("new",)}, InvalidOption, "aliases: 'new' is the current one"),
        ({"aliases": [f"old-{n}" for n in range(21)]}, InvalidOption, "has 21 names, the limit is 20"),
        ({"on_crash": "ignore"}, InvalidOption, 'on_crash: must be "retry" or "dead_letter", not \'ignore\''),
        ({"stuck_after": -1}, InvalidOption, "stuck_after: must be at least 0 seconds"),
        ({"stuck_after": "soon"}, TypeError, "stuck_after must be a number of seconds"),
        ({"payloadSchemaId": "1"}, TypeError, "a task has no option 'payloadSchemaId'; it has retry, timeout"),
    ],
)
def test_a_wrong_option_of_a_task_is_refused(options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    """What cannot be meant is said when it is declared, not when a run fails."""
    jobs = declared()

    with pytest.raises(error, match=sentence):
        jobs.task("new", **options)(_two)

    assert ["send-mail", "typed"] == list(jobs.tasks)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jobs(""),
        lambda: Jobs("a/b"),
        lambda: Jobs("a\x1b[31m"),
        lambda: Jobs("x" * 129),
        lambda: Jobs("a", namespace="\u200b"),
        lambda: Jobs("a", namespace="callsheet"),
        lambda: Jobs("a", timeout=0),
        lambda: Jobs("a", max_payload=0),
        lambda: Jobs("a", max_payload=4 * 1024 * 1024 + 1),
        lambda: Jobs("a", max_payload=1.5),  # type: ignore[arg-type]
        lambda: Jobs("a", stuck_after=-1),
        lambda: Jobs("a", stuck_after=math.inf),
        lambda: Queue(concurrency=0),
        lambda: Queue(batch_size=10_001),
        lambda: Queue(visibility_timeout=0.5),
        lambda: Retry(attempts=0),
        lambda: Retry(initial_delay=-1),
        lambda: Retry(jitter=1.5),
        lambda: Retry(jitter=math.nan),
        lambda: Retry(backoff="linear"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_declaration_is_refused(make: Any) -> None:
    """What is out of its bounds is a ValueError that names it."""
    with pytest.raises(ValueError, match=r"\w+"):
        make()


def test_a_queue_out_of_its_bounds_names_the_option() -> None:
    """Every bound of a Queue is refused in the same way."""
    with pytest.raises(InvalidOption, match=r"^Queue\(visibility_timeout\): must be at least 1 seconds, not 0\.5$"):
        Queue(visibility_timeout=0.5)


async def test_which_runtime_is_meant_must_be_clear(autojump_clock: trio.abc.Clock) -> None:
    """Outside of every block: the only open one; with several of them an error; inside a block: that one."""
    from callsheet.store.memory import MemoryStore

    jobs = declared()
    with pytest.raises(NotOpen):
        await jobs.enqueue("send-mail")
    async with trio.open_nursery() as nursery:
        first = await nursery.start(jobs.serve, MemoryStore())
        assert not (await jobs.enqueue("send-mail")).deduped
        second = await nursery.start(jobs.serve, MemoryStore())
        with pytest.raises(AmbiguousRuntime, match="default/j is open 2 times here"):
            await jobs.enqueue("send-mail")
        async with open_house(MemoryStore(), jobs) as third:
            assert third is jobs.runtime()
        first.stop()
        second.stop()


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: Jobs("a", queue="mail"), r"queue must be a Queue, as in queue=Queue\(…\), not str"),  # type: ignore[arg-type]
        (lambda: Jobs("a", queues=["mail"]), r'queues must hold Queues, as in queues=\[Queue\("mail"\)\], not str'),  # type: ignore[list-item]
        (lambda: Jobs("a", queues="mail"), "queues must be a list"),  # type: ignore[arg-type]
        (lambda: Jobs("a", retry=3), r"retry must be a Retry, as in retry=Retry\(…\), not int"),  # type: ignore[arg-type]
        (lambda: Jobs("a").task(print), r'write @jobs.task\("send-mail"\) above the function'),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_of_the_wrong_kind_says_how_it_is_written(declare: Callable[[], object], says: str) -> None:
    """A sentence that names the argument, not an attribute of it that is missing."""
    with pytest.raises(TypeError, match=says):
        declare()


async def test_calls_of_the_wrong_kind_say_how_they_are_written(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """A monitor that is none, entries that are none, an option that is none, a task that is called: nothing was stored."""
    jobs = Jobs("a")

    @jobs.task("greet")
    async def greet(name: str, ctx: Context) -> None:
        pass

    with pytest.raises(TypeError, match=r"monitor must be a Monitor, as in monitor=Monitor\(\), not bool"):
        async with open_house(memory(), jobs, monitor=True):
            pass
    with pytest.raises(TypeError, match=r"task 'greet' is not called: `await task\.enqueue"):
        greet("Ada")
    with pytest.raises(TypeError, match="task 'again' needs a function: 'greet' is a task already"):
        jobs.task("again")(greet)
    async with open_house(memory, jobs):
        for wrong in ([("greet", "Ada")], [greet], ["greet"]):
            with pytest.raises(TypeError, match=r"enqueue_many takes entries, made by task\.entry"):
                await jobs.enqueue_many(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="enqueue has no option 'name'"):
            await jobs.enqueue("greet", name="Ada")  # type: ignore[call-overload]

        assert 0 == (await jobs.stats()).total
        assert 1 == len(await jobs.enqueue_many(greet.entry("Ada")))  # type: ignore[arg-type]


async def test_another_trio_program_in_a_thread_is_told_that_nothing_is_open_there(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A thread inherits the block it was started in; a `trio.run` of its own cannot use it, and requests nothing."""
    jobs = declared()
    async with open_house(memory, jobs) as runtime:

        def elsewhere() -> None:
            with pytest.raises(NotOpen, match="default/j is not open here"):
                trio.run(jobs.enqueue, "send-mail")

        def here() -> object:
            return trio.from_thread.run(jobs.enqueue, "send-mail")

        await trio.to_thread.run_sync(elsewhere)
        await runtime.until_idle()
        assert 0 == (await jobs.stats()).total

        await trio.to_thread.run_sync(here)
        assert 1 == (await jobs.stats()).total


async def test_what_only_a_working_runtime_can_do_is_refused_by_others(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """One that runs no tasks has none that could be parked; one that has ended has no tree."""
    jobs = declared()
    async with open_house(memory, jobs, work=False) as runtime:
        with pytest.raises(InvalidOption, match="opened with work=False runs no tasks"):
            await runtime.unpark("send-mail")
        assert "/" == runtime.tree().path

    with pytest.raises(NotOpen, match="default/j is not open here"):
        runtime.tree()


async def test_a_time_that_is_none_does_not_mean_now(autojump_clock: trio.abc.Clock, memory: Place) -> None:
    """Who says when, and has nothing to say, made a mistake: it is no run that starts at once."""
    jobs = declared()
    async with open_house(memory, jobs):
        with pytest.raises(TypeError, match="the second argument says when: seconds for enqueue_in"):
            await jobs.enqueue_in("send-mail", None)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="a time for enqueue_at, not None"):
            await jobs.enqueue_at("send-mail", None)  # type: ignore[call-overload]

        assert 0 == (await jobs.stats()).total


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"work": "no"}, TypeError, "work must be True or False, not str"),
        ({"work": None}, TypeError, "work must be True or False, not NoneType"),
        ({"signals": "false"}, TypeError, "signals must be True or False, not str"),
        ({"queues": 17}, InvalidOption, "queues: give a list with at least one name"),
        ({"queues": {"mail": 5}}, InvalidOption, "queues: give a list with at least one name"),
    ],
)
async def test_a_wrong_option_of_open_opens_nothing(
    autojump_clock: trio.abc.Clock, memory: Place, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    """Also where Python would find some truth in it."""
    with pytest.raises(error, match=sentence):
        async with open_house(memory(), declared(), **options):
            pass


async def test_what_is_no_store_and_what_is_no_jobs_is_told(autojump_clock: trio.abc.Clock) -> None:
    """The two that `open_runtime` takes beside its options."""
    with pytest.raises(TypeError, match="a store is a path, a URL or a Store, not list"):
        async with open_runtime([], declared()):  # type: ignore[arg-type]
            pass
    with pytest.raises(TypeError, match="open_runtime takes a store and then Jobs instances, not str"):
        async with open_runtime(":memory:", "jobs"):  # type: ignore[arg-type]
            pass


class _Plain:
    """Nothing that JSON could become."""


@frozen
class _Order:
    about: dict[str, object]
    things: list[_Plain]


async def _of_plain(payload: _Plain, ctx: Context) -> None: ...
async def _of_order(payload: _Order, ctx: Context) -> None: ...
async def _of_ids(payload: dict[str, complex], ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("handler", "what"),
    [(_of_plain, r".*\._Plain"), (_of_order, r".*\._Plain"), (_of_ids, "builtins.complex")],
)
def test_a_payload_type_that_nothing_can_be_is_refused_when_it_is_declared(handler: Any, what: str) -> None:
    """Not when the first run is requested; the sentence names the part of it that is the trouble."""
    jobs = Jobs("j")

    with pytest.raises(
        TypeError, match=f"the type of the payload of task 'work' has {what}, which nothing in JSON becomes: use what"
    ):
        jobs.task("work")(handler)

    assert {} == jobs.tasks


def test_a_job_with_a_field_that_nothing_can_be_is_refused_when_it_is_registered() -> None:
    """Its fields are its payload."""
    jobs = Jobs("j")

    @frozen
    class Ship(Job, kind="ship"):
        what: complex

        async def work(self, ctx: Context) -> None: ...

    with pytest.raises(TypeError, match=r"the payload of job 'ship' has builtins\.complex"):
        jobs.register(Ship)

    assert {} == jobs.tasks


async def test_an_error_shows_no_more_than_the_beginning_of_a_value(
    autojump_clock: trio.abc.Clock, memory: Place
) -> None:
    """A value that is there by mistake may be a whole file, or a number that Python does not write out."""
    jobs, long, many = declared(), "x" * 100_000, 10**5_000
    async with open_house(memory, jobs) as runtime:
        for wrong in (
            lambda: jobs.enqueue(long),
            lambda: jobs.enqueue("send-mail", queue=long),
            lambda: jobs.enqueue("send-mail", on_conflict=long),  # type: ignore[call-overload]
            lambda: jobs.enqueue("send-mail", priority=many),
            lambda: jobs.queues.set(concurrency=many),
            lambda: jobs.queues.pause(long),
            lambda: jobs.runs.get(long),
            lambda: jobs.runs.list(limit=many),
            lambda: jobs.runs.list(status=long),
            lambda: jobs.runs.cancel_all(limit=many),
            lambda: runtime.unpark(long),
        ):
            with pytest.raises(CallsheetError) as caught:
                await wrong()
            assert len(str(caught.value)) < 400
