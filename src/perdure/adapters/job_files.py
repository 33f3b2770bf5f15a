"""Port `JobFiles` on S3: the activity's side of a job's directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from perdure.adapters.s3 import ObjectStore
from perdure.jobs import latest
from perdure.jobs.latest import RunState
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.jobs import ControlCommand, JobRequest, Latest

_AT_ONCE = 16  # requests


class S3JobFiles:
    """Reads what jobs wrote, writes what they are asked. Give it an `ObjectStore` with few attempts: its callers look again."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put_request(self, request: JobRequest) -> ArtifactRef:
        """Write the request under its digest."""
        return latest.put_request(self._objects, request)

    def latest(self, job: str) -> Latest:
        """The job's state; empty before its first writer."""
        return RunState(self._objects, job).latest()

    def status(self, job: str, epoch: int) -> Json:
        """Progress of this epoch; empty if there is none."""
        return RunState(self._objects, job).status(epoch)

    def control(self, job: str, command: ControlCommand) -> None:
        """Ask the job to go on, pause or stop at its next checkpoint."""
        RunState(self._objects, job).put_control(command)

    def reopen(self, job: str) -> None:
        """Clear a published error or pause, so that the job can be submitted again."""
        RunState(self._objects, job).reopen()

    def exists(self, artifact: ArtifactRef) -> bool:
        """Whether the object is there and agrees: full hash below 1 GiB, size above."""
        return self._objects.exists(artifact)

    def all_there(self, artifacts: list[ArtifactRef]) -> bool:
        """Whether every object is there in its size; a few are asked for at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return all(pool.map(lambda artifact: self._objects.size(artifact) == artifact.size, artifacts))

    def get_json(self, artifact: ArtifactRef) -> Any:
        """The object's JSON, verified. Raises CorruptArtifact."""
        return self._objects.get_json(artifact)
