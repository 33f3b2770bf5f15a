"""Every SQL statement that changes rows: one class per port, each method one transaction.

Concurrency is settled by unique keys and WHERE, never by reading first and hoping. A method that is called again, late, or by somebody who
was overtaken finds what was committed first.
"""

from perdure.metadata.repository.access import AccessRows
from perdure.metadata.repository.datasets import DatasetRows
from perdure.metadata.repository.drift import DriftRows
from perdure.metadata.repository.elsewhere import SentTaskRows
from perdure.metadata.repository.experiments import ExperimentRows
from perdure.metadata.repository.inbox import DeliveryRows
from perdure.metadata.repository.inference import BatchRows
from perdure.metadata.repository.labelers import LabelerRows
from perdure.metadata.repository.leases import LabelRows
from perdure.metadata.repository.messages import MessageRows
from perdure.metadata.repository.models import ModelRows
from perdure.metadata.repository.outbox import OutboxRows
from perdure.metadata.repository.outcomes import OutcomeRows
from perdure.metadata.repository.projections import ProjectionRows
from perdure.metadata.repository.promotions import PromotionRows
from perdure.metadata.repository.retraining import RetrainingRows
from perdure.metadata.repository.rollbacks import RollbackRows
from perdure.metadata.repository.runs import RunRows
from perdure.metadata.repository.selections import SelectionRows
from perdure.metadata.repository.sessions import SessionRows
from perdure.metadata.repository.steps import StepRows
from perdure.metadata.repository.sweeping import SweepRows
from perdure.metadata.repository.ticks import CampaignRows
from perdure.metadata.repository.traffic import TrafficRows

__all__ = [
    "AccessRows",
    "BatchRows",
    "CampaignRows",
    "DatasetRows",
    "DeliveryRows",
    "DriftRows",
    "ExperimentRows",
    "LabelRows",
    "LabelerRows",
    "MessageRows",
    "ModelRows",
    "OutboxRows",
    "OutcomeRows",
    "ProjectionRows",
    "PromotionRows",
    "RetrainingRows",
    "RollbackRows",
    "RunRows",
    "SelectionRows",
    "SentTaskRows",
    "SessionRows",
    "StepRows",
    "SweepRows",
    "TrafficRows",
]
