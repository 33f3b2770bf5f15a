"""What monitors said last, for Prometheus: read from rows, so that it outlives whoever looked."""

from __future__ import annotations

from prometheus_client import Gauge

from perdure.metadata.database import Database
from perdure.metadata.queries.drift import last_said

_LABELS = ("model", "version", "monitor", "kind")
drifted = Gauge("perdure_drift", "1 where the monitor's last window has drifted", _LABELS)
severity = Gauge("perdure_drift_severity", "How far the monitor's last window has moved, from 0 to 1", _LABELS)
rows = Gauge("perdure_drift_window_rows", "Rows of the monitor's last window", _LABELS)
ended = Gauge("perdure_drift_window_end_seconds", "When the monitor's last window ended, in seconds since 1970", _LABELS)


def show(database: Database) -> None:
    """Set the gauges to what rows say now."""
    said = last_said(database)
    for gauge in (drifted, severity, rows, ended):
        gauge.clear()
    for each in said:
        labels = (each.model, str(each.version or ""), each.monitor, str(each.kind))
        drifted.labels(*labels).set(each.drifted)
        severity.labels(*labels).set(each.severity)
        rows.labels(*labels).set(each.n)
        if each.window_end is not None:
            ended.labels(*labels).set(each.window_end.timestamp())
