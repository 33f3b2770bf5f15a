"""What docs/events.md tells people to send is taken."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import yaml

from perdure.events.cloudevents import from_json
from perdure.events.drift import TYPES, Drift
from perdure.messages.retraining import DriftKind

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def test_events_that_are_sent_by_curl_and_by_signal() -> None:
    sent = re.findall(r"(?:-d|--signal-input) '(\{.*?\})'\n", PAGE, re.DOTALL)
    events = [from_json(json.loads(each)) for each in sent]
    assert [(each.kind, each.model, each.version, each.drifted, each.severity) for each in events] == [
        (DriftKind.DATA, "moderation", 3, True, 0.5),
        (DriftKind.QUALITY, "moderation", None, True, 0.8),
    ]


def test_the_script_for_evidently() -> None:
    """Run with a report that is there already."""
    report = (Path(__file__).parent / "payloads" / "evidently.json").read_text()
    script = next(each for each in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "Evidently" in each or "evidently" in each)
    made = script[script.index("event = ") : script.index("headers = ")]
    day, end = datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)
    names = {
        "json": json,
        "day": day,
        "start": day,
        "end": end,
        "rows": [1, 2],
        "report": type("Report", (), {"json": lambda self: report})(),
    }
    exec(made, names)
    found = from_json(names["event"])
    assert (found.drifted, found.event_id, found.n) == (True, "2026-11-21", 2)


def test_tables_and_the_configuration_are_current() -> None:
    table = PAGE.partition("| `type` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(ai\.perdure[\w.]+)`", table)) == set(TYPES)
    table = PAGE.partition("In `data`:")[2].partition("\n\n|")[2].partition("\n\n")[0]
    fields = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert fields | {"drift_share"} == set(Drift.model_fields)
    receiver = yaml.safe_load(next(each for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)))["receivers"][1]
    assert receiver["webhook_configs"][0]["url"].endswith("/v1/hooks/prometheus")
