"""The settings file of the local stack, and which of its servers somebody has replaced by their own."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from typing import Any

from perdure.config import Settings
from perdure.errors import InvalidInput
from perdure.local.files import Home, read_json, write

_ADDRESS = {"postgres": "url", "s3": "endpoint", "temporal": "address", "ray": "url", "mlflow": "url"}  # what says who serves a group
_PORT = {"postgres": "postgres", "s3": "s3", "temporal": "temporal", "ray": "ray_dashboard", "mlflow": "mlflow"}
SERVERS = tuple(_ADDRESS)
SERVICES = (*SERVERS, "worker", "reconciler", "relay", "gateway", "serving")
NEEDS: dict[str, tuple[str, ...]] = {
    "mlflow": ("postgres", "s3"),
    "worker": ("postgres", "s3", "temporal"),
    "reconciler": ("postgres", "s3", "temporal"),
    "relay": ("postgres", "temporal"),
    "gateway": ("postgres", "temporal"),
    "serving": ("postgres", "s3"),
}


def with_needs(names: set[str]) -> set[str]:
    """*names* and what they cannot do without."""
    return names | {need for name in names for need in NEEDS.get(name, ())}


def available() -> set[str]:
    """Servers that this installation can run: Ray and MLflow come with their extras, the others with `perdure[local]`."""
    return {name for name in SERVERS if name not in ("ray", "mlflow") or find_spec(name) is not None}


def embedded(home: Home, ports: dict[str, int], groups: set[str]) -> dict[str, dict[str, Any]]:
    """The settings groups of the embedded servers named in *groups*."""
    local = "127.0.0.1"
    every: dict[str, dict[str, Any]] = {
        "postgres": {
            "url": f"postgresql+psycopg://perdure@{local}:{ports['postgres']}/perdure",
            "password": f"file:{home.secret('postgres')}",
        },
        "s3": {
            "endpoint": f"http://{local}:{ports['s3']}",
            "access_key": f"file:{home.secret('s3_access_key')}",
            "secret_key": f"file:{home.secret('s3_secret_key')}",
        },
        "temporal": {"address": f"{local}:{ports['temporal']}", "ui": f"http://{local}:{ports['temporal_ui']}"},
        "ray": {"url": f"http://{local}:{ports['ray_dashboard']}", "token": f"file:{home.secret('ray')}", "python": sys.executable},
        "mlflow": {"url": f"http://{local}:{ports['mlflow']}"},
    }
    return {name: group for name, group in every.items() if name in groups}


def configure(home: Home, before: dict[str, int], ports: dict[str, int], wanted: set[str]) -> set[str]:
    """Write the settings file for the *wanted* servers; returns those of *wanted* that the local stack has to run.

    *before* are the ports as they were. A group in the file, or in the environment, whose address is none of this stack's is somebody's own
    server: it is kept and nothing is started in its place. Raises InvalidInput where the file cannot be read.
    """
    current = _current(home)
    own = {name for name in SERVERS if name in current and not _ours(name, current[name].get(_ADDRESS[name]), before)}
    kept = {name: value for name, value in current.items() if name not in SERVERS or name in own}
    if "gateway" in wanted:  # its port may not be the usual one, and addresses of web hooks name it
        kept["gateway"] = kept.get("gateway", {}) | {"port": ports["gateway"]}
    if "serving" in wanted:  # whoever reaches 127.0.0.1 of this machine may ask, unless the file says otherwise
        kept["serving"] = {"keys": False} | kept.get("serving", {}) | {"port": ports["serving"]}
    write(home.settings, json.dumps(kept | embedded(home, ports, wanted - own), indent=2) + "\n")
    settings = Settings(home=home.path)
    return {name for name in wanted if name not in SERVERS or is_embedded(home, settings, name)}


def is_embedded(home: Home, settings: Settings, name: str) -> bool:
    """Whether *settings* name the server of this folder's stack, as far as *name* is a server's."""
    if name not in SERVERS:
        return False
    address = getattr(getattr(settings, name), _ADDRESS[name])
    if name == "temporal":
        address = os.environ.get("TEMPORAL_ADDRESS", address)
    return _ours(name, address, read_json(home.ports))


def _current(home: Home) -> dict[str, Any]:
    if not home.settings.exists():
        return {}
    try:
        current = json.loads(home.settings.read_text())
    except ValueError:
        current = None
    if not isinstance(current, dict) or not all(isinstance(current.get(name, {}), dict) for name in (*SERVERS, "gateway", "serving")):
        raise InvalidInput(
            f"{home.settings} is not a JSON object of settings", remedy="mend the file, or remove it to have it written anew"
        )
    return current


def _ours(name: str, address: str | None, ports: dict[str, int]) -> bool:
    return f"127.0.0.1:{ports.get(_PORT[name])}/" in f"{address}/"
