"""``experiments``: which versions are compared by what came of their answers, and what each look said."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.output import Json, emit, fields, lasting, table, when

if TYPE_CHECKING:
    from perdure.metadata.queries.experiments import ExperimentDetail, Look

PANEL = "Models"
experiments = typer.Typer(help="List experiments; show one with every look at it.", no_args_is_help=True)


@experiments.command("list")
def list_experiments(
    model: Annotated[str | None, typer.Argument(help="Only this model's.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many.")] = 100,
    as_json: Json = False,
) -> None:
    """List experiments, the newest first: the candidate against the version that was released, and how it stands."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.experiments import list_experiments as find

    with Database.open(read_settings()) as database:
        found = find(database, model=model, limit=limit)
    if as_json:
        emit(found)
        return
    table(
        ("model", "candidate", "against", "metric", "state", "since", "until", "why"),
        [
            (e.model, e.challenger, e.champion, e.spec["metric"], e.state, when(e.started_at), when(e.ended_at), e.reason.partition(":")[0])
            for e in found
        ],
        right=("candidate", "against"),
        empty="no experiments; they are a stage of promote.rollout, see docs/experiments.md",
    )


@experiments.command("show")
def show_experiment(
    name: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="A model's newest experiment, or that of a candidate; or an id.")],
    as_json: Json = False,
) -> None:
    """Show an experiment: what is compared, each look with its interval, and what followed."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.experiments import show_experiment as find

    with Database.open(read_settings()) as database:
        found = find(database, name)
    if as_json:
        emit(found)
    else:
        _print(found)


def _print(found: ExperimentDetail) -> None:
    spec = found.spec
    fields(
        {
            "experiment": found.id,
            "model": f"{found.model}: version {found.challenger} against {found.champion}",
            "metric": f"{spec['metric']}, {'lower' if spec['metric'] == 'error' else 'higher'} is better",
            "share": f"{spec['share']:g} % of the units",
            "run": found.run,
            "since": when(found.started_at),
            "until": when(found.ended_at),
            "state": found.state,
            "why": found.reason,
        }
    )
    print()
    table(
        ("look", "after", "units", "of candidate", "of released", "gain", "interval"),
        [_row(look, found.started_at) for look in found.looks],
        right=("look", "units", "of candidate", "of released", "gain"),
        empty="not looked at yet",
    )


def _row(look: Look, since: datetime) -> tuple[object, ...]:
    one, other, gain = look.challenger, look.champion, look.gain
    units = f"{one['units']:,} + {other['units']:,}"
    told = (f"{gain['difference']:+.4g}", f"{gain['low']:+.4g} to {gain['high']:+.4g}") if gain else ("", "")
    return look.number, lasting(look.at - since), units, _mean(one["mean"]), _mean(other["mean"]), *told


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(experiments, name="experiments", rich_help_panel=PANEL)
