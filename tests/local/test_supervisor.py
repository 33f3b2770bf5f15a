"""The supervisor with small programs in place of servers."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perdure.local import processes
from perdure.local.commands import CommandFailed
from perdure.local.files import Home
from perdure.local.supervisor import STEADY, Backoff, Service, Supervisor, rotate

SLEEP = "import time; time.sleep(600)"
LEAVES_A_CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


async def ready() -> None:
    """A probe that is content with a process."""


def program(name: str, code: str = SLEEP, **options: object) -> Service:
    return Service(name=name, command=[sys.executable, "-c", code], **{"probe": ready, "interval": 0.05, **options})  # type: ignore[arg-type]


@asynccontextmanager
async def supervised(home: Home, *services: Service) -> AsyncIterator[Supervisor]:
    supervisor, stop = Supervisor(home, services), asyncio.Event()
    running = asyncio.create_task(supervisor.run(stop))
    try:
        yield supervisor
    finally:
        stop.set()
        await running


async def until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.01)


def journal(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the supervisor did: ``name state``."""
    return [" ".join(line.split()[1:3]).rstrip(":") for line in capsys.readouterr().out.splitlines()]


async def test_starts_after_needs_and_stops_in_reverse(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    opened = asyncio.Event()

    async def slow() -> None:
        if not opened.is_set():
            raise OSError("not yet")

    async with supervised(home, program("store", probe=slow), program("worker", needs=("store", "absent"))) as supervisor:
        await until(lambda: supervisor.units["store"].state == "starting")
        await asyncio.sleep(0.3)
        assert supervisor.units["worker"].state == "waiting"
        opened.set()
        await until(supervisor.units["worker"].ready.is_set)
    done = journal(capsys)
    assert done.index("store ready") < done.index("worker starting")
    assert done[-4:] == ["worker stopping", "worker stopped", "store stopping", "store stopped"]


async def test_killed_service_is_back_at_once(home: Home) -> None:
    async with supervised(home, program("server")) as supervisor:
        unit = supervisor.units["server"]
        await until(unit.ready.is_set)
        first = unit.pid
        assert first is not None
        killed = time.monotonic()
        os.kill(first, signal.SIGKILL)
        await until(lambda: unit.restarts == 1 and unit.ready.is_set())
        assert time.monotonic() - killed < 5  # 0.2 s and the program's start, on an idle machine
        assert unit.pid not in (None, first)
        written = json.loads(home.status.read_text())["services"]["server"]
        assert (written["pid"], written["restarts"], written["state"]) == (unit.pid, 1, "ready")
        assert written["log"] == str(home.log("server"))


async def test_children_of_a_killed_service_end_before_it_starts_again(home: Home) -> None:
    async with supervised(home, program("parent", LEAVES_A_CHILD)) as supervisor:
        unit = supervisor.units["parent"]
        await until(lambda: unit.pid and processes.descendants(unit.pid))
        children = processes.descendants(unit.pid or 0)
        os.kill(unit.pid or 0, signal.SIGKILL)
        await until(lambda: unit.restarts == 1 and unit.ready.is_set())
        assert not any(alive(child) for child in children)
        await until(lambda: unit.pid and processes.descendants(unit.pid))
        second = processes.descendants(unit.pid or 0)
    assert second
    assert not any(alive(child) for child in second)


async def test_silent_service_is_killed_and_started_again(home: Home) -> None:
    answers = True

    async def probe() -> None:
        if not answers:
            raise OSError("no answer")

    async with supervised(home, program("server", probe=probe, misses=3)) as supervisor:
        unit = supervisor.units["server"]
        await until(unit.ready.is_set)
        answers = False
        await until(lambda: "did not answer 3 times" in unit.detail)
        answers = True
        await until(lambda: unit.restarts == 1 and unit.ready.is_set())


async def test_stopped_program_misses_its_probes(home: Home, tmp_path: Path) -> None:
    """SIGSTOP leaves a process that exists and does nothing: only its answers tell."""
    port = tmp_path / "port"
    code = (
        "import socket, sys, pathlib; s = socket.create_server(('127.0.0.1', 0)); "
        f"pathlib.Path({str(port)!r}).write_text(str(s.getsockname()[1]));\nwhile True: c, _ = s.accept(); c.send(b'x'); c.close()"
    )

    async def probe() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port.read_text()))
        try:
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        finally:
            writer.close()

    async with supervised(home, program("server", code, probe=probe, misses=2)) as supervisor:
        unit = supervisor.units["server"]
        await until(unit.ready.is_set)
        os.kill(unit.pid or 0, signal.SIGSTOP)
        await until(lambda: unit.restarts == 1 and unit.ready.is_set())


async def test_service_that_ignores_the_stop_signal_is_killed(home: Home) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    async with supervised(home, program("deaf", deaf, grace=0.3)) as supervisor:
        unit = supervisor.units["deaf"]
        await until(lambda: "deaf" in home.log("deaf").read_text() if home.log("deaf").exists() else False)
        pid = unit.pid
    assert pid is not None
    assert not alive(pid)


async def failing() -> None:
    raise CommandFailed("initdb failed with exit code 1: no room")


@pytest.mark.parametrize("hook", ["before", "after"])
async def test_failed_preparation_is_told_and_tried_again(home: Home, hook: str) -> None:
    tries = 0

    async def prepare() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            await failing()

    async with supervised(home, program("server", **{hook: prepare})) as supervisor:
        unit = supervisor.units["server"]
        await until(lambda: unit.failures == 1 and "no room" in unit.detail)
        await until(unit.ready.is_set)
        assert (unit.restarts, unit.failures) == (2, 0)


async def test_missing_program_is_told(home: Home) -> None:
    missing = Service(name="server", command=["/nowhere/server"], probe=ready)
    async with supervised(home, missing) as supervisor:
        await until(lambda: supervisor.units["server"].failures >= 1)
        assert "/nowhere/server" in supervisor.units["server"].detail


async def test_fault_in_the_supervisor_ends_it_in_order(home: Home) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    stop = asyncio.Event()
    supervisor = Supervisor(home, [program("first"), program("second", probe=broken)])
    with pytest.raises(ZeroDivisionError):
        await supervisor.run(stop)
    assert {unit.state for unit in supervisor.units.values()} == {"stopped"}
    assert not processes.marked(processes.mark(home.path))


def test_backoff_grows_and_forgets_after_a_steady_run() -> None:
    backoff = Backoff(first=0.2, top=10)
    assert [backoff.after(1) for _ in range(8)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    assert [backoff.after(STEADY + 1) for _ in range(100)] == pytest.approx([0.2] * 100)


def test_rotation_keeps_what_a_writer_appends_later(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with path.open("ab", buffering=0) as writer:
        for turn in range(5):
            writer.write(b"%d" % turn * 100)
            rotate(path, limit=50, keep=3)
        writer.write(b"last")
    assert path.read_bytes() == b"last"
    assert [path.with_name(f"server.log.{number}").read_bytes()[:1] for number in (1, 2, 3)] == [b"4", b"3", b"2"]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_log_is_cut_without_a_copy_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(b"a" * 100)

    def full(_: Path, copy: Path) -> None:
        copy.write_bytes(b"a" * 10)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    rotate(path, limit=50)
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [("server.log", 0)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
