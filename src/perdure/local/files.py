"""The data folder: where each part of the local stack keeps its things."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Home:
    """Paths below one data folder. Nothing of the local stack lies anywhere else."""

    path: Path

    @property
    def bin(self) -> Path:
        """Servers that were found, fetched or built."""
        return self.path / "bin"

    @property
    def logs(self) -> Path:
        """One file per service, and rotated ones beside it."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor for as long as it lives; holds its process id."""
        return self.path / "supervisor.lock"

    @property
    def status(self) -> Path:
        """What the supervisor last wrote about each service."""
        return self.path / "status.json"

    @property
    def settings(self) -> Path:
        """What `perdure.config.Settings` reads."""
        return self.path / "settings.json"

    @property
    def ports(self) -> Path:
        """The ports, picked once."""
        return self.path / "ports.json"

    @property
    def scratch(self) -> Path:
        """The temporary folder of jobs, where its path is short enough."""
        return self.path / "tmp"

    def log(self, service: str) -> Path:
        """The service's current log file."""
        return self.logs / f"{service}.log"

    def secret(self, name: str) -> Path:
        """The file that holds a secret, generated on first use. Readable by its owner only."""
        path = self.path / "secrets" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(path, secrets.token_hex(24), mode=0o600)
        return path

    def create(self) -> None:
        """Make the folder, closed to other users."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace *path* as a whole: a reader sees the old text or the new one, also when this process is killed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object in *path*; empty where there is none, or none that can be read."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
