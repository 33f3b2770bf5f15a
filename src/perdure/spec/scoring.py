"""What a request for batch inference may name as its source."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from pydantic import Field, ValidationError

from perdure.errors import InvalidInput
from perdure.messages.inference import BatchRequest
from perdure.spec.fields import Name
from perdure.spec.mistakes import explain, mistake
from perdure.spec.part import Broken, Part
from perdure.spec.pipeline import Source

FORMATS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
MOST_SHARDS = 10_000


class DatasetSource(Part):
    """A data set of ours."""

    dataset: Name
    version: int | None = Field(None, ge=1)
    split: str | None = None


class _Limits(Part):
    """What the other fields of a request may hold."""

    model: str = Field(min_length=1)
    version: int | None = Field(None, ge=1)
    to: Name | None = None
    keep: list[str] = Field(default_factory=list)
    shards: int | None = Field(None, ge=1, le=MOST_SHARDS)
    window: int | None = Field(None, ge=1, le=100)
    quarantined: float | None = Field(None, ge=0, le=1)

    def rules(self) -> Broken:
        """No column is kept twice."""
        for index, name in enumerate(self.keep):
            if name in self.keep[:index]:
                yield ("keep", index), f"{name!r} is named twice", ()


def check_request(request: BatchRequest) -> DatasetSource | None:
    """The data set that *request* scores, or None where its source is files. Raises InvalidInput with every mistake."""
    _checked(_Limits, {name: getattr(request, name) for name in _Limits.model_fields}, "")
    if "dataset" in request.source:
        found: DatasetSource = _checked(DatasetSource, request.source, "source")
        return found
    file_source(request.source, {})
    return None


def file_source(raw: dict[str, Any], trained_on: dict[str, Any]) -> Source:
    """The source that *raw* means.

    What stands for a missing value, and whether there are quotes, is as in *trained_on* (the source of the model's own pipeline) where
    *raw* does not say it and the format is the same. Raises InvalidInput.
    """
    uri = str(raw.get("uri", ""))
    given = {"format": FORMATS.get(PurePosixPath(uri).suffix.lower()), **raw}
    if given["format"] is None:
        raise InvalidInput(
            f"the name {uri!r} does not tell its format" if uri else "name what is to be scored",
            field="source.format" if uri else "source",
            remedy='give {"uri": "s3://bucket/rows.parquet"}, with "format" (csv, tsv or parquet), or {"dataset": "name"}',
        )
    if given["format"] == trained_on.get("format"):
        given = {**{name: trained_on[name] for name in ("quoting", "null_values") if trained_on.get(name)}, **given}
    source: Source = _checked(Source, given, "source")
    if "://" not in source.uri and not source.uri.startswith("/"):
        raise InvalidInput(
            f"{source.uri!r} is a relative path, which every process would look for somewhere else",
            field="source.uri",
            remedy="give an absolute path, or an s3:// URI",
        )
    return source


def _checked(part: type[Part], raw: dict[str, Any], prefix: str) -> Any:
    try:
        return part.model_validate(raw)
    except ValidationError as err:
        errors = err.errors(include_url=False)
        told = [str(mistake(where, text, prefix=prefix)) for where, text in explain(errors, part.model_json_schema())]
        raise InvalidInput(
            "; ".join(told), field=prefix or None, remedy="mend the request; docs/batch-inference.md has its fields"
        ) from None
