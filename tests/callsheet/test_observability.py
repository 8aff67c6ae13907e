"""What a Jobs instance records of its runs by itself: which settings there are, and the records that they make."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
import trio

from callsheet import Context, Discard, InvalidOption, Jobs, Observability, Retry
from callsheet.actors.run import Unreadable
from callsheet.observe.observability import DEFAULT
from callsheet.testing import Raise, Return, simulate

LOG = "callsheet.run"


def declared(observability: Observability | None = None) -> Jobs:
    jobs = Jobs(
        "j", retry=Retry(attempts=2, backoff="fixed", initial_delay=5), observability=observability or Observability()
    )

    @jobs.task("work")
    async def work(_payload: Any, ctx: Context) -> None:
        ctx.log.info("working")

    return jobs


async def play(jobs: Jobs, *steps: Any, **options: Any) -> list[str]:
    """One run, as these steps; its id, and the history that follows."""
    async with simulate(jobs) as world:
        world.script("work", list(steps))
        result = await jobs.enqueue("work", "secret payload", **options)
        await world.advance(minutes=5)
    return [result.run_id]


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == LOG]


# ---------------------------------------------------------------- settings


def test_settings_are_normalised_and_shown() -> None:
    """Lower case, numbers, other names and False mean what they say; the declaration shows what holds."""
    jobs = declared(
        Observability(enqueue="debug", execution=False, retry=logging.ERROR, replay=None, dead_letter="fatal")
    )

    expected = Observability(enqueue="DEBUG", execution=None, retry="ERROR", replay=None, dead_letter="CRITICAL")
    assert expected == jobs.observability == jobs.config.observability
    assert "CRITICAL" == jobs.observability.dead_letter


def test_by_default_what_ends_badly_is_a_warning() -> None:
    """Requests and ends are INFO, a retry is a WARNING, a run that is given up is an ERROR."""
    jobs = Jobs("j")

    assert ("INFO", "ERROR", None, None) == (DEFAULT.replay, DEFAULT.dead_letter, DEFAULT.traces, DEFAULT.metrics)
    assert DEFAULT == Observability(enqueue="INFO", execution="INFO", retry="WARNING") == jobs.observability


@pytest.mark.parametrize("level", ["LOUD", "", "NOTSET", 25, True, 2.5, ["INFO"]])
@pytest.mark.parametrize("name", ["enqueue", "execution", "retry", "replay", "dead_letter"])
def test_a_level_that_there_is_not_is_refused(name: str, level: Any) -> None:
    """When it is declared, by the name of the setting, with those that there are."""
    with pytest.raises(InvalidOption, match=rf"Observability\({name}\): must be a level of logging \(CRITICAL, "):
        Observability(**{name: level})


@pytest.mark.parametrize("value", ["yes", 1, 0, "auto"])
@pytest.mark.parametrize("name", ["traces", "metrics"])
def test_a_choice_that_is_none_is_refused(name: str, value: Any) -> None:
    """True, False, or None for "as the program does"."""
    with pytest.raises(InvalidOption, match=rf"Observability\({name}\): must be True, False or None"):
        Observability(**{name: value})


def test_what_is_no_observability_is_refused() -> None:
    """A level alone, or a dict, is not taken for one."""
    with pytest.raises(TypeError, match="observability must be an Observability"):
        Jobs("j", observability="INFO")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["traces", "metrics"])
def test_without_the_extra_nothing_can_be_demanded_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, and how to get it, is said when it is declared."""
    monkeypatch.setattr("callsheet.observe.observability.find_spec", lambda _: None)

    with pytest.raises(InvalidOption, match=r"the extra 'otel' brings: pip install 'callsheet\[otel\]'"):
        Observability(**{name: True})
    assert Observability(**{name: False}) != Observability(**{name: None})


def test_a_level_of_the_program_itself_can_be_used() -> None:
    """Whatever `logging` knows by name."""
    logging.addLevelName(15, "NOTICE")
    try:
        assert "NOTICE" == Observability(enqueue="notice").enqueue
        assert "NOTICE" == Observability(enqueue=15).enqueue
    finally:
        logging._levelToName.pop(15)
        logging._nameToLevel.pop("NOTICE")


# ---------------------------------------------------------------- records


