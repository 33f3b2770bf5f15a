"""Events about drift from outside, by whom their key proves: CloudEvents, each kept once, and then the model's controller is poked."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from perdure.errors import InvalidInput, NotFound
from perdure.events import cloudevents
from perdure.gateway import bodies
from perdure.gateway.auth import Teller
from perdure.gateway.limits import require_media
from perdure.gateway.parts import Shared
from perdure.gateway.problems import Refused, responses
from perdure.gateway.routes.hooks import deliver
from perdure.metadata.tables import HookProvider

router = APIRouter(prefix="/v1", tags=["events"])
_EVENT = {
    "specversion": "1.0",
    "id": "2026-11-22",
    "source": "jobs/drift",
    "type": "ai.perdure.drift.data.v1",
    "subject": "model/moderation/3",
    "data": {
        "monitor": "psi",
        "window": {"start": "2026-11-21T00:00:00Z", "end": "2026-11-22T00:00:00Z", "n": 4000},
        "metrics": [{"feature": "length", "method": "psi", "statistic": 0.31, "threshold": 0.2, "drifted": True}],
    },
}
_BODIES = {
    cloudevents.STRUCTURED: {"schema": {"type": "object"}, "example": _EVENT},
    cloudevents.BATCH: {"schema": {"type": "array", "items": {"type": "object"}}, "example": [_EVENT]},
    cloudevents.BINARY: {"schema": {"type": "object"}, "example": _EVENT["data"]},
}


@router.post(
    "/events",
    status_code=202,
    response_model=bodies.EventsTaken,
    responses=responses(401, 403, 404, 415),
    openapi_extra={"requestBody": {"required": True, "content": _BODIES}},
)
async def take(request: Request, caller: Teller, shared: Shared) -> bodies.EventsTaken:
    """Keep events, and have the controllers of their models look: all of the body or nothing. An event that is there is counted only.

    Structured, batched, or binary with ``ce-*`` headers. 404: no version of a model that is named exists.
    """
    require_media(request, *cloudevents.MEDIA)
    body = await request.body()
    try:
        events = await shared.call(cloudevents.from_http, request.headers, body)
    except cloudevents.Unparsed as err:
        raise Refused(400, InvalidInput(str(err), field="body", remedy="send JSON")) from None
    new = await shared.call(shared.drift.record, events)
    return bodies.EventsTaken(accepted=sum(new), duplicates=len(new) - sum(new))


@router.post(
    "/hooks/{hook}/alertmanager",
    status_code=202,
    response_model=bodies.DeliveryView,
    responses={200: {"model": bodies.DeliveryView, "description": "It was there already"}, **responses(401, 404, 410, 415)},
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def alerts(request: Request, hook: str, shared: Shared) -> JSONResponse:
    """Take a notification of Alertmanager (version 4), by a hook of that provider. Where there is too much, 503: it tries again then."""
    if (await shared.hook(hook)).provider is not HookProvider.ALERTMANAGER:
        raise NotFound(f"the hook {hook!r} is none of Alertmanager", field="hook", remedy="make one with --provider alertmanager")
    return await deliver(request, hook, shared)
