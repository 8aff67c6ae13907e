"""
The command line: `callsheet`.

Rule: what a command needs is imported when it is called.
Not here: the commands (`commands`, a module each), what is said when an extra is missing (`extras`).
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

from . import __version__
from .extras import require

if TYPE_CHECKING:
    import typer

INTERRUPTED: Final = 130
"""The exit status after a Ctrl-C, as in `commands.statuses`, which is not loaded yet."""


def main() -> None:
    """The console script."""
    try:
        require("cli", "typer", "rich")
        app = commands()  # to load it all takes a moment
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    app(prog_name="callsheet")


def commands() -> "typer.Typer":
    """All of them."""
    import typer

    from .commands import details, doctor, enqueue, queues, run, runs, schedules, snapshot, statuses, steering
    from .commands.group import Group
    from .commands.paper import is_terminal
    from .demo.command import demo

    markup = "markdown" if is_terminal(sys.stdout) else None  # boxes are for eyes

    def group(*, alone: bool = False, **options: Any) -> typer.Typer:
        return typer.Typer(
            no_args_is_help=not alone,
            invoke_without_command=alone,
            rich_markup_mode=markup,  # type: ignore[arg-type] # a literal type that older releases do not export
            add_completion=False,
            pretty_exceptions_enable=False,  # a traceback of ours is to be reported whole
            context_settings={"help_option_names": ["-h", "--help"]},
            **options,
        )

    app = group(cls=Group, epilog=statuses.told(markdown=markup is not None))

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"callsheet {__version__}")
            raise typer.Exit

    @app.callback()
    def callsheet(
        version: Annotated[
            bool, typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True)
        ] = False,
    ) -> None:
        """Durable background jobs as supervised actors, inside a trio program."""

    app.command("run")(run.run)
    app.command("enqueue")(enqueue.enqueue)
    about_runs = group(help="Look at runs; cancel and replay them.")
    about_runs.command("list")(runs.show_list)
    about_runs.command("show")(details.show)
    about_runs.command("why")(runs.why)
    about_runs.command("wait")(runs.wait)
    about_runs.command("cancel")(steering.cancel)
    about_runs.command("replay")(steering.replay)
    app.add_typer(about_runs, name="runs")
    about_queues = group(alone=True)
    about_queues.callback()(queues.at_once)
    about_queues.command("list")(queues.show_queues)
    about_queues.command("pause")(queues.pause)
    about_queues.command("resume")(queues.resume)
    about_queues.command("set")(queues.set_limits)
    about_queues.command("reset")(queues.reset)
    app.add_typer(about_queues, name="queues")
    about_schedules = group(alone=True)
    about_schedules.callback()(schedules.at_once)
    about_schedules.command("list")(schedules.show_list)
    about_schedules.command("show")(schedules.show)
    about_schedules.command("preview")(schedules.preview)
    about_schedules.command("history")(schedules.history)
    about_schedules.command("every")(schedules.every)
    about_schedules.command("cron")(schedules.cron)
    about_schedules.command("pause")(schedules.pause)
    about_schedules.command("resume")(schedules.resume)
    about_schedules.command("trigger")(schedules.trigger)
    about_schedules.command("delete")(schedules.delete)
    app.add_typer(about_schedules, name="schedules")
    app.command("snapshot")(snapshot.snapshot)
    app.command("doctor")(doctor.doctor)
    app.command("demo")(demo)
    return app


if __name__ == "__main__":
    main()
