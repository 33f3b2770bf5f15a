"""The compose file, as far as it can be checked without an engine: it agrees with the settings, the servers' pins and itself."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from perdure.config import Settings
from perdure.local.servers import SERVERS

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"temporal-schema", "temporal-namespace", "perdure-schema", "cli"}  # end by themselves
UNWATCHED = {"ray-worker", "temporal-ui"}  # nothing depends on them, and their images offer no cheap question
PERDURE = {name for name, service in SERVICES.items() if service["image"].startswith("perdure:")}


def environment(name: str) -> dict[str, str]:
    return {key: str(value) for key, value in SERVICES[name].get("environment", {}).items()}


def secrets(name: str) -> list[str]:
    return list(SERVICES[name].get("secrets", []))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_name_no_host(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"([a-z0-9_-]+/)?[a-z0-9_-]+:v?\d[\w.-]*", image), image


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_no_two_services_publish_the_same_port() -> None:
    published = [str(port).split(":")[1] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files_and_mounted_where_they_are_named(name: str) -> None:
    words = " ".join([*map(str, SERVICES[name].get("command", [])), yaml.safe_dump(SERVICES[name].get("healthcheck", {}))])
    named = set(re.findall(r"/run/secrets/(\w+)", words + " ".join(environment(name).values())))
    assert named <= set(secrets(name)) <= set(COMPOSE["secrets"])
    for variable, value in environment(name).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", variable):
            assert re.fullmatch(r"(file:)?/run/secrets/\w+", value), f"{variable} holds a secret itself"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE - UNWATCHED))
def test_long_running_services_have_health_checks(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_come_true(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        match how["condition"]:
            case "service_healthy":
                assert "healthcheck" in SERVICES[other]
            case "service_completed_successfully":
                assert other in ONCE
            case condition:
                pytest.fail(f"{name} waits for {other} by {condition}")
    assert name not in _needs(name), "a circle"


def _needs(name: str) -> set[str]:
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*(_needs(other) for other in direct))


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (INFRA / source).exists(), source


@pytest.mark.parametrize("name", sorted(PERDURE))
def test_processes_of_perdure_need_no_privilege(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "user" not in service, "the image's own user is right"
    assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_our_processes_run_what_exists() -> None:
    for name in ("worker", "reconciler", "relay", "serving"):
        python, flag, module = SERVICES[name]["command"]
        assert (python, flag) == ("python", "-m")
        assert importlib.util.find_spec(module) is not None
    assert SERVICES["perdure-schema"]["command"] == ["perdure", "db", "upgrade"]
    assert SERVICES["gateway"]["command"] == ["perdure", "gateway"]


@pytest.mark.parametrize("name", sorted(name for name in PERDURE if any(key.startswith("PERDURE_") for key in environment(name))))
def test_settings_are_read_and_name_services(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [each for each in os.environ if each.startswith("PERDURE_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    settings = Settings(home=tmp_path)
    groups = {group for group in Settings.model_fields if hasattr(getattr(settings, group), "model_fields_set")}
    for variable in (each for each in environment(name) if each.startswith("PERDURE_")):
        group, _, field = variable.removeprefix("PERDURE_").lower().partition("__")
        assert group in groups
        assert field in getattr(settings, group).model_fields_set, f"{variable} is no setting"
    addresses = [value for value in environment(name).values() if "://" in value or re.fullmatch(r"[\w-]+:\d+", value)]
    hosts = {re.sub(r"^\w+(\+\w+)?://(\w+@)?", "", address).split(":")[0].split("/")[0] for address in addresses}
    assert hosts <= SERVICES.keys() | {"127.0.0.1"}


def test_nodes_that_run_jobs_know_only_objects() -> None:
    for name in ("ray-head", "ray-worker"):
        assert {key.split("__")[0] for key in environment(name) if key.startswith("PERDURE_")} == {"PERDURE_S3"}
        assert "postgres_password" not in secrets(name)


def test_versions_are_those_of_the_local_stack() -> None:
    pinned = {server.service: server.version for server in SERVERS}
    assert SERVICES["s3"]["image"].endswith(f":v{pinned['s3']}")
    module = (INFRA / "servers" / "temporal" / "go.mod").read_text()
    server = re.search(r"go\.temporal\.io/server v(\S+)", module)
    assert server is not None
    for name in ("temporal", "temporal-schema", "temporal-namespace"):
        assert SERVICES[name]["image"].endswith(f":{server[1]}")


def test_the_docker_command_line_accepts_it(tmp_path: Path) -> None:
    if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose here")
    done = subprocess.run(
        ["docker", "compose", "-f", INFRA / "compose.yaml", "config", "--quiet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_secrets_are_made_once(tmp_path: Path) -> None:
    script = shutil.copy(INFRA / "secrets.sh", tmp_path)
    subprocess.run(["sh", script], check=True, capture_output=True)
    folder = tmp_path / "secrets"
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert made.keys() == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in made.values())
    assert len(set(made.values())) == len(made)
    assert folder.stat().st_mode & 0o077 == 0
    subprocess.run(["sh", script], check=True, capture_output=True)
    assert made == {path.name: path.read_text() for path in folder.iterdir()}
    assert "secrets/" in (INFRA / ".gitignore").read_text().split()


def test_databases_are_separate() -> None:
    made = re.findall(r"CREATE DATABASE (\w+)", (INFRA / "postgres" / "databases.sql").read_text())
    assert sorted(made) == ["mlflow", "temporal", "temporal_visibility"]
    assert environment("postgres")["POSTGRES_DB"] == "perdure"
