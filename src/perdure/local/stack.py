"""What people do with the local stack: `up`, `down`, `status`, `logs`."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.errors import Conflict, InvalidInput, NotFound, Permanent
from perdure.local import guard, ports, processes, ray, services
from perdure.local.configuration import SERVERS, SERVICES, available, configure, with_needs
from perdure.local.files import Home, read_json
from perdure.local.servers import ensure_servers
from perdure.local.supervisor import rotate

Echo = Callable[[str], None]
PATIENCE = 20  # seconds between signs of life
GIVE_UP = 5  # starts in a row that do not get ready, after which `up` reports a failure


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """One service as the supervisor last saw it. ``since`` is seconds since 1970; ``ready_seconds`` is what its last start took."""

    name: str
    state: str  # waiting | starting | ready | down | stopping | stopped
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    ready_seconds: float | None = None
    since: float | None = None
    log: str = ""
    url: str | None = None
    background: bool = False
    detail: str = ""


def up(home: Path, *, only: set[str] | None = None, echo: Echo = print, tied: bool = False) -> None:
    """Start the stack and wait until it is ready; where it runs already, say so and do nothing.

    *only* names the services to start, with what they need. With *tied* the stack ends with the calling thread, else it outlives the
    terminal. Raises InvalidInput for an unknown service or a damaged settings file, Permanent where a service does not get ready.
    """
    folder = Home(home.absolute())
    wanted = _wanted(only)
    folder.create()
    if _lives(folder):
        _wait(folder, echo)
        echo(f"the stack is already up in {folder.path}")
        return
    ensure_servers(folder.path, echo, wanted & {"s3", "temporal"})
    _clear(folder)
    before = {name: int(port) for name, port in read_json(folder.ports).items()}
    names = configure(folder, before, ports.pick(folder), wanted)
    if not names:
        echo("nothing to start: the settings name your own servers")
        return
    services.define(folder, names)  # what is missing here is told here, not in a log
    echo(f"starting {', '.join(name for name in SERVICES if name in names)}")
    _start(folder, names, tied)
    try:
        _wait(folder, echo)
    except Permanent:
        down(folder.path, echo=lambda _: None)
        raise


def down(home: Path, *, echo: Echo = print) -> None:
    """Stop everything in order; where nothing runs, end what a killed stack may have left. Returns when no process is left."""
    folder = Home(home.absolute())
    was_up = running(folder)
    deadline = time.monotonic() + 120
    while running(folder):
        late = time.monotonic() > deadline
        with suppress(ValueError, OSError):  # not yet written, or ended meanwhile
            os.kill(int(folder.lock.read_text()), signal.SIGKILL if late else signal.SIGTERM)
        _sleep_until(lambda: not running(folder), 120)
    _clear(folder)
    echo("the stack is down" if was_up else "the stack was not up")


def status(home: Path) -> list[ServiceStatus]:
    """Every service of the last `up`, in the order of starting; all are stopped where no supervisor runs."""
    folder = Home(home.absolute())
    alive = running(folder)
    known: dict[str, dict[str, Any]] = read_json(folder.status).get("services", {})
    gone = {} if alive else {"state": "stopped", "pid": None}
    return [ServiceStatus(name=name, **(values | gone)) for name, values in known.items()]


def logs(home: Path, service: str, follow: bool = False, lines: int = 200) -> Iterator[str]:
    """The last *lines* lines of a service's log, then new ones as they come. Raises NotFound naming the logs that exist."""
    folder = Home(home.absolute())
    path = folder.log(service)
    if not path.exists():
        known = sorted(log.stem for log in folder.logs.glob("*.log"))
        raise NotFound(f"there is no log of {service!r}", remedy=f"name one of: {', '.join(known) or 'none yet, run perdure up'}")
    return _tail(path, follow, lines)


