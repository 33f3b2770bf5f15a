"""The life of a model, for people: who answered when, what watched it, what was decided, what users said. As of any instant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import records
from perdure.metadata.views import feedback_history, model_origin, serving_history
from perdure.predictions import parse

SWITCH = timedelta(seconds=65)
"""So long after its row has ended a version may still have answered: a minute while the next one was loaded (`serving.overlap`), and
serving processes read rows each second."""
MOST = 500
_HIDDEN = ("tenant", "model", "row_id", "promotion_id", "model_version_id")


@dataclass(frozen=True, kw_only=True)
class PredictionDetail:
    """Who made a prediction, as what (rows of ``serving_history``), what that version was made of, and what was said of it since.

    ``said`` is oldest first, at most 500.
    """

    id: str
    model: str
    version: int
    at: datetime
    served: list[Json]
    origin: Json
    said: list[Json]


@dataclass(frozen=True, kw_only=True)
class VersionFeedback:
    """What users said of one version's predictions, and of how many the truth is known. The last word of a person counts."""

    version: int
    right: int = 0
    wrong: int = 0
    unsure: int = 0
    outcomes: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelHistory:
    """What is known about a model at one instant. Lists are newest first, at most 500 each; ``drift_events`` counts them all."""

    model: str
    at: datetime
    serving: list[Json]
    drift_events: int
    drift: list[Json]
    episodes: list[Json]
    decisions: list[Json]
    experiments: list[Json]
    feedback: list[VersionFeedback] = field(default_factory=list)

    @property
    def now(self) -> list[Json]:
        """What takes part in serving at that instant, the released version first."""
        found = [row for row in self.serving if row["until"] is None]
        return sorted(found, key=lambda row: row["role"] != "release")


def serving_at(db: Database, model: str, at: datetime) -> list[Json]:
    """What took part in serving at that instant, the released version first; empty where nothing did."""
    with db.transaction() as session:
        found = _serving(session, db, model, at)
    return sorted((row for row in found if row["until"] is None), key=lambda row: row["role"] != "release")


def show_prediction(db: Database, id: str, at: datetime | None = None) -> PredictionDetail:
    """A prediction, as it was known *at* that time (None: now). Raises InvalidInput for what is no id, NotFound for its version."""
    named = parse(id)
    s, f = serving_history.c, feedback_history.c
    with db.transaction() as session:
        query = select(model_origin).where(model_origin.c.tenant == db.tenant, model_origin.c.model == named.model)
        origin = session.execute(query.where(model_origin.c.version == named.version)).mappings().one_or_none()
        if origin is None:
            raise records.unknown_model(session, db.tenant, named.model, named.version)
        mine = select(serving_history).where(s.tenant == db.tenant, s.model == named.model, s.version == named.version)
        then = mine.where(s.since <= named.at, or_(s.until.is_(None), s.until > named.at - SWITCH)).order_by(s.answers.desc(), s.since)
        served = [_shown(row) if at is None else _then(_shown(row), at) for row in session.execute(then).mappings()]
        said = select(feedback_history).where(f.tenant == db.tenant, f.prediction_id == id).order_by(f.at).limit(MOST)
        if at is not None:
            said = said.where(f.at <= at)
        return PredictionDetail(
            id=id,
            model=named.model,
            version=named.version,
            at=named.at,
            served=served,
            origin={name: value for name, value in origin.items() if name not in ("tenant", "model_version_id", "run_id")},
            said=[_without(row, "tenant", "model", "version", "prediction_id") for row in session.execute(said).mappings()],
        )


