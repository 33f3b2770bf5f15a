"""Rows without a label: what becomes of them, before and after people have labeled some."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.errors import InvalidInput
from perdure.jobs import preparation
from perdure.jobs.preparation.rows import TEST, TRAIN
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs, Prepared
from tests.jobs.test_preparation_jobs import STEPS, described, people

ASK = {"question": "Is it one?", "payload": ["name", "age"], "shows": "row"}


@pytest.fixture
def data(tmp_path: Path, owner: Owner) -> Json:
    """400 people of whom every fifth is labeled; two of the others have an age that cannot be."""
    rows = [row if i % 5 == 0 else row.rpartition(",")[0] + "," for i, row in enumerate(people())]
    rows[1], rows[2] = "person 1,-4,", "person 2,old,"
    return described(tmp_path, rows, owner(STEPS))


def said(objects: ObjectStore, labels: dict[str, object]) -> Json:
    """A snapshot of what people said."""
    lines = [canonical({"key": key, "label": label, "payload": {}}) for key, label in labels.items()]
    return objects.put("labels", "labels.ndjson", b"\n".join(lines) + b"\n").as_json()


def splits(prepared: Prepared) -> dict[str, set[str]]:
    """Who is where."""
    return {split: set(prepared.table("splits", split)["name"]) for split in (TRAIN, TEST)}


def test_a_row_without_a_label_waits_in_the_pool(objects: ObjectStore, data: Json) -> None:
    made = Jobs(objects, data, label=ASK).prepare([])
    pool = made.table("pool")
    assert made.result["rows"] | {"train": 0, "test": 0} == {"train": 0, "test": 0, "quarantined": 2, "pool": 318, "labeled": 0}
    assert made.result["rows"]["train"] + made.result["rows"]["test"] == 80
    assert pool.columns == ["name", "age", "__key", "__split"]
    assert pool["__key"].n_unique() == pool.height == 318
    assert made.reasons() == ["age: greater_than_or_equal_to(0)", "age: is no Int64"], "its other columns are checked as ever"
    everybody = Jobs(objects, {**data, "target": {**data["target"]}}, label=ASK).prepare([])
    assert everybody.manifest["pool"] == made.manifest["pool"]


def test_without_label_nothing_changes(objects: ObjectStore, data: Json) -> None:
    made = Jobs(objects, {**data, "limits": {"quarantined": 1}}).prepare()
    assert made.result["rows"]["quarantined"] == 320
    assert not {"pool", "labels", "labeled"} & made.manifest.keys()
    assert "pool" not in made.result["rows"]


def test_labels_join_by_key_and_the_split_stays(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data, label=ASK)
    before = jobs.prepare([])
    sides = dict(before.table("pool").select("name", "__split").iter_rows())
    keys = dict(before.table("pool").select("name", "__key").iter_rows())
    asked = sorted(keys)[:60]
    first = said(objects, {keys[name]: "yes" for name in asked} | {"gone": "no"})
    second = said(objects, {keys[asked[0]]: "no"})
    after = jobs.prepare([first, second])
    assert after.result["rows"]["pool"] == 258
    assert after.result["rows"]["labeled"] == 60
    assert after.result["labels"] == [first, second]
    placed = splits(after)
    for name in asked:
        assert name in placed[sides[name]], "the rule of the split decides, not who asked"
    labels = dict(pl.concat([after.table("splits", TRAIN), after.table("splits", TEST)]).select("name", "label").iter_rows())
    assert labels[asked[0]] == "no", "the newest snapshot counts"
    assert {labels[name] for name in asked[1:]} == {"yes"}
    assert {name: side for name, side in sides.items() if name not in asked} == dict(
        after.table("pool").select("name", "__split").iter_rows()
    )
    manifest = {"manifest": after.result["manifest"]}
    again = jobs.run(preparation.rebuild, manifest)
    assert (again["same"], again["differences"]) == (True, []), "made again from the manifest alone"


def test_what_a_model_was_unsure_about_is_not_tested_on_even_if_the_split_changes(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data, label=ASK)
    pool = jobs.prepare([]).table("pool")
    keys = dict(pool.filter(pl.col("__split") == TRAIN).head(80).select("name", "__key").iter_rows())
    asked = objects.put(
        "labels",
        "labels.ndjson",
        b"\n".join(
            canonical({"key": key, "label": "yes", "prediction": {"label": "no", "chosen": "unsure" if number % 2 else "random"}})
            for number, key in enumerate(keys.values())
        ),
    ).as_json()
    unsure, by_chance = set(list(keys)[1::2]), set(list(keys)[::2])
    other = Jobs(objects, {**data, "split": {"seed": 5, "test": 0.5}}, label=ASK).prepare([asked])
    placed, waiting = splits(other), set(other.table("pool")["name"])
    assert unsure & placed[TRAIN]
    assert not unsure & placed[TEST]
    assert unsure & waiting == unsure - placed[TRAIN] != set(), "chance may ask about them again"
    assert by_chance & placed[TEST]
    assert not by_chance & waiting
    again = said(objects, {keys[name]: "yes" for name in unsure})
    assert unsure & splits(Jobs(objects, {**data, "split": {"seed": 5, "test": 0.5}}, label=ASK).prepare([asked, again]))[TEST]


@pytest.fixture
def numbers(tmp_path: Path) -> Json:
    """200 rows, of which every second has a label, and the others white space."""
    rows = [f"{i},{['no', '  ', 'yes', ' '][i % 4]}" for i in range(200)]
    (tmp_path / "numbers.csv").write_text("\n".join(["x,label", *rows]))
    return {"source": {"uri": str(tmp_path / "numbers.csv"), "format": "csv"}, "target": "label"}


def test_a_label_of_white_space_is_none(objects: ObjectStore, numbers: Json) -> None:
    made = Jobs(objects, numbers, label={**ASK, "payload": ["x"]}).prepare([])
    assert (made.manifest["classes"], made.result["rows"]["pool"]) == (["no", "yes"], 100)
    unasked = Jobs(objects, {**numbers, "limits": {"quarantined": 1}}).prepare()
    assert (unasked.manifest["classes"], unasked.reasons()) == (["no", "yes"], ["label: is missing"] * 100)


def test_a_rare_class_that_people_meet_first_in_the_test_set_ends_no_run(objects: ObjectStore, numbers: Json) -> None:
    jobs = Jobs(objects, numbers, label={**ASK, "payload": ["x"], "choices": ["no", "odd", "yes"]})
    key = jobs.prepare([]).table("pool").filter(pl.col("__split") == TEST)["__key"][0]
    made = jobs.prepare([said(objects, {key: "odd"})])
    assert made.manifest["classes"] == ["no", "odd", "yes"]
    assert made.table("splits", TEST)["label"].to_list().count("odd") == 1


@pytest.mark.parametrize(("label", "told"), [("perhaps", "none of: no, yes"), (3, "none of: no, yes")])
def test_a_label_that_is_none_is_refused(objects: ObjectStore, data: Json, label: object, told: str) -> None:
    jobs = Jobs(objects, data, label={**ASK, "choices": ["no", "yes"]})
    with pytest.raises(InvalidInput, match=f"people labeled the row abc {label!r}, which is {told}"):
        jobs.prepare([said(objects, {"abc": label})])


def test_a_label_that_breaks_the_schema_is_set_aside(objects: ObjectStore, data: Json) -> None:
    jobs = Jobs(objects, data, label=ASK)
    key = jobs.prepare([]).table("pool")["__key"][0]
    made = jobs.prepare([said(objects, {key: "perhaps"})])
    assert made.result["rows"]["quarantined"] == 3
    assert "label: isin(['yes', 'no'])" in made.reasons()


def test_numbers(objects: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,price\n" + "".join(f"{i},{'' if i % 2 else 2 * i}\n" for i in range(200)))
    data = {"source": {"uri": str(tmp_path / "rows.csv"), "format": "csv"}, "target": {"column": "price", "task": "regression"}}
    jobs = Jobs(objects, data, label={"question": "How much?", "strategy": "random", "shows": "row"})
    before = jobs.prepare([])
    keys = dict(before.table("pool").select("size", "__key").iter_rows())
    after = jobs.prepare([said(objects, {keys[1]: 2.5, keys[3]: 6})])
    rows = pl.concat([after.table("splits", TRAIN), after.table("splits", TEST)])
    assert rows.filter(pl.col("size").is_in([1, 3])).sort("size")["price"].to_list() == [2.5, 6]
    again = jobs.run(preparation.rebuild, {"manifest": after.result["manifest"]})
    assert (again["same"], again["differences"]) == (True, [])


def test_what_people_cannot_be_shown_is_told_by_the_plan(objects: ObjectStore, data: Json) -> None:
    question = {"question": "Is it one?"}
    with pytest.raises(InvalidInput, match="people are to be shown nmae, but a row has: name, age"):
        Jobs(objects, data, label={**question, "payload": ["nmae"]}).run(preparation.plan, {})
    with pytest.raises(InvalidInput, match="text shows one column, but there are 2 that are not personal: name, age"):
        Jobs(objects, {**data, "schema": None}, label=question).run(preparation.plan, {})
    assert Jobs(objects, data, label=question).run(preparation.plan, {})["personal"] == ["name"], "so age is what they are shown"


def test_the_pool_is_named_by_the_manifest(objects: ObjectStore, data: Json) -> None:
    made = Jobs(objects, data, label=ASK).prepare([])
    assert sum(file["rows"] for file in made.manifest["pool"]["files"]) == made.manifest["pool"]["rows"] == 318
    assert all(objects.exists(ArtifactRef.from_json(file)) for file in made.manifest["pool"]["files"])
