"""Predictions that people are asked about: what the specification says, the standing campaign of each model, and its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import exists, func, select

from perdure.errors import Conflict
from perdure.keys import digest
from perdure.labeling.naming import predictions_name
from perdure.labeling.ports import CampaignRow, NewTask
from perdure.messages.common import Json
from perdure.messages.labeling import CampaignCommand, CampaignState
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository.rows import Rows
from perdure.metadata.repository.ticks import CampaignRows
from perdure.spec.feedback import Ask, Log

DAYS = 7
"""A flagged prediction whose row does not come into the log for so many days was not kept."""
_REPLACED = "another question is asked now"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the newest specification of the pipeline that made a model's released version says about its predictions."""

    model: str
    log: Log
    ask: Ask | None
    owner: str | None
    classes: list[str]

    @property
    def campaign(self) -> Json | None:
        """The specification of the standing campaign."""
        return self.ask.campaign(owner=self.owner, classes=self.classes) if self.ask else None


class AskRows(Rows):
    """Standing campaigns about predictions."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._campaigns = CampaignRows(database)

    def wanted(self) -> list[Wanted]:
        """For each model that has a released version, by name."""
        made, newest = t.PipelineVersion.__table__.alias(), t.PipelineVersion
        query = (
            select(t.Release.model, newest.spec, t.DatasetVersion.classes)
            .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
            .join(t.DatasetVersion, t.DatasetVersion.id == t.ModelVersion.dataset_version_id)
            .join(t.Run, t.Run.id == t.ModelVersion.run_id)
            .join(made, made.c.id == t.Run.pipeline_version_id)
            .join(newest, (newest.tenant == made.c.tenant) & (newest.name == made.c.name) & newest.newest)
            .where(t.Release.tenant == self._tenant, t.Release.until.is_(None))
            .order_by(t.Release.model)
        )
        with self._database.transaction() as session:
            rows = session.execute(query).all()
        return [
            Wanted(
                model=model,
                log=Log.model_validate(spec.get("log") or {}),
                ask=Ask.model_validate(spec["ask"]) if spec.get("ask") else None,
                owner=spec.get("owner"),
                classes=classes,
            )
            for model, spec, classes in rows
        ]

    def campaign(self, model: str, spec: Json) -> CampaignRow:
        """The standing campaign of *model*, opened where it is missing.

        A campaign's question never changes: where another is asked now, the one before is told to close, and a new one has the digest
        of its specification in its name.
        """
        name = predictions_name(model)
        try:
            row = self._campaigns.open(name, spec, f"campaign/{name}", "perdure")
            if row.state is not CampaignState.CLOSED:
                return row
        except Conflict:
            before = self._campaigns.named(name)
            if before.state is not CampaignState.CLOSED and before.closed_reason is None:
                self._campaigns.command(before.id, "close", "replaced", CampaignCommand(actor="perdure", reason=_REPLACED))
        name = f"{name}-{digest(spec)[:8]}"
        return self._campaigns.open(name, spec, f"campaign/{name}", "perdure")

    def ask(self, model: str, spec: Json, tasks: Sequence[NewTask], most_open: int | None = None) -> int:
        """Add *tasks* to the model's standing campaign, each prediction once; how many were new.

        With *most_open*, none beyond what leaves so many tasks waiting.
        """
        row = self.campaign(model, spec)
        if most_open is not None:
            tasks = tasks[: max(0, most_open - (row.total - row.decided - row.rejected))]
        return self._campaigns.put_tasks(row.id, tasks, quiet=True) if tasks else 0

    def flagged(self, wanted: Wanted, limit: int = 200) -> list[str]:
        """Predictions that a user last said are wrong and that nobody is asked about yet, the oldest first."""
        assert wanted.campaign is not None
        f, campaign = t.Feedback, self.campaign(wanted.model, wanted.campaign).id
        later = t.Feedback.__table__.alias()
        again = exists().where(
            later.c.tenant == f.tenant,
            later.c.prediction_id == f.prediction_id,
            later.c.principal == f.principal,
            later.c.created_at > f.created_at,
        )
        asked = exists().where(t.Task.campaign_id == campaign, t.Task.key == f.prediction_id)
        query = (
            select(f.prediction_id)
            .where(f.tenant == self._tenant, f.model == wanted.model, f.verdict == t.Verdict.WRONG, ~again, ~asked)
            .where(f.created_at > func.now() - func.make_interval(0, 0, 0, DAYS))
            .group_by(f.prediction_id)
            .order_by(func.min(f.created_at))
            .limit(limit)
        )
        with self._database.transaction() as session:
            return [*session.scalars(query)]

    def standing(self) -> list[CampaignRow]:
        """Open campaigns about predictions."""
        c = t.Campaign
        query = select(c.id).where(c.tenant == self._tenant, c.state != CampaignState.CLOSED, c.spec["outcomes"].as_boolean())
        with self._database.transaction() as session:
            ids: Sequence[UUID] = session.scalars(query.order_by(c.name)).all()
        return [self._campaigns.campaign(id) for id in ids]
