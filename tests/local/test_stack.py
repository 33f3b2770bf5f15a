"""The real servers under the real supervisor: kills, restarts, the same data again. The tests share one stack, which each leaves up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from temporalio.client import WorkflowExecutionStatus

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings, resolve_secret
from perdure.errors import InvalidInput, NotFound, Permanent
from perdure.local import stack as local
from perdure.local.files import Home
from perdure.messages.common import ArtifactRef
from perdure.temporal import connect
from tests.conftest import Homes
from tests.local.processes import alive, family, gone, guard, kill, listening, started, supervisor, until
from tests.servers import Stack

SERVERS = {"postgres", "s3", "temporal"}
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module")
def shared(new_home: Homes) -> Iterator[Path]:
    home = new_home()
    yield home
    local.down(home)


@pytest.fixture
def home(shared: Path) -> Path:
    """The shared stack's folder, with the stack up."""
    up(shared)
    return shared


def up(home: Path) -> list[str]:
    told: list[str] = []
    local.up(home, only=SERVERS, echo=told.append, tied=True)
    return told


class Witness:
    """Something stored in each server."""

    def __init__(self, home: Path) -> None:
        self.home, self.name = home, f"w{uuid4().hex}"

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    async def store(self) -> None:
        with self._postgres() as connection:
            connection.execute(f"create table {self.name} as select 7 as seven".encode())
        self.stored: ArtifactRef = ObjectStore(self.settings.s3).put("witness", "w", self.name.encode())
        client = await connect(self.settings)
        await client.start_workflow("NobodyTakesThis", id=self.name, task_queue="nobody")

    async def check(self) -> None:
        """All is there. Servers that just came back may still refuse a first request."""
        with self._postgres() as connection:
            assert connection.execute(f"select seven from {self.name}".encode()).fetchone() == (7,)
        assert ObjectStore(self.settings.s3).get(self.stored) == self.name.encode()
        client = await connect(self.settings)
        described = await client.get_workflow_handle(self.name).describe()
        assert described.status is WorkflowExecutionStatus.RUNNING

    def _postgres(self) -> psycopg.Connection[tuple[object, ...]]:
        settings = self.settings.postgres
        return psycopg.connect(settings.url.replace("+psycopg", ""), password=resolve_secret(settings.password or ""))


def one(home: Path, name: str) -> local.ServiceStatus:
    return next(service for service in local.status(home) if service.name == name)


def test_up_says_what_runs_and_a_second_one_changes_nothing(home: Path) -> None:
    before = family(home)
    assert any("already up" in line for line in up(home))
    assert alive(before) == before
    assert {service.name: service.state for service in local.status(home)} == dict.fromkeys(SERVERS, "ready")


def test_two_stacks_run_side_by_side(home: Path, stack: Stack) -> None:
    mine, theirs = (json.loads((folder / "ports.json").read_text()) for folder in (home, stack.home))
    assert not {mine[name] for name in SERVERS} & {theirs[name] for name in SERVERS}
    assert family(home).isdisjoint(family(stack.home))


def test_everything_listens_on_loopback_only(home: Path) -> None:
    addresses = listening(family(home))
    assert addresses, "servers listen"
    assert addresses <= LOOPBACK


def test_wrong_credentials_are_refused(home: Path) -> None:
    settings = Settings(home=home).postgres
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(settings.url.replace("+psycopg", ""), password="guess")


@pytest.mark.parametrize("name", sorted(SERVERS))
async def test_killed_server_is_back_with_its_data(home: Path, name: str) -> None:
    witness = Witness(home)
    await witness.store()
    before = one(home, name)
    os.kill(before.pid or 0, signal.SIGKILL)
    until(lambda: (now := one(home, name)).state == "ready" and now.pid != before.pid)
    assert one(home, name).restarts == before.restarts + 1
    await witness.check()


async def test_down_leaves_nothing_and_up_finds_the_data(home: Path) -> None:
    witness = Witness(home)
    await witness.store()
    ports = (home / "ports.json").read_text()
    members = family(home)
    local.down(home)
    assert not alive(members)
    assert {service.state for service in local.status(home)} == {"stopped"}
    up(home)
    assert (home / "ports.json").read_text() == ports
    await witness.check()


async def test_killed_supervisor_leaves_nothing(home: Path) -> None:
    witness = Witness(home)
    await witness.store()
    members = family(home)
    os.kill(supervisor(home), signal.SIGKILL)
    gone(members)
    assert {service.state for service in local.status(home)} == {"stopped"}
    up(home)
    await witness.check()


async def test_killed_guard_ends_the_stack_in_order(home: Path) -> None:
    witness = Witness(home)
    await witness.store()
    members = family(home)
    os.kill(guard(home), signal.SIGKILL)
    gone(members)
    assert {" ".join(line.split()[1:]) for line in local.logs(home, "supervisor", lines=6)} >= {f"{name} stopped" for name in SERVERS}
    up(home)
    await witness.check()