def running(home: Home) -> bool:
    """Whether a supervisor of this folder lives. Its lock says so: a process id in a file may belong to somebody else by now."""
    with suppress(FileNotFoundError), home.lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lives(home: Home) -> bool:
    """Whether a supervisor lives, by its lock and its beat: one that was killed holds the lock for moments more."""
    asked = time.time()
    while running(home):
        with suppress(FileNotFoundError):
            if home.status.stat().st_mtime > asked:
                return True
        if time.time() > asked + 30:
            raise Conflict(f"the supervisor of {home.path} does not answer", remedy="run perdure down, then perdure up")
        time.sleep(0.05)
    return False


def _wanted(only: set[str] | None) -> set[str]:
    if only is None:
        return available() | (set(SERVICES) - set(SERVERS))
    if unknown := only - set(SERVICES):
        raise InvalidInput(f"unknown services: {', '.join(sorted(unknown))}", remedy=f"choose from {', '.join(SERVICES)}")
    only = with_needs(only)
    if missing := only & set(SERVERS) - available():
        raise InvalidInput(f"not installed: {', '.join(sorted(missing))}", remedy="pip install 'perdure[local,train-cpu]'")
    return only


def _start(home: Home, names: set[str], tied: bool) -> None:
    home.status.unlink(missing_ok=True)
    rotate(home.log("supervisor"))
    environment = {name: value for name, value in os.environ.items() if name != processes.MARK}
    with home.log("supervisor").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure.local.guard", str(home.path), *sorted(names)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.path,
            env=environment,
            start_new_session=True,  # closing the terminal does not reach it
            preexec_fn=processes.tied(signal.SIGTERM) if tied else None,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # a long-lived caller leaves no zombie
    _sleep_until(lambda: home.status.exists() or process.returncode is not None, 60)
    if process.returncode not in (None, guard.TAKEN):
        raise Permanent(
            f"the supervisor did not start:\n{_last_lines(home, 'supervisor')}", remedy="mend the cause named above and try again"
        )


def _wait(home: Home, echo: Echo) -> None:
    """Follow the services of a running supervisor until all that count are ready."""
    told: set[str] = set()
    word = time.monotonic() + PATIENCE
    while True:
        found = status(home.path)
        if not running(home):
            raise Permanent(f"the supervisor ended:\n{_last_lines(home, 'supervisor')}", remedy="mend the cause named above and try again")
        for service in found:
            if service.state == "ready" and service.name not in told:
                told.add(service.name)
                echo(f"  {service.name:<10} ready in {service.ready_seconds:.1f} s{f'   {service.url}' if service.url else ''}")
            if service.failures >= GIVE_UP and not service.background:
                text = f"{service.name} does not start: {service.detail}\n{_last_lines(home, service.name)}"
                raise Permanent(text, remedy=f"read {service.log}, mend the cause and run perdure up again")
        late = [service for service in found if service.state != "ready"]
        if found and all(service.background for service in late):
            for service in late:
                echo(f"  {service.name:<10} is still starting; nothing waits for it")
            return
        if time.monotonic() > word:
            word += PATIENCE
            echo(f"  still waiting for {', '.join(f'{service.name} ({service.detail or service.state})' for service in late)}")
        time.sleep(0.05)


def _clear(home: Home) -> None:
    """End what is left of a stack whose supervisor and guard were both killed."""

    def left() -> set[int]:
        return processes.marked(processes.mark(home.path)) | processes.working_in(home.path / "pg")

    processes.end_all(left, patience=0.2)
    if left():
        raise Conflict(f"processes of an earlier stack do not end: {sorted(left())}", remedy="end them by hand, then try again")
    ray.unlink(home.path / "ray")
    shutil.rmtree(home.scratch, ignore_errors=True)


def _tail(path: Path, follow: bool, lines: int) -> Iterator[str]:
    with path.open(errors="replace") as file:
        yield from [line.rstrip("\n") for line in file.readlines()[-lines:]]
        while follow:
            if line := file.readline():
                yield line.rstrip("\n")
            else:
                if path.stat().st_size < file.tell():  # rotated: the file was cut
                    file.seek(0)
                time.sleep(0.2)


def _last_lines(home: Home, service: str) -> str:
    with suppress(NotFound):
        return "\n".join(logs(home.path, service, lines=12))
    return ""


def _sleep_until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
