"""
Hostile and unlucky input, through the whole of it: what is refused stores nothing, what is taken comes back as it was.

Row numbers (E1 …, S1) are those of the list of bad inputs that this is checked against.
Not here: wrong use of an option (`test_wrong_use`), what is no store of ours (`tests/store`, `tests/real`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio

from callsheet import (
    CallsheetError,
    Context,
    InvalidName,
    Jobs,
    OutcomeUnknown,
    PayloadInvalid,
    Queue,
    Run,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from callsheet.store.contract import Answer, Command, Insert
from callsheet.store.memory import MemoryStore
from callsheet.store.memory_tables import Tables
from callsheet.store.records import Now, RunFilter

from .house import Place, open_house, read

INJECTION = "x'; drop table runs; -- \"`%_\\?1:a@b$c"
"""Every sign that means something to SQL, to LIKE, or in a placeholder."""
INVISIBLE = ["\x00", "\n", "\r", "\x1b", "\x7f", "\u202e", "\u200b", "\u2028", "\ud800", "\ufeff"]


def nested(levels: int) -> object:
    deep: object = 1
    for _ in range(levels):
        deep = [deep]
    return deep


def itself() -> object:
    ring: list[object] = []
    ring.append(ring)
    return ring


def quiet(**options: Any) -> Jobs:
    jobs = Jobs("j", **options)

    @jobs.task("work")
    async def work(payload: object, ctx: Context) -> object:
        return payload

    return jobs


def stored(place: Place) -> tuple[Run, ...]:
    return read(place, lambda reader: reader.list(RunFilter(), limit=100))


# ---------------------------------------------------------------- payloads


@pytest.mark.parametrize(
    ("payload", "where", "why"),
    [
        (nested(65), r"\$(\[0\])+", "nested more than 64 levels deep"),
        (itself(), r"\$(\[0\])+", "or contains itself"),
        ({"n": 10**5000}, r"\$\.n", "an integer has more than 4,300 digits"),
        ({"n": [float("-inf")]}, r"\$\.n\[0\]", "-inf is not a JSON number"),
        ({"o": object()}, r"\$\.o", "an object is not JSON"),
        ({"\udfff": 1}, r"\$", "a lone surrogate"),
    ],
    ids=["deep", "ring", "digits", "infinite", "object", "surrogate"],
)
async def test_e1_what_is_no_json_is_refused_where_it_stands(
    autojump_clock: trio.abc.Clock, place: Place, payload: object, where: str, why: str
) -> None:
    """The error names the place; neither it nor anything enqueued together with it is stored."""
    jobs = quiet()
    async with open_house(place, jobs):
        task = jobs.tasks["work"]

        with pytest.raises(PayloadInvalid, match=f"at {where}.*{why}"):
            await jobs.enqueue("work", payload)
        with pytest.raises(PayloadInvalid, match=why):
            await jobs.enqueue_many([task.entry("good"), task.entry(payload), task.entry("good too")])

    assert () == stored(place)


@pytest.mark.parametrize(
    "payload",
    [
        "a\x00b\u2028\u202e\x1b[31m",
        {"\x00": ["\x00"]},
        [2**53 + 1, -(2**63) - 1, 10**400, 0.1, -0.0, 1e308],
        {"z": 1, "a": 2, "": 3},
        INJECTION,
        {"__class__": "os.system", "_type": "Order", "$ref": "#/", "__proto__": {"admin": True}},
        nested(63),
    ],
    ids=["nul", "nul-keys", "numbers", "order", "sql", "classes", "deep"],
)
async def test_e2_e4_e6_what_other_stores_lose_comes_back_from_ours(
    autojump_clock: trio.abc.Clock, place: Place, payload: object
) -> None:
    """NUL, large integers, the order of keys, what looks like SQL or like a class: a handler is given it and may return it."""
    jobs = quiet()
    async with open_house(place, jobs) as runtime:
        run = await jobs.enqueue("work", payload)
        await runtime.until_idle()
        details = await jobs.runs.get(run.run_id)

    assert repr(payload) == repr(details.payload)
    assert repr(payload) == repr(details.result)


# ---------------------------------------------------------------- names

NAMED: dict[str, Callable[[str], object]] = {
    "instance": Jobs,
    "namespace": lambda name: Jobs("j", namespace=name),
    "task": lambda name: Jobs("j").task(name),
    "queue": lambda name: Jobs("j", queues=[Queue(name)]),
}


@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("sign", INVISIBLE, ids=ascii)
def test_e3_a_name_holds_nothing_invisible(what: str, sign: str) -> None:
    """Whatever is declared under a name with a sign that nobody sees is refused, and the sign is named."""
    with pytest.raises(InvalidName, match=f"U\\+{ord(sign):04X}"):
        NAMED[what](f"a{sign}b")


@pytest.mark.parametrize("option", ["idempotency_key", "trace_id", "run_id", "queue"])
async def test_e3_what_a_call_names_holds_nothing_invisible(
    autojump_clock: trio.abc.Clock, place: Place, option: str
) -> None:
    """Nor may a key, a trace, an id or a queue that a call gives; and a list does not look for it."""
    jobs = quiet()
    async with open_house(place, jobs):
        for sign in INVISIBLE:
            with pytest.raises(CallsheetError) as caught:
                await jobs.enqueue("work", 1, **{option: f"a{sign}b"})
            assert caught.value.__class__.__name__ in {"InvalidName", "UnknownQueue"}
            assert sign not in str(caught.value)
            if option != "run_id":
                with pytest.raises(InvalidName):
                    await jobs.runs.list(**{option: f"a{sign}b"})

    assert () == stored(place)


async def test_s1_what_looks_like_sql_is_text(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """In every field that takes a text; and a filter finds exactly what it says, no pattern."""
    name = INJECTION
    jobs = Jobs(name, namespace=name, queues=[Queue(name)])

    @jobs.task(name, queue=name)
    async def work(payload: object, ctx: Context) -> object:
        return payload

    fields = {"idempotency_key": name, "trace_id": name}
    async with open_house(place, jobs) as runtime:
        first = await jobs.enqueue(name, name, run_id=name, **fields)
        await jobs.enqueue(name, "beside it", trace_id="x%")
        await runtime.until_idle()
        again = await jobs.runs.replay(name, reason=name)
        await jobs.runs.cancel(again.run_id, name)
        details = await jobs.runs.get(name)
        canceled = (await jobs.runs.get(again.run_id)).run
        found = {
            what: [run.id for run in (await jobs.runs.list(**{what: value})).runs]
            for what, value in {**fields, "replay_of": name}.items()
        }
        of_task = (await jobs.runs.list(task=name, queue=name)).runs
        patterns = [await jobs.runs.list(**{what: "x%"}) for what in ("task", "idempotency_key", "replay_of")]

    assert (name, name, name) == (first.run_id, details.payload, details.result)
    assert (name, f"canceled: {name}") == (canceled.reason, canceled.cause)
    assert {"idempotency_key": [name], "replay_of": [again.run_id]} == {
        what: ids for what, ids in found.items() if what != "trace_id"
    }
    assert {name, again.run_id} == set(found["trace_id"])
    assert 3 == len(of_task)
    assert [()] * 3 == [page.runs for page in patterns]


# ---------------------------------------------------------------- times


async def test_e8_a_time_that_the_clocks_skip_or_repeat_is_one_instant(
    autojump_clock: trio.abc.Clock, place: Place
) -> None:
    """As Python reads it: before the change unless `fold` says after it."""
    berlin = ZoneInfo("Europe/Berlin")
    when = [datetime(2027, *day, 2, 30, fold=fold, tzinfo=berlin) for day in ((3, 28), (10, 31)) for fold in (0, 1)]
    jobs = quiet()
    async with open_house(place, jobs):
        runs = [(await jobs.enqueue("work", 1, run_at=each)).run for each in when]

    assert [(3, 28, 1, 30), (3, 28, 0, 30), (10, 31, 0, 30), (10, 31, 1, 30)] == [
        (at.month, at.day, at.hour, at.minute) for at in (datetime.fromtimestamp(run.due_us / 1e6, UTC) for run in runs)
    ]


# ---------------------------------------------------------------- trouble


class Troubled(MemoryStore):
    """Fails as it is told, for Inserts only."""

    def __init__(self, tables: Tables, trouble: list[StoreError]) -> None:
        super().__init__(tables)
        self.trouble = trouble

    def write(self, commands: Sequence[Command], now: Now) -> list[Answer]:
        if self.trouble and any(isinstance(command, Insert) for command in commands):
            raise self.trouble.pop(0)
        return super().write(commands, now)


@pytest.mark.parametrize(
    ("error", "says"),
    [(StoreFull("x"), "nothing was stored"), (StoreUnavailable("x", "disk I/O error"), "disk I/O error")],
    ids=["full", "unavailable"],
)
async def test_e9_what_a_store_refuses_is_told_and_not_there(
    autojump_clock: trio.abc.Clock, error: StoreError, says: str
) -> None:
    """`enqueue` and `enqueue_many` say so; when the store has recovered, the same call goes through."""
    tables, jobs, trouble = Tables(), quiet(), list[StoreError]()
    async with open_house(lambda: Troubled(tables, trouble), jobs) as runtime:
        entries = [jobs.tasks["work"].entry(n) for n in range(3)]
        trouble += [error] * 20

        with pytest.raises(type(error), match=says):
            await jobs.enqueue("work", 1)
        with pytest.raises(type(error), match=says):
            await jobs.enqueue_many(entries)
        trouble.clear()
        assert () == (await jobs.runs.list()).runs
        await jobs.enqueue_many(entries)
        await runtime.until_idle()

        assert ["succeeded"] * 3 == [str(run.status) for run in (await jobs.runs.list()).runs]


async def test_e9_an_unknown_outcome_may_be_asked_for_again(autojump_clock: trio.abc.Clock) -> None:
    """Nobody knows whether it is stored: the same call with the same id makes one run of it."""
    tables, jobs, trouble = Tables(), quiet(), list[StoreError]()
    async with open_house(lambda: Troubled(tables, trouble), jobs) as runtime:
        trouble += [OutcomeUnknown("x", "disk I/O error")] * 2
        with pytest.raises(OutcomeUnknown):
            await jobs.enqueue("work", 1, run_id="one")

        again = await jobs.enqueue("work", 1, run_id="one")
        once_more = await jobs.enqueue("work", 1, run_id="one")
        await runtime.until_idle()

        assert [False, True] == [again.deduped, once_more.deduped]
        assert ["one"] == [run.id for run in (await jobs.runs.list()).runs]


async def test_e9_a_caller_that_is_cancelled_may_ask_again(autojump_clock: trio.abc.Clock, place: Place) -> None:
    """At whatever moment it was cancelled, the run is there whole or not at all, and once in the end."""
    jobs = quiet()
    async with open_house(place, jobs) as runtime:
        for moments in range(6):
            run_id = f"run-{moments}"
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda run_id=run_id: jobs.enqueue("work", 1, run_id=run_id))
                    for _ in range(moments):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

            await jobs.enqueue("work", 1, run_id=run_id)
        await runtime.until_idle()
        runs = (await jobs.runs.list()).runs

    assert [f"run-{n}" for n in reversed(range(6))] == [run.id for run in runs]
    assert {(1, "succeeded")} == {(run.attempt, str(run.status)) for run in runs}
