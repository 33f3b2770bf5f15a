"""Tasks on their way into a campaign: as lines of the body, or as a manifest that the campaign's workflow imports."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, TypeAdapter, ValidationError

from perdure.errors import InvalidInput
from perdure.gateway import bodies
from perdure.gateway.auth import Writer
from perdure.gateway.limits import require_media, too_large
from perdure.gateway.parts import Shared
from perdure.gateway.problems import responses
from perdure.gateway.repeats import IdempotencyKey, before, once
from perdure.keys import identity
from perdure.labeling import manifest
from perdure.labeling.ports import CampaignRow, NewTask
from perdure.messages.common import ArtifactRef
from perdure.metadata.repository import CampaignRows

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"])
LINES, JSON = "application/x-ndjson", "application/json"
ROUTE = "/{campaign}/tasks:import"
STREAMED = re.compile(r"/v1/campaigns/[^/]+/tasks:import")
BATCH = 1_000
BATCH_BYTES = 4 << 20
IN_MEMORY = 8 << 20  # bytes of a body that wait in memory; more wait in a file
_MANIFEST = TypeAdapter(bodies.Manifest)
_MOST_MANIFEST = 100_000
_EXAMPLE = '{"key": "m1", "payload": {"text": "hello"}}\n{"key": "m2", "payload": {"text": "WIN a prize"}, "gold": "spam"}\n'


@router.post(
    ROUTE,
    status_code=202,
    response_model=bodies.Imported,
    responses=responses(401, 403, 404, 409, 415),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                LINES: {"schema": {"type": "string"}, "example": _EXAMPLE},
                JSON: {"schema": bodies.Manifest.model_json_schema()},
            },
        }
    },
)
async def import_tasks(request: Request, campaign: str, caller: Writer, shared: Shared, key: IdempotencyKey = None) -> JSONResponse:
    """Add tasks: lines with ``key`` and ``payload`` (``priority``, ``gold``, ``prediction``), or the address of such lines.

    A key that is there already keeps its task, so the same import may be sent again. No line is stored before all were read: where one is
    wrong, none of them is in.
    """
    require_media(request, LINES, JSON)
    row = await shared.campaign(campaign)
    if request.headers["content-type"].lower().startswith(JSON):
        try:
            wanted = _MANIFEST.validate_json(await _whole(request))
        except ValidationError as err:
            first = err.errors(include_url=False, include_input=False)[0]
            raise InvalidInput(
                first["msg"], field=".".join(map(str, first["loc"])) or "body", remedy='send {"uri": "s3://...", "sha256": "..."}'
            ) from None

        def work() -> tuple[int, Any]:
            id = shared.campaigns.announce(row.id, ArtifactRef(uri=wanted.uri, sha256=wanted.sha256))
            return 202, {"import_id": str(id)}

        return await once(shared, caller, key, request, wanted, work)
    seen, rows = hashlib.sha256(), 0
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as kept:
        async for line in _split(request, seen, shared.settings.gateway.max_import):
            rows += 1
            if line.strip():
                manifest.task(line, rows, row.spec)
                kept.write(line + b"\n")
        said = _Lines(sha256=seen.hexdigest())
        if answered := await before(shared, caller, key, request, said):
            return answered
        kept.seek(0)
        async with shared.importing:
            added = await shared.call(_put, shared.campaigns, row, kept)
    answer = bodies.Imported(import_id=identity(row.id, "import", said.sha256), tasks=rows, added=added)
    return await once(shared, caller, key, request, said, lambda: (202, answer.model_dump(mode="json")))


class _Lines(BaseModel):
    """What a body of lines is known by."""

    sha256: str


def _put(campaigns: CampaignRows, campaign: CampaignRow, lines: Iterable[bytes]) -> int:
    """Store lines that were found to be right; how many were new."""
    added, waiting, size = 0, list[NewTask](), 0
    with campaigns.arriving(campaign.id) as put:
        for number, line in enumerate(lines, 1):
            waiting.append(manifest.task(line, number, campaign.spec))
            size += len(line)
            if len(waiting) >= BATCH or size >= BATCH_BYTES:
                added += put(waiting)
                waiting, size = [], 0
        return added + (put(waiting) if waiting else 0)


async def _split(request: Request, seen: Any, most: int) -> AsyncIterator[bytes]:
    """The body's lines. Raises 413 where one is too long, or all are."""
    rest, size = b"", 0
    async for chunk in request.stream():
        seen.update(chunk)
        size += len(chunk)
        if size > most:
            raise too_large(most, "an import by lines (more may come by the address of an object)")
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > manifest.LONGEST:
            raise too_large(manifest.LONGEST, "a line")
    if rest:
        yield rest


async def _whole(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_MANIFEST:
            raise too_large(_MOST_MANIFEST)
    return body
