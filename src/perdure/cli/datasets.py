"""``datasets``: what was prepared, what it was made of, and the same again from its manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.output import Json, emit, fields, note, table, when

if TYPE_CHECKING:
    from perdure.config import Settings
    from perdure.metadata.queries import DatasetVersionDetail

PANEL = "Models"
datasets = typer.Typer(help="List data sets; show one; make one again from its manifest.", invoke_without_command=True)

Name = Annotated[str, typer.Argument(metavar="NAME[/N]", help="A data set, or one version of it.")]


@datasets.callback()
def callback(ctx: typer.Context, as_json: Json = False) -> None:
    """List data sets with the rows of their newest versions."""
    if ctx.invoked_subcommand is None:
        _list(as_json=as_json)


@datasets.command("list")
def list_datasets(as_json: Json = False) -> None:
    """List data sets with the rows of their newest versions; the same as `datasets` alone."""
    _list(as_json=as_json)


def _list(*, as_json: bool) -> None:
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries import list_datasets as find

    with Database.open(read_settings()) as database:
        found = find(database)
    if as_json:
        emit(found)
        return
    table(
        ("data set", "newest", "train rows", "test rows", "scores", "set aside", "prepared"),
        [(d.dataset, d.newest, d.train_rows, d.test_rows, d.scored_rows, d.quarantined_rows, when(d.prepared_at)) for d in found],
        right=("newest", "train rows", "test rows", "scores", "set aside"),
        empty="no data sets; prepare one: perdure run PIPELINE",
    )


@datasets.command("show")
def show_dataset(name: Name, as_json: Json = False) -> None:
    """Show the versions of a data set, or one of them: source, rows, columns, failed checks."""
    from perdure.cli.clients import read_settings

    found, one = _find(name, read_settings())
    if as_json:
        emit(found[0] if one else found)
    elif one:
        _tell(found[0])
    else:
        table(
            ("version", "prepared", "train rows", "test rows", "scores", "set aside", "manifest", "run"),
            [
                (v.number, when(v.prepared_at), v.train_rows, v.test_rows, v.scored_rows, v.quarantined_rows, v.manifest.sha256[:12], v.run)
                for v in found
            ],
            right=("version", "train rows", "test rows", "scores", "set aside"),
        )


@datasets.command("rebuild")
def rebuild_dataset(name: Name, as_json: Json = False) -> None:
    """Make a data set again from its manifest alone, and compare.

    Source, settings and the digest of the code come from the manifest; a process on this machine does the work, and no row is
    written. Ends with 0 if every file came out with the same sha256, with 1 if not: then the manifest's fields that differ are named.
    Without a version: the newest.
    """
    from perdure.cli.clients import read_settings
    from perdure.cli.exits import Exit
    from perdure.cli.rebuilding import rebuild
    from perdure.errors import InvalidInput

    settings = read_settings()
    version = _find(name, settings)[0][0]
    if version.scored_by:
        raise InvalidInput(
            f"{version.dataset} holds scores, which are not prepared", field="NAME", remedy="score the source again: perdure score"
        )
    called = f"{version.dataset}/{version.number}"
    note(f"rebuilding {called} from {version.manifest.uri}")
    made = rebuild(version.manifest, version.dataset, settings)
    if as_json:
        emit({"dataset": version.dataset, "version": version.number, "recorded": version.manifest, **made})
    elif made["same"]:
        note(f"{called} came out the same: manifest {version.manifest.sha256}")
    else:
        note(f"{called} came out different in: {', '.join(made['differences'])}")
        note(f"  recorded: {version.manifest.uri}")
        note(f"  made now: {made['manifest']['uri']}")
    if not made["same"]:
        raise typer.Exit(Exit.FAILED)


def _find(name: str, settings: Settings) -> tuple[list[DatasetVersionDetail], bool]:
    """The versions that *name* means, and whether it names one of them."""
    from perdure.cli.scoring import MOST_DIGITS
    from perdure.errors import InvalidInput, NotFound
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_dataset as find

    dataset, separator, number = name.partition("/")
    if not dataset or (separator and not number.isdecimal()):
        raise InvalidInput(f"{name!r} is no data set", field="NAME", remedy="write name, or name/version with a number")
    if len(number) > MOST_DIGITS:
        raise NotFound(f"there is no version {number} of {dataset!r}", field="NAME", remedy="`perdure datasets show NAME` lists all")
    with Database.open(settings) as database:
        return find(database, dataset, int(number) if separator else None), bool(separator)


def _tell(version: DatasetVersionDetail) -> None:
    source = version.source or {}
    fields(
        {
            "data set": f"{version.dataset} version {version.number}",
            "prepared": f"{when(version.prepared_at)} by run {version.run}",
            "source": f"{source.get('uri')} ({source.get('bytes')} bytes, digest {str(source.get('digest'))[:12]})" if source else None,
            "scored by": version.scored_by,
            "rows": f"{version.scored_rows} scores, {version.quarantined_rows} rows set aside"
            if version.scored_by
            else f"{version.train_rows} to train on, {version.test_rows} to test with, {version.quarantined_rows} set aside"
            + (f", {version.pool_rows} without a label" if version.pool_rows else ""),
            "labeled": f"{version.labeled_rows} rows by people" if version.labeled_rows else "",
            "columns": ", ".join(f"{column['name']} ({column['dtype']})" for column in version.columns),
            "classes": ", ".join(map(str, version.classes)),
            "manifest": f"{version.manifest.uri}\nsha256 {version.manifest.sha256}",
            "delta": f"{version.delta_uri} version {version.delta_version}" if version.delta_uri else None,
        }
    )
    if version.failures:
        print()
        table(
            ("rows", "column", "check that they failed", "example"),
            [(f["count"], f["column"], f["check"], f["example"]) for f in version.failures],
            right=("rows",),
        )


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(datasets, name="datasets", rich_help_panel=PANEL)
