"""``db upgrade``, ``db check``: the schema of the metadata database."""

from __future__ import annotations

import typer

from perdure.cli.output import Json, emit, note

database = typer.Typer(help="The schema of the metadata database.", no_args_is_help=True)


@database.command()
def upgrade(as_json: Json = False) -> None:
    """Bring the database to this version's schema.

    Creates the database where it is missing. Safe to run at once from many places.
    """
    from perdure.cli.clients import read_settings
    from perdure.metadata.upgrade import upgrade as bring_up

    result = bring_up(read_settings())
    if as_json:
        emit(result)
    elif result.before == result.after:
        note(f"the database is up to date: {result.after}")
    else:
        note(f"upgraded {'a new database' if result.before is None else result.before} to {result.after} in {result.seconds:.1f} s")


@database.command()
def check(as_json: Json = False) -> None:
    """Tell whether the database has this version's schema.

    Ends with 7 where it is older or newer.
    """
    from perdure.cli.clients import read_settings
    from perdure.metadata.upgrade import check as look

    revision = look(read_settings())
    if as_json:
        emit({"revision": revision})
    else:
        note(f"the database is up to date: {revision}")


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(database, name="db", rich_help_panel="Servers")
