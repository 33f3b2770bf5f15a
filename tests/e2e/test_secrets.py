"""The stack's secrets are in no history, log, row, object, job record, command line or environment that others read."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import httpx
import psycopg

from perdure.config import resolve_secret
from perdure.temporal import connect
from tests.chaos.cells import World


def secrets(home: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes().strip() for path in (home / "secrets").iterdir() if path.is_file()}
    assert found
    assert all(len(value) >= 12 for value in found.values())
    return found


def assert_none_in(body: bytes, planted: dict[str, bytes], where: str) -> None:
    for name, value in planted.items():
        assert value not in body, f"the secret {name} is in {where}"


def test_a_planted_secret_is_found_nowhere(world: World) -> None:
    planted = secrets(world.home)
    assert world.run({}, random.Random(0)).state == "succeeded"
    for path in (world.home / "logs").rglob("*"):
        if path.is_file():
            assert_none_in(path.read_bytes(), planted, str(path))
    for path in (world.home / "s3").rglob("*"):
        if path.is_file():
            assert_none_in(path.read_bytes(), planted, str(path))
    for path in (world.home / "ray").rglob("*.log"):
        assert_none_in(path.read_bytes(), planted, str(path))
    assert_none_in(_rows(world), planted, "Postgres")
    assert_none_in(_command_lines(), planted, "a command line")
    assert_none_in(_ray_jobs(world), planted, "Ray's job records")
    assert_none_in(asyncio.run(_histories(world)), planted, "a history")


def _rows(world: World) -> bytes:
    settings = world.settings.postgres
    url = settings.url.replace("postgresql+psycopg://", "postgresql://")
    bodies = []
    with psycopg.connect(url, password=resolve_secret(settings.password or "")) as connection:
        tables = connection.execute("select table_name from information_schema.tables where table_schema = 'public'").fetchall()
        for (table,) in tables:
            bodies += [str(row).encode() for row in connection.execute(f'select * from "{table}"'.encode())]
    assert bodies
    return b"\n".join(bodies)


def _command_lines() -> bytes:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(found)


def _ray_jobs(world: World) -> bytes:
    ray = world.settings.ray
    answer = httpx.get(f"{ray.url}/api/jobs/", headers={"Authorization": f"Bearer {resolve_secret(ray.token or '')}"})
    assert answer.status_code == 200
    assert answer.json()
    return answer.content


async def _histories(world: World) -> bytes:
    client = await connect(world.settings)
    bodies = []
    async for execution in client.list_workflows(""):
        history = await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
        bodies.append(history.to_json().encode())
    assert len(bodies) >= 5
    return b"\n".join(bodies)
