"""Metrics of scored rows (`perdure.spec.METRICS`), by scikit-learn; one that the rows do not define is None, with a note that says why."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def classification(metrics: Sequence[str], truth: Array, scores: Array) -> tuple[dict[str, float | None], dict[str, str]]:
    """Values and notes. *truth* holds positions of classes, *scores* a probability for each class; of two, the last is the positive one.

    With more classes the areas, precision, recall and f1 are means over the classes, each against the rest; ``brier`` is the mean over rows
    of the summed squared errors.
    """
    from sklearn import metrics as sk

    classes = scores.shape[1]
    guess = scores.argmax(axis=1)
    hot = np.eye(classes)[truth]
    present = len(np.unique(truth))
    binary = classes == 2
    average = {"average": "binary" if binary else "macro", "zero_division": 0.0}
    labels = list(range(classes))

    def area(measure: Callable[[Array, Array], float]) -> float:
        return measure(truth, scores[:, 1]) if binary else float(np.mean([measure(hot[:, i], scores[:, i]) for i in labels]))

    known: dict[str, Callable[[], Any]] = {
        "roc_auc": lambda: area(sk.roc_auc_score),
        "pr_auc": lambda: area(sk.average_precision_score),
        "log_loss": lambda: sk.log_loss(truth, scores, labels=labels),
        "accuracy": lambda: sk.accuracy_score(truth, guess),
        "f1": lambda: sk.f1_score(truth, guess, **_only(average, labels, binary)),
        "precision": lambda: sk.precision_score(truth, guess, **_only(average, labels, binary)),
        "recall": lambda: sk.recall_score(truth, guess, **_only(average, labels, binary)),
        "brier": lambda: np.mean((scores[:, 1] - truth) ** 2) if binary else np.mean(((scores - hot) ** 2).sum(axis=1)),
    }
    missing = f"the rows hold {present} of {classes} classes"
    notes = {name: missing for name in metrics if name in ("roc_auc", "pr_auc") and present < classes}
    return _computed(metrics, known, notes), notes


def regression(metrics: Sequence[str], truth: Array, scores: Array) -> tuple[dict[str, float | None], dict[str, str]]:
    """Values and notes of predicted numbers."""
    from sklearn import metrics as sk

    known: dict[str, Callable[[], Any]] = {
        "mae": lambda: sk.mean_absolute_error(truth, scores),
        "rmse": lambda: sk.root_mean_squared_error(truth, scores),
        "r2": lambda: sk.r2_score(truth, scores),
    }
    notes = {"r2": "the rows hold one value only"} if "r2" in metrics and len(np.unique(truth)) < 2 else {}
    return _computed(metrics, known, notes), notes


def _computed(metrics: Sequence[str], known: dict[str, Callable[[], Any]], notes: dict[str, str]) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for name in metrics:
        value = None if name in notes else float(known[name]())
        if value is not None and not math.isfinite(value):
            value, notes[name] = None, "it is no finite number"
        made[name] = value
    return made


def _only(average: dict[str, Any], labels: list[int], binary: bool) -> dict[str, Any]:
    return average if binary else {**average, "labels": labels}
