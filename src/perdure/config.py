"""One settings object: replacing a URL here replaces an embedded server by a real one.

Read from ``PERDURE_*`` variables (nested by ``__``), then from ``settings.json`` in the data folder, which `perdure up` writes. Secrets are
references (``env:NAME`` or ``file:PATH``), resolved where they are used: no settings file, message or log holds one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from perdure.errors import InvalidInput


def resolve_secret(reference: str) -> str:
    """The secret that *reference* names. Raises InvalidInput where it cannot be read."""
    kind, _, name = reference.partition(":")
    try:
        if kind == "env":
            return os.environ[name]
        if kind == "file":
            return Path(name).read_text().strip()
    except (KeyError, OSError) as err:
        raise InvalidInput(f"the secret {reference!r} cannot be read", remedy="set the variable or mount the file that it names") from err
    raise InvalidInput(f"{reference!r} is not a secret reference", remedy="write env:NAME or file:PATH")


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSettings(_Group):
    """``url`` without a password: postgresql+psycopg://user@host:port/database."""

    url: str = "postgresql+psycopg://perdure@127.0.0.1:5432/perdure"
    password: str | None = None  # secret reference
    pool: int = 10


class S3Settings(_Group):
    """``endpoint`` None means AWS. Without key references boto3's own chain (instance role, mounted profile) is used."""

    endpoint: str | None = None
    region: str = "us-east-1"
    bucket: str = "perdure"
    access_key: str | None = None  # secret reference
    secret_key: str | None = None  # secret reference


class TemporalSettings(_Group):
    """Where the Temporal frontend answers; ``TEMPORAL_*`` variables and profiles of the stock CLI override it."""

    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    ui: str | None = None


class RaySettings(_Group):
    """``url`` of the Jobs API (dashboard); None: no Ray, pipelines with a local trainer only."""

    url: str | None = None
    token: str | None = None  # secret reference
    python: str = "python"  # the interpreter of a job on the cluster
    autoscales: bool = False  # the cluster adds nodes on demand: what no node has now is waited for, not refused


class MlflowSettings(_Group):
    """``url`` of the tracking server; None: nothing is projected."""

    url: str | None = None


class WorkerSettings(_Group):
    """One worker process. ``metrics_port`` 0 picks none."""

    queues: list[str] = ["perdure", "perdure-data", "perdure-train"]
    threads: int = 32
    processes: int = 2  # local jobs at once
    metrics_port: int = 0
    shutdown_seconds: float = 30


class Settings(BaseSettings):
    """Everything that a process of Perdure is told from outside. ``Settings(home=folder)`` reads that folder's file."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", env_nested_delimiter="__", frozen=True, extra="ignore")

    home: Path = Path(".perdure")
    tenant: str = "default"
    postgres: PostgresSettings = PostgresSettings()
    s3: S3Settings = S3Settings()
    temporal: TemporalSettings = TemporalSettings()
    ray: RaySettings = RaySettings()
    mlflow: MlflowSettings = MlflowSettings()
    worker: WorkerSettings = WorkerSettings()
    log_level: str = "INFO"

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
