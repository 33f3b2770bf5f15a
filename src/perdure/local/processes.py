"""How processes are tied to their parent, found again and ended, so that none outlives the supervisor.

Three ties, each for what the others miss: the kernel's parent-death signal (Linux) ends direct children at once; descent from the
guard, which adopts orphans, finds whatever they started; a mark in the environment finds what is left after everything was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

MARK = "PERDURE_SERVICE"
LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_libc = ctypes.CDLL(None) if LINUX else None  # loaded before any fork: a child between fork and exec must not load libraries


def mark(home: Path, service: str = "") -> str:
    """The value of `MARK` for a service, and the common start of all marks of a data folder for no service."""
    return f"{home}#{service}#" if service else f"{home}#"


def die_with_parent(signum: int) -> None:
    """Let the kernel send *signum* to this process when the thread that forked it ends. Does nothing outside Linux."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signum)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Does nothing outside Linux."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def tied(signum: int) -> Callable[[], None]:
    """A ``preexec_fn`` that ties a child to the calling process, also if that one ends before the child gets to it."""
    parent = os.getpid()

    def tie() -> None:
        die_with_parent(signum)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def marked(prefix: str) -> set[int]:
    """Processes that carry a mark starting with *prefix* and may be looked at by this user."""
    needle = f"{MARK}={prefix}".encode()
    found = set()
    for entry in _entries():
        with suppress(OSError):
            if any(value.startswith(needle) for value in (entry / "environ").read_bytes().split(b"\0")):
                found.add(int(entry.name))
    return found - {os.getpid()}


def in_session(leader: int) -> set[int]:
    """Processes of the session that *leader* began: those whose title overwrote their mark are still in it."""
    found = set()
    for entry in _entries():
        with suppress(OSError):
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.add(int(entry.name))
    return found


def working_in(folder: Path) -> set[int]:
    """Processes whose working directory is *folder*: Postgres overwrites its environment, but works in its data folder."""
    found = set()
    for entry in _entries():
        with suppress(OSError):
            if os.readlink(entry / "cwd") == str(folder):
                found.add(int(entry.name))
    return found - {os.getpid()}


def descendants(root: int) -> set[int]:
    """Every live process below *root*."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    heads = [root]
    while heads:
        below = children.get(heads.pop(), [])
        heads += [pid for pid in below if pid not in found]
        found.update(below)
    return found


def end_all(find: Callable[[], set[int]], patience: float = 0, limit: float = 10) -> None:
    """Wait *patience* seconds for what *find* returns to leave, then kill until it returns nothing, at most *limit* seconds more."""
    start = time.monotonic()
    while pids := find():
        waited = time.monotonic() - start
        if waited > patience + limit:
            return
        if waited >= patience:
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _entries() -> Iterator[Path]:
    if LINUX:
        yield from (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _parents() -> Iterator[tuple[int, int]]:
    """Process and parent of everything that is no zombie."""
    if not LINUX:
        table = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=False).stdout
        for line in table.splitlines():
            pid, parent, state = line.split()
            if not state.startswith("Z"):
                yield int(pid), int(parent)
        return
    for entry in _entries():
        with suppress(OSError):
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                yield int(entry.name), int(ppid)
