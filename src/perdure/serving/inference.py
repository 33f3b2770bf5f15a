"""The Open Inference Protocol, version 2: one tensor for each raw column in, `prediction` and one tensor for each class out."""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Any

import polars as pl
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from perdure.errors import InvalidInput, ModelUnavailable, NotFound
from perdure.serving.answering import Answer, Call
from perdure.serving.reading import Column, Reader
from perdure.serving.requests import Direct, Gate, answered, body_of, bounded, trace_of, unit_of
from perdure.serving.service import Service
from perdure.serving.shelf import Loaded
from perdure.web.problems import responses

router = APIRouter(prefix="/v2", tags=["open inference protocol"], dependencies=[Depends(Gate())])
infer_router = APIRouter(prefix="/v2", tags=["open inference protocol"], dependencies=[Depends(Gate())], route_class=Direct)
open_router = APIRouter(prefix="/v2", tags=["open inference protocol"])
_INTEGERS = tuple(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
_TYPES = ("BOOL", "BYTES", *_INTEGERS, "FP16", "FP32", "FP64")


class Tensor(BaseModel):
    """Values of one raw column: shape ``[rows]`` or ``[rows, 1]``, data flat, null for what is not known; dates and times as BYTES."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class Infer(BaseModel):
    """One tensor for each raw column. ``parameters.unit`` is whom it is for."""

    id: str | None = None
    inputs: list[Tensor]
    parameters: dict[str, Any] | None = None
    outputs: list[dict[str, Any]] | None = Field(None, description="names of the tensors that are wanted; default: all")


_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": Infer.model_json_schema()}}}}


@open_router.get("/health/live")
async def live() -> dict[str, bool]:
    """This process answers."""
    return {"live": True}


@open_router.get("/health/ready", responses={503: {"description": "not yet"}})
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Rows were read, and what is released is loaded or cannot be."""
    found = request.app.state.service.directory.ready
    response.status_code = 200 if found else 503
    return {"ready": found}


@open_router.get("")
async def server() -> dict[str, Any]:
    """What this server is."""
    return {"name": "perdure", "version": installed("perdure"), "extensions": []}


@router.get("/models/{model}", responses=responses(401, 403, 404))
@router.get("/models/{model}/versions/{version}", responses=responses(401, 403, 404))
async def metadata(model: str, request: Request, version: str | None = None) -> dict[str, Any]:
    """The model's tensors, and the versions that may answer now."""
    found, numbers = await _versions(request, model, version)
    outputs = [{"name": f"p_{name}", "datatype": "FP64", "shape": [-1]} for name in found.predictor.classes]
    kind = "BYTES" if found.predictor.classes else "FP64"
    return {
        "name": model,
        "versions": [str(number) for number in numbers],
        "platform": "perdure_predictor",
        "inputs": [
            {"name": name, "datatype": _datatype(dtype), "shape": [-1]}
            for name, dtype in zip(found.reader.names, found.reader.types, strict=True)
        ],
        "outputs": [*outputs, {"name": "prediction", "datatype": kind, "shape": [-1]}],
    }


@router.get("/models/{model}/ready", responses=responses(401, 403, 404))
@router.get("/models/{model}/versions/{version}/ready", responses=responses(401, 403, 404))
async def model_ready(model: str, request: Request, response: Response, version: str | None = None) -> dict[str, Any]:
    """Whether the model, or this version of it, answers now."""
    try:
        await _versions(request, model, version)
    except ModelUnavailable:
        response.status_code = 503
    return {"name": model, "ready": response.status_code != 503}


@infer_router.post("/models/{model}/infer", responses=responses(401, 403, 404, 500), openapi_extra=_BODY)
@infer_router.post("/models/{model}/versions/{version}/infer", responses=responses(401, 403, 404, 500), openapi_extra=_BODY)
async def infer(model: str, request: Request, version: str | None = None) -> Response:
    """Score rows, given by column."""
    service: Service = request.app.state.service
    body = await body_of(request, "id", "inputs", "parameters", "outputs")
    parameters = body.get("parameters") or {}
    if type(parameters) is not dict:
        raise InvalidInput("parameters are an object", field="parameters", remedy='send {"unit": …}, or leave them out')
    wanted = _wanted(body.get("outputs"))
    columns, number = _columns(body.get("inputs"), service.settings.serving.max_rows)

    def read(reader: Reader) -> tuple[list[Column], int]:
        if missing := [name for name in reader.names if name not in columns]:
            raise InvalidInput(
                f"missing inputs: {', '.join(missing)}", field="inputs", remedy=f"GET /v2/models/{model} tells name and type of each"
            )
        return reader.columns(columns), number

    def unit_in(column: str) -> str | None:
        values = columns.get(column, [])
        found = set(values) if all(type(value) in (str, int) for value in values) else set()
        return str(found.pop()) if len(found) == 1 else None

    call = Call(model=model, unit=unit_of(request, parameters), unit_in=unit_in, trace=trace_of(request), version=_number(model, version))
    return answered(_told(model, body.get("id"), await service.answering.answer(call, read), wanted))


def _told(model: str, id: Any, answer: Answer, wanted: set[str] | None) -> dict[str, Any]:
    if wanted is not None and (unknown := sorted(wanted - answer.scores.keys())):
        raise InvalidInput(f"there is no output {unknown[0][:100]!r}", field="outputs", remedy=f"ask for {', '.join(answer.scores)}")
    outputs = [
        {
            "name": name,
            "shape": [len(values)],
            "datatype": "BYTES" if name == "prediction" and answer.version.predictor.classes else "FP64",
            "data": values,
        }
        for name, values in answer.scores.items()
        if wanted is None or name in wanted
    ]
    told: dict[str, Any] = {"model_name": model, "model_version": str(answer.version.version.number), "outputs": outputs}
    if type(id) is str:
        told["id"] = id
    return told | {"parameters": {"role": answer.role, "answered_by": answer.row, "prediction_ids": answer.ids}}


def _columns(inputs: Any, most: int) -> tuple[dict[str, list[Any]], int]:
    """Values by column, and how many rows they are."""
    if type(inputs) is not list or not inputs or not all(type(each) is dict for each in inputs):
        raise InvalidInput("inputs are a list of tensors", field="inputs", remedy="send one tensor for each raw column")
    columns: dict[str, list[Any]] = {}
    for place, tensor in enumerate(inputs):
        name, shape, data, kind = (tensor.get(field) for field in ("name", "shape", "data", "datatype"))
        if type(name) is not str or name in columns:
            raise InvalidInput("each tensor has the name of another column", field=f"inputs[{place}].name")
        if kind not in _TYPES:
            raise InvalidInput(
                f"column {name!r}: no such datatype", field=f"inputs[{place}].datatype", remedy=f"one of {', '.join(_TYPES)}"
            )
        if type(data) is not list:
            raise InvalidInput(f"column {name!r}: data is a list", field=f"inputs[{place}].data", remedy="send a flat list, as JSON")
        flat = [value[0] if type(value) is list and len(value) == 1 else value for value in data]
        if shape not in ([len(flat)], [len(flat), 1]):
            raise InvalidInput(
                f"column {name!r}: the shape is not that of {len(flat)} values",
                field=f"inputs[{place}].shape",
                remedy="send [rows] or [rows, 1]",
            )
        columns[name] = flat
    number = len(next(iter(columns.values())))
    if other := next((name for name, values in columns.items() if len(values) != number), None):
        raise InvalidInput(f"column {other!r} has another number of rows", field="inputs", remedy="send as many values of each column")
    return columns, bounded(number, most, "inputs")


def _wanted(outputs: Any) -> set[str] | None:
    if outputs is None:
        return None
    names = [each.get("name") if type(each) is dict else None for each in outputs] if type(outputs) is list else []
    texts = {name for name in names if isinstance(name, str)}
    if not names or len(texts) < len(names):
        raise InvalidInput("outputs are a list of objects with a name", field="outputs", remedy="leave them out to have all")
    return texts


async def _versions(request: Request, model: str, version: str | None) -> tuple[Loaded, list[int]]:
    """The version that is asked for, and the numbers of all that may answer. Raises NotFound, ModelUnavailable."""
    service: Service = request.app.state.service
    found = await service.directory.live(model)
    answering = [found.released, *([found.beside] if found.beside and found.candidate and found.candidate.answers else [])]
    number = _number(model, version)
    for each in answering:
        if number in (None, each.version.number):
            return each, [one.version.number for one in answering]
    raise NotFound(f"version {version} of {model!r} may not answer", field="version", remedy="leave it out: rows decide")


def _number(model: str, version: str | None) -> int | None:
    if version is None:
        return None
    if not version.isascii() or not version.isdigit() or len(version) > 9:
        raise NotFound(f"{model!r} has no version {version[:20]!r}", field="version", remedy="versions are whole numbers")
    return int(version)


def _datatype(dtype: Any) -> str:
    if dtype == pl.Boolean:
        return "BOOL"
    if dtype in (pl.Float32, pl.Float64):
        return "FP32" if dtype == pl.Float32 else "FP64"
    name = str(dtype).upper()
    return name if name in _INTEGERS else "BYTES"
