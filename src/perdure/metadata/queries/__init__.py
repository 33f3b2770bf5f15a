"""What people ask: read-only, one transaction each, plain frozen values for the command line and pages."""

from perdure.metadata.queries.approvals import ApprovalDetail, decided_approvals, open_approvals
from perdure.metadata.queries.campaigns import SnapshotDetail, campaign_progress, campaign_snapshot, list_campaigns, named_task
from perdure.metadata.queries.datasets import DatasetSummary, DatasetVersionDetail, list_datasets, show_dataset
from perdure.metadata.queries.history import ModelHistory, PredictionDetail, VersionFeedback, model_history, serving_at, show_prediction
from perdure.metadata.queries.models import (
    Lineage,
    ModelDetail,
    ModelSummary,
    PipelineSummary,
    VersionSummary,
    lineage,
    list_models,
    list_pipelines,
    show_model,
)
from perdure.metadata.queries.runs import PromotionDetail, RoundDetail, RunDetail, RunSummary, list_runs, show_run
from perdure.metadata.queries.steps import StepDetail
from perdure.metadata.queries.work import Agreed, Disputed, Work, campaign_agreement, disputed_tasks, work_for

__all__ = [
    "Agreed",
    "ApprovalDetail",
    "DatasetSummary",
    "DatasetVersionDetail",
    "Disputed",
    "Lineage",
    "ModelDetail",
    "ModelHistory",
    "ModelSummary",
    "PipelineSummary",
    "PredictionDetail",
    "PromotionDetail",
    "RoundDetail",
    "RunDetail",
    "RunSummary",
    "SnapshotDetail",
    "StepDetail",
    "VersionFeedback",
    "VersionSummary",
    "Work",
    "campaign_agreement",
    "campaign_progress",
    "campaign_snapshot",
    "decided_approvals",
    "disputed_tasks",
    "lineage",
    "list_campaigns",
    "list_datasets",
    "list_models",
    "list_pipelines",
    "list_runs",
    "model_history",
    "named_task",
    "open_approvals",
    "serving_at",
    "show_dataset",
    "show_model",
    "show_prediction",
    "show_run",
    "work_for",
]
