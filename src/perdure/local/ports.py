"""Free ports, picked once per data folder and kept, so that two checkouts run side by side."""

from __future__ import annotations

import json
import random
import socket

from perdure.local.files import Home, read_json, write

NAMES = (
    "postgres",
    "s3",
    "temporal",
    "temporal_ui",
    "temporal_http",
    "temporal_metrics",
    "mlflow",
    "ray_gcs",
    "ray_dashboard",
    "ray_agent",
    "ray_agent_grpc",
    "ray_runtime_env",
    "ray_metrics",
    "worker_metrics",
    "reconciler_metrics",
    "relay_metrics",
    "gateway",
    "serving",
)
WELL_KNOWN = {"temporal": 7233, "temporal_ui": 8233, "gateway": 8400, "serving": 8500}
"""What the stock Temporal CLI and our settings expect, where free."""
RANGE = range(20_000, 30_000)  # below the ports that kernels give to outgoing connections


def pick(home: Home) -> dict[str, int]:
    """The ports of this data folder. One that another process has taken meanwhile is replaced. Call while the stack is down."""
    kept = read_json(home.ports)
    ports: dict[str, int] = {}
    for name in NAMES:
        port = kept.get(name) or WELL_KNOWN.get(name)
        while port is None or port in ports.values() or not free(port):
            port = spare()
        ports[name] = port
    if ports != kept:
        write(home.ports, json.dumps(ports, indent=2) + "\n")
    return ports


def spare() -> int:
    """Some port that is free now; by chance, so that two who look at the same time find different ones."""
    while not free(port := random.choice(RANGE)):
        pass
    return port


def free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for a server
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
