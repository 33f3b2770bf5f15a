"""``outcomes``, ``feedback`` and ``predictions``: what became known about predictions, and the predictions themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli.output import Json, emit, emit_rows, note, table, when
from perdure.cli.people import Actor, person

if TYPE_CHECKING:
    from perdure.cli.outcome_rows import Loaded

PANEL = "Models"
outcomes = typer.Typer(help="Tell the truth about predictions, and see how much of it is known.", no_args_is_help=True)
feedback = typer.Typer(help="What users said of predictions.", no_args_is_help=True)
predictions = typer.Typer(help="What models said.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
_ISO = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Since = Annotated[datetime | None, typer.Option(formats=_ISO, help="From this time on, in UTC; default: a day before the end.")]
Until = Annotated[datetime | None, typer.Option(formats=_ISO, help="Until before this time, in UTC; default: now.")]


@outcomes.command("load")
def load_outcomes(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="csv or parquet: prediction_id, value, observed_at if known.")],
    model: Annotated[str, typer.Option(help="The model that predicted; other rows are refused.")],
    source: Annotated[str | None, typer.Option(help="Who knows it; default: file: and the actor.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Take values of a csv as text, also where they are numbers.")] = False,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Store the outcomes of a file. A file that was loaded in part, or before, may be loaded again: nothing counts twice."""
    from perdure.cli.clients import read_settings
    from perdure.cli.outcome_rows import load
    from perdure.metadata.database import Database
    from perdure.metadata.repository.feedback import FeedbackRows

    with Database.open(read_settings()) as database:
        _tell(load(file, model, f"file:{source or person(actor)}", FeedbackRows(database), text=text), as_json=as_json)


def _tell(loading: Iterator[Loaded], *, as_json: bool) -> None:
    """Load to the end, and say what came of it."""
    told: dict[str, Any] = {"rows": 0, "new": 0, "duplicates": 0, "wrong": 0, "refused": []}
    for done in loading:
        told = vars(done)
        if done.rows % 100_000 == 0:
            note(f"{done.rows:,} rows")
    if as_json:
        emit(told)
    else:
        for each in told["refused"]:
            note(f"row {each['row']}: {each['error']}")
        note(f"{told['rows']:,} rows: {told['new']:,} new, {told['duplicates']:,} known already, {told['wrong']:,} refused")
    if told["wrong"]:
        raise typer.Exit(1)


@outcomes.command("coverage")
def outcome_coverage(
    model: Model,
    since: Since = None,
    until: Until = None,
    window: Annotated[float, typer.Option(min=0, help="Hours after a prediction in which its outcome counts.")] = 24.0,
    as_json: Json = False,
) -> None:
    """Show how many predictions of an interval got their outcome in time, too late, or not."""
    from perdure.cli.clients import read_settings
    from perdure.jobs.joining import coverage, days, frame, joined
    from perdure.metadata.database import Database
    from perdure.metadata.repository.outcomes import OutcomeRows

    settings, (start, end), now = read_settings(), _interval(since, until), datetime.now(UTC)
    log, late = _log(settings, model, start, end), timedelta(hours=window)
    total = dict.fromkeys(("predictions", "matured", "joined", "late", "missing"), 0)
    with Database.open(settings) as database:
        pages = OutcomeRows(database).received(model, start, now + timedelta(minutes=1))
        known = frame(each for page in pages for each in page).lazy()
    if log is not None:
        for first, last in days(start, end):
            part = coverage(joined(log, known, since=first, until=last, window=late), window=late, now=now)
            total = {name: count + getattr(part, name) for name, count in total.items()}
    if as_json:
        emit({"model": model, "since": start, "until": end, **total})
        return
    whole = total["joined"] + total["late"] + total["missing"]
    rows = [(name, f"{total[name]:,}", f"{total[name] / whole:.1%}" if whole else "") for name in ("joined", "late", "missing")]
    table(("outcome", "predictions", "share"), rows, right=("predictions", "share"))
    note(f"{total['predictions']:,} predictions, of which {total['matured']:,} are older than {window:g} hours")


@feedback.command("load")
def load_words(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="csv or parquet: prediction_id, verdict; comment, user.")],
    model: Annotated[str, typer.Option(help="The model that predicted; other rows are refused.")],
    source: Annotated[str | None, typer.Option(help="Where it was said; default: file: and the actor.")] = None,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Store what users said, from a file: right, wrong or unsure. The same word of the same user again changes nothing."""
    from perdure.cli.clients import read_settings
    from perdure.cli.outcome_rows import load_feedback
    from perdure.metadata.database import Database
    from perdure.metadata.repository.feedback import FeedbackRows

    with Database.open(read_settings()) as database:
        _tell(load_feedback(file, model, f"file:{source or person(actor)}", FeedbackRows(database)), as_json=as_json)


@feedback.command("list")
def list_words(
    model: Annotated[str | None, typer.Option(help="Of this model alone.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only these: right, wrong, unsure.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many.")] = 100,
    as_json: Json = False,
) -> None:
    """List what users said of predictions, the newest first, with what is known since."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.feedback import list_feedback

    with Database.open(read_settings()) as database:
        found = list_feedback(database, model=model, verdict=verdict, limit=limit)
    if as_json:
        emit_rows(found)
        return
    table(
        ("at", "prediction", "who", "verdict", "outcome", "comment"),
        [
            (when(row.at), row.prediction_id, row.principal, row.verdict, "" if row.outcome is None else row.outcome, row.comment)
            for row in found
        ],
        empty="nobody has said anything",
    )


@predictions.command("export")
def export_predictions(model: Model, since: Since = None, until: Until = None) -> None:
    """Print the predictions of an interval as CloudEvents, one JSON document a line, hour by hour."""
    import polars as pl

    from perdure.cli.clients import read_settings
    from perdure.serving.cloudevents import event

    start, end = _interval(since, until)
    log = _log(read_settings(), model, start, end)
    if log is None:
        note(f"there are no predictions of {model}")
        return
    while start < end:
        upto = min(start + timedelta(hours=1), end)
        day = pl.col("date").is_between(start.date(), upto.date())
        part = log.filter(day, pl.col("time") >= start, pl.col("time") < upto).collect(engine="streaming").sort("time", "id")
        for row in part.iter_rows(named=True):
            sys.stdout.write(json.dumps(event(model, row), ensure_ascii=False, default=str) + "\n")
        start = upto


def _interval(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    end = until.replace(tzinfo=UTC) if until else datetime.now(UTC)
    return (since.replace(tzinfo=UTC) if since else end - timedelta(days=1)), end


def _log(settings: Any, model: str, since: datetime, until: datetime) -> Any:
    from perdure.adapters.delta_log import DeltaLog
    from perdure.adapters.s3 import ObjectStore

    objects = ObjectStore(settings.s3)
    return DeltaLog(objects, objects.uri(f"inference/{model}")).scan(since.date(), until.date())


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(predictions, name="predictions", rich_help_panel=PANEL)
    app.add_typer(outcomes, name="outcomes", rich_help_panel=PANEL)
    app.add_typer(feedback, name="feedback", rich_help_panel=PANEL)