def model_history(db: Database, model: str, at: datetime | None = None) -> ModelHistory:
    """Everything about *model* as it was known *at* (None: now). Raises NotFound naming what exists."""
    at = at or datetime.now(UTC)
    with db.transaction() as session:
        known = select(t.ModelVersion.id).where(t.ModelVersion.tenant == db.tenant, t.ModelVersion.model == model)
        if session.scalar(known.limit(1)) is None:
            raise records.unknown_model(session, db.tenant, model)

        def then(table: Any, moment: Any, names: tuple[str, ...]) -> list[Json]:
            return [_then(row, at) for row in _rows(session, _of(db, table, model, moment, at, names))]

        e = t.DriftEvent
        events = select(func.count()).where(e.tenant == db.tenant, e.model == model, e.received_at <= at)
        return ModelHistory(
            model=model,
            at=at,
            serving=_serving(session, db, model, at),
            drift_events=session.scalars(events).one(),
            drift=_rows(session, _of(db, t.DriftEvent, model, t.DriftEvent.received_at, at, _DRIFT)),
            episodes=then(t.DriftEpisode, t.DriftEpisode.opened_at, _EPISODE),
            decisions=then(t.RetrainDecision, t.RetrainDecision.created_at, _DECISION),
            experiments=then(t.Experiment, t.Experiment.started_at, _EXPERIMENT),
            feedback=_feedback(session, db, model, at),
        )


_DRIFT = (
    "received_at",
    "kind",
    "monitor",
    "version",
    "drifted",
    "severity",
    "n",
    "window_start",
    "window_end",
    "report_uri",
    "decision_id",
)
_EPISODE = ("id", "kind", "monitor", "state", "hits", "opened_at", "closed_at")
_DECISION = ("id", "created_at", "outcome", "reason", "actor", "workflow_id", "result", "helped", "finished_at", "episodes")
_EXPERIMENT = ("id", "state", "reason", "started_at", "ended_at")


def _of(db: Database, table: Any, model: str, moment: Any, at: datetime, names: tuple[str, ...]) -> Select[Any]:
    """The columns *names* of the rows about *model* that were there *at*, newest first."""
    columns = [getattr(table, name) for name in names]
    return select(*columns).where(table.tenant == db.tenant, table.model == model, moment <= at).order_by(moment.desc()).limit(MOST)


def _serving(session: Session, db: Database, model: str, at: datetime) -> list[Json]:
    """Intervals that had begun by then, newest first; one that ended later has no end yet."""
    s = serving_history.c
    query = select(serving_history).where(s.tenant == db.tenant, s.model == model, s.since <= at).order_by(s.since.desc()).limit(MOST)
    return [_then(_shown(row), at) for row in session.execute(query).mappings()]


def _feedback(session: Session, db: Database, model: str, at: datetime) -> list[VersionFeedback]:
    f = feedback_history.c
    mine = select(feedback_history).where(f.tenant == db.tenant, f.model == model, f.at <= at)
    last = mine.ext(distinct_on(f.prediction_id, f.kind, f.who)).order_by(f.prediction_id, f.kind, f.who, f.at.desc()).subquery().c
    truths = func.count(func.distinct(case((last.kind == "outcome", last.prediction_id))))
    counts = [func.count().filter(last.verdict == each).label(each) for each in t.Verdict]
    query = select(last.version, *counts, truths.label("outcomes")).group_by(last.version).order_by(last.version.desc())
    return [VersionFeedback(**row) for row in session.execute(query).mappings()]


def _rows(session: Session, query: Select[Any]) -> list[Json]:
    return [dict(row) for row in session.execute(query).mappings()]


def _then(row: Json, at: datetime) -> Json:
    """The row as it was then: what ended later had not ended, and what came of it was not known."""
    end = next(name for name in _LATER if name in row)
    return row if row[end] is None or row[end] <= at else {**row, end: None, **_LATER[end](row)}


_LATER: dict[str, Callable[[Json], Json]] = {
    "until": lambda row: {} if row["role"] == "release" else {"reason": ""},
    "closed_at": lambda row: {"state": "open"},
    "finished_at": lambda row: {"result": None, "helped": None},
    "ended_at": lambda row: {"state": t.ExperimentState.RUNNING, "reason": ""},
}
"""Columns that say when something ended, and what of its row is known only since."""


def _shown(row: Any) -> Json:
    return _without(row, *_HIDDEN)


def _without(row: Any, *names: str) -> Json:
    return {name: value for name, value in row.items() if name not in names}
