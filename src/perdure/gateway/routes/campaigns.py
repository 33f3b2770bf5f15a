"""Campaigns: opened, listed, shown, exported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from perdure.errors import NotFound
from perdure.gateway import bodies
from perdure.gateway.auth import Reader, Writer
from perdure.gateway.parts import Parts, Shared
from perdure.gateway.problems import responses
from perdure.gateway.repeats import IdempotencyKey, once
from perdure.messages.labeling import CampaignState
from perdure.metadata.jsonb import dumps
from perdure.metadata.queries import campaign_snapshot, list_campaigns

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])


@router.post(
    "", status_code=201, response_model=bodies.CampaignDetail, responses={200: {"model": bodies.CampaignDetail}, **responses(401, 403, 409)}
)
async def open_campaign(
    request: Request, body: bodies.NewCampaign, caller: Writer, shared: Shared, key: IdempotencyKey = None
) -> JSONResponse:
    """Open a campaign and start its workflow. 200: it was there already."""

    def work() -> tuple[int, Any]:
        there = True
        try:
            shared.campaigns.named(body.name)
        except NotFound:
            there = False
        spec = body.spec.model_dump(mode="json")
        row = shared.campaigns.open(body.name, spec, f"campaign/{body.name}", caller.principal)
        return 200 if there else 201, bodies.CampaignDetail.of(row).model_dump(mode="json")

    answer = await once(shared, caller, key, request, body, work)
    await shared.start_campaign(await shared.campaign(body.name))  # each time: a process may have died before
    return answer


@router.get("", responses=responses(401, 403))
async def campaigns(
    caller: Reader, shared: Shared, state: CampaignState | None = None, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
) -> bodies.CampaignList:
    """Campaigns, the newest first."""
    found = await shared.call(list_campaigns, shared.database, state=state, limit=limit)
    return bodies.CampaignList(campaigns=[bodies.CampaignView.of(row) for row in found])


@router.get("/{campaign}", response_model=bodies.CampaignDetail, responses={304: {"description": "As it was"}, **responses(401, 403, 404)})
async def campaign(request: Request, campaign: str, caller: Reader, shared: Shared) -> Response:
    """A campaign with its specification, by id or name."""
    found = bodies.CampaignDetail.of(await shared.campaign(campaign))
    return _tagged(request, f"{found.version}-{found.total}-{found.decided}-{found.rejected}", found.model_dump(mode="json"))


@router.get("/{campaign}/progress", responses=responses(401, 403, 404))
async def progress(campaign: str, caller: Reader, shared: Shared) -> bodies.ProgressView:
    """Figures of a campaign, counted now; where that takes long, within the last minute."""
    found = await shared.progress(campaign)
    return bodies.ProgressView(
        campaign=bodies.CampaignView.of(found.campaign),
        tasks=found.tasks,
        annotations=found.annotations,
        labelers=[bodies.LabelerFigures(**vars(each)) for each in found.labelers],
    )


@router.get(
    "/{campaign}/export",
    response_model=None,
    responses={
        200: {"model": bodies.SnapshotView, "content": {"application/x-ndjson": {}}, "description": "Labels, one a line; or a snapshot"},
        304: {"description": "As it was"},
        **responses(401, 403, 404),
    },
)
async def export(
    request: Request,
    campaign: str,
    caller: Reader,
    shared: Shared,
    snapshot: Annotated[str | None, Query(pattern=r"^([1-9][0-9]{0,8}|latest)$", description="A snapshot's number, or `latest`.")] = None,
) -> Response:
    """The labels as they are now, one decided task a line; with ``snapshot``, where that immutable object lies."""
    id = (await shared.campaign(campaign)).id
    if snapshot is None:
        return StreamingResponse(_lines(shared, id), media_type="application/x-ndjson")
    number = None if snapshot == "latest" else int(snapshot)
    found = await shared.call(campaign_snapshot, shared.database, id, number)
    return _tagged(request, found.sha256, bodies.SnapshotView(**vars(found)).model_dump(mode="json"))


def _lines(shared: Parts, campaign: UUID) -> Iterator[str]:
    for line in shared.campaigns.export(campaign):
        yield dumps(line) + "\n"


def _tagged(request: Request, tag: str, content: Any) -> Response:
    quoted = json.dumps(tag)
    if quoted in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": quoted})
    return JSONResponse(content, headers={"ETag": quoted})
