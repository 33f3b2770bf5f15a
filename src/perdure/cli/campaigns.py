"""``campaigns``, ``labels``, ``affected``: what people are asked, what they answered, and where it went."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import figures
from perdure.cli.commands import Reason
from perdure.cli.output import Json, emit, fields, note, table, when
from perdure.cli.people import Actor, person

if TYPE_CHECKING:
    from perdure.labeling.ports import CampaignRow, Progress
    from perdure.metadata.queries.elsewhere import ElsewhereDetail

PANEL = "Labeling"
campaigns = typer.Typer(help="List labeling campaigns; show, pause, resume, extend or close one.", invoke_without_command=True)
labels = typer.Typer(help="What campaigns came to.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="A campaign's name, or its workflow id.")]
Version = Annotated[int | None, typer.Option("--version", help="Only if the campaign is still at this version.")]
State = Annotated[str | None, typer.Option(help="Only campaigns in this state: open, paused, closed.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")]


@campaigns.callback()
def callback(ctx: typer.Context, as_json: Json = False) -> None:
    """List campaigns, the newest first."""
    if ctx.invoked_subcommand is None:
        _list(None, 20, as_json=as_json)


@campaigns.command("list")
def list_campaigns(state: State = None, limit: Limit = 20, as_json: Json = False) -> None:
    """List campaigns, the newest first; the same as `campaigns` alone."""
    _list(state, limit, as_json=as_json)


def _list(state: str | None, limit: int, *, as_json: bool) -> None:
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.campaigns import list_campaigns as find

    with Database.open(read_settings()) as database:
        found = find(database, state=state, limit=limit)
    if as_json:
        emit([_plain(row) for row in found])
        return
    table(
        ("campaign", "state", "decided", "of", "deadline", "owner", ""),
        [
            (row.name, row.state, row.decided, row.total, when(row.deadline), row.spec.owner, (row.closed_reason or "")[:60])
            for row in found
        ],
        right=("decided", "of"),
        empty="no campaigns; docs/labeling.md says how to start one",
    )


@campaigns.command("show")
def show_campaign(name: Name, as_json: Json = False) -> None:
    """Show a campaign: tasks, answers, labelers, snapshots."""
    from perdure.cli.clients import read_settings
    from perdure.errors import NotFound
    from perdure.metadata.database import Database
    from perdure.metadata.queries.campaigns import campaign_progress, campaign_snapshot
    from perdure.metadata.queries.elsewhere import campaign_elsewhere

    with Database.open(read_settings()) as database:
        progress = campaign_progress(database, _named(database, name).id)
        elsewhere = campaign_elsewhere(database, progress.campaign.id)
        try:
            snapshot = campaign_snapshot(database, progress.campaign.id, None)
        except NotFound:
            snapshot = None
    if as_json:
        counted = {"tasks": progress.tasks, "annotations": progress.annotations, "labelers": progress.labelers}
        emit(_plain(progress.campaign) | counted | {"snapshot": snapshot, "labelstudio": elsewhere})
        return
    _tell(progress, snapshot, elsewhere)


def _tell(progress: Progress, snapshot: Any, elsewhere: ElsewhereDetail | None) -> None:
    row = progress.campaign
    fields(
        {
            "campaign": f"{row.name} (version {row.version}, workflow {row.workflow_id})",
            "question": row.spec.question,
            "choices": ", ".join(row.spec.choices) or "a number",
            "state": f"{row.state}{': ' + row.closed_reason if row.closed_reason else ''}",
            "opened": f"{when(row.opened_at)}, asked for by {row.requested_by}, owner {row.spec.owner}",
            "deadline": when(row.deadline),
            "tasks": f"{row.total}, of them " + (", ".join(f"{count} {state}" for state, count in progress.tasks.items()) or "none"),
            "answers": ", ".join(f"{count} {status}" for status, count in progress.annotations.items()),
            "Label Studio": _standing(elsewhere) if elsewhere else None,
            "measured": figures.measured(row.measured),
            "snapshot": f"{snapshot.number}: {snapshot.tasks} tasks, {snapshot.uri}" if snapshot else None,
            **(figures.told(snapshot.statistics) if snapshot else {}),
        }
    )
    print()
    checked = snapshot.statistics.get("accuracy", {}) if snapshot else {}
    table(
        ("labeler", "answers", "status", "gold right", "gold wrong", "as decided", "of"),
        [
            (
                who.principal,
                who.answers,
                who.status,
                who.gold_right,
                who.gold_wrong,
                checked.get(who.principal, {}).get("agreed"),
                checked.get(who.principal, {}).get("checked"),
            )
            for who in progress.labelers
        ],
        right=("answers", "gold right", "gold wrong", "as decided", "of"),
        empty="nobody has answered yet",
    )


def _standing(there: ElsewhereDetail) -> str:
    project = f"project {there.project}" if there.project else "no project yet"
    refused = f", {there.refused} cannot be shown there" if there.refused else ""
    asked = f"asked {when(there.asked_at)}" if there.asked_at else "not asked yet"
    problem = f"; {there.problem}" if there.problem else ""
    return f"{project} at {there.address or '(not set)'}, {there.sent} tasks{refused}, {asked}{problem}"


@campaigns.command("upload")
def upload_tasks(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Lines of JSON, each with `key` and `payload`.")],
    as_json: Json = False,
) -> None:
    """Store a manifest of tasks, and print what a campaign is started with: its address and sha256."""
    import json

    from perdure.adapters.s3 import ObjectStore
    from perdure.cli.clients import read_settings

    stored = ObjectStore(read_settings().s3).put("tasks", "tasks.ndjson", file).as_json()
    if as_json:
        emit(stored)
    else:
        print(json.dumps(stored))


@campaigns.command("pause")
def pause_campaign(name: Name, reason: Reason = "", version: Version = None, actor: Actor = None, as_json: Json = False) -> None:
    """Give out no more tasks; answers are still taken."""
    _command("pause", name, as_json=as_json, actor=person(actor), reason=reason, expected_version=version)


@campaigns.command("resume")
def resume_campaign(name: Name, reason: Reason = "", version: Version = None, actor: Actor = None, as_json: Json = False) -> None:
    """Give out tasks again."""
    _command("resume", name, as_json=as_json, actor=person(actor), reason=reason, expected_version=version)


@campaigns.command("extend")
def extend_campaign(
    name: Name,
    to: Annotated[str, typer.Option(help="The new deadline: a date or time (ISO 8601), local unless it has an offset.")],
    reason: Reason = "",
    version: Version = None,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Move a campaign's deadline to a later time."""
    from perdure.cli.models import moment

    _command("extend", name, as_json=as_json, actor=person(actor), reason=reason, expected_version=version, deadline=moment(to, "--to"))


