"""Models: who answered when, made of what, released by whom, and what users said. Read-only; the pages show the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from perdure.gateway.auth import ModelReader
from perdure.gateway.fields import Moment
from perdure.gateway.parts import Shared
from perdure.gateway.problems import responses
from perdure.metadata.queries import (
    Lineage,
    ModelHistory,
    ModelSummary,
    PredictionDetail,
    VersionSummary,
    lineage,
    list_models,
    model_history,
    serving_at,
    show_model,
    show_prediction,
)

router = APIRouter(prefix="/v1", tags=["models"])
Model = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
At = Annotated[Moment | None, Query(description="As it was then: a time with its zone (ISO 8601).", examples=["2026-11-22T12:00:00Z"])]


class ModelList(BaseModel):
    """All models, by name."""

    models: list[ModelSummary]


class ModelView(BaseModel):
    """A model's versions, and its history, until then."""

    versions: list[VersionSummary]
    history: ModelHistory


class LineageView(BaseModel):
    """What a version was made of, and what took part in serving then."""

    lineage: Lineage
    serving: list[dict[str, Any]]


@router.get("/models", responses=responses(401, 403))
async def models(caller: ModelReader, shared: Shared, at: At = None) -> ModelList:
    """All models, what serves of each and since when."""
    return ModelList(models=await shared.call(list_models, shared.database, at))


@router.get("/models/{model}", responses=responses(401, 403, 404))
async def model(model: Model, caller: ModelReader, shared: Shared, at: At = None) -> ModelView:
    """Versions, releases and shares of the traffic, drift, episodes, decisions, experiments, feedback."""
    found = await shared.call(show_model, shared.database, model, at)
    return ModelView(versions=found.versions, history=await shared.call(model_history, shared.database, model, at))


@router.get("/models/{model}/lineage", responses=responses(401, 403, 404))
async def model_lineage(
    model: Model,
    caller: ModelReader,
    shared: Shared,
    at: At = None,
    version: Annotated[int | None, Query(ge=1, lt=2**31, description="A version by number, instead of the one that answered.")] = None,
) -> LineageView:
    """What the version that answered then (or *version*) was made of, and who released it on which evidence."""
    found = await shared.call(lineage, shared.database, model, version, at)
    return LineageView(lineage=found, serving=await shared.call(serving_at, shared.database, model, at or datetime.now(UTC)))


@router.get("/predictions/{prediction}", responses=responses(401, 403, 404))
async def prediction(
    prediction: Annotated[str, Path(max_length=200)], caller: ModelReader, shared: Shared, at: At = None
) -> PredictionDetail:
    """Which version made a prediction, as what, of what that was made, and who said what of it when."""
    return await shared.call(show_prediction, shared.database, prediction, at)
