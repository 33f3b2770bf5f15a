"""What people ask: read-only, one transaction each, plain frozen values for the command line and pages."""

from perdure.metadata.queries.approvals import ApprovalDetail, decided_approvals, open_approvals
from perdure.metadata.queries.campaigns import SnapshotDetail, campaign_progress, campaign_snapshot, list_campaigns, named_task
from perdure.metadata.queries.datasets import DatasetSummary, DatasetVersionDetail, list_datasets, show_dataset
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
    "ModelSummary",
    "PipelineSummary",
    "PromotionDetail",
    "RoundDetail",
    "RunDetail",
    "RunSummary",
    "SnapshotDetail",
    "StepDetail",
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
    "named_task",
    "open_approvals",
    "show_dataset",
    "show_model",
    "show_run",
    "work_for",
]
