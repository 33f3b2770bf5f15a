"""``apply``, ``validate``, ``schema``: pipelines from file to version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perdure.cli.output import Json, emit, fields, note
from perdure.cli.people import Actor, person

PANEL = "Pipelines"
File = Annotated[Path, typer.Argument(help="The specification (YAML or JSON), or a folder with a pipeline.yaml.")]


def apply(file: File, actor: Actor = None, as_json: Json = False) -> None:
    """Store a pipeline, and the code beside it, as a version.

    The same content again is the same version. Mistakes are told with their lines, and nothing is stored. Temporal's schedules become those
    of the specification's triggers and monitor.
    """
    from dataclasses import asdict

    from perdure import packaging
    from perdure.cli.clients import read_settings
    from perdure.cli.schedules import sync

    settings = read_settings()
    version = packaging.apply(file, settings, actor=person(actor))
    changes = sync(settings, version)
    if as_json:
        emit({**asdict(version), "schedules": {each.id: each.done for each in changes}})
    else:
        note(f"{version.name} is at version {version.number} ({version.sha256[:12]})")
        for each in changes:
            note(f"  {each.id} is {each.done}")
        note(f"  start it: perdure run {version.name}")


def validate(file: File, as_json: Json = False) -> None:
    """Check a specification and the code that it names.

    Needs no server, and runs nothing of the code.
    """
    from perdure.packaging import inspect, package

    if as_json:
        pipeline, mistakes = inspect(file)
        emit({"valid": pipeline is not None, "mistakes": mistakes})
        if pipeline is None:
            raise typer.Exit(2)
        return
    packed = package(file)
    spec = packed.spec
    fields(
        {
            "pipeline": spec.name,
            "model": spec.model_name,
            "data": spec.data.source.uri,
            "trainer": spec.train.trainer,
            "code": f"{len(packed.files)} files, {(packed.code_sha256 or '')[:12]}" if packed.files else "none",
            "commit": packed.commit,
        }
    )
    note("the specification is valid")


def schema(as_json: Json = True) -> None:
    """Print the JSON Schema of specifications, for editors."""
    from perdure.spec.pipeline import json_schema

    document: dict[str, Any] = json_schema()
    emit(document)


def add(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (apply, validate, schema):
        app.command(rich_help_panel=PANEL)(command)
