from __future__ import annotations

import json
from pathlib import Path

import pytest

from perdure.config import Settings, resolve_secret
from perdure.errors import InvalidInput
from perdure.local import ports
from perdure.local.configuration import SERVERS, SERVICES, configure, with_needs
from perdure.local.files import Home

EVERYTHING = set(SERVICES)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def run(home: Home, wanted: set[str] = EVERYTHING) -> set[str]:
    before = json.loads(home.ports.read_text()) if home.ports.exists() else {}
    return configure(home, before, ports.pick(home), wanted)


def test_a_secret_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    for content in (b"", b" \n", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(InvalidInput):
            resolve_secret(f"file:{file}")
    for value in ("", " ", "\udcff"):
        monkeypatch.setenv("SECRET_OF_A_TEST", value)
        with pytest.raises(InvalidInput):
            resolve_secret("env:SECRET_OF_A_TEST")
    monkeypatch.setenv("SECRET_OF_A_TEST", "s")
    assert resolve_secret("env:SECRET_OF_A_TEST") == "s"


def test_settings_name_the_embedded_servers_and_secrets_by_reference(home: Home) -> None:
    assert run(home) == EVERYTHING
    picked = json.loads(home.ports.read_text())
    settings = Settings(home=home.path)
    assert settings.postgres.url == f"postgresql+psycopg://perdure@127.0.0.1:{picked['postgres']}/perdure"
    assert settings.temporal.address == f"127.0.0.1:{picked['temporal']}"
    assert settings.home == home.path
    for reference in (settings.postgres.password, settings.s3.access_key, settings.s3.secret_key, settings.ray.token):
        assert reference is not None
        secret = resolve_secret(reference)
        assert len(secret) >= 32
        assert secret not in home.settings.read_text()
        assert Path(reference.removeprefix("file:")).stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700


def test_second_time_changes_nothing(home: Home) -> None:
    run(home)
    first = home.settings.read_text()
    assert run(home) == EVERYTHING
    assert home.settings.read_text() == first


def test_own_server_in_the_file_is_kept_and_replaces_the_embedded_one(home: Home) -> None:
    run(home)
    mine = {"url": "postgresql+psycopg://me@db.example.org:5432/perdure", "password": "env:DB_PASSWORD"}
    home.settings.write_text(json.dumps(json.loads(home.settings.read_text()) | {"postgres": mine, "log_level": "DEBUG"}))
    assert run(home) == EVERYTHING - {"postgres"}
    assert run(home) == EVERYTHING - {"postgres"}
    settings = Settings(home=home.path)
    assert settings.postgres.url == mine["url"]
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("variable", "value", "server"),
    [
        ("PERDURE_S3__ENDPOINT", "https://s3.example.org", "s3"),
        ("PERDURE_RAY__URL", "https://ray.example.org", "ray"),
        ("PERDURE_TEMPORAL__ADDRESS", "temporal.example.org:7233", "temporal"),
        ("TEMPORAL_ADDRESS", "temporal.example.org:7233", "temporal"),
    ],
)
def test_own_server_in_the_environment_replaces_the_embedded_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, server: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert run(home) == EVERYTHING - {server}


def test_the_gateway_is_known_by_its_port(home: Home) -> None:
    run(home)
    home.settings.write_text(json.dumps(json.loads(home.settings.read_text()) | {"gateway": {"max_body": 5}}))
    moved = json.loads(home.ports.read_text()) | {"gateway": 8499}
    configure(home, moved, moved, EVERYTHING)
    assert (Settings(home=home.path).gateway.port, Settings(home=home.path).gateway.max_body) == (8499, 5)


def test_serving_on_this_machine_asks_for_no_key_unless_the_file_says_so(home: Home) -> None:
    run(home)
    assert not Settings(home=home.path).serving.keys
    home.settings.write_text(json.dumps(json.loads(home.settings.read_text()) | {"serving": {"keys": True}}))
    run(home)
    assert Settings(home=home.path).serving.keys
    assert Settings(home=home.path).serving.port == json.loads(home.ports.read_text())["serving"]


def test_moved_port_is_not_taken_for_somebody_elses_server(home: Home) -> None:
    run(home)
    before = json.loads(home.ports.read_text())
    moved = before | {"postgres": before["postgres"] + 1}
    home.ports.write_text(json.dumps(moved))
    assert "postgres" in configure(home, before, moved, EVERYTHING)
    assert str(moved["postgres"]) in Settings(home=home.path).postgres.url


def test_servers_that_are_not_wanted_are_not_in_the_settings(home: Home) -> None:
    run(home, {"postgres", "s3", "temporal"})
    settings = Settings(home=home.path)
    assert settings.ray.url is None
    assert settings.mlflow.url is None


@pytest.mark.parametrize("text", ["{", "[]", '{"postgres": "me"}'])
def test_damaged_file_is_refused_not_overwritten(home: Home, text: str) -> None:
    home.settings.write_text(text)
    with pytest.raises(InvalidInput, match=r"settings\.json"):
        run(home)
    assert home.settings.read_text() == text


def test_needs() -> None:
    assert with_needs({"worker"}) == {"worker", "postgres", "s3", "temporal"}
    assert with_needs({"ray"}) == {"ray"}
    assert with_needs(set(SERVERS)) == set(SERVERS)
