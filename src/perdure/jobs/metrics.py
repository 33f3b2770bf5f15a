"""Metrics of scored rows (`perdure.spec.pipeline.METRICS`); one that the rows do not define is None, with a note that says why.

They are scikit-learn's, to the last digits, without its import, which takes longer than most evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Measured = tuple[dict[str, float | None], dict[str, str]]

_TINY = float(np.finfo(np.float64).eps)  # the least probability that the logarithm is asked for


def classification(metrics: Sequence[str], truth: Array, scores: Array) -> Measured:
    """Values and notes. *truth* holds positions of classes, *scores* a probability for each class; of two, the last is the positive one.

    With more classes the areas, precision, recall and f1 are means over the classes, each against the rest; ``brier`` is the mean over rows
    of the summed squared errors.
    """
    classes = scores.shape[1]
    guess = scores.argmax(axis=1)
    hot = np.eye(classes)[truth]
    present = len(np.unique(truth))
    counted = [1] if classes == 2 else range(classes)  # the classes over which is averaged

    def mean(measure: Callable[[int], float]) -> float:
        return float(np.mean([measure(i) for i in counted]))

    known: dict[str, Callable[[], float]] = {
        "roc_auc": lambda: mean(lambda i: _roc_auc(truth == i, scores[:, i])),
        "pr_auc": lambda: mean(lambda i: _average_precision(truth == i, scores[:, i])),
        "log_loss": lambda: -np.log(scores[np.arange(len(truth)), truth].clip(_TINY, 1 - _TINY)).mean(),
        "accuracy": lambda: np.mean(truth == guess),
        "f1": lambda: mean(lambda i: _share(2 * _hits(truth, guess, i), np.sum(truth == i) + np.sum(guess == i))),
        "precision": lambda: mean(lambda i: _share(_hits(truth, guess, i), np.sum(guess == i))),
        "recall": lambda: mean(lambda i: _share(_hits(truth, guess, i), np.sum(truth == i))),
        "brier": lambda: np.mean((scores[:, 1] - truth) ** 2) if classes == 2 else np.mean(((scores - hot) ** 2).sum(axis=1)),
    }
    missing = f"the rows hold {present} of {classes} classes"
    notes = {name: missing for name in metrics if name in ("roc_auc", "pr_auc") and present < classes}
    return _computed(metrics, known, notes), notes


def regression(metrics: Sequence[str], truth: Array, scores: Array) -> Measured:
    """Values and notes of predicted numbers."""
    known: dict[str, Callable[[], float]] = {
        "mae": lambda: np.abs(truth - scores).mean(),
        "rmse": lambda: math.sqrt(((truth - scores) ** 2).mean()),
        "r2": lambda: 1 - ((truth - scores) ** 2).sum() / ((truth - truth.mean()) ** 2).sum(),
    }
    notes = {"r2": "the rows hold one value only"} if "r2" in metrics and len(np.unique(truth)) < 2 else {}
    return _computed(metrics, known, notes), notes


def _computed(metrics: Sequence[str], known: dict[str, Callable[[], float]], notes: dict[str, str]) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for name in metrics:
        value = None if name in notes else float(known[name]())
        if value is not None and not math.isfinite(value):
            value, notes[name] = None, "it is no finite number"
        made[name] = value
    return made


def _thresholds(positive: Array, scores: Array) -> tuple[Array, Array]:
    """How many positive and negative rows score at least as high, for each distinct score from the highest down."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    return hits, 1 + last - hits


def _roc_auc(positive: Array, scores: Array) -> float:
    hits, misses = (np.append(0, counts) for counts in _thresholds(positive, scores))
    return float(np.trapezoid(hits / hits[-1], misses / misses[-1]))


def _average_precision(positive: Array, scores: Array) -> float:
    """The mean precision over thresholds, weighted by what each adds to the recall; no interpolation."""
    hits, misses = _thresholds(positive, scores)
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / (hits + misses)))


def _hits(truth: Array, guess: Array, label: int) -> int:
    return int(np.sum((truth == label) & (guess == label)))


def _share(part: float, whole: float) -> float:
    """Zero where there is nothing to divide."""
    return part / whole if whole else 0.0
