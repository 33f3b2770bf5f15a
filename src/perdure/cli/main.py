"""``perdure``: assembles the commands, and ends every one of them in the same way."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from perdure.cli.output import JSON


class Commands(TyperGroup):
    """The command tree. Errors become a message, a remedy and an exit code here, and nowhere else."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Exception as err:
            if type(err).__module__.partition(".")[0] in ("typer", "click") or isinstance(err, BrokenPipeError):
                raise  # a usage error, a wanted exit, a reader that closed its pipe
            from perdure.cli.failures import report

            raise typer.Exit(report(err, as_json=bool(ctx.meta.get(JSON)))) from err


app = typer.Typer(
    cls=Commands,
    name="perdure",
    help="Durable workflows for the life of machine-learning models.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"perdure {version('perdure')}")
        raise typer.Exit


@app.callback()
def everywhere(
    home: Annotated[Path | None, typer.Option(help="The data folder; default: $PERDURE_HOME, else the nearest .perdure.")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Options of all commands."""
    if home is not None:
        os.environ["PERDURE_HOME"] = str(home.absolute())


def _assemble() -> None:
    """Add every group of commands; the order here is the order in the help."""
    from perdure.cli import (
        access,
        batch,
        campaigns,
        commands,
        database,
        datasets,
        drift,
        experiments,
        feedback,
        labelers,
        logs,
        models,
        pipelines,
        retraining,
        runs,
        stack,
        watch,
    )

    for module in (
        stack,
        logs,
        pipelines,
        runs,
        watch,
        commands,
        datasets,
        models,
        experiments,
        feedback,
        drift,
        retraining,
        batch,
        campaigns,
        labelers,
        access,
        database,
    ):
        module.add(app)


_assemble()


def run() -> None:
    """The entry point. Ends the process itself, at once and with the right code.

    Temporal's client has a thread that may still hold the interpreter while it shuts down: about every third short command would die of
    SIGABRT or SIGSEGV after its work is done (sdk-python issue 300). There is nothing left to clean up but the streams.
    """
    code: int | str | None = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1
    os._exit(code if isinstance(code, int) else int(bool(code)))


if __name__ == "__main__":
    run()
