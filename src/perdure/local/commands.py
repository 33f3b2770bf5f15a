"""Short commands that prepare a service, run without blocking the supervisor and ended with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from perdure.local import processes


class CommandFailed(Exception):
    """A command that prepares a service did not succeed."""


async def run(command: Sequence[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a short command tied to this process and return its output. Raises CommandFailed with the last lines of it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        preexec_fn=processes.tied(signal.SIGKILL),
    )
    try:
        output = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise CommandFailed(f"{Path(command[0]).name} failed with exit code {process.returncode}: {output.strip()[-1000:]}")
    return output
