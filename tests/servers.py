"""What a test may know about the running servers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from perdure.config import Settings, resolve_secret
from perdure.local import stack as local


@dataclass(frozen=True)
class Stack:
    """Running servers. ``settings`` reach them with the session's shared database and bucket."""

    home: Path
    settings: Settings

    def isolated(self) -> Settings:
        """Settings with an empty database and an empty bucket of their own on the same servers."""
        name = f"t{uuid4().hex[:12]}"
        password = resolve_secret(self.settings.postgres.password or "")
        server = self.settings.postgres.url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(server, password=password, autocommit=True) as connection:
            connection.execute(f'create database "{name}"'.encode())
        (self.home / "s3" / "data" / name).mkdir()  # a folder is a bucket
        database = self.settings.postgres.model_copy(update={"url": f"{self.settings.postgres.url.rpartition('/')[0]}/{name}"})
        return self.settings.model_copy(update={"postgres": database, "s3": self.settings.s3.model_copy(update={"bucket": name})})

    def environment(self, settings: Settings | None = None) -> dict[str, str]:
        """Variables with which a subprocess reads *settings* (default: the shared ones)."""
        chosen = settings or self.settings
        groups = {name: getattr(chosen, name).model_dump(exclude_none=True) for name in ("postgres", "s3", "temporal", "ray", "mlflow")}
        named = {f"PERDURE_{group}__{name}".upper(): str(value) for group, values in groups.items() for name, value in values.items()}
        return {"PERDURE_HOME": str(self.home)} | named


@contextmanager
def beside(stack: Stack, home: Path, service: str) -> Iterator[Stack]:
    """*stack* with one more service, under a supervisor of its own in *home*."""
    groups = stack.settings.model_dump(include={"postgres", "s3", "temporal", "ray", "mlflow"}, exclude_none=True)
    (home / "settings.json").write_text(json.dumps({name: values for name, values in groups.items() if name != service}))
    local.up(home, only={service}, tied=True)
    while any(each.state != "ready" for each in local.status(home)):
        time.sleep(0.1)
    yield Stack(stack.home, stack.settings.model_copy(update={service: getattr(Settings(home=home), service)}))
    local.down(home)
