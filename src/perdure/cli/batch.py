"""``score``: a whole source, scored by a model version, shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.cli.output import Json, emit, note
from perdure.cli.people import Actor, person

PANEL = "Models"

Columns = Annotated[str | None, typer.Option(help="Names of the columns, with commas between, where a csv or tsv file has no header row.")]
Shards = Annotated[int | None, typer.Option(min=1, help="Into how many parts it is divided; default: one for each 64 MiB.")]
Share = Annotated[float | None, typer.Option(min=0, max=1, help="Largest share of rows that may not fit; default: as the pipeline says.")]


def score(
    model: Annotated[str, typer.Argument(metavar="MODEL[@VERSION]", help="The released version of a model, or the version given.")],
    source: Annotated[
        str,
        typer.Argument(help="A file, a folder or a glob, here or on S3 (s3://…); or dataset:NAME, dataset:NAME/N or dataset:NAME/N/SPLIT."),
    ],
    to: Annotated[str | None, typer.Option(help="The data set of the scores; default: MODEL-scores.")] = None,
    keep: Annotated[str | None, typer.Option(help="Columns that are passed through, with commas between: ids, say.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="csv, tsv or parquet; default: as the file's name ends.")] = None,
    columns: Columns = None,
    shards: Shards = None,
    quarantined: Share = None,
    engine: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    key: Annotated[str | None, typer.Option(help="The name of this scoring; default: the time. A key is used once.")] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Take shards that this version has scored before as they are.")] = True,
    follow: Annotated[bool, typer.Option("--watch/--detach", help="Show progress until the end, or return at once.")] = True,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Score a file, a folder of files or a data set with a model.

    It runs as a workflow: kill anything, and it goes on; `perdure pause`, `resume`, `cancel` and `watch` work as on any run. The
    scores are a version of a data set: `perdure datasets show` tells where its Delta table is. Ctrl-C stops watching only.
    """
    from perdure.cli import starting
    from perdure.cli.clients import read_settings, wait_for
    from perdure.cli.scoring import versioned
    from perdure.cli.watch import follow_run
    from perdure.messages.inference import BatchRequest
    from perdure.metadata.database import Database
    from perdure.metadata.repository import ModelRows
    from perdure.spec.scoring import check_request

    settings, (name, number) = read_settings(), versioned(model)
    request = BatchRequest(
        model=name,
        version=number,
        source=_source(source, form, columns),
        to=to,
        keep=_names(keep),
        shards=shards,
        quarantined=quarantined,
        engine=_engine(engine),
        cache=cache,
        requested_by=person(actor),
    )
    check_request(request)  # told before any server is asked
    with Database.open(settings) as database:
        ModelRows(database).find(name, number)
    workflow_id = starting.named("score", name, key or starting.new_key())
    execution = wait_for(starting.start(settings, workflow_id, request, workflow="BatchInference"))
    if follow:
        follow_run(settings, workflow_id, as_json=as_json)
    elif as_json:
        emit({"workflow_id": workflow_id, "temporal_run_id": execution, "model": name})
    else:
        note(f"started {workflow_id}")
        note(f"  follow it: perdure watch {workflow_id}")


def _source(text: str, form: str | None, columns: str | None) -> dict[str, Any]:
    """The source as a request names it. Raises NotFound, InvalidInput."""
    from perdure.errors import InvalidInput, NotFound

    if text.startswith("dataset:"):
        name, _, rest = text.removeprefix("dataset:").partition("/")
        number, _, split = rest.partition("/")
        if number and not number.isdecimal():
            raise InvalidInput(
                f"{text!r} is no data set", field="SOURCE", remedy="write dataset:NAME, dataset:NAME/N or dataset:NAME/N/SPLIT"
            )
        return {"dataset": name, **({"version": int(number)} if number else {}), **({"split": split} if split else {})}
    if "://" not in text:
        path = Path(text).absolute()
        if not any(sign in text for sign in "*?[") and not path.exists():
            raise NotFound(f"there is no file {text}", field="SOURCE", remedy="name a file, a folder, a glob, or an s3:// URI")
        text = str(path)
    return {"uri": text, **({"format": form} if form else {}), **({"columns": _names(columns)} if columns else {})}


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _engine(name: str) -> Any:
    from perdure.errors import InvalidInput
    from perdure.messages.jobs import Engine

    try:
        return Engine(name)
    except ValueError as err:
        raise InvalidInput(f"there is no engine {name!r}", field="--engine", remedy=f"one of {', '.join(Engine)}") from err


def add(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=PANEL)(score)
