"""What people ask: read-only, one transaction each, plain frozen values for the command line and pages."""

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
from perdure.metadata.queries.runs import PromotionDetail, RunDetail, RunSummary, list_runs, show_run
from perdure.metadata.queries.steps import StepDetail

__all__ = [
    "DatasetSummary",
    "DatasetVersionDetail",
    "Lineage",
    "ModelDetail",
    "ModelSummary",
    "PipelineSummary",
    "PromotionDetail",
    "RunDetail",
    "RunSummary",
    "StepDetail",
    "VersionSummary",
    "lineage",
    "list_datasets",
    "list_models",
    "list_pipelines",
    "list_runs",
    "show_dataset",
    "show_model",
    "show_run",
]
