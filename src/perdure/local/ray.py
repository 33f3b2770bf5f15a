"""The embedded Ray head."""

from __future__ import annotations

from perdure.config import Settings
from perdure.local.files import Home
from perdure.local.supervisor import Service


def service(home: Home, ports: dict[str, int], settings: Settings) -> Service: ...
