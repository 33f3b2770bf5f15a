"""The two servers that no wheel brings, Temporal and versitygw: found, fetched or built into the data folder, whichever works first."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import CorruptArtifact, Permanent, ResourcesUnavailable
from perdure.local import build, download
from perdure.local.files import Home

Echo = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Server:
    """One pinned server. A version from *minimum* on will do where one is installed already."""

    service: str
    binary: str
    version: str
    minimum: tuple[int, ...]
    archive: str  # address of a release; {platform} is filled in
    sha256: dict[tuple[str, str], tuple[str, str]]  # (system, machine): platform in the address, checksum of the archive
    package: str  # what the Go module of the same name builds
    version_variable: str  # set by the linker, as a plain build leaves it empty


SERVERS = (
    Server(
        service="temporal",
        binary="temporal",
        version="1.8.2",
        minimum=(1, 5),
        archive="https://github.com/temporalio/cli/releases/download/v1.8.2/temporal_cli_1.8.2_{platform}.tar.gz",
        sha256={
            ("Linux", "x86_64"): ("linux_amd64", "d8421bda989e6514b4bdb4d63a9012a8a05a806892e881a5aad8510496349a94"),
            ("Linux", "aarch64"): ("linux_arm64", "83600a8fac6e3da54093e5da6918d399f501532b9f1172235603f9606f4ac6e4"),
            ("Darwin", "x86_64"): ("darwin_amd64", "489d7f5420cae02b559774ac23df035141954c33a51dba96f5759a0ddccdf1b6"),
            ("Darwin", "arm64"): ("darwin_arm64", "dacdc3587682c04cf27e67c8878ca2d755230b6ad63c0c6ebddd7348ae90ed94"),
        },
        package="github.com/temporalio/cli/cmd/temporal",
        version_variable="github.com/temporalio/cli/internal/temporalcli.Version",
    ),
    Server(
        service="s3",
        binary="versitygw",
        version="1.8.0",
        minimum=(1, 8),
        archive="https://github.com/versity/versitygw/releases/download/v1.8.0/versitygw_v1.8.0_{platform}.tar.gz",
        sha256={
            ("Linux", "x86_64"): ("Linux_x86_64", "2ba2c734d10d2c4e651d03182cb4b246656bc735a2f282db7b0b73fba6073467"),
            ("Linux", "aarch64"): ("Linux_arm64", "b34051d33f5a9c457f790896acb7bd7d7e15ad8d92efb70616b924f37e401910"),
            ("Darwin", "x86_64"): ("Darwin_x86_64", "104bd978e80ef0173554cfd8630ccc5bac24b00da440510b60365a3b6b6ab134"),
            ("Darwin", "arm64"): ("Darwin_arm64", "4953096f65a9c0d62ab184fb6b2ba7c2435229205cf00a56cb62cd4bf6b216ca"),
        },
        package="github.com/versity/versitygw/cmd/versitygw",
        version_variable="main.Version",
    ),
)


def ensure_servers(home: Path, echo: Echo = print, services: set[str] | None = None) -> None:
    """Put what *services* (default: all) need into the data folder; does nothing where it is there and fits.

    An interrupted call is taken up again by the next one. Raises ResourcesUnavailable naming what was tried.
    """
    folder = Home(home.absolute())
    folder.create()
    folder.bin.mkdir(exist_ok=True)
    wanted = [server for server in SERVERS if services is None or server.service in services]
    missing = [server for server in wanted if not fits(server, folder.bin / server.binary)]
    if not missing:
        return
    with _alone(folder, echo):
        for server in missing:
            if not fits(server, folder.bin / server.binary):  # another call may have put it there meanwhile
                _provide(server, folder, echo)
        build.tidy(folder)


def fits(server: Server, path: Path) -> bool:
    """Whether the program at *path* runs and is new enough."""
    version = _version(path)
    return version is not None and version >= server.minimum


def _provide(server: Server, home: Home, echo: Echo) -> None:
    place = home.bin / server.binary
    place.unlink(missing_ok=True)
    found = shutil.which(server.binary)
    if found and fits(server, Path(found)):
        echo(f"{server.binary}: using {found}")
        place.symlink_to(found)
        return
    failures = []
    for way in (_download, _build):
        try:
            way(server, home, echo)
        except Permanent as err:
            failures.append(err.problem)
            if isinstance(err, CorruptArtifact):  # worth a word; that a host cannot be reached is not
                echo(f"{server.binary}: {err.problem}; it is not used")
            continue
        if fits(server, place):
            return
        failures.append(f"{place} does not run here")
        place.unlink(missing_ok=True)
    raise ResourcesUnavailable(
        f"{server.binary} {server.version} cannot be had: {'; '.join(failures)}",
        remedy=f"install {server.binary} {'.'.join(map(str, server.minimum))} or newer on the PATH and try again",
    )


def _download(server: Server, home: Home, echo: Echo) -> None:
    system = os.uname()
    pinned = server.sha256.get((system.sysname, system.machine))
    if pinned is None:
        raise Permanent(f"no release is pinned for {system.sysname} on {system.machine}")
    platform, checksum = pinned
    echo(f"{server.binary}: fetching release {server.version} (seconds, where its host can be reached)")
    download.program(server.archive.format(platform=platform), checksum, server.binary, home.bin / server.binary)


def _build(server: Server, home: Home, echo: Echo) -> None:
    flags = f"-X {server.version_variable}={server.version}"
    build.program(server.binary, server.package, flags, home, echo)


def _version(path: Path) -> tuple[int, ...] | None:
    """What ``--version`` says; None where the program does not run or does not say."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"[Vv]ersion\W+v?(\d+(?:\.\d+)+)", answer)
    return tuple(int(part) for part in found[1].split(".")) if found else None


@contextmanager
def _alone(home: Home, echo: Echo) -> Iterator[None]:
    with (home.path / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo("waiting for another set-up of the same folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    from perdure.config import find_home

    ensure_servers(find_home())
