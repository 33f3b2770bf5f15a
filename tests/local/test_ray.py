"""The embedded Ray head: its jobs, its token, and that none of its dozen processes outlives a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from perdure.config import Settings, resolve_secret
from perdure.local import stack as local
from perdure.local.ray import lean, socket_folder, unlink
from tests.conftest import Homes
from tests.local.processes import Process, command, family, gone, listening, supervisor, until
from tests.local.test_stack import LOOPBACK

pytestmark = pytest.mark.long
# a job that leaves its session, as careless user code may
SLEEPER = "import os, subprocess, sys, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"


@pytest.fixture(scope="module")
def head(new_home: Homes) -> Iterator[Path]:
    home = new_home()
    local.up(home, only={"ray"}, tied=True)
    yield home
    local.down(home)


class Jobs:
    """The Jobs API of this head."""

    def __init__(self, home: Path) -> None:
        ray = Settings(home=home).ray
        assert ray.url
        assert ray.token
        self.python = ray.python
        self.http = httpx.Client(base_url=ray.url, headers={"Authorization": f"Bearer {resolve_secret(ray.token)}"}, timeout=60)

    def submit(self, code: str) -> str:
        with self.http as http:
            answer = http.post("/api/jobs/", json={"entrypoint": f'{self.python} -c "{code}"'})
            return str(answer.raise_for_status().json()["submission_id"])


def end(home: Path, job: str) -> tuple[str, str]:
    """How the job ended, and what it printed."""
    with Jobs(home).http as http:
        deadline = time.monotonic() + 120
        while (state := http.get(f"/api/jobs/{job}").json()["status"]) not in ("SUCCEEDED", "FAILED", "STOPPED"):
            assert time.monotonic() < deadline, state
            time.sleep(0.2)
        return state, str(http.get(f"/api/jobs/{job}/logs").json()["logs"])


def running_job(home: Path) -> set[Process]:
    """The head's processes once a job of it runs."""
    Jobs(home).submit(SLEEPER)
    until(lambda: any(b"sleep\x00600" in command(pid) for pid, _ in family(home)), seconds=120)
    return family(home)


def test_job_sees_credentials_and_no_settings_file(head: Path) -> None:
    code = "import os, perdure.config as c; print('home', c.Settings().postgres.url, os.environ['PERDURE_HOME'])"
    state, printed = end(head, Jobs(head).submit(code))
    assert (state, printed.split()[-2:]) == ("SUCCEEDED", ["postgresql+psycopg://perdure@127.0.0.1:5432/perdure", str(head / "ray")])


def test_requests_without_the_token_are_refused(head: Path) -> None:
    assert httpx.get(f"{Settings(home=head).ray.url}/api/jobs/", timeout=10).status_code in (401, 403)


def test_head_listens_on_loopback_only(head: Path) -> None:
    assert listening(family(head)) <= LOOPBACK


def test_killed_head_takes_its_processes_along_and_comes_back(head: Path) -> None:
    before = local.status(head)[0]
    members = running_job(head) - {(pid, start) for pid, start in family(head) if pid in (supervisor(head), _parent(supervisor(head)))}
    os.kill(before.pid or 0, signal.SIGKILL)
    until(lambda: (now := local.status(head)[0]).state == "ready" and now.pid != before.pid, seconds=180)
    gone(members)
    state, _ = end(head, Jobs(head).submit("print('again')"))
    assert state == "SUCCEEDED"


def test_killed_supervisor_leaves_no_process_of_ray(head: Path) -> None:
    members = running_job(head)
    assert len(members) >= 10
    os.kill(supervisor(head), signal.SIGKILL)
    gone(members)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_long_folder_is_reached_by_a_short_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    short, long = Path("/srv/perdure/ray"), tmp_path / ("x" * 60) / "ray"
    assert socket_folder(short) == short
    link = socket_folder(long)
    assert link != long
    link.symlink_to(tmp_path)
    unlink(long)
    assert link.is_symlink(), "somebody else's link stays"
    link.unlink()
    link.symlink_to(long)
    unlink(long)
    assert not link.is_symlink()
    assert len(socket_folder(Path("/" + "y" * 200)).name) < 20


def test_a_part_that_dies_while_ray_starts_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    def unknown(address: str, node: str) -> None:
        raise RuntimeError("no such node")

    def dies(command: list[str], kind: str) -> SimpleNamespace:
        process = subprocess.Popen(["false"])
        process.wait()
        return SimpleNamespace(process=process)

    monkeypatch.setattr(services, "get_node", unknown)
    monkeypatch.setattr(services, "start_ray_process", dies)
    lean(SimpleNamespace(), head=True)
    services.start_ray_process(["raylet"], "raylet")
    with pytest.raises(RuntimeError, match="raylet"):
        services.get_node("127.0.0.1", "node")
