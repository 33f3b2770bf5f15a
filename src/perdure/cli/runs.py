"""``run``, ``runs``, ``show``: start a run, list runs, and everything about one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perdure.cli.commands import PANEL, Run, named_run
from perdure.cli.output import Json, emit, note, table
from perdure.cli.people import Actor, person

Param = Annotated[list[str] | None, typer.Option("--param", "-p", help="Override one of train.params: name=value. May be repeated.")]


def run(
    pipeline: Annotated[str, typer.Argument(help="An applied pipeline, or a specification file: it is applied first.")],
    param: Param = None,
    key: Annotated[str | None, typer.Option(help="The run's name within its pipeline; default: the time. A key is used once.")] = None,
    version: Annotated[str | None, typer.Option(help="The beginning of a version's sha256; default: the newest.")] = None,
    cutoff: Annotated[str | None, typer.Option(help="Leave out later rows, by the column of a split by time; UTC.")] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Reuse results of earlier runs.")] = True,
    recompute: Annotated[str | None, typer.Option("--from", metavar="STEP", help="Compute this step and what follows it again.")] = None,
    follow: Annotated[bool, typer.Option("--watch/--detach", help="Show progress until the end, or return at once.")] = True,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be computed and why.")] = False,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Start a run of a pipeline, and watch it.

    Ends with 0 if a model was released, with 1 if the run failed or its model was refused. Ctrl-C stops watching, not the run.
    """
    from perdure.cli import starting
    from perdure.cli.clients import read_settings, wait_for
    from perdure.cli.watch import follow_run
    from perdure.messages.pipeline import RunRequest
    from perdure.metadata.database import Database
    from perdure.spec.pipeline import load, with_cutoff, with_params

    settings, who = read_settings(), person(actor)
    params, step = starting.parameters(param or []), starting.step(recompute)  # told before any server is asked
    until = starting.cutoff(cutoff) if cutoff is not None else None
    if key is not None:
        starting.workflow_id("x", key)
    with Database.open(settings) as database:
        found = starting.version_of(pipeline, version, database, settings, who)
        spec = with_cutoff(with_params(load(found.spec), params), until)
        request = RunRequest(
            pipeline=found.name,
            version=found.sha256,  # what was checked here is what runs, whoever applies another version meanwhile
            params=params,
            cache=cache,
            recompute_from=step,
            cutoff=until,
            requested_by=who,
        )
        if dry:
            _tell(database, found, spec.as_json(), request, as_json=as_json)
            return
    name = starting.workflow_id(found.name, key or starting.new_key())
    execution = wait_for(starting.start(settings, name, request))
    if follow:
        follow_run(settings, name, as_json=as_json)
    elif as_json:
        emit({"workflow_id": name, "temporal_run_id": execution, "pipeline": found.name, "version": found.number})
    else:
        note(f"started {name}")
        note(f"  follow it: perdure watch {name}")


def _tell(database: Any, version: Any, spec: dict[str, Any], request: Any, *, as_json: bool) -> None:
    from perdure.cli.dryrun import ASSUMED, foretell

    told = foretell(database, version, spec, request)
    if as_json:
        emit({"pipeline": version.name, "version": version.number, "assumed": ASSUMED, "steps": told})
        return
    table(("step", "would be", "why"), [(each.step, "computed" if each.computed else "reused", each.why) for each in told])
    note(f"nothing was started; this is {ASSUMED}")


def runs(
    pipeline: Annotated[str | None, typer.Argument(help="Only runs of this pipeline.")] = None,
    state: Annotated[str | None, typer.Option(help="Only runs in this state: live, running, paused, succeeded, failed, …")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, the newest first."""
    from perdure.cli.clients import read_settings
    from perdure.cli.details import run_row
    from perdure.metadata.database import Database
    from perdure.metadata.queries import list_runs

    with Database.open(read_settings()) as database:
        found = list_runs(database, pipeline=pipeline, state=state, limit=limit)
    if as_json:
        emit(found)
    else:
        table(
            ("run", "state", "started", "took", "by", ""),
            [run_row(each) for each in found],
            empty="no runs; start one: perdure run PIPELINE",
        )


def show(run: Run, as_json: Json = False) -> None:
    """Show a run: steps, jobs, figures, gates, votes, errors and remedies."""
    from perdure.cli.clients import read_settings
    from perdure.cli.details import print_run
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_run

    with Database.open(read_settings()) as database:
        detail = show_run(database, named_run(database, run))
    if as_json:
        emit(detail)
    else:
        print_run(detail)


def add(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (run, runs, show):
        app.command(rich_help_panel=PANEL)(command)
