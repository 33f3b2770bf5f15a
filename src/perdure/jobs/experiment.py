"""A look at an experiment: what came of the predictions of its two versions, by unit.

A unit counts once, with the mean of its rows, as chance divided units and not rows. One that both versions have answered is left out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl

from perdure.adapters.delta_log import DeltaLog
from perdure.jobs.context import JobContext
from perdure.jobs.joining import NUMBER, RAW, TRUTH, error, with_truth
from perdure.messages.common import Json
from perdure.spec.experiment import Experiment

_NOBODY: Json = {"seen": 0, "rows": 0, "judged": 0, "units": 0, "mean": None, "variance": None}


def figures(job: JobContext) -> Json:
    """For each arm: units ``seen`` and ``rows`` logged; rows ``judged`` by an outcome; their ``units``, ``mean``, ``variance``.

    ``mixed`` units were answered by both. ``unreadable`` outcomes are none that the metric can be made of.
    """
    given = job.request.inputs
    spec = Experiment.model_validate(given["experiment"])
    since, until = (datetime.fromisoformat(given[name]) for name in ("since", "until"))
    arms = {"champion": int(given["champion"]), "challenger": int(given["challenger"])}
    rows = DeltaLog(job.objects, job.objects.uri(f"inference/{given['model']}")).scan(since.date(), until.date())
    if rows is None:
        return {**{name: {"version": number, **_NOBODY} for name, number in arms.items()}, "mixed": 0, "unreadable": 0}
    version, role = pl.col("version"), pl.col("role")
    mine = rows.filter(
        pl.col("time").is_between(since, until, closed="left"),
        pl.col("unit").is_not_null(),  # else chance had no part in who answered
        ((version == arms["champion"]) & (role == "release")) | ((version == arms["challenger"]) & (role == "arm")),
    ).select("id", "version", "unit", "prediction")
    known = with_truth(mine, _outcomes(job, until), sources=None if spec.source is None else [spec.source])
    judged = known.with_columns(score=_score(spec.metric))
    units = judged.group_by("unit").agg(
        version=pl.col("version").first(),
        mixed=pl.col("version").min() != pl.col("version").max(),
        rows=pl.len(),
        judged=pl.col("score").count(),
        mean=pl.col("score").mean(),
        unreadable=((pl.col(RAW) != "null") & pl.col("score").is_null()).sum(),
    )
    told = units.group_by("version", "mixed").agg(
        seen=pl.len(),
        rows=pl.col("rows").sum(),
        judged=pl.col("judged").sum(),
        units=pl.col("mean").count(),
        mean=pl.col("mean").mean(),
        variance=pl.col("mean").var(),
        unreadable=pl.col("unreadable").sum(),
    )
    found = told.collect(engine="streaming").to_dicts()
    return {
        **{name: {"version": number, **_NOBODY, **_arm(found, number)} for name, number in arms.items()},
        "mixed": sum(each["seen"] for each in found if each["mixed"]),
        "unreadable": sum(each["unreadable"] for each in found),
    }


def _arm(found: list[Json], version: int) -> dict[str, Any]:
    return next(({name: each[name] for name in _NOBODY} for each in found if each["version"] == version and not each["mixed"]), {})


def _outcomes(job: JobContext, until: datetime) -> pl.LazyFrame | None:
    """What was known at *until*; None: nothing."""
    if job.request.inputs["outcomes"] is None:
        return None
    path = job.objects.download(job.artifact("outcomes"), job.scratch / "outcomes.parquet")
    return pl.scan_parquet(path).filter(pl.col("received_at") < until)


def _score(metric: str) -> pl.Expr:
    """What a row is worth; null where there is no outcome, or none that can be read."""
    match metric:
        case "accuracy":
            return 1 - error("classification", pl.col(TRUTH))
        case "error":
            return error("regression", pl.col(NUMBER))
        case _:
            return pl.col(NUMBER)
