"""The application: routes, errors, limits, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from perdure.config import Settings
from perdure.serving import inference, predict
from perdure.serving.counting import Exported
from perdure.serving.service import Service
from perdure.web import problems
from perdure.web.limits import BodyLimit

DESCRIPTION = (
    "Predictions of released models, with raw rows in: by our own route, and by the Open Inference Protocol V2. "
    "Refusals are problem documents (RFC 9457) whose `type` is explained in docs/errors.md."
)
Opens = Callable[[Settings], AbstractAsyncContextManager[Service]]


def make_app(settings: Settings, opens: Opens = Service.open) -> FastAPI:
    """The serving application on *settings*; *opens* makes its service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opens(settings) as service:
            app.state.service = service
            registry.register(Exported(service.counts, lambda: len(service.shelf.loaded)))
            yield

    registry = CollectorRegistry()
    app = FastAPI(
        title="Perdure serving",
        version=version("perdure"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(BodyLimit, most=settings.serving.max_body)
    problems.install(app, lambda request, status: request.app.state.service.counts.refused.update((status,)))

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses={503: {"description": "not yet"}})
    async def readyz(request: Request, response: Response) -> dict[str, str]:
        """Rows were read, and every released version that has its place is loaded, or cannot be."""
        ready = request.app.state.service.directory.ready
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "not ready"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY) + generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    for router in (predict.router, inference.infer_router, inference.open_router, inference.router):
        app.router.routes += router.routes  # a router within a router would be searched twice at every request
    return app
