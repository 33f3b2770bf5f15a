"""Labels that active and random selection need for the same metric, on the moderation data, over ten seeds.

Aim: at most half. Each seed draws its own test split (never asked about) and its own first 500 labels; the transform is fitted on the
labeled rows only, as in a run. The metric is the area under the precision-recall curve; the target is what random selection reaches
at the end.
"""

from __future__ import annotations

import statistics
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.common import ROOT, record
from perdure.jobs.metrics import classification
from perdure.labeling.selection import Strategy, select

EXAMPLE = ROOT / "examples" / "moderation"
SEEDS, FIRST, BATCH, ROUNDS = 10, 500, 100, 10
PARAMS = {
    "objective": "binary:logistic",
    "num_parallel_tree": 2,
    "max_depth": 6,
    "eta": 0.15,
    "subsample": 0.8,
    "colsample_bytree": 0.3,
    "nthread": 2,
}


def curve(rows: pl.DataFrame, strategy: Strategy, seed: int, *, diverse: bool) -> list[tuple[int, float]]:
    """(labels, metric) after each round."""
    import xgboost
    from moderation.steps import Features  # type: ignore[import-not-found]

    order = np.random.default_rng(seed).permutation(rows.height)
    test, pool = rows[order[: rows.height // 5]], rows[order[rows.height // 5 :]]
    labels = (pool["label"] == "spam").to_numpy().astype(np.float32)
    known = np.zeros(pool.height, dtype=bool)
    known[:FIRST] = True
    found = []
    for number in range(ROUNDS + 1):
        state = Features().fit([pool.filter(pl.Series(known))])
        features = Features().apply(pool.drop("label"), state).to_numpy()
        data = xgboost.DMatrix(features[known], labels[known])
        booster = xgboost.train({**PARAMS, "seed": seed}, data, 60)
        scores = booster.predict(xgboost.DMatrix(Features().apply(test.drop("label"), state).to_numpy())).astype(np.float64)
        truth = (test["label"] == "spam").to_numpy().astype(np.int64)
        found.append((int(known.sum()), _measure(truth, scores)))
        left = np.flatnonzero(~known)
        spam = booster.predict(xgboost.DMatrix(features[left])).astype(np.float64)
        chosen = select(
            np.column_stack([1 - spam, spam]),
            BATCH,
            strategy,
            features=features[left].astype(np.float64) if diverse else None,
            random_share=0.1,
            seed=seed * 1_000 + number,
        )
        known[left[np.concatenate([chosen.unsure, chosen.random])]] = True
    return found


def _measure(truth: NDArray[np.int64], spam: NDArray[np.float64]) -> float:
    values, notes = classification(["pr_auc"], truth, np.column_stack([1 - spam, spam]))
    assert values["pr_auc"] is not None, notes
    return values["pr_auc"]


def needed(curve: list[tuple[int, float]], target: float) -> float:
    """Labels at which the curve first reaches *target*, interpolated; infinite where it never does."""
    for (before, was), (after, now) in pairwise(curve):
        if was >= target:
            return float(before)
        if now >= target:
            return before + (after - before) * (target - was) / (now - was)
    return float("inf")


def main() -> None:
    """Every strategy on the same splits."""
    sys.path.insert(0, str(EXAMPLE))
    raw = pl.read_csv(EXAMPLE / "data" / "sms-spam.tsv", separator="\t", has_header=False, new_columns=["label", "text"], quote_char=None)
    rows = raw.unique(maintain_order=True)
    results: list[dict[str, Any]] = []
    for seed in range(SEEDS):
        chance = curve(rows, Strategy.RANDOM, seed, diverse=False)
        target = statistics.fmean(score for _, score in chance[-3:])  # the end of a noisy curve
        for diverse in (False, True):
            active = curve(rows, Strategy.MARGIN, seed, diverse=diverse)
            results.append(
                {
                    "seed": seed,
                    "diverse": diverse,
                    "target": round(target, 4),
                    "random": chance,
                    "active": active,
                    "asked_random": chance[-2][0] - FIRST,
                    "asked_active": needed(active, target) - FIRST,
                }
            )
            print(f"seed {seed} diverse {diverse}: {results[-1]['asked_active']:.0f} of {results[-1]['asked_random']} labels", flush=True)
    ratios = {
        "diverse" if diverse else "plain": statistics.median(
            max(0.0, run["asked_active"]) / run["asked_random"] for run in results if run["diverse"] is diverse
        )
        for diverse in (False, True)
    }
    record("active", {"runs": results, "median_ratio_of_labels_asked": ratios, "aim": "<= 0.5"})


if __name__ == "__main__":
    main()
