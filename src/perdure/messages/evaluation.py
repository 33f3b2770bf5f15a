"""Evaluation: challenger and champion on the same frozen rows, slices, gates with reasons."""

from dataclasses import dataclass, field
from uuid import UUID

from perdure.messages.common import StepRequest


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(StepRequest):
    """Starts `ModelEvaluation` and `evaluation.run`."""

    model_version: UUID
    dataset_version: UUID


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """The verdict. ``evidence_sha256`` binds every later vote to exactly these figures."""

    evaluation: UUID
    passed: bool
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    evidence_sha256: str = ""
    champion_version: UUID | None = None
    cached: bool = False
    reason: str = ""
