"""Looking at whole families of processes, for tests that kill them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from perdure.local import processes
from perdure.local.files import Home

Process = tuple[int, str]  # number and start time: numbers are used again


def supervisor(home: Path) -> int:
    return int(Home(home).lock.read_text())


def guard(home: Path) -> int:
    return int(_stat(supervisor(home))[1])


def family(home: Path) -> set[Process]:
    """The guard and everything below it."""
    return {(pid, start) for pid in {guard(home), *processes.descendants(guard(home))} if (start := started(pid))}


def started(pid: int) -> str:
    """The start time of a live process, empty for none."""
    with suppress(OSError):
        fields = _stat(pid)
        return "" if fields[0] == "Z" else fields[19]
    return ""


def alive(members: Iterable[Process]) -> set[Process]:
    return {(pid, start) for pid, start in members if started(pid) == start}


def kill(members: Iterable[Process]) -> None:
    for pid, _ in members:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def gone(members: Iterable[Process], seconds: float = 30) -> None:
    """Wait until none of them lives; what still does is named."""
    deadline = time.monotonic() + seconds
    while left := alive(members):
        assert time.monotonic() < deadline, [f"{pid} of {_stat(pid)[1]}, {_stat(pid)[0]}: {command(pid)!r}" for pid, _ in left]
        time.sleep(0.02)


def command(pid: int) -> bytes:
    """The process's command line, empty for none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def listening(members: Iterable[Process]) -> set[str]:
    """Addresses (hexadecimal, as the kernel writes them) on which these processes listen."""
    sockets = set()
    for pid, _ in members:
        with suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(os.readlink(handle))
    rows = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
