"""Serving as a process of its own: killed and started again, it answers without anybody's help."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy import select

from perdure.config import Settings
from perdure.local import ports
from perdure.metadata import tables as t
from tests.servers import Stack
from tests.serving.world import ROW, Served, trained


@contextmanager
def serving(stack: Stack, settings: Settings, home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **stack.environment(settings), "PERDURE_HOME": str(home)}
    environment |= {"PERDURE_SERVING__PORT": str(port), "PERDURE_SERVING__KEYS": "false"}
    process = subprocess.Popen([sys.executable, "-m", "perdure.serving"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answered(port: int, model: str, seconds: float = 240) -> int:
    """The version that answers, as soon as one does."""
    until = time.monotonic() + seconds
    while True:
        try:
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/models/{model}/predict", json={"rows": [ROW]})
            if answer.status_code == 200:
                return int(answer.json()["version"])
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, "it does not answer"
        time.sleep(0.1)


async def test_killed_and_started_again_it_answers_and_at_its_end_finishes_what_it_has(
    stack: Stack, migrated: Settings, served: Served, tmp_path: Path
) -> None:
    served.release(served.version("lasting", trained(served.folder, 90)))
    port = ports.spare()
    with serving(stack, migrated, tmp_path, port) as process:
        assert answered(port, "lasting") == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(stack, migrated, tmp_path, port) as process:
        assert answered(port, "lasting") == 1
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            body = {"rows": [ROW] * 5_000}
            calls = [asyncio.create_task(client.post("/v1/models/lasting/predict", json=body)) for _ in range(8)]
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert process.wait(60) in (0, -signal.SIGTERM)
        done = [answer for answer in answers if isinstance(answer, httpx.Response)]
        assert all(answer.status_code == 200 for answer in done)
        assert done, "what had begun is answered"
    with served.world.database.transaction() as session:
        last = session.scalars(select(t.ServingInstance).order_by(t.ServingInstance.started_at.desc()).limit(1)).one()
    assert last.address == f"http://127.0.0.1:{port}"
    assert last.predictions == 1 + 5_000 * len(done), "its last report counts all that it answered"
    assert last.loaded == [], "a process that has ended answers nothing"
