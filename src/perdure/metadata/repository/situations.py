"""What a look at a model is decided by, as rows tell it: policy, triggers, events, open episodes, history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import case, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.keys import digest, identity
from perdure.messages.common import Json
from perdure.messages.retraining import EpisodeState, Outcome, TriggerKind
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.lifecycle import LIVE
from perdure.metadata.repository.retrained import Trained, labels_since
from perdure.metadata.repository.rows import Rows
from perdure.retraining.episodes import Episode, Statement, share_of
from perdure.retraining.look import Looked, look
from perdure.retraining.policy import Past, Situation, Wish
from perdure.spec.pipeline import Pipeline, load

MOST = 2_000  # events that one look reads
MEMORY = 10_000  # past actions: the largest budget of 30 days, and all that may lengthen a cooldown, however long ago
LATELY = timedelta(days=7)  # of what monitors said
AHEAD = timedelta(days=1)  # a window that ends later than this after it was told of is a sender's wrong clock: nothing could follow it
SNOOZE = "snooze/"


class SituationRows(Rows):
    """Reads the situation of a model within a transaction; triggers that the rows themselves tell are written down on the way."""

    def _spec(self, session: Session, model: str) -> Pipeline | None:
        """The pipeline that trains *model*; of several, that which says something about retraining, then the one applied last."""
        v = t.PipelineVersion
        named = func.coalesce(v.spec["model"].astext, v.name) == model
        triggers = func.jsonb_array_length(func.coalesce(v.spec["triggers"], cast("[]", JSONB)))
        talks = v.spec["monitor"].astext.is_not(None) | (triggers > 0)
        query = select(v.spec).where(v.tenant == self._tenant, v.newest, named).order_by(talks.desc(), v.applied_at.desc()).limit(1)
        found = session.scalar(query)
        return load(found) if found is not None else None

    def _model_of(self, session: Session, pipeline: str) -> str:
        query = select(t.PipelineVersion.spec).where(t.PipelineVersion.tenant == self._tenant, t.PipelineVersion.newest)
        spec = session.scalar(query.where(t.PipelineVersion.name == pipeline))
        if spec is None:
            raise NotFound(f"there is no pipeline {pipeline!r}", field="pipeline", remedy="`perdure apply` it, or delete its schedules")
        return load(spec).model_name

    def _known(self, session: Session, model: str) -> Pipeline:
        spec = self._spec(session, model)
        if spec is None:
            raise NotFound(f"no pipeline trains {model!r}", field="model", remedy="`perdure models` tells which models there are")
        return spec

    def _policy(self, session: Session, model: str, spec: Pipeline) -> UUID:
        """The row of the policy that *spec* holds, which is numbered when a decision is first made by it."""
        said = {
            "policy": spec.policy.model_dump(mode="json"),
            "triggers": [trigger.model_dump(mode="json") for trigger in spec.triggers],
        }
        sha256 = digest([spec.name, said])
        key = identity(self._tenant, "policy", model, sha256)
        if session.get(t.RetrainPolicy, key) is None:
            number = select(func.coalesce(func.max(t.RetrainPolicy.number), 0) + 1)
            number = number.where(t.RetrainPolicy.tenant == self._tenant, t.RetrainPolicy.model == model)
            values = {"id": key, "model": model, "number": session.scalar(number), "sha256": sha256, "spec": said, "pipeline": spec.name}
            self._add(session, t.RetrainPolicy, **values)
        return key

    def _derive(self, session: Session, model: str, spec: Pipeline, last: Trained | None, running: str | None) -> None:
        """Triggers that the rows themselves tell: labels since the last training, and new versions of other pipelines' datasets.

        Where a training has made no version, as many labels more are a reason again; while one goes on, that is not known yet.
        """
        for trigger in spec.triggers:
            if trigger.labels is not None and running is None:
                found = labels_since(session, self._tenant, model, last)
                if found >= trigger.labels:
                    key = f"labels/{last.version if last else 0}/{trigger.labels}/{found // trigger.labels}"
                    self._trigger(session, model, TriggerKind.LABELS, key, {"text": f"{found} labels are new"}, "perdure")
            if trigger.dataset is not None:
                v = t.DatasetVersion
                newest = session.execute(
                    select(v.id, v.number, v.created_at)
                    .join(t.Dataset, t.Dataset.id == v.dataset_id)
                    .where(v.tenant == self._tenant, t.Dataset.name == trigger.dataset)
                    .order_by(v.number.desc())
                    .limit(1)
                ).one_or_none()
                if newest is not None and (last is None or newest.created_at > last.started_at):
                    text = f"dataset {trigger.dataset} has version {newest.number}"
                    self._trigger(session, model, TriggerKind.DATASET, f"dataset/{newest.id}", {"text": text}, "perdure")

    def _trigger(self, session: Session, model: str, kind: TriggerKind, key: str, detail: Json, actor: str) -> bool:
        values = {"model": model, "kind": kind, "key": plain(key), "detail": {**detail, "text": plain(str(detail.get("text", "")))}}
        if not self._add(session, t.RetrainTrigger, id=identity(self._tenant, "trigger", model, key), actor=plain(actor), **values):
            return False
        poke(session, self._tenant, f"retrain/{model}")
        return True

    def _events(self, session: Session, model: str) -> Sequence[t.DriftEvent]:
        e = t.DriftEvent
        query = select(e).where(e.tenant == self._tenant, e.model == model, e.decision_id.is_(None))
        return session.scalars(query.order_by(e.received_at, e.id).limit(MOST)).all()

    def _decide(
        self,
        session: Session,
        model: str,
        spec: Pipeline,
        running: str | None,
        last: Trained | None,
        events: Sequence[t.DriftEvent],
        now: datetime,
    ) -> Looked:
        serves, since = self._serving(session, model)
        rows = self._open_episodes(session, model, since, now)
        acted = self._acted(session, model, [row.id for row in rows if row.state is EpisodeState.ACTED])
        situation = Situation(
            now=now,
            policy=spec.policy,
            episodes=[_episode(row) for row in rows],
            wishes=self._wishes(session, model),
            history=self._history(session, model),
            running=running,
            snoozed_until=self._snoozed(session, model),
            new_labels=labels_since(session, self._tenant, model, last, outcomes=spec.policy.min_new_labels),
            asks=spec.label is not None,
        )
        window = spec.monitor.window if spec.monitor is not None else timedelta(hours=24)
        statements = [_statement(row) for row in events]
        return look(
            situation,
            statements,
            window=window,
            trained=last.cutoff if last else None,
            serves=serves,
            acted=acted,
            heard=self._heard(session, model, now),
        )

    def _heard(self, session: Session, model: str, now: datetime) -> dict[str, datetime]:
        """The latest end of a window that each monitor has spoken of, in what was decided lately."""
        e = t.DriftEvent
        end = case((e.window_end <= e.received_at + AHEAD, e.window_end), else_=e.received_at)
        query = select(e.monitor, func.max(end)).group_by(e.monitor)
        query = query.where(e.tenant == self._tenant, e.model == model, e.decision_id.is_not(None), e.received_at > now - LATELY)
        return {row[0]: row[1] for row in session.execute(query)}

    def _serving(self, session: Session, model: str) -> tuple[int | None, datetime | None]:
        r, v = t.Release, t.ModelVersion
        query = select(v.number, r.since).join(v, v.id == r.model_version_id)
        found = session.execute(query.where(r.tenant == self._tenant, r.model == model, r.until.is_(None))).one_or_none()
        return (found.number, found.since) if found is not None else (None, None)

    def _open_episodes(self, session: Session, model: str, since: datetime | None, now: datetime) -> list[t.DriftEpisode]:
        """Open episodes; a release since their beginning has ended them: what is served now is compared with other data."""
        e = t.DriftEpisode
        query = select(e).where(e.tenant == self._tenant, e.model == model, e.closed_at.is_(None)).order_by(e.opened_at, e.id)
        found = []
        for row in session.scalars(query).all():
            if since is not None and row.opened_at < since:
                row.state, row.closed_at = EpisodeState.CLOSED, now
            else:
                found.append(row)
        session.flush()
        return found

    def _acted(self, session: Session, model: str, episodes: list[UUID]) -> dict[UUID, UUID]:
        """The decision that answered each of these episodes."""
        d = t.RetrainDecision
        acted = {}
        for episode in episodes:
            query = select(d.id).where(d.tenant == self._tenant, d.model == model, d.outcome != Outcome.NOTHING)
            if (found := session.scalar(query.where(d.episodes.contains([str(episode)])).limit(1))) is not None:
                acted[episode] = found
        return acted

    def _wishes(self, session: Session, model: str) -> list[Wish]:
        r = t.RetrainTrigger
        query = select(r).where(r.tenant == self._tenant, r.model == model, r.decision_id.is_(None)).order_by(r.at, r.id)
        return [
            Wish(
                id=row.id,
                kind=row.kind,
                key=row.key,
                actor=row.actor,
                at=row.at,
                text=str(row.detail.get("text", "")),
                cutoff=datetime.fromisoformat(row.detail["cutoff"]) if row.detail.get("cutoff") else None,
                waits=row.detail.get("overlap") != "skip",
                known=bool(row.detail.get("known")),
            )
            for row in session.scalars(query)
        ]

    def _history(self, session: Session, model: str) -> list[Past]:
        d = t.RetrainDecision
        query = select(d.created_at, d.detail["automatic"].astext.label("automatic"), d.helped, d.finished_at)
        query = query.where(d.tenant == self._tenant, d.model == model, d.outcome != Outcome.NOTHING)
        return [
            Past(at=row.created_at, automatic=row.automatic == "true", helped=row.helped, finished_at=row.finished_at)
            for row in session.execute(query.order_by(d.created_at.desc()).limit(MEMORY))
        ]

    def _live(self, session: Session, pipeline: str) -> str | None:
        """A run of the pipeline that somebody else has started and that goes on; one that only scores trains nothing."""
        query = select(t.Run.workflow_id).join(t.PipelineVersion, t.PipelineVersion.id == t.Run.pipeline_version_id)
        query = query.where(t.Run.tenant == self._tenant, t.PipelineVersion.name == pipeline, t.Run.state.in_(LIVE))
        query = query.where(t.Run.id.not_in(select(t.BatchInference.run_id)))
        return session.scalar(query.order_by(t.Run.started_at).limit(1))

    def _snoozed(self, session: Session, model: str) -> datetime | None:
        d = t.RetrainDecision
        query = select(d.detail).where(d.tenant == self._tenant, d.model == model, d.key.startswith(SNOOZE))
        detail = session.scalar(query.order_by(d.created_at.desc(), d.id).limit(1))
        return datetime.fromisoformat(detail["until"]) if detail and detail.get("until") else None


def _episode(row: t.DriftEpisode) -> Episode:
    return Episode(
        id=row.id,
        monitor=row.monitor,
        kind=row.kind,
        opened_at=row.opened_at,
        state=row.state,
        hits=row.hits,
        misses=row.misses,
        last=row.last_window_end,
    )


def _statement(row: t.DriftEvent) -> Statement:
    ahead = (row.window_end or row.window_start or row.received_at) > row.received_at + AHEAD
    return Statement(
        id=row.id,
        monitor=row.monitor,
        kind=row.kind,
        drifted=row.drifted,
        received_at=row.received_at,
        version=row.version,
        start=None if ahead else row.window_start,
        end=None if ahead else row.window_end,
        severity=row.severity,
        level=row.level,
        share=share_of(row.metrics),
    )
