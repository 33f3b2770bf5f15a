"""Predictions that people have labeled become rows of the data set."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.errors import DataRejected, InvalidInput
from perdure.jobs import preparation
from perdure.jobs.preparation.rows import TEST, TRAIN
from perdure.messages.common import Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared
from tests.jobs.test_preparation_jobs import STEPS, described, people

ASK = {"question": "Is it one?"}
OPEN = STEPS.replace(' = pa.Field(metadata={"pii": True})', "")
RANDOM, UNSURE = "random", "unsure"


@pytest.fixture
def data(tmp_path: Path, owner: Owner) -> Json:
    """400 people, all of them labeled."""
    return described(tmp_path, people(), owner(OPEN))


def line(number: int, label: object = "yes", chosen: str = RANDOM, **payload: object) -> Json:
    shown = {"name": f"asked {number}", "age": number % 80} | payload
    prediction = {"label": "no", "version": 1, "chosen": chosen, "shown": sorted([*shown, "more"])}
    return {"key": f"m.1.{number}", "label": label, "payload": shown, "prediction": prediction}


def said(objects: ObjectStore, *lines: Json) -> Json:
    return objects.put("labels", "labels.ndjson", "".join(json.dumps(each) + "\n" for each in lines).encode()).as_json()


def asked(made: Prepared) -> dict[str, dict[str, str]]:
    """The labels of those who were asked about, by split and name."""
    found = {}
    for split in (TRAIN, TEST):
        mine = made.table("splits", split).filter(pl.col("name").str.starts_with("asked"))
        found[split] = dict(mine.select("name", "label").iter_rows())
    return found


def test_labeled_predictions_are_rows_that_are_trained_and_tested_on(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data, ask=ASK)
    snapshot = said(objects, *(line(n) for n in range(50)), *(line(n, "no", UNSURE) for n in range(50, 150)))
    before, after = jobs.prepare(), jobs.prepare(predictions=[snapshot])
    found = asked(after)
    fair = {f"asked {n}" for n in range(50)}
    assert found[TRAIN].keys() | found[TEST].keys() >= fair, "what chance chose is all there"
    assert found[TEST], "and some of it is tested on"
    assert found[TEST].keys() <= fair, "but nothing else"
    assert 60 < len(found[TRAIN].keys() - fair) < 100
    assert {found[TRAIN].get(name, "yes") for name in fair} | {found[TEST].get(name, "yes") for name in fair} == {"yes"}
    answered = after.manifest["answered"]
    assert answered == sum(map(len, found.values())) == after.result["rows"]["labeled"]
    assert sum(after.result["rows"][name] - before.result["rows"][name] for name in (TRAIN, TEST)) == answered
    assert (after.manifest["predictions"], after.result["labels"]) == ([snapshot], [snapshot])
    again = jobs.run(preparation.rebuild, {"manifest": after.result["manifest"]})
    assert (again["same"], again["differences"]) == (True, []), "made again from the manifest alone"


def test_what_breaks_the_schema_is_set_aside_and_what_repeats_is_dropped(objects: ObjectStore, data: Json) -> None:
    odd = [line(1, age=-4), line(2, age="old"), line(3, "maybe"), line(4, age=None)]
    same = [line(7), {**line(7), "key": "m.1.77"}]
    made = Jobs(objects, {**data, "deduplicate": True}, ask=ASK).prepare(predictions=[said(objects, *odd, *same, *same)])
    found = asked(made)
    assert sorted(found[TRAIN] | found[TEST]) == ["asked 4", "asked 7"]
    assert made.result["rows"]["quarantined"] == 3
    assert made.manifest["answered"] == 2
    rows = pl.concat([made.table("splits", split) for split in (TRAIN, TEST)])
    assert rows.filter(name="asked 7").height == 1


def test_a_snapshot_of_rows_that_are_not_whole_is_not_learned_from(objects: ObjectStore, data: Json, owner: Owner) -> None:
    snapshot = [said(objects, *(line(n) for n in range(20)))]
    personal = {**data, "schema": f"{owner(STEPS)}:Row", "transform": f"{owner(STEPS)}:Features"}
    for parts, ask in ((data, {"payload": ["age"]}), (personal, {}), (data, {"learn": False})):
        made = Jobs(objects, parts, ask={**ASK, **ask}).prepare(predictions=snapshot)
        assert not {"predictions", "answered"} & made.manifest.keys()
    for parts, ask in ((data, {"payload": ["age"]}), (personal, {})):
        with pytest.raises(InvalidInput, match="name would be missing") as refused:
            Jobs(objects, parts, ask={**ASK, "learn": True, **ask}).prepare(predictions=snapshot)
        assert refused.value.field == "ask.learn"


def test_a_prediction_that_was_shown_in_part_is_not_learned_from(objects: ObjectStore, data: Json) -> None:
    part = line(1)
    part["prediction"]["shown"] = ["name"]
    old = line(2)
    del old["prediction"]["shown"]
    made = Jobs(objects, data, ask=ASK).prepare(predictions=[said(objects, part, old, line(3))])
    assert {**asked(made)[TRAIN], **asked(made)[TEST]} == {"asked 3": "yes"}


def test_of_two_campaigns_the_later_counts(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data, ask=ASK)
    first, second = said(objects, line(1), line(2)), said(objects, line(2, "no"), line(3, "no"))
    made = jobs.prepare(predictions=[first, second])
    assert {**asked(made)[TRAIN], **asked(made)[TEST]} == {"asked 1": "yes", "asked 2": "no", "asked 3": "no"}
    assert made.manifest["answered"] == 3
    assert jobs.run(preparation.rebuild, {"manifest": made.result["manifest"]})["same"]


def test_a_class_that_no_row_of_the_source_has_is_told(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("\n".join(["a,kind", *(f"{n},{'cat' if n % 2 else 'dog'}" for n in range(200))]))
    plain = {"source": {"uri": str(tmp_path / "n.csv"), "format": "csv"}, "target": {"column": "kind"}}
    with pytest.raises(DataRejected, match="people labeled predictions bird") as refused:
        Jobs(objects, plain, ask=ASK).prepare(predictions=[said(objects, line(5, "bird", a=1))])
    assert refused.value.field == "ask.learn"


def test_answers_do_not_move_the_cut_of_a_split_by_time(objects: ObjectStore, tmp_path: Path) -> None:
    days = [f"2026-01-{1 + n // 24:02} {n % 24:02}:00:00" for n in range(300)]
    (tmp_path / "n.csv").write_text("\n".join(["at,n,kind", *(f"{at},{n},{'cat' if n % 2 else 'dog'}" for n, at in enumerate(days))]))
    data = {
        "source": {"uri": str(tmp_path / "n.csv"), "format": "csv"},
        "target": {"column": "kind"},
        "split": {"by": "time", "column": "at", "test": 0.2},
    }
    jobs = Jobs(objects, data, ask=ASK)
    later = [line(n, "cat", UNSURE, at=f"2026-02-01T{n % 24:02}:00:00+00:00", n=n) for n in range(100)]
    sooner = [line(n, "cat", UNSURE, at="2026-01-02 03:00:00", n=float(n)) for n in range(1_000, 1_010)]
    before, after = jobs.prepare(), jobs.prepare(predictions=[said(objects, *later, *sooner)])
    assert after.manifest["splits"][TEST]["rows"] == before.manifest["splits"][TEST]["rows"] == 60
    assert after.manifest["splits"][TRAIN]["rows"] == before.manifest["splits"][TRAIN]["rows"] + 10
    assert after.result["rows"]["quarantined"] == 0, "a time with its zone, and a whole number as the log keeps it, are read"


def test_whole_numbers_stay_where_nothing_is_learned(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("\n".join(["a,b", *(f"{n},{2 * n}" for n in range(200))]))
    data = {"source": {"uri": str(tmp_path / "n.csv"), "format": "csv"}, "target": {"column": "b", "task": "regression"}}
    jobs = Jobs(objects, data, ask={**ASK, "learn": False})
    snapshot = said(objects, {"key": "k", "label": 2.5, "payload": {"a": 1000}, "prediction": {"chosen": RANDOM, "shown": ["a"]}})
    assert jobs.prepare(predictions=[snapshot]).manifest == jobs.prepare().manifest


def test_a_label_that_is_none_of_the_target_is_told(objects: ObjectStore, data: Json) -> None:
    with pytest.raises(InvalidInput, match=r"m\.1\.5 7, which is no class"):
        Jobs(objects, data, ask=ASK).prepare(predictions=[said(objects, line(5, 7))])


def test_numbers_are_learned_by_a_regression(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("\n".join(["a,b", *(f"{n},{2 * n}" for n in range(200))]))
    data = {"source": {"uri": str(tmp_path / "n.csv"), "format": "csv"}, "target": {"column": "b", "task": "regression"}}
    snapshot = said(objects, {"key": "k", "label": 2.5, "payload": {"a": 1000}, "prediction": {"chosen": RANDOM, "shown": ["a"]}})
    made = Jobs(objects, data, ask=ASK).prepare(predictions=[snapshot])
    rows = pl.concat([made.table("splits", split) for split in (TRAIN, TEST)])
    assert rows.filter(pl.col("a") == 1000)["b"].to_list() == [2.5]
    assert made.manifest["answered"] == 1
