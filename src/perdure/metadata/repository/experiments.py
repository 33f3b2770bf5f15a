"""Experiments, and the looks at them. They begin and end with their rows of traffic."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentState
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.rows import Rows
from perdure.rollout.comparison import Judged
from perdure.rollout.experiments import ExperimentRow
from perdure.sequential import Interval


def begin(session: Session, arm: t.Traffic, spec: Json) -> None:
    """Begin the experiment of *arm*, which is open since this transaction, against what is released."""
    champion = session.scalars(
        select(t.Release.model_version_id).where(t.Release.tenant == arm.tenant, t.Release.model == arm.model, t.Release.until.is_(None))
    ).one()
    session.add(
        t.Experiment(
            id=arm.id,
            tenant=arm.tenant,
            model=arm.model,
            promotion_id=arm.promotion_id,
            champion_id=champion,
            challenger_id=arm.model_version_id,
            spec=spec,
            started_at=arm.since,
        )
    )


def stop(session: Session, arms: Collection[UUID], reason: str, at: datetime) -> None:
    """End the experiments of *arms* that no look has decided."""
    going = (t.Experiment.id.in_(arms), t.Experiment.state == ExperimentState.RUNNING)
    session.execute(update(t.Experiment).where(*going).values(state=ExperimentState.STOPPED, reason=plain(reason), ended_at=at))


class ExperimentRows(Rows):
    """`perdure.rollout.experiments.Experiments` on Postgres."""

    def experiment(self, traffic: UUID) -> ExperimentRow:
        """The experiment of this stage. Raises NotFound."""
        champion, challenger = aliased(t.ModelVersion), aliased(t.ModelVersion)
        look = t.ExperimentLook
        last = select(func.max(look.number)).where(look.experiment_id == t.Experiment.id).scalar_subquery()
        with self._database.transaction() as session:
            found = session.execute(
                select(t.Experiment, champion.number, challenger.number, last)
                .join(champion, champion.id == t.Experiment.champion_id)
                .join(challenger, challenger.id == t.Experiment.challenger_id)
                .where(t.Experiment.id == traffic, t.Experiment.tenant == self._tenant)
            ).one_or_none()
            if found is None:
                raise NotFound(f"there is no experiment {traffic}")
            row, one, other, looks = found
            return ExperimentRow(
                id=row.id,
                model=row.model,
                champion=one,
                challenger=other,
                spec=row.spec,
                since=row.started_at,
                looks=looks or 0,
                judged=self._judged(session, row),
            )

    def decide(self, experiment: UUID, number: int, at: datetime, figures: Json, judged: Judged) -> Judged:
        """Record look *number*, and the end of the experiment where it decides. Returns what counts, which may be of before."""
        with self._database.transaction() as session:
            mine = (t.Experiment.id == experiment, t.Experiment.tenant == self._tenant)
            row = session.scalars(select(t.Experiment).where(*mine).with_for_update(key_share=True)).one()
            if row.state is not ExperimentState.RUNNING:
                return self._judged(session, row)
            known = session.get(t.ExperimentLook, (experiment, number))
            if known is not None:
                return _of(known)
            self._add(
                session,
                t.ExperimentLook,
                experiment_id=experiment,
                number=number,
                at=at,
                figures={**figures, "gain": asdict(judged.interval) if judged.interval else None},
                verdict=judged.state,
                reason=plain(judged.reason),
            )
            if judged.state is not ExperimentState.RUNNING:
                row.state, row.reason, row.ended_at = judged.state, plain(judged.reason), func.clock_timestamp()
                self._audit(
                    session,
                    "experiment.decided",
                    experiment,
                    "perdure",
                    reason=judged.reason,
                    after={"state": str(judged.state), "look": number},
                )
            return judged

    def _judged(self, session: Session, row: t.Experiment) -> Judged:
        """What it has come to: that of the look that decided, where one did."""
        look = t.ExperimentLook
        deciding = select(look).where(look.experiment_id == row.id, look.verdict == row.state).order_by(look.number.desc()).limit(1)
        found = session.scalar(deciding) if row.state is not ExperimentState.RUNNING else None
        return _of(found) if found is not None else Judged(state=row.state, reason=row.reason)


def _of(look: t.ExperimentLook) -> Judged:
    gain = look.figures["gain"]
    return Judged(state=look.verdict, reason=look.reason, interval=Interval(**gain) if gain else None)
