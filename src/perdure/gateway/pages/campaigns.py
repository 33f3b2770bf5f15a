"""Campaigns for those who own them: how far they are, how labelers do and agree, and disputed tasks, which somebody else decides."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import Form
from fastapi.responses import RedirectResponse, Response

from perdure.gateway.fields import Name
from perdure.gateway.pages.label import value_of
from perdure.gateway.pages.shell import page, pages
from perdure.gateway.pages.showing import shown
from perdure.gateway.pages.visitors import Judging, Reading
from perdure.gateway.parts import Shared
from perdure.messages.labeling import CampaignState
from perdure.metadata.queries import campaign_agreement, disputed_tasks, list_campaigns

router = pages()


@router.get("/campaigns")
async def campaigns(visitor: Reading, shared: Shared) -> Response:
    """All campaigns, the newest first."""
    found = await shared.call(list_campaigns, shared.database)
    return page("campaigns.html", visitor=visitor, campaigns=found)


@router.get("/campaigns/{campaign}")
async def campaign(campaign: str, visitor: Reading, shared: Shared) -> Response:
    """A campaign's figures, and what waits for an adjudicator."""
    progress = await shared.progress(campaign)
    agreed = await shared.count(campaign_agreement, progress.campaign.id)
    total, disputed = await shared.call(disputed_tasks, shared.database, progress.campaign.id)
    return page(
        "campaign.html",
        visitor=visitor,
        progress=progress,
        campaign=progress.campaign,
        spec=progress.campaign.spec,
        agreed=agreed,
        disputed=[(each, shown(progress.campaign.spec, each.payload)) for each in disputed],
        waiting=total,
        takes=progress.campaign.state is not CampaignState.CLOSED,
    )


@router.get("/campaigns/{campaign}/disputed")
async def disputes(campaign: str, visitor: Judging, shared: Shared) -> Response:
    """What waits for an adjudicator, for one who may see no more."""
    row = await shared.campaign(campaign)
    total, found = await shared.call(disputed_tasks, shared.database, row.id)
    return page(
        "disputed.html",
        visitor=visitor,
        campaign=row,
        spec=row.spec,
        disputed=[(each, shown(row.spec, each.payload)) for each in found],
        waiting=total,
        takes=row.state is not CampaignState.CLOSED,
    )


@router.post("/campaigns/{campaign}/adjudicate")
async def adjudicate(
    campaign: str,
    visitor: Judging,
    shared: Shared,
    task: Annotated[Name, Form()],
    reason: Annotated[str, Form(min_length=1, max_length=2_000, pattern=r"^[^\x00]+$")],
    value: Annotated[str, Form(max_length=2_000)] = "",
) -> Response:
    """Decide a disputed task by hand. The same again changes nothing."""
    row = await shared.campaign(campaign)
    await shared.call(shared.campaigns.adjudicate, row.id, task, visitor.principal, value_of(row.spec, value), reason)
    where = "" if visitor.may("campaign:read") else "/disputed"
    return RedirectResponse(f"/campaigns/{quote(row.name)}{where}#disputed", 303)
