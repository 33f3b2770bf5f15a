"""Data preparation: plan, partitions in a sliding window, one commit."""

from dataclasses import dataclass, field
from uuid import UUID

from perdure.messages.common import ArtifactRef, StepRequest


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """A committed dataset version. ``manifest`` lists every object of it; ``sha256`` of the manifest is its identity.

    ``pool_rows`` have no label, ``labeled_rows`` got theirs from people; both are 0 where nobody is asked.
    """

    dataset_version: UUID
    manifest: ArtifactRef
    train_rows: int
    test_rows: int
    quarantined_rows: int = 0
    pool_rows: int = 0
    labeled_rows: int = 0
    cached: bool = False
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PreparePlan:
    """Answer of `preparation.begin`: what is left to do, or the cached result."""

    step_run: UUID
    partitions: int
    fits: bool = False  # the transform has a state to be fitted on the training split
    cached: DatasetRef | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PrepareCursor:
    """Where a preparation with very many partitions goes on after continue-as-new."""

    plan: PreparePlan
    phase: str
    index: int


@dataclass(frozen=True, kw_only=True)
class PrepareRequest(StepRequest):
    """Starts `DataPreparation` and `preparation.begin`. ``window`` is how many partitions are in flight at once.

    ``labels`` are the snapshots of what people said in the run's earlier rounds, oldest first.
    """

    window: int = 4
    labels: list[ArtifactRef] = field(default_factory=list)
    cursor: PrepareCursor | None = None


@dataclass(frozen=True, kw_only=True)
class PartitionDone:
    """One partition is committed (now or before)."""

    index: int
    rows: int
    quarantined: int
