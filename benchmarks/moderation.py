"""The pipeline's own time on the moderation example: all but the owner's functions and the rounds of training, with a breakdown.

Bar: at most 15 s. The owner's share is measured by calling the same functions in this process.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import polars as pl

from benchmarks.common import ROOT, record, run_pipeline, running_stack
from perdure.metadata.queries import RunDetail

EXAMPLE = ROOT / "examples" / "moderation"
REPEATS = 3


def owners() -> dict[str, float]:
    """Seconds in the owner's functions: validation, fit on the training share, transform of every row."""
    sys.path.insert(0, str(EXAMPLE))
    from moderation.schema import Message  # type: ignore[import-not-found]
    from moderation.steps import Features  # type: ignore[import-not-found]

    raw = pl.read_csv(EXAMPLE / "data" / "sms-spam.tsv", separator="\t", has_header=False, new_columns=["label", "text"], quote_char=None)
    took = {}
    began = time.perf_counter()
    Message.validate(raw)
    took["schema"] = time.perf_counter() - began
    rows = raw.unique(maintain_order=True)
    began = time.perf_counter()
    state = Features().fit([rows.head(int(rows.height * 0.8))])
    took["fit"] = time.perf_counter() - began
    began = time.perf_counter()
    Features().apply(rows, state)
    took["apply"] = time.perf_counter() - began
    return took


def breakdown(detail: RunDetail, functions: dict[str, float]) -> dict[str, Any]:
    """Seconds by step, and what is left without the owner's functions and the rounds."""
    assert detail.run.finished_at is not None
    total = (detail.run.finished_at - detail.run.started_at).total_seconds()
    steps = {str(s.step): (s.finished_at - s.started_at).total_seconds() for s in detail.steps if s.finished_at}
    train = next(s for s in detail.steps if s.step == "train")
    fit = float((train.result or {})["seconds"]["fit"])
    return {"total": total, "steps": steps, "rounds": fit, "own": round(total - fit - sum(functions.values()), 2)}


def main() -> None:
    """A few whole runs without the cache."""
    functions = owners()
    with running_stack() as settings:
        runs = [breakdown(run_pipeline(settings, EXAMPLE / "pipeline.yaml", cache=False), functions) for _ in range(REPEATS)]
    own = statistics.median(run["own"] for run in runs)
    record("moderation", {"owners_functions": functions, "runs": runs, "own_seconds_median": own, "bar": "own <= 15 s"})


if __name__ == "__main__":
    main()
