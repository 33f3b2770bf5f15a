"""``watch``: a run from now to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.commands import PANEL, Run, named_run
from perdure.cli.exits import Exit
from perdure.cli.output import Json, emit, note

if TYPE_CHECKING:
    from perdure.config import Settings

    pass


def watch(
    run: Run,
    timeout: Annotated[float | None, typer.Option(help="Stop watching after so many seconds, and end with 8.")] = None,
    as_json: Json = False,
) -> None:
    """Follow a run to its end.

    Draws on a terminal; in a file or a pipe it prints one line a change. Goes on while Postgres or Temporal is away. Ends with 0 if a model
    was released, with 1 if the run failed or its model was refused.
    """
    from perdure.cli.clients import read_settings

    settings = read_settings()
    follow_run(settings, _workflow_id(settings, run), as_json=as_json, timeout=timeout)


def _workflow_id(settings: Settings, run: str) -> str:
    """The workflow id of *run*; that of a run without a row is believed if Temporal knows it: no worker has taken it up yet."""
    from perdure.cli.clients import wait_for
    from perdure.cli.watching import look
    from perdure.errors import NotFound
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_run

    with Database.open(settings) as database:
        try:
            return show_run(database, named_run(database, run)).run.workflow_id
        except NotFound:
            if "/" not in run:
                raise
    name = f"run/{run.removeprefix('run/')}"
    wait_for(look(settings, name))
    return name


def follow_run(settings: Settings, name: str, *, as_json: bool, timeout: float | None = None) -> None:
    """Show run *name* until it ends; then raise `typer.Exit` with the code that its end has. A run without a row yet is waited for."""
    from perdure.cli.failures import explain
    from perdure.cli.progress import result_line
    from perdure.cli.screen import screen, target
    from perdure.cli.watching import Watcher

    deadline = time.monotonic() + timeout if timeout is not None else None
    stream = target(as_json=as_json)
    watcher = Watcher(settings, name)
    try:
        with watcher, screen(watcher, stream) as say:
            for view in watcher.looks():
                say(view)
                if deadline is not None and time.monotonic() > deadline and not (view.run and view.run.ended):
                    break
    except KeyboardInterrupt:
        note(f"\nthe run goes on; to watch it again: perdure watch {name}; to end it: perdure cancel {name}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    run = watcher.run
    if as_json:
        emit(run if run is not None else {"workflow_id": name, "state": "unknown"})
    if run is None or not run.ended:
        note(f"{name} still goes on")
        raise typer.Exit(Exit.UNFINISHED)
    print(result_line(run), file=stream, flush=True)
    if run.error:
        explain(run.error, lambda text: print(text, file=stream, flush=True))
    if not run.is_good:
        raise typer.Exit(Exit.FAILED)
    if run.scores:
        note(f"  see it: perdure datasets show {run.scores.removeprefix('data set ')}")
    else:
        note(f"  use it: perdure predict {run.model} rows.json")


def add(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=PANEL)(watch)
