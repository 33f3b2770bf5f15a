"""Raw rows in every form that `perdure predict` takes, and what it says about rows that it cannot take."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from perdure.cli.scoring import score, versioned
from perdure.errors import InvalidInput, NotFound, UserCodeError

predictor = pytest.importorskip("perdure.predictor")

CODE = {
    "linear.py": (
        "import numpy as np\nimport polars as pl\n"
        "def apply(frame):\n"
        "    if (frame['text'] == 'boom').any(): raise RuntimeError('no such word')\n"
        "    return frame.select(n=pl.col('n'), length=pl.col('text').str.len_chars().fill_null(0))\n"
        "def predict(folder, features):\n    return features[:, 0] * 10 + features[:, 1]\n"
    )
}


def zipped(files: dict[str, str]) -> bytes:
    import zipfile

    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return body.getvalue()


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A regression whose prediction is ten times ``n`` and the length of ``text``."""
    manifest = {
        "transform": {"reference": "linear:apply"},
        "target": {"column": "y", "positive": None, "task": "regression"},
        "features": {"names": ["n", "length"]},
        "classes": [],
        "schema": [{"name": "text", "dtype": "String"}, {"name": "n", "dtype": "Int64"}, {"name": "y", "dtype": "Float64"}],
    }
    path = predictor.build(
        tmp_path_factory.mktemp("model") / "predictor.zip",
        manifest=manifest,
        format="custom",
        files={"nothing": b""},
        code=zipped(CODE),
        predict="linear:predict",
    )
    return predictor.load(path)


EXPECTED = [{"prediction": 13.0}, {"prediction": 25.0}]
FORMS = {
    "rows.json": '[{"text": "abc", "n": 1}, {"n": 2, "text": "abcde"}]',
    "rows.ndjson": '{"text": "abc", "n": 1}\n\n{"text": "abcde", "n": 2, "more": "ignored"}\n',
    "rows.csv": 'text,n\n"abc",1\nabcde,2\n',
    "rows.tsv": "n\ttext\n1\tabc\n2\tabcde\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_rows(linear: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name])
    assert score(linear, str(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize("name", FORMS)
def test_every_form_from_a_pipe(linear: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(FORMS[name]))
    assert score(linear, "-") == EXPECTED


def test_one_object_is_one_row_and_empty_fields_are_nulls(linear: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"text": null, "n": 1}'))
    assert score(linear, "-") == [{"prediction": 10.0}]
    monkeypatch.setattr("sys.stdin", io.StringIO("text,n\n,1\n"))
    assert score(linear, "-") == [{"prediction": 10.0}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there are no rows"),
        ("[1, 2]", "row 1 is no object but 1"),
        ('[{"text": "a", "n": 1},]', "this is no JSON: line 1"),
        ('{"text": "a", "n": 1}\n{"text": \n', "this is no JSON: line 2"),
        ('{"n": 1}', "missing columns: text"),
        ('{"text": "a", "n": "one"}', "column 'n' holds String"),
        ('[{"text": "a", "n": 1}, {"text": 7, "n": 1}]', "column 'text' mixes types"),
        ("text,n\na\n", "record 2 has 1 fields, the header 2"),
        ("text,n\na,one\n", "row 1, column 'n': 'one' is no Int64"),
    ],
)
def test_rows_that_cannot_be_scored(linear: Any, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(InvalidInput) as caught:
        score(linear, "-")
    assert told in caught.value.problem
    assert caught.value.remedy


def test_errors_of_the_models_own_code(linear: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([{"text": "boom", "n": 1}])))
    with pytest.raises(UserCodeError, match="no such word"):
        score(linear, "-")


def test_files_that_are_none(linear: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        score(linear, str(tmp_path / "nothing.json"))
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="cannot be read"):
        score(linear, str(tmp_path / "b.json"))


def test_models_and_versions() -> None:
    assert versioned("m") == ("m", None)
    assert versioned("m@12") == ("m", 12)
    for text in ("@1", "m@", "m@-1", "m@1.5", ""):
        with pytest.raises(InvalidInput):
            versioned(text)
