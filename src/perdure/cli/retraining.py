"""``retrain``, ``backfill``: why a model is trained again or not, people's commands, and runs over data cut-offs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.output import Json, emit, fields, note, table, when
from perdure.cli.people import Actor, person

if TYPE_CHECKING:
    from perdure.metadata.queries.retraining import Why

PANEL = "Models"
MOST = 10_000  # cut-offs of one backfill
retrain = typer.Typer(help="Tell why a model is trained again or not; force or snooze that.", no_args_is_help=True)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name.")]


@retrain.command("why")
def why_retrain(
    model: Model,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many decisions, the newest first.")] = 20,
    closed: Annotated[bool, typer.Option("--closed", help="Also episodes that have ended.")] = False,
    as_json: Json = False,
) -> None:
    """Tell every decision about training a model again, also not to, with its reasons; open episodes; and what waits for what."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.retraining import why

    with Database.open(read_settings()) as database:
        found = why(database, model, limit=limit, closed=closed)
    if as_json:
        emit(found)
    else:
        _tell(found)


def _tell(found: Why) -> None:
    fields(
        {
            "model": found.model,
            "pipeline": found.pipeline,
            "running": found.running,
            "snoozed until": when(found.snoozed_until) if found.snoozed_until and found.snoozed_until > datetime.now(UTC) else None,
            "not looked at yet": f"{found.undecided} drift events" if found.undecided else None,
            "waits": "\n".join(f"{each.kind}: {each.text or '-'} (since {when(each.at)})" for each in found.waiting),
        }
    )
    print()
    table(
        ("episode", "kind", "state", "windows", "quiet", "since"),
        [(each.monitor, each.kind, each.state, each.hits, each.misses, when(each.opened_at)) for each in found.episodes],
        right=("windows", "quiet"),
        empty="no episodes are open",
    )
    print()
    table(
        ("decided", "outcome", "events", "came of it", "why"),
        [(when(each.at), each.outcome, each.events, each.result or each.workflow_id, each.reason) for each in found.decisions],
        right=("events",),
        empty="nothing was decided yet",
    )


@retrain.command("force")
def force_retrain(
    model: Model,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; recorded with the decision.")],
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Train a model now, whatever the policy says; if a run of it goes on, after that."""
    from perdure.messages.retraining import Force

    _command(model, "force", Force(actor=person(actor), reason=reason))
    if as_json:
        emit({"model": model, "command": "force"})
    else:
        note(f"{model} is trained; `perdure retrain why {model}` tells the run")


@retrain.command("snooze")
def snooze_retrain(
    model: Model,
    until: Annotated[str, typer.Option(help="A date or time (ISO 8601), local unless it has an offset; `now`: no longer.")],
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; recorded with the decision.", show_default=False)] = "",
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Do nothing by itself about a model until a time; what is said about it is kept."""
    from perdure.cli.models import moment
    from perdure.messages.retraining import Snooze

    at = None if until == "now" else moment(until, "--until")
    _command(model, "snooze", Snooze(until=at, actor=person(actor), reason=reason))
    if as_json:
        emit({"model": model, "command": "snooze", "until": at})
    else:
        note(f"{model} is snoozed until {when(at)}" if at else f"{model} is no longer snoozed")


def _command(model: str, name: str, argument: object) -> None:
    """Say it to the model's controller, which begins with it where there is none yet."""
    from perdure.cli.clients import read_settings, temporal, wait_for
    from perdure.cli.commands import update
    from perdure.cli.starting import QUEUE, START
    from perdure.messages.retraining import ControllerRequest

    workflow_id = f"retrain/{model}"

    async def begin() -> None:
        from temporalio.common import WorkflowIDConflictPolicy

        async with temporal(read_settings(), workflow_id) as client:
            await client.start_workflow(
                "RetrainingController",
                ControllerRequest(model=model),
                id=workflow_id,
                task_queue=QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=START,
            )

    wait_for(begin())
    update(workflow_id, name, argument, what="controller")


def backfill(
    pipeline: Annotated[str, typer.Argument(help="An applied pipeline whose data are split by time.")],
    begin: Annotated[str, typer.Option("--from", help="The first data cut-off: a date or time (ISO 8601), UTC unless it has an offset.")],
    end: Annotated[str, typer.Option("--to", help="The last data cut-off, at the most.")],
    every: Annotated[str, typer.Option(help="Between two cut-offs: 7d, 24h, …")] = "1d",
    version: Annotated[str | None, typer.Option(help="The beginning of a version's sha256; default: the newest.")] = None,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Run a pipeline once for each data cut-off, oldest first, one after the other.

    Each run leaves out later rows, is judged against the model before it, and has the cut-off in its name; the same again is left alone.
    """
    from perdure.cli.clients import read_settings, temporal, wait_for
    from perdure.cli.starting import QUEUE, START
    from perdure.messages.controller import BackfillRequest
    from perdure.metadata.database import Database
    from perdure.metadata.repository import RunRows
    from perdure.spec.pipeline import load, with_cutoff

    cutoffs = _cutoffs(begin, end, every)
    settings = read_settings()
    with Database.open(settings) as database:
        found = RunRows(database).pipeline(pipeline, version)
    with_cutoff(load(found.spec), cutoffs[0])
    request = BackfillRequest(pipeline=found.name, cutoffs=cutoffs, version=found.sha256, requested_by=person(actor))
    workflow_id = f"backfill/{found.name}/{cutoffs[0]:%Y%m%dT%H%M%SZ}-{cutoffs[-1]:%Y%m%dT%H%M%SZ}"

    async def start() -> None:
        from temporalio.common import WorkflowIDConflictPolicy

        async with temporal(settings, workflow_id) as client:
            await client.start_workflow(
                "Backfill",
                request,
                id=workflow_id,
                task_queue=QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                rpc_timeout=START,
            )

    wait_for(start())
    if as_json:
        emit({"workflow_id": workflow_id, "pipeline": found.name, "cutoffs": cutoffs})
    else:
        note(f"started {workflow_id}: {len(cutoffs)} runs, one after the other")
        note(f"  see them: perdure runs {found.name}")


def _cutoffs(begin: str, end: str, every: str) -> list[datetime]:
    """The cut-offs from *begin* to *end*, in UTC. Raises InvalidInput."""
    from pydantic import TypeAdapter, ValidationError

    from perdure.cli.starting import cutoff
    from perdure.errors import InvalidInput
    from perdure.spec.fields import Duration

    try:
        step: timedelta = TypeAdapter(Duration).validate_python(every)
    except ValidationError as err:
        raise InvalidInput(f"{every!r} is no duration", field="--every", remedy="write it as 24h or 7d") from err
    first, last = (cutoff(text, option) for text, option in ((begin, "--from"), (end, "--to")))
    if step < timedelta(minutes=1):
        raise InvalidInput("at least a minute lies between two cut-offs", field="--every", remedy="write it as 24h or 7d")
    if last < first:
        raise InvalidInput(f"{end} is before {begin}", field="--to", remedy="give the earlier one as --from")
    count = int((last - first) / step) + 1
    if count > MOST:
        raise InvalidInput(f"that would be {count:,} runs, more than {MOST:,}", field="--every", remedy="take fewer cut-offs")
    return [first + step * number for number in range(count)]


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(retrain, name="retrain", rich_help_panel=PANEL)
    app.command(rich_help_panel="Runs")(backfill)
