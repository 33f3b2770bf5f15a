"""Serving beside `mlflow models serve`, the log, many models, releases under load: ``python -m benchmarks.serving [SECONDS]``

The same model (an owner's transform, 200 trees) is served by one process of Perdure and by one of MLflow's own server, which loads it as
any stock client would. A client process beside them keeps 1 and then 8 connections busy, one row a request; the servers take turns, and
what is told is the median over the turns. Bars: twice MLflow's throughput; log and metrics cost 10 % at most; a release under load fails
nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from benchmarks.common import record, running_stack
from perdure import predictor
from perdure.adapters.s3 import ObjectStore
from perdure.local import ports
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from tests.servers import Stack
from tests.serving.world import ROW, Served, trained

TREES, TURNS, MODELS, SWITCHES = 200, 7, 50, 20
CLIENT = Path(__file__).parent / "clients" / "http.py"
QUIET = """
from functools import partial
from perdure.config import Settings
from perdure.serving import __main__ as process, app, counting, service

class Silent(counting.Counts):
    def answered(self, *arguments): pass

service.Counts = Silent
made = app.make_app
process.make_app = lambda settings: made(settings, partial(service.Service.open, keeps=service.nothing_kept))
process.main(Settings())
"""


def start_load(port: int, path: str, body: Any, connections: int, seconds: float) -> subprocess.Popen[str]:
    told = json.dumps([port, path, json.dumps(body), connections, seconds])
    return subprocess.Popen([sys.executable, str(CLIENT), told], stdout=subprocess.PIPE, text=True)


def measured(*arguments: Any) -> dict[str, Any]:
    out, _ = start_load(*arguments).communicate()
    result: dict[str, Any] = json.loads(out)
    return result


# --- the servers -------------------------------------------------------------------------------------------------------------


@contextmanager
def process(command: list[str], environment: dict[str, str], ready: str, limit: float = 120) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers at *ready*, for the time of the block."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
    started = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
    )
    try:
        until = time.monotonic() + limit
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(ready).status_code == 200:
                    break
            if started.poll() is not None or time.monotonic() > until:
                log.seek(0)
                raise RuntimeError(f"{command} did not start: {log.read()[-2000:].decode()}")
            time.sleep(0.1)
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, 15)
        with suppress(subprocess.TimeoutExpired):
            started.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(started.pid, 9)
        started.wait()
        log.close()


@contextmanager
def perdure(port: int, *, quiet: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PERDURE_SERVING__PORT": str(port), "PERDURE_SERVING__KEYS": "false"}
    command = ["-c", QUIET] if quiet else ["-m", "perdure.serving"]
    with process(command, environment, f"http://127.0.0.1:{port}/readyz") as started:
        yield started


@contextmanager
def mlflow(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's own server with the predictor at *folder*, packed as the reconciler packs it for the registry."""
    import mlflow.pyfunc

    model, code = folder / "model", folder / "perdure_predictor.py"
    shutil.copyfile(predictor.__file__, code)
    sys.path.insert(0, str(folder))
    mlflow.pyfunc.save_model(
        str(model), loader_module=code.stem, data_path=str(folder / "1.zip"), code_paths=[str(code)], pip_requirements=[]
    )
    serve = ["-m", "mlflow", "models", "serve", "-m", str(model), "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn there
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PATH": programs}
    with process(serve, quiet, f"http://127.0.0.1:{port}/ping") as started:
        yield started


def memory(pid: int) -> float:
    """Megabytes that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


# --- what is measured --------------------------------------------------------------------------------------------------------


def beside_mlflow(served: Served, seconds: float) -> dict[str, Any]:
    ours, quiet, theirs = (ports.spare() for _ in range(3))
    path = trained(served.folder, 1, trees=TREES)
    served.release(served.version("bench", path))
    asked = {
        "perdure": (ours, "/v1/models/bench/predict", {"rows": [ROW]}),
        "perdure without log and metrics": (quiet, "/v1/models/bench/predict", {"rows": [ROW]}),
        "mlflow": (theirs, "/invocations", {"dataframe_records": [ROW]}),
    }
    with perdure(ours), perdure(quiet, quiet=True), mlflow(served.folder, theirs):
        answers = {name: httpx.post(f"http://127.0.0.1:{port}{path}", json=body).json() for name, (port, path, body) in asked.items()}
        assert answers["mlflow"]["predictions"][0]["p_dog"] == answers["perdure"]["scores"][0]["dog"], answers
        turns: dict[str, list[dict[str, Any]]] = {}
        for turn in range(TURNS + 1):
            for clients in (1, 8):
                for name, (port, path, body) in asked.items():
                    result = measured(port, path, body, clients, seconds if turn else 1.0)
                    assert not result["failed"], result
                    print(f"{name}, {clients} clients: {result['per_second']} a second, p50 {result['p50_ms']} ms", flush=True)
                    if turn:  # the first warms
                        turns.setdefault(f"{name}, {clients} clients", []).append(result)
    figures = {
        name: {key: statistics.median(each[key] for each in results) for key in ("per_second", "p50_ms", "p95_ms", "p99_ms")}
        for name, results in turns.items()
    }
    rate = {name: each["per_second"] for name, each in figures.items()}
    return {
        "figures": figures,
        "times_mlflow": {clients: round(rate[f"perdure, {clients} clients"] / rate[f"mlflow, {clients} clients"], 2) for clients in (1, 8)},
        "log_and_metrics_cost": {
            clients: round(1 - rate[f"perdure, {clients} clients"] / rate[f"perdure without log and metrics, {clients} clients"], 3)
            for clients in (1, 8)
        },
    }


def many_models(served: Served) -> dict[str, Any]:
    paths = [trained(served.folder, 100 + number, trees=TREES) for number in range(MODELS)]
    port = ports.spare()
    with perdure(port) as started:
        before = memory(started.pid)
        for number, path in enumerate(paths):
            served.release(served.version(f"many{number}", path))
        time.sleep(2)
        while httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
            time.sleep(0.2)
        for number in range(MODELS):
            httpx.post(f"http://127.0.0.1:{port}/v1/models/many{number}/predict", json={"rows": [ROW]}).raise_for_status()
        after = memory(started.pid)
    size = statistics.mean(path.stat().st_size for path in paths) / 2**20
    return {
        "models": MODELS,
        "mb_per_model": round((after - before) / MODELS, 2),
        "artifact_mb": round(size, 2),
        "mb_without": round(before),
    }


def releases_under_load(served: Served, seconds: float) -> dict[str, Any]:
    versions = [served.version("switching", trained(served.folder, seed, trees=TREES)) for seed in (1, 100)]
    served.release(versions[0])
    port = ports.spare()
    with perdure(port):
        running = start_load(port, "/v1/models/switching/predict", {"rows": [ROW]}, 8, max(seconds, SWITCHES * 0.25 + 2))
        time.sleep(1)
        for number in range(SWITCHES):
            served.release(versions[(number + 1) % 2])
            time.sleep(0.25)
        result: dict[str, Any] = json.loads(running.communicate()[0])
    return {"switches": SWITCHES, **{key: result[key] for key in ("requests", "failed", "why", "versions", "p99_ms")}}


def main(seconds: float) -> None:
    with running_stack(("postgres", "s3")) as running, tempfile.TemporaryDirectory() as scratch:
        stack = Stack(running.home, running)
        settings = stack.isolated()
        os.environ.update(stack.environment(settings))
        upgrade(settings)
        with Database.open(settings) as database:
            served = Served(database, ObjectStore(settings.s3), Path(scratch))
            result = beside_mlflow(served, seconds)
            result["many_models"] = many_models(served)
            result["releases_under_load"] = releases_under_load(served, seconds)
    record("serving", {"trees": TREES, "seconds": seconds, **result})


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 8.0)
