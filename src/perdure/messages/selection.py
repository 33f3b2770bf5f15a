"""Step ``label``: rows are selected from the pool, people are asked about them in a campaign, and their answers are kept."""

from dataclasses import dataclass, field
from uuid import UUID

from perdure.messages.common import ArtifactRef, Json, StepRequest
from perdure.messages.preparation import DatasetRef


@dataclass(frozen=True, kw_only=True)
class RoundDone:
    """A round that was evaluated: the rows that it learned from and was judged on, of which people labeled some, and its metrics."""

    round: int
    rows: int
    labeled: int
    version: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SelectRequest(StepRequest):
    """`selection.select`: chooses what people are asked next, if anything. ``rounds`` are all so far, the last one the request's."""

    dataset: DatasetRef
    model_version: UUID
    rounds: list[RoundDone] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LabelResult:
    """What a round of questions came to. Without a ``snapshot`` nobody was asked, or nobody answered: ``reason`` says why."""

    step_run: UUID
    reason: str
    snapshot: ArtifactRef | None = None
    tasks: int = 0  # decided
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Answer of `selection.select`: the campaign to start, or ``ended`` where there is nothing to ask, or all is known from the cache."""

    step_run: UUID
    campaign: str = ""
    spec: Json = field(default_factory=dict)
    tasks: ArtifactRef | None = None
    asked: int = 0
    requested_by: str = "unknown"
    figures: Json = field(default_factory=dict)
    ended: LabelResult | None = None


@dataclass(frozen=True, kw_only=True)
class RecordLabels(StepRequest):
    """`selection.record`: the campaign is closed; its snapshot becomes the step's result. ``complete``: every task has its end."""

    dataset_version: UUID
    model_version: UUID
    campaign: str
    chosen: ArtifactRef  # the tasks' manifest
    asked: int
    figures: Json
    snapshot: ArtifactRef
    tasks: int
    complete: bool
    reason: str
