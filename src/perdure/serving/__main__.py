"""`python -m perdure.serving`: serve until SIGTERM; requests that run are answered. With ``--ray``: as a deployment of Ray Serve."""

from __future__ import annotations

import argparse
import sys

import uvicorn

from perdure.config import Settings
from perdure.serving.app import make_app
from perdure.telemetry import configure_logs


def main(settings: Settings) -> None:
    """Serve on the configured address."""
    configure_logs(settings.log_level)
    sys.setswitchinterval(0.0005)  # an answer is not held up for long while a thread prepares its batch
    uvicorn.run(
        make_app(settings),
        host=settings.serving.host,
        port=settings.serving.port,
        loop="uvloop",
        http="httptools",
        log_config=None,  # ours
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who a proxy says is calling
        timeout_graceful_shutdown=10,
        backlog=2_048,
    )


def _on_ray(settings: Settings, scaling: str) -> None:
    from perdure.serving.on_ray import Scaling, run

    run(settings, Scaling.model_validate_json(scaling))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m perdure.serving", description="Serve released models.")
    parser.add_argument("--ray", action="store_true", help="as a deployment of Ray Serve, on the cluster of RAY_ADDRESS or one of its own")
    parser.add_argument("--scaling", default="{}", help="with --ray, as JSON: min_replicas (0: none where nobody asks), max_replicas, …")
    said = parser.parse_args()
    if said.ray:
        _on_ray(Settings(), said.scaling)
    else:
        main(Settings())
