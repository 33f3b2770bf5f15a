"""The predictor: deterministic, independent of the batch, two versions side by side."""

from __future__ import annotations

import io
import json
import sys
import threading
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from perdure import predictor
from perdure.predictor import InputMismatch, OwnerCodeError, Predictor, PredictorError, build, dump_state, load, load_state

STEPS = """
import polars as pl
from shop.scale import FACTOR

class Features:
    def fit(self, frames):
        return {"shift": max(frame["x"].max() for frame in frames)}

    def apply(self, frame, state):
        import shop.late
        return frame.select((pl.col("x") * FACTOR + state["shift"]).alias("a"), pl.col("y").alias("b"), pl.lit(shop.late.VALUE).alias("c"))
"""


def code(factor: int) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("shop/__init__.py", "")
        archive.writestr("shop/scale.py", f"FACTOR = {factor}")
        archive.writestr("shop/late.py", f"VALUE = {factor} * 0.5")
        archive.writestr("shop/steps.py", STEPS)
        archive.writestr("shop/linear.py", LINEAR)
    return body.getvalue()


LINEAR = """
import numpy as np

def predict(model_dir, features):
    weights = np.load(model_dir / "weights.npy")
    return 1 / (1 + np.exp(-(np.nan_to_num(features) @ weights)))
"""


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "schema": [{"name": "x", "dtype": "Int64"}, {"name": "y", "dtype": "Float64"}, {"name": "label", "dtype": "String"}],
        "target": {"column": "label", "positive": "good", "task": "classification"},
        "classes": ["bad", "good"],
        "features": {"names": ["a", "b", "c"]},
        "transform": {"reference": "shop.steps:Features", "state": None},
        **changes,
    }


def rows(number: int = 400) -> pl.DataFrame:
    random = np.random.default_rng(3)
    y = random.normal(size=number)
    return pl.DataFrame({"x": random.integers(-60, 60, number), "y": [None if i % 9 == 0 else float(v) for i, v in enumerate(y)]})


@cache
def trained(classes: int, **params: Any) -> bytes:
    matrix = np.random.default_rng(1).normal(size=(600, 3)).astype(np.float32) * 40
    label = (matrix[:, 0] + matrix[:, 1] > 0).astype(int) + (classes > 2) * (matrix[:, 1] > 20)
    return bytes(xgboost.train({"nthread": 1, **params}, xgboost.DMatrix(matrix, label, nthread=1), 30).save_raw("ubj"))


def booster(params: dict[str, Any], classes: int = 2) -> bytes:
    return trained(classes, **params)


def a_predictor(tmp_path: Path, factor: int = 2, **changes: Any) -> Predictor:
    parts: dict[str, Any] = {
        "manifest": manifest(),
        "format": "xgboost-ubj",
        "files": {"model.ubj": booster({"objective": "binary:logistic"})},
        "state": dump_state({"shift": 5}),
        "code": code(factor),
        **changes,
    }
    return load(build(tmp_path / f"{factor}.zip", **parts))


def test_same_parts_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    parts: dict[str, Any] = {"manifest": manifest(), "format": "custom", "predict": "shop.linear:predict", "code": b"zip"}
    first = build(tmp_path / "1", files={"b": tmp_path / "m", "a": b"1"}, **parts).read_bytes()
    second = build(tmp_path / "2", files={"a": b"1", "b": b"model"}, **parts).read_bytes()
    assert first == second
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert names == ["predictor.json", "model/a", "model/b", "code.zip"]
    assert [column["name"] for column in json.loads(zipfile.ZipFile(io.BytesIO(first)).read("predictor.json"))["schema"]] == ["x", "y"]


def test_scores_are_named_by_class(tmp_path: Path) -> None:
    scores = a_predictor(tmp_path).predict(rows())
    assert scores.schema == {"p_bad": pl.Float64, "p_good": pl.Float64, "prediction": pl.String}
    assert ((scores["p_bad"] + scores["p_good"]) == 1).all()
    assert set(scores["prediction"]) == {"bad", "good"}
    assert ((scores["p_good"] > 0.5) == (scores["prediction"] == "good")).all()


@pytest.mark.parametrize(
    "params", [{"objective": "binary:logistic"}, {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.2}]
)
@pytest.mark.parametrize("size", [1, 7, 64, 65, 399])
def test_a_row_scores_alike_alone_and_in_company(tmp_path: Path, params: dict[str, Any], size: int) -> None:
    scorer = a_predictor(tmp_path, files={"model.ubj": booster(params)})
    frame = rows(5_000)
    whole = scorer.predict(frame).head(400)  # by all cores; the parts by one
    parts = pl.concat([scorer.predict(frame.slice(start, size)) for start in range(0, 400, size)])
    assert parts.head(400).equals(whole)


