"""The same application as a deployment of Ray Serve, for where one process is not enough.

``serve run infra/ray-serve.yaml`` or ``python -m perdure.serving --ray``: an HTTP address of its own, replicas by the number of requests
that are under way, none where nobody asks. Each replica is a serving process like any other: it reads the rows, loads, switches and reports
for itself, with the settings of its node.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from perdure.config import Settings
from perdure.serving.app import make_app
from perdure.telemetry import configure_logs

ROOM = 200
"""Requests that one replica works on at once."""


class Scaling(BaseModel):
    """How many replicas there are."""

    model_config = ConfigDict(extra="forbid")

    min_replicas: int = Field(1, ge=0, description="0: none where nobody asks; the first request then waits until one has started")
    max_replicas: int = Field(4, ge=1)
    ongoing_requests: float = Field(8, gt=0, description="requests under way for which one replica is wanted")
    downscale_seconds: float = Field(300, ge=0, description="quiet time before a replica goes")
    cpus: float = Field(1, gt=0, description="processors of one replica")


def _made() -> FastAPI:
    settings = Settings()
    configure_logs(settings.log_level)
    return make_app(settings)


def application(scaling: Scaling | None = None) -> serve.Application:
    """What `serve run` deploys; the arguments of its configuration are those of `Scaling`."""
    scaling = scaling or Scaling()
    autoscaling: dict[str, Any] = {
        "min_replicas": scaling.min_replicas,
        "initial_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_ongoing_requests": scaling.ongoing_requests,
        "downscale_delay_s": scaling.downscale_seconds,
        "upscale_delay_s": 1,
    }
    deployment = serve.deployment(
        name="perdure",
        autoscaling_config=autoscaling,
        max_ongoing_requests=ROOM,
        ray_actor_options={"num_cpus": scaling.cpus},
        health_check_period_s=10,
        graceful_shutdown_timeout_s=30,
    )
    return deployment(serve.ingress(_made)(_Serving)).bind()


class _Serving:
    """A replica; the application is made inside it."""
