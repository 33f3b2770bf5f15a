"""What a job function is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.adapters.s3 import ObjectStore
from perdure.jobs import usercode
from perdure.jobs.latest import RunState
from perdure.jobs.status import StatusWriter
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import JobRequest
from perdure.spec.pipeline import Pipeline


@dataclass
class JobContext:
    """One running job: its request, the validated specification, objects, its fence, and a folder that is removed at its end."""

    request: JobRequest
    spec: Pipeline
    objects: ObjectStore
    run: RunState
    scratch: Path
    status: StatusWriter

    def user(self, reference: str) -> Any:
        """The owner's attribute. Raises UserCodeImport with module, traceback tail and remedy."""
        if self.request.code:
            usercode.install(self.objects, self.request.code)
        return usercode.load(reference)

    def call(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call the owner's code. Raises UserCodeError naming *what*, with the traceback's last lines."""
        return usercode.call(what, function, *args)

    def progress(self, detail: dict[str, Any]) -> None:
        """Say how far the job is; at most one write a second, never blocks."""
        self.status.update(**detail)

    def artifact(self, name: str) -> ArtifactRef:
        """The input *name*, which is an artifact."""
        return ArtifactRef.from_json(self.request.inputs[name])
