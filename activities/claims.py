"""Who computes a step: its key, the cache, and one computation per key at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
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

    def claim(self, run: Run, step: StepRun, *, params: Any, inputs: list[str], artifacts: str) -> Claim:
        """The claim on *step*; waits while another run computes the same key: here for a moment, then by a retry that holds no place.

        ``artifacts`` names the field of a cached result that must still be there and agree (an `ArtifactRef`); otherwise it is recomputed.
        """
        code = run.pipeline.code.sha256 if run.pipeline.code else None
        components = {"code": code, "params": digest(params), "inputs": inputs, "environment": dict(self._environment.versions)}
        key = step_key(step.step, code, params, inputs, self._environment.sha256)
        use_cache = _may_reuse(run, step.step)
        deadline = time.monotonic() + BUSY_LIMIT
        while True:
            claim = self._steps.claim(step.id, key, use_cache=use_cache, components=components)
            if claim.hit is not None and not self._intact(claim.hit, artifacts):
                use_cache = False
                continue
            if claim.busy is None:
                return claim
            stop_if_asked()
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
        try:
            return self._files.exists(ArtifactRef.from_json(artifact))
        except CorruptArtifact:
            return False

    def _intact(self, step: StepRun, artifacts: str) -> bool:
        if not artifacts:
            return True
        try:
            artifact = _field(step.result or {}, artifacts)
        except KeyError:
            return False
        return self.intact(artifact)


def _may_reuse(run: Run, step: StepKind) -> bool:
    return run.cache and (run.recompute_from is None or ORDER.index(step) < ORDER.index(run.recompute_from))


def _field(result: Json, path: str) -> Json:
    value: Any = result
    for part in path.split("."):
        value = value[part]
    return dict(value)