@pytest.mark.parametrize("size", [1, 127, 129])
def test_a_custom_model_scores_alike_alone_and_in_company(tmp_path: Path, size: int) -> None:
    weights = io.BytesIO()
    np.save(weights, np.array([0.003, -1.1, 0.7]))
    scorer = a_predictor(tmp_path, format="custom", predict="shop.linear:predict", files={"weights.npy": weights.getvalue()})
    frame = rows()
    whole = scorer.predict(frame)
    assert pl.concat([scorer.predict(frame.slice(start, size)) for start in range(0, frame.height, size)]).equals(whole)
    x, y = frame["x"][1] * 2 + 5, frame["y"][1]
    assert whole["p_good"][1] == pytest.approx(1 / (1 + np.exp(-(0.003 * x - 1.1 * y + 0.7))), rel=1e-6)


@pytest.mark.parametrize("objective", ["multi:softprob", "multi:softmax"])
def test_several_classes(tmp_path: Path, objective: str) -> None:
    model = booster({"objective": objective, "num_class": 3}, classes=3)
    scores = a_predictor(tmp_path, manifest=manifest(classes=["a", "b", "c"]), files={"model.ubj": model}).predict(rows())
    assert scores.columns == ["p_a", "p_b", "p_c", "prediction"]
    assert scores.select(pl.sum_horizontal("p_a", "p_b", "p_c")).to_series().to_list() == pytest.approx([1.0] * 400)


def test_regression(tmp_path: Path) -> None:
    target = {"column": "label", "positive": None, "task": "regression"}
    model = booster({"objective": "reg:squarederror"})
    about = manifest(classes=[], target=target)
    scores = a_predictor(tmp_path, manifest=about, files={"model.ubj": model}).predict(rows())
    assert scores.schema == {"prediction": pl.Float64}
    several = booster({"objective": "multi:softprob", "num_class": 3}, classes=3)
    with pytest.raises(PredictorError, match=r"scores of shape \(400, 3\) for 400 rows and 0 classes"):
        a_predictor(tmp_path, manifest=about, files={"model.ubj": several}).predict(rows())


def test_scores_that_are_no_probabilities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="no probabilities"):
        a_predictor(tmp_path, files={"model.ubj": booster({"objective": "reg:squarederror"})}).predict(rows())


def test_two_versions_of_one_package_side_by_side(tmp_path: Path) -> None:
    one, two = a_predictor(tmp_path, 1), a_predictor(tmp_path, 10)
    frame = rows(5)
    for _ in range(2):  # the second time, what is imported inside `apply` comes from the table of modules
        assert one.transform(frame)["a"].to_list() == [x + 5 for x in frame["x"]]
        assert two.transform(frame)["a"].to_list() == [x * 10 + 5 for x in frame["x"]]
        assert one.transform(frame)["c"].unique().to_list() == [0.5]
        assert two.transform(frame)["c"].unique().to_list() == [5.0]
    assert "shop" not in sys.modules
    assert not [entry for entry in sys.path if entry.startswith(str(one.folder))]


def test_versions_do_not_mix_in_threads(tmp_path: Path) -> None:
    scorers = {factor: a_predictor(tmp_path, factor) for factor in (1, 10)}
    frame, wrong = rows(20), []

    def work(factor: int) -> None:
        for _ in range(50):
            if scorers[factor].transform(frame)["c"][0] != factor * 0.5:
                wrong.append(factor)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (1, 10, 1, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_host_keeps_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = type(sys)("shop")
    monkeypatch.setitem(sys.modules, "shop", host)
    scorer = a_predictor(tmp_path)
    scorer.predict(rows(3))
    assert sys.modules["shop"] is host
    assert "shop.steps" not in sys.modules


def test_unpacked_files_go_with_the_predictor(tmp_path: Path) -> None:
    scorer = a_predictor(tmp_path)
    folder = scorer.folder
    assert (folder / "code" / "shop" / "steps.py").exists()
    del scorer
    assert not folder.exists()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows().drop("y"), "missing columns: y; the rows have: x"),
        (rows().with_columns(x=pl.lit("many")), "column 'x' holds String, but the model was trained on Int64"),
        (rows().with_columns(x=pl.lit(0.5)), "column 'x': 0.5 cannot be read as Int64"),
        (rows().with_columns(y=pl.lit("0.5")), "column 'y' holds String"),
    ],
)
def test_rows_of_another_shape_are_refused_by_column(tmp_path: Path, frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputMismatch, match=message):
        a_predictor(tmp_path).predict(frame)


def test_lossless_differences_do_not_matter(tmp_path: Path) -> None:
    scorer, frame = a_predictor(tmp_path), rows()
    other = frame.select(more=pl.lit("unseen"), y=pl.col("y").fill_null(float("nan")), x=pl.col("x").cast(pl.Float64))
    assert scorer.predict(other).equals(scorer.predict(frame))