async def test_up_after_everything_was_killed(home: Path) -> None:
    witness = Witness(home)
    await witness.store()
    members = family(home)
    kill(members)
    up(home)
    gone(members)  # a killed process takes a moment to be gone
    await witness.check()


def test_stale_process_id_of_somebody_else_is_left_alone(home: Path) -> None:
    local.down(home)
    with subprocess.Popen(["sleep", "600"]) as foreign:
        try:
            Home(home).lock.write_text(str(foreign.pid))
            assert {service.state for service in local.status(home)} == {"stopped"}
            local.down(home)
            up(home)
            assert supervisor(home) != foreign.pid
            assert foreign.poll() is None
        finally:
            foreign.kill()


async def test_port_taken_meanwhile_is_replaced_everywhere(home: Path) -> None:
    witness = Witness(home)
    await witness.store()
    local.down(home)
    taken = json.loads((home / "ports.json").read_text())["s3"]
    with socket.create_server(("127.0.0.1", taken)):
        up(home)
        assert str(taken) not in (Settings(home=home).s3.endpoint or "")
        await witness.check()


def test_two_ups_at_once_start_one_stack(home: Path) -> None:
    local.down(home)
    told: list[list[str]] = []
    threads = [threading.Thread(target=lambda: told.append(up_detached(home))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 2
    assert {service.state for service in local.status(home)} == {"ready"}
    # a second supervisor would have tried, and failed, to listen on the same ports
    assert {service.restarts for service in local.status(home)} == {0}
    local.down(home)


def up_detached(home: Path) -> list[str]:
    told: list[str] = []
    local.up(home, only=SERVERS, echo=told.append)
    return told


def starter(home: Path, **options: bool) -> subprocess.Popen[str]:
    """A process that has started the stack and waits."""
    arguments = f"Path({str(home)!r}), only={SERVERS!r}, **{options!r}"
    code = f"from pathlib import Path; from perdure.local.stack import up; up({arguments}); print('UP', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert any(line == "UP\n" for line in process.stdout)
    return process


def test_stack_outlives_the_terminal(home: Path) -> None:
    """The command that started it, and all of its session, get SIGHUP and SIGKILL."""
    local.down(home)
    with starter(home) as shell:
        members = family(home)
        os.killpg(shell.pid, signal.SIGHUP)
        os.killpg(shell.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert alive(members) == members
    local.down(home)


def test_stack_tied_to_its_caller_ends_with_it(home: Path) -> None:
    local.down(home)
    with starter(home, tied=True) as caller:
        members = family(home)
        caller.kill()
    gone(members)


def test_server_that_cannot_start_is_reported_and_nothing_stays(new_home: Homes) -> None:
    home = new_home()
    real = (home / "bin").readlink()
    (home / "bin").unlink()
    (home / "bin").mkdir()
    (home / "bin" / "temporal").symlink_to(real / "temporal")
    broken = home / "bin" / "versitygw"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Version  : v1.8.0" && exit\necho "cannot do this here" >&2\nexit 1\n')
    broken.chmod(0o755)
    with pytest.raises(Permanent, match="cannot do this here") as failure:
        up(home)
    assert "s3.log" in (failure.value.remedy or "")
    assert not local.running(Home(home))
    assert not started(supervisor(home))


def test_unknown_service_and_unknown_log_name_what_exists(home: Path) -> None:
    with pytest.raises(InvalidInput) as unknown:
        local.up(home, only={"postgre"})
    assert "postgres" in (unknown.value.remedy or "")
    with pytest.raises(NotFound) as missing:
        local.logs(home, "postgre")
    assert "postgres" in (missing.value.remedy or "")


def test_logs_follow_a_service(home: Path) -> None:
    lines = local.logs(home, "supervisor", follow=True, lines=1)
    assert next(lines)
    os.kill(one(home, "s3").pid or 0, signal.SIGKILL)
    assert "s3 down: killed by SIGKILL" in next(lines)
    until(lambda: one(home, "s3").state == "ready")


def test_nothing_is_started_where_the_settings_name_own_servers(new_home: Homes) -> None:
    home = new_home()
    (home / "settings.json").write_text(json.dumps({"postgres": {"url": "postgresql+psycopg://me@db.example.org/perdure"}}))
    told: list[str] = []
    local.up(home, only={"postgres"}, echo=told.append)
    assert "your own servers" in told[-1]
    assert not local.running(Home(home))


def test_missing_part_of_the_installation_is_told_before_anything_starts(new_home: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    home = new_home()
    with pytest.raises(InvalidInput) as missing:
        up(home)
    assert "perdure[local]" in (missing.value.remedy or "")
    assert not local.running(Home(home))
