"""Trainers on the plain context: no Ray, no S3, no server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from perdure.errors import DataRejected, InvalidInput
from perdure.jobs.trainer import PlainContext
from perdure.jobs.trainers.xgboost import MODEL, train
from tests.jobs import owner
from tests.jobs.requests import frames

CLASSES = {0: [], 2: ["no", "yes"], 3: ["no", "perhaps", "yes"]}
SAMPLING = {"subsample": 0.8, "colsample_bytree": 0.7, "colsample_bylevel": 0.8, "colsample_bynode": 0.8, "seed": 5}


class Killed(BaseException):
    """Stands for kill -9."""


class Mortal(PlainContext):
    """Dies after reporting the round *until*."""

    until = 0

    def report(self, round: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> None:
        super().report(round, metrics, checkpoint)
        if round == self.until:
            raise Killed


def context(folder: Path, classes: int = 2, until: int = 0, **params: Any) -> Mortal:
    folder.mkdir(exist_ok=True)
    made = Mortal({"train": frames(classes=classes)}, {"rounds": 20, **params}, CLASSES[classes], folder, every_rounds=5)
    made.until = until
    return made


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("params", [{}, SAMPLING], ids=["all rows", "sampling"])
def test_xgboost_killed_anywhere_gives_the_undisturbed_bytes(tmp_path: Path, classes: int, params: dict[str, Any]) -> None:
    train(context(tmp_path / "undisturbed", classes, **params))
    for until in (3, 5, 8, 15, 19):  # before the first checkpoint, right after one, between two
        with pytest.raises(Killed):
            train(context(tmp_path / "killed", classes, until, **params, nthread=1 + until % 2))
    last = context(tmp_path / "killed", classes, **params)
    train(last)
    assert last.reports[0].round == 16
    assert (tmp_path / "killed" / "20" / MODEL).read_bytes() == (tmp_path / "undisturbed" / "20" / MODEL).read_bytes()


def test_xgboost_learns_and_says_how_well(tmp_path: Path) -> None:
    made = context(tmp_path / "a")
    made.data = {"train": frames(), "validation": frames()[0]}
    train(made)
    assert [report.round for report in made.reports if report.checkpoint] == [5, 10, 15, 20]
    first, last = made.reports[0].metrics, made.reports[-1].metrics
    assert set(first) == {"train-logloss", "validation-logloss"}
    assert last["train-logloss"] < 0.5 * first["train-logloss"]
    assert made.phases == ["loading", "training"]


@pytest.mark.parametrize(
    ("classes", "params", "field"),
    [
        (2, {"objective": "binary:foo"}, "train.params.objective"),
        (2, {"objective": "reg:squarederror"}, "train.params.objective"),
        (3, {"objective": "binary:logistic"}, "train.params.objective"),
        (0, {"objective": "multi:softprob"}, "train.params.objective"),
        (2, {"max_depth": "deep"}, "train.params.max_depth"),
        (2, {"subsample": 5}, "train.params.subsample"),
        (2, {"grow_policy": "sideways", "eta": 0.1}, "train.params.grow_policy"),
        (2, {"eval_metric": "beauty"}, "train.params.eval_metric"),
        (2, {"eta": -1}, "train.params.eta"),
        (2, {"booster": "dart"}, "train.params.booster"),
        (2, {"tree_method": "exact"}, "train.params.tree_method"),
        (2, {"device": "cuda"}, "train.params.device"),
        (2, {"monotone_constraints": "nonsense"}, "train.params.monotone_constraints"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, classes: int, params: dict[str, Any], field: str) -> None:
    made = context(tmp_path / "a", classes, **params)
    with pytest.raises(InvalidInput) as raised:
        train(made)
    assert raised.value.field == field
    assert raised.value.remedy
    assert made.phases == []  # found before the data was loaded


def test_labels_that_the_objective_refuses(tmp_path: Path) -> None:
    made = context(tmp_path / "a", 0, objective="reg:gamma")  # some labels are negative
    with pytest.raises(DataRejected, match="label"):
        train(made)


def test_the_cut_into_shards_does_not_matter_and_values_may_be_missing(tmp_path: Path) -> None:
    holes = [frame.with_columns(pl.when(pl.col("f1") < 1).then("f1")) for frame in frames()]
    for name, data in (("split", holes), ("whole", [pl.concat(holes)])):
        made = context(tmp_path / name)
        made.data = {"train": data}
        train(made)
    assert (tmp_path / "split" / "20" / MODEL).read_bytes() == (tmp_path / "whole" / "20" / MODEL).read_bytes()


def test_shards_that_do_not_fit_into_memory_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy, tight = context(tmp_path / "roomy"), context(tmp_path / "tight")
    train(roomy)
    monkeypatch.setattr("perdure.jobs.trainers.xgboost._free_memory", lambda: 100_000)  # room for two of the four shards
    train(tight)
    assert (tmp_path / "roomy" / "20" / MODEL).read_bytes() == (tmp_path / "tight" / "20" / MODEL).read_bytes()


def test_a_function_of_ones_own(tmp_path: Path) -> None:
    for name, until in (("undisturbed", 0), ("killed", 12), ("killed", 0)):
        made = context(tmp_path / name, until=until)
        if until:
            with pytest.raises(Killed):
                owner.logistic(made)
        else:
            owner.logistic(made)
    weights = [np.load(tmp_path / name / "20" / "weights.npy") for name in ("undisturbed", "killed")]
    assert np.array_equal(*weights)
    assert owner.predict(tmp_path / "killed" / "20", np.zeros((3, 6), dtype="f4")).shape == (3,)
