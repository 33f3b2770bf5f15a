"""Evaluation: challenger and champion on the same frozen rows, slices, gates with reasons."""

from dataclasses import dataclass, field
from uuid import UUID

from perdure.messages.common import ArtifactRef, Json, StepRequest


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(StepRequest):
    """Starts `ModelEvaluation` and `evaluation.run`. Without ``people`` it is as if the specification did not ask them to compare."""

    model_version: UUID
    dataset_version: UUID
    people: bool = True


@dataclass(frozen=True, kw_only=True)
class AskPeople:
    """A campaign that has to end before there is a verdict: its name, its specification, its tasks."""

    campaign: str
    spec: Json
    tasks: ArtifactRef
    requested_by: str


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """The verdict. ``evidence_sha256`` binds every later vote to exactly these figures.

    With ``people``, which `evaluation.run` alone answers, nothing is judged yet: `evaluation.conclude` does it once they have decided.
    """

    evaluation: UUID
    passed: bool
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    evidence_sha256: str = ""
    champion_version: UUID | None = None
    cached: bool = False
    reason: str = ""
    people: AskPeople | None = None


@dataclass(frozen=True, kw_only=True)
class ConcludeEvaluation(EvaluateRequest):
    """`evaluation.conclude`: what people said, and about which champion. ``reason`` is why their campaign closed."""

    champion_version: UUID
    campaign: str
    snapshot: ArtifactRef
    reason: str
