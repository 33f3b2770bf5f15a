"""The embedded Ray head: one machine, 127.0.0.1 only, with a token, and no more of the dashboard than jobs need."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from perdure.config import Settings
from perdure.errors import Conflict
from perdure.local import probes
from perdure.local.environment import QUIET, s3_environment, scratch
from perdure.local.files import Home
from perdure.local.supervisor import Service

SESSIONS = 2  # folders of logs kept: the last head's and the one before it
START_LIMIT = 180  # seconds
SHORT = 44  # bytes of a folder below which Ray's Unix sockets fit into an address (sun_path)


def service(home: Home, ports: dict[str, int], settings: Settings) -> Service:
    """The head with its Jobs API. Jobs get their S3 credentials from its environment."""
    token = home.secret("ray")
    folder = home.path / "ray"
    jobs = ports["ray_dashboard"]
    options = {
        "--node-ip-address": "127.0.0.1",
        "--port": ports["ray_gcs"],
        "--dashboard-host": "127.0.0.1",
        "--dashboard-port": jobs,
        "--dashboard-agent-listen-port": ports["ray_agent"],
        "--dashboard-agent-grpc-port": ports["ray_agent_grpc"],
        "--runtime-env-agent-port": ports["ray_runtime_env"],
        "--metrics-export-port": ports["ray_metrics"],
        "--min-worker-port": 0,  # any: two heads on one machine would meet in the default range
        "--max-worker-port": 0,
        "--num-cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "--include-dashboard": "true",
        "--temp-dir": socket_folder(folder),
        "--log-style": "record",
        "--log-color": "false",
    }
    flags = [str(part) for pair in options.items() for part in pair]

    async def prepare() -> None:
        folder.mkdir(exist_ok=True)
        _link(folder)
        for old in sorted(folder.glob("session_2*"))[:-SESSIONS]:
            shutil.rmtree(old, ignore_errors=True)

    return Service(
        name="ray",
        command=[
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            "--no-monitor",
            *flags,
        ],
        environment=QUIET
        | s3_environment(settings)
        | scratch(home)
        | {
            "PERDURE_HOME": str(folder),  # jobs see the settings above, not the file with everybody's
            "PERDURE_CACHE": str(home.path / "cache"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps every part to 127.0.0.1; otherwise the Jobs API hangs on another address
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_LIMIT),  # their defaults are too short for a busy machine
            "RAY_agent_register_timeout_ms": str(START_LIMIT * 1000),
            "NODE_STATS_UPDATE_INTERVAL_SECONDS": "1",  # before it knows its nodes a new head refuses jobs; its default is 15
            "RAY_ROTATION_MAX_BYTES": str(10 << 20),
            "RAY_ROTATION_BACKUP_COUNT": "2",
            "RAY_START_HOOK": f"{__name__}.lean",
        },
        # the Jobs API answers before the agent that starts jobs does
        probe=probes.both(
            probes.http(jobs, "/api/version", token.read_text().strip()),
            probes.http(ports["ray_agent"], "/api/local_raylet_healthz", token.read_text().strip()),
        ),
        before=prepare,
        start_limit=START_LIMIT,
        url=f"http://127.0.0.1:{jobs}",
    )


def lean(params: Any, head: bool) -> None:
    """Called by `ray start` before it starts anything.

    It leaves out what no job uses (a third of the memory, seconds of the start), and lets a busy machine take longer: Ray itself gives its
    node 30 seconds to come up, and asks for it without a pause. A part that dies meanwhile ends the start, so that the next one begins: Ray
    watches its parts only once all are up, and its raylet gives its agents 15 seconds before it ends itself.
    """
    from ray._private import ray_constants, services

    params.ray_client_server_port = None
    start, get_node = services.start_ray_process, services.get_node
    began = time.monotonic()
    started: dict[str, Any] = {}

    def start_process(command: list[str], kind: str, *args: Any, **options: Any) -> Any:
        if kind == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, "--modules-to-load=JobHead,NodeHead"]  # NodeHead tells JobHead where the head's agent is
        started[kind] = start(command, kind, *args, **options)
        return started[kind]

    def wait_for_node(address: str, node: str) -> Any:
        while True:
            try:
                return get_node(address, node)
            except RuntimeError:  # not registered yet
                if dead := [kind for kind, info in started.items() if info.process.poll() is not None]:
                    raise RuntimeError(f"died while Ray was starting: {', '.join(dead)}") from None
                if time.monotonic() - began > START_LIMIT:
                    raise
                time.sleep(0.1)

    services.start_ray_process, services.get_node = start_process, wait_for_node


def socket_folder(folder: Path) -> Path:
    """*folder*, or a link to it in the system's temporary folder where its own path is too long for Unix sockets."""
    if len(os.fsencode(folder)) <= SHORT:
        return folder
    return Path(tempfile.gettempdir()) / f"perdure-{sha256(os.fsencode(folder)).hexdigest()[:10]}"


def unlink(folder: Path) -> None:
    """Remove the link that `socket_folder` names, if it is ours."""
    link = socket_folder(folder)
    if link != folder and link.is_symlink() and link.readlink() == folder:
        link.unlink()


def _link(folder: Path) -> None:
    link = socket_folder(folder)
    if link == folder:
        return
    if not link.is_symlink():
        link.symlink_to(folder)
    if link.readlink() != folder or link.lstat().st_uid != os.geteuid():
        raise Conflict(f"{link} belongs to somebody else", remedy="remove it, or set TMPDIR to a folder of your own")