@campaigns.command("close")
def close_campaign(name: Name, reason: Reason = "", version: Version = None, actor: Actor = None, as_json: Json = False) -> None:
    """End a campaign with what is decided by now.

    The decisions become a snapshot; later answers are kept, and do not count.
    """
    _command("close", name, as_json=as_json, actor=person(actor), reason=reason, expected_version=version)


def _command(kind: str, name: str, *, as_json: bool, **said: Any) -> None:
    from perdure.cli.clients import read_settings
    from perdure.cli.commands import update
    from perdure.errors import Conflict
    from perdure.messages.labeling import CampaignCommand, CampaignState
    from perdure.metadata.database import Database

    with Database.open(read_settings()) as database:
        row = _named(database, name)
    if row.state is CampaignState.CLOSED:
        raise Conflict(f"{row.name} is closed: {row.closed_reason}", field="CAMPAIGN", remedy="open another campaign")
    answer = update(row.workflow_id, kind, CampaignCommand(**said), what="campaign")
    if as_json:
        emit({"campaign": row.name, "command": kind, **answer})
    elif kind == "close":
        note(f"{row.name} is being closed; `perdure campaigns show {row.name}` tells its snapshot")
    else:
        until = f", until {answer['deadline']}" if answer.get("deadline") else ""
        note(f"{row.name} is {answer['state']} (version {answer['version']}){until}")


@labels.command("export")
def export_labels(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="Write lines of JSON into this file; default: stdout.")] = None,
    as_json: Json = False,
) -> None:
    """Print a campaign's decided tasks as lines of JSON: label, posterior, and who said what.

    Of a closed campaign these are the bytes of its snapshot. With --json the lines are one array, or, with --out, a summary is printed.
    """
    import contextlib
    import hashlib
    import sys

    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import CampaignRows

    with Database.open(read_settings()) as database:
        row = _named(database, name)
        lines = CampaignRows(database).export(row.id)
        if out is None and as_json:
            emit(list(lines))
            return
        digest, count = hashlib.sha256(), 0
        with out.open("wb") if out else contextlib.nullcontext(sys.stdout.buffer) as file:
            for line in _encoded(lines):
                file.write(line)
                digest.update(line)
                count += 1
    told = {"campaign": row.name, "tasks": count, "sha256": digest.hexdigest(), "file": out}
    if as_json:
        emit(told)
    else:
        note(f"{row.name}: {count} tasks, sha256 {digest.hexdigest()}")


def _encoded(lines: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    from perdure.keys import canonical

    for line in lines:
        yield canonical(line) + b"\n"


def affected(labeler: Annotated[str, typer.Option(help="Whose answers.")], as_json: Json = False) -> None:
    """Tell which campaigns, snapshots, data sets and models hold answers of a labeler, and which models were judged by them.

    An answer that was taken back later is still in the snapshots that were taken before.
    """
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.affected import affected as find

    with Database.open(read_settings()) as database:
        found = find(database, labeler)
    if as_json:
        emit(found)
        return
    rows: list[tuple[object, ...]] = []
    rows += [("campaign", each.campaign, ", ".join(f"{n} {status}" for status, n in each.answers.items())) for each in found.campaigns]
    rows += [("snapshot", f"{each.campaign}/{each.number}", f"{each.opinions} opinions, {each.uri}") for each in found.snapshots]
    rows += [("data set", f"{each.name}/{each.number}", when(each.created_at)) for each in found.datasets]
    rows += [("model", f"{each.name}@{each.number}", when(each.created_at)) for each in found.models]
    rows += [("judged", f"{each.name}@{each.number}", when(each.created_at)) for each in found.judged]
    table(("", "name", ""), rows)


def _named(database: Any, name: str) -> CampaignRow:
    from perdure.metadata.repository import CampaignRows

    return CampaignRows(database).named(name.removeprefix("campaign/"))


def _plain(row: CampaignRow) -> dict[str, Any]:
    import dataclasses

    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return values | {"spec": row.spec.model_dump(mode="json")}


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(campaigns, name="campaigns", rich_help_panel=PANEL)
    app.add_typer(labels, name="labels", rich_help_panel=PANEL)
    app.command(rich_help_panel=PANEL)(affected)
