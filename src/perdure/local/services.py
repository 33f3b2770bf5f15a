"""What the local stack runs, in the order of its needs: one function per service, nothing but command lines and environments."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from perdure.config import Settings, resolve_secret
from perdure.local import commands, postgres, probes, ray
from perdure.local.configuration import NEEDS
from perdure.local.environment import QUIET, s3_environment, scratch
from perdure.local.files import Home, read_json
from perdure.local.supervisor import Service, Step
from perdure.temporal import SEARCH_ATTRIBUTES


def define(home: Home, names: set[str]) -> list[Service]:
    """The services called *names*; each needs only those of its needs that are among them."""
    ports = {name: int(port) for name, port in read_json(home.ports).items()}
    settings = Settings(home=home.path)
    migrate = _migration(home)
    makers: dict[str, Callable[[], Service]] = {
        "postgres": lambda: postgres.service(home, ports["postgres"]),
        "s3": lambda: _s3(home, ports["s3"], settings),
        "temporal": lambda: _temporal(home, ports),
        "ray": lambda: ray.service(home, ports, settings),
        "mlflow": lambda: _mlflow(ports["mlflow"], settings),
        "worker": lambda: _worker(home, ports["worker_metrics"], migrate, settings.worker.shutdown_seconds),
        "reconciler": lambda: _beside(home, "reconciler", ports["reconciler_metrics"], migrate),
        "relay": lambda: _beside(home, "relay", ports["relay_metrics"], migrate),
        "gateway": lambda: _http(home, "gateway", ports["gateway"], migrate),
        "serving": lambda: _http(home, "serving", ports["serving"], migrate),
    }
    return [make() for name, make in makers.items() if name in names]


def _s3(home: Home, port: int, settings: Settings) -> Service:
    data, versions = home.path / "s3" / "data", home.path / "s3" / "versions"

    async def buckets() -> None:  # a folder is a bucket
        for folder in (versions, data / settings.s3.bucket, data / "mlflow"):
            folder.mkdir(parents=True, exist_ok=True)

    listen = ["--port", f"127.0.0.1:{port}", "--region", settings.s3.region, "--health", "/health", "--quiet", "--keep-alive"]
    return Service(
        name="s3",
        command=[str(home.bin / "versitygw"), *listen, "posix", "--versioning-dir", str(versions), str(data)],
        environment={
            "ROOT_ACCESS_KEY": home.secret("s3_access_key").read_text().strip(),
            "ROOT_SECRET_KEY": home.secret("s3_secret_key").read_text().strip(),
        },
        probe=probes.http(port, "/health"),
        before=buckets,
        url=f"http://127.0.0.1:{port}",
    )


def _temporal(home: Home, ports: dict[str, int]) -> Service:
    options = {
        "--ip": "127.0.0.1",
        "--port": ports["temporal"],
        "--ui-port": ports["temporal_ui"],
        "--http-port": ports["temporal_http"],
        "--metrics-port": ports["temporal_metrics"],
        "--db-filename": home.path / "temporal.db",
        "--log-level": "warn",
        "--color": "never",
    }
    repeated = [
        *(("--sqlite-pragma", pragma) for pragma in ("journal_mode=WAL", "synchronous=FULL")),
        *(("--search-attribute", f"{name}=Keyword") for name in SEARCH_ATTRIBUTES),
        ("--dynamic-config-value", "history.maxInFlightUpdates=100"),  # 10 refuses a burst of people's commands
        ("--dynamic-config-value", "frontend.enableServerVersionCheck=false"),
        ("--dynamic-config-value", "system.enableActivityEagerExecution=true"),  # who decides on an activity takes it along
    ]
    flags = [str(part) for pair in (*options.items(), *repeated) for part in pair]
    return Service(
        name="temporal",
        command=[
            str(home.bin / "temporal"),
            "server",
            "start-dev",
            *flags,
            "--ui-disable-news-fetch",
            "--disable-config-file",
            "--disable-config-env",
        ],
        environment=QUIET,
        # a list of workflows needs the store, the visibility store and the namespace, which the port alone does not show
        probe=probes.http(ports["temporal_http"], "/api/v1/namespaces/default/workflows?pageSize=1"),
        url=f"http://127.0.0.1:{ports['temporal_ui']}",
    )


def _mlflow(port: int, settings: Settings) -> Service:
    password = resolve_secret(settings.postgres.password) if settings.postgres.password else ""
    store = urlsplit(settings.postgres.url)._replace(path="/mlflow").geturl()  # its own: each database has one alembic_version table
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--no-serve-artifacts",
        "--default-artifact-root",
        "s3://mlflow",
    ]
    return Service(
        name="mlflow",
        command=[sys.executable, "-m", "mlflow", "server", *options],
        environment=QUIET
        | s3_environment(settings)
        | {
            "MLFLOW_BACKEND_STORE_URI": store,
            "PGPASSWORD": password,  # in no command line, address or error text
            "MLFLOW_S3_ENDPOINT_URL": settings.s3.endpoint or "",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes that nothing here uses
        },
        probe=probes.http(port, "/health"),
        before=lambda: postgres.create_database(settings.postgres.url, password, "mlflow"),
        needs=(*NEEDS["mlflow"], "ray"),  # of Ray it needs nothing, but what people wait for gets the processor first
        start_limit=300,  # its imports take long on a busy machine
        grace=3,  # it keeps nothing
        background=True,
        url=f"http://127.0.0.1:{port}",
    )


def _worker(home: Home, metrics: int, migrate: Step, shutdown_seconds: float) -> Service:
    return Service(
        name="worker",
        command=[sys.executable, "-m", "perdure.workers"],
        environment=_environment(home, metrics),
        probe=probes.http(metrics, "/metrics", holds="temporal_num_pollers"),  # it asks for work
        before=migrate,
        needs=NEEDS["worker"],
        grace=shutdown_seconds + 5,
        url=f"http://127.0.0.1:{metrics}/metrics",
    )


def _beside(home: Home, name: str, metrics: int, migrate: Step) -> Service:
    """A process beside the workers: `python -m perdure.workers.{name}`."""
    return Service(
        name=name,
        command=[sys.executable, "-m", f"perdure.workers.{name}"],
        environment=_environment(home, metrics),
        probe=probes.http(metrics, "/metrics"),
        before=migrate,
        needs=NEEDS[name],
        grace=15,
        url=f"http://127.0.0.1:{metrics}/metrics",
    )


def _http(home: Home, name: str, port: int, migrate: Step) -> Service:
    """A process that people and applications call: `python -m perdure.{name}`."""
    return Service(
        name=name,
        command=[sys.executable, "-m", f"perdure.{name}"],
        environment=QUIET | scratch(home) | {"PERDURE_HOME": str(home.path), f"PERDURE_{name.upper()}__PORT": str(port)},
        probe=probes.http(port, "/healthz"),
        before=migrate,
        needs=NEEDS[name],
        grace=15,
        url=f"http://127.0.0.1:{port}",
    )


def _environment(home: Home, metrics: int) -> dict[str, str]:
    return QUIET | scratch(home) | {"PERDURE_HOME": str(home.path), "PERDURE_WORKER__METRICS_PORT": str(metrics)}


def _migration(home: Home) -> Step:
    """Brings the schema up to date once in the supervisor's life, whichever service asks first."""
    lock, done = asyncio.Lock(), False

    async def migrate() -> None:
        nonlocal done
        async with lock:
            if not done:
                await commands.run([sys.executable, "-m", "perdure.local.migrate"], {"PERDURE_HOME": str(home.path)}, cwd=home.path)
                done = True

    return migrate
