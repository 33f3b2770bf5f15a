"""Work: tasks are leased, answered, skipped, given back; others send many answers at once; disputes are settled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from perdure.errors import AccessDenied, Conflict, InvalidInput, LeaseLost
from perdure.gateway import bodies
from perdure.gateway.auth import Caller, Judge, Worker
from perdure.gateway.busy import BusyRoute
from perdure.gateway.parts import Parts, Shared, text_field
from perdure.gateway.problems import Refused, responses
from perdure.gateway.repeats import IdempotencyKey, once
from perdure.labeling.ports import LEASE_LOST, Incoming
from perdure.messages.labeling import AnnotationStatus, AnswerResult, CampaignState
from perdure.metadata.queries import named_task

router = APIRouter(prefix="/v1", tags=["work"])
busy = APIRouter(prefix="/v1", tags=["work"], route_class=BusyRoute)
WORK = responses(401, 403, 409)
ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"model": bodies.AnswerView, "description": "It was there already"},
    **WORK,
    **responses(410),
}


@router.post(
    "/campaigns/{campaign}/lease",
    response_model=bodies.LeaseList,
    responses={204: {"description": "Nothing to do"}, **responses(401, 403, 404)},
)
async def lease(campaign: str, body: bodies.LeaseRequest, caller: Worker, shared: Shared) -> Response | bodies.LeaseList:
    """Take up to ``max`` tasks in hand. Nobody else gets them before ``expires_at``; a heartbeat holds them for longer."""
    found = await shared.lease(shared.campaign_id(campaign), caller.principal, body.max)
    if not found:
        return Response(status_code=204)
    return bodies.LeaseList(
        leases=[
            bodies.LeaseView(
                assignment_id=each.assignment,
                lease_token=each.token,
                expires_at=each.expires_at,
                task=each.task,
                payload=each.payload,
                prediction=each.prediction,
            )
            for each in found
        ]
    )


@router.post("/assignments/{assignment}/heartbeat", responses=WORK)
async def heartbeat(assignment: UUID, body: bodies.Token, caller: Worker, shared: Shared) -> bodies.LeaseExtended:
    """Hold a task for longer."""
    return bodies.LeaseExtended(expires_at=await shared.call(shared.labels.extend, assignment, body.lease_token))


@router.post("/assignments/{assignment}/release", status_code=204, responses=WORK)
async def release(assignment: UUID, body: bodies.Token, caller: Worker, shared: Shared) -> None:
    """Give a task back: somebody else gets it."""
    await shared.release(assignment, body.lease_token)


@busy.post("/assignments/{assignment}/submit", status_code=201, response_model=bodies.AnswerView, responses=ANSWERED)
async def submit(assignment: UUID, body: bodies.Submit, caller: Worker, shared: Shared, key: IdempotencyKey = None) -> JSONResponse:
    """Answer a leased task. The same key again is the same answer; to change an answer, send it under another key.

    410: the campaign is closed; the answer is kept, and does not count.
    """
    return await _answer(
        shared, caller, assignment, body.lease_token, key or str(assignment), value=body.value, duration_ms=body.duration_ms
    )


@busy.post("/assignments/{assignment}/skip", status_code=201, response_model=bodies.AnswerView, responses=ANSWERED)
async def skip(assignment: UUID, body: bodies.Skip, caller: Worker, shared: Shared, key: IdempotencyKey = None) -> JSONResponse:
    """Leave a leased task unanswered, with a reason. It never counts as an answer."""
    return await _answer(shared, caller, assignment, body.lease_token, key or f"{assignment}/skip", skip=True, reason=body.reason or None)


async def _answer(shared: Parts, caller: Caller, assignment: UUID, token: UUID, key: str, **said: Any) -> JSONResponse:
    held = await shared.held(assignment, token)
    if held is None:
        raise _lost()
    if held.labeler != caller.principal:
        raise AccessDenied("this task is in somebody else's hands", field="lease_token", remedy="use the key with which it was leased")
    incoming = Incoming(
        task=held.task,
        labeler=caller.principal,
        source=_source(caller),
        source_key=key,
        event_time=datetime.now(UTC),
        lease=(assignment, token),
        held=True,
        **said,
    )
    result = (await shared.accept(held.campaign, [incoming]))[0]
    if result.error == LEASE_LOST:
        raise _lost()
    if result.error:
        raise InvalidInput(result.error, field="value", remedy="send one of the campaign's answers, under a key of its own")
    if result.status is AnnotationStatus.LATE and not result.duplicate:
        campaign = await shared.call(shared.campaigns.campaign, held.campaign)
        if campaign.state is CampaignState.CLOSED:
            raise Refused(410, Conflict("the campaign is closed; the answer is kept, and does not count", field="campaign"))
    return JSONResponse(_view(result), 200 if result.duplicate else 201)


@busy.post("/campaigns/{campaign}/answers", response_model=bodies.AnswerViews, responses=responses(401, 403, 404))
async def answers(campaign: str, body: bodies.AnswerBatch, caller: Worker, shared: Shared, key: IdempotencyKey = None) -> JSONResponse:
    """Many answers of one labeler, without leases: for tools and models. Results come in the order of the answers."""
    now, source = datetime.now(UTC), _source(caller)
    incoming = [
        Incoming(
            task=item.task,
            labeler=caller.principal,
            source=source,
            source_key=_name(item.key, key, number),
            event_time=now,
            revision=item.revision,
            value=item.value,
            skip=item.skip,
            deleted=item.deleted,
            reason=item.reason,
            duration_ms=item.duration_ms,
        )
        for number, item in enumerate(body.answers)
    ]
    results = await shared.accept(shared.campaign_id(campaign), incoming)
    return JSONResponse({"results": [_view(result) for result in results]})


@router.post("/tasks/{task}/adjudicate", status_code=201, response_model=bodies.Adjudicated, responses=responses(401, 403, 404, 409))
async def adjudicate(
    request: Request,
    task: Annotated[str, Path(max_length=500)],
    body: bodies.Adjudication,
    caller: Judge,
    shared: Shared,
    key: IdempotencyKey = None,
) -> JSONResponse:
    """Decide a task by hand, by its id, or by its key with the campaign in the body. Its own labelers may not."""

    def work() -> tuple[int, Any]:
        if body.campaign is None:
            campaign, name = named_task(shared.database, _task_id(task))
        else:
            campaign, name = shared.campaigns.campaign(shared.campaign_id(body.campaign)).id, text_field(task, "task")
        shared.campaigns.adjudicate(campaign, name, caller.principal, body.value, body.reason)
        return 201, {"task": name, "label": body.value}

    return await once(shared, caller, key, request, body, work)


def _task_id(task: str) -> UUID:
    try:
        return UUID(task)
    except ValueError:
        raise InvalidInput("a task that is named by its key needs its campaign", field="campaign", remedy="name it in the body") from None


def _lost() -> LeaseLost:
    return LeaseLost("this task is no longer in your hands", field="lease_token", remedy="lease again; an answer that was sent is kept")


def _source(caller: Caller) -> str:
    return f"api:{caller.principal}"


def _name(item: str | None, request: str | None, number: int) -> str:
    """The name of one answer of many."""
    if item is not None:
        return item
    if request is None:
        raise InvalidInput(
            "without a key, it could count twice", field=f"answers.{number}.key", remedy="give it a key, or send an Idempotency-Key"
        )
    return f"{request}/{number}"


def _view(result: AnswerResult) -> dict[str, Any]:
    return {"task": result.task, "status": result.status, "duplicate": result.duplicate, "error": result.error}
