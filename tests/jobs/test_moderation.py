"""The example on its real data: what is counted once, what its gates say, and how it scores raw messages."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xgboost

from perdure import gates, predictor
from perdure.adapters.s3 import ObjectStore
from perdure.jobs.evaluation import evaluate
from perdure.messages.common import ArtifactRef
from perdure.packaging import package
from tests.jobs.running import Jobs

EXAMPLE = Path(__file__).parents[2] / "examples" / "moderation"


@pytest.fixture
def jobs(objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setenv("PERDURE_CACHE", str(tmp_path / "cache"))
    packed = package(EXAMPLE / "pipeline.yaml")
    assert packed.code is not None
    raw = packed.spec.as_json()
    parts = {name: raw[name] for name in ("train", "evaluate")}
    before = list(sys.path)
    yield Jobs(objects, raw["data"], code=objects.put("code", "code.zip", packed.code), **parts)
    sys.path[:] = before
    for name in [name for name in sys.modules if name.partition(".")[0] == "moderation"]:
        del sys.modules[name]


def test_the_example(jobs: Jobs, objects: ObjectStore, tmp_path: Path) -> None:
    made = jobs.prepare()
    assert made.result["rows"] == {"train": 4145, "test": 1026, "quarantined": 0}
    assert sum(part["duplicates"] for part in made.inputs["partitions"]) == 403

    features = made.table("features")
    params = {name: value for name, value in jobs.spec.train.params.items() if name != "rounds"}
    data = xgboost.DMatrix(features.drop("__label").to_numpy(), features["__label"].to_numpy(), nthread=1)
    booster = xgboost.train({**params, "nthread": 1}, data, 100)  # half the rounds are enough to pass
    path = predictor.build(
        tmp_path / "predictor.zip",
        manifest=made.manifest,
        format="xgboost-ubj",
        files={"model.ubj": bytes(booster.save_raw("ubj"))},
        state=objects.get(ArtifactRef.from_json(made.manifest["transform"]["state"])),
        code=objects.get(jobs.code) if jobs.code else None,
    )
    challenger = objects.put("models", "predictor.zip", path).as_json()
    figures = jobs.run(evaluate, {"manifest": made.result["manifest"], "challenger": challenger, "champion": None})
    verdicts = gates.judge(jobs.spec.evaluate.gates, figures, champion_number=None)
    assert [verdict.reason for verdict in verdicts if not verdict.passed] == []
    assert figures["challenger"]["metrics"]["roc_auc"] > 0.985

    scorer = predictor.load(path)
    scores = scorer.predict(scorer.rows([{"text": "WINNER!! Claim your £1000 prize, call 09061701461 now"}, {"text": "ok, see you at 5"}]))
    assert scores["prediction"].to_list() == ["spam", "ham"]


def test_its_predictor_needs_no_pandera() -> None:
    assert "pandera" not in (EXAMPLE / "moderation" / "steps.py").read_text()


def test_the_example_with_few_labels() -> None:
    made = runpy.run_path(str(EXAMPLE / "data" / "few_labels.py"))["few_labels"]
    whole, few = ((EXAMPLE / "data" / name).read_text() for name in ("sms-spam.tsv", "sms-500.tsv"))
    assert made(whole) == few
    rows = [line.split("\t", 1) for line in few.splitlines()]
    assert len({text for label, text in rows if label}) == 500
    assert [text for _, text in rows] == [line.split("\t", 1)[1] for line in whole.splitlines()]
    packed = package(EXAMPLE / "loop.yaml")
    assert packed.spec.label is not None
    assert packed.spec.label.campaign(owner=None, classes=["ham", "spam"])["choices"] == ["ham", "spam"]


def test_without_labels_the_rest_is_the_pool(objects: ObjectStore, jobs: Jobs) -> None:
    raw = package(EXAMPLE / "loop.yaml").spec.as_json()
    made = Jobs(objects, raw["data"], code=jobs.code, label=raw["label"]).prepare([])
    assert made.result["rows"] == {"train": 406, "test": 94, "quarantined": 0, "pool": 4671, "labeled": 0}
