"""``models``, ``predict``, ``lineage``, ``rollback``: what was trained, what serves, what it says, and what it was made of."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from perdure.cli.output import Json, emit, emit_rows, fields, figures, note, table, when
from perdure.cli.people import Actor, person

PANEL = "Models"
TRIES = 3
At = Annotated[str | None, typer.Option(help="As it was then: a date or time (ISO 8601), local unless it has an offset.")]
models = typer.Typer(help="List models; show one with its versions and releases.", invoke_without_command=True)


@models.callback()
def list_models(ctx: typer.Context, at: At = None, as_json: Json = False) -> None:
    """List models, what serves of each and since when."""
    if ctx.invoked_subcommand is not None:
        return
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries import list_models as find

    with Database.open(read_settings()) as database:
        found = find(database, moment(at))
    if as_json:
        emit(found)
    else:
        table(
            ("model", "versions", "serves", "since", "released by"),
            [(m.model, m.versions, m.serves if m.serves is not None else "none", when(m.since), m.released_by) for m in found],
            right=("versions", "serves"),
            empty="no models; train one: perdure run PIPELINE",
        )


@models.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="The model.")],
    at: At = None,
    as_json: Json = False,
) -> None:
    """Show a model: its versions, its releases, and who released them."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_model as find

    with Database.open(read_settings()) as database:
        found = find(database, name, moment(at))
    if as_json:
        emit(found)
        return
    gates = {True: "passed", False: "failed", None: "not evaluated"}
    table(
        ("version", "", "trained", "dataset", "rounds", "gates", "metrics", "predictor", "run"),
        [
            (
                v.number,
                "serves" if v.serves else "",
                when(v.trained_at),
                v.dataset,
                v.rounds,
                gates[v.passed],
                figures(v.metrics or {}, limit=2),
                v.predictor_sha256[:12],
                v.run.removeprefix("run/"),
            )
            for v in found.versions
        ],
        right=("version", "rounds"),
    )
    print()
    table(
        ("version", "served since", "until", "released by", "why"),
        [(r["version"], when(r["since"]), when(r["until"]) or "now", r["actor"], r["reason"]) for r in found.releases],
        right=("version",),
        empty="no version was ever released",
    )


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="The released version of a model, or the version given.")],
    rows: Annotated[str, typer.Argument(metavar="ROWS", help="Raw rows: a JSON, NDJSON, CSV or TSV file, or - for stdin.")],
    as_json: Json = False,
) -> None:
    """Score raw rows with a model.

    The same predictor as in evaluation and serving gives the same scores. Prints a JSON array, one object per row; with --json
    the array comes in an object that also names the model, its version and its sha256.
    """
    from perdure.cli.clients import read_settings
    from perdure.cli.scoring import fetch, score, versioned
    from perdure.metadata.database import Database
    from perdure.metadata.repository import ModelRows

    settings = read_settings()
    name, number = versioned(model)
    with Database.open(settings) as database:
        version = ModelRows(database).find(name, number)
    scores = score(fetch(version, settings), rows)
    if as_json:
        emit({"model": version.model, "version": version.number, "sha256": version.predictor.sha256, "predictions": scores})
    else:
        note(f"{version.model} version {version.number} ({version.predictor.sha256[:12]}), {len(scores)} rows")
        emit_rows(scores)


