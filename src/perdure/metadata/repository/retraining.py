"""Looks at a model: what is undecided is read, decided and written in one transaction, under the model's lock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from perdure.keys import identity
from perdure.messages.common import Json
from perdure.messages.controller import Look, StartRun
from perdure.messages.retraining import EpisodeState, Force, Outcome, Snooze, TriggerKind
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.messages import tell
from perdure.metadata.repository.retrained import not_helped, settle, start_run, trained
from perdure.metadata.repository.situations import MOST, SNOOZE, SituationRows
from perdure.retraining.episodes import Episode
from perdure.retraining.look import Looked
from perdure.retraining.policy import Answer
from perdure.spec.pipeline import Pipeline

TOLD = ("nobody", "budget", "observe")
"""What holds back an action that the owner is told of."""


class RetrainingRows(SituationRows):
    """`perdure.ports.Retraining` on Postgres."""

    def look(self, model: str) -> Look:
        """Decide what is undecided. The same again, or two at once, write nothing new."""
        with self._database.transaction() as session:
            self._lock(session, "retrain", model)
            spec = self._spec(session, model)
            if spec is None:
                return Look(waits=[f"no pipeline trains {model}"])
            now: datetime = session.scalars(select(func.now())).one()
            policy = self._policy(session, model, spec)
            settled = settle(session, self._tenant, model, spec.owner)
            last = trained(session, self._tenant, model)
            running = settled.running or self._live(session, spec.name)
            self._derive(session, model, spec, last, running)
            events = self._events(session, model)
            looked = self._decide(session, model, spec, running, last, events, now)
            new = self._write(session, model, spec, policy, looked, now)
            starts = [*settled.starts, *self._starts(session, spec, new)]
            opened = [e for e in looked.episodes.values() if e.state is not EpisodeState.CLOSED]
            return Look(
                starts=starts,
                running=settled.running or (starts[0].workflow_id if starts else None),
                open_episodes=len(opened),
                decided=len(new),
                waits=looked.verdict.waits,
                due=max(looked.verdict.due - now, timedelta(0)) if looked.verdict.due else None,
                more=len(events) >= MOST,
            )

    def force(self, model: str, force: Force) -> None:
        """A person's wish to train, once per command id. Raises NotFound where no pipeline trains *model*."""
        with self._database.transaction() as session:
            self._known(session, model)
            detail = {"text": force.reason}
            if self._trigger(session, model, TriggerKind.FORCE, f"force/{force.command_id}", detail, force.actor):
                self._audit(session, "retrain.force", identity(self._tenant, model), force.actor, reason=force.reason)

    def snooze(self, model: str, snooze: Snooze, command_id: str) -> None:
        """No action before ``until``; a decision of its own, once per command id. Raises NotFound where no pipeline trains *model*."""
        with self._database.transaction() as session:
            self._lock(session, "retrain", model)
            policy = self._policy(session, model, self._known(session, model))
            until = snooze.until.isoformat() if snooze.until else None
            said = f"snoozed until {until}" if until else "no longer snoozed"
            reason = f"{said}: {snooze.reason}" if snooze.reason else said
            answer = Answer(key=SNOOZE + command_id, outcome=Outcome.NOTHING, reason=reason, detail={"until": until}, actor=snooze.actor)
            if self._insert(session, model, policy, answer):
                self._audit(session, "retrain.snooze", identity(self._tenant, model), snooze.actor, reason=reason)
                poke(session, self._tenant, f"retrain/{model}")

    def trigger(self, pipeline: str, kind: TriggerKind, key: str, detail: Json) -> bool:
        """A reason to train, as a trigger's row, once per key; whether it is new. Raises NotFound where there is no such pipeline."""
        with self._database.transaction() as session:
            return self._trigger(session, self._model_of(session, pipeline), kind, key, detail, "perdure")

    def source(self, pipeline: str, fingerprint: str) -> bool:
        """Whether the source has changed since it was looked at last: then a trigger's row. Raises NotFound as `trigger` does.

        What the first look at the source of a trained model finds is taken as known.
        """
        r = t.RetrainTrigger
        with self._database.transaction() as session:
            model = self._model_of(session, pipeline)
            self._lock(session, "retrain", model)
            looks = select(r.id, r.detail).where(r.tenant == self._tenant, r.model == model, r.kind == TriggerKind.DATA)
            before = session.execute(looks.order_by(r.at.desc(), r.id).limit(1)).one_or_none()
            if before is not None and before.detail.get("fingerprint") == fingerprint:
                return False
            known = before is None and trained(session, self._tenant, model) is not None
            detail = {"text": "the source has changed", "fingerprint": fingerprint, "known": known}
            key = f"data/{fingerprint[:16]}/{before.id if before else 'first'}"
            return self._trigger(session, model, TriggerKind.DATA, key, detail, "perdure") and not known

    def failed(self, decision: UUID, error: Json, after: timedelta = timedelta(0)) -> None:
        """The run of this decision, which is as old as *after*, has failed. Where it has a row, that says more; the next look reads it."""
        d = t.RetrainDecision
        opened = select(t.Run.id).where(t.Run.tenant == self._tenant, t.Run.workflow_id == d.workflow_id)
        with self._database.transaction() as session:
            model = session.scalar(select(d.model).where(d.id == decision, d.tenant == self._tenant))
            if model is None:
                return
            self._lock(session, "retrain", model)  # a look that is writing would open again what is closed here
            old = d.created_at <= func.now() - after
            action = session.scalars(
                update(d)
                .where(d.id == decision, d.tenant == self._tenant, d.finished_at.is_(None), old, ~opened.exists())
                .values(result="failed", helped=False, finished_at=func.now(), detail=d.detail.concat({"error": error}))
                .returning(d)
            ).one_or_none()
            if action is not None:
                spec = self._spec(session, action.model)
                not_helped(session, action, spec.owner if spec else None)
                poke(session, self._tenant, f"retrain/{action.model}")

    # --- what is written -------------------------------------------------------------------------------------------------

    def _write(self, session: Session, model: str, spec: Pipeline, policy: UUID, looked: Looked, now: datetime) -> list[t.RetrainDecision]:
        """Decisions, episodes, and the answer of each event and trigger; the decisions that are new."""
        for known in looked.episodes.values():
            self._keep(session, model, known, now)
        new = []
        for answer in looked.decisions.values():
            if self._insert(session, model, policy, answer, spec):
                new.append(session.get_one(t.RetrainDecision, self._key(model, answer.key)))
                self._tell(session, spec, model, answer)
            if answer.wishes:
                wishes = update(t.RetrainTrigger).where(t.RetrainTrigger.id.in_(answer.wishes))
                session.execute(wishes.values(decision_id=self._key(model, answer.key)))
        answered: dict[tuple[UUID, UUID | None], list[UUID]] = defaultdict(list)
        for each in looked.followed:
            key = looked.answers[each.statement.id]
            answered[key if isinstance(key, UUID) else self._key(model, key), each.episode].append(each.statement.id)
        for (decision, episode), events in answered.items():
            statement = update(t.DriftEvent).where(t.DriftEvent.id.in_(events))
            session.execute(statement.values(decision_id=decision, episode_id=episode))
        return new

    def _keep(self, session: Session, model: str, episode: Episode, now: datetime) -> None:
        closed = now if episode.state is EpisodeState.CLOSED else None
        values = {
            "state": episode.state,
            "hits": episode.hits,
            "misses": episode.misses,
            "last_window_end": episode.last,
            "closed_at": closed,
        }
        named = {"id": episode.id, "model": model, "monitor": episode.monitor, "kind": episode.kind, "opened_at": episode.opened_at}
        if not self._add(session, t.DriftEpisode, **named, **values):
            session.execute(update(t.DriftEpisode).where(t.DriftEpisode.id == episode.id).values(**values))

    def _insert(self, session: Session, model: str, policy: UUID, answer: Answer, spec: Pipeline | None = None) -> bool:
        """The decision's row; False where it was made before."""
        key = self._key(model, answer.key)
        acts = answer.outcome is not Outcome.NOTHING and spec is not None
        cutoff = answer.cutoff.isoformat() if acts and answer.cutoff and spec and spec.data.split.by == "time" else None
        return self._add(
            session,
            t.RetrainDecision,
            id=key,
            model=model,
            key=answer.key,
            policy_id=policy,
            outcome=answer.outcome,
            reason=plain(answer.reason),
            detail={**answer.detail, **({"cutoff": cutoff} if cutoff else {})},
            episodes=[str(id) for id in answer.episodes],
            actor=plain(answer.actor),
            workflow_id=f"run/{spec.name}/retrain-{key.hex[:12]}" if acts and spec else None,
        )

    def _key(self, model: str, key: str) -> UUID:
        return identity(self._tenant, "retrain", model, key)

    def _tell(self, session: Session, spec: Pipeline, model: str, answer: Answer) -> None:
        """The owner is told what is done by itself, and what cannot be."""
        if answer.outcome is not Outcome.NOTHING:
            tell(session, self._tenant, spec.owner, kind="retraining", model=model, outcome=answer.outcome, reason=answer.reason)
        elif answer.detail.get("held_by") in TOLD:
            tell(session, self._tenant, spec.owner, kind="drift_confirmed", model=model, reason=answer.reason)

    def _starts(self, session: Session, spec: Pipeline, new: Sequence[t.RetrainDecision]) -> list[StartRun]:
        return [start_run(row, spec.name) for row in new if row.workflow_id is not None]
