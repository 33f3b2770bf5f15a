"""Web hooks. First who sent it, then what it says: a message is kept whatever it says, once its sender has proved who it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from perdure.errors import AccessDenied, InvalidInput, NotFound, RateLimited, StoreUnavailable
from perdure.gateway import bodies
from perdure.gateway.hooks import KEPT_HEADERS, PROVIDERS, Malformed, Unproven, fingerprint, secret_for
from perdure.gateway.limits import require_media
from perdure.gateway.parts import Shared
from perdure.gateway.problems import Refused, responses
from perdure.labeling.deliveries import Arrived, Delivery
from perdure.metadata.repository.access import Hook
from perdure.metadata.tables import HookProvider

router = APIRouter(prefix="/v1/hooks", tags=["hooks"])
T = TypeVar("T")
LARGE = 64 * 1024  # bytes of a body that others would wait for, were it read between them
_log = logging.getLogger("perdure.gateway")


@router.post(
    "/{hook}",
    status_code=202,
    response_model=bodies.DeliveryView,
    responses={200: {"model": bodies.DeliveryView, "description": "It was there already"}, **responses(401, 404, 410, 415, 429)},
    openapi_extra={
        "requestBody": {"required": True, "content": {kind: {} for each in PROVIDERS.values() for kind in each.media}},
    },
)
async def deliver(request: Request, hook: str, shared: Shared) -> JSONResponse:
    """Take a message. 202 says that it is kept, and acted on or quarantined: see ``state``."""
    found = await shared.hook(hook)
    if found.retired_at is not None:
        raise Refused(410, NotFound(f"the hook {hook!r} is retired", field="hook", remedy="send nothing here any more"))
    provider = PROVIDERS[found.provider]
    require_media(request, *provider.media)
    body, received = await request.body(), datetime.now(UTC)
    secrets = await shared.call(_secrets, found, received)
    try:
        key = await _beside(shared, body, partial(provider.verify, request.headers, body, secrets, time.time()))
    except Malformed as err:
        raise Refused(
            400, InvalidInput(str(err), field="headers", remedy="send what the convention of this hook's provider demands")
        ) from None
    except Unproven as err:
        raise Refused(401, AccessDenied(str(err), field="headers", remedy="sign with the hook's secret, now")) from None
    if shared.rates and (wait := shared.rates.wait(found.id)):  # of those who proved themselves: nobody else can use it up
        limit = f"the hook {hook!r} takes {shared.settings.gateway.hook_rate:g} messages a second"
        status = 503 if found.provider is HookProvider.ALERTMANAGER else 429  # which Alertmanager may take for a lasting refusal
        raise Refused(status, RateLimited(limit, field="hook", remedy=f"send it again in {wait} seconds"), {"Retry-After": str(wait)})
    headers = {name: request.headers[name][:1_000] for name in KEPT_HEADERS if name in request.headers}
    message = await _beside(shared, body, partial(provider.read, found, body, received, headers))
    arrived = Arrived(
        hook=found.id,
        campaign=found.campaign,
        key=key or message.key or fingerprint(body),
        body=message.body,
        body_sha256=fingerprint(body),
        headers=headers,
    )
    delivery = await shared.call(shared.deliveries.receive, arrived, message.meaning)
    status = 200 if delivery.duplicate or found.provider is HookProvider.SLACK else 202  # Slack takes 200 alone for an answer
    return JSONResponse(view(delivery).model_dump(mode="json"), status)


def view(delivery: Delivery) -> bodies.DeliveryView:
    """What is told about a delivery."""
    return bodies.DeliveryView(
        hook=delivery.hook,
        delivery_id=delivery.key,
        state=delivery.state,
        attempts=delivery.attempts,
        received_at=delivery.received_at,
        error=delivery.error,
    )


async def _beside(shared: Shared, body: bytes, work: Callable[[], T]) -> T:
    """What *work* makes of *body*: in a thread, if that takes a while."""
    return await shared.call(work) if len(body) > LARGE else work()


def _secrets(hook: Hook, now: datetime) -> Sequence[str]:
    """The secrets that are accepted now. Raises StoreUnavailable where one of them cannot be used: its sender is to try again."""
    try:
        return [secret_for(hook.provider, each.ref) for each in hook.secrets if each.until is None or now < each.until]
    except InvalidInput as err:
        _log.error("a hook takes nothing", extra={"hook": hook.id, "error": err.problem})
        raise StoreUnavailable("a secret of this hook cannot be used", field="hook", remedy=err.remedy) from err
