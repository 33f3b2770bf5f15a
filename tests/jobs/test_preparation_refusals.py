"""Bad input: each kind is one typed error that names cause and remedy, or rows set aside with their reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.errors import (
    DataRejected,
    InvalidInput,
    PerdureError,
    SchemaBroken,
    SourceChanged,
    SourceMissing,
    UserCodeError,
    UserCodeImport,
)
from perdure.jobs import preparation
from perdure.messages.common import ArtifactRef, Json
from tests.jobs.conftest import Owner
from tests.jobs.running import Jobs

SCHEMA = """
import pandera.polars as pa
import polars as pl

class Row(pa.DataFrameModel):
    name: str = pa.Field(metadata={"pii": True}, str_length={"min_value": 3})
    age: int = pa.Field(ge=0, nullable=True)
    label: str = pa.Field(isin=["yes", "no"])
"""
GOOD = [f"person {i},{20 + i % 40},{'yes' if i % 3 else 'no'}" for i in range(100)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


@pytest.fixture
def data(source: Path, owner: Owner) -> Json:
    return {
        "source": {"uri": str(source), "format": "csv"},
        "schema": f"{owner(SCHEMA)}:Row",
        "target": {"column": "label", "positive": "yes"},
        "transform": f"{owner('def apply(frame): return frame[:, [1]]')}:apply",
        "partitions": 2,
    }


def write(source: Path, rows: list[str], header: str = "name,age,label") -> None:
    source.write_text("\n".join([header, *rows]))


def refused(objects: ObjectStore, data: Json, kind: type[PerdureError], message: str, field: str | None) -> str:
    with pytest.raises(kind, match=message) as caught:
        Jobs(objects, data).prepare()
    assert type(caught.value) is kind
    assert caught.value.field == field
    assert caught.value.remedy
    assert len(caught.value.problem) < 4_000
    return caught.value.problem


def test_rows_that_break_the_schema_are_set_aside(objects: ObjectStore, data: Json, source: Path) -> None:
    bad = ["xx,-4,maybe", "person old,old,yes", "person null,,", "lonely", "person young,-1,no"]
    write(source, [*GOOD, *bad])
    made = Jobs(objects, {**data, "limits": {"quarantined": 0.1}}).prepare()
    assert made.result["rows"]["quarantined"] == 5
    assert made.reasons() == sorted(
        [
            "name: str_length(3, None); age: greater_than_or_equal_to(0); label: isin(['yes', 'no'])",
            "age: is no Int64",
            "label: is missing",
            "1 field instead of 3",
            "age: greater_than_or_equal_to(0)",
        ]
    )
    quarantine = made.table("quarantine")
    assert quarantine.columns == ["name", "age", "label", "__raw", "__reason"]
    assert set(quarantine["age"].drop_nulls()) == {"-4", "old", "-1"}  # as it was written
    assert quarantine["__raw"].drop_nulls().to_list() == ["lonely"]
    told = {(f["column"], f["check"]): (f["count"], f["example"]) for f in made.result["failures"]}
    assert told == {
        ("age", "greater_than_or_equal_to(0)"): (2, "-4"),
        ("age", "is no Int64"): (1, "old"),
        ("label", "is missing"): (1, None),
        ("label", "isin(['yes', 'no'])"): (1, "maybe"),
        ("name", "str_length(3, None)"): (1, None),  # personal: no example
        ("", "1 field instead of 3"): (1, None),  # may hold a name
    }


def test_too_many_of_them(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, [*GOOD, *["Erika Mustermann,-1,yes"] * 9, "Erika Mustermann,?,yes"])
    problem = refused(
        objects, data, DataRejected, r"10 of 110 rows \(9\.09%\) were set aside, 5\.00% are allowed", "data.limits.quarantined"
    )
    assert "age: greater_than_or_equal_to(0) (9 rows), for example '-1'" in problem
    assert "Mustermann" not in problem


def test_labels_missing(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, [*GOOD[:50], *(row.rpartition(",")[0] + "," for row in GOOD[50:])])
    problem = refused(objects, data, DataRejected, "50 of 100 rows", "data.limits.quarantined")
    assert "label: is missing (50 rows)" in problem


def test_numbers_as_labels_that_are_missing(objects: ObjectStore, source: Path) -> None:
    write(source, [f"{i},{i if i % 2 else 'nan'}" for i in range(100)], "x,y")
    data = {"source": {"uri": str(source), "format": "csv"}, "target": {"column": "y", "task": "regression"}}
    assert "y: is missing (50 rows)" in refused(objects, data, DataRejected, "50 of 100 rows", "data.limits.quarantined")


def test_one_class_only(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, [row.rpartition(",")[0] + ",yes" for row in GOOD])
    refused(objects, data, DataRejected, r"one class only: yes \(100 rows\)", "data.target.column")


def test_a_positive_class_that_is_none(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, GOOD)
    target = {"column": "label", "positive": "spam"}
    refused(
        objects,
        {**data, "target": target},
        InvalidInput,
        r"'spam' is no class of 'label'; found: yes \(66 rows\), no",
        "data.target.positive",
    )
    target = {"column": "age", "positive": "21"}
    refused(
        objects,
        {**data, "target": target, "transform": None, "schema": None, **name(source)},
        InvalidInput,
        "one of two",
        "data.target.positive",
    )


def name(source: Path) -> Json:
    """The same rows, with columns that are numbers only."""
    write(source, [",".join([str(i), row.split(",")[1], "1"]) for i, row in enumerate(GOOD)], "n,age,one")
    return {}


def test_a_number_as_a_class(objects: ObjectStore, source: Path) -> None:
    write(source, [f"{i},{i}" for i in range(2_000)], "x,y")
    data = {"source": {"uri": str(source), "format": "csv"}, "target": "y"}
    refused(objects, data, DataRejected, "more than 1000 different values", "data.target.task")


@pytest.mark.parametrize(("split", "lost"), [({"by": "group", "column": "age", "test": 0.001}, "test"), ({"test": 0.999}, "train")])
def test_an_empty_split(objects: ObjectStore, data: Json, source: Path, split: Json, lost: str) -> None:
    write(source, GOOD[:12])
    problem = refused(objects, {**data, "split": split}, DataRejected, "fell into the", "data.split")
    assert lost.removesuffix("ing") in problem


def test_a_class_that_nothing_is_learned_about(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, [*(f"person {i},{i},no" for i in range(30)), *(f"person {i},{i},yes" for i in range(70, 73))])
    split = {"by": "time", "column": "age", "test": 0.2}
    refused(objects, {**data, "split": split}, DataRejected, "no row of the class yes fell into the training split", "data.split")


def test_few_rows(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, GOOD[:9])
    refused(objects, data, DataRejected, "9 valid rows, at least 10 are wanted", "data.limits.min_rows")
    write(source, [])
    refused(objects, data, DataRejected, "0 valid rows", "data.limits.min_rows")


def test_a_missing_source(objects: ObjectStore, data: Json) -> None:
    refused(objects, data, SourceMissing, "names no file", "data.source.uri")
    for uri in (f"s3://{objects.bucket}/nothing/here.csv", "s3://no-such-bucket/x.csv"):
        refused(objects, {**data, "source": {"uri": uri, "format": "csv"}}, SourceMissing, "no", "data.source.uri")


def test_a_source_that_changes_between_plan_and_partition(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, GOOD)
    jobs = Jobs(objects, data)
    plan = jobs.run(preparation.plan, {})
    write(source, [*GOOD[:-1], "person new,33,yes"])
    jobs.run(preparation.partition, {"plan": plan}, 0)
    with pytest.raises(SourceChanged, match="not those that were planned with"):
        jobs.run(preparation.partition, {"plan": plan}, 1)
    source.unlink()
    with pytest.raises(SourceMissing, match="has gone"):
        jobs.run(preparation.partition, {"plan": plan}, 1)


def test_an_object_that_changes_between_plan_and_partition(objects: ObjectStore, data: Json) -> None:
    key = f"sources/{uuid4()}.csv"
    objects.write(key, "\n".join(["name,age,label", *GOOD]).encode())
    jobs = Jobs(objects, {**data, "source": {"uri": f"s3://{objects.bucket}/{key}", "format": "csv"}})
    plan = jobs.run(preparation.plan, {})
    for body in (b"name,age,label\n", "\n".join(["name,age,label", *GOOD[:60]]).encode(), b"x" * 10_000):
        objects.write(key, body)
        with pytest.raises(SourceChanged, match="not those that were planned with"):
            jobs.run(preparation.partition, {"plan": plan}, 1)
    objects.delete([key])
    with pytest.raises(SourceMissing, match="has gone"):
        jobs.run(preparation.partition, {"plan": plan}, 1)


@pytest.mark.parametrize(
    ("header", "changes", "message", "field"),
    [
        (
            "name;age;label",
            {},
            r"lacks the columns name, age, label\n  seen: name;age;label\n  expected: name, age, label",
            "data.source.columns",
        ),
        ("Name,age,label", {}, r"lacks the columns name\n  seen: Name, age, label", "data.source.columns"),
        ("name,age,label", {"target": "class"}, "lacks the columns class", "data.source.columns"),
        ("name,age,label", {"split": {"by": "time", "column": "name"}}, "the time column 'name' holds String", "data.split.column"),
        ("name,age,label", {"target": {"column": "name", "task": "regression"}}, "the target 'name' holds String", "data.target.column"),
        ("name,__age,label", {"schema": None}, "the columns __age have reserved names", "data.source"),
        (
            "name,age,label",
            {"source": {"format": "tsv", "columns": ["name", "age", "label"]}},
            "1 field instead of 3",
            "data.source.format",
        ),
        ("name,age,label", {"source": {"format": "parquet"}}, "is no parquet file", "data.source.format"),
    ],
)
def test_a_source_of_another_shape(
    objects: ObjectStore, data: Json, source: Path, header: str, changes: Json, message: str, field: str
) -> None:
    write(source, [row.replace(",", ";") for row in GOOD] if ";" in header else GOOD, header)
    named = {**data, **changes, "source": {**data["source"], **changes.get("source", {})}}
    refused(objects, named, SchemaBroken, message, field)


def test_text_is_no_feature(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, GOOD)
    problem = refused(objects, {**data, "transform": None}, InvalidInput, "cannot be features", "data.transform")
    assert "name (String)" in problem


@pytest.mark.parametrize(
    ("schema", "kind", "message"),
    [
        ("age: int = pa.Field(unique=True)", InvalidInput, r"uniqueness \(age\) cannot be checked"),
        ("age: str\n    class Config:\n        strict = True", SchemaBroken, "column_in_schema"),
        (
            "age: int\n    @pa.check('age')\n    def broken(cls, data): raise RuntimeError('no good')",
            UserCodeError,
            "check broken raised.*no good",
        ),
    ],
)
def test_a_schema_that_cannot_be_used(
    objects: ObjectStore, data: Json, source: Path, owner: Owner, schema: str, kind: type[PerdureError], message: str
) -> None:
    write(source, GOOD)
    module = owner(f"import pandera.polars as pa\nclass Row(pa.DataFrameModel):\n    {schema}\n")
    refused(objects, {**data, "schema": f"{module}:Row"}, kind, message, "data.schema")


def test_the_schemas_types_are_the_columns_types(objects: ObjectStore, data: Json, source: Path, owner: Owner) -> None:
    write(source, GOOD)
    module = owner(
        "import pandera.polars as pa\nclass Row(pa.DataFrameModel):\n    age: float\n    class Config:\n        strict = 'filter'\n"
    )
    made = Jobs(objects, {**data, "schema": f"{module}:Row", "transform": None}).prepare()
    assert made.result["schema"] == [{"name": "age", "dtype": "Float64"}, {"name": "label", "dtype": "String"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return frame.select(pl.col('age') - pl.col('age').mean())", "the feature 'age' of row 0 is .* among other rows, but .* alone"),
        ("return frame.select(pl.col('gone'))", r"raised polars\.exceptions\.ColumnNotFoundError.*gone"),
        ("return frame.head(1)", "made 1 rows of"),
        ("return frame.select('name')", "column 'name' holds String"),
        ("return frame.select(__x='age')", "reserved names"),
        ("return frame.select([])", "made 0 rows|made no columns"),
        ("return frame.select(pl.col('age') / 0)", "feature 'age' holds an infinite value"),
        ("return frame.select(pl.col('label').str.len_chars())", "label"),  # the target is not there to be seen
    ],
)
def test_a_transform_that_cannot_be_used(objects: ObjectStore, data: Json, source: Path, owner: Owner, body: str, message: str) -> None:
    write(source, GOOD)
    module = owner(f"import polars as pl\ndef apply(frame):\n    {body}\n")
    with pytest.raises(UserCodeError, match=f"(?s){message}") as caught:
        Jobs(objects, {**data, "transform": f"{module}:apply"}).prepare()
    assert "data.transform" in str(caught.value)


def test_the_owners_lines_are_shown(objects: ObjectStore, data: Json, source: Path, owner: Owner) -> None:
    write(source, GOOD)
    module = owner("class Features:\n    def fit(self, frames):\n        return 1 / 0  # here\n    def apply(self, frame, state): ...\n")
    with pytest.raises(UserCodeError, match=r"(?s)ZeroDivisionError.*line 3.*1 / 0  # here"):
        Jobs(objects, {**data, "transform": f"{module}:Features"}).prepare()


def test_a_state_that_cannot_be_kept(objects: ObjectStore, data: Json, source: Path, owner: Owner) -> None:
    write(source, GOOD)
    module = owner("class Features:\n    def fit(self, frames): return {'model': object()}\n    def apply(self, frame, state): ...\n")
    with pytest.raises(UserCodeError, match=r"state\.model is a object"):
        Jobs(objects, {**data, "transform": f"{module}:Features"}).prepare()


def test_columns_that_depend_on_the_rows(objects: ObjectStore, data: Json, source: Path, owner: Owner) -> None:
    write(source, [f"person {i:03},{20 + i // 60},{'yes' if i % 3 else 'no'}" for i in range(120)])
    module = owner("import polars as pl\ndef apply(frame):\n    return frame.select('age', pl.col('age').alias(f'age {frame[0, 1]}'))\n")
    refused(
        objects,
        {**data, "transform": f"{module}:apply"},
        UserCodeError,
        "other columns of partition 1 than of partition 0",
        "data.transform",
    )


def test_code_that_cannot_be_imported(objects: ObjectStore, data: Json, source: Path, owner: Owner) -> None:
    write(source, GOOD)
    for field in ("schema", "transform"):
        with pytest.raises(UserCodeImport, match="nowhere"):
            Jobs(objects, {**data, field: "nowhere.steps:Thing"}).prepare()


def test_nothing_is_committed_where_data_is_refused(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, [row.rpartition(",")[0] + ",yes" for row in GOOD])
    jobs = Jobs(objects, data)
    with pytest.raises(DataRejected):
        jobs.prepare()
    assert list(objects.list(f"delta/{jobs.spec.name}/")) == []


def test_personal_values_stay_in_the_rows(objects: ObjectStore, data: Json, source: Path) -> None:
    write(source, [*GOOD, "Erika Mustermann,-3,yes", "Erika Mustermann,35,no"])
    made = Jobs(objects, data).prepare()
    told: list[Any] = [made.result, made.inputs, made.manifest, objects.get_json(ArtifactRef.from_json(made.result["profile"]))]
    assert "Mustermann" not in str(told)
    rows = pl.concat([made.table("splits", split) for split in ("train", "test")])
    assert "Erika Mustermann" in rows["name"].to_list()
