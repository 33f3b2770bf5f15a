"""x"""

from pathlib import Path
from typing import Any


def ensure_servers(home: Path, echo: Any, names: set[str]) -> None: ...
