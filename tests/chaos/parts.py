"""The parts of a running stack that can be killed, and how."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from perdure.local import processes, stack
from perdure.local.files import Home

STEPS = ("prepare", "train", "evaluate", "promote")
SERVICES = {
    "temporal-worker": "worker",
    "temporal-server": "temporal",
    "postgres": "postgres",
    "s3": "s3",
    "mlflow": "mlflow",
    "ray-head": "ray",
}
UNFELT = ("temporal-worker", "temporal-server", "postgres", "mlflow")
"""Parts whose death training does not notice."""
PARTS = ("temporal-worker", "ray-worker", "ray-driver", "ray-head", "temporal-server", "postgres", "s3", "mlflow", "all")
VOID = {("ray-worker", step): "only training runs on Ray" for step in STEPS if step != "train"} | {
    ("ray-driver", step): "only training runs on Ray" for step in STEPS if step != "train"
}
"""Cells that mean nothing, with the reason."""


def kill(home: Path, part: str, training: Callable[[], list[int]]) -> list[int]:
    """kill -9 *part*; returns the pids that were sent it. *training* names the training workers' pids."""
    if part == "all":
        pids = _everything(home)
    elif part == "ray-worker":
        pids = training()[-1:]
    elif part == "ray-driver":
        pids = [pid for pid in processes.marked(processes.mark(home, "ray")) if b"perdure.jobs.main" in _command(pid)]
    elif part == "ray-head":
        pids = sorted(processes.marked(processes.mark(home, "ray")))
    else:
        pids = [service.pid for service in stack.status(home) if service.name == SERVICES[part] and service.pid]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def revive(home: Path) -> None:
    """Start again what was killed as a whole: no supervisor is left that would."""
    deadline = time.monotonic() + 30
    while stack.running(Home(home)) and time.monotonic() < deadline:
        time.sleep(0.05)  # the kernel takes a moment to end what was killed
    stack.up(home, echo=lambda _: None)


def _everything(home: Path) -> list[int]:
    """Supervisor first, so that it restarts nothing."""
    rest = processes.marked(processes.mark(home)) | processes.working_in(home / "pg")
    guard = int(Home(home).lock.read_text())
    return [guard, *sorted(rest | processes.descendants(guard))]


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
