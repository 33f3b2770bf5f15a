"""Releases that wait for a decision, with their evidence; and those that were decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from perdure.errors import PerdureError
from perdure.gateway.fields import Text
from perdure.gateway.pages.shell import page, pages
from perdure.gateway.pages.visitors import Approving, Visitor
from perdure.gateway.parts import Parts, Shared
from perdure.gateway.problems import Refusal, refusal
from perdure.messages.promotion import VoteDecision
from perdure.metadata.queries import ApprovalDetail, decided_approvals, open_approvals

router = pages()
CHANNEL = "page"


@dataclass(frozen=True, kw_only=True)
class Said:
    """A vote that was refused, so that nothing of it is typed again."""

    approval: UUID
    reason: str
    refusal: Refusal


@router.get("/approvals")
async def approvals(visitor: Approving, shared: Shared) -> Response:
    """Open approvals with what is known about them, decided ones below."""
    return await _page(visitor, shared)


@router.post("/approvals/{approval}")
async def vote(
    request: Request,
    approval: UUID,
    visitor: Approving,
    shared: Shared,
    decision: Annotated[Literal["approve", "reject"], Form()],
    evidence_sha256: Annotated[str, Form(pattern=r"^[0-9a-f]{64}$")],
    reason: Annotated[Text, Form()] = "",
) -> Response:
    """Vote on the evidence that the page showed. The same vote again changes nothing."""
    said = VoteDecision(decision)
    try:
        await shared.call(shared.promotions.vote_on, approval, said, visitor.principal, reason, evidence_sha256, channel=CHANNEL)
    except PerdureError as error:
        return await _page(visitor, shared, Said(approval=approval, reason=reason, refusal=refusal(request, error)))
    return RedirectResponse(f"/approvals#{approval}", 303)


def why_not(visitor: Visitor, approval: ApprovalDetail) -> str | None:
    """Why this visitor has no vote here; None where they have one."""
    mine = next((each for each in approval.votes if each["actor"] == visitor.principal), None)
    if mine is not None:
        return f"You have said: {mine['decision']}. A vote is final."
    if approval.requested_by == visitor.principal:
        return "You asked for this release. Somebody else has to look at it: two pairs of eyes."
    if approval.approvers and visitor.principal not in approval.approvers:
        return f"You are no approver here. Those who are: {', '.join(map(str, approval.approvers))}."
    return None


async def _page(visitor: Visitor, shared: Parts, said: Said | None = None) -> Response:
    waiting = await shared.call(open_approvals, shared.database)
    decided = await shared.call(decided_approvals, shared.database)
    return page(
        "approvals.html",
        said.refusal.status if said else 200,
        visitor=visitor,
        waiting=[(each, why_not(visitor, each)) for each in waiting],
        decided=decided,
        said=said,
    )
