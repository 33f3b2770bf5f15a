"""Who computes a step: its key, the cache, and one computation per key at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from perdure.activities.guard import pulse, stop_if_asked
from perdure.errors import CorruptArtifact
from perdure.keys import digest, step_key
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.pipeline import StepKind
from perdure.ports import Claim, JobFiles, Run, StepRun, Steps

ORDER = list(StepKind)
BUSY_POLL = 1.0  # seconds
BUSY_LIMIT = 10.0  # seconds that an attempt waits for another run's computation; then it gives its place to activities that can go on
BUSY_AGAIN = timedelta(seconds=20)  # until the next attempt; no retry policy limits how often


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Versions of what computes: part of every key, as another library may give other numbers."""

    versions: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """The digest that enters the keys."""
        return digest(dict(self.versions))


class Claims:
    """Decides between cache and computation for every step in the same way."""

    def __init__(self, steps: Steps, files: JobFiles, environment: Environment) -> None:
        self._steps, self._files, self._environment = steps, files, environment

    def claim(
        self,
        run: Run,
        step: StepRun,
        *,
        params: Any,
        inputs: list[str],
        artifacts: str,
        named: Callable[[Json], list[Json]] | None = None,
    ) -> Claim:
        """The claim on *step*; waits while another run computes the same key: here for a moment, then by a retry that holds no place.

        ``artifacts`` names the field of a cached result that must still be there and agree (an `ArtifactRef`), and ``named`` the objects
        that its content (JSON) names in turn, which must be there; otherwise it is recomputed. Raises CorruptArtifact where that is what
        *step* itself, which has succeeded, had made.
        """
        code = run.pipeline.code.sha256 if run.pipeline.code else None
        components = {"code": code, "params": digest(params), "inputs": inputs, "environment": dict(self._environment.versions)}
        key = step_key(step.step, code, params, inputs, self._environment.sha256)
        use_cache = _may_reuse(run, step.step)
        deadline = time.monotonic() + BUSY_LIMIT
        while True:
            stop_if_asked()
            claim = self._steps.claim(step.id, key, use_cache=use_cache, components=components)
            if claim.hit is not None and not self._whole(claim.hit, artifacts, named):
                if claim.hit.id == step.id:
                    raise CorruptArtifact(
                        f"the step {step.step} of {run.workflow_id} has succeeded, but what it made is gone or was changed",
                        remedy="start a new run: it computes this step again",
                    )
                use_cache = False
                continue
            if claim.busy is None:
                return claim
            pulse().ok(waiting_for=claim.reason)
            if time.monotonic() > deadline:
                benign = ApplicationErrorCategory.BENIGN
                raise ApplicationError(claim.reason, type="Busy", next_retry_delay=BUSY_AGAIN, category=benign)
            time.sleep(BUSY_POLL)

    def part_key(self, run: Run, step: StepKind, *, params: Any, inputs: list[str]) -> tuple[str, bool]:
        """The key of a part of *step*, under which any run finds it; and whether this run may reuse what it finds."""
        code = run.pipeline.code.sha256 if run.pipeline.code else None
        return step_key(step, code, params, inputs, self._environment.sha256), _may_reuse(run, step)

    def intact(self, artifact: Json) -> bool:
        """Whether the object is still there and agrees."""
        return self._files.exists(ArtifactRef.from_json(artifact))

    def _whole(self, step: StepRun, artifacts: str, named: Callable[[Json], list[Json]] | None) -> bool:
        if not artifacts:
            return True
        try:
            artifact = _field(step.result or {}, artifacts)
        except KeyError:
            return False
        if not self.intact(artifact):
            return False
        if named is None:
            return True
        content = self._files.get_json(ArtifactRef.from_json(artifact))
        return self._files.all_there([ArtifactRef.from_json(each) for each in named(content)])


def _may_reuse(run: Run, step: StepKind) -> bool:
    return run.cache and (run.recompute_from is None or ORDER.index(step) < ORDER.index(run.recompute_from))


def _field(result: Json, path: str) -> Json:
    value: Any = result
    for part in path.split("."):
        value = value[part]
    return dict(value)
