"""Which queue runs which workflows and activities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from perdure.activities.evaluation import EvaluationActivities
from perdure.activities.experiment import ExperimentActivities
from perdure.activities.inference import InferenceActivities
from perdure.activities.labeling import LabelingActivities
from perdure.activities.labelstudio import LabelStudioActivities
from perdure.activities.monitoring import MonitoringActivities
from perdure.activities.preparation import PreparationActivities
from perdure.activities.promotion import PromotionActivities
from perdure.activities.retraining import RetrainingActivities
from perdure.activities.rollout import RolloutActivities
from perdure.activities.runs import RunActivities
from perdure.activities.selection import SelectionActivities
from perdure.activities.training import TrainingActivities
from perdure.workflows.evaluation import ModelEvaluation
from perdure.workflows.inference import BatchInference
from perdure.workflows.labeling import LabelingCampaign
from perdure.workflows.monitoring import DriftMonitor
from perdure.workflows.pipeline import TrainingPipeline
from perdure.workflows.policies import DATA, MAIN, TRAIN
from perdure.workflows.preparation import DataPreparation
from perdure.workflows.promotion import ModelPromotion
from perdure.workflows.retraining import RetrainingController
from perdure.workflows.training import DistributedTraining
from perdure.workflows.triggers import Backfill, RetrainTrigger

WORKFLOWS: list[type] = [
    TrainingPipeline,
    DataPreparation,
    DistributedTraining,
    ModelEvaluation,
    ModelPromotion,
    LabelingCampaign,
    BatchInference,
    DriftMonitor,
    RetrainingController,
    RetrainTrigger,
    Backfill,
]


@dataclass(frozen=True, kw_only=True)
class Activities:
    """One object per step, made with its ports."""

    runs: RunActivities
    preparation: PreparationActivities
    training: TrainingActivities
    evaluation: EvaluationActivities
    promotion: PromotionActivities
    rollout: RolloutActivities
    experiment: ExperimentActivities
    selection: SelectionActivities
    labeling: LabelingActivities
    labelstudio: LabelStudioActivities
    retraining: RetrainingActivities
    inference: InferenceActivities
    monitoring: MonitoringActivities


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What one worker polls and runs."""

    queue: str
    workflows: list[type] = field(default_factory=list)
    activities: list[Callable[..., Any]] = field(default_factory=list)


def fleet(act: Activities) -> list[WorkerSpec]:
    """The table."""
    return [
        WorkerSpec(
            queue=MAIN,
            workflows=WORKFLOWS,
            activities=[
                act.runs.open,
                act.runs.command,
                act.runs.close,
                act.promotion.open,
                act.promotion.vote,
                act.promotion.approval,
                act.promotion.remind,
                act.promotion.elsewhere,
                act.promotion.close,
                act.rollout.open,
                act.experiment.plan,
                act.rollout.look,
                act.rollout.staged,
                act.rollout.withdraw,
                act.rollout.command,
                act.selection.record,
                act.labeling.open,
                act.labeling.import_tasks,
                act.labeling.tick,
                act.labeling.command,
                act.labeling.answer,
                act.labeling.close,
                act.labeling.snapshot,
                act.labelstudio.push,
                act.labelstudio.reconcile,
                act.retraining.look,
                act.retraining.drift,
                act.retraining.force,
                act.retraining.snooze,
                act.retraining.failed,
                act.retraining.trigger,
                act.inference.pin,
                act.inference.open,
            ],
        ),
        WorkerSpec(
            queue=DATA,
            activities=[
                act.preparation.begin,
                act.preparation.partition,
                act.preparation.fit,
                act.preparation.features,
                act.preparation.commit,
                act.evaluation.run,
                act.selection.select,
                act.evaluation.conclude,
                act.experiment.look,
                act.monitoring.look,
                act.inference.plan,
                act.inference.score,
                act.inference.commit,
            ],
        ),
        WorkerSpec(queue=TRAIN, activities=[act.training.run]),
    ]
