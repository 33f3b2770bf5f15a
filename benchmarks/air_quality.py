"""``python -m benchmarks.air_quality [UNTIL]``: the replay of `examples/air-quality` from 2011 until a day (default 2015-01-01).

The error with the loop, on the real stack, beside that of the first version for ever and that of a training every week whatever happens,
both with the same parameters, features and share of hours to test on.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import xgboost

from benchmarks.common import ROOT, record, running_stack
from perdure.metadata.database import Database
from perdure.spec.pipeline import load_file

EXAMPLE = ROOT / "examples" / "air-quality"
WEEK = timedelta(days=7)


def weekly(until: datetime) -> tuple[float, float, int]:
    """Mean absolute errors of the first model for ever, and of a new one every week, with the number of trainings."""
    import demo
    import fortnights
    from airquality.steps import features

    known = fortnights.hours()
    matrix, truth, times = features(known).to_numpy(), known["pm25"].to_numpy(), known["time"].to_numpy()
    pipeline = load_file(EXAMPLE / "pipeline.yaml")
    params = {**pipeline.train.params, "nthread": os.cpu_count()}
    rounds = params.pop("rounds")

    def errors(trained: datetime, since: datetime, before: datetime) -> Any:
        count = int((times < np.datetime64(trained)).sum() * (1 - pipeline.data.split.test))
        model = xgboost.train(params, xgboost.DMatrix(matrix[:count], truth[:count]), rounds)
        asked = (times >= np.datetime64(since)) & (times < np.datetime64(before))
        return np.abs(model.predict(xgboost.DMatrix(matrix[asked])) - truth[asked]) if asked.any() else np.empty(0)

    last = max(end for end, _ in fortnights.split(known, demo.START, until))
    weeks = [demo.START + WEEK * number for number in range((last - demo.START) // WEEK)]
    every = np.concatenate([errors(each, each, each + WEEK) for each in weeks])
    return float(errors(demo.START, demo.START, last).mean()), float(every.mean()), len(weeks) - 1


def main() -> None:
    until = datetime.fromisoformat(sys.argv[1]) if len(sys.argv) > 1 else datetime(2015, 1, 1)
    sys.path.insert(0, str(EXAMPLE))
    import demo

    services = {"postgres", "s3", "temporal", "worker", "relay", "gateway", "serving"}
    with running_stack(services) as settings, Database.open(settings) as database:
        told = asyncio.run(demo.replay(settings, database, until))
    alone, every, trained = weekly(until)
    looped = float(np.mean([error for _, error in told.errors]))
    record(
        "air_quality",
        {
            "hours": len(told.errors),
            "mean_absolute_error": {"loop": round(looped, 3), "never_trained_again": round(alone, 3), "every_week": round(every, 3)},
            "trainings": {"loop": told.trained, "every_week": trained},
            "released": len(told.released) - 1,
            "loop_against_every_week": round(looped / every, 4),
        },
    )


if __name__ == "__main__":
    main()
