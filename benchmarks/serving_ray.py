"""Serving on Ray Serve, from none to many and back: ``python -m benchmarks.serving_ray [SECONDS]``

A Ray instance of its own, no replica at first. Measured: the first answer, which waits for a replica to start, requests a second with 8
connections, and that no replica is left a while after.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.common import record, running_stack
from benchmarks.serving import TREES, measured, process
from perdure.adapters.s3 import ObjectStore
from perdure.local import ports
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from tests.servers import Stack
from tests.serving.world import ROW, Served, trained

QUIET_SECONDS = 5


def instances(database: Database) -> int:
    """Serving processes that were seen in the last three seconds."""
    from sqlalchemy import text

    with database.transaction() as session:
        query = text("select count(*) from serving_instance where seen_at > now() - interval '3 seconds'")
        return int(session.execute(query).scalar_one())


def main(seconds: float) -> None:
    with running_stack(("postgres", "s3")) as running, tempfile.TemporaryDirectory() as scratch:
        stack = Stack(running.home, running)
        settings = stack.isolated()
        os.environ.update(stack.environment(settings))
        upgrade(settings)
        port = ports.spare()
        scaling = f'{{"min_replicas": 0, "max_replicas": 2, "cpus": 0.5, "quiet_seconds": {QUIET_SECONDS}}}'
        environment = {
            "PERDURE_SERVING__PORT": str(port),
            "PERDURE_SERVING__KEYS": "false",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        with Database.open(settings) as database:
            served = Served(database, ObjectStore(settings.s3), Path(scratch))
            served.release(served.version("bench", trained(served.folder, 1, trees=TREES)))
            started = time.monotonic()
            command = ["-m", "perdure.serving", "--ray", "--scaling", scaling]
            result: dict[str, Any] = {}
            with process(command, environment, f"http://127.0.0.1:{port}/-/healthz", limit=240):
                result["seconds_to_healthy"] = round(time.monotonic() - started, 1)
                result["instances_before"] = instances(database)
                path, body = "/v1/models/bench/predict", {"rows": [ROW]}
                asked = time.monotonic()
                while True:  # a replica answers 503 until it has read rows and loaded
                    answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=body, timeout=120)
                    if answer.status_code == 200:
                        break
                    assert time.monotonic() < asked + 120, answer.text
                    time.sleep(0.2)
                result["seconds_to_first_answer"] = round(time.monotonic() - asked, 1)
                result["eight_clients"] = measured(port, path, body, 8, seconds)
                result["instances_under_load"] = instances(database)
                quiet = time.monotonic()
                while instances(database) and time.monotonic() < quiet + 120:
                    time.sleep(0.5)
                result["instances_after"] = instances(database)
                result["seconds_to_none"] = round(time.monotonic() - quiet, 1)
    record("serving_ray", result)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 8.0)
