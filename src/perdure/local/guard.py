"""The process above the supervisor: it outlives it by a moment, to end whatever a killed supervisor left behind.

``python -m perdure.local.guard HOME SERVICE...`` locks the data folder, forks the supervisor and waits. It ends with `TAKEN` where
another one runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from perdure.local import processes
from perdure.local.files import Home

TAKEN = 3


def main(home: Home, only: set[str]) -> int:
    """Run the supervisor to its end; returns its exit code."""
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # shared with the fork: free again when both have ended, however they end
    except BlockingIOError:
        return TAKEN
    processes.adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    child = os.fork()
    if child == 0:
        processes.die_with_parent(signal.SIGTERM)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        _supervise(home, only)
        return 0
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda received, _: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    while True:
        pid, status = os.wait()  # adopted orphans are waited for here, too
        if pid == child:
            break
    code = os.waitstatus_to_exitcode(status)
    _end_descendants(patience=0 if code == 0 else 1)  # Postgres got its own signal: let it end well
    return 1 if code < 0 else code


def _end_descendants(patience: float, limit: float = 30) -> None:
    """Kill every process below this one until none is left, at most *limit* seconds.

    That none is left is for the kernel to say: whoever looks at processes one by one misses those that are being adopted meanwhile.
    """
    started = time.monotonic()
    while (waited := time.monotonic() - started) < limit:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if waited >= patience:
            for pid in processes.descendants(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _supervise(home: Home, only: set[str]) -> None:
    import asyncio  # imported in the fork: the guard stays small

    from perdure.local import services
    from perdure.local.supervisor import Supervisor

    async def run() -> None:
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        await Supervisor(home, services.define(home, only)).run(stop)

    asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main(Home(Path(sys.argv[1])), set(sys.argv[2:])))
