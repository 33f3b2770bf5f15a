"""`python -m perdure.serving`: serve until SIGTERM; requests that run are answered."""

from __future__ import annotations

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
        timeout_graceful_shutdown=10,
        backlog=2_048,
    )


if __name__ == "__main__":
    main(Settings())
