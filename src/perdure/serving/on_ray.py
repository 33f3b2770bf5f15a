"""The same application as a deployment of Ray Serve, for where one process is not enough.

`serve run infra/ray-serve.yaml`, or `python -m perdure.serving --ray`: an HTTP address of its own, replicas by the number of requests that
are under way, none where nobody asks. Each replica is a serving process like any other: it reads the rows, loads, switches and reports for
itself, with the settings of its node. Never on the cluster that trains: its head is restarted for other reasons.
"""

# No `from __future__ import annotations`: Ray Serve reads the type of the builder's argument.

from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from perdure.config import Settings
from perdure.serving.app import make_app
from perdure.telemetry import configure_logs

ROOM = 200
"""Requests that one replica works on at once."""


class Scaling(BaseModel):
    """How many replicas there are, and how large."""

    model_config = ConfigDict(extra="forbid")

    min_replicas: int = Field(1, ge=0, description="0: none where nobody asks; the first request then waits until one has started")
    max_replicas: int = Field(4, ge=1, description="most replicas")
    ongoing_requests: float = Field(8, gt=0, description="requests under way for which one replica is wanted")
    quiet_seconds: float = Field(300, ge=0, description="time with less to do before a replica goes")
    cpus: float = Field(1, gt=0, description="processors of one replica")


def _made() -> FastAPI:
    """The application, made inside a replica."""
    settings = Settings()
    configure_logs(settings.log_level)
    return make_app(settings)


def application(scaling: Scaling) -> Any:
    """What Ray Serve deploys; ``args`` of its configuration are the fields of `Scaling`."""
    autoscaling = {
        "min_replicas": scaling.min_replicas,
        "initial_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_ongoing_requests": scaling.ongoing_requests,
        "upscale_delay_s": 1.0,
        "downscale_delay_s": scaling.quiet_seconds,
    }
    deployment = serve.deployment(
        name="perdure",
        autoscaling_config=autoscaling,
        max_ongoing_requests=ROOM,
        ray_actor_options={"num_cpus": scaling.cpus},
        graceful_shutdown_timeout_s=30,
    )
    return deployment(serve.ingress(_made)()).bind()


def run(settings: Settings, scaling: Scaling, *, blocking: bool = True) -> None:
    """Deploy on the cluster of `RAY_ADDRESS`, or on one of this process's own, and serve until SIGTERM."""
    if not ray.is_initialized():
        ray.init(log_to_driver=True)
    serve.start(http_options={"host": settings.serving.host, "port": settings.serving.port})
    serve.run(application(scaling), name="perdure", route_prefix="/", blocking=blocking)
