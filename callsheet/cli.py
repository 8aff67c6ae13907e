"""
The command line: `callsheet`.

Rule: what a command needs is imported when it is called.
Not here: the commands (a module each), what is said when an extra is missing (`extras`).
"""

from typing import TYPE_CHECKING, Annotated

from . import __version__
from .extras import require

if TYPE_CHECKING:
    import typer


def main() -> None:
    """The console script."""
    require("cli", "typer", "rich")
    commands()(prog_name="callsheet")


def commands() -> "typer.Typer":
    """All of them."""
    import typer

    from .demo.command import demo

    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        add_completion=False,
        pretty_exceptions_enable=False,  # a traceback of ours is to be reported whole
        context_settings={"help_option_names": ["-h", "--help"]},
    )

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

    app.command()(demo)
    return app


if __name__ == "__main__":
    main()