@pytest.mark.parametrize(
    ("text", "zone", "read"),
    [
        ("2026-01-02T03:04:05", None, "2026-01-02T03:04:05"),
        ("2026-01-02 03:04:05.25", None, "2026-01-02T03:04:05.250000"),
        ("2026-01-02T03:04", None, "2026-01-02T03:04:00"),
        ("2026-01-02", None, "2026-01-02T00:00:00"),
        ("2026-01-02T03:04:05Z", None, None),
        ("2026-01-02T03:04:05Z", "UTC", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02 03:04:05+02:00", "UTC", "2026-01-02T01:04:05+00:00"),
        ("2026-01-02T03:04:05", "UTC", None),
        ("02.01.2026", None, None),
    ],
)
def test_times_in_text(text: str, zone: str | None, read: str | None) -> None:
    made = predictor.parse_temporal(pl.Series(["x", text, None]), pl.Datetime("us", zone))
    assert [value and value.isoformat() for value in made] == [None, read, None]


def test_dates_may_come_as_text() -> None:
    schema = [{"name": "at", "dtype": "Datetime(time_unit='us', time_zone=None)"}, {"name": "on", "dtype": "Date"}]
    frame = predictor.conform(pl.DataFrame({"at": ["2026-01-02T03:04:05"], "on": ["2026-01-02"]}), schema)
    assert [str(frame["at"][0]), str(frame["on"][0])] == ["2026-01-02 03:04:05", "2026-01-02"]
    with pytest.raises(InputMismatch, match="column 'on': 'tomorrow' cannot be read as Date"):
        predictor.conform(pl.DataFrame({"at": ["2026-01-02T03:04:05"], "on": ["tomorrow"]}), schema)


def test_json_rows(tmp_path: Path) -> None:
    scorer = a_predictor(tmp_path)
    frame = scorer.rows([{"x": 1, "y": 1, "id": "u"}, {"x": 2, "y": 0.5}, {"x": 3}])
    assert frame["y"].to_list() == [1.0, 0.5, None]
    assert scorer.predict(frame).height == 3
    with pytest.raises(InputMismatch, match="missing columns: y"):
        scorer.predict(scorer.rows([{"x": 1}]))
    with pytest.raises(InputMismatch, match="column 'x' mixes types"):
        scorer.rows([{"x": 1, "y": 1.0}, {"x": "one", "y": 1.0}])
    assert scorer.predict(scorer.rows([{"x": 1, "y": 1.0}]).clear()).height == 0


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("frame.head(1)", "made 1 rows of 2"),
        ("1 / 0", "ZeroDivisionError"),
        ("'text'", "returned a str"),
        ("frame.select(a=pl.col('x').cast(str), b='y', c='y')", "column 'a' holds String"),
        ("frame.select(a=pl.col('x') * 1e300, b='y', c='y')", "feature 'a' holds an infinite value"),
        ("frame.select(a='x', b='y')", "lacks the column 'c'"),
    ],
)
def test_a_bad_transform_is_told_apart(tmp_path: Path, made: str, message: str) -> None:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("steps.py", f"import polars as pl\ndef apply(frame):\n    return {made}")
    scorer = a_predictor(
        tmp_path, code=body.getvalue(), manifest=manifest(transform={"reference": "steps:apply", "state": None}), state=None
    )
    with pytest.raises(OwnerCodeError, match=message):
        scorer.predict(pl.DataFrame({"x": [1, 2], "y": [1.0, 2.0]}))


def test_what_is_no_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="no predictor"):
        load(b"something")
    with pytest.raises(OwnerCodeError, match=r"shop\.gone:Features cannot be imported: ModuleNotFoundError"):
        a_predictor(tmp_path, manifest=manifest(transform={"reference": "shop.gone:Features"}))
    with pytest.raises(PredictorError, match="cannot be scored"):
        build(tmp_path / "x", manifest=manifest(), format="custom", files={})


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_a_state_survives_as_it_was(state: Any) -> None:
    assert load_state(dump_state(state)) == state
    assert dump_state(load_state(dump_state(state))) == dump_state(state)


def test_a_state_with_arrays() -> None:
    state = {
        "mean": np.arange(6.0).reshape(2, 3),
        "words": np.array(["a", "ü"]),
        "n": np.int64(3),
        "deep": [{"x": np.zeros(2, np.float32)}],
    }
    back = load_state(dump_state(state))
    assert np.array_equal(back["mean"], state["mean"])
    assert back["words"].tolist() == ["a", "ü"]
    assert back["n"] == 3
    assert back["deep"][0]["x"].dtype == np.float32
    for bad, place in [({"a": [object()]}, r"state\.a\[0\]"), ({1: 2}, "key 1"), ({"a": np.array([object()])}, r"state\.a")]:
        with pytest.raises(TypeError, match=place):
            dump_state(bad)
