"""The supervisor: starts services in the order of their needs, watches them, restarts what dies, stops them in reverse order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from perdure.errors import PerdureError
from perdure.local import commands, processes
from perdure.local.files import Home, write
from perdure.local.probes import Probe

POLL = 0.1  # seconds between looks at a service that is starting
Step = Callable[[], Awaitable[None]]
BEAT = 0.5  # seconds between signs of life
STEADY = 30.0  # a service that ran this long restarts as if it had never failed


@dataclass(frozen=True, kw_only=True)
class Service:
    """One supervised process and what is known about it."""

    name: str
    command: Sequence[str]
    probe: Probe
    needs: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    before: Step | None = None  # before every start
    after: Step | None = None  # once it first answers, before it counts as ready
    stop_signal: int = signal.SIGTERM
    death_signal: int | None = signal.SIGKILL  # from the kernel when the supervisor dies; None: the command sees to it itself
    grace: float = 10  # seconds from the stop signal to SIGKILL
    start_limit: float = 60  # seconds until a start that does not get ready is given up
    interval: float = 5  # seconds between looks at a ready service
    misses: int = 6  # looks in a row without an answer after which it is killed and restarted
    background: bool = False  # `up` does not wait for it
    url: str | None = None  # for people


class Backoff:
    """Seconds to wait before the next start: short at first, doubled while starts follow one another, short again after a steady run."""

    def __init__(self, first: float = 0.2, top: float = 10) -> None:
        self._first, self._top, self._next = first, top, first

    def after(self, ran: float) -> float:
        """The wait after a run of *ran* seconds."""
        if ran >= STEADY:
            self._next = self._first
        delay, self._next = self._next, min(self._next * 2, self._top)
        return delay


class Unit:
    """One service over its restarts."""

    def __init__(self, service: Service, home: Home, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.service = service
        self.state, self.detail, self.since = "waiting", "", time.time()
        self.restarts = 0
        self.failures = 0  # starts in a row that never became ready
        self.ready_seconds: float | None = None
        self.ready = asyncio.Event()
        self._home, self._changed, self._clock = home, changed, clock
        self._mark = processes.mark(home.path, service.name)
        self._process: asyncio.subprocess.Process | None = None
        self._settled = False

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self, needed: Sequence[asyncio.Event]) -> None:
        """Keep the service up until this is cancelled; cancelling leaves its process to `stop`."""
        backoff = Backoff()
        while True:
            self._note("waiting")
            for event in needed:
                await event.wait()
            started = self._clock()
            try:
                why = await self._serve()
            except (OSError, commands.CommandFailed, PerdureError) as err:
                self.detail = why = str(err)
                self.failures += 1
                await self._end()
            self.ready.clear()
            await self._sweep()
            self.restarts += 1
            delay = backoff.after(self._clock() - started)
            self._note("down", f"{why}; next start in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """End the process and everything that it started: stop signal, patience, SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._note("stopping")
            with suppress(ProcessLookupError):
                self._process.send_signal(self.service.stop_signal)
            try:
                async with asyncio.timeout(self.service.grace):
                    await self._process.wait()
            except TimeoutError:
                await self._end()
        await self._sweep()
        self.ready.clear()
        self._note("stopped")

    async def _serve(self) -> str:
        """One life of the process; returns how it ended."""
        if self.service.before is not None:
            await self.service.before()
        self._note("starting")
        started = self._clock()
        process = self._process = await self._spawn()
        self._changed()
        exited = asyncio.create_task(process.wait())
        try:
            if await self._becomes_ready(exited, started):
                self.ready_seconds, self.failures = round(self._clock() - started, 2), 0
                self.ready.set()
                self._note("ready")
                await self._watch(exited)
            else:
                self.failures += 1
            return self._ending(await exited)
        finally:
            exited.cancel()

    async def _spawn(self) -> asyncio.subprocess.Process:
        service, path = self.service, self._home.log(self.service.name)
        rotate(path)
        with path.open("ab", buffering=0) as log:
            return await asyncio.create_subprocess_exec(
                *service.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home.path,
                env={**os.environ, **service.environment, processes.MARK: self._mark},
                start_new_session=True,
                preexec_fn=None if service.death_signal is None else processes.tied(service.death_signal),
            )

    async def _becomes_ready(self, exited: asyncio.Task[int], started: float) -> bool:
        while not exited.done():
            if await self._answers(limit=2):
                if self.service.after is not None and not self._settled:
                    await self.service.after()
                    self._settled = True
                return not exited.done()
            if self._clock() - started > self.service.start_limit:
                self.detail = f"not ready within {self.service.start_limit:.0f} s"
                await self._end()
                return False
            await asyncio.wait({exited}, timeout=POLL)
        return False

    async def _watch(self, exited: asyncio.Task[int]) -> None:
        missed = 0
        while not (await asyncio.wait({exited}, timeout=self.service.interval))[0]:
            rotate(self._home.log(self.service.name))
            missed = 0 if await self._answers(limit=5) else missed + 1
            if missed >= self.service.misses:
                self.detail = f"did not answer {missed} times in a row"
                await self._end()

    async def _answers(self, limit: float) -> bool:
        try:
            async with asyncio.timeout(limit):
                await self.service.probe()
        except (OSError, EOFError, ValueError, TimeoutError) as err:
            self.detail = f"{type(err).__name__}: {err}"
            return False
        self.detail = ""
        return True

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _sweep(self) -> None:
        """End what the process started and left behind. A number is not given out again while its session has members."""
        leader = self._process.pid if self._process is not None else 0
        await asyncio.to_thread(
            processes.end_all, lambda: processes.marked(self._mark) | (processes.in_session(leader) if leader else set())
        )

    def _ending(self, code: int) -> str:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{how} ({self.detail})" if self.detail else how

    def _note(self, state: str, detail: str = "") -> None:
        self.state, self.detail, self.since = state, detail, time.time()
        took = f" in {self.ready_seconds:.2f} s" if state == "ready" else ""
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {self.service.name} {state}{took}{f': {detail}' if detail else ''}", flush=True)
        self._changed()


