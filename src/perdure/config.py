"""One settings object: replacing a URL here replaces an embedded server by a real one.

Read from ``PERDURE_*`` variables (nested by ``__``), then from ``settings.json`` in the data folder, which `perdure up` writes. Secrets are
references (``env:NAME`` or ``file:PATH``), resolved where they are used: no settings file, message or log holds one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from perdure.errors import InvalidInput


def resolve_secret(reference: str) -> str:
    """The secret that *reference* names. Raises InvalidInput where it cannot be read, is empty or is no text."""
    kind, _, name = reference.partition(":")
    if kind not in ("env", "file"):
        raise InvalidInput(f"{reference!r} is not a secret reference", remedy="write env:NAME or file:PATH")
    try:
        secret = os.environ[name] if kind == "env" else Path(name).read_text("utf-8").strip()
        secret.encode()
    except (KeyError, OSError, ValueError):  # without its cause: an error of decoding holds the bytes
        raise InvalidInput(f"the secret {reference!r} cannot be read", remedy="set the variable or mount the file that it names") from None
    if not secret.strip():
        raise InvalidInput(f"the secret {reference!r} is empty", remedy="put the secret into the variable or the file that it names")
    return secret


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSettings(_Group):
    """The metadata database."""

    url: str = Field("postgresql+psycopg://perdure@127.0.0.1:5432/perdure", description="address without a password")
    password: str | None = Field(None, description="secret reference")
    pool: int = Field(10, description="connections of one process")


class S3Settings(_Group):
    """The bucket of all objects."""

    endpoint: str | None = Field(None, description="address of the server; unset: AWS")
    region: str = Field("us-east-1", description="region that requests are signed for")
    bucket: str = Field("perdure", description="bucket of all objects")
    access_key: str | None = Field(None, description="secret reference; unset: boto3's own chain (instance role, profile)")
    secret_key: str | None = Field(None, description="secret reference")


class TemporalSettings(_Group):
    """The workflow engine; ``TEMPORAL_*`` variables and profiles of the stock CLI override it."""

    address: str = Field("127.0.0.1:7233", description="host and port of the frontend")
    namespace: str = Field("default", description="namespace of all workflows")
    ui: str | None = Field(None, description="address of its pages, shown to people")


class RaySettings(_Group):
    """The cluster that trains."""

    url: str | None = Field(None, description="address of the Jobs API (dashboard); unset: no Ray, local trainers only")
    token: str | None = Field(None, description="secret reference")
    python: str = Field("python", description="interpreter of a job on the cluster")
    autoscales: bool = Field(False, description="the cluster adds nodes on demand: what no node has now is waited for, not refused")


class MlflowSettings(_Group):
    """The tracking server, a projection of rows."""

    url: str | None = Field(None, description="address of the server; unset: nothing is projected")


class WorkerSettings(_Group):
    """One worker or reconciler process."""

    queues: list[str] = Field(["perdure", "perdure-data", "perdure-train"], description="task queues that it serves, as JSON")
    threads: int = Field(32, description="activities at once, per queue")
    processes: int = Field(2, description="local jobs at once")
    metrics_port: int = Field(0, description="port of Prometheus metrics; 0: none")
    metrics_host: str = Field("127.0.0.1", description="address on which metrics are served; they are not authenticated")
    shutdown_seconds: float = Field(30, description="seconds that activities are given at SIGTERM")


class NotifySettings(_Group):
    """Where people are told what concerns them; unset: nowhere."""

    url: str | None = Field(None, description="address that gets signed web hooks (Standard Webhooks)")
    secret: str | None = Field(None, description="secret reference of their signature: whsec_ and base64")
    slack: str | None = Field(None, description="secret reference of the address of a Slack incoming web hook")
    allow_private: bool = Field(False, description="whether these may be addresses inside, such as 10.0.0.7 or localhost")


class GatewaySettings(_Group):
    """The HTTP gateway: campaigns, answers, web hooks, votes."""

    host: str = Field("127.0.0.1", description="address on which it listens; in front of others belongs a proxy with TLS")
    port: int = Field(8400, description="port on which it listens")
    url: str | None = Field(None, description="address by which people reach it, for links; unset: host and port")
    max_body: int = Field(8 * 1024 * 1024, description="bytes that are read of a body, other than an import of tasks")
    max_import: int = Field(256 * 1024 * 1024, description="bytes of tasks that are imported as lines of a body; more come as a manifest")
    hook_rate: float | None = Field(None, gt=0, description="messages a second that one process takes of one hook; unset: as many as come")


class ServingSettings(_Group):
    """The process that answers requests for predictions."""

    host: str = Field("127.0.0.1", description="address on which it listens; in front of others belongs a proxy with TLS")
    port: int = Field(8500, description="port on which it listens")
    address: str | None = Field(None, description="how others name this process; unset: host and port")
    keys: bool = Field(True, description="whether a request needs a key with the scope `predict`; off only where the network is trusted")
    max_body: int = Field(8 * 1024 * 1024, description="bytes of a body that are read")
    max_rows: int = Field(10_000, ge=1, description="rows of one request")
    threads: int = Field(2, ge=1, description="batches that are scored at once")
    batch_rows: int = Field(1_024, ge=1, description="rows of different requests that are scored together")
    waiting: int = Field(1_000, ge=1, description="requests of one version that wait at most; more are refused, a shadow's dropped")
    timeout: float = Field(30, gt=0, description="seconds that a request may take")
    models: int = Field(200, ge=1, description="versions that are kept loaded; a model beyond is loaded when it is asked")
    memory: int = Field(2_048, ge=1, description="megabytes that loaded predictors may take, by the size of their unpacked artifacts")
    stale: float = Field(3_600, gt=0, description="seconds for which it goes on while Postgres is away")
    overlap: float = Field(60, gt=0, description="seconds for which the version before answers while a released one is being loaded")
    custom: bool = Field(False, description="whether models whose code is their owner's are served, each in a process of its own")
    isolate: bool = Field(False, description="whether predictors with an owner's transform run in processes of their own, too")


class InferenceSettings(_Group):
    """The inference log: what serving processes keep of predictions."""

    seconds: float = Field(1.0, gt=0, description="seconds between commits of a process, where these are quick; a kill loses less")
    spool_bytes: int = Field(1 << 30, ge=1 << 20, description="bytes on the local disk that may wait for S3; more are dropped, and counted")
    secret: str | None = Field(None, description="secret reference of what personal values are hashed with; unset: they are dropped")


class LabelStudioSettings(_Group):
    """A Label Studio server on which people may label; unset: none."""

    url: str | None = Field(None, description="address of the server")
    token: str | None = Field(None, description="secret reference of a legacy token or a personal access token")
    secret: str | None = Field(None, description="secret reference of what its web hooks prove themselves with; unset: none are registered")


class Settings(BaseSettings):
    """Everything that a process of Perdure is told from outside. ``Settings(home=folder)`` reads that folder's file."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", env_nested_delimiter="__", frozen=True, extra="ignore")

    home: Path = Field(Path(".perdure"), description="data folder; default: the nearest `.perdure` here or above")
    tenant: str = Field("default", description="whose rows this process reads and writes")
    postgres: PostgresSettings = PostgresSettings()
    s3: S3Settings = S3Settings()
    temporal: TemporalSettings = TemporalSettings()
    ray: RaySettings = RaySettings()
    mlflow: MlflowSettings = MlflowSettings()
    worker: WorkerSettings = WorkerSettings()
    gateway: GatewaySettings = GatewaySettings()
    serving: ServingSettings = ServingSettings()
    notify: NotifySettings = NotifySettings()
    labelstudio: LabelStudioSettings = LabelStudioSettings()
    inference: InferenceSettings = InferenceSettings()
    log_level: str = Field("INFO", description="least level that is logged")

    @property
    def storage(self) -> str:
        """The root of all objects."""
        return f"s3://{self.s3.bucket}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the data folder's file."""
        named = init_settings().get("home")
        return init_settings, env_settings, _HomeFile(settings_cls, Path(named).absolute() if named else find_home())


class _HomeFile(PydanticBaseSettingsSource):
    """``settings.json`` in the data folder: weaker than the environment."""

    def __init__(self, settings_cls: type[BaseSettings], home: Path) -> None:
        super().__init__(settings_cls)
        self._path = home / "settings.json"

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Unused: the file is read whole."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return {**json.loads(self._path.read_text()), "home": str(self._path.parent)} if self._path.exists() else {}


def find_home() -> Path:
    """The data folder: ``PERDURE_HOME``, else the nearest ``.perdure`` here or above, else ``.perdure`` here."""
    if named := os.environ.get("PERDURE_HOME"):
        return Path(named).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".perdure").is_dir():
            return folder / ".perdure"
    return here / ".perdure"
