"""What this process counts of each version: by minute for rows, since its start for Prometheus. Used from the event loop alone."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS = (
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of latency in seconds; counts have one place more, for what took longer."""
_MINUTES = 60  # that are kept while Postgres is away
Who = tuple[str, int, UUID, str]
"""Model, number, id of the version, role."""
By = tuple[Who, UUID]
"""Who, and the row of the release or of the traffic by which it takes part."""


@dataclass(slots=True)
class Figures:
    """Counts of one version in one role. ``latency`` counts requests by bucket."""

    requests: int = 0
    rows: int = 0
    errors: int = 0
    disagreements: int = 0
    seconds: float = 0.0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    classes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The figures of one minute (seconds since 1970), as a row keeps them."""

    version: UUID
    role: str
    by: UUID
    minute: int
    requests: int
    rows: int
    errors: int
    disagreements: int
    latency: list[int]


class Counts:
    """Everything that is counted. ``predictions`` are rows that were answered; ``dropped`` are requests that no shadow scored."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.predictions = 0
        self.dropped = 0
        self.refused: Counter[int] = Counter()
        self.totals: dict[Who, Figures] = {}
        self._minutes: dict[tuple[By, int], Figures] = {}

    def answered(self, by: By, rows: int, seconds: float, classes: list[str] | None) -> None:
        """One request of *rows*, scored within *seconds*; *classes* are what was predicted, None for numbers."""
        place = bisect_left(BUCKETS, seconds)
        for figures in self._both(by):
            figures.requests += 1
            figures.rows += rows
            figures.seconds += seconds
            figures.latency[place] += 1
        if classes:
            self.totals[by[0]].classes.update(classes)
        if by[0][3] != "shadow":
            self.predictions += rows

    def failed(self, by: By, seconds: float) -> None:
        """One request that the version itself could not score."""
        place = bisect_left(BUCKETS, seconds)
        for figures in self._both(by):
            figures.requests += 1
            figures.errors += 1
            figures.seconds += seconds
            figures.latency[place] += 1

    def disagreed(self, by: By, rows: int) -> None:
        """Rows for which a shadow predicts otherwise than callers were told."""
        for figures in self._both(by):
            figures.disagreements += rows

    def windows(self) -> list[Window]:
        """The minutes that were not `settled`."""
        return [
            Window(
                version=who[2],
                role=who[3],
                by=row,
                minute=minute,
                requests=each.requests,
                rows=each.rows,
                errors=each.errors,
                disagreements=each.disagreements,
                latency=[*each.latency],
            )
            for ((who, row), minute), each in self._minutes.items()
        ]

    def settled(self, now: float, *, written: bool) -> None:
        """Forget minutes that are over: those that were *written* before *now*, else the oldest."""
        oldest = int(now // 60) * 60 - (60 if written else _MINUTES * 60)
        for key in [key for key in self._minutes if key[1] < oldest]:
            del self._minutes[key]

    def _both(self, by: By) -> tuple[Figures, Figures]:
        who = by[0]
        total = self.totals.get(who)
        if total is None:
            total = self.totals[who] = Figures()
        key = (by, int(self._clock() // 60) * 60)
        window = self._minutes.get(key)
        if window is None:
            window = self._minutes[key] = Figures()
        return total, window


class Exported(Collector):
    """The counts for Prometheus: read when it asks, so that a request pays for nothing but its counts."""

    def __init__(self, counts: Counts, loaded: Callable[[], int]) -> None:
        self._counts, self._loaded = counts, loaded

    def collect(self) -> Iterator[Metric]:
        """All metrics. Quantiles of latency come from the histogram: ``histogram_quantile(0.95, …)``."""
        labels = ["model", "version", "role"]
        requests = CounterMetricFamily("perdure_serving_requests", "Requests that a version scored, or failed to", labels=labels)
        rows = CounterMetricFamily("perdure_serving_rows", "Rows that a version scored", labels=labels)
        errors = CounterMetricFamily("perdure_serving_errors", "Requests that a version failed", labels=labels)
        other = CounterMetricFamily("perdure_serving_disagreements", "Rows of a shadow that differ from the answer", labels=labels)
        latency = HistogramMetricFamily("perdure_serving_latency_seconds", "From the request to its scores", labels=labels)
        classes = CounterMetricFamily("perdure_serving_predictions", "Rows by predicted class", labels=[*labels, "class"])
        for (model, number, _, role), each in self._counts.totals.items():
            named = [model, str(number), role]
            requests.add_metric(named, each.requests)
            rows.add_metric(named, each.rows)
            errors.add_metric(named, each.errors)
            other.add_metric(named, each.disagreements)
            buckets, below = [], 0
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], each.latency, strict=True):
                below += count
                buckets.append((bound, below))
            latency.add_metric(named, buckets, each.seconds)
            for name, count in each.classes.items():
                classes.add_metric([*named, name], count)
        refused = CounterMetricFamily("perdure_serving_refused", "Requests that were refused, by status", labels=["status"])
        for status, count in self._counts.refused.items():
            refused.add_metric([str(status)], count)
        yield from (requests, rows, errors, other, latency, classes, refused)
        yield CounterMetricFamily("perdure_serving_shadows_dropped", "Requests that no shadow scored", value=self._counts.dropped)
        yield GaugeMetricFamily("perdure_serving_loaded_versions", "Versions that answer at once", value=self._loaded())
