"""The tables: one short module per domain. `metadata` is what migrations are compared with."""

from perdure.metadata.tables.artifacts import Artifact, ArtifactInput, ArtifactKind
from perdure.metadata.tables.base import Base
from perdure.metadata.tables.datasets import Dataset, DatasetProfile, DatasetVersion, Partition, ValidationResult
from perdure.metadata.tables.evaluations import Evaluation, EvaluationMetric, EvaluationSubject, GateVerdict
from perdure.metadata.tables.models import Checkpoint, Metric, ModelEvent, ModelEventKind, ModelVersion, Tag
from perdure.metadata.tables.operations import Audit, Projection, ProjectionKind
from perdure.metadata.tables.promotions import Approval, ApprovalStatus, ApprovalVote, Promotion, PromotionState, Release
from perdure.metadata.tables.runs import PipelineVersion, Run
from perdure.metadata.tables.steps import StepRun, StepState, Submission, SubmissionState

metadata = Base.metadata

__all__ = [
    "Approval",
    "ApprovalStatus",
    "ApprovalVote",
    "Artifact",
    "ArtifactInput",
    "ArtifactKind",
    "Audit",
    "Base",
    "Checkpoint",
    "Dataset",
    "DatasetProfile",
    "DatasetVersion",
    "Evaluation",
    "EvaluationMetric",
    "EvaluationSubject",
    "GateVerdict",
    "Metric",
    "ModelEvent",
    "ModelEventKind",
    "ModelVersion",
    "Partition",
    "PipelineVersion",
    "Projection",
    "ProjectionKind",
    "Promotion",
    "PromotionState",
    "Release",
    "Run",
    "StepRun",
    "StepState",
    "Submission",
    "SubmissionState",
    "Tag",
    "ValidationResult",
    "metadata",
]
