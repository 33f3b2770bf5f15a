"""Raw rows from a file or a pipe, scored by a released predictor."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.cache import fetched
from perdure.errors import CorruptArtifact, InvalidInput, NotFound, UserCodeError

if TYPE_CHECKING:
    from polars import DataFrame

    from perdure.config import Settings
    from perdure.ports import ModelVersion
    from perdure.predictor import Predictor

MOST_DIGITS = 9  # of a version's number
FORMS = "give a JSON array of objects, one object a line (NDJSON), or CSV or TSV with a header"


def fetch(version: ModelVersion, settings: Settings) -> Predictor:
    """The predictor of *version*: from the data folder's cache, else from S3, its bytes verified either way."""
    from perdure.adapters.s3 import ObjectStore

    try:
        from perdure import predictor
    except ModuleNotFoundError as err:
        raise InvalidInput(f"scoring needs {err.name}, which is not installed", remedy="pip install 'perdure[train-cpu]'") from err
    path = fetched(settings.home, version.predictor, ObjectStore(settings.s3, attempts=3).download)
    try:
        return predictor.load(path)
    except predictor.OwnerCodeError as err:
        raise UserCodeError(str(err), remedy="install what the model's code imports, or mend it and train again") from err
    except predictor.PredictorError as err:
        raise CorruptArtifact(str(err), field=version.predictor.uri) from err


def score(predictor: Predictor, source: str) -> list[dict[str, Any]]:
    """One object per row of *source* (a path, or ``-`` for stdin), in order. Raises NotFound, InvalidInput, UserCodeError."""
    from perdure.predictor import InputMismatch, OwnerCodeError, PredictorError

    try:
        return predictor.predict(_frame(predictor, *_text(source))).to_dicts()
    except InputMismatch as err:
        wanted = ", ".join(f"{column['name']} ({column['dtype']})" for column in predictor.schema)
        raise InvalidInput(str(err), field=source, remedy=f"the model scores rows with: {wanted}") from err
    except OwnerCodeError as err:
        raise UserCodeError(str(err), remedy="mend the model's code and train again, or leave out the rows that it cannot take") from err
    except PredictorError as err:
        raise InvalidInput(str(err), field=source) from err


def _text(source: str) -> tuple[str, str]:
    """The text, and what its name says about its form."""
    try:
        return (sys.stdin.read(), "") if source == "-" else (Path(source).read_text("utf-8-sig"), Path(source).suffix)
    except FileNotFoundError as err:
        raise NotFound(f"there is no file {source}", remedy=FORMS) from err
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInput(f"{source} cannot be read: {err}", remedy=FORMS) from err


def _frame(predictor: Predictor, text: str, suffix: str) -> DataFrame:
    head = text.lstrip()[:1]
    if not head:
        raise InvalidInput("there are no rows", remedy=FORMS)
    return predictor.rows(_objects(text)) if head in "[{" and suffix not in (".csv", ".tsv") else _table(predictor, text, suffix)


def _objects(text: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as whole:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        value = []
        for number, line in lines:
            try:
                value.append(json.loads(line))
            except json.JSONDecodeError as err:
                place = f"line {whole.lineno}: {whole.msg}" if text.lstrip().startswith("[") else f"line {number}: {err.msg}"
                raise InvalidInput(f"this is no JSON: {place}", remedy=FORMS) from err
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InvalidInput(f"row {number} is no object but {json.dumps(row)[:60]}", remedy=FORMS)
    return rows


def _table(predictor: Predictor, text: str, suffix: str) -> DataFrame:
    """CSV (quoted) or TSV (plain) with a header; text becomes values in the same way as in preparation."""
    import polars

    from perdure.jobs.preparation.columns import typed

    lines = text.splitlines()
    tabs = suffix == ".tsv" or (suffix != ".csv" and "\t" in lines[0])
    records = [line.split("\t") for line in lines if line] if tabs else [row for row in csv.reader(io.StringIO(text)) if row]
    header, rows = records[0], records[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InvalidInput(f"record {number} has {len(row)} fields, the header {len(header)}", remedy=FORMS)
    schema = [column for column in predictor.schema if column["name"] in header]
    columns = {name: [row[i] or None for row in rows] for i, name in enumerate(header)}
    raw = polars.DataFrame(columns, schema=dict.fromkeys(columns, polars.String))
    frame, failures = typed(raw, schema)
    if failures.height:
        first = failures.row(0, named=True)
        message = f"row {first['row'] + 1}, column {first['column']!r}: {first['example']!r} {first['check']}"
        raise InvalidInput(message, remedy="mend the value, or leave it empty")
    return frame


def versioned(model: str) -> tuple[str, int | None]:
    """``name@3`` as ``("name", 3)``; without a version None. Raises InvalidInput."""
    name, separator, number = model.partition("@")
    if not name or (separator and not number.isdecimal()):
        raise InvalidInput(f"{model!r} is no model", field="MODEL", remedy="write name, or name@version with a number")
    if len(number) > MOST_DIGITS:
        raise NotFound(f"there is no version {number} of {name!r}", field="MODEL", remedy="`perdure models show NAME` lists all")
    return name, int(number) if separator else None
