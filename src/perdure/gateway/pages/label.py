"""Where people label: campaigns that wait for them, and one task after the other, leased ahead so that nobody waits.

A script on the page asks for tasks, holds them, and sends answers; each answer has a key of its own, so that it may be sent again. Without
scripts, the same forms work one page at a time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Form, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from perdure.errors import AccessDenied, InvalidInput, LeaseLost
from perdure.gateway.fields import Milliseconds, Name, Text
from perdure.gateway.pages.shell import page, pages, render, wants_json
from perdure.gateway.pages.showing import predicted, shown
from perdure.gateway.pages.visitors import Labeling, Visitor
from perdure.gateway.parts import Parts, Shared
from perdure.labeling.ports import CampaignRow, Incoming, Lease
from perdure.labeling.spec import Campaign
from perdure.messages.labeling import AnnotationStatus, AnswerResult, CampaignState
from perdure.metadata.queries import work_for
from perdure.metadata.queries.work import COUNTED

router = pages()
AHEAD = 5  # tasks in a labeler's hands at most
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")
_REASONS = ("unclear", "broken or empty", "not for me")
_S = AnnotationStatus


class Said(BaseModel):
    """An answer to a leased task, as its form sends it. ``key`` names it for ever."""

    task: Name
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{8,64}$")]
    assignment: UUID
    lease_token: UUID
    value: Text | None = None
    skip: bool = False
    reason: Text = ""
    duration_ms: Milliseconds | None = None


Leases = Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-f-]{36}/[0-9a-f-]{36}$")]], Form(max_length=2 * AHEAD)]
"""Assignments and their tokens, as a page names what it holds."""


@router.get("/label")
async def campaigns(visitor: Labeling, shared: Shared) -> Response:
    """Campaigns that take answers, and what waits in them for this visitor."""
    work = await shared.call(work_for, shared.database, visitor.principal)
    return page("campaigns_for_me.html", visitor=visitor, work=work, most=COUNTED)


@router.get("/label/{campaign}")
async def work(campaign: str, visitor: Labeling, shared: Shared, plain: bool = False) -> Response:
    """The page to label on. With *plain* it needs no script: it shows one task, and the next one once that is answered."""
    row = await shared.campaign(campaign)
    return await _plain(row, visitor, shared) if plain else _work(row, visitor)


@router.post("/label/{campaign}/tasks")
async def tasks(
    campaign: str, visitor: Labeling, shared: Shared, want: Annotated[int, Form(ge=1, le=AHEAD)], anew: Annotated[bool, Form()] = False
) -> Response:
    """Tasks for the page. *anew*: what this visitor holds already comes first, and leaves the window where it was."""
    row = await shared.campaign(campaign)
    leases = await _leases(row, visitor, shared, want, anew=anew)
    return JSONResponse(
        {
            "tasks": [
                {
                    "assignment": str(lease.assignment),
                    "lease_token": str(lease.token),
                    "seconds": _left(lease.expires_at),
                    "task": lease.task,
                    "html": _task(row, lease, visitor),
                }
                for lease in leases
            ],
            "state": row.state,
            "decided": row.decided,
            "total": row.total,
        }
    )


@router.post("/label/{campaign}/answer")
async def answer(request: Request, campaign: str, visitor: Labeling, shared: Shared, said: Annotated[Said, Form()]) -> Response:
    """Take an answer. The same key again is the same answer."""
    row = await shared.campaign(campaign)
    value = None if said.skip else value_of(row.spec, said.value)
    incoming = await _incoming(row, visitor, shared, said, value=value, skip=said.skip, duration_ms=said.duration_ms)
    result = (await shared.accept(row.id, [incoming]))[0]
    if result.error:
        raise InvalidInput(result.error, field="value", remedy="choose one of the answers")
    told = told_of(result, row)
    if wants_json(request):
        return JSONResponse({"status": result.status, "told": told})
    row = await shared.campaign(campaign)
    return await _plain(row, visitor, shared, told=told or ("Skipped." if said.skip else "Answered."), before=said)


@router.post("/label/{campaign}/undo")
async def undo(request: Request, campaign: str, visitor: Labeling, shared: Shared, said: Annotated[Said, Form()]) -> Response:
    """Take an answer back: its task is in the visitor's hands again, and its next answer has another key."""
    row = await shared.campaign(campaign)
    incoming = await _incoming(row, visitor, shared, said)
    result = await shared.call(shared.labels.take_back, row.id, incoming)
    if result.error:
        raise InvalidInput(result.error, field="task")
    if wants_json(request):
        return JSONResponse({"status": result.status, "told": ""})
    return await _plain(row, visitor, shared, told="Your last answer is taken back. Answer again.")


