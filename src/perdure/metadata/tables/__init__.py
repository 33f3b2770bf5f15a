"""The tables: one short module per domain. `metadata` is what migrations are compared with."""

from perdure.messages.experiment import ExperimentState
from perdure.messages.rollout import TrafficKind
from perdure.metadata.tables.artifacts import Artifact, ArtifactInput, ArtifactKind
from perdure.metadata.tables.base import Base
from perdure.metadata.tables.datasets import Dataset, DatasetProfile, DatasetVersion, Partition, ValidationResult
from perdure.metadata.tables.deliveries import ApiKey, BrowserSession, Delivery, Hook, HookProvider, IdempotentRequest, Outbox, Withdrawal
from perdure.metadata.tables.elsewhere import ExternalProject, ExternalRef
from perdure.metadata.tables.evaluations import Evaluation, EvaluationMetric, EvaluationSubject, GateVerdict
from perdure.metadata.tables.experiments import Experiment, ExperimentLook
from perdure.metadata.tables.feedback import Feedback, Outcome, Verdict
from perdure.metadata.tables.inference import BatchInference
from perdure.metadata.tables.labeling import (
    Annotation,
    Assignment,
    Campaign,
    CampaignEvent,
    Decision,
    Labeler,
    LabelSnapshot,
    Task,
    TaskImport,
)
from perdure.metadata.tables.models import Checkpoint, Metric, ModelEvent, ModelEventKind, ModelVersion, Tag
from perdure.metadata.tables.operations import Audit, Projection, ProjectionKind
from perdure.metadata.tables.promotions import Approval, ApprovalStatus, ApprovalVote, Promotion, PromotionState, Release
from perdure.metadata.tables.retraining import DriftEpisode, DriftEvent, RetrainDecision, RetrainPolicy, RetrainTrigger
from perdure.metadata.tables.runs import PipelineVersion, Run
from perdure.metadata.tables.serving import ServingInstance, ServingWindow, Traffic
from perdure.metadata.tables.steps import StepRun, StepState, Submission, SubmissionState

metadata = Base.metadata

__all__ = [
    "Annotation",
    "ApiKey",
    "Approval",
    "ApprovalStatus",
    "ApprovalVote",
    "Artifact",
    "ArtifactInput",
    "ArtifactKind",
    "Assignment",
    "Audit",
    "Base",
    "BatchInference",
    "BrowserSession",
    "Campaign",
    "CampaignEvent",
    "Checkpoint",
    "Dataset",
    "DatasetProfile",
    "DatasetVersion",
    "Decision",
    "Delivery",
    "DriftEpisode",
    "DriftEvent",
    "Evaluation",
    "EvaluationMetric",
    "EvaluationSubject",
    "Experiment",
    "ExperimentLook",
    "ExperimentState",
    "ExternalProject",
    "ExternalRef",
    "Feedback",
    "GateVerdict",
    "Hook",
    "HookProvider",
    "IdempotentRequest",
    "LabelSnapshot",
    "Labeler",
    "Metric",
    "ModelEvent",
    "ModelEventKind",
    "ModelVersion",
    "Outbox",
    "Outcome",
    "Partition",
    "PipelineVersion",
    "Projection",
    "ProjectionKind",
    "Promotion",
    "PromotionState",
    "Release",
    "RetrainDecision",
    "RetrainPolicy",
    "RetrainTrigger",
    "Run",
    "ServingInstance",
    "ServingWindow",
    "StepRun",
    "StepState",
    "Submission",
    "SubmissionState",
    "Tag",
    "Task",
    "TaskImport",
    "Traffic",
    "TrafficKind",
    "ValidationResult",
    "Verdict",
    "Withdrawal",
    "metadata",
]
