"""Metrics against figures worked out by hand, and what the rows do not define."""

from __future__ import annotations

import numpy as np
import pytest

from perdure.jobs import metrics
from perdure.spec import METRICS

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
