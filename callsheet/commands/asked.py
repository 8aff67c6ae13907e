"""
What commands can be asked: the options that several of them share, and how times and durations are typed.

Rule: what is typed wrong is told with the option that it was typed for, and nothing is opened.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from ..store.records import instant
from .text import duration_s

STORE_VARIABLE: Final = "CALLSHEET_STORE"
JOBS_VARIABLE: Final = "CALLSHEET_JOBS"

StoreOption = Annotated[
    str | None,
    typer.Option("--store", envvar=STORE_VARIABLE, metavar="PATH", help="The database: its path, or sqlite:///path."),
]
JobsOption = Annotated[
    str | None,
    typer.Option(
        "--jobs",
        envvar=JOBS_VARIABLE,
        metavar="NAME",
        help="Which jobs: namespace/name as published in the store (the only ones there, if left out), or module:attribute.",
    ),
]
SubjectOption = Annotated[
    str | None,
    typer.Option(
        "--subject", metavar="WHO", help="On whose behalf, for the policy of the jobs.", show_default="cli:you"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON in ASCII, times as RFC 3339.")]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="Show the traceback of a module that cannot be imported.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Kept with the run.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
EveryOption = Annotated[bool, typer.Option("--all", help="Every run that matches the filters.")]

TaskFilter = Annotated[str | None, typer.Option("--task", metavar="NAME", help="Only of this task.")]
QueueFilter = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Only of this queue.")]
StatusFilter = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Only queued, scheduled, running, retrying, succeeded, dead-lettered or canceled ones.",
    ),
]
KeyFilter = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only the one with this idempotency key.")]
TraceFilter = Annotated[str | None, typer.Option("--trace-id", metavar="ID", help="Only of this trace.")]
OriginFilter = Annotated[str | None, typer.Option("--replay-of", metavar="RUN", help="Only replays of this run.")]
ScheduleFilter = Annotated[
    str | None, typer.Option("--schedule", metavar="KEY", help="Only those that this schedule requested.")
]
SinceFilter = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Only what was requested since then: 2h ago, or 2026-07-01T08:00Z."),
]
BeforeFilter = Annotated[
    str | None, typer.Option("--before", metavar="WHEN", help="Only what was requested before then; as --since.")
]

DelayOption = Annotated[
    str | None, typer.Option("--delay", metavar="TIME", help="Not before so long from now: 90, 15m, 2h, 1d.")
]
RunAtOption = Annotated[
    str | None, typer.Option("--run-at", metavar="WHEN", help="Not before this time: 2026-07-01T08:00Z.")
]


class Misuse(typer.BadParameter):
    """Wrong use that is a sentence of its own."""

    def format_message(self) -> str:
        """See the class."""
        return self.message


def wrong(option: str, why: str) -> typer.BadParameter:
    """What to raise for an option that was typed wrong."""
    return typer.BadParameter(why, param_hint=f"'{option}'")


def duration(text: str | None, option: str) -> float | None:
    """Seconds. Raises BadParameter."""
    if text is None:
        return None
    found = duration_s(text)
    if found is None:
        raise wrong(option, f"{text!a} is no duration: write seconds, or 15m, 2h, 1d")
    return found


def moment(text: str | None, option: str, now_us: int) -> datetime | None:
    """A time, or how long ago. Raises BadParameter."""
    if text is None:
        return None
    ago_s = duration_s(text.removesuffix(" ago"))
    try:
        when = datetime.fromisoformat(text) if ago_s is None else instant(now_us) - timedelta(seconds=ago_s)
    except (ValueError, OverflowError):
        raise wrong(option, f"{text!a} is no time: write 2026-07-01T08:00Z, or how long ago: 15m, 2h, 1d") from None
    if when.utcoffset() is None:
        raise wrong(option, f"{text!a} has no time zone: write 2026-07-01T08:00Z, or how long ago: 15m, 2h, 1d")
    return when


def refuse_early(context: typer.Context) -> None:
    """Refuse the options of a list that were typed before another command of its group: they would hold for nothing."""
    for name in ("store", "jobs", "as_programs_want", "subject", "traceback"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "json" if name == "as_programs_want" else name
            raise wrong(f"--{option}", f"it goes after {context.invoked_subcommand}")