@router.post("/label/{campaign}/hold")
async def hold(campaign: str, visitor: Labeling, shared: Shared, lease: Leases) -> Response:
    """Hold tasks for longer. Those that are lost are named."""
    row = await shared.campaign(campaign)
    seconds, lost = dict[str, float](), list[str]()
    for assignment, token in map(_lease, lease):
        try:
            seconds[str(assignment)] = _left(await shared.call(shared.labels.extend, assignment, token))
        except LeaseLost:
            lost.append(str(assignment))
    return JSONResponse({"seconds": seconds, "lost": lost, "state": row.state})


@router.post("/label/{campaign}/release", status_code=204)
async def release(campaign: str, visitor: Labeling, shared: Shared, lease: Leases) -> Response:
    """Give tasks back, as a page does that is left. Those that are lost need nothing."""
    for assignment, token in map(_lease, lease):
        try:
            await shared.release(assignment, token)
        except LeaseLost:
            continue
    return Response(status_code=204)


def value_of(spec: Campaign, raw: str | None) -> Any:
    """The answer that a form's text stands for. Raises InvalidInput where nothing, or no number, was sent."""
    if spec.choices:
        if not raw:
            raise InvalidInput("nothing is chosen", field="value", remedy="choose one of the answers")
        return raw
    text = (raw or "").strip()
    try:
        return int(text) if _INTEGER.fullmatch(text) else float(text)
    except ValueError:
        raise InvalidInput("the answer must be a number", field="value", remedy="write one, as 12 or 0.5") from None


def told_of(result: AnswerResult, campaign: CampaignRow) -> str:
    """What a labeler must know about an answer; nothing where it counts."""
    match result.status:
        case _S.LATE if campaign.state is CampaignState.CLOSED:
            return "The campaign is closed: this answer is kept, and does not count."
        case _S.LATE:
            return "This task was decided before your answer came: it is kept, and does not count."
        case _S.SUPERSEDED:
            return "You have answered this task again elsewhere: that answer counts."
        case _S.BLOCKED:
            return "This answer does not count: too many of your answers to known questions were wrong. Ask the owner of the campaign."
        case _S.DELETED:
            return "You have taken this answer back."
        case _:
            return ""


async def _incoming(row: CampaignRow, visitor: Visitor, shared: Parts, said: Said, **more: Any) -> Incoming:
    """The answer, under its lease. One whose lease is lost is an answer still: whether it counts, its task says."""
    held = await shared.held(said.assignment, said.lease_token)
    if held is not None and held.labeler != visitor.principal:
        raise AccessDenied("this task is in somebody else's hands", field="lease_token", remedy="sign in as who leased it")
    if held is not None and (held.campaign, held.task) != (row.id, said.task):
        raise InvalidInput("this lease is of another task", field="lease_token", remedy="load the page anew")
    return Incoming(
        task=said.task,
        labeler=visitor.principal,
        source=f"page:{visitor.principal}",
        source_key=said.key,
        event_time=datetime.now(UTC),
        reason=said.reason or None,
        lease=(said.assignment, said.lease_token) if held else None,
        **more,
    )


async def _leases(row: CampaignRow, visitor: Visitor, shared: Parts, want: int, *, anew: bool) -> list[Lease]:
    found = await shared.resume(row.id, visitor.principal, want) if anew else []
    if len(found) < want and row.state is CampaignState.OPEN:
        found += await shared.lease(row.id, visitor.principal, want - len(found))
    return found


def _task(row: CampaignRow, lease: Lease, visitor: Visitor) -> str:
    guess, score = predicted(lease) or (None, None)
    return render(
        "task.html",
        visitor=visitor,
        campaign=row,
        spec=row.spec,
        lease=lease,
        shown=shown(row.spec, lease.payload),
        predicted=guess,
        score=score,
        reasons=_REASONS,
        key=str(uuid4()),
    )


def _work(row: CampaignRow, visitor: Visitor) -> Response:
    return page("label.html", visitor=visitor, campaign=row, spec=row.spec, ahead=AHEAD, reasons=_REASONS)


async def _plain(row: CampaignRow, visitor: Visitor, shared: Parts, told: str = "", before: Said | None = None) -> Response:
    """One task, without a script. *before* is the answer that can be taken back."""
    found = await _leases(row, visitor, shared, 1, anew=True)
    task = _task(row, found[0], visitor) if found else None
    return page("label_plain.html", visitor=visitor, campaign=row, spec=row.spec, told=told, before=before, task=task)


def _lease(named: str) -> tuple[UUID, UUID]:
    assignment, _, token = named.partition("/")
    return UUID(assignment), UUID(token)


def _left(until: datetime) -> float:
    """Seconds from now: a browser's clock may be wrong."""
    return round((until - datetime.now(UTC)).total_seconds(), 3)
