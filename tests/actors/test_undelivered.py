from __future__ import annotations

from typing import Any

import pytest
from attrs import define, frozen

from callsheet.actors.journal import LookAround
from callsheet.actors.undelivered import MAX_PATHS, OTHERS, SAMPLES, SAMPLES_PER_INTERVAL, Sample, Undelivered, Why


@define
class Watch:
    """A clock that is set by hand."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@frozen
class Tick:
    n: int


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Quitting:
    def __repr__(self) -> str:
        raise SystemExit(1)


class Liar(str):
    """A text that says it is short."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1


class Lying:
    def __repr__(self) -> str:
        return Liar("x" * 10_000)


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise RuntimeError("no")
        return super().__getattribute__(name)


class Masked(metaclass=Nameless):
    def __repr__(self) -> str:
        return "masked"


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def undelivered(watch: Watch) -> Undelivered:
    return Undelivered(watch)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged so far."""
    return [f"{each.levelname} {each.getMessage()}" for each in caplog.records]


def test_every_message_is_counted_by_where_it_went_and_why(undelivered: Undelivered) -> None:
    """Totals, by path, by reason and by both agree."""
    for path, why in (("/a", Why.FULL), ("/a", Why.FULL), ("/a", Why.ENDED), ("/b", Why.FULL), ("/b", Why.RESTART)):
        undelivered.count(path, Tick(1), why)

    assert 5 == undelivered.total
    assert {"/a": 3, "/b": 2} == undelivered.by_path()
    assert {Why.FULL: 3, Why.ENDED: 1, Why.RESTART: 1} == undelivered.by_why()
    assert {"/a": {"full": 2, "ended": 1}, "/b": {"full": 1, "restart": 1}} == undelivered.counts()


def test_nothing_is_counted_before_something_is(undelivered: Undelivered, caplog: pytest.LogCaptureFixture) -> None:
    """A system in which all is delivered shows nothing and says nothing."""
    undelivered.flush()

    assert (0, {}, {}, {}, ()) == (
        undelivered.total,
        undelivered.by_path(),
        undelivered.by_why(),
        undelivered.counts(),
        undelivered.samples(),
    )
    assert [] == lines(caplog)


def test_paths_without_end_are_counted_together_after_a_thousand(undelivered: Undelivered) -> None:
    """However many actors end, memory is bounded, the total is right, and the paths seen first keep their own count."""
    for n in range(MAX_PATHS + 500):
        undelivered.count(f"/pool/{n}", Tick(n), Why.ENDED)
    undelivered.count("/pool/0", Tick(0), Why.FULL)

    by_path = undelivered.by_path()
    assert MAX_PATHS + 1 == len(by_path) == len(undelivered.counts())
    assert (2, 1, 500) == (by_path["/pool/0"], by_path[f"/pool/{MAX_PATHS - 1}"], by_path[OTHERS])
    assert MAX_PATHS + 501 == undelivered.total == by_path.total()


def test_the_last_messages_are_kept_as_text(undelivered: Undelivered, watch: Watch) -> None:
    """A hundred samples say where, what, why and when; older ones make room."""
    for n in range(SAMPLES + 5):
        watch.now_s = 100.0 + n / 100
        undelivered.count("/a", Tick(n), Why.FULL)

    samples = undelivered.samples()
    assert SAMPLES == len(samples)
    assert Sample("/a", "Tick", "Tick(n=5)", Why.FULL, 100.05) == samples[0]
    assert Sample("/a", "Tick", "Tick(n=104)", Why.FULL, 101.04) == samples[-1]


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        (Unprintable(), "Unprintable", "<a Unprintable whose repr raises RuntimeError>"),
        (Quitting(), "Quitting", "<a Quitting whose repr raises SystemExit>"),
        (Masked(), "message of an unnamed type", "masked"),
        ("\ud800", "str", "'\\ud800'"),
    ],
)
def test_a_message_that_cannot_be_looked_at_is_counted_all_the_same(
    undelivered: Undelivered, message: Any, kind: str, text: str
) -> None:
    """Whatever its class does, counting a message raises nothing, and the sample says what it can."""
    undelivered.count("/a", message, Why.ENDED)

    assert [(kind, text)] == [(each.type, each.text) for each in undelivered.samples()]
    assert {"/a": 1} == undelivered.by_path()


@pytest.mark.parametrize("message", ["x" * 10_000, Lying()])
def test_the_text_of_a_large_message_is_clipped(undelivered: Undelivered, message: object) -> None:
    """A sample holds at most 200 bytes, also of a text that lies about its length."""
    undelivered.count("/a", message, Why.ENDED)

    (sample,) = undelivered.samples()
    assert 200 >= len(sample.text.encode())
    assert "characters in all" in sample.text


def test_what_a_newer_message_replaced_is_counted_and_that_is_all(
    undelivered: Undelivered, caplog: pytest.LogCaptureFixture
) -> None:
    """Coalescing loses nothing: it pushes no sample out, is in no summary, and not among the paths with losses."""
    undelivered.count("/a", Tick(1), Why.COALESCED)
    undelivered.count("/b", Tick(2), Why.COALESCED)
    undelivered.count("/b", Tick(2), Why.FULL)
    undelivered.flush()

    assert ({"/b": 1}, {Why.COALESCED: 2, Why.FULL: 1}, 3) == (
        undelivered.by_path(),
        undelivered.by_why(),
        undelivered.total,
    )
    assert [Why.FULL] == [each.why for each in undelivered.samples()]
    assert 1 == len(lines(caplog))


def test_what_others_wrote_at_the_end_is_no_line_of_the_log(
    undelivered: Undelivered, caplog: pytest.LogCaptureFixture
) -> None:
    """That somebody wrote is told again and again, and to nobody any more when the runtime has ended: nothing is wrong then."""
    undelivered.count("/journal", LookAround(), Why.ENDED)
    undelivered.flush()

    assert (1, (), []) == (undelivered.total, undelivered.samples(), caplog.messages)


def test_the_log_tells_at_once_and_then_once_in_ten_seconds(
    undelivered: Undelivered, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first loss is told at once; what follows is summed up by the first one after ten seconds, however many."""
    undelivered.count("/a", Tick(1), Why.ENDED)
    first = lines(caplog)
    for n in range(2_000):
        undelivered.count("/a", Tick(n), Why.FULL)
    undelivered.count("/b", Tick(1), Why.ENDED)
    watch.now_s += 9.99
    undelivered.count("/b", Tick(1), Why.ENDED)
    before_the_end = lines(caplog)
    watch.now_s += 0.01
    undelivered.count("/b", Tick(1), Why.ENDED)

    many = "2,003 messages are undelivered (2,000 full, 3 ended): sent to 2 actors, 2,000 of them to /a"
    told = "WARNING 1 message is undelivered (ended): sent to /a; a recent one is a Tick"
    assert [told] == first == before_the_end
    assert [told, f"WARNING {many}; a recent one is a Tick"] == lines(caplog)


