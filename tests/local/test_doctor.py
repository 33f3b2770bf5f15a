"""What doctor finds on good servers and on bad settings."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.local import ports
from perdure.local.configuration import configure
from perdure.local.doctor import Check, doctor
from perdure.local.files import Home
from perdure.metadata.upgrade import upgrade
from tests.servers import Stack


@pytest.fixture
def home(stack: Stack, tmp_path: Path) -> Path:
    """A data folder whose settings name the session's servers, with a database and a bucket of its own."""
    settings = stack.isolated()
    upgrade(settings)
    groups = settings.model_dump(include={"postgres", "s3", "temporal"}, exclude_none=True)
    (tmp_path / "settings.json").write_text(json.dumps(groups))
    return tmp_path


def change(home: Path, group: str, **values: object) -> None:
    settings = json.loads((home / "settings.json").read_text())
    settings[group] = settings.get(group, {}) | values
    (home / "settings.json").write_text(json.dumps(settings))


def failed(home: Path) -> dict[str, Check]:
    found = {check.name: check for check in doctor(home) if not check.ok}
    assert all(check.remedy for check in found.values()), "every failure names its remedy"
    return found


def test_everything_is_well(home: Path) -> None:
    checks = doctor(home)
    assert [check for check in checks if not check.ok] == []
    assert {check.name for check in checks} >= {
        "disk",
        "ports",
        "clock",
        "postgres",
        "schema",
        "s3",
        "s3 conditions",
        "temporal",
        "search attributes",
    }


def test_wrong_password(home: Path, tmp_path: Path) -> None:
    (tmp_path / "guess").write_text("guess")
    change(home, "postgres", password=f"file:{tmp_path / 'guess'}")
    assert "password" in failed(home)["postgres"].detail


def test_unreadable_secret(home: Path) -> None:
    change(home, "postgres", password="file:/nowhere")
    assert "/nowhere" in failed(home)["postgres"].detail


def test_schema_that_was_never_made(home: Path, stack: Stack) -> None:
    change(home, "postgres", url=stack.isolated().postgres.url)
    assert "perdure db upgrade" in (failed(home)["postgres"].remedy or "")


def test_servers_that_do_not_answer(home: Path) -> None:
    change(home, "postgres", url="postgresql+psycopg://perdure@127.0.0.1:9/perdure")
    change(home, "s3", endpoint="http://127.0.0.1:9")
    change(home, "temporal", address="127.0.0.1:9")
    change(home, "ray", url="http://127.0.0.1:9")
    change(home, "mlflow", url="http://127.0.0.1:9")
    found = failed(home)
    assert set(found) == {"postgres", "s3", "temporal", "ray", "mlflow"}
    assert {name for name, check in found.items() if check.optional} == {"ray", "mlflow"}


def test_wrong_keys_and_missing_bucket(home: Path, tmp_path: Path) -> None:
    change(home, "s3", bucket="missing")
    assert "does not exist" in failed(home)["s3"].detail
    (tmp_path / "guess").write_text("guess")
    change(home, "s3", secret_key=f"file:{tmp_path / 'guess'}")
    assert "refused the credentials" in failed(home)["s3"].detail


def test_missing_namespace(home: Path) -> None:
    change(home, "temporal", namespace="nowhere")
    assert "operator namespace create -n nowhere" in (failed(home)["temporal"].remedy or "")


def test_stack_that_is_down(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    configure(home, {}, ports.pick(home), {"postgres", "s3", "temporal"})
    found = failed(home.path)
    assert {name: check.remedy for name, check in found.items()} == dict.fromkeys(("postgres", "s3", "temporal"), "run `perdure up`")


def test_damaged_settings(home: Path) -> None:
    (home / "settings.json").write_text('{"postgres": {"uri": "typo"}}')
    (check,) = doctor(home)
    assert "uri" in check.detail
    assert str(home / "settings.json") in (check.remedy or "")


class Deaf(http.server.BaseHTTPRequestHandler):
    """An S3 that takes every write, whatever its conditions; and a Ray of another version that wants another token."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"<DeleteResult/>")

    def do_GET(self) -> None:
        if self.path == "/api/version":
            right = self.headers["Authorization"] == "Bearer right"
            self._answer(200 if right else 401, b'{"ray_version": "2.9.3"}')
        elif self.path == "/version":
            self._answer(200, b"2.22.0")
        else:
            self._answer(200, b"2")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(0)  # a clock that stands at 1970

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def deaf() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_s3_that_ignores_conditions_and_a_clock_that_is_wrong(home: Path, deaf: str) -> None:
    change(home, "s3", endpoint=deaf)
    found = failed(home)
    assert set(found) == {"s3 conditions", "clock"}
    assert "stale writer" in (found["s3 conditions"].remedy or "")


def test_old_versions_and_a_wrong_token(home: Path, deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "wrong")
    change(home, "ray", url=deaf, token="env:TOKEN")
    change(home, "mlflow", url=deaf)
    found = failed(home)
    assert "refused the token" in found["ray"].detail
    assert "upgrade mlflow to 3" in (found["mlflow"].remedy or "")
    monkeypatch.setenv("TOKEN", "right")
    assert "install ray 2.9.3 here" in (failed(home)["ray"].remedy or "")
