"""Outcomes from files; predictions as CloudEvents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from perdure.cli.outcome_rows import Loaded, load, load_feedback
from perdure.errors import InvalidInput
from perdure.metadata.repository.feedback import NewFeedback, NewOutcome, Receipt
from perdure.metadata.tables import Verdict
from perdure.predictions import new_request, prediction_id
from perdure.serving.cloudevents import event


class Rows:
    """Remembers outcomes; the id is the key."""

    def __init__(self) -> None:
        self.there: dict[tuple[str, str], NewOutcome] = {}
        self.batches: list[int] = []

    def outcomes(self, items: list[NewOutcome]) -> list[Receipt]:
        self.batches.append(len(items))
        told = []
        for item in items:
            duplicate = (item.prediction_id, item.source) in self.there
            self.there.setdefault((item.prediction_id, item.source), item)
            told.append(Receipt(prediction_id=item.prediction_id, id=uuid4(), duplicate=duplicate))
        return told


def loaded(path: Path, rows: Rows, **more: Any) -> Loaded:
    *_, last = [Loaded(), *load(path, "m", "file:ann", rows, **{"text": False, **more})]  # type: ignore[arg-type]
    return last


def test_a_csv_is_loaded_in_batches_and_again_without_effect(tmp_path: Path) -> None:
    ids = [prediction_id("m", 1, new_request()) for _ in range(2_500)]
    lines = [f"{id},{number},2026-11-01T12:00:00+01:00" for number, id in enumerate(ids)]
    lines[7] = f"{ids[7]},spam,"
    lines[8] = f"{ids[8]},,"
    lines[9] = f"{prediction_id('other', 1, new_request())},1,"
    lines[10] = f"{ids[10]},1,2026-11-01T12:00:00"
    lines[11] = f"{ids[11]},1,yesterday"
    lines[12] = f"{ids[12]},a\x00b,"
    path = tmp_path / "truth.csv"
    path.write_text("\n".join(["prediction_id,value,observed_at", *lines]))
    rows = Rows()
    done = loaded(path, rows)
    assert (done.rows, done.new, done.duplicates, done.wrong) == (2_500, 2_495, 0, 5)
    assert [each["row"] for each in done.refused] == [9, 10, 11, 12, 13]
    assert len(rows.batches) == 3
    first = rows.there[ids[0], "file:ann"]
    assert (first.value, first.observed_at) == (0, datetime(2026, 11, 1, 11, tzinfo=UTC))
    assert (rows.there[ids[7], "file:ann"].value, rows.there[ids[7], "file:ann"].observed_at) == ("spam", None)
    assert loaded(path, rows).duplicates == 2_495
    assert loaded(path, texts := Rows(), text=True).new == 2_495
    assert texts.there[ids[1], "file:ann"].value == "1"


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    ids = [prediction_id("m", 1, new_request()) for _ in range(3)]
    at = pl.Series([datetime(2026, 11, 1, tzinfo=UTC)] * 3)
    pl.DataFrame({"prediction_id": ids, "value": [1.5, float("nan"), None], "observed_at": at, "other": 1}).write_parquet(
        tmp_path / "t.parquet"
    )
    rows = Rows()
    done = loaded(tmp_path / "t.parquet", rows)
    assert (done.new, done.wrong) == (1, 2)
    assert rows.there[ids[0], "file:ann"].value == 1.5


def test_what_users_said_comes_from_a_file(tmp_path: Path) -> None:
    ids = [prediction_id("m", 1, new_request()) for _ in range(2)]
    said: list[NewFeedback] = []

    class Words:
        def feedback(self, items: list[NewFeedback]) -> list[Receipt]:
            said.extend(items)
            return [Receipt(prediction_id=item.prediction_id, id=uuid4()) for item in items]

    path = tmp_path / "words.csv"
    lines = ["prediction_id,verdict,comment,user", f"{ids[0]},wrong,my sister,u1", f"{ids[1]},right", f"{ids[1]},maybe,,", "x,right,,"]
    path.write_text("\n".join(lines))
    *_, done = load_feedback(path, "m", "file:ann", Words())  # type: ignore[arg-type]
    assert (done.rows, done.new, [each["row"] for each in done.refused]) == (4, 2, [3, 4])
    assert [(each.prediction_id, each.verdict, each.principal, each.comment) for each in said] == [
        (ids[0], Verdict.WRONG, "file:ann/u1", "my sister"),
        (ids[1], Verdict.RIGHT, "file:ann", ""),
    ]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.csv", b"id,value\n1,2\n"), ("b.parquet", b"no parquet"), ("c.csv", b"\xff\xfe\x00prediction_id")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=name):
            loaded(tmp_path / name, Rows())


def test_a_row_of_the_log_is_a_cloudevent() -> None:
    id = prediction_id("m", 3, new_request())
    row = {
        "id": id,
        "time": datetime(2026, 11, 1, 12, tzinfo=UTC),
        "date": datetime(2026, 11, 1, tzinfo=UTC).date(),
        "version": 3,
        "role": "release",
        "unit": "u1",
        "trace": "0af7651916cd43dd8448eb211c80319c",
        "latency_ms": 1.5,
        "instance": "i",
        "sequence": 7,
        "input.day": datetime(2026, 10, 1, tzinfo=UTC).date(),
        "input.none": None,
        "prediction": "spam",
        "p.spam": 0.9,
    }
    made = json.loads(json.dumps(event("m", row)))
    assert (made["specversion"], made["id"], made["source"], made["subject"]) == ("1.0", id, "/perdure/models/m/versions/3", "u1")
    assert made["traceparent"] == f"00-0af7651916cd43dd8448eb211c80319c-{id[-16:]}-01"
    assert made["data"]["inputs"] == {"day": "2026-10-01"}
    assert made["data"]["scores"] == {"spam": 0.9}
    assert "subject" not in event("m", {**row, "unit": None, "trace": ""})