def test_flushing_tells_what_no_line_has_told(undelivered: Undelivered, caplog: pytest.LogCaptureFixture) -> None:
    """At the end of a system nothing stays untold, and nothing is told twice."""
    for path in ("/a", "/b", "/b"):
        undelivered.count(path, Tick(1), Why.STOPPING)

    undelivered.flush()
    undelivered.flush()

    assert 2 == len(lines(caplog))
    assert "WARNING 2 messages are undelivered (stopping): sent to /b; a recent one is a Tick" == lines(caplog)[1]


def test_the_log_never_shows_what_a_message_holds(undelivered: Undelivered, caplog: pytest.LogCaptureFixture) -> None:
    """A message may hold secrets; its type does not."""
    undelivered.count("/a", {"password": "hunter2"}, Why.ENDED)

    assert ["WARNING 1 message is undelivered (ended): sent to /a; a recent one is a dict"] == lines(caplog)


def test_a_flood_is_sampled_up_to_a_bound_and_counted_in_full(undelivered: Undelivered, watch: Watch) -> None:
    """At most a thousand messages in ten seconds are asked for their text; afterwards sampling goes on."""
    asked = 0

    class Counting:
        def __repr__(self) -> str:
            nonlocal asked
            asked += 1
            return str(asked)

    for _ in range(SAMPLES_PER_INTERVAL + 700):
        undelivered.count("/a", Counting(), Why.FULL)
    in_flood = asked
    watch.now_s += 10
    for _ in range(3):
        undelivered.count("/a", Counting(), Why.FULL)

    assert (SAMPLES_PER_INTERVAL, SAMPLES_PER_INTERVAL + 3) == (in_flood, asked)
    assert SAMPLES_PER_INTERVAL + 703 == undelivered.total
