"""Wrong use gets a sentence, and nothing is stored or changed."""

from __future__ import annotations

import functools
import math
from datetime import datetime, timedelta
from typing import Any

import pytest
import trio

from callsheet import (
    AlreadyDeclared,
    AmbiguousRuntime,
    Context,
    InvalidName,
    InvalidOption,
    InvalidSchedule,
    Jobs,
    NotOpen,
    PayloadInvalid,
    PayloadTooLarge,
    Queue,
    Retry,
    RunNotFound,
    UnknownQueue,
    UnknownTask,
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
        (17, None, {}, TypeError, "enqueue takes a task or its name, not int"),
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


class _Callable:
    async def __call__(self, payload: object, ctx: Context) -> None: ...


@pytest.mark.parametrize("handler", [_three, _one, _plain, _Callable(), functools.partial(_plain), 17, print])
def test_a_handler_of_the_wrong_form_is_refused_when_it_is_declared(handler: Any) -> None:
    """It must be an async function of payload and context; the sentence names the task."""
    jobs = Jobs("j")

    with pytest.raises(TypeError, match="the handler of task 'work' must"):
        jobs.task("work")(handler)

    assert {} == jobs.tasks


def test_declaring_twice_is_refused() -> None:
    """One name, one task; one name, one queue."""
    jobs = declared()

    with pytest.raises(AlreadyDeclared, match="default/j: task 'typed' cannot be declared: there is one of this name"):
        jobs.task("typed")(_two)
    with pytest.raises(AlreadyDeclared, match="queue 'mail'"):
        Jobs("j", queues=[Queue("mail"), Queue("mail")])


async def _two(payload: object, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jobs(""),
        lambda: Jobs("a/b"),
        lambda: Jobs("a\x1b[31m"),
        lambda: Jobs("x" * 129),
        lambda: Jobs("a", namespace="\u200b"),
        lambda: Jobs("a", timeout=0),
        lambda: Queue(concurrency=0),
        lambda: Queue(batch_size=10_001),
        lambda: Queue(visibility_timeout=0.5),
        lambda: Retry(attempts=0),
        lambda: Retry(initial_delay=-1),
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
