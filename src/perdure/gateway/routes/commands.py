"""What people say to a campaign. The row decides; the campaign's workflow is poked to look at it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from perdure.gateway import bodies
from perdure.gateway.auth import Caller, Writer
from perdure.gateway.parts import Parts, Shared
from perdure.gateway.problems import responses
from perdure.gateway.repeats import IdempotencyKey, once
from perdure.messages.labeling import CampaignCommand

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])
REFUSALS = responses(401, 403, 404, 409)


@router.post("/{campaign}/pause", response_model=bodies.CampaignView, responses=REFUSALS)
async def pause(
    request: Request, campaign: str, body: bodies.Command, caller: Writer, shared: Shared, key: IdempotencyKey = None
) -> JSONResponse:
    """Give out no tasks; answers to those that are in people's hands are taken."""
    return await _command("pause", request, campaign, body, key, caller, shared)


@router.post("/{campaign}/resume", response_model=bodies.CampaignView, responses=REFUSALS)
async def resume(
    request: Request, campaign: str, body: bodies.Command, caller: Writer, shared: Shared, key: IdempotencyKey = None
) -> JSONResponse:
    """Give out tasks again."""
    return await _command("resume", request, campaign, body, key, caller, shared)


@router.post("/{campaign}/extend", response_model=bodies.CampaignView, responses=REFUSALS)
async def extend(
    request: Request, campaign: str, body: bodies.Extend, caller: Writer, shared: Shared, key: IdempotencyKey = None
) -> JSONResponse:
    """Put the deadline off."""
    return await _command("extend", request, campaign, body, key, caller, shared)


@router.post("/{campaign}/close", status_code=202, response_model=bodies.CampaignView, responses=REFUSALS)
async def close(
    request: Request, campaign: str, body: bodies.Command, caller: Writer, shared: Shared, key: IdempotencyKey = None
) -> JSONResponse:
    """End a campaign, complete or not. Its workflow closes it, and makes the snapshot."""
    return await _command("close", request, campaign, body, key, caller, shared)


async def _command(
    kind: str, request: Request, campaign: str, body: bodies.Command, key: str | None, caller: Caller, shared: Parts
) -> JSONResponse:
    def work() -> tuple[int, Any]:
        id = shared.campaigns.campaign(shared.campaign_id(campaign)).id
        said = CampaignCommand(
            actor=caller.principal,
            reason=body.reason,
            expected_version=body.expected_version,
            deadline=body.deadline if isinstance(body, bodies.Extend) else None,
        )
        command_id = f"http/{caller.principal}/{key}" if key else f"http/{uuid4()}"
        after = shared.campaigns.command(id, kind, command_id, said)
        return 202 if kind == "close" else 200, bodies.CampaignView.of(after).model_dump(mode="json")

    return await once(shared, caller, key, request, body, work)
