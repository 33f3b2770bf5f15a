"""`POST /v1/models/{model}/predict`: raw rows in, predictions, scores and who made them out."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from perdure.errors import InvalidInput
from perdure.serving.answering import Answer, Call
from perdure.serving.reading import Column, Reader
from perdure.serving.requests import Direct, Gate, answered, body_of, bounded, trace_of, unit_of
from perdure.serving.service import Service
from perdure.web.problems import responses

AHEAD = 60.0
"""Seconds by which a caller's clock may be ahead."""
_ZONED = re.compile(r"(Z|[+-]\d\d:?\d\d)$")

router = APIRouter(tags=["predict"], dependencies=[Depends(Gate())], route_class=Direct)


class Asked(BaseModel):
    """Rows to score. Described for people and tools; read without it."""

    model_config = ConfigDict(extra="forbid")

    rows: list[dict[str, Any]] = Field(description="raw rows: every column that the model was trained on, null where nothing is known")
    unit: str | int | None = Field(None, description="whom this is for: the same unit is answered by the same version while shares stay")
    time: datetime | None = Field(
        None, description="when the rows were, where that is not now: replayed hours are then watched as what they are"
    )


class Predicted(BaseModel):
    """Predictions in the order of the rows."""

    model: str
    version: int = Field(description="that answered")
    role: str = Field(description="release, canary or arm: as what it answered")
    answered_by: str = Field(description="id of the row of the release, or of the traffic, by which it may")
    predictions: list[str | float] = Field(description="the most probable class, or the number")
    scores: list[dict[str, float]] | None = Field(description="probability of each class; null for numbers")
    prediction_ids: list[str] = Field(description="what outcomes and feedback name")
    contributions: list[dict[str, Any]] | None = Field(
        None, description="with ?explain=true: what each feature adds, in the model's margin"
    )


_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": Asked.model_json_schema()}}}}


@router.post(
    "/v1/models/{model}/predict",
    response_model=Predicted,
    responses=responses(401, 403, 404, 500),
    openapi_extra={
        **_BODY,
        "parameters": [
            {"name": "explain", "in": "query", "required": False, "schema": {"type": "boolean", "default": False}},
            {"name": "X-Perdure-Unit", "in": "header", "required": False, "schema": {"type": "string"}},
        ],
    },
)
async def predict(model: str, request: Request) -> Response:
    """Score rows with the version that is released, or with a canary or an arm that takes its share."""
    service: Service = request.app.state.service
    body = await body_of(request, "rows", "unit", "time")
    rows = body.get("rows")
    if type(rows) is not list:
        raise InvalidInput("rows are a list of objects", field="rows", remedy='send {"rows": [{…}]}')
    number = bounded(len(rows), service.settings.serving.max_rows, "rows")

    def read(reader: Reader) -> tuple[list[Column], int]:
        return reader.rows(rows), number

    def unit_in(column: str) -> str | None:
        values = [row.get(column) if type(row) is dict else None for row in rows]  # what is no row is refused when it is read
        found = set(values) if all(type(value) in (str, int) for value in values) else set()
        return str(found.pop()) if len(found) == 1 else None

    call = Call(
        model=model,
        unit=unit_of(request, body),
        unit_in=unit_in,
        trace=trace_of(request),
        explain=_explain(request),
        at=_time(body.get("time")),
    )
    return answered(_told(model, await service.answering.answer(call, read)))


def _explain(request: Request) -> bool:
    said = request.query_params.get("explain", "false")
    if said not in ("true", "false"):
        raise InvalidInput(f"{said[:20]!r} is neither true nor false", field="explain", remedy="send ?explain=true, or leave it out")
    return said == "true"


def _time(said: Any) -> float | None:
    """Seconds since 1970; None where nothing is said."""
    if said is None:
        return None
    try:
        at = datetime.fromisoformat(said).timestamp() if type(said) is str and _ZONED.search(said) else None
    except (ValueError, OverflowError):
        at = None
    if at is None or not 0 <= at <= time.time() + AHEAD:
        raise InvalidInput(
            f"{str(said)[:50]!r} is no time in the past", field="time", remedy="send 2026-01-31T12:00:00Z, or leave it out: now"
        )
    return at


def _told(model: str, answer: Answer) -> dict[str, Any]:
    classes = answer.version.predictor.classes
    content: dict[str, Any] = {
        "model": model,
        "version": answer.version.version.number,
        "role": answer.role,
        "answered_by": answer.row,
        "predictions": answer.scores["prediction"],
        "scores": [dict(zip(classes, row, strict=True)) for row in zip(*(answer.scores[f"p_{name}"] for name in classes), strict=True)]
        if classes
        else None,
        "prediction_ids": answer.ids,
    }
    if answer.contributions is not None:
        content["contributions"] = _contributions(answer)
    return content


def _contributions(answer: Answer) -> list[dict[str, Any]]:
    """By row: the bias and what each feature adds; of several outputs by class."""
    features, classes = answer.version.predictor.features, answer.version.predictor.classes

    def one(values: list[float]) -> dict[str, Any]:
        return {"bias": values[-1], "features": dict(zip(features, values[:-1], strict=True))}

    rows = answer.contributions.tolist()
    return [one(row[0]) if len(row) == 1 else {name: one(values) for name, values in zip(classes, row, strict=True)} for row in rows]