async def test_each_step_makes_a_record_with_its_facts(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for people, and run, attempt and trace id beside it for programs; of a failure type and message."""
    caplog.set_level(logging.INFO, LOG)
    jobs = declared()

    (run_id,) = await play(jobs, Raise(OSError("no\nroute")), Return(), trace_id="t-1", delay=10)

    which = f"run {run_id} of task work"
    assert [
        ("INFO", f"{which}: enqueued, due at 2027-01-15T12:00:10+00:00"),
        ("INFO", f"{which}: attempt 1 started, 0.000 s after it was due"),
        ("INFO", f"{which}: attempt 1 failed after 0.000 s: OSError: no\\nroute"),
        (
            "WARNING",
            rf"{which}: attempt 1 failed, the next one is due at 2027-01-15T12:00:15+00:00: OSError: no\nroute",
        ),
        ("INFO", f"{which}: attempt 2 started, 0.000 s after it was due"),
        ("INFO", f"{which}: attempt 2 succeeded after 0.000 s"),
    ] == [(record.levelname, record.getMessage()) for record in records(caplog)]
    retrying = vars(records(caplog)[3])
    expected = {
        "event": "retrying",
        "jobs": "default/j",
        "task": "work",
        "queue": "j-jobs",
        "run_id": run_id,
        "attempt": 1,
        "status": "retrying",
        "trace_id": "t-1",
        "cause": "failed",
        "error": "OSError: no\\nroute",
    }
    assert expected == {name: retrying[name] for name in expected}
    assert "secret" not in caplog.text


async def test_the_handlers_own_records_carry_the_same_names(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """One filter finds what a handler said and what was recorded of it."""
    caplog.set_level(logging.INFO, LOG)

    (run_id,) = await play(declared(), trace_id="t-1")

    said = [record for record in records(caplog) if record.getMessage() == "working"]
    names = ("run_id", "attempt", "task", "trace_id")
    assert [(run_id, 1, "work", "t-1")] == [tuple(vars(record)[name] for name in names) for record in said]
    started = next(record for record in records(caplog) if vars(record).get("event") == "started")
    assert (run_id, 1, "work", "t-1") == tuple(vars(started)[name] for name in names)


async def test_by_default_a_failure_is_seen_and_a_success_is_not(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure is one line at WARNING or above: that it is tried again, or that it was given up."""
    caplog.set_level(logging.WARNING, LOG)
    jobs = declared()

    await play(jobs, Return())
    await play(jobs, Raise(OSError()), Raise(OSError("still none")))
    await play(jobs, Raise(Discard("no such order")))

    lines = [(record.levelname, record.getMessage().split(": ", 1)[1]) for record in records(caplog)]
    assert [
        ("WARNING", "attempt 1 failed, the next one is due at 2027-01-15T12:00:05+00:00: OSError: "),
        ("ERROR", "dead-lettered after attempt 2 (2 of 2 attempts spent): OSError: still none"),
        ("ERROR", "dead-lettered after attempt 1 (no such order): Discard: no such order"),
    ] == lines


@pytest.mark.parametrize(
    ("setting", "events"),
    [
        ("enqueue", {"enqueued", "deduped"}),
        ("execution", {"started", "succeeded", "failed"}),
        ("retry", {"retrying", "unreadable"}),
        ("replay", {"replayed"}),
        ("dead_letter", {"dead_lettered"}),
    ],
)
async def test_each_setting_has_its_records(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture, setting: str, events: set[str]
) -> None:
    """The others are silent when they are told to be."""
    caplog.set_level(logging.DEBUG, LOG)
    off: dict[str, Any] = dict.fromkeys(["enqueue", "execution", "retry", "replay", "dead_letter"])
    jobs = declared(Observability(**(off | {setting: "DEBUG"})))

    async with simulate(jobs) as world:
        world.script("work", [Raise(Unreadable()), Raise(OSError()), Return(), Raise(OSError()), Raise(OSError())])
        run_id = (await jobs.enqueue("work", idempotency_key="k")).run_id
        await jobs.enqueue("work", idempotency_key="k")
        await world.advance(minutes=5)
        await jobs.runs.replay(run_id)
        await world.advance(minutes=5)

    facts = [vars(record) for record in records(caplog)]
    assert events == {each["event"] for each in facts if "event" in each and "raised:" not in each["msg"]}
    assert {"DEBUG"} == {each["levelname"] for each in facts if "event" in each}


async def test_a_traceback_is_for_whoever_reads_at_debug(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is long, and kept with the attempt: it is in the log on request, once for each attempt."""
    jobs = declared()
    caplog.set_level(logging.INFO, LOG)
    await play(jobs, Raise(OSError()), Raise(OSError()))
    assert "Traceback" not in caplog.text
    assert "line " not in caplog.text
    caplog.clear()

    caplog.set_level(logging.DEBUG, LOG)
    await play(jobs, Raise(OSError("here")), Raise(OSError()))

    raised = [record for record in records(caplog) if "raised:" in record.getMessage()]
    assert [("DEBUG", 1), ("DEBUG", 2)] == [(record.levelname, vars(record)["attempt"]) for record in raised]
    assert "OSError: here" in raised[0].getMessage()


async def test_a_level_that_is_set_later_is_obeyed(
    mock_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """By the next commit, in both directions, `logging.disable` too: nothing is remembered for longer."""
    jobs, log = declared(), logging.getLogger(LOG)

    async with simulate(jobs) as world:
        for level, disabled in (("WARNING", 0), ("INFO", 0), ("INFO", logging.INFO), ("INFO", 0), ("WARNING", 0)):
            caplog.set_level(level, LOG)
            logging.disable(disabled)
            await jobs.enqueue("work", run_id=f"{level} {disabled} {len(records(caplog))}")
            await world.until_idle()

    log.setLevel(logging.NOTSET)
    heard = {vars(record)["run_id"] for record in records(caplog) if vars(record).get("event") == "enqueued"}
    assert {"INFO 0 0", "INFO 0 4"} == heard


def test_the_program_loads_no_opentelemetry_by_itself() -> None:
    """Who does not use it does not pay for it: it is loaded when the program has done so."""
    code = (
        "import sys, trio, callsheet\n"
        "jobs = callsheet.Jobs('j')\n"
        "async def main():\n"
        "    async with jobs.open(':memory:'):\n"
        "        pass\n"
        "trio.run(main)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )

    assert "[]\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
