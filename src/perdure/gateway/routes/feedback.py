"""What became known after a prediction: its outcome, and what users say of it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from perdure.errors import InvalidInput, NotFound
from perdure.gateway import told
from perdure.gateway.auth import Caller, OutcomeTeller
from perdure.gateway.parts import Shared
from perdure.gateway.problems import responses
from perdure.metadata.repository.feedback import NewFeedback, NewOutcome, Receipt
from perdure.metadata.tables import Verdict

router = APIRouter(prefix="/v1", tags=["feedback"])


@router.post("/outcomes", status_code=202, response_model=told.Receipts, responses=responses(401, 403, 404))
async def outcomes(body: told.OneOutcomeOrMore, caller: OutcomeTeller, shared: Shared) -> JSONResponse:
    """Tell the truth about one prediction, or about up to 1,000. The same again changes nothing; a correction has a later time.

    Of several, each has its own result: what does not fit is told there, and holds up no other.
    """
    items = body.outcomes if isinstance(body, told.Outcomes) else [body]
    rows = [
        NewOutcome(prediction_id=each.prediction_id, value=each.value, source=_who(caller, each.source), observed_at=each.observed_at)
        for each in items
    ]
    return _answer(await shared.call(shared.feedback.outcomes, rows), alone=isinstance(body, told.Outcome))


@router.post("/feedback", status_code=202, response_model=told.Receipts, responses=responses(401, 403, 404))
async def feedback(body: told.OneFeedbackOrMore, caller: OutcomeTeller, shared: Shared) -> JSONResponse:
    """Say of one prediction, or of up to 1,000, whether it was right. What the specification asks people about is asked at once."""
    items = body.feedback if isinstance(body, told.Feedbacks) else [body]
    rows = [
        NewFeedback(
            prediction_id=each.prediction_id, verdict=Verdict(each.verdict), principal=_who(caller, each.user), comment=each.comment
        )
        for each in items
    ]
    return _answer(await shared.call(shared.feedback.feedback, rows), alone=isinstance(body, told.Feedback))


def _who(caller: Caller, named: str | None) -> str:
    """Whom a word is attributed to: the key's holder, and whom they speak for. No key speaks in the name of a campaign or another key."""
    return f"api:{caller.principal}/{named}" if named else f"api:{caller.principal}"


def _answer(receipts: list[Receipt], *, alone: bool) -> JSONResponse:
    if alone and (why := receipts[0].error) is not None:
        kind = NotFound if why.startswith("there is no") else InvalidInput
        raise kind(why, field="observed_at" if "observed_at" in why else "prediction_id")
    results: list[dict[str, Any]] = [
        {"prediction_id": each.prediction_id, "id": each.id and str(each.id), "duplicate": each.duplicate, "error": each.error}
        for each in receipts
    ]
    accepted = [each for each in receipts if each.error is None]
    duplicates = sum(each.duplicate for each in accepted)
    return JSONResponse(
        {"accepted": len(accepted) - duplicates, "duplicates": duplicates, "refused": len(receipts) - len(accepted), "results": results},
        202,
    )
