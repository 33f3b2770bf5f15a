"""Variables that services are started with."""

from __future__ import annotations

import os

from perdure.config import Settings, resolve_secret
from perdure.local.files import Home

QUIET = {  # nothing phones home
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TEMPORAL_VERSION_CHECK_DISABLED": "1",
}


SHORT = 60  # bytes of a temporary folder below which the Unix sockets that Python's multiprocessing puts there fit into an address


def scratch(home: Home) -> dict[str, str]:
    """Lets jobs work below the data folder: what killed ones leave is removed with the next `up` or `down`."""
    if len(os.fsencode(home.scratch)) > SHORT:
        return {}
    home.scratch.mkdir(mode=0o700, exist_ok=True)
    return {"TMPDIR": str(home.scratch)}


def s3_environment(settings: Settings) -> dict[str, str]:
    """What stock S3 clients and Perdure's jobs read. This is how a cluster's node gives credentials to its jobs: never through an API."""
    s3 = settings.s3
    names = {"PERDURE_S3__BUCKET": s3.bucket, "PERDURE_S3__REGION": s3.region, "AWS_DEFAULT_REGION": s3.region}
    if s3.endpoint:
        names |= {"PERDURE_S3__ENDPOINT": s3.endpoint, "AWS_ENDPOINT_URL": s3.endpoint}
    if s3.access_key and s3.secret_key:
        names |= {"AWS_ACCESS_KEY_ID": resolve_secret(s3.access_key), "AWS_SECRET_ACCESS_KEY": resolve_secret(s3.secret_key)}
        names |= {"PERDURE_S3__ACCESS_KEY": "env:AWS_ACCESS_KEY_ID", "PERDURE_S3__SECRET_KEY": "env:AWS_SECRET_ACCESS_KEY"}
    return names
