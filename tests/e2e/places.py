"""Everything that a stack keeps or shows, as plain bytes: files and what is packed in them, rows, histories, job records, command lines."""

from __future__ import annotations

import asyncio
import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
from pyarrow import parquet

from perdure.config import Settings, resolve_secret
from perdure.temporal import connect
from tests.chaos.cells import World

Place = tuple[str, str, bytes]
"""What kind of place it is, its name, and what it holds."""


def places(world: World) -> Iterator[Place]:
    """All of them, but for the folder of secrets itself."""
    yield from files(world.home)
    yield from rows(world.settings)
    yield from asyncio.run(histories(world.settings))
    yield from job_records(world.settings)
    yield from command_lines()


def files(home: Path) -> Iterator[Place]:
    """Of the data folder, by the part that wrote them."""
    for path in home.rglob("*"):
        part = path.relative_to(home).parts[0]
        if part in ("secrets", "bin") or path.is_symlink() or not path.is_file():
            continue
        try:
            body = path.read_bytes()
        except FileNotFoundError:  # servers are running
            continue
        yield part, str(path), body
        if part == "s3":
            yield from unpacked(str(path), body)


def unpacked(name: str, body: bytes) -> Iterator[Place]:
    """What is compressed in *body*, and in that again."""
    inner: list[Place] = []
    if body[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            inner = [("zip member", f"{name}!{member}", archive.read(member)) for member in archive.namelist()]
    elif body[:4] == b"PAR1":
        for number, column in enumerate(parquet.read_table(io.BytesIO(body)).columns):
            values = b"\n".join(bytes(buffer) for chunk in column.chunks for buffer in chunk.buffers() if buffer is not None)
            inner.append(("parquet column", f"{name}!{number}", values))
    elif body[:2] == b"\x1f\x8b":
        inner = [("gzip", f"{name}!", gzip.decompress(body))]
    for kind, place, content in inner:
        yield kind, place, content
        yield from unpacked(place, content)


def rows(settings: Settings) -> Iterator[Place]:
    """Of every table in every database: Perdure's and MLflow's."""
    server = settings.postgres.url.replace("postgresql+psycopg://", "postgresql://")
    password = resolve_secret(settings.postgres.password or "")
    with psycopg.connect(server, password=password) as connection:
        databases = [name for (name,) in connection.execute("select datname from pg_database where datallowconn and not datistemplate")]
    for database in databases:
        with psycopg.connect(server, password=password, dbname=database) as connection:
            tables = connection.execute("select table_name from information_schema.tables where table_schema = 'public'").fetchall()
            for (table,) in tables:
                for row in connection.execute(f'select t::text from "{table}" t'.encode()):
                    yield "row", f"{database}.{table}", str(row[0]).encode()


async def histories(settings: Settings) -> list[Place]:
    """Events as they are on the wire: as JSON their payloads would be in base64, where nothing is found."""
    client = await connect(settings)
    found: list[Place] = []
    async for execution in client.list_workflows(""):
        history = await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
        found += [("event", f"{execution.id} event {event.event_id}", event.SerializeToString()) for event in history.events]
    return found


def job_records(settings: Settings) -> Iterator[Place]:
    """What Ray tells of its jobs, and what they printed."""
    headers = {"Authorization": f"Bearer {resolve_secret(settings.ray.token or '')}"}
    with httpx.Client(base_url=settings.ray.url or "", headers=headers, timeout=60) as client:
        listed = client.get("/api/jobs/").raise_for_status()
        yield "job record", "all jobs", listed.content
        for job in listed.json():
            if job["submission_id"]:
                printed = client.get(f"/api/jobs/{job['submission_id']}/logs")
                yield "job record", job["submission_id"], printed.content


def command_lines() -> Iterator[Place]:
    """Of all processes of this machine: everybody may read them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield "command line", str(path), path.read_bytes()
        except OSError:
            continue
