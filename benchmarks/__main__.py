"""``python -m benchmarks [NAME ...]``: run all benchmarks, or those named; each keeps its raw result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NAMES = [path.stem for path in sorted(Path(__file__).parent.glob("*.py")) if path.stem not in ("__init__", "__main__", "common")]


def main() -> int:
    """Each in a process of its own."""
    chosen = sys.argv[1:] or NAMES
    if unknown := set(chosen) - set(NAMES):
        print(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
        return 2
    return max(subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in chosen)


if __name__ == "__main__":
    sys.exit(main())
