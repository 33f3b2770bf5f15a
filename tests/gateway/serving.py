"""The gateway as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from perdure.config import Settings
from perdure.local import ports
from tests.servers import Stack


class Process:
    """A gateway that can be killed."""

    def __init__(self, stack: Stack, settings: Settings, code: str | None = None, port: int | None = None) -> None:
        self.port = port or ports.spare()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {**os.environ, **stack.environment(settings), "PERDURE_GATEWAY__PORT": str(self.port)}
        command = ["-c", code] if code else ["-m", "perdure.gateway"]
        self._process = subprocess.Popen([sys.executable, *command], env=environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/healthz")
                return
            except httpx.TransportError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.end()
                    raise
                time.sleep(0.05)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(30)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Stop it, gently at first."""
        self._process.terminate()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()


@contextmanager
def serving(stack: Stack, settings: Settings, code: str | None = None, port: int | None = None) -> Iterator[Process]:
    """A gateway for the time of the block."""
    process = Process(stack, settings, code, port)
    try:
        yield process
    finally:
        process.end()
