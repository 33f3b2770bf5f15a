"""A row of the inference log as a CloudEvent (version 1.0, JSON format), with the distributed tracing and sequence extensions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from perdure.messages.common import Json
from perdure.serving.rows import CLASS, INPUT

TYPE = "io.perdure.prediction.v1"


def event(model: str, row: Mapping[str, Any]) -> Json:
    """The event. Its attributes are columns of the log; inputs and scores that are null are left out, as columns of other versions are."""
    made: Json = {
        "specversion": "1.0",
        "id": row["id"],
        "type": TYPE,
        "source": f"/perdure/models/{model}/versions/{row['version']}",
        "time": row["time"].astimezone(UTC).isoformat(),
        "datacontenttype": "application/json",
        "sequence": f"{row['sequence']:020}",
        "instance": row["instance"],
        "data": {
            "role": row["role"],
            "inputs": _part(row, INPUT),
            "prediction": row["prediction"],
            "scores": _part(row, CLASS),
            "latency_ms": row["latency_ms"],
        },
    }
    if row["unit"]:
        made["subject"] = row["unit"]
    if row["trace"]:
        made["traceparent"] = f"00-{row['trace']}-{row['id'][-16:]}-01"
    return made


def _part(row: Mapping[str, Any], prefix: str) -> Json:
    return {name.removeprefix(prefix): _plain(value) for name, value in row.items() if name.startswith(prefix) and value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value