def lineage(
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]|PREDICTION", help="A model, one version of it, or a prediction's id.")],
    at: At = None,
    as_json: Json = False,
) -> None:
    """Tell what a model was made of, who released it when, and what else took part in serving.

    Without a version: of the one that answers now, or answered at a past time. Of a prediction: which version made it, as what, and who
    said what of it when.
    """
    from perdure.cli.clients import read_settings
    from perdure.cli.scoring import versioned
    from perdure.errors import InvalidInput
    from perdure.metadata.database import Database
    from perdure.metadata.queries import lineage as find
    from perdure.metadata.queries import serving_at

    if "." in model:  # which no model's name has
        _prediction(model, moment(at), as_json=as_json)
        return
    name, number = versioned(model)
    if number is not None and at is not None:
        raise InvalidInput("a version and a time are two questions", field="--at", remedy="leave one of them out")
    with Database.open(read_settings()) as database:
        found = find(database, name, number, moment(at))
        serving = serving_at(database, name, moment(at) or datetime.now(UTC))
    if as_json:
        emit({**vars(found), "serving": serving})
        return
    origin = found.origin
    fields(
        {
            "model": f"{found.model} version {found.number}",
            "serving": ", ".join(_served(row) for row in serving) or "nothing",
            "trained": f"{when(origin['trained_at'])} by run {origin['run']}, asked for by {origin['requested_by']}",
            "pipeline": f"{origin['pipeline']} version {origin['pipeline_version']} ({origin['pipeline_sha256'][:12]})",
            "code": f"{origin['code_sha256'] or 'none'}{' commit ' + origin['git_commit'] if origin['git_commit'] else ''}",
            "dataset": f"{origin['dataset']}/{origin['dataset_version']}, {origin['train_rows']:,} rows, {origin['manifest_uri']}",
            "labels": ", ".join(sorted({edge["uri"] for edge in found.artifacts if edge["kind"] == "labels"})),
            "source": (origin["source"] or {}).get("uri"),
            "parameters": ", ".join(f"{k}={v}" for k, v in (origin["train"] or {}).get("params", {}).items()),
            "environment": origin["environment"],
            "metrics": figures(origin["metrics"] or {}, limit=20),
            "predictor": f"{origin['predictor_sha256']} {origin['predictor_uri']}",
        }
    )
    print()
    table(
        ("served since", "until", "released by", "why", "votes"),
        [(when(r["since"]), when(r["until"]) or "now", r["actor"], r["reason"], _votes(r["votes"])) for r in found.releases],
        empty="this version was never released",
    )


def _prediction(id: str, at: datetime | None, *, as_json: bool) -> None:
    """Tell who made a prediction, and what was said of it."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_prediction

    with Database.open(read_settings()) as database:
        found = show_prediction(database, id, at)
    if as_json:
        emit(found)
        return
    origin = found.origin
    fields(
        {
            "prediction": found.id,
            "model": f"{found.model} version {found.version}",
            "made": when(found.at),
            "served": ", ".join(_served(row) for row in found.served) or "no row of then",
            "trained": f"{when(origin['trained_at'])} by run {origin['run']}, asked for by {origin['requested_by']}",
            "dataset": f"{origin['dataset']}/{origin['dataset_version']}, {origin['manifest_uri']}",
            "predictor": f"{origin['predictor_sha256']} {origin['predictor_uri']}",
        }
    )
    print()
    table(
        ("when", "who", "says", "comment"),
        [(when(r["at"]), r["who"], r["verdict"] or f"it is {r['value']}", r["comment"]) for r in found.said],
        empty="nobody has said anything of it",
    )


def _served(row: dict[str, Any]) -> str:
    """One row of ``serving_history`` in words."""
    share = f" {row['share']:g} %" if row["share"] is not None else ""
    return f"version {row['version']} as {row['role']}{share} since {when(row['since'])}"


def rollback(
    model: Annotated[str, typer.Argument(help="The model.")],
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; recorded with the release.", show_default=False)],
    to: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, help="The version that serves then; default: the one released before.")
    ] = None,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Let the version that was released before serve again.

    One transaction of rows: serving processes keep that version loaded, so they switch at once. A candidate takes part no longer, and
    every promotion of the model that is under way is refused.
    """
    from uuid import uuid4

    from perdure.cli.clients import read_settings
    from perdure.errors import InvalidInput, StoreUnavailable
    from perdure.metadata.database import Database
    from perdure.metadata.repository import RollbackRows

    if not reason.strip():
        raise InvalidInput("a rollback needs a reason", field="--reason", remedy="say in a few words what was wrong")
    command = str(uuid4())  # one over all tries: a commit whose answer was lost counts once
    with Database.open(read_settings()) as database:
        rows = RollbackRows(database)
        for attempt in range(1, TRIES + 1):
            try:
                release = rows.rollback(model, to=to, reason=reason.strip(), actor=person(actor), command_id=command)
                break
            except StoreUnavailable:
                if attempt == TRIES:
                    raise
                time.sleep(attempt)
    if as_json:
        emit(release)
    else:
        note(f"version {release.number} of {model} serves since {when(release.since)}")


def moment(text: str | None, option: str = "--at") -> datetime | None:
    """The time that *text* names, in the local zone unless it says another. Raises InvalidInput."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as err:
        from perdure.errors import InvalidInput

        raise InvalidInput(f"{text!r} is no time", field=option, remedy="write it as 2026-11-22 or 2026-11-22T16:05:00+01:00") from err


def _votes(votes: object) -> str:
    return ", ".join(f"{vote['actor']} {vote['decision']}" for vote in votes) if isinstance(votes, list) else ""


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(models, name="models", rich_help_panel=PANEL)
    for command in (predict, lineage, rollback):
        app.command(rich_help_panel=PANEL)(command)
