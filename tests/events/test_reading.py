"""What events of others say, and that nothing that is none breaks a reader."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from perdure.errors import InvalidInput
from perdure.events import alertmanager, cloudevents
from perdure.events.cloudevents import BATCH, BINARY, STRUCTURED, Unparsed, from_http, from_json
from perdure.events.drift import KINDS, TYPES
from perdure.messages.retraining import DriftEvent, DriftKind

PAYLOADS = Path(__file__).parent / "payloads"
NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
DATA: dict[str, Any] = {
    "monitor": "psi",
    "window": {"start": "2026-11-21T00:00:00Z", "end": "2026-11-22T00:00:00Z", "n": 4000},
    "reference": {"id": "training", "n": 20000},
    "metrics": [
        {"feature": "length", "method": "psi", "statistic": 0.31, "threshold": 0.2, "drifted": True, "bins": 10},
        {"feature": "hour", "method": "ks", "statistic": 0.02, "p_value": 0.4, "drifted": False},
    ],
    "report_uri": "s3://perdure/reports/1.html",
}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "2026-11-22",
    "source": "https://monitors.example/psi",
    "type": "ai.perdure.drift.data.v1",
    "subject": "model/moderation/3",
    "time": "2026-11-22T00:00:05Z",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "data": DATA,
}


def test_three_forms_say_the_same() -> None:
    headers = {f"ce-{name}": str(EVENT[name]) for name in cloudevents.ATTRIBUTES} | {"content-type": BINARY}
    structured = from_http({"content-type": f"{STRUCTURED}; charset=utf-8"}, json.dumps(EVENT).encode())
    batch = from_http({"content-type": BATCH}, json.dumps([EVENT, EVENT]).encode())
    binary = from_http(headers, json.dumps(DATA).encode())
    encoded = {name: value for name, value in EVENT.items() if name != "data"}
    encoded["data_base64"] = base64.b64encode(json.dumps(DATA).encode()).decode()
    assert [*structured, *binary, from_json(encoded)] == batch + structured
    assert structured == [
        DriftEvent(
            source="https://monitors.example/psi",
            event_id="2026-11-22",
            type="ai.perdure.drift.data.v1",
            model="moderation",
            version=3,
            kind=DriftKind.DATA,
            monitor="psi",
            drifted=True,
            window_start=datetime(2026, 11, 21, tzinfo=UTC),
            window_end=datetime(2026, 11, 22, tzinfo=UTC),
            n=4000,
            severity=0.5,
            metrics=DATA["metrics"],
            report_uri="s3://perdure/reports/1.html",
        )
    ]
    assert from_http({"content-type": BATCH}, b"[]") == []


def test_attributes_in_headers_are_percent_encoded() -> None:
    headers = {f"ce-{name}": str(EVENT[name]) for name in cloudevents.ATTRIBUTES} | {"content-type": BINARY, "ce-id": "Euro%20%E2%82%AC"}
    assert from_http(headers, json.dumps(DATA).encode())[0].event_id == "Euro €"


@pytest.mark.parametrize("type", sorted(KINDS))
def test_every_type_has_its_kind(type: str) -> None:
    assert from_json(EVENT | {"type": type}).kind is KINDS[type]


@pytest.mark.parametrize(
    ("said", "drifted", "severity"),
    [
        ({}, False, 0.0),
        ({"drifted": True}, True, 1.0),
        ({"metrics": [{"drifted": True}, {}]}, True, 0.5),
        ({"metrics": [{"drifted": True}, {}], "drifted": False, "drift_share": 0.1}, False, 0.1),
        ({"drifted": True, "severity": 0.7, "drift_share": 0.1}, True, 0.7),
    ],
)
def test_what_is_not_said_follows_from_the_metrics(said: dict[str, Any], drifted: bool, severity: float) -> None:
    found = from_json(EVENT | {"data": {"monitor": "psi"} | said})
    assert (found.drifted, found.severity) == (drifted, severity)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": "x" * 301}, "id"),
        ({"source": "a\x00"}, "source"),
        ({"type": "ai.perdure.drift.data.v9"}, "type"),
        ({"subject": "moderation"}, "subject"),
        ({"subject": "model/moderation/0"}, "subject"),
        ({"time": "yesterday"}, "time"),
        ({"data": {"monitor": "psi", "drifed": True}}, "data.drifed"),
        ({"data": {"monitor": "psi", "severity": 1.1}}, "data.severity"),
        ({"data": {"monitor": "psi", "window": {"end": "2026-11-22T00:00:00"}}}, "data.window.end"),
        ({"data": {}}, "data.monitor"),
        ({"data": None}, "data"),
        ({"data_base64": "%"}, "data_base64"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        from_json(EVENT | change)
    assert (caught.value.field, bool(caught.value.problem)) == (field, True)
    with pytest.raises(InvalidInput) as caught:
        from_http({"content-type": BATCH}, json.dumps([EVENT, EVENT | change]).encode())
    assert caught.value.field == f"1.{field}"


def bodies() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    trees = st.recursive(leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4), max_leaves=8)
    names = st.sampled_from([*EVENT, *DATA, "report", "tests", "metric_config", "params", "alerts", "labels", "fingerprint", "startsAt"])
    parts = st.dictionaries(names, trees, max_size=6)
    kinds = st.sampled_from(sorted(TYPES))
    return st.one_of(
        trees,
        parts,
        parts.map(lambda part: EVENT | part),
        st.tuples(kinds, parts).map(lambda pair: EVENT | {"type": pair[0], "data": DATA | pair[1]}),
        parts.map(lambda part: json.loads((PAYLOADS / "alertmanager.json").read_text()) | part),
    )


@bounded(max_examples=120, deadline=None, database=None)
@given(data=bodies(), raw=st.binary(max_size=20), media=st.sampled_from([STRUCTURED, BATCH, BINARY, ""]))
def test_nothing_breaks_a_reader(data: Any, raw: bytes, media: str) -> None:
    """Whatever came, it is read or refused."""
    for body in (json.dumps(data).encode(), raw):
        for read in (
            lambda body: from_http({"content-type": media, "ce-id": "1"}, body),
            lambda body: alertmanager.read("hook:a", body, NOW)[1],
        ):
            with suppress(InvalidInput, Unparsed):
                assert all(isinstance(event, DriftEvent) for event in read(body))


def test_a_report_of_evidently_is_judged_by_its_tests() -> None:
    report = json.loads((PAYLOADS / "evidently.json").read_text())
    event = EVENT | {"type": "ai.perdure.evidently.v1", "data": {"report": report, "window": {"n": 900}, "kind": "label"}}
    found = from_json(event)
    assert (found.drifted, found.severity, found.monitor, found.kind, found.n) == (True, 2 / 3, "evidently", DriftKind.LABEL, 900)
    assert [(each["feature"], each["drifted"]) for each in found.metrics] == [("x", True), ("y", False), ("c", True)]
    for test in report["tests"]:
        test["status"] = "SUCCESS"
    assert from_json(event).drifted is False
    report["tests"][1]["status"] = "FAIL"  # one column, but not the data as a whole
    assert from_json(event).drifted is False
    del report["tests"][0]
    assert from_json(event).drifted is True
    for test in report["tests"]:
        test["status"] = "ERROR"
    with pytest.raises(InvalidInput, match="include_tests"):
        from_json(event)


def test_an_alert_is_one_event_from_its_start_and_one_when_all_is_well() -> None:
    said = json.loads((PAYLOADS / "alertmanager.json").read_text())
    name, events = alertmanager.read("hook:a", json.dumps(said).encode(), NOW)
    assert [(each.model, each.version, each.monitor, each.drifted, each.severity, each.level) for each in events] == [
        ("moderation", 1, "InputDrift", True, 1.0, True),
        ("moderation", None, "InputDrift", True, 1.0, True),
    ]
    again = alertmanager.read("hook:a", json.dumps(said | {"alerts": said["alerts"][::-1]}).encode(), NOW)
    assert again == (name, events[::-1])  # another member of an Alertmanager cluster
    said["alerts"][0] |= {"status": "resolved", "endsAt": "2026-11-22T11:00:00Z"}
    partly, firing = alertmanager.read("hook:a", json.dumps(said).encode(), NOW)
    assert (partly != name, firing) == (True, events[1:])
    said["alerts"][1] |= {"status": "resolved", "endsAt": "2026-11-22T11:30:00Z"}
    quiet = alertmanager.read("hook:a", json.dumps(said | {"status": "resolved"}).encode(), NOW)[1]
    assert [(each.drifted, each.severity, each.window_end, each.metrics[0]["ends_at"]) for each in quiet] == [
        (False, 0.0, None, "2026-11-22T11:00:00Z"),
        (False, 0.0, None, "2026-11-22T11:30:00Z"),
    ]
    assert not {each.event_id for each in quiet} & {each.event_id for each in events}


@pytest.mark.parametrize(("label", "value"), [("model", ""), ("model", "a/b"), ("model_version", "new"), ("drift", "bad")])
def test_an_alert_that_is_not_about_a_model_is_named(label: str, value: str) -> None:
    said = json.loads((PAYLOADS / "alertmanager.json").read_text())
    said["alerts"][1]["labels"][label] = value
    with pytest.raises(InvalidInput) as caught:
        alertmanager.read("hook:a", json.dumps(said).encode(), NOW)
    assert str(caught.value.field).startswith("alerts.1.labels.")
