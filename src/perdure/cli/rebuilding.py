"""A data set made again from its manifest, by a job process on this machine: the owner's code is never imported here."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

from perdure.errors import JobCrashed, from_dict
from perdure.printed import printed_error

if TYPE_CHECKING:
    from perdure.adapters.job_files import S3JobFiles
    from perdure.config import Settings
    from perdure.messages.common import ArtifactRef, Json
    from perdure.messages.jobs import JobRequest

LOOK = 0.1  # seconds between looks at the job


def rebuild(manifest: ArtifactRef, name: str, settings: Settings) -> Json:
    """What `perdure.jobs.preparation.rebuild` says of *manifest*: "same", "manifest" (made now) and "differences".

    Raises what the job raises (SourceMissing, UserCodeError, …), JobCrashed, NotFound, ObjectsUnavailable.
    """
    from perdure.adapters.job_files import S3JobFiles
    from perdure.adapters.s3 import ObjectStore
    from perdure.messages.jobs import JobKind, JobRequest
    from perdure.spec import pipeline as spec

    objects = ObjectStore(settings.s3, attempts=3)
    data = objects.get_json(manifest)["data"]
    request = JobRequest(
        job=f"rebuild-{uuid4()}",
        kind=JobKind.REBUILD,
        storage=settings.storage,
        spec=spec.load({"name": name, "data": data}).as_json(),
        inputs={"manifest": manifest.as_json()},
    )
    try:
        return _run(request, S3JobFiles(objects), settings)
    finally:
        objects.delete([key for key, _ in objects.list(f"jobs/{request.job}/")])  # no row will ever name it


def _run(request: JobRequest, files: S3JobFiles, settings: Settings) -> Json:
    """The job's result."""
    from perdure.adapters.local_jobs import LocalJobs
    from perdure.messages.jobs import Submission

    one = settings.model_copy(update={"worker": settings.worker.model_copy(update={"processes": 1})})
    with closing(LocalJobs(one)) as jobs:
        jobs.submit(Submission(id=request.job, request=files.put_request(request)))
        while (state := jobs.state(request.job)).status.is_active:
            time.sleep(LOOK)
        latest = files.latest(request.job)
        if latest.result is not None:
            return latest.result
        if latest.error is not None:
            raise from_dict(latest.error)
        logs = jobs.logs(request.job)
        if (error := printed_error(logs)) is not None:
            raise error
        raise JobCrashed(
            f"the job ended without a result: {state.message}\n{logs[-1500:]}".rstrip(),
            remedy="look for os._exit, a native crash or too little memory in the transform",
        )
