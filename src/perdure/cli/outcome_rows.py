"""Outcomes, or what users said, in a file of a person: csv or parquet, read in batches, with what is wrong told by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.errors import InvalidInput

if TYPE_CHECKING:
    from perdure.metadata.repository.feedback import FeedbackRows, NewFeedback, NewOutcome, Receipt

BATCH = 1_000
_OUTCOME = ("prediction_id", "value", "observed_at")  # the first two are needed
_FEEDBACK = ("prediction_id", "verdict", "comment", "user")
_Item = TypeVar("_Item")
_TOLD = 100  # refused rows that are kept to be told


@dataclass(kw_only=True)
class Loaded:
    """What came of a file. ``refused`` holds the first ones, with their rows (the first row of data is 1)."""

    rows: int = 0
    new: int = 0
    duplicates: int = 0
    wrong: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, row: int, why: str) -> None:
        """This row was not taken."""
        self.wrong += 1
        if len(self.refused) < _TOLD:
            self.refused.append({"row": row, "error": why})


def load(path: Path, model: str, source: str, rows: FeedbackRows, *, text: bool) -> Iterator[Loaded]:
    """Store the outcomes of the file, a thousand a transaction; what came of it so far, after each. Raises InvalidInput.

    A file that was loaded in part is loaded again: what is there already changes nothing.
    """
    return _load(path, _OUTCOME, lambda line: _outcome(line, model, source, text=text), rows.outcomes)


def load_feedback(path: Path, model: str, source: str, rows: FeedbackRows) -> Iterator[Loaded]:
    """Store what users said, likewise. Of a person who says several things of one prediction the last one counts. Raises InvalidInput."""
    return _load(path, _FEEDBACK, lambda line: _feedback(line, model, source), rows.feedback)


def _load(
    path: Path, columns: tuple[str, ...], make: Callable[[dict[str, Any]], _Item], store: Callable[[list[_Item]], list[Receipt]]
) -> Iterator[Loaded]:
    done = Loaded()
    lines = enumerate(_lines(path, columns), 1)
    while batch := list(islice(lines, BATCH)):
        items: list[tuple[int, _Item]] = []
        for number, line in batch:
            try:
                items.append((number, make(line)))
            except ValueError as err:
                done.refuse(number, str(err))
        for (number, _), receipt in zip(items, store([item for _, item in items]) if items else [], strict=True):
            if receipt.error is not None:
                done.refuse(number, receipt.error)
            done.duplicates += receipt.duplicate
            done.new += receipt.error is None and not receipt.duplicate
        done.rows += len(batch)
        yield done


def _outcome(line: dict[str, Any], model: str, source: str, *, text: bool) -> NewOutcome:
    """The outcome that a line holds. Raises ValueError."""
    from perdure.metadata.repository.feedback import NewOutcome

    id, value, at = _prediction(line, model), line.get("value"), line.get("observed_at")
    if value is None or value == "" or value != value:
        raise ValueError("there is no value")
    if isinstance(value, str):
        value = value if text else _number(value)
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("the value holds a null character")
    if not isinstance(value, str | int | float | bool) or (isinstance(value, float) and value in (float("inf"), -float("inf"))):
        raise ValueError(f"{str(value)[:100]!r} is no text and no number")
    if isinstance(at, str):
        at = datetime.fromisoformat(at) if at else None
    if at is not None and (at.tzinfo is None or not 1970 <= at.year <= 9000):
        raise ValueError(f"observed_at is no time of the years 1970 to 9000 with its zone: {at}")
    return NewOutcome(prediction_id=id, value=value, source=source, observed_at=at)


def _feedback(line: dict[str, Any], model: str, source: str) -> NewFeedback:
    """What a line says of a prediction. Raises ValueError."""
    from perdure.metadata.repository.feedback import NewFeedback
    from perdure.metadata.tables import Verdict

    id, verdict, user = _prediction(line, model), line.get("verdict"), line.get("user")
    if verdict not in [*Verdict]:
        raise ValueError(f"{str(verdict)[:100]!r} is no verdict: one of {', '.join(Verdict)}")
    principal = f"{source}/{str(user)[:200]}" if user else source
    return NewFeedback(prediction_id=id, verdict=Verdict(str(verdict)), principal=principal, comment=str(line.get("comment") or ""))


def _prediction(line: dict[str, Any], model: str) -> str:
    id = line.get("prediction_id")
    if not isinstance(id, str) or id.partition(".")[0] != model:
        raise ValueError(f"{str(id)[:120]!r} is no prediction of the model {model!r}")
    return id


def _number(text: str) -> str | int | float:
    """A number where the text is one as JSON writes it."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _lines(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        from pyarrow import ArrowInvalid, parquet

        try:
            with parquet.ParquetFile(path) as file:
                _check(path, columns, file.schema_arrow.names)
                for batch in file.iter_batches(BATCH, columns=[name for name in columns if name in file.schema_arrow.names]):
                    yield from batch.to_pylist()
        except (ArrowInvalid, OSError) as err:
            raise InvalidInput(f"{path} is no parquet file: {err}", field="file") from err
        return
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            _check(path, columns, reader.fieldnames or [])
            yield from reader
    except (OSError, UnicodeError, csv.Error) as err:
        raise InvalidInput(f"{path} cannot be read: {err}", field="file", remedy="write csv in UTF-8, or parquet") from err


def _check(path: Path, columns: tuple[str, ...], names: Any) -> None:
    if missing := [name for name in columns[:2] if name not in names]:
        raise InvalidInput(
            f"{path} lacks the columns {', '.join(missing)}",
            field="file",
            remedy=f"columns: {', '.join(columns[:2])}, and if known {', '.join(columns[2:])}",
        )
