"""What all pages share: templates, headers that keep a browser from harm, files, and problems that people can read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from perdure.errors import Defect, NotFound
from perdure.gateway.problems import EXPECTED, Refusal, refusal

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FILES = {path.name: path.read_bytes() for path in sorted((_HERE / "static").iterdir()) if path.suffix in _TYPES}
_DIGEST = hashlib.sha256(b"".join(_FILES.values())).hexdigest()[:12]
# no inline script or style, nothing from elsewhere but the images that tasks name
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_log = logging.getLogger("perdure.gateway")
files = APIRouter(include_in_schema=False)


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _count(value: int) -> str:
    return f"{value:,}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_templates = Environment(
    loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates.filters |= {"when": _when, "count": _count, "capitalize_first": _capital}
_templates.globals |= {"static": lambda name: f"/static/{name}?v={_DIGEST}"}


def render(template: str, **values: Any) -> str:
    """The template as text. Every value is escaped."""
    return _templates.get_template(template).render(**values)


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page. ``visitor`` is who looks at it, None where nobody is signed in."""
    return HTMLResponse(render(template, **{"visitor": None, **values}), status)


def wants_json(request: Request) -> bool:
    """Whether a script asks, and not a person's browser by itself."""
    return "application/json" in request.headers.get("accept", "")


class PageRoute(APIRoute):
    """A route of people: its refusals are pages (for scripts: problem documents), and every answer has the headers above."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that FastAPI makes, wrapped."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                response = await inner(request)
            except EXPECTED as error:
                response = _refused(request, refusal(request, error))
            except Exception as error:
                _log.error("a defect", exc_info=error, extra={"path": request.url.path})
                defect = Defect("this is a defect of Perdure", remedy="the gateway's log has the cause; go back and try again")
                response = _refused(request, Refusal(error=defect, status=500))
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handler


def _refused(request: Request, told: Refusal) -> Response:
    if wants_json(request):
        return told.document()
    response = page("problem.html", told.status, told=told, signed_out=told.status == 401)
    response.headers.update(told.all_headers)
    return response


def pages() -> APIRouter:
    """A router of pages: they are no part of the API's description."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


@files.get("/static/{name}")
async def static(name: str) -> Response:
    """A style sheet, a script or a picture. Its address changes with it, so it may be kept."""
    if name not in _FILES:
        raise NotFound("there is no such file", field="name")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(_FILES[name], media_type=_TYPES[Path(name).suffix], headers=headers)
