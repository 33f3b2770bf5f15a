"""Reports of Evidently 0.7. What drifted is what their tests say: a metric's value is a distance or a p-value, as its method has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from perdure.errors import InvalidInput

_COLUMNS, _COLUMN = "DriftedColumnsCount", "ValueDrift"
_TOLD = ("FAIL", "SUCCESS", "WARNING")  # ERROR and SKIPPED say nothing about the data


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Metric(_Loose):
    id: Annotated[str, Field(max_length=200)]
    value: Any = None


class _MetricConfig(_Loose):
    metric_id: Annotated[str, Field(max_length=200)]
    params: dict[str, Any] = Field(default_factory=dict)


class _Test(_Loose):
    name: Annotated[str, Field(max_length=2_000)]
    status: Annotated[str, Field(max_length=50)]
    metric_config: _MetricConfig

    @property
    def metric(self) -> str:
        """The class of the metric that is tested."""
        return str(self.metric_config.params.get("type", "")).rpartition(":")[2]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a report says: whether the data drifted, the share of columns that did, and each column."""

    drifted: bool
    share: float
    metrics: list[dict[str, Any]]


class Report(_Loose):
    """A report, of which only tests and values are read."""

    metrics: Annotated[list[_Metric], Field(max_length=100_000)] = Field(default_factory=list)
    tests: Annotated[list[_Test], Field(max_length=100_000)] = Field(default_factory=list)

    def verdict(self) -> Verdict:
        """Raises InvalidInput where no test of drift came to an end."""
        tests = [test for test in self.tests if test.metric in (_COLUMNS, _COLUMN) and test.status in _TOLD]
        if not tests:
            raise InvalidInput(
                "the report has no test of drift that came to an end", field="report.tests", remedy="make it with include_tests=True"
            )
        values = {metric.id: metric.value for metric in self.metrics}
        columns = [_column(test, values.get(test.metric_config.metric_id)) for test in tests if test.metric == _COLUMN]
        whole = [test for test in tests if test.metric == _COLUMNS]  # of the data as a whole: goes before what single columns say
        shares = [share for test in whole if (share := _share(values.get(test.metric_config.metric_id))) is not None]
        drifted = [column["drifted"] for column in columns]
        return Verdict(
            drifted=any(test.status == "FAIL" for test in whole or tests),
            share=max(shares) if shares else sum(drifted) / len(drifted) if drifted else 1.0,
            metrics=columns,
        )


def _column(test: _Test, value: Any) -> dict[str, Any]:
    params = test.metric_config.params
    said = {"feature": params.get("column"), "method": params.get("method"), "statistic": value, "threshold": params.get("threshold")}
    kept = {name: each for name, each in said.items() if isinstance(each, str | int | float)}
    return {**kept, "drifted": test.status == "FAIL", "status": test.status}


def _share(value: Any) -> float | None:
    share = value.get("share") if isinstance(value, dict) else None
    return float(share) if isinstance(share, int | float) and 0 <= share <= 1 else None
