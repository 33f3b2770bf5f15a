"""Configuration of the servers: Temporal's is rendered and read, Prometheus scrapes what is there, alerts speak of metrics that exist."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from tests.infra.test_compose import INFRA, ROOT, SERVICES, environment

TEMPORAL = (INFRA / "temporal" / "config.yaml").read_text()
SCRAPE: list[dict[str, Any]] = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]


def rendered() -> dict[str, Any]:
    """Temporal's configuration with the template's defaults, as its server renders it."""
    assert "enable-template" in TEMPORAL[:1024], "else the server takes the braces as they are"
    text = re.sub(r'\{\{ default "([^"]*)" \(env "\w+"\) \}\}', r"\1", TEMPORAL)
    assert "{{" not in text
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def test_temporal_reads_its_password_from_the_mounted_secret() -> None:
    config = rendered()
    for store, database in (("default", "temporal"), ("visibility", "temporal_visibility")):
        sql = config["persistence"]["datastores"][store]["sql"]
        assert sql["databaseName"] == database
        assert "password" not in sql
        assert sql["passwordCommand"] == {"command": "cat", "args": ["/run/secrets/postgres_password"]}
        assert sql["connectAddr"] == "postgres:5432"
        assert sql["user"] == environment("postgres")["POSTGRES_USER"]
    assert config["persistence"]["numHistoryShards"] == 64


def test_temporal_reads_variables_that_somebody_sets() -> None:
    named = set(re.findall(r'env "(\w+)"', TEMPORAL))
    given = set(environment("temporal")) | {"TEMPORAL_BROADCAST_ADDRESS"}  # by the image's entry point
    assert given - {"TEMPORAL_SERVER_CONFIG_FILE_PATH", "TEMPORAL_ALLOW_NO_AUTH"} <= named
    assert rendered()["services"]["frontend"]["rpc"]["grpcPort"] == 7233
    assert yaml.safe_load((INFRA / "temporal" / "dynamic.yaml").read_text())["history.maxInFlightUpdates"] == [{"value": 100}]


@pytest.mark.parametrize("script", ["secrets.sh", "temporal/schema.sh", "temporal/namespace.sh"])
def test_scripts_are_shell(script: str) -> None:
    subprocess.run(["sh", "-n", INFRA / script], check=True)


def targets(job: dict[str, Any]) -> list[tuple[str, int]]:
    static = [tuple(target.split(":")) for config in job.get("static_configs", []) for target in config["targets"]]
    found = [(name, config["port"]) for config in job.get("dns_sd_configs", []) for name in config["names"]]
    return [(name, int(port)) for name, port in [*static, *found]]


def test_prometheus_scrapes_every_process_on_its_port() -> None:
    scraped = dict(target for job in SCRAPE for target in targets(job))
    assert scraped.keys() <= SERVICES.keys()
    for name in ("worker", "reconciler", "relay"):
        assert scraped[name] == int(environment(name)["PERDURE_WORKER__METRICS_PORT"])
        assert environment(name)["PERDURE_WORKER__METRICS_HOST"] == "0.0.0.0"
    assert rendered()["global"]["metrics"]["prometheus"]["listenAddress"] == f"0.0.0.0:{scraped['temporal']}"
    for name in ("ray-head", "ray-worker"):
        assert f"--metrics-export-port={scraped[name]}" in SERVICES[name]["command"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_are_complete_and_speak_of_known_metrics(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description"}
    expression = rule["expr"]
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    jobs = set(re.findall(r'job="([\w-]+)"', expression))
    assert jobs <= {job["job_name"] for job in SCRAPE}
    metrics = set(re.findall(r"\b(?:perdure|temporal|persistence)_\w+", expression))
    assert metrics <= known(), "a metric that nothing exports"
    assert metrics or jobs


def known() -> set[str]:
    """Metrics that the operating guide lists; those of Perdure itself must stand in its code as well."""
    listed = set(re.findall(r"`((?:perdure|temporal|persistence)_\w+)`", (ROOT / "docs" / "operating.md").read_text()))
    modules = [*(ROOT / "workers").glob("*.py"), *(ROOT / "src" / "perdure" / "serving").glob("*.py")]
    code = "".join(module.read_text() for module in modules)
    own = {re.sub("_total$", "", name) for name in listed if name.startswith("perdure_")}
    assert own == set(re.findall(r'(?:Counter|Gauge|Histogram)(?:MetricFamily)?\("(perdure_\w+)"', code))
    return listed | {f"{name}_bucket" for name in listed}
