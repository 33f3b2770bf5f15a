"""``labelers``: who answers in campaigns, and whether they get work."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.output import Json, emit, note, table, when
from perdure.cli.people import Actor, person

PANEL = "Labeling"
labelers = typer.Typer(help="List who answers; block somebody, or lift a block.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="LABELER", help="The labeler's name, as `perdure labelers list` tells it.")]
Why = Annotated[str, typer.Option("--reason", "-m", help="Why; recorded with the command.")]


@labelers.command("list")
def list_labelers(
    status: Annotated[str | None, typer.Option(help="Only these: active, warned, blocked.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many.")] = 100,
    as_json: Json = False,
) -> None:
    """List labelers, the blocked and the warned first: answers in all campaigns, and how often right on gold."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.labelers import list_labelers as find

    with Database.open(read_settings()) as database:
        found = find(database, status=status, limit=limit)
    if as_json:
        emit(found)
        return
    table(
        ("labeler", "status", "since", "answers", "gold right", "of", "accuracy"),
        [(row.name, row.status, when(row.since), row.answers, row.right, row.seen, _share(row.accuracy)) for row in found],
        right=("answers", "gold right", "of", "accuracy"),
        empty="no labelers",
    )


@labelers.command("block")
def block_labeler(
    name: Name,
    reason: Why,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Their last answers count no more, as after failing on gold (`gold.requeue`).")
    ] = False,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Give somebody no more tasks, in any campaign; what they still send is kept and does not count."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import LabelerRows

    with Database.open(read_settings()) as database:
        changed = LabelerRows(database).block(name, person(actor), reason, take_back=take_back)
    _tell(name, "blocked", changed, as_json=as_json)


@labelers.command("unblock")
def unblock_labeler(name: Name, reason: Why, actor: Actor = None, as_json: Json = False) -> None:
    """Give a blocked labeler tasks again.

    Their answers to gold are counted from 0 again. What was taken back stays so.
    """
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.repository import LabelerRows

    with Database.open(read_settings()) as database:
        changed = LabelerRows(database).unblock(name, person(actor), reason)
    _tell(name, "unblocked", changed, as_json=as_json)


def _share(of: float | None) -> str:
    return "" if of is None else f"{of:.2f}"


def _tell(name: str, done: str, changed: bool, *, as_json: bool) -> None:
    if as_json:
        emit({"labeler": name, "blocked": done == "blocked", "changed": changed})
    elif changed:
        note(f"{name} is {done}")
    else:
        note(f"{name} is {'blocked already' if done == 'blocked' else 'not blocked'}: nothing changed")


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(labelers, name="labelers", rich_help_panel=PANEL)
