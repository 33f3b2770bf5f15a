"""Distributed training: one job, watched; its result is a model version."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from perdure.messages.common import ArtifactRef, StepRequest
from perdure.messages.preparation import DatasetRef


@dataclass(frozen=True, kw_only=True)
class TrainRequest(StepRequest):
    """Starts `DistributedTraining` and `training.run`."""

    dataset: DatasetRef
    model: str
    pause_limit: timedelta = timedelta(days=30)
    paused_since: datetime | None = None  # carried through continue-as-new


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Either a trained model version, or ``paused``: stopped at a committed checkpoint, to be gone on from."""

    step_run: UUID
    paused: bool = False
    model_version: UUID | None = None
    version: int | None = None
    predictor: ArtifactRef | None = None
    rounds: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    cached: bool = False
    reason: str = ""