class Supervisor:
    """All services of one data folder."""

    def __init__(self, home: Home, services: Sequence[Service]) -> None:
        self._home = home
        self.units = {service.name: Unit(service, home, self._save) for service in services}

    async def run(self, stop: asyncio.Event) -> None:
        """Keep everything up until *stop* is set, then end it in reverse order."""
        tasks = {
            name: asyncio.create_task(unit.run([self.units[need].ready for need in unit.service.needs if need in self.units]))
            for name, unit in self.units.items()
        }
        stopping, beating = asyncio.create_task(stop.wait()), asyncio.create_task(self._beat())
        ended, _ = await asyncio.wait({stopping, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        beating.cancel()
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
        remaining = dict(self.units)
        while remaining:  # those that nothing left needs, all at once
            idle = [name for name in remaining if not any(name in unit.service.needs for unit in remaining.values())]
            await asyncio.gather(*(remaining.pop(name).stop() for name in idle))
        for fault in ended - {stopping}:
            await fault  # a unit ends by itself only through a fault in this program, which is raised here

    async def _beat(self) -> None:
        """Touch the status file: whoever waits for us sees that we live."""
        while True:
            await asyncio.sleep(BEAT)
            with suppress(OSError):
                os.utime(self._home.status)

    def _save(self) -> None:
        services = {
            name: {
                "state": unit.state,
                "pid": unit.pid,
                "restarts": unit.restarts,
                "failures": unit.failures,
                "ready_seconds": unit.ready_seconds,
                "since": unit.since,
                "log": str(self._home.log(name)),
                "url": unit.service.url,
                "background": unit.service.background,
                "detail": unit.detail,
            }
            for name, unit in self.units.items()
        }
        with suppress(OSError):  # a full disk must not end the supervisor
            write(self._home.status, json.dumps({"pid": os.getpid(), "services": services}, indent=2) + "\n")


def rotate(path: Path, limit: int = 10 << 20, keep: int = 3) -> None:
    """Move a log of more than *limit* bytes to ``.1`` and so on. Writers append, so the file is copied and cut, not renamed.

    Where the disk is full, it is cut without a copy: that makes room, and no log is worth a service. Never raises OSError.
    """
    copy = path.with_name(f"{path.name}.1")
    with suppress(OSError):
        if not path.exists() or path.stat().st_size <= limit:
            return
        for number in range(keep - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        try:
            shutil.copyfile(path, copy)
        except OSError:
            copy.unlink(missing_ok=True)
        os.truncate(path, 0)
