"""`python -m perdure.gateway`: serve until SIGTERM; requests that run are answered."""

from __future__ import annotations

import sys

import uvicorn

from perdure.config import Settings
from perdure.gateway.app import make_app
from perdure.telemetry import configure_logs


def main(settings: Settings) -> None:
    """Serve on the configured address."""
    configure_logs(settings.log_level)
    sys.setswitchinterval(0.00005)  # requests are not held up while a thread prepares its rows
    uvicorn.run(
        make_app(settings),
        host=settings.gateway.host,
        port=settings.gateway.port,
        loop="uvloop",
        http="httptools",
        log_config=None,  # ours
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        backlog=2_048,
    )


if __name__ == "__main__":
    main(Settings())
