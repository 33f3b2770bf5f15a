"""What became of messages to hooks, and another try for those that could not be used."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from perdure.gateway import bodies
from perdure.gateway.auth import Admin
from perdure.gateway.parts import Shared, text_field
from perdure.gateway.problems import responses
from perdure.gateway.replaying import replay
from perdure.gateway.routes.hooks import view
from perdure.messages.labeling import DeliveryState

router = APIRouter(prefix="/v1/deliveries", tags=["hooks"])


@router.get("", responses=responses(401, 403))
async def deliveries(
    caller: Admin, shared: Shared, state: DeliveryState | None = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> bodies.DeliveryList:
    """Messages to hooks, the newest first."""
    found = await shared.call(shared.deliveries.deliveries, state, limit)
    return bodies.DeliveryList(deliveries=[view(each) for each in found])


@router.post("/{hook}/{key:path}:replay", responses=responses(401, 403, 404, 409))
async def replay_delivery(
    hook: Annotated[str, Path(max_length=100)], key: Annotated[str, Path(max_length=500)], caller: Admin, shared: Shared
) -> bodies.DeliveryView:
    """Try a quarantined message once more. One that was acted on stays as it is."""
    hook, key = text_field(hook, "hook"), text_field(key, "key")
    return view(await shared.call(replay, shared.access, shared.deliveries, hook, key))
