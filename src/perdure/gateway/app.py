"""The application: routes, errors, limits, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from perdure.config import Settings
from perdure.gateway import problems
from perdure.gateway.limits import BodyLimit
from perdure.gateway.pages import approvals as approval_pages
from perdure.gateway.pages import campaigns as campaign_pages
from perdure.gateway.pages import label, login, shell
from perdure.gateway.pages import models as model_pages
from perdure.gateway.parts import Parts
from perdure.gateway.routes import answers, approvals, campaigns, commands, deliveries, events, feedback, hooks, imports, models

DESCRIPTION = (
    "Labeling campaigns, the answers that people give, web hooks of their tools, and votes on releases. "
    "Every route but the hooks wants a key of `perdure keys create`; a hook's sender signs. "
    "Refusals are problem documents (RFC 9457) whose `type` is explained in docs/errors.md."
)


def make_app(settings: Settings) -> FastAPI:
    """The gateway on *settings*. It connects when it is first asked for something."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Parts.open(settings) as parts:
            app.state.parts = parts
            yield

    app = FastAPI(
        title="Perdure",
        version=version("perdure"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; any viewer reads /openapi.json
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(BodyLimit, most=settings.gateway.max_body, streamed=imports.STREAMED)
    problems.install(app)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """This process answers. It says nothing about Postgres: a request that needs it says so itself."""
        return {"status": "ok"}

    routers = (
        answers.busy,
        hooks.router,
        events.router,
        feedback.router,
        answers.router,
        campaigns.router,
        imports.router,
        commands.router,
        deliveries.router,
        models.router,
    )
    for router in (*routers, approvals.router):
        app.router.routes += router.routes  # tried in this order; a router within a router would be searched twice at every request
    for router in (label.router, login.router, campaign_pages.router, model_pages.router, approval_pages.router, shell.files):
        app.include_router(router)
    return app
