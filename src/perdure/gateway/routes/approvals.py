"""Approvals: what is up for decision, and votes by whom their key proves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from perdure.gateway import bodies
from perdure.gateway.auth import Approver
from perdure.gateway.parts import Shared
from perdure.gateway.problems import responses
from perdure.gateway.repeats import IdempotencyKey, once
from perdure.messages.promotion import VoteDecision
from perdure.metadata.queries import open_approvals

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])


@router.get("", responses=responses(401, 403))
async def approvals(caller: Approver, shared: Shared) -> bodies.ApprovalList:
    """What is up for decision, with its evidence."""
    found = await shared.call(open_approvals, shared.database)
    return bodies.ApprovalList(approvals=[bodies.ApprovalView(**vars(each)) for each in found])


@router.post("/{approval}/decision", response_model=bodies.VoteState, responses=responses(401, 403, 404, 409, 412))
async def decide(
    request: Request, approval: UUID, body: bodies.Decision, caller: Approver, shared: Shared, key: IdempotencyKey = None
) -> JSONResponse:
    """Vote. 409: it is decided, you have said otherwise, or are no approver; 412: the evidence is not what you saw."""

    def work() -> tuple[int, Any]:
        state = shared.promotions.vote_on(
            approval,
            VoteDecision(body.decision),
            caller.principal,
            body.reason,
            body.evidence_sha256,
            channel="http",
        )
        return 200, asdict(state)

    return await once(shared, caller, key, request, body, work)
