"""Experiments: which versions were compared, what each look said, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import aliased

from perdure.errors import NotFound
from perdure.messages.common import Json
from perdure.messages.experiment import ExperimentState
from perdure.metadata import tables as t
from perdure.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look: the figures of both arms, the ``gain`` with its interval where there was one, and what followed."""

    number: int
    at: datetime
    champion: Json
    challenger: Json
    gain: Json | None
    state: ExperimentState
    reason: str


@dataclass(frozen=True, kw_only=True)
class ExperimentDetail:
    """An experiment of a promotion in *run*, its specification and its looks, the first one first."""

    id: UUID
    model: str
    champion: int
    challenger: int
    run: str
    state: ExperimentState
    reason: str
    started_at: datetime
    ended_at: datetime | None
    spec: Json
    looks: Sequence[Look]


_Champion, _Challenger = aliased(t.ModelVersion), aliased(t.ModelVersion)


def list_experiments(db: Database, *, model: str | None = None, limit: int = 100) -> list[ExperimentDetail]:
    """Experiments (of *model*), the newest first; each with its last look only."""
    query = _query(db).order_by(t.Experiment.started_at.desc(), t.Experiment.id).limit(limit)
    return _details(db, query if model is None else query.where(t.Experiment.model == model), last=True)


def show_experiment(db: Database, name: str) -> ExperimentDetail:
    """The experiment with this id, or the newest of a ``MODEL``, or of its version as challenger, ``MODEL@VERSION``. Raises NotFound."""
    model, _, version = name.partition("@")
    query = _query(db).order_by(t.Experiment.started_at.desc(), t.Experiment.id).limit(1)
    if (id := _uuid(name)) is not None:
        query = query.where(t.Experiment.id == id)
    else:
        query = query.where(t.Experiment.model == model)
        if version:
            query = query.where(_Challenger.number == (int(version) if version.isascii() and version.isdigit() else -1))
    found = _details(db, query, last=False)
    if not found:
        raise NotFound(f"there is no experiment {name!r}", field="experiment", remedy="`perdure experiments list` shows them")
    return found[0]


def _uuid(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


def _query(db: Database) -> Select[t.Experiment, int, int, str]:
    return (
        select(t.Experiment, _Champion.number, _Challenger.number, t.Run.workflow_id)
        .join(_Champion, _Champion.id == t.Experiment.champion_id)
        .join(_Challenger, _Challenger.id == t.Experiment.challenger_id)
        .join(t.StepRun, t.StepRun.id == t.Experiment.promotion_id)
        .join(t.Run, t.Run.id == t.StepRun.run_id)
        .where(t.Experiment.tenant == db.tenant)
    )


def _details(db: Database, query: Select[t.Experiment, int, int, str], *, last: bool) -> list[ExperimentDetail]:
    look = t.ExperimentLook
    with db.transaction() as session:
        found = session.execute(query).all()
        looks = select(look).where(look.experiment_id.in_([row.id for row, *_ in found]))
        order = looks.order_by(look.experiment_id, look.number.desc() if last else look.number)
        told: dict[UUID, list[Look]] = {}
        for each in session.scalars(order.ext(distinct_on(look.experiment_id)) if last else order):
            told.setdefault(each.experiment_id, []).append(_look(each))
        return [
            ExperimentDetail(
                id=row.id,
                model=row.model,
                champion=champion,
                challenger=challenger,
                run=run,
                state=row.state,
                reason=row.reason or (told[row.id][-1].reason if row.id in told else ""),
                started_at=row.started_at,
                ended_at=row.ended_at,
                spec=row.spec,
                looks=told.get(row.id, []),
            )
            for row, champion, challenger, run in found
        ]


def _look(row: t.ExperimentLook) -> Look:
    figures = row.figures
    return Look(
        number=row.number,
        at=row.at,
        champion=figures["champion"],
        challenger=figures["challenger"],
        gain=figures["gain"],
        state=row.verdict,
        reason=row.reason,
    )
