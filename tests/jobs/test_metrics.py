"""Metrics against figures worked out by hand and against scikit-learn, and what the rows do not define."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from perdure.jobs import metrics
from perdure.spec.pipeline import METRICS

BINARY = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])


def test_two_classes() -> None:
    values, notes = metrics.classification(METRICS["classification"], np.array([0, 0, 1, 1]), BINARY)
    assert notes == {}
    assert values["roc_auc"] == pytest.approx(0.75)
    assert values["pr_auc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert values["log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.35, 0.8]).mean())
    assert values["brier"] == pytest.approx((0.1**2 + 0.4**2 + 0.65**2 + 0.2**2) / 4)
    assert (values["accuracy"], values["precision"], values["recall"]) == (0.75, 1.0, 0.5)
    assert values["f1"] == pytest.approx(2 / 3)


def test_several_classes() -> None:
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])
    values, notes = metrics.classification(METRICS["classification"], np.array([0, 1, 2, 1]), scores)
    assert notes == {}
    assert values["accuracy"] == 0.75
    assert values["roc_auc"] == pytest.approx((1 + 1 + 1) / 3)
    assert values["recall"] == pytest.approx((1 + 0.5 + 1) / 3)
    squares = (0.04 + 0.01 + 0.01) + (0.04 + 0.25 + 0.09) + (0.01 + 0.04 + 0.09) + (0.16 + 0.49 + 0.09)
    assert values["brier"] == pytest.approx(squares / 4)


def test_one_class_present() -> None:
    values, notes = metrics.classification(["roc_auc", "pr_auc", "log_loss"], np.array([0, 0, 0, 0]), BINARY)
    assert (values["roc_auc"], values["pr_auc"]) == (None, None)
    assert notes == dict.fromkeys(("roc_auc", "pr_auc"), "the rows hold 1 of 2 classes")
    assert values["log_loss"] is not None


def test_numbers() -> None:
    values, notes = metrics.regression(METRICS["regression"], np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
    assert notes == {}
    assert values == {"mae": pytest.approx(2 / 3), "rmse": pytest.approx((4 / 3) ** 0.5), "r2": pytest.approx(-1.0)}
    values, notes = metrics.regression(["r2"], np.array([1.0]), np.array([1.0]))
    assert values == {"r2": None}
    assert notes == {"r2": "the rows hold one value only"}


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("steps", [10, 10**9], ids=["many equal scores, zeros and ones", "few"])
def test_the_figures_of_scikit_learn(classes: int, steps: int) -> None:
    random = np.random.default_rng(classes)
    truth = random.integers(classes, size=500)
    scores = random.multinomial(steps, random.dirichlet(np.full(classes, 0.5), size=500) * 0.7 + np.eye(classes)[truth] * 0.3) / steps
    guess, hot, mean = scores.argmax(axis=1), np.eye(classes)[truth], {"average": "macro" if classes > 2 else "binary"}
    areas = [1] if classes == 2 else range(classes)
    squares = reference.brier_score_loss(truth, scores[:, 1]) if classes == 2 else ((scores - hot) ** 2).sum(axis=1).mean()
    values, notes = metrics.classification(METRICS["classification"], truth, scores)
    assert notes == {}
    assert values == pytest.approx(
        {
            "roc_auc": np.mean([reference.roc_auc_score(hot[:, i], scores[:, i]) for i in areas]),
            "pr_auc": np.mean([reference.average_precision_score(hot[:, i], scores[:, i]) for i in areas]),
            "log_loss": reference.log_loss(truth, scores, labels=range(classes)),
            "accuracy": reference.accuracy_score(truth, guess),
            "f1": reference.f1_score(truth, guess, **mean),
            "precision": reference.precision_score(truth, guess, **mean),
            "recall": reference.recall_score(truth, guess, **mean),
            "brier": squares,
        },
        rel=1e-12,
    )


def test_a_class_that_is_never_guessed() -> None:
    values, _ = metrics.classification(["precision", "recall", "f1"], np.array([0, 0, 1]), np.array([[0.9, 0.1]] * 3))
    assert values == {"precision": 0, "recall": 0, "f1": 0}


def test_the_numbers_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=500)
    scores = truth + random.normal(size=500)
    values, _ = metrics.regression(METRICS["regression"], truth, scores)
    assert values == pytest.approx(
        {
            "mae": reference.mean_absolute_error(truth, scores),
            "rmse": reference.root_mean_squared_error(truth, scores),
            "r2": reference.r2_score(truth, scores),
        },
        rel=1e-12,
    )
    values, notes = metrics.regression(["mae"], truth, np.append(scores[1:], np.nan))
    assert values == {"mae": None}
    assert notes == {"mae": "it is no finite number"}
